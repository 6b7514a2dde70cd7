//! How a mount comes and goes, and what can be in the way.

use super::fixture::{Place, bitkv, eventually, is_alive, signal, text};
use super::{errno, raw};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn it_is_mounted_as_what_it_is() {
    let Some(place) = Place::mounted() else { return };
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let place_name = place.mountpoint();
    let line = table.lines().find(|line| line.split(' ').nth(1) == place_name.to_str()).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!((words[0], words[2]), (place.data().to_str().unwrap(), "fuse.bitkv"));
    let options: Vec<&str> = words[3].split(',').collect();
    assert!(options.contains(&"default_permissions"), "{line}");
    if nix::unistd::geteuid().is_root() {
        assert!(!options.contains(&"nosuid") && !options.contains(&"nodev"), "{line}");
    }
    place.unmount();
    place.mount(&["-o", "nosuid,nodev,noexec,relatime,nofail,x-systemd.automount"]);
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = table.lines().find(|line| line.split(' ').nth(1) == place_name.to_str()).unwrap();
    for option in ["nosuid", "nodev", "noexec", "noatime"] {
        assert!(line.contains(option), "{option} in {line}");
    }
}

/// What mount(8) calls us with to have a mount changed.
fn remount(place: &Place, options: &str) -> bool {
    let mut helper = Command::new(env!("CARGO_BIN_EXE_bitkv-mount"));
    helper.args([place.data(), place.mountpoint()]).args(["-o", &format!("remount,{options}")]);
    helper.output().unwrap().status.success()
}

/// One call of each sort that changes something: what it fails with.
fn changes(place: &Place) -> Vec<Option<i32>> {
    let file = place.at("file");
    vec![
        errno(File::options().write(true).open(&file).and_then(|open| open.write_at(b"y", 0))),
        errno(File::create_new(place.at("new"))),
        errno(fs::create_dir(place.at("directory"))),
        errno(fs::set_permissions(&file, fs::Permissions::from_mode(0o640))),
        errno(raw::set_xattr(&file, c"user.a", b"value", 0)),
        errno(fs::rename(&file, place.at("other"))),
        errno(fs::rename(place.at("other"), &file)),
        errno(fs::remove_file(place.at("new"))),
        errno(fs::remove_dir(place.at("directory"))),
    ]
}

#[test]
fn remounted_for_reading_it_refuses_changes_until_it_is_remounted_for_writing() {
    let Some(place) = Place::mounted() else { return };
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    fs::write(place.at("file"), "x").unwrap();
    let open = File::options().write(true).open(place.at("file")).unwrap();
    assert!(!remount(&place, "ro"), "somebody may still write");
    drop(open);
    assert!(remount(&place, "ro"));
    let refused: Vec<_> = changes(&place);
    assert!(refused.iter().all(|error| matches!(error, Some(libc::EROFS | libc::ENOENT))), "{refused:?}");
    assert_eq!(refused[..6], [Some(libc::EROFS); 6]);
    assert_eq!(fs::read_to_string(place.at("file")).unwrap(), "x");
    assert!(remount(&place, "rw"));
    assert!(changes(&place).iter().all(Option::is_none));
    assert_eq!(fs::read_to_string(place.at("file")).unwrap(), "y");
}

/// What was opened for reading stays so: the kernel would let changes through, the daemon doesn't.
#[test]
fn a_store_opened_for_reading_takes_no_changes_after_a_remount_either() {
    let Some(place) = Place::mounted() else { return };
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    fs::write(place.at("file"), "x").unwrap();
    place.unmount();
    place.mount(&["-o", "ro"]);
    assert!(remount(&place, "rw"));
    assert_eq!(changes(&place)[..5], [Some(libc::EROFS); 5]);
    assert_eq!(fs::read_to_string(place.at("file")).unwrap(), "x");
}

#[test]
fn reading_leaves_the_time_of_access_whatever_the_options() {
    let Some(place) = Place::new() else { return };
    for options in ["defaults", "atime", "noatime", "relatime", "strictatime"] {
        place.mount(&["-o", options]);
        let (file, directory) = (place.at("file"), place.at("directory"));
        fs::write(&file, "x").unwrap();
        let _ = fs::create_dir(&directory);
        if nix::unistd::geteuid().is_root() {
            remount(&place, "strictatime");
        }
        let times = || [&file, &directory].map(|path| fs::metadata(path).unwrap().accessed().unwrap());
        let before = times();
        // By way of the daemon, and out of the kernel's memory.
        for _ in 0..2 {
            assert_eq!(fs::read(&file).unwrap(), b"x");
            assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        }
        place.unmount();
        place.mount(&[]);
        assert_eq!(fs::read(&file).unwrap(), b"x");
        assert_eq!(times(), before, "{options}");
        place.unmount();
    }
}

