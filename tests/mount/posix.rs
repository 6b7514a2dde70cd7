//! What the differential test found, each by name.

use super::fixture::{Place, eventually};
use super::{errno, raw};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::time::{Duration, UNIX_EPOCH};

/// It was EOPNOTSUPP, as for a namespace that isn't known.
#[test]
fn a_prefix_alone_is_no_name_of_an_attribute() {
    let Some(place) = Place::mounted() else { return };
    fs::write(place.at("file"), "x").unwrap();
    for (name, expected) in
        [(c"user.", libc::EINVAL), (c"trusted.", libc::EINVAL), (c"other.a", libc::EOPNOTSUPP)]
    {
        assert_eq!(errno(raw::set_xattr(&place.at("file"), name, b"value", 0)), Some(expected), "{name:?}");
    }
}

/// Allocating within the file, or behind its end without growing it, left the times as they were.
#[test]
fn allocating_counts_as_a_change() {
    if super::fixture::holds_back() {
        return;
    }
    let Some(place) = Place::mounted() else { return };
    let file = File::options().write(true).create_new(true).open(place.at("file")).unwrap();
    file.set_len(100_000).unwrap();
    let times = || {
        let found = file.metadata().unwrap();
        ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()))
    };
    for (mode, offset) in [(0, 10), (libc::FALLOC_FL_KEEP_SIZE, 10), (libc::FALLOC_FL_KEEP_SIZE, 200_000)] {
        let before = times();
        std::thread::sleep(Duration::from_millis(2));
        raw::allocate(&file, mode, offset, 100).unwrap();
        let now = times();
        assert!(now.0 > before.0 && now.1 > before.1, "mode {mode} at {offset}: {before:?}, {now:?}");
        assert_eq!(file.metadata().unwrap().len(), 100_000);
    }
}

/// Nothing is set aside, but who asks for more than there is learns it at once.
#[test]
fn allocating_more_than_the_disk_has_fails_at_once() {
    let Some(place) = Place::mounted() else { return };
    let file = File::options().write(true).create_new(true).open(place.at("file")).unwrap();
    file.write_all_at(&[7; 1 << 20], 0).unwrap();
    let available = || {
        let found = nix::sys::statvfs::statvfs(&place.mountpoint()).unwrap();
        (found.blocks_available() * found.fragment_size()) as i64
    };
    for mode in [0, libc::FALLOC_FL_KEEP_SIZE] {
        let before = file.metadata().unwrap();
        // More by as much as others may free meanwhile.
        let much = available() * 2 + (1 << 30);
        assert_eq!(errno(raw::allocate(&file, mode, 0, much)), Some(libc::ENOSPC), "mode {mode}");
        let after = file.metadata().unwrap();
        assert_eq!((after.len(), after.mtime_nsec()), (before.len(), before.mtime_nsec()), "mode {mode}");
        raw::allocate(&file, mode, 4096, available() / 2).unwrap();
    }
    assert!(file.metadata().unwrap().len() > 1 << 20 && file.metadata().unwrap().blocks() < 4096);
}

/// chown(-1, -1) left the time of change as it was.
#[test]
fn changing_the_owner_to_nobody_in_particular_counts_as_a_change() {
    let Some(place) = Place::mounted() else { return };
    for path in [place.at("directory"), place.at("file")] {
        match path.ends_with("file") {
            true => fs::write(&path, "x").unwrap(),
            false => fs::create_dir(&path).unwrap(),
        }
        let changed = || {
            let found = fs::metadata(&path).unwrap();
            (found.ctime(), found.ctime_nsec())
        };
        let before = changed();
        std::thread::sleep(Duration::from_millis(2));
        std::os::unix::fs::chown(&path, None, None).unwrap();
        assert!(changed() > before, "{}", path.display());
    }
}

