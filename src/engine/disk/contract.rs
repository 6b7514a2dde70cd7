//! What both worlds must do alike: each test of the contract runs over real files and over the simulated disk. Knows nothing of
//! crashes, which only one of them can have.

use super::sim::SimDisk;
use super::uring::UringDisk;
use super::{Disk, Lock, Queue, Request};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A world with the way to make it go on.
struct World {
    disk: Arc<dyn Disk>,
    simulated: Option<SimDisk>,
    _directory: Option<tempfile::TempDir>,
}

fn real() -> World {
    let directory = tempfile::tempdir().unwrap();
    let disk = UringDisk::open(directory.path(), 2, false).unwrap();
    World { disk, simulated: None, _directory: Some(directory) }
}

fn simulated() -> World {
    let disk = SimDisk::new(3);
    World { disk: Arc::new(disk.clone()), simulated: Some(disk), _directory: None }
}

impl World {
    /// Waits for an answer of a queue.
    fn wait<T>(&self, receiver: &Receiver<T>) -> T {
        while let Some(disk) = &self.simulated
            && disk.complete(0)
        {}
        receiver.recv_timeout(Duration::from_secs(10)).expect("an answer")
    }
}

fn names_come_and_go(world: World) {
    let disk = world.disk;
    disk.create_dir("partition_000").unwrap();
    disk.create_dir("partition_000").unwrap();
    disk.create("partition_000/a").unwrap().write_at(0, b"old").unwrap();
    let taken = disk.create("partition_000/a").err().expect("the name is taken");
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    disk.create("partition_000/b").unwrap().write_at(0, b"new").unwrap();
    disk.rename("partition_000/b", "partition_000/a").unwrap();
    disk.sync_dir("partition_000").unwrap();
    assert_eq!(disk.list("partition_000").unwrap(), ["a"]);
    let file = disk.open("partition_000/a").unwrap();
    disk.remove("partition_000/a").unwrap();
    assert_eq!(disk.remove("partition_000/a").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.open("partition_000/a").err().expect("it is gone").kind(), ErrorKind::NotFound);
    assert_eq!(disk.list("nowhere").unwrap_err().kind(), ErrorKind::NotFound);
    let mut bytes = [0; 8];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), 3, "a removed file stays readable");
    assert_eq!(&bytes[..3], b"new");
}

fn lengths_and_ends(world: World) {
    let file = world.disk.create("file").unwrap();
    file.allocate(1000).unwrap();
    assert_eq!(file.length().unwrap(), 1000);
    file.allocate(500).unwrap();
    assert_eq!(file.length().unwrap(), 1000, "allocating never shortens");
    file.write_at(998, b"four").unwrap();
    assert_eq!(file.length().unwrap(), 1002);
    let mut bytes = [9; 10];
    assert_eq!(file.read_at(996, &mut bytes).unwrap(), 6);
    assert_eq!(&bytes[..6], b"\0\0four");
    assert_eq!(file.read_at(5000, &mut bytes).unwrap(), 0);
    if let Some(count) = file.try_read_at(996, &mut bytes, 10) {
        assert_eq!(count.unwrap(), 6);
    }
    let at_once =
        |bytes: &mut [u8]| (0..100).find_map(|_| file.try_read_at(996, bytes, 6)).map(io::Result::unwrap);
    assert_eq!(at_once(&mut bytes), at_once(&mut [0; 6]), "six are enough");
    file.set_length(999).unwrap();
    file.set_length(1001).unwrap();
    assert_eq!(file.read_at(998, &mut bytes).unwrap(), 3);
    assert_eq!(&bytes[..3], b"f\0\0", "what was cut is zero when it comes back");
    file.sync_data().unwrap();
}

fn requests_are_answered(world: World) {
    let disk = &world.disk;
    let file = disk.create("file").unwrap();
    file.write_at(0, b"content").unwrap();
    let (sender, receiver) = channel();
    let done = Box::new(move |result| drop(sender.send(result)));
    disk.submit(Queue::Worker(1), Request::Read { file: file.clone(), offset: 3, length: 100, done });
    assert_eq!(world.wait(&receiver).unwrap(), b"tent");
    let (sender, receiver) = channel();
    let done = Box::new(move |result| drop(sender.send(result)));
    disk.submit(Queue::Worker(0), Request::Sync { file, done });
    world.wait(&receiver).unwrap();
    let (sender, receiver) = channel();
    for index in 0..20 {
        let (sender, disk) = (sender.clone(), disk.clone());
        let job = move || {
            disk.create(&format!("made{index}")).unwrap().sync_data().unwrap();
            sender.send(index).unwrap();
        };
        world.disk.submit(Queue::Background, Request::Job(Box::new(job)));
    }
    for index in 0..20 {
        assert_eq!(world.wait(&receiver), index, "jobs run in order");
    }
}

fn shutting_down_carries_out_what_is_queued(world: World) {
    let (sender, receiver) = channel();
    for index in 0..5 {
        let sender = sender.clone();
        world.disk.submit(Queue::Background, Request::Job(Box::new(move || sender.send(index).unwrap())));
    }
    world.disk.shut_down();
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

fn one_has_the_lock(world: World) {
    assert_eq!(world.disk.lock().unwrap(), Lock::Ours);
    assert_eq!(world.disk.list("").unwrap(), ["LOCK"]);
    let space = world.disk.space().unwrap();
    assert!(space.available_bytes <= space.total_bytes && space.total_bytes > 0);
}

macro_rules! both_worlds {
    ($($test:ident),*) => {
        mod in_the_real_world { $(#[test] fn $test() { super::$test(super::real()); })* }
        mod in_the_simulated_world { $(#[test] fn $test() { super::$test(super::simulated()); })* }
    };
}

both_worlds!(
    names_come_and_go,
    lengths_and_ends,
    requests_are_answered,
    shutting_down_carries_out_what_is_queued,
    one_has_the_lock
);
