//! Another number of partitions, and the scrub: through the commands, on what a mount has left.

use super::fixture::{Place, bitkv, text};
use bitkv::engine::clock::RealClock;
use bitkv::engine::disk::uring::UringDisk;
use bitkv::engine::{Config, Engine, EngineOptions, Policy, World};
use bitkv::fs::check::Finding;
use bitkv::fs::volume::{Volume, VolumeConfig};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

fn reshard(data: &Path, partitions: u16) -> (Option<i32>, String) {
    let partitions = partitions.to_string();
    let output = bitkv(&[&"reshard", &data, &"--partitions", &partitions, &"--yes"]);
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn fill(place: &Place) {
    for n in 0..60 {
        let directory = place.at(&format!("directory{}", n % 7));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("file{n}")), vec![n as u8; n * 2000]).unwrap();
    }
    fs::write(place.at("gone"), "x").unwrap();
    fs::remove_file(place.at("gone")).unwrap();
    fs::hard_link(place.at("directory1/file1"), place.at("link")).unwrap();
    std::os::unix::fs::symlink("directory2", place.at("soft")).unwrap();
    fs::set_permissions(place.at("directory3"), fs::Permissions::from_mode(0o750)).unwrap();
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000);
    fs::File::open(place.at("directory4")).unwrap().set_modified(long_ago).unwrap();
}

/// Everything that can be seen of a tree, in order of paths.
fn seen(root: &Path) -> Vec<String> {
    let (mut out, mut todo) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(path) = todo.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let content = if stat.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let sum =
            content.iter().fold(content.len() as u64, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte));
        out.push(format!(
            "{} {:o} {} {} {}.{} {}.{} {sum}",
            path.display(),
            stat.mode(),
            stat.ino(),
            stat.nlink(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec()
        ));
        if stat.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    out.sort();
    out
}

/// What the checker says of a store that isn't mounted.
fn findings(data: &Path) -> Vec<Finding> {
    let disk = UringDisk::open(data, 2, false).unwrap();
    let world = World { disk, clock: RealClock::new(), seed: 1, policy: Policy::Inline };
    let volume = Volume::open(world, Config::default(), VolumeConfig::default()).unwrap();
    let found = bitkv::engine::reshard::wait(volume.check());
    volume.close().unwrap();
    found
}

#[test]
fn a_filesystem_is_the_same_with_any_number_of_partitions() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--partitions", "2"]);
    fill(&place);
    let mut before = seen(&place.mountpoint());
    let (code, said) = reshard(&place.data(), 3);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!("it is mounted on {}: unmount it first", place.mountpoint().display())),
        "{said}"
    );
    place.unmount();
    for partitions in [5, 1, 3] {
        let (code, said) = reshard(&place.data(), partitions);
        assert_eq!(code, Some(0), "{said}");
        assert!(!place.path("data.reshard").exists());
        assert_eq!(fs::metadata(place.data()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(findings(&place.data()), [], "{partitions}");
        place.mount(&[]);
        assert_eq!(seen(&place.mountpoint()), before, "{partitions}");
        let options = fs::read_to_string(place.control("config")).unwrap();
        assert!(options.starts_with(&format!("partitions={partitions}\n")), "{options}");
        // It goes on working, and new inodes don't have the numbers of old ones.
        for n in 0..50 {
            fs::write(place.at(&format!("directory4/new{n}")), "new").unwrap();
        }
        let old: Vec<&str> = before.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
        for n in 0..50 {
            let new = fs::metadata(place.at(&format!("directory4/new{n}"))).unwrap().ino().to_string();
            assert!(!old.contains(&new.as_str()), "{new}");
        }
        let changed = fs::metadata(place.at("directory4")).unwrap();
        assert!(changed.mtime() > 1_000_000, "changes after the resharding count");
        for n in 0..50 {
            fs::remove_file(place.at(&format!("directory4/new{n}"))).unwrap();
        }
        before = seen(&place.mountpoint());
        place.unmount();
    }
}

#[test]
fn what_cannot_be_resharded_is_refused_and_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().canonicalize().unwrap().join("store");
    let options = EngineOptions { partitions: Some(2), ..EngineOptions::default() };
    let engine = Engine::open(&data, options.clone()).unwrap();
    for n in 0..500 {
        engine.put(format!("key{n}").as_bytes(), &vec![n as u8; n]).unwrap();
    }
    let refused = |partitions, why: &str| {
        let (code, said) = reshard(&data, partitions);
        assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains(why), "{said}");
    };
    refused(3, &format!("the store is in use by process {}", std::process::id()));
    engine.close().unwrap();
    refused(2, "it has 2 partitions already");
    let no_yes = bitkv(&[&"reshard", &data, &"--partitions", &"3"]);
    assert_eq!(no_yes.status.code(), Some(2));
    assert!(text(&no_yes.stderr).contains("--yes"), "{}", text(&no_yes.stderr));
    fs::create_dir(data.with_extension("reshard")).unwrap();
    refused(3, "is in the way");
    fs::remove_dir(data.with_extension("reshard")).unwrap();
    // The refusal of a wrong count names the way out.
    let wrong = Engine::open(&data, EngineOptions { partitions: Some(3), ..options.clone() }).err().unwrap();
    assert_eq!(
        wrong.to_string(),
        "the store was made with 2 partitions, not 3: open it without naming a count, or change it with bitkv reshard DATA --partitions 3"
    );
    assert_eq!(reshard(&data, 3).0, Some(0));
    let engine = Engine::open(&data, EngineOptions { partitions: Some(3), ..options }).unwrap();
    for n in 0..500 {
        assert_eq!(engine.get(format!("key{n}").as_bytes()), Ok(Some(vec![n as u8; n])));
    }
    assert_eq!(engine.list(b"").unwrap().len(), 500);
    engine.close().unwrap();
}

