//! A store whose directory was damaged in any way: opening it refuses or succeeds, and what is read then is an error or a value that the key once
//! had. Never a panic, never memory that the files don't pay for.
//!
//! The input is a list of injuries. Some make the checksums right again, to get behind them.

#![no_main]

use bitkv::engine::clock::SimClock;
use bitkv::engine::disk::Disk;
use bitkv::engine::disk::sim::{Crash, SimDisk};
use bitkv::engine::format::{FRAME_HEADER_BYTES, FrameHeader, Origin, SegmentHeader, crc};
use bitkv::engine::simulator::Player;
use bitkv::engine::{Batch, Config, Durability, PartitionId, Policy, Store, World};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, Mutex, OnceLock};

const STEPS_MAX: u64 = 100_000;
const PARTITIONS: u16 = 2;
const KEYS: u32 = 12;
const ROUNDS: u32 = 16;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, injuries)) = bytes.split_first() else { return };
    let stores = STORES.get_or_init(|| vec![make(false), make(true)]);
    let disk = stores[usize::from(*which) % stores.len()].lock().unwrap().snapshot();
    for injury in injuries.chunks_exact(8).take(8) {
        injure(&disk, injury.try_into().unwrap());
    }
    look(&disk, *which & 2 != 0);
});

static STORES: OnceLock<Vec<Mutex<SimDisk>>> = OnceLock::new();

fn world(disk: &SimDisk, clock: &Arc<SimClock>) -> World {
    World { disk: Arc::new(disk.clone()), clock: clock.clone(), seed: 7, policy: Policy::Manual }
}

fn config(read_only: bool) -> Config {
    Config {
        partitions: Some(PARTITIONS),
        segment_bytes: 64 * 1024,
        durability: Durability::Explicit,
        auto_compact: false,
        read_only,
        ..Config::default()
    }
}

fn key(index: u32) -> Vec<u8> {
    format!("key {index}").into_bytes()
}

/// What a key had in a round.
fn value(index: u32, round: u32) -> Vec<u8> {
    let mut value = vec![(index * 31 + round) as u8; 40 + (index * 97 % 5) as usize * 700];
    value[..4].copy_from_slice(&round.to_le_bytes());
    value[4..8].copy_from_slice(&index.to_le_bytes());
    value
}

/// A store with several segments a partition, an output of a compaction, commits over both partitions and removed keys.
fn make(killed: bool) -> Mutex<SimDisk> {
    let disk = SimDisk::new(11);
    let clock = SimClock::new();
    let store = Store::open(world(&disk, &clock), config(false), |_| Ok(())).unwrap();
    let mut player = Player::new(&store, &disk, &clock, 5);
    for round in 0..ROUNDS {
        let inside = store.clone();
        let work = async move {
            for index in 0..KEYS {
                let mut parts = Vec::new();
                for partition in 0..PARTITIONS {
                    let mut batch = Batch::new();
                    match (index + round) % 7 {
                        0 => batch.remove(key(index)),
                        _ => batch.put(key(index), value(index, round)),
                    };
                    parts.push((PartitionId(partition), batch));
                    if index % 3 != 0 {
                        break;
                    }
                }
                inside.commit(parts).await.unwrap();
            }
            if round % 3 == 1 {
                inside.sync().await.unwrap();
            }
            if round == ROUNDS / 2 {
                inside.compact(None).await.unwrap();
            }
        };
        store.partition(PartitionId(0)).submit(work).detach();
        assert!(player.run_until_idle(STEPS_MAX));
    }
    if killed {
        let next = disk.crash(Crash::Kill);
        player.bury();
        drop(store);
        return Mutex::new(next.snapshot());
    }
    store.close().unwrap();
    player.bury();
    Mutex::new(disk.snapshot())
}

