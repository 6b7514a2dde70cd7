use super::*;
use crate::engine::clock::SimClock;
use crate::engine::disk::Disk;
use crate::engine::disk::sim::{Crash, SimDisk};
use crate::engine::format::record::{self, RecordKind};
use crate::engine::segment::NewSegment;
use crate::engine::stats::{SegmentState, StoreStats};
use crate::engine::{
    Batch, Config, Core, Durability, Partition, PartitionId, Policy, ReadError, Store, World,
};
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;

const SALT: u32 = 7;

/// A segment of these records, and where each lies; to be taken for handed over up to the end of the first so many.
fn segment(keys: &[&str], handed_over: usize) -> (SimDisk, Segment, Vec<Location>) {
    let disk = SimDisk::new(1);
    disk.set_cold_percent(0);
    let (mut bytes, mut locations, mut end) = (Vec::new(), Vec::new(), 0);
    for (index, key) in keys.iter().enumerate() {
        let (offset, value) = (bytes.len() as u32, value_of(key));
        let value_length = value.len() as u32;
        locations.push(Location { segment: SegmentId(3), offset, value_length, tombstone: false });
        record::append(&mut bytes, SALT, RecordKind::Put, key.as_bytes(), &value);
        if index < handed_over {
            end = bytes.len() as u64;
        }
    }
    let file = disk.create("file").unwrap();
    file.write_at(0, &bytes).unwrap();
    let new = NewSegment { id: SegmentId(3), file, salt: SALT, header_bytes: 0, file_bytes: 0 };
    let mut segment = Segment::from_new(&new, SegmentState::Active);
    segment.end = end;
    (disk, segment, locations)
}

fn value_of(key: &str) -> Vec<u8> {
    format!("of {key}").into_bytes()
}

/// Whoever asks for these, one after the other, gets to read on.
fn read_on(vicinity: &mut Vicinity, segment: &Segment, keys: &[&str], locations: &[Location]) {
    for (key, location) in keys.iter().zip(locations).take(2) {
        vicinity.read(segment, key.as_bytes(), *location).unwrap();
    }
}

#[test]
fn nothing_is_here_that_lay_behind_the_end_at_that_time() {
    let keys = ["a", "b", "c", "d"];
    let (_, mut segment, locations) = segment(&keys, 3);
    let mut vicinity = Vicinity::new();
    read_on(&mut vicinity, &segment, &keys, &locations);
    assert_eq!(vicinity.value(b"c", locations[2]), Some(&value_of("c")[..]));
    segment.end = u64::MAX;
    assert_eq!(vicinity.value(b"d", locations[3]), None, "it wasn't there yet");
    vicinity.read(&segment, b"d", locations[3]).unwrap();
    assert_eq!(vicinity.value(b"d", locations[3]), Some(&value_of("d")[..]));
}

#[test]
fn a_record_is_there_for_its_key_and_place_alone() {
    let keys = ["a", "b", "c"];
    let (_, segment, locations) = segment(&keys, 3);
    let mut vicinity = Vicinity::new();
    read_on(&mut vicinity, &segment, &keys, &locations);
    let there = locations[2];
    assert!(vicinity.value(b"c", there).is_some());
    assert_eq!(vicinity.value(b"x", there), None);
    assert_eq!(vicinity.value(b"c", Location { segment: SegmentId(4), ..there }), None);
    assert_eq!(vicinity.value(b"a", locations[0]), None, "it lies ahead of what was read");
}

#[test]
fn what_can_not_be_read_is_nowhere() {
    let keys = ["a", "b", "c"];
    let (disk, segment, locations) = segment(&keys, 3);
    let mut vicinity = Vicinity::new();
    read_on(&mut vicinity, &segment, &keys, &locations);
    let _dead = disk.crash(Crash::Kill);
    assert_eq!(vicinity.read(&segment, b"c", locations[2]), None);
    assert_eq!(vicinity.value(b"c", locations[2]), None);
}

#[test]
fn a_segment_that_goes_takes_its_bytes_along() {
    let (_, segment, locations) = segment(&["a"], 1);
    let mut vicinity = Vicinity::new();
    vicinity.read(&segment, b"a", locations[0]).unwrap();
    vicinity.forget(SegmentId(4));
    assert!(vicinity.value(b"a", locations[0]).is_some());
    vicinity.forget(SegmentId(3));
    assert!(vicinity.value(b"a", locations[0]).is_none());
}

// ---- in a store -----------------------------------------------------------------------------------------------------

/// Names and what they lead to: pairs that were committed together, far from each other.
const PAIRS: usize = 20;
const FAR_BYTES: usize = 3 * VICINITY_BYTES_MAX;

