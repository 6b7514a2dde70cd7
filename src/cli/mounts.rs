//! Which stores are mounted where, by the kernel's table, and who serves them. Asks no mount anything that it might not answer.

use std::path::{Path, PathBuf};

/// The type that the table shows for our mounts.
const TYPE: &str = "fuse.bitkv";

/// A mounted store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mounted {
    /// Where.
    pub(super) mountpoint: PathBuf,
    /// What: the store's directory, unless the one who mounted gave it another name.
    pub(super) source: PathBuf,
}

impl Mounted {
    /// The daemon's process number: who holds the store's lock.
    pub(super) fn daemon(&self) -> Option<u32> {
        holder_of(&self.source)
    }
}

/// All mounted stores, in order of mounting.
pub(super) fn all() -> Vec<Mounted> {
    parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// The store that is mounted on this very directory.
pub(super) fn at(mountpoint: &Path) -> Option<Mounted> {
    all().into_iter().rev().find(|mounted| mounted.mountpoint == mountpoint)
}

/// The store that a path lies in.
pub(super) fn around(path: &Path) -> Option<Mounted> {
    let found = all().into_iter().rev().filter(|mounted| path.starts_with(&mounted.mountpoint));
    found.max_by_key(|mounted| mounted.mountpoint.as_os_str().len())
}

/// The mount of a store's directory.
pub(super) fn of(data: &Path) -> Option<Mounted> {
    all().into_iter().rev().find(|mounted| mounted.source == data)
}

/// The process that has a store open: who holds the lock on its LOCK. What is written there may be left over from an earlier life, and its
/// number be a stranger's by now; and who opens for reading only writes nothing there.
pub(super) fn holder_of(data: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let path = data.join("LOCK");
    let found = std::fs::metadata(&path).ok()?;
    let device = (nix::sys::stat::major(found.dev()), nix::sys::stat::minor(found.dev()));
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    locker(&locks, device, found.ino()).or_else(|| {
        // Some filesystems show other device numbers there.
        let pid: u32 = std::fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        // A zombie has let go of everything; its command line is empty.
        let alive = std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
        (alive && name.contains("bitk")).then_some(pid)
    })
}

/// Who has a whole-file lock on a file, by the kernel's table of locks.
fn locker(locks: &str, (major, minor): (u64, u64), inode: u64) -> Option<u32> {
    let place = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Lines of those who wait have an arrow, and so another word there.
        match words[..] {
            [_, "FLOCK", _, _, pid, at, ..] if at == place => pid.parse().ok(),
            _ => None,
        }
    })
}

/// A path as the table has it: absolute, without symbolic links. The directory itself is looked at by name only, since what is mounted
/// there may be dead, or hang.
pub(super) fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path.canonicalize() };
    let place = parent.canonicalize()?.join(name);
    match std::fs::read_link(&place) {
        Ok(target) => resolve(&place.with_file_name("").join(target)),
        Err(_) => Ok(place),
    }
}

fn parse(table: &str) -> Vec<Mounted> {
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let place = before.split(' ').nth(4)?;
        let mut after = after.split(' ');
        let (kind, source) = (after.next()?, after.next()?);
        let mounted = || Mounted { mountpoint: unescape(place), source: unescape(source) };
        (kind == TYPE).then(mounted)
    };
    table.lines().filter_map(line).collect()
}

/// The table writes blanks and the like as octal numbers.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        match code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_octal_numbers_are_read() {
        assert_eq!(unescape(r"/mnt/a\040b\134c"), Path::new(r"/mnt/a b\c"));
        assert_eq!(unescape(r"/plain\"), Path::new(r"/plain\"));
    }

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:01:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 fe:01:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 fe:01:77 0 EOF\n3: FLOCK  ADVISORY  READ  14 fe:01:78 0 EOF\n";
        assert_eq!(locker(locks, (0xfe, 1), 77), Some(12));
        assert_eq!(locker(locks, (0xfe, 1), 78), Some(14));
        assert_eq!(locker(locks, (0xfe, 2), 77), None);
    }

    #[test]
    fn a_lock_that_nobody_holds_has_no_holder() {
        let place = tempfile::tempdir().unwrap();
        // A process that is there, but is no daemon of ours.
        std::fs::write(place.path().join("LOCK"), "1\n").unwrap();
        assert_eq!(holder_of(place.path()), None);
        let file = std::fs::File::open(place.path().join("LOCK")).unwrap();
        let _locked = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockSharedNonblock).unwrap();
        assert_eq!(holder_of(place.path()), Some(std::process::id()));
    }

    #[test]
    fn only_our_mounts_are_ours() {
        let table = "36 25 0:32 / /mnt/k\\040v rw,nosuid shared:1 - fuse.bitkv /data rw,user_id=0\n\
                     37 25 0:33 / /mnt/other rw - fuse.sshfs host: rw\n\
                     38 25 8:1 / / rw - ext4 /dev/vda rw\nnonsense\n";
        let expected = Mounted { mountpoint: "/mnt/k v".into(), source: "/data".into() };
        assert_eq!(parse(table), [expected]);
    }

    #[test]
    fn symbolic_links_are_followed_without_touching_the_end() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/mnt")).unwrap();
        std::os::unix::fs::symlink("a/mnt", root.join("link")).unwrap();
        std::os::unix::fs::symlink(root.join("a"), root.join("b")).unwrap();
        for name in ["link", "b/mnt", "a/mnt/", "a/../link"] {
            assert_eq!(resolve(&root.join(name)).unwrap(), root.join("a/mnt"), "{name}");
        }
        assert_eq!(resolve(Path::new("/")).unwrap(), Path::new("/"));
    }
}
