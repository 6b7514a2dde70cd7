//! The control directory: hidden, readable with everything, and its orders report their errors.

use super::errno;
use super::fixture::{Place, bitkv, shell, text, transport};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn it_is_there_but_not_listed() {
    let Some(place) = Place::mounted() else { return };
    fs::write(place.at("file"), "x").unwrap();
    let listed: Vec<_> = fs::read_dir(place.mountpoint()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(listed, ["file"]);
    let directory = fs::metadata(place.at(".bitkv")).unwrap();
    assert!(directory.is_dir());
    assert_eq!((directory.mode() & 0o7777, directory.uid()), (0o500, nix::unistd::getuid().as_raw()));
    let names: Vec<String> = fs::read_dir(place.at(".bitkv"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in [
        "version",
        "health",
        "stats",
        "stats.json",
        "partitions",
        "segments",
        "config",
        "errors",
        "compact",
        "sync",
    ] {
        assert!(names.iter().any(|listed| listed == name), "{name} in {names:?}");
    }
    // Below the root the name is anybody's.
    fs::create_dir_all(place.at("sub/.bitkv")).unwrap();
    fs::write(place.at("sub/.bitkv/stats"), "mine").unwrap();
    assert_eq!(fs::read_to_string(place.at("sub/.bitkv/stats")).unwrap(), "mine");
}

#[test]
fn every_tool_reads_it() {
    let Some(place) = Place::mounted() else { return };
    assert!(fs::read_to_string(place.control("version")).unwrap().ends_with(" format 1\n"));
    assert_eq!(fs::read_to_string(place.control("health")).unwrap(), "ok\n");
    let says = |script| {
        let output = shell(script, &place.at(".bitkv"));
        assert!(output.status.success(), "{script}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(says("head -c 5 $1/version"), "bitkv");
    let shown = says("tail -n 1 $1/stats");
    match transport() {
        Some(asked) => assert_eq!(shown, format!("transport: {asked}\n")),
        None => assert!(["transport: ring\n", "transport: dev\n"].contains(&shown.as_str())),
    }
    assert_eq!(says("tail -c 5 $1/stats"), shown[shown.len() - 5..]);
    assert_eq!(says("cp $1/version $1/../copy && cat $1/../copy"), says("cat $1/version"));
    assert_eq!(says("cat $1/stats $1/stats | grep -c ^stable:"), "2\n");
    assert_eq!(says("test $(stat -c %s $1/version) = $(wc -c <$1/version) && echo same"), "same\n");
    assert!(says("dd if=$1/stats bs=1 count=14 skip=0 status=none").starts_with("uptime_seconds"));
}

#[test]
fn an_opening_keeps_its_moment() {
    let Some(place) = Place::mounted() else { return };
    let files = |text: &str| text.lines().find_map(|line| line.strip_prefix("files: ").map(str::to_string));
    let mut before = File::open(place.control("stats")).unwrap();
    let size = before.metadata().unwrap().len();
    fs::write(place.at("file"), "x").unwrap();
    let mut after = File::open(place.control("stats")).unwrap();
    let (mut old, mut new) = (String::new(), String::new());
    after.read_to_string(&mut new).unwrap();
    before.read_to_string(&mut old).unwrap();
    assert_eq!((files(&old).as_deref(), files(&new).as_deref()), (Some("0"), Some("1")));
    assert_eq!(old.len() as u64, size);
    let number = |file: &File| file.metadata().unwrap().ino();
    assert_eq!(number(&before), number(&after), "for stat it is one file");
}

/// Many readers at once: nobody sees half of one moment and half of another.
#[test]
fn readers_do_not_mix() {
    let Some(place) = Place::mounted() else { return };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..200 {
                fs::write(place.at(&format!("file{n}")), "x").unwrap();
            }
        });
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let mut file = File::open(place.control("stats")).unwrap();
                    let size = file.metadata().unwrap().len();
                    let mut text = String::new();
                    file.read_to_string(&mut text).unwrap();
                    assert_eq!(text.len() as u64, size);
                    assert!(text.starts_with("uptime_seconds: ") && text.contains("\ntransport: "));
                }
            });
        }
        writer.join().unwrap();
    });
}

#[test]
fn an_order_tells_its_error_to_the_shell() {
    let Some(place) = Place::mounted() else { return };
    let order = |script: &str| shell(script, &place.at(".bitkv"));
    let refused = |script: &str, why: &str| {
        let output = order(script);
        assert!(!output.status.success(), "{script} is taken");
        assert!(text(&output.stderr).contains(why), "{script}: {}", text(&output.stderr));
    };
    refused("echo nonsense >$1/compact", "Invalid argument");
    refused("echo all now >$1/compact", "Invalid argument");
    refused("echo partition=99 >$1/compact", "No such file or directory");
    refused("echo x >$1/version", "Operation not permitted");
    refused("echo nonsense >$1/log_level", "Invalid argument");
    for script in ["echo all wait >$1/compact", "echo partition=0 wait >>$1/compact", "echo 1 >$1/sync"] {
        let output = order(script);
        assert!(output.status.success(), "{script}: {}", text(&output.stderr));
    }
    assert!(fs::read_to_string(place.control("compact")).unwrap().starts_with("idle\n"));
}

