//! Access control lists: how they are set, what they do to permission bits, whom they let in. `scripts/tests/acl.sh` has the tools' view.

use super::fixture::{Place, shell};
use super::{errno, nameless, raw};
use std::ffi::CStr;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const ACCESS: &CStr = c"system.posix_acl_access";
const DEFAULT: &CStr = c"system.posix_acl_default";

const OWNER: u16 = 1;
const USER: u16 = 2;
const OWNING_GROUP: u16 = 4;
const MASK: u16 = 16;
const OTHERS: u16 = 32;
const NOBODY: u32 = u32::MAX;

fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (who, may, id) in entries {
        bytes.extend([who.to_le_bytes(), may.to_le_bytes()].concat());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// The owner and user 1001 may read and write, nobody else anything.
fn for_two(mask: u16) -> Vec<u8> {
    list(&[
        (OWNER, 6, NOBODY),
        (USER, 6, 1001),
        (OWNING_GROUP, 0, NOBODY),
        (MASK, mask, NOBODY),
        (OTHERS, 0, NOBODY),
    ])
}

/// A mount that others may come into; None where there can't be others.
fn shared() -> Option<Place> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let place = Place::new()?;
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    place.mount(&["--allow-other"]);
    Some(place)
}

/// Whether a user of no other group can do this to the path.
fn can(user: u32, command: &str, path: &Path) -> bool {
    let script = format!("setpriv --reuid={user} --regid={user} --clear-groups {command} \"$1\" </dev/null");
    shell(&script, path).status.success()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn access_control_lists_are_enforced() {
    let Some(place) = shared() else { return };
    let file = place.at("file");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let seen = || [1001, 1002].map(|user| [can(user, "cat", &file), can(user, "tee -a", &file)]);
    assert_eq!(seen(), [[false, false], [false, false]]);
    raw::set_xattr(&file, ACCESS, &for_two(6), 0).unwrap();
    assert_eq!((mode(&file), seen()), (0o660, [[true, true], [false, false]]));
    // Changing the mode changes the mask, and so what is let in.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(raw::get_xattr(&file, ACCESS, 100).unwrap().1, for_two(4));
    assert_eq!(seen(), [[true, false], [false, false]]);
    place.unmount();
    place.mount(&["--allow-other"]);
    assert_eq!((mode(&file), seen()), (0o640, [[true, false], [false, false]]));
    assert_eq!(raw::list_xattr(&file, 100).unwrap().1, [ACCESS.to_bytes(), b"\0"].concat());
    // Without it, the bits that stand there count.
    raw::remove_xattr(&file, ACCESS).unwrap();
    assert_eq!((mode(&file), seen()), (0o640, [[false, false], [false, false]]));
    assert_eq!(errno(raw::get_xattr(&file, ACCESS, 100)), Some(libc::ENODATA));
}

#[test]
fn a_list_that_says_no_more_than_a_mode_is_a_mode() {
    let Some(place) = Place::mounted() else { return };
    let file = place.at("file");
    fs::write(&file, "x").unwrap();
    let plain = list(&[(OWNER, 7, NOBODY), (OWNING_GROUP, 5, NOBODY), (OTHERS, 1, NOBODY)]);
    raw::set_xattr(&file, ACCESS, &for_two(6), 0).unwrap();
    raw::set_xattr(&file, ACCESS, &plain, 0).unwrap();
    assert_eq!(mode(&file), 0o751);
    assert_eq!(raw::list_xattr(&file, 100).unwrap().0, 0);
}

#[test]
fn wrong_lists_are_refused() {
    let Some(place) = Place::mounted() else { return };
    let (file, directory) = (place.at("file"), place.at("directory"));
    fs::write(&file, "x").unwrap();
    fs::create_dir(&directory).unwrap();
    let without_mask =
        list(&[(OWNER, 6, NOBODY), (USER, 6, 1001), (OWNING_GROUP, 0, NOBODY), (OTHERS, 0, NOBODY)]);
    let cut = &for_two(6)[..20];
    for wrong in [&without_mask[..], cut, &for_two(8)] {
        assert_eq!(errno(raw::set_xattr(&file, ACCESS, wrong, 0)), Some(libc::EINVAL), "{wrong:?}");
        assert_eq!(errno(raw::set_xattr(&directory, DEFAULT, wrong, 0)), Some(libc::EINVAL), "{wrong:?}");
    }
    assert_eq!(errno(raw::set_xattr(&file, DEFAULT, &for_two(6), 0)), Some(libc::EACCES));
    // None is there, and none it is to be.
    raw::remove_xattr(&file, ACCESS).unwrap();
    raw::remove_xattr(&directory, DEFAULT).unwrap();
}

#[test]
fn a_default_list_counts_instead_of_the_umask() {
    let Some(place) = Place::mounted() else { return };
    let (plain, heir) = (place.at("plain"), place.at("heir"));
    fs::create_dir(&plain).unwrap();
    fs::create_dir(&heir).unwrap();
    raw::set_xattr(&heir, DEFAULT, &for_two(6), 0).unwrap();
    let make = "cd \"$1\" && umask 027 && : >file && mkdir directory && mknod pipe p && ln -s file link";
    for directory in [&plain, &heir] {
        assert!(shell(make, directory).status.success());
    }
    let modes = |directory: &Path| ["file", "directory", "pipe"].map(|name| mode(&directory.join(name)));
    assert_eq!(modes(&plain), [0o640, 0o750, 0o640]);
    assert_eq!(modes(&heir), [0o660, 0o660, 0o660]);
    for name in ["file", "directory", "pipe"] {
        assert_eq!(raw::get_xattr(&heir.join(name), ACCESS, 100).unwrap().1, for_two(6), "{name}");
        let default = raw::get_xattr(&heir.join(name), DEFAULT, 100);
        match name {
            "directory" => assert_eq!(default.unwrap().1, for_two(6)),
            _ => assert_eq!(errno(default), Some(libc::ENODATA), "{name}"),
        }
    }
    // What asks for less gets less.
    File::options().write(true).create_new(true).mode(0o600).open(heir.join("less")).unwrap();
    assert_eq!(mode(&heir.join("less")), 0o600);
    assert_eq!(raw::get_xattr(&heir.join("less"), ACCESS, 100).unwrap().1, for_two(0));
}

/// Who isn't of the group can't leave it a program that runs with the group's rights.
#[test]
fn a_strangers_list_takes_set_group_id_away() {
    let Some(place) = shared() else { return };
    let file = place.at("file");
    let script = "setpriv --reuid=1001 --regid=1001 --clear-groups setfattr -n system.posix_acl_access -v 0x";
    for (group, expected) in [(1001, 0o2755), (2002, 0o755)] {
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::chown(&file, Some(1001), Some(group)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o2755)).unwrap();
        let plain = list(&[(OWNER, 7, NOBODY), (OWNING_GROUP, 5, NOBODY), (OTHERS, 5, NOBODY)]);
        let hexadecimal: String = plain.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(shell(&format!("{script}{hexadecimal} \"$1\""), &file).status.success());
        assert_eq!(mode(&file), expected, "group {group}");
    }
}

#[test]
fn a_file_that_is_born_without_a_name_starts_with_the_default_list() {
    let Some(place) = shared() else { return };
    let directory = place.at("directory");
    fs::create_dir(&directory).unwrap();
    raw::set_xattr(&directory, DEFAULT, &for_two(6), 0).unwrap();
    let file = match nameless::nameless(&directory, 0) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return println!("SKIPPED: O_TMPFILE over /dev/fuse");
        }
        file => file.unwrap(),
    };
    nameless::name(&file, &directory.join("name")).unwrap();
    assert_eq!(mode(&directory.join("name")), 0o640);
    assert_eq!(raw::get_xattr(&directory.join("name"), ACCESS, 100).unwrap().1, for_two(4));
}
