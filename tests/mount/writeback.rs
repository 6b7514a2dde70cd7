//! `-o writeback_cache`: the kernel holds writes back, and keeps sizes and times meanwhile.

use super::fixture::{Place, eventually, is_alive, signal};
use super::{errno, raw};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, UNIX_EPOCH};

const OPTIONS: [&str; 2] = ["-o", "writeback_cache"];

fn mounted() -> Option<Place> {
    let place = Place::new()?;
    place.mount(&OPTIONS);
    Some(place)
}

fn kill(place: &Place) {
    let daemon = place.daemon();
    signal(daemon, Signal::SIGKILL);
    eventually("the daemon dies", || !is_alive(daemon));
}

#[test]
fn what_fsync_and_close_cover_outlives_the_daemon() {
    let Some(place) = mounted() else { return };
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let synced = File::create(place.at("synced")).unwrap();
    for (index, piece) in content.chunks(77_777).enumerate() {
        synced.write_all_at(piece, index as u64 * 77_777).unwrap();
    }
    synced.sync_all().unwrap();
    let modified = synced.metadata().unwrap().modified().unwrap();
    fs::write(place.at("closed"), &content).unwrap();
    kill(&place);
    drop(synced);
    place.mount(&OPTIONS);
    assert!(fs::read(place.at("synced")).unwrap() == content);
    assert_eq!(fs::metadata(place.at("synced")).unwrap().modified().unwrap(), modified);
    assert!(fs::read(place.at("closed")).unwrap() == content);
}

/// What is told to end has the kernel hand over what it holds of files that are open.
#[test]
fn the_end_of_a_mount_loses_nothing_of_open_files() {
    let Some(place) = mounted() else { return };
    let mut open = File::create(place.at("open")).unwrap();
    open.write_all(b"not closed, not synced").unwrap();
    let daemon = place.daemon();
    signal(daemon, Signal::SIGTERM);
    eventually("the daemon ends", || !is_alive(daemon));
    drop(open);
    place.mount(&OPTIONS);
    assert_eq!(fs::read_to_string(place.at("open")).unwrap(), "not closed, not synced");
}

#[test]
fn times_are_what_they_were_when_it_was_written() {
    let Some(place) = mounted() else { return };
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000);
    let times = |name: &str| {
        let found = fs::metadata(place.at(name)).unwrap();
        ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()), found.len())
    };
    for name in ["written", "set", "cut"] {
        let mut file = File::create(place.at(name)).unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        match name {
            "set" => file.set_modified(long_ago).unwrap(),
            "cut" => file.set_len(5000).unwrap(),
            _ => {}
        }
        // Time passes between the write and its coming.
        std::thread::sleep(Duration::from_millis(30));
    }
    fs::rename(place.at("cut"), place.at("renamed")).unwrap();
    let names = ["written", "set", "renamed"];
    let before = names.map(times);
    assert_eq!(before[1].0, (1_000_000, 0));
    place.unmount();
    place.mount(&OPTIONS);
    assert_eq!(names.map(times), before);
}

/// The daemon doesn't know what is held back, and so can't say where holes are.
#[test]
fn nothing_that_is_held_back_is_taken_for_a_hole() {
    let Some(place) = mounted() else { return };
    let file = File::create(place.at("file")).unwrap();
    file.set_len(1 << 20).unwrap();
    file.write_all_at(b"data", 500_000).unwrap();
    assert!(raw::seek(&file, 0, libc::SEEK_DATA).unwrap() <= 500_000);
    assert!(raw::seek(&file, 500_000, libc::SEEK_HOLE).unwrap() >= 500_004);
    file.write_all_at(b"behind", 2 << 20).unwrap();
    assert_eq!(raw::seek(&file, 2 << 20, libc::SEEK_DATA).unwrap(), 2 << 20);
    // What works inside the store gets what is held back as well.
    fs::copy(place.at("file"), place.at("copy")).unwrap();
    assert!(fs::read(place.at("copy")).unwrap() == fs::read(place.at("file")).unwrap());
    raw::allocate(&file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 500_000, 4).unwrap();
    assert!(fs::read(place.at("file")).unwrap()[..2 << 20].iter().all(|byte| *byte == 0));
}

#[test]
fn mappings_and_calls_see_the_same() {
    let Some(place) = mounted() else { return };
    let path = place.at("file");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.write_all_at(&[1; 50_000], 0).unwrap();
    raw::change_mapped(&file, 50_000, |bytes| {
        assert!(bytes.iter().all(|byte| *byte == 1));
        bytes[40_000..40_007].copy_from_slice(b"mapping");
    })
    .unwrap();
    assert_eq!(fs::read(&path).unwrap()[40_000..40_007], *b"mapping");
    // Open for writing only: the rest of the page is read all the same.
    let only = File::options().write(true).open(&path).unwrap();
    only.write_all_at(b"written", 20_001).unwrap();
    raw::change_mapped(&file, 50_000, |bytes| assert_eq!(bytes[20_000..20_009], *b"\x01written\x01"))
        .unwrap();
    only.set_len(20_004).unwrap();
    only.set_len(50_000).unwrap();
    let expected = [&[1; 20_001][..], b"wri", &[0; 29_996]].concat();
    assert!(fs::read(&path).unwrap() == expected);
    drop((file, only));
    place.unmount();
    place.mount(&OPTIONS);
    assert!(fs::read(&path).unwrap() == expected);
}

#[test]
fn appends_of_many_writers_are_all_there() {
    let Some(place) = mounted() else { return };
    let path = place.at("log");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let mut file = File::options().append(true).create(true).open(path).unwrap();
                for line in 0..500 {
                    file.write_all(format!("{writer} {line:08}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    place.unmount();
    place.mount(&OPTIONS);
    let content = fs::read_to_string(&path).unwrap();
    for writer in 0..4 {
        let own = content.lines().filter_map(|line| line.strip_prefix(&format!("{writer} ")));
        assert!(own.map(|line| line.parse::<u32>().unwrap()).eq(0..500), "writer {writer}");
    }
}

/// Held back, the error of a wrong order would reach nobody.
#[test]
fn the_control_directory_answers_at_once() {
    let Some(place) = mounted() else { return };
    let order = |name: &str, order: &[u8]| {
        File::options().write(true).open(place.control(name)).unwrap().write(order)
    };
    assert_eq!(errno(order("compact", b"nonsense")), Some(libc::EINVAL));
    assert_eq!(order("sync", b"1").unwrap(), 1);
    order("config", b"compact-rate=7M").unwrap();
    let mut shown = String::new();
    File::open(place.control("config")).unwrap().read_to_string(&mut shown).unwrap();
    assert!(shown.contains("7"), "{shown}");
}

/// The kernel would take changes, and lose them when they are refused.
#[test]
fn a_store_opened_for_reading_holds_nothing_back() {
    let Some(place) = mounted() else { return };
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    fs::write(place.at("file"), "x").unwrap();
    place.unmount();
    place.mount(&["-o", "ro,writeback_cache"]);
    let remounted = std::process::Command::new(env!("CARGO_BIN_EXE_bitkv-mount"))
        .args([place.data(), place.mountpoint()])
        .args(["-o", "remount,rw"])
        .status();
    assert!(remounted.unwrap().success());
    let file = File::options().write(true).open(place.at("file")).unwrap();
    assert_eq!(errno(file.write_at(b"y", 0)), Some(libc::EROFS));
}
