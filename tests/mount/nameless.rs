//! Files that are born without a name (O_TMPFILE).

use super::errno;
use super::fixture::{Place, bitkv, eventually, is_alive, signal, text};
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

pub fn nameless(directory: &Path, more: i32) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o640).custom_flags(libc::O_TMPFILE | more).open(directory)
}

pub fn name(file: &File, path: &Path) -> io::Result<()> {
    let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(nix::unistd::linkat(AT_FDCWD, descriptor.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?)
}

/// A mount over the ring; over /dev/fuse there are no such files, which is all that is checked there.
fn mounted() -> Option<Place> {
    let place = Place::mounted()?;
    fs::create_dir(place.at("directory")).unwrap();
    if fs::read_to_string(place.control("stats")).unwrap().ends_with("transport: ring\n") {
        return Some(place);
    }
    assert_eq!(errno(nameless(&place.at("directory"), 0)), Some(libc::EOPNOTSUPP));
    println!("SKIPPED: O_TMPFILE over /dev/fuse");
    None
}

fn check(place: &Place) {
    let output = bitkv(&[&"fsck", &place.data()]);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn a_file_is_given_its_name_when_it_is_finished() {
    let Some(place) = mounted() else { return };
    let directory = place.at("directory");
    // One that stays in its record, and one of many chunks; several, so that name and inode lie in different partitions too.
    for (number, length) in (0..16).flat_map(|number| [(number, 10), (number, 300_000)]) {
        let path = directory.join(format!("file{number} of {length}"));
        let mut file = nameless(&directory, 0).unwrap();
        file.write_all(&vec![b'a' + number; length]).unwrap();
        let found = file.metadata().unwrap();
        assert_eq!((found.nlink(), found.len(), found.mode() & 0o7777), (0, length as u64, 0o640));
        assert_eq!(fs::metadata(&directory).unwrap().nlink(), 2);
        name(&file, &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), found.ino());
        assert_eq!((file.metadata().unwrap().nlink(), fs::metadata(&path).unwrap().nlink()), (1, 1));
        // From now on it is a file as any other.
        name(&file, &directory.join("other")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 2);
        fs::remove_file(directory.join("other")).unwrap();
        assert_eq!(errno(name(&file, &path)), Some(libc::EEXIST));
    }
    assert_eq!((place.number("orphans"), place.number("files")), (0, 32));
    place.unmount();
    check(&place);
    place.mount(&[]);
    for (number, length) in (0..16).flat_map(|number| [(number, 10), (number, 300_000)]) {
        let content = fs::read(directory.join(format!("file{number} of {length}"))).unwrap();
        assert!(content == vec![b'a' + number; length]);
    }
}

#[test]
fn what_may_not_be_given_a_name() {
    let Some(place) = mounted() else { return };
    let directory = place.at("directory");
    let exclusive = nameless(&directory, libc::O_EXCL).unwrap();
    assert_eq!(errno(name(&exclusive, &directory.join("exclusive"))), Some(libc::ENOENT));
    let removed = nameless(&directory, 0).unwrap();
    name(&removed, &directory.join("name")).unwrap();
    fs::remove_file(directory.join("name")).unwrap();
    assert_eq!(errno(name(&removed, &directory.join("again"))), Some(libc::ENOENT));
    assert_eq!(removed.metadata().unwrap().nlink(), 0);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    assert_eq!(errno(nameless(&place.at(".bitkv"), 0)), Some(libc::EPERM));
    assert_eq!(place.number("orphans"), 2);
    drop((exclusive, removed));
    eventually("files without a name go", || place.number("orphans") == 0 && place.number("files") == 0);
    // It isn't in the way of removing the directory that it was made in.
    let file = nameless(&directory, 0).unwrap();
    fs::remove_dir(&directory).unwrap();
    file.write_all_at(b"still here", 0).unwrap();
    assert_eq!(errno(name(&file, &directory.join("name"))), Some(libc::ENOENT));
    name(&file, &place.at("name")).unwrap();
    assert_eq!(fs::read_to_string(place.at("name")).unwrap(), "still here");
    drop(file);
    place.unmount();
    check(&place);
}

#[test]
fn a_crash_takes_what_has_no_name() {
    let Some(place) = mounted() else { return };
    let directory = place.at("directory");
    let left: Vec<File> = (0..8).map(|_| nameless(&directory, 0).unwrap()).collect();
    left.iter().for_each(|mut file| file.write_all(&vec![7; 100_000]).unwrap());
    let named = nameless(&directory, 0).unwrap();
    named.write_all_at(b"named", 0).unwrap();
    name(&named, &directory.join("name")).unwrap();
    let daemon = place.daemon();
    signal(daemon, Signal::SIGKILL);
    eventually("the daemon dies", || !is_alive(daemon));
    drop((left, named));
    nix::mount::umount2(&place.mountpoint(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    check(&place);
    place.mount(&[]);
    eventually("they are reclaimed", || place.number("orphans") == 0);
    assert_eq!((place.number("files"), place.number("orphans_reclaimed")), (1, 8));
    assert_eq!(fs::read_to_string(directory.join("name")).unwrap(), "named");
    place.unmount();
    check(&place);
}