/// What (1), in which file (1), where (3), with which bytes (3).
fn injure(disk: &SimDisk, [what, which, a, b, c, bytes @ ..]: [u8; 8]) {
    let files = disk.files();
    if files.is_empty() {
        return;
    }
    let path = &files[usize::from(which) % files.len()];
    let Some(mut content) = disk.content(path) else { return };
    let at = u32::from_le_bytes([a, b, c, 0]) as usize % (content.len() + 1);
    match what % 8 {
        0 if at < content.len() => disk.flip_bit(path, at as u64, bytes[0]),
        1 => {
            content.truncate(at);
            disk.overwrite(path, &content);
        }
        2 => drop(disk.remove(path)),
        3 => {
            let other = &files[usize::from(bytes[0]) % files.len()];
            let other = disk.content(other).unwrap_or_default();
            disk.overwrite(path, &other);
        }
        4 => {
            content.truncate(at);
            content.extend(std::iter::repeat_n(bytes[0], usize::from(bytes[1]) * usize::from(bytes[2])));
            disk.overwrite(path, &content);
        }
        5 => {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            let number = u32::from_le_bytes([bytes[0], bytes[1], 0, 0]);
            let suffix = ["data", "hint", "data.bak", "data.tmp"][usize::from(bytes[2]) % 4];
            drop(disk.rename(path, &format!("{directory}/{number:010}.{suffix}")));
        }
        _ => {
            // The places that are checked are found before anything is changed.
            let frames = frames(&content);
            for (offset, byte) in bytes.iter().enumerate() {
                if let Some(place) = content.get_mut(at + offset) {
                    *place = *byte;
                }
            }
            if what % 8 == 7 {
                make_right(path, &mut content, &frames);
            }
            disk.overwrite(path, &content);
        }
    }
}

/// Offsets of the frames of a segment; in a packed one, values lie before the first.
fn frames(content: &[u8]) -> Vec<usize> {
    let Ok(header) = SegmentHeader::decode(content) else { return Vec::new() };
    let (mut offset, mut found) = (header.encoded_length(), Vec::new());
    while let Some(rest) = content.get(offset..).filter(|rest| !rest.is_empty()) {
        match FrameHeader::decode(rest, header.salt) {
            Ok(frame) => {
                found.push(offset);
                offset += frame.length as usize;
            }
            Err(_) if header.origin == Origin::Packed && found.is_empty() => offset += 8,
            Err(_) => break,
        }
    }
    found
}

/// The checksums of headers are right afterwards; those of records stay what they were, so that none can be made up.
fn make_right(path: &str, content: &mut Vec<u8>, frames: &[usize]) {
    if path.ends_with("MANIFEST") {
        let text = content.strip_suffix(b"\n").unwrap_or(content);
        let start = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        content.truncate(start);
        let crc = crc(None, &[content]);
        content.extend_from_slice(format!("crc32c {crc:08x}\n").as_bytes());
    } else if path.ends_with(".hint") && content.len() >= 96 {
        let body = crc(None, &[&content[96..]]);
        content[80..84].copy_from_slice(&body.to_le_bytes());
        let header = crc(None, &[&content[4..96]]);
        content[..4].copy_from_slice(&header.to_le_bytes());
    } else if content.len() >= 64 {
        let victims = u32::from_le_bytes(content[44..48].try_into().unwrap()) as usize;
        let end = 64usize.saturating_add(victims.saturating_mul(4).next_multiple_of(8)).min(content.len());
        let header = crc(None, &[&content[4..end]]);
        content[..4].copy_from_slice(&header.to_le_bytes());
        let salt = u32::from_le_bytes(content[40..44].try_into().unwrap());
        for offset in frames {
            if let Some(frame) = content.get_mut(*offset..offset + FRAME_HEADER_BYTES) {
                let crc = crc(Some(salt), &[&frame[4..]]);
                frame[..4].copy_from_slice(&crc.to_le_bytes());
            }
        }
    }
}

fn look(disk: &SimDisk, read_only: bool) {
    let clock = SimClock::new();
    let mut config = config(read_only);
    config.partitions = None;
    config.create = false;
    let Ok(store) = Store::open(world(disk, &clock), config, |_| Ok(())) else { return };
    let mut player = Player::new(&store, disk, &clock, 3);
    for partition in store.partitions() {
        let inside = partition.clone();
        let reading = async move {
            let keys = inside.with(|core, ()| core.list(b"", None, usize::MAX));
            for key in keys {
                if let Ok(Some(found)) = inside.get(&key).await {
                    check(&key, &found);
                }
            }
        };
        partition.submit(reading).detach();
    }
    assert!(player.run_until_idle(STEPS_MAX), "it never falls idle");
    player.bury();
}

fn check(key_found: &[u8], found: &[u8]) {
    let field = |at: usize| found.get(at..at + 4).map(|field| u32::from_le_bytes(field.try_into().unwrap()));
    let (round, index) = (field(0).expect("too short"), field(4).expect("too short"));
    assert!(index < KEYS && round < ROUNDS && key(index) == key_found, "{key_found:?} has another key's value");
    assert_eq!(value(index, round), found);
}