#[test]
fn by_itself_a_mount_takes_the_ring_where_the_kernel_has_it() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--transport", "auto"]);
    let parameter = fs::read_to_string("/sys/module/fuse/parameters/enable_uring").unwrap_or_default();
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let shown = fs::read_to_string(place.control("stats")).unwrap();
    let log = fs::read_to_string(place.path("log")).unwrap();
    if parameter.trim() == "Y" && disabled.trim() == "0" {
        assert!(shown.ends_with("transport: ring\n"), "{log}");
    } else {
        assert!(shown.ends_with("transport: dev\n"), "{shown}");
        assert_eq!(log.matches("requests come over /dev/fuse, not io_uring").count(), 1, "{log}");
    }
    place.unmount();
}

#[test]
fn a_store_is_mounted_once() {
    let Some(place) = Place::mounted() else { return };
    fs::create_dir(place.path("second")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bitkv-mount"))
        .args(["--lock-wait", "50ms"])
        .args([place.data(), place.path("second")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&place.daemon().to_string()), "{}", text(&output.stderr));
    fs::write(place.at("file"), "the first lives on").unwrap();
}

#[test]
fn umount_finds_the_daemon_by_any_way_to_the_mount() {
    let Some(place) = Place::new() else { return };
    std::os::unix::fs::symlink("mnt", place.path("link")).unwrap();
    // The table of mounts may show another name than the store's.
    for (options, mountpoint) in [(&[][..], "link"), (&["-o", "fsname=another"], "mnt")] {
        place.mount(options);
        fs::write(place.at("file"), vec![7; 3_000_000]).unwrap();
        let daemon = place.daemon();
        let output = bitkv(&[&"umount", &place.path(mountpoint)]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(!is_alive(daemon) && !place.is_mounted(), "umount doesn't wait ({mountpoint})");
    }
    let output = bitkv(&[&"umount", &place.mountpoint()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no store is mounted there"), "{}", text(&output.stderr));
}

#[test]
fn a_busy_mount_is_not_taken_away() {
    let Some(place) = Place::mounted() else { return };
    fs::write(place.at("file"), "x").unwrap();
    let open = File::open(place.at("file")).unwrap();
    let output = bitkv(&[&"umount", &place.mountpoint()]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(place.at("file")).unwrap(), "x");
    drop(open);
    place.unmount();
}

/// A daemon that dies while it is waited for is not taken for one that has synced.
#[test]
fn umount_tells_how_the_daemon_ended() {
    let Some(place) = Place::new() else { return };
    place.mount(&["--sync", "fsync"]);
    // Much to sync, so that there is time to kill it between the unmount and its end.
    fs::write(place.at("file"), vec![7; 150_000_000]).unwrap();
    let daemon = place.daemon();
    let unmounting = Command::new(env!("CARGO_BIN_EXE_bitkv"))
        .arg("umount")
        .arg(place.mountpoint())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the mount goes", || !place.is_mounted());
    let killed = is_alive(daemon);
    if killed {
        signal(daemon, Signal::SIGKILL);
    }
    let output = unmounting.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    match output.status.code() {
        Some(1) => assert!(killed && stderr.contains("killed by signal 9"), "{stderr}"),
        // It was too late; or the kernel is one that doesn't tell, or the daemon's parent hasn't reaped it.
        Some(0) => println!("SKIPPED: it isn't known how the daemon ended (killed: {killed})"),
        other => panic!("{other:?}: {stderr}"),
    }
    place.mount(&[]);
    assert_eq!(fs::metadata(place.at("file")).unwrap().len(), 150_000_000);
}

#[test]
fn a_mount_whose_daemon_has_died_is_replaced() {
    let Some(place) = Place::mounted() else { return };
    fs::write(place.at("file"), "acknowledged").unwrap();
    let daemon = place.daemon();
    signal(daemon, Signal::SIGKILL);
    eventually("the daemon dies", || !is_alive(daemon));
    let dead = || nix::sys::statvfs::statvfs(&place.mountpoint()).err();
    eventually("the mount is dead", || dead() == Some(nix::errno::Errno::ENOTCONN));
    place.mount(&[]);
    assert_eq!(fs::read_to_string(place.at("file")).unwrap(), "acknowledged");
    // And one that isn't replaced can be taken away.
    let daemon = place.daemon();
    signal(daemon, Signal::SIGKILL);
    eventually("the daemon dies", || !is_alive(daemon));
    let output = bitkv(&[&"umount", &place.mountpoint()]);
    let stderr = text(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        // As long as its parent hasn't reaped it, it can be told how the daemon ended.
        Some(1) => assert!(stderr.contains("killed by signal 9"), "{stderr}"),
        other => panic!("{other:?}: {stderr}"),
    }
    assert!(!place.is_mounted());
}

/// A mount that was told to end while files were open closed its store under the requests that still came: what was acknowledged
/// behind the length to which closing cuts a log was lost.
#[test]
fn writes_acknowledged_while_a_mount_ends_are_kept() {
    if super::fixture::holds_back() {
        return;
    }
    let Some(place) = Place::mounted() else { return };
    let ending = AtomicBool::new(false);
    let daemon = place.daemon();
    let written: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|n| {
                let file = File::create(place.at(&format!("file{n}"))).unwrap();
                let ending = &ending;
                scope.spawn(move || {
                    let mut count = 0;
                    while file.write_all_at(format!("{count:015}\n").as_bytes(), count * 16).is_ok() {
                        count += 1;
                    }
                    assert!(ending.load(Ordering::Relaxed), "a write fails before the mount ends");
                    count
                })
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(300));
        ending.store(true, Ordering::Relaxed);
        signal(daemon, Signal::SIGTERM);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    eventually("the daemon ends", || !is_alive(daemon));
    let log = fs::read_to_string(place.path("log")).unwrap();
    assert!(log.contains("is closed"), "{log}");
    place.mount(&[]);
    for (n, count) in written.iter().enumerate() {
        let content = fs::read_to_string(place.at(&format!("file{n}"))).unwrap();
        let there = content.lines().count() as u64;
        assert!(there >= *count, "file{n}: {count} writes were acknowledged, {there} are there");
        for (line, expected) in content.lines().zip(0..) {
            assert_eq!(line.parse::<u64>().unwrap(), expected);
        }
    }
}

#[test]
fn in_the_foreground_the_exit_code_is_ours() {
    let Some(place) = Place::new() else { return };
    for ending in [Signal::SIGTERM, Signal::SIGINT] {
        // Relative paths, too.
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_bitkv-mount"))
            .args(["-f", "data", "mnt"])
            .current_dir(place.path(""))
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        eventually("it is mounted", || place.is_mounted());
        fs::write(place.at("file"), ending.as_str()).unwrap();
        signal(daemon.id(), ending);
        assert_eq!(daemon.wait().unwrap().code(), Some(0));
        assert!(!place.is_mounted());
        place.mount(&[]);
        assert_eq!(fs::read_to_string(place.at("file")).unwrap(), ending.as_str());
        place.unmount();
    }
}

#[test]
fn read_only_is_read_only() {
    let Some(place) = Place::mounted() else { return };
    fs::write(place.at("file"), "x").unwrap();
    place.unmount();
    for option in [&["-o", "ro"][..], &["--read-only"]] {
        place.mount(option);
        assert_eq!(fs::read_to_string(place.at("file")).unwrap(), "x");
        assert_eq!(errno(fs::write(place.at("other"), "x")), Some(libc::EROFS));
        assert_eq!(errno(fs::remove_file(place.at("file"))), Some(libc::EROFS));
        let health = fs::read_to_string(place.control("health")).unwrap();
        assert!(health.starts_with("read-only: ") && health.lines().count() == 1, "{health}");
        // The kernel lets no order through either; a sync has nothing to do, and succeeds.
        assert_eq!(errno(fs::write(place.control("sync"), "1\n")), Some(libc::EROFS));
        File::open(place.at("file")).unwrap().sync_all().unwrap();
        place.unmount();
    }
}

#[test]
fn what_cannot_be_mounted_is_told_in_one_line() {
    let Some(place) = Place::new() else { return };
    let refused = |arguments: &[&str], code: i32, word: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_bitkv-mount"))
            .args(arguments)
            .current_dir(place.path(""))
            .output()
            .unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(word) && stderr.lines().count() == 1, "{arguments:?}: {stderr}");
        assert!(!place.is_mounted());
    };
    fs::write(place.path("plain"), "x").unwrap();
    fs::create_dir_all(place.path("foreign/thing")).unwrap();
    refused(&["-o", "rw,nonsense=1", "data", "mnt"], 2, "nonsense=1");
    refused(&["--thread", "2", "data", "mnt"], 2, "--threads");
    refused(&["data"], 2, "MOUNTPOINT");
    refused(&["data", "nowhere"], 1, "nowhere");
    refused(&["data", "plain"], 1, "plain");
    refused(&["foreign", "mnt"], 1, "thing");
    refused(&["mnt/data", "mnt"], 1, "hide");
    refused(&["--log-file", "no/such/log", "data", "mnt"], 1, "no/such/log");
}