struct Rig {
    disk: SimDisk,
    store: Store<()>,
    inside: Partition<()>,
}

impl Rig {
    fn new() -> Rig {
        let disk = SimDisk::new(1);
        disk.set_cold_percent(0);
        let world =
            World { disk: Arc::new(disk.clone()), clock: SimClock::new(), seed: 1, policy: Policy::Manual };
        let config = Config {
            partitions: Some(1),
            durability: Durability::Explicit,
            auto_compact: false,
            ..Config::default()
        };
        let store = Store::open(world, config, |_| Ok(())).unwrap();
        let inside = store.partition(PartitionId(0)).clone();
        let rig = Rig { disk, store, inside };
        for pair in 0..PAIRS {
            let mut batch = Batch::new();
            batch.put(name(pair), name(pair)).put(attributes(pair), attributes(pair));
            batch.put(format!("content {pair}"), vec![1; FAR_BYTES]);
            rig.run(|inside| async move { inside.commit(batch).await }).unwrap();
        }
        rig
    }

    fn run<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        work: impl FnOnce(Partition<()>) -> F,
    ) -> T {
        let answer = Arc::new(Mutex::new(None));
        let (work, told) = (work(self.inside.clone()), answer.clone());
        self.inside.submit(async move { *told.lock() = Some(work.await) }).detach();
        loop {
            if let Some(answer) = answer.lock().take() {
                return answer;
            }
            let has_run = self.inside.shell.turn.step();
            self.inside.shell.with_quiet(Core::leave);
            assert!(has_run || self.disk.complete(0), "it waits for something");
        }
    }

    fn with<T: Send + 'static>(&self, f: impl FnOnce(&mut Core) -> T + Send + 'static) -> T {
        self.run(|inside| async move { inside.with(|core, ()| f(core)) })
    }

    fn get(&self, key: String) -> Result<Option<Vec<u8>>, ReadError> {
        self.run(|inside| async move { inside.get(key.as_bytes()).await })
    }

    /// How many bytes were read for a key's value, which is the key.
    fn bytes_read_for(&self, key: String) -> u64 {
        let before = self.stats().bytes_read;
        assert_eq!(self.get(key.clone()), Ok(Some(key.into_bytes())));
        self.stats().bytes_read - before
    }

    fn stats(&self) -> StoreStats {
        self.store.stats()
    }
}

fn name(pair: usize) -> String {
    format!("name {pair}")
}

fn attributes(pair: usize) -> String {
    format!("attributes {pair}")
}

fn record_bytes(key: &str) -> u64 {
    record::encoded_length(key.len(), key.len()) as u64
}

#[test]
fn what_was_committed_together_is_read_at_once() {
    let rig = Rig::new();
    rig.bytes_read_for(name(0));
    rig.bytes_read_for(attributes(0));
    for pair in (1..PAIRS).map(|index| index * 7 % PAIRS) {
        assert!(rig.bytes_read_for(name(pair)) > record_bytes(&name(pair)));
        assert_eq!(rig.bytes_read_for(attributes(pair)), 0);
        assert_eq!(rig.bytes_read_for(attributes(pair)), 0, "as often as one likes");
    }
    assert_eq!(rig.stats().gets, 2 + 3 * (PAIRS as u64 - 1));
}

#[test]
fn who_reads_here_and_there_soon_reads_no_further_than_a_record() {
    let rig = Rig::new();
    rig.bytes_read_for(name(0));
    rig.bytes_read_for(attributes(0));
    let read: Vec<u64> = (1..PAIRS).map(|pair| rig.bytes_read_for(name(pair))).collect();
    assert_eq!(read[..3], [2048, 1024, 512]);
    for (pair, bytes) in (1..PAIRS).zip(read).skip(3) {
        assert_eq!(bytes, record_bytes(&name(pair)));
    }
}

#[test]
fn damage_of_what_is_kept_is_no_damage() {
    let rig = Rig::new();
    rig.bytes_read_for(name(0));
    rig.bytes_read_for(attributes(0));
    rig.bytes_read_for(name(1));
    rig.with(|core| core.vicinity.bytes.iter_mut().for_each(|byte| *byte ^= 1));
    assert!(rig.bytes_read_for(attributes(1)) > 0);
    assert_eq!(rig.stats().crc_errors, 0);
}

#[test]
fn a_segment_that_leaves_the_store_leaves_nothing_here() {
    let rig = Rig::new();
    rig.bytes_read_for(name(0));
    let kept = rig.with(|core| {
        let before = core.vicinity.length;
        core.part_with(core.active());
        (before > 0, core.vicinity.length)
    });
    assert_eq!(kept, (true, 0));
}