/// It was EINVAL, and then an overlay filesystem takes no mount of FUSE for its upper layer.
#[test]
fn a_renaming_can_leave_a_whiteout() {
    let Some(place) = Place::mounted() else { return };
    fs::create_dir(place.at("to")).unwrap();
    let is_whiteout = |name: &str| {
        let found = fs::symlink_metadata(place.at(name)).unwrap();
        (found.mode(), found.rdev(), found.nlink()) == (libc::S_IFCHR, 0, 1)
    };
    let links = |name: &str| fs::metadata(place.at(name)).unwrap().nlink();
    let leaving = |from: &str, to: &str, flags| {
        raw::rename_with(&place.at(from), &place.at(to), libc::RENAME_WHITEOUT | flags)
    };
    fs::write(place.at("file"), "content").unwrap();
    fs::create_dir(place.at("directory")).unwrap();
    fs::write(place.at("directory/inside"), "inside").unwrap();
    leaving("file", "to/file", 0).unwrap();
    leaving("directory", "to/directory", libc::RENAME_NOREPLACE).unwrap();
    assert!(is_whiteout("file") && is_whiteout("directory"));
    assert_eq!((links("."), links("to")), (3, 3));
    // It is a name like others.
    assert_eq!(errno(leaving("to/file", "file", libc::RENAME_NOREPLACE)), Some(libc::EEXIST));
    assert_eq!(errno(leaving("to/file", "file", libc::RENAME_EXCHANGE)), Some(libc::EINVAL));
    leaving("to/file", "file", 0).unwrap();
    assert!(is_whiteout("to/file"));
    // Two names of one file stay as they are.
    fs::hard_link(place.at("file"), place.at("other")).unwrap();
    leaving("file", "other", 0).unwrap();
    assert_eq!(links("other"), 2);
    place.unmount();
    place.mount(&[]);
    assert!(is_whiteout("to/file") && is_whiteout("directory"));
    assert_eq!(fs::read_to_string(place.at("file")).unwrap(), "content");
    assert_eq!(fs::read_to_string(place.at("to/directory/inside")).unwrap(), "inside");
    fs::remove_file(place.at("directory")).unwrap();
    fs::remove_dir_all(place.at("to")).unwrap();
    eventually("all but one file goes", || place.number("files") == 1);
}

/// Everybody saw the names that only root may read.
#[test]
fn trusted_attributes_are_listed_to_root_alone() {
    let Some(place) = Place::new() else { return };
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    place.mount(&["--allow-other"]);
    let file = place.at("file");
    fs::write(&file, "x").unwrap();
    raw::set_xattr(&file, c"trusted.secret", b"value", 0).unwrap();
    raw::set_xattr(&file, c"user.open", b"value", 0).unwrap();
    let listed = |user: &str| {
        let script = format!(
            "setpriv --reuid={user} --regid={user} --clear-groups getfattr -m - --absolute-names \"$1\""
        );
        super::fixture::text(&super::fixture::shell(&script, &file).stdout)
    };
    let (roots, others) = (listed("0"), listed("1001"));
    assert!(roots.contains("trusted.secret") && roots.contains("user.open"), "{roots}");
    assert!(!others.contains("trusted.secret") && others.contains("user.open"), "{others}");
}

/// Over /dev/fuse they came out a second too early, and less the fraction.
#[test]
fn times_before_1970_keep_their_fraction() {
    let Some(place) = Place::mounted() else { return };
    let file = File::options().write(true).create_new(true).open(place.at("file")).unwrap();
    for (seconds, nanoseconds) in [(-152_672_218, 500_000_000), (-1, 1), (-1, 0), (0, 0), (1, 999_999_999)] {
        let moment = match u64::try_from(seconds) {
            Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds),
            Err(_) => UNIX_EPOCH - Duration::from_secs(i64::unsigned_abs(seconds)),
        } + Duration::from_nanos(nanoseconds);
        file.set_modified(moment).unwrap();
        let found = file.metadata().unwrap();
        assert_eq!((found.mtime(), found.mtime_nsec()), (seconds, nanoseconds as i64));
    }
}
