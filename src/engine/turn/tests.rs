use super::*;
use crate::engine::disk::sim::SimDisk;

fn turn() -> Arc<Turn> {
    let turn = Turn::new(Policy::Inline);
    turn.connect(Box::new(|| {}), Box::new(|_| unreachable!("there is little mail")));
    turn
}

fn post(turn: &Arc<Turn>, done: &Arc<AtomicUsize>) {
    let (to, done) = (turn.clone(), done.clone());
    let operation = async move { done.fetch_add(1, Ordering::SeqCst) };
    let (runnable, task) = async_task::spawn(operation, move |runnable| to.post(runnable));
    runnable.schedule();
    task.detach();
}

#[test]
fn all_turns_are_held_or_none() {
    let (a, b, done) = (turn(), turn(), Arc::new(AtomicUsize::new(0)));
    let both = Turn::try_inside_all(&[&a, &b], || {
        // What is posted meanwhile, here or from elsewhere, waits for its turn to be left, and isn't forgotten.
        post(&a, &done);
        post(&b, &done);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                post(&a, &done);
                post(&b, &done);
                assert!(b.try_inside(|| ()).is_none());
            });
        });
        done.load(Ordering::SeqCst)
    });
    assert_eq!((both, done.load(Ordering::SeqCst)), (Some(0), 4));
    b.try_inside(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(Turn::try_inside_all(&[&a, &b], || ()).is_none());
                assert!(a.try_inside(|| ()).is_some(), "what was held is given up again");
            });
        });
    })
    .expect("nobody is inside");
    let panic: Result<Option<()>, _> =
        catch_unwind(AssertUnwindSafe(|| Turn::try_inside_all(&[&a, &b], || panic!("on purpose"))));
    assert!(panic.is_err() && Turn::try_inside_all(&[&a, &b], || ()).is_some());
}

#[test]
fn who_is_woken_outside_finds_the_turn_free() {
    /// Counts wakings that found the turn free, and posts.
    struct Woken(Arc<Turn>, Arc<AtomicUsize>, AtomicUsize);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            if self.0.gate.enter_if_free() {
                self.2.fetch_add(1, Ordering::SeqCst);
                assert!(self.0.gate.leave_if_quiet());
            }
            post(&self.0, &self.1);
        }
    }
    let (turn, done) = (turn(), Arc::new(AtomicUsize::new(0)));
    let woken = Arc::new(Woken(turn.clone(), done.clone(), AtomicUsize::new(0)));
    let seen = || (woken.2.load(Ordering::SeqCst), done.load(Ordering::SeqCst));
    let inside = turn.try_inside(|| {
        Turn::wake_outside((0..3).map(|_| Waker::from(woken.clone())));
        seen()
    });
    assert_eq!((inside, seen()), (Some((0, 0)), (3, 3)));
    Turn::wake_outside(std::iter::once(Waker::from(woken.clone())));
    assert_eq!(seen(), (4, 4));
}

#[test]
fn a_neighbour_is_entered_beside_if_nobody_is_inside() {
    let (a, b, done) = (turn(), turn(), Arc::new(AtomicUsize::new(0)));
    assert!(a.try_beside(|| ()).is_none(), "beside nothing");
    let count = || done.load(Ordering::SeqCst);
    let beside = a.try_inside(|| {
        let beside = b.try_beside(|| {
            assert!(b.is_inside() && !a.is_inside());
            assert!(a.try_beside(|| ()).is_none(), "that one is held");
            std::thread::scope(|scope| scope.spawn(|| post(&b, &done)).join()).expect("a post");
            post(&a, &done);
            post(&b, &done);
            count()
        });
        assert!(a.is_inside());
        assert!(b.try_beside(|| panic!("on purpose")).is_some_and(|outcome| outcome.is_err()));
        assert!(b.try_beside(|| ()).is_some(), "mail that waits is in nobody's way");
        (beside.and_then(Result::ok), count())
    });
    assert_eq!((beside, count()), (Some((Some(0), 0)), 3));
    b.try_inside(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let both =
                    |turns: &[&Arc<Turn>]| a.try_inside(|| Turn::try_beside_all(turns, || post(&a, &done)));
                assert_eq!((both(&[&a, &b]), both(&[&a])), (Some(None), Some(Some(()))));
                assert_eq!(a.try_inside(|| b.try_beside(|| ()).is_none()), Some(true));
            });
        });
    })
    .expect("nobody is inside");
    a.try_inside(|| Turn::try_beside_all(&[&a, &b], || post(&b, &done))).flatten().expect("both are free");
    assert_eq!(count(), 5);
}

