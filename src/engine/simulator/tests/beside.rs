//! Operations that one partition begins beside itself in another, step by step.

use super::rig::config;
use crate::engine::clock::SimClock;
use crate::engine::config::Config;
use crate::engine::disk::sim::SimDisk;
use crate::engine::locks::{HasLocks, Locks, lock, visible};
use crate::engine::{Partition, PartitionId, Policy, Store, World};
use futures_channel::oneshot;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;

const KEY: u8 = 7;

#[derive(Default)]
struct State {
    locks: Locks<u8>,
}

impl HasLocks<u8> for State {
    fn locks(&mut self) -> &mut Locks<u8> {
        &mut self.locks
    }
}

type Inside = Partition<State>;

/// Two partitions, and what the first one was told by the second.
struct Pair {
    here: Inside,
    there: Inside,
    answer: Arc<Mutex<Option<Option<u8>>>>,
    _store: Store<State>,
}

impl Pair {
    fn new() -> Pair {
        let disk = Arc::new(SimDisk::new(1));
        let world = World { disk, clock: SimClock::new(), seed: 1, policy: Policy::Manual };
        let config = Config { partitions: Some(2), create: true, ..config() };
        let store = Store::open(world, config, |_| Ok(State::default())).expect("a healthy store");
        let (here, there) =
            (store.partition(PartitionId(0)).clone(), store.partition(PartitionId(1)).clone());
        Pair { here, there, answer: Arc::default(), _store: store }
    }

    /// Begins, in the first partition, something in the second; one step.
    fn ask<F: Future<Output = u8> + Send + 'static>(&self, work: impl FnOnce(Inside) -> F + Send + 'static) {
        let (here, there, answer) = (self.here.clone(), self.there.clone(), self.answer.clone());
        self.here
            .submit(async move {
                let inside = there.clone();
                let told = here.ask(&there, move || work(inside)).await;
                *answer.lock() = Some(told);
            })
            .detach();
        assert!(self.here.shell.turn.step());
    }

    fn mails(&self) -> (usize, usize) {
        (self.here.shell.turn.mail_count(), self.there.shell.turn.mail_count())
    }

    fn run(&self) {
        while self.there.shell.turn.step() || self.here.shell.turn.step() {}
    }

    /// Somebody has the lock until told.
    fn hold(&self) -> oneshot::Sender<()> {
        let (let_go, told) = oneshot::channel();
        let inside = self.there.clone();
        let holding = async move {
            let _guard = lock(&inside, KEY).await;
            let _ = told.await;
        };
        self.there.submit(holding).detach();
        self.run();
        let_go
    }
}

#[test]
fn what_waits_for_nothing_is_done_at_once_and_its_lock_let_go() {
    let pair = Pair::new();
    pair.run();
    pair.ask(|inside| async move {
        let _guard = lock(&inside, KEY).await;
        5
    });
    assert_eq!((*pair.answer.lock(), pair.mails()), (Some(Some(5)), (0, 0)));
    pair.ask(|_| async { panic!("on purpose") });
    assert_eq!((*pair.answer.lock(), pair.there.shell.turn.panic_count()), (Some(None), 1));
    assert!(pair.there.shell.turn.shut());
    pair.ask(|_| async { 6 });
    assert_eq!((*pair.answer.lock(), pair.mails()), (Some(None), (0, 1)));
    pair.there.shell.turn.open();
    pair.run();
    assert_eq!(*pair.answer.lock(), Some(Some(6)));
}

#[test]
fn who_has_to_wait_goes_on_as_mail_and_is_woken_there() {
    let pair = Pair::new();
    pair.run();
    let let_go = pair.hold();
    pair.ask(|inside| async move {
        let _guard = lock(&inside, KEY).await;
        5
    });
    assert_eq!(pair.mails(), (0, 1), "it has begun, and goes on");
    pair.run();
    assert_eq!(*pair.answer.lock(), None);
    drop(let_go);
    pair.run();
    assert_eq!(
        *pair.answer.lock(),
        Some(Some(5)),
        "the place in the line is that of who asked first, and woken is who waits now"
    );
}

#[test]
fn so_is_who_waits_to_look() {
    let pair = Pair::new();
    pair.run();
    let let_go = pair.hold();
    pair.there
        .submit({
            let inside = pair.there.clone();
            async move { inside.with(|_, state| state.locks.hide(&KEY)) }
        })
        .detach();
    pair.run();
    pair.ask(|inside| async move {
        visible(&inside, &KEY).await;
        8
    });
    pair.run();
    assert_eq!(*pair.answer.lock(), None);
    drop(let_go);
    pair.run();
    assert_eq!(*pair.answer.lock(), Some(Some(8)));
}