#[test]
fn sync_makes_everything_stable() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--sync", "fsync"]);
    for text in ["1\n", "\n"] {
        fs::write(place.at("file"), "x").unwrap();
        let written = place.number("settled");
        assert!(place.number("stable") < written, "nothing syncs by itself");
        fs::write(place.control("sync"), text).unwrap();
        assert!(place.number("stable") >= written, "{text:?}");
    }
}

#[test]
fn the_logs_level_changes_while_it_runs() {
    let Some(place) = Place::mounted() else { return };
    assert_eq!(fs::read_to_string(place.control("log_level")).unwrap(), "info\n");
    fs::write(place.control("log_level"), "error\n").unwrap();
    assert_eq!(fs::read_to_string(place.control("log_level")).unwrap(), "error\n");
    place.unmount();
    let log = fs::read_to_string(place.path("log")).unwrap();
    assert!(log.contains("is mounted on") && !log.contains("is closed"), "{log}");
}

#[test]
fn nothing_can_be_made_changed_or_removed_in_it() {
    let Some(place) = Place::mounted() else { return };
    fs::write(place.at("file"), "x").unwrap();
    let eperm = Some(libc::EPERM);
    assert_eq!(errno(fs::write(place.control("new"), "x")), eperm);
    assert_eq!(errno(fs::create_dir(place.control("new"))), eperm);
    assert_eq!(errno(fs::remove_file(place.control("version"))), eperm);
    assert_eq!(errno(fs::remove_dir(place.at(".bitkv"))), eperm);
    assert_eq!(errno(fs::rename(place.at(".bitkv"), place.at("other"))), eperm);
    assert_eq!(errno(fs::rename(place.at("file"), place.control("file"))), eperm);
    assert_eq!(errno(fs::rename(place.control("version"), place.at("version"))), eperm);
    assert_eq!(errno(fs::hard_link(place.control("version"), place.at("version"))), eperm);
    assert_eq!(errno(fs::hard_link(place.at("file"), place.control("file"))), eperm);
    assert_eq!(errno(std::os::unix::fs::symlink("x", place.control("soft"))), eperm);
    let mode = fs::Permissions::from_mode(0o777);
    assert_eq!(errno(fs::set_permissions(place.control("version"), mode.clone())), eperm);
    assert_eq!(errno(fs::set_permissions(place.at(".bitkv"), mode)), eperm);
    assert_eq!(fs::read_to_string(place.at("file")).unwrap(), "x");
}

/// While somebody waits for a compaction, everybody else is served.
#[test]
fn who_waits_keeps_nobody_waiting() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--threads", "2", "--segment-size", "4M"]);
    for round in 0..3 {
        for n in 0..40 {
            fs::write(place.at(&format!("file{n}")), vec![round; 200_000]).unwrap();
        }
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let answer = errno(fs::write(place.control("compact"), "all wait\n"));
                assert!(matches!(answer, None | Some(libc::EBUSY)), "{answer:?}");
            });
        }
        for n in 0..200 {
            fs::write(place.at("other"), n.to_string()).unwrap();
            assert_eq!(fs::read_to_string(place.at("other")).unwrap(), n.to_string());
        }
    });
    assert_eq!(fs::read(place.at("file7")).unwrap(), vec![2; 200_000]);
}

#[test]
fn the_commands_show_and_order() {
    let Some(place) = Place::mounted() else { return };
    fs::create_dir(place.at("sub")).unwrap();
    let says = |arguments: &[&dyn AsRef<std::ffi::OsStr>]| {
        let output = bitkv(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    for path in [place.mountpoint(), place.at("sub"), place.data()] {
        let status = says(&[&"status", &path]);
        assert!(status.contains(place.data().to_str().unwrap()) && status.ends_with("\nok\n"), "{status}");
    }
    // Every mount of the machine, so its exit code is theirs too: one that another left dead is none of this test's.
    assert!(text(&bitkv(&[&"status"]).stdout).contains(place.mountpoint().to_str().unwrap()));
    assert!(says(&[&"stats", &place.mountpoint()]).contains("\nstable: "));
    assert!(says(&[&"stats", &"--json", &place.mountpoint()]).starts_with('{'));
    assert_eq!(says(&[&"compact", &place.mountpoint(), &"--wait"]), "");
    // A reader who has seen enough is no error.
    let brief = format!("set -o pipefail; {} stats \"$1\" | head -n 1", env!("CARGO_BIN_EXE_bitkv"));
    assert!(text(&shell(&brief, &place.mountpoint()).stdout).starts_with("uptime_seconds"));
    place.unmount();
    assert!(says(&[&"status", &place.data()]).ends_with(": not mounted\n"));

    for (arguments, code) in [("stats /", 1), ("status /nowhere/at/all", 1), ("nonsense", 2), ("stats", 2)] {
        let words: Vec<&str> = arguments.split(' ').collect();
        let words: Vec<&dyn AsRef<std::ffi::OsStr>> = words.iter().map(|word| word as _).collect();
        let output = bitkv(&words);
        assert_eq!(output.status.code(), Some(code), "{arguments}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    }
}
