//! The filesystem through the kernel: what programs do with files.

#[path = "mount/fixture.rs"]
mod fixture;
#[path = "mount/raw.rs"]
mod raw;

#[path = "mount/acl.rs"]
mod acl;
#[path = "mount/control.rs"]
mod control;
#[path = "mount/life.rs"]
mod life;
#[path = "mount/listing.rs"]
mod listing;
#[path = "mount/nameless.rs"]
mod nameless;
#[path = "mount/posix.rs"]
mod posix;
#[path = "mount/reshard.rs"]
mod reshard;
#[path = "mount/writeback.rs"]
mod writeback;

use fixture::Place;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

/// What a call failed with.
fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn files_are_what_was_written() {
    let Some(place) = Place::mounted() else { return };
    let file = place.at("file");
    fs::write(&file, "hello\n").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "hello\n");
    File::options().append(true).open(&file).unwrap().write_all(b"world\n").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "hello\nworld\n");
    File::options().write(true).open(&file).unwrap().write_all_at(b"J", 0).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "Jello\nworld\n");
    fs::write(&file, "short").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "short");
    let open = File::options().write(true).open(&file).unwrap();
    open.set_len(3_000_000).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), 3_000_000);
    let content = fs::read(&file).unwrap();
    assert!(content.starts_with(b"short\0") && content[5..].iter().all(|byte| *byte == 0));
    open.set_len(2).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "sh");
    assert_eq!(errno(File::options().write(true).create_new(true).open(&file)), Some(libc::EEXIST));
    fs::remove_file(&file).unwrap();
    assert_eq!(errno(fs::metadata(&file)), Some(libc::ENOENT));
    assert_eq!(errno(fs::write(place.at(&"n".repeat(256)), "x")), Some(libc::ENAMETOOLONG));
    fs::write(place.at(&"n".repeat(255)), "x").unwrap();
}

#[test]
fn a_large_file_is_the_same_after_a_remount() {
    let Some(place) = Place::mounted() else { return };
    let content: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut file = File::create(place.at("large")).unwrap();
    for piece in content.chunks(77_777) {
        file.write_all(piece).unwrap();
    }
    file.sync_all().unwrap();
    drop(file);
    assert!(fs::read(place.at("large")).unwrap() == content);
    place.unmount();
    place.mount(&[]);
    assert!(fs::read(place.at("large")).unwrap() == content);
    let mut file = File::open(place.at("large")).unwrap();
    file.seek(SeekFrom::Start(4_999_990)).unwrap();
    let mut end = Vec::new();
    file.read_to_end(&mut end).unwrap();
    assert_eq!(end, content[4_999_990..]);
}

#[test]
fn directories_and_renames() {
    let Some(place) = Place::mounted() else { return };
    fs::create_dir_all(place.at("a/b/c")).unwrap();
    assert_eq!(fs::metadata(place.at("a")).unwrap().nlink(), 3);
    fs::write(place.at("a/one"), "1").unwrap();
    fs::write(place.at("two"), "2").unwrap();
    fs::rename(place.at("a/one"), place.at("a/b/c/moved")).unwrap();
    fs::rename(place.at("two"), place.at("a/b/c/moved")).unwrap();
    assert_eq!(fs::read_to_string(place.at("a/b/c/moved")).unwrap(), "2");
    assert_eq!(errno(fs::remove_dir(place.at("a/b/c"))), Some(libc::ENOTEMPTY));
    assert_eq!(errno(fs::rename(place.at("a"), place.at("a/b/inside"))), Some(libc::EINVAL));
    fs::write(place.at("x"), "x").unwrap();
    fs::write(place.at("y"), "y").unwrap();
    let flags = |flags| raw::rename_with(&place.at("x"), &place.at("y"), flags);
    assert_eq!(errno(flags(libc::RENAME_NOREPLACE)), Some(libc::EEXIST));
    flags(libc::RENAME_EXCHANGE).unwrap();
    assert_eq!(fs::read_to_string(place.at("x")).unwrap(), "y");
    fs::remove_dir_all(place.at("a")).unwrap();
    assert_eq!(fs::metadata(place.mountpoint()).unwrap().nlink(), 2);
}