/// Killed at any moment, one of the two stores is there whole; and doing it again does it.
#[test]
fn a_kill_leaves_the_old_store_or_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().canonicalize().unwrap().join("store");
    let options = EngineOptions { partitions: None, segment_bytes: 1 << 20, ..EngineOptions::default() };
    let engine = Engine::open(&data, EngineOptions { partitions: Some(2), ..options.clone() }).unwrap();
    for n in 0..4000u32 {
        engine.put(format!("key{n}").as_bytes(), &[n as u8; 3000]).unwrap();
    }
    engine.close().unwrap();
    let (mut kills, mut count) = (0, 2);
    for round in 0..12u64 {
        let wanted = if count == 2 { "3" } else { "2" };
        let mut child = Command::new(env!("CARGO_BIN_EXE_bitkv"))
            .args(["reshard", data.to_str().unwrap(), "--yes", "--partitions", wanted])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(5 + round * 12));
        child.kill().unwrap();
        kills += u64::from(!child.wait().unwrap().success());
        let aside = data.with_extension("reshard");
        if aside.exists() && !aside.join("RESHARD").exists() {
            // Killed in the moment between the switch and the removal of the old one, or just before it.
            fs::remove_dir_all(&aside).unwrap();
        }
        let engine = Engine::open(&data, options.clone()).unwrap();
        for n in 0..4000u32 {
            assert_eq!(engine.get(format!("key{n}").as_bytes()), Ok(Some(vec![n as u8; 3000])), "{round}");
        }
        count = engine.stats().partitions.len();
        engine.close().unwrap();
    }
    assert!(kills > 0);
    let wanted = if count == 2 { 3 } else { 2 };
    let (code, said) = reshard(&data, wanted);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_scrub_names_the_damaged_file() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--partitions", "1"]);
    fill(&place);
    let scrub = |more: &str| {
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"scrub", &"--wait"];
        let mountpoint = place.mountpoint();
        if !more.is_empty() {
            arguments.push(&more);
        }
        arguments.push(&mountpoint);
        let output = bitkv(&arguments);
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, said, complaint) = scrub("--rate=0");
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{said}");
    assert!(said.starts_with("done\npercent: 100\n") && said.contains("\ndamaged_values: 0\n"), "{said}");
    // Some bytes of the content of file59, in the middle of a chunk.
    let path = place.data().join("partition_000/0000000001.data");
    let content = fs::read(&path).unwrap();
    let at = content.windows(4000).position(|window| window.iter().all(|byte| *byte == 59)).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"rot", at as u64 + 2000).unwrap();
    let (code, said, complaint) = scrub("");
    assert_eq!(code, Some(1), "{said}");
    assert!(complaint.contains("1 values and 0 places are damaged: see .bitkv/errors"), "{complaint}");
    let errors = fs::read_to_string(place.control("errors")).unwrap();
    assert!(errors.contains("/directory3/file59\t"), "{errors}");
    assert_eq!(place.number("crc_errors"), 1);
    // What it came to is known in the next life.
    place.unmount();
    place.mount(&[]);
    assert!(fs::read(place.at("directory3/file59")).is_err());
    assert_eq!(fs::read(place.at("directory2/file58")).unwrap(), vec![58; 58 * 2000]);
    let shown = fs::read_to_string(place.control("scrub")).unwrap();
    assert!(shown.starts_with("done\n") && shown.contains("\ndamaged_values: 1\n"), "{shown}");
    assert_eq!(bitkv(&[&"scrub", &place.mountpoint(), &"--stop"]).status.code(), Some(0));
}