#[test]
fn of_many_threads_beside_each_other_one_is_inside_and_no_mail_is_lost() {
    const MAILS: usize = 3000;
    let passing = || {
        let turn = Turn::new(Policy::Inline);
        let hold = |turn: Arc<Turn>| {
            turn.hold();
            Turn::walk();
        };
        turn.connect(Box::new(|| {}), Box::new(move |turn| drop(std::thread::spawn(move || hold(turn)))));
        turn
    };
    let turns: Arc<Vec<_>> = Arc::new((0..3).map(|_| passing()).collect());
    let inside: Arc<Vec<AtomicUsize>> = Arc::new((0..3).map(|_| AtomicUsize::new(0)).collect());
    let (done, beside) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let alone = |inside: &[AtomicUsize], index: usize, f: &dyn Fn()| {
        assert_eq!(inside[index].fetch_add(1, Ordering::SeqCst), 0, "two inside");
        f();
        inside[index].fetch_sub(1, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (turns, inside) = (&turns, &inside);
            let (done, beside) = (&done, &beside);
            scope.spawn(move || {
                for mail in 0..MAILS {
                    let (own, other) = ((thread + mail) % 3, (thread + mail + 1 + mail / 3 % 2) % 3);
                    let (turns, inside) = (turns.clone(), inside.clone());
                    let (done, beside) = (done.clone(), beside.clone());
                    let to = turns[own].clone();
                    let operation = async move {
                        alone(&inside, own, &|| {
                            let there = turns[other].try_beside(|| {
                                alone(&inside, other, &|| post(&turns[other], &done));
                            });
                            match there {
                                Some(_) => drop(beside.fetch_add(1, Ordering::SeqCst)),
                                None => post(&turns[other], &done),
                            }
                        });
                    };
                    let (runnable, task) = async_task::spawn(operation, move |runnable| to.post(runnable));
                    runnable.schedule();
                    task.detach();
                }
            });
        }
    });
    // What was passed on may still be under way.
    let is_done = |_| {
        let is_done = done.load(Ordering::SeqCst) == 4 * MAILS;
        if !is_done {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        is_done
    };
    assert!((0..60_000).any(is_done), "mail is lost");
    assert!(turns.iter().all(|turn| turn.panic_count() == 0));
    assert!(beside.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_thread_that_keeps_its_errands_finds_all_of_them() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let done = Arc::new(AtomicU64::new(0));
    let errand = |add: u64| {
        let done = done.clone();
        let request = Request::Job(Box::new(move || {
            done.fetch_add(add, Ordering::Relaxed);
        }));
        Errand { request, disk: disk.clone(), queue: Queue::Worker(0) }
    };
    Turn::errand(errand(1));
    assert!(next_errand().is_none(), "it went to the disk");
    keep_errands();
    let turn = Turn::new(Policy::Inline);
    turn.connect(Box::new(|| {}), Box::new(|_| {}));
    assert!(!has_errands());
    turn.try_inside(|| (1..=3).for_each(|power| Turn::errand(errand(10u64.pow(power)))));
    assert!(has_errands());
    Turn::errand(errand(10_000));
    std::iter::from_fn(next_errand).for_each(Request::perform);
    assert_eq!(done.load(Ordering::Relaxed), 11_110);
}