#[test]
fn links_and_files_without_a_name() {
    let Some(place) = Place::mounted() else { return };
    fs::write(place.at("file"), "content").unwrap();
    fs::hard_link(place.at("file"), place.at("other")).unwrap();
    assert_eq!(fs::metadata(place.at("file")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(place.at("file")).unwrap().ino(), fs::metadata(place.at("other")).unwrap().ino());
    symlink("file", place.at("soft")).unwrap();
    assert_eq!(fs::read_link(place.at("soft")).unwrap().to_str(), Some("file"));
    assert_eq!(fs::read_to_string(place.at("soft")).unwrap(), "content");
    let mut open = File::options().read(true).write(true).open(place.at("file")).unwrap();
    fs::remove_file(place.at("file")).unwrap();
    assert_eq!(fs::metadata(place.at("other")).unwrap().nlink(), 1);
    fs::remove_file(place.at("other")).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    open.write_all_at(b"CON", 0).unwrap();
    let mut content = String::new();
    open.read_to_string(&mut content).unwrap();
    assert_eq!(content, "CONtent");
    assert_eq!(errno(fs::metadata(place.at("soft"))), Some(libc::ENOENT));
    drop(open);
    fixture::eventually("the file without a name goes", || place.number("files") == 1);
}

#[test]
fn permissions_and_times() {
    let Some(place) = Place::mounted() else { return };
    fs::write(place.at("file"), "x").unwrap();
    fs::set_permissions(place.at("file"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(fs::metadata(place.at("file")).unwrap().mode() & 0o7777, 0o640);
    let moment = std::time::UNIX_EPOCH + std::time::Duration::new(981_173_106, 789_012_345);
    let file = File::options().write(true).open(place.at("file")).unwrap();
    file.set_modified(moment).unwrap();
    drop(file);
    assert_eq!(fs::metadata(place.at("file")).unwrap().modified().unwrap(), moment);
    place.unmount();
    place.mount(&[]);
    let found = fs::metadata(place.at("file")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.modified().unwrap()), (0o640, moment));
}

#[test]
fn a_long_listing_has_each_name_once() {
    let Some(place) = Place::mounted() else { return };
    // More than fit into one reply, with and without attributes.
    let names: BTreeSet<String> = (0..3000).map(|n| format!("a name that takes some room {n}")).collect();
    fs::create_dir(place.at("many")).unwrap();
    for name in &names {
        fs::write(place.at("many").join(name), name).unwrap();
    }
    let list = || -> Vec<String> {
        let entries = fs::read_dir(place.at("many")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let check = |listed: Vec<String>| {
        assert_eq!(listed.len(), names.len());
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), names);
    };
    check(list());
    place.unmount();
    place.mount(&[]);
    // With attributes: the kernel asks for them when the first are looked at.
    let listed = fs::read_dir(place.at("many")).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert_eq!(entry.metadata().unwrap().len(), name.len() as u64);
        name
    });
    check(listed.collect());
    let all = fixture::shell("ls -a \"$1\" | head -n 2", &place.at("many"));
    assert_eq!(fixture::text(&all.stdout), ".\n..\n");
    // Names go while they are listed.
    for (count, entry) in fs::read_dir(place.at("many")).unwrap().enumerate() {
        if count % 2 == 0 {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    assert_eq!(list().len(), names.len() / 2);
}

#[test]
fn extended_attributes() {
    let Some(place) = Place::mounted() else { return };
    let file = place.at("file");
    fs::write(&file, "x").unwrap();
    let name = c"user.colour";
    assert_eq!(errno(raw::get_xattr(&file, name, 100)), Some(libc::ENODATA));
    assert_eq!(errno(raw::set_xattr(&file, name, b"no", libc::XATTR_REPLACE)), Some(libc::ENODATA));
    raw::set_xattr(&file, name, b"blue", 0).unwrap();
    assert_eq!(errno(raw::set_xattr(&file, name, b"no", libc::XATTR_CREATE)), Some(libc::EEXIST));
    assert_eq!(raw::get_xattr(&file, name, 100).unwrap(), (4, b"blue".to_vec()));
    assert_eq!(raw::get_xattr(&file, name, 0).unwrap().0, 4);
    assert_eq!(errno(raw::get_xattr(&file, name, 3)), Some(libc::ERANGE));
    raw::set_xattr(&file, c"user.empty", b"", 0).unwrap();
    assert_eq!(raw::get_xattr(&file, c"user.empty", 100).unwrap(), (0, Vec::new()));
    let (length, names) = raw::list_xattr(&file, 1000).unwrap();
    let listed: BTreeSet<&[u8]> = names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    assert_eq!(listed, BTreeSet::from([&b"user.colour"[..], b"user.empty"]));
    assert_eq!(raw::list_xattr(&file, 0).unwrap().0, length);
    assert_eq!(errno(raw::list_xattr(&file, length - 1)), Some(libc::ERANGE));
    raw::remove_xattr(&file, name).unwrap();
    assert_eq!(errno(raw::remove_xattr(&file, name)), Some(libc::ENODATA));
}

#[test]
fn mappings_holes_and_what_cannot_be() {
    let Some(place) = Place::mounted() else { return };
    let path = place.at("file");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.set_len(100_000).unwrap();
    raw::change_mapped(&file, 100_000, |bytes| bytes[50_000..50_007].copy_from_slice(b"mapping")).unwrap();
    assert_eq!(fs::read(&path).unwrap()[50_000..50_007], *b"mapping");
    file.write_all_at(b"written", 50_000).unwrap();
    raw::change_mapped(&file, 100_000, |bytes| assert_eq!(bytes[50_000..50_007], *b"written")).unwrap();

    let sparse = File::create(place.at("sparse")).unwrap();
    sparse.write_all_at(b"end", 10 << 20).unwrap();
    if !fixture::holds_back() {
        assert_eq!(raw::seek(&sparse, 0, libc::SEEK_HOLE).unwrap(), 0);
        assert!(raw::seek(&sparse, 0, libc::SEEK_DATA).unwrap() > 9 << 20);
    }
    assert!(sparse.metadata().unwrap().blocks() < 1000);
    raw::allocate(&sparse, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 10 << 20, 3).unwrap();
    assert_eq!(sparse.metadata().unwrap().len(), (10 << 20) + 3);
    assert_eq!(
        errno(raw::allocate(&sparse, libc::FALLOC_FL_COLLAPSE_RANGE, 0, 4096)),
        Some(libc::EOPNOTSUPP)
    );
    assert_eq!(raw::ioctl_error(&file), Some(libc::ENOTTY));

    fs::copy(&path, place.at("copy")).unwrap();
    assert!(fs::read(place.at("copy")).unwrap() == fs::read(&path).unwrap());
}

#[test]
fn the_space_is_that_of_the_disk_below() {
    let Some(place) = Place::mounted() else { return };
    let space = |path| nix::sys::statvfs::statvfs(path).unwrap();
    let (ours, below) = (space(&place.mountpoint()), space(&place.data()));
    assert_eq!(ours.blocks() * ours.fragment_size(), below.blocks() * below.fragment_size());
    assert_eq!(ours.name_max(), 255);
    assert!(ours.blocks_available() > 0);
}

/// Names that aren't there are kept by the kernel as well: asking again costs no request.
#[test]
fn the_kernel_asks_once() {
    let Some(place) = Place::mounted() else { return };
    fs::write(place.at("file"), "x").unwrap();
    let operations = || {
        let table = fs::read_to_string(place.control("partitions")).unwrap();
        let column = |row: &str| row.split('\t').nth(4).unwrap().parse::<u64>().unwrap();
        table.lines().skip(1).map(column).sum::<u64>() + place.number("gets") + place.number("misses")
    };
    let ask = || {
        for _ in 0..500 {
            assert!(!place.at("nothing").exists() && fs::metadata(place.at("file")).unwrap().len() == 1);
        }
    };
    ask();
    let before = operations();
    ask();
    // What goes on by itself needs a few.
    assert!(operations() - before < 100, "{} operations for what the kernel knows", operations() - before);
}
