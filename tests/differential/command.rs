//! What a history is made of, and how one is made up from a seed. A command never depends on what an earlier one returned, so that a
//! history stays one when commands are taken out.

use std::ffi::CString;

pub struct Random(u64);
impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
    fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize].clone()
    }
}

/// A path or a part of one, shown as text.
#[derive(Clone)]
pub struct Name(pub Vec<u8>);
impl std::ops::Deref for Name {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
impl std::fmt::Debug for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "\"{}\"", self.0.escape_ascii())
    }
}

pub type Slot = usize;
/// How many files a history has open at once.
pub const SLOTS: usize = 6;
/// Users with their groups, the first of which is the one of new files.
pub const USERS: [(u32, &[u32]); 4] =
    [(0, &[0]), (1001, &[2001, 2002]), (1002, &[2002]), (1003, &[2003, 2001])];

#[derive(Clone, Debug)]
pub enum Operation {
    Open {
        slot: Slot,
        path: Name,
        flags: i32,
        mode: u32,
    },
    Close {
        slot: Slot,
    },
    Read {
        slot: Slot,
        length: usize,
    },
    ReadAt {
        slot: Slot,
        length: usize,
        offset: i64,
    },
    Write {
        slot: Slot,
        length: usize,
        fill: u8,
    },
    WriteAt {
        slot: Slot,
        length: usize,
        fill: u8,
        offset: i64,
    },
    Seek {
        slot: Slot,
        offset: i64,
        whence: i32,
    },
    SeekContent {
        slot: Slot,
        offset: i64,
        hole: bool,
    },
    TruncateOpen {
        slot: Slot,
        length: i64,
    },
    Truncate {
        path: Name,
        length: i64,
    },
    Allocate {
        slot: Slot,
        mode: i32,
        offset: i64,
        length: i64,
    },
    CopyRange {
        from: Slot,
        from_offset: i64,
        to: Slot,
        to_offset: i64,
        length: usize,
    },
    Sync {
        slot: Slot,
    },
    Link {
        from: Name,
        to: Name,
        follow: bool,
    },
    Symlink {
        target: Name,
        path: Name,
    },
    Readlink {
        path: Name,
    },
    Rename {
        from: Name,
        to: Name,
        flags: u32,
    },
    Unlink {
        path: Name,
    },
    MakeDirectory {
        path: Name,
        mode: u32,
    },
    RemoveDirectory {
        path: Name,
    },
    MakeNode {
        path: Name,
        mode: u32,
        device: u64,
    },
    ChangeMode {
        path: Name,
        mode: u32,
    },
    ChangeModeOpen {
        slot: Slot,
        mode: u32,
    },
    ChangeOwner {
        path: Name,
        user: u32,
        group: u32,
        follow: bool,
    },
    SetTimes {
        path: Name,
        times: [(i64, i64); 2],
        follow: bool,
    },
    SetXattr {
        path: Name,
        name: CString,
        length: usize,
        fill: u8,
        flags: i32,
    },
    /// An access control list, the default one of a directory or the other.
    SetAcl {
        path: Name,
        default: bool,
        list: Vec<u8>,
    },
    GetXattr {
        path: Name,
        name: CString,
        room: usize,
    },
    ListXattr {
        path: Name,
        room: usize,
    },
    RemoveXattr {
        path: Name,
        name: CString,
    },
    List {
        path: Name,
    },
    Stat {
        path: Name,
        follow: bool,
    },
    Umask {
        mask: u32,
    },
    /// The whole tree, with contents.
    Tree,
}

#[derive(Clone, Debug)]
pub struct Command {
    /// Index into [`USERS`].
    pub user: usize,
    /// Let a moment pass before it, and look which times it changes.
    pub patient: bool,
    pub operation: Operation,
}

/// A history; the same seed makes the same one.
pub fn history(seed: u64, length: usize) -> Vec<Command> {
    let mut random = Random::new(seed);
    let mut commands: Vec<Command> = (1..length).map(|_| command(&mut random)).collect();
    commands.push(Command { user: 0, patient: false, operation: Operation::Tree });
    commands
}

fn command(random: &mut Random) -> Command {
    let user = if random.below(10) < 5 { 0 } else { 1 + random.below(3) as usize };
    let patient = random.one_in(40);
    Command { user, patient, operation: operation(random) }
}

fn name(random: &mut Random) -> Vec<u8> {
    match random.below(100) {
        0 => vec![b'n'; 255],
        1 => vec![b'n'; 256],
        2 => b"\xff\xfe\n \\*".to_vec(),
        3 => b".".to_vec(),
        4 => b"..".to_vec(),
        5..=12 => random.one_of(&[b"e".to_vec(), b"f".to_vec(), b"g".to_vec()]),
        _ => random.one_of(&[b"a".to_vec(), b"b".to_vec(), b"c".to_vec(), b"d".to_vec()]),
    }
}

fn path(random: &mut Random) -> Name {
    if random.one_in(150) {
        return Name(match random.below(4) {
            0 => Vec::new(),
            1 => b"/".to_vec(),
            // The longest path, and one more.
            exact => [b"./".repeat(2047), if exact == 2 { b"a".to_vec() } else { b"ab".to_vec() }].concat(),
        });
    }
    let depth = random.one_of(&[1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4]);
    let levels: Vec<Vec<u8>> = (0..depth).map(|_| name(random)).collect();
    let before: &[u8] = if random.one_in(10) { b"/" } else { b"" };
    let behind: &[u8] = if random.one_in(50) { b"/" } else { b"" };
    Name([before, &levels.join(&b'/'), behind].concat())
}

fn mode(random: &mut Random) -> u32 {
    let usual =
        random.one_of(&[0o644, 0o755, 0o777, 0o600, 0o666, 0o700, 0o000, 0o070, 0o007, 0o2755, 0o1777]);
    let mode = if random.one_in(4) { random.below(0o10000) as u32 } else { usual };
    // Set-group-ID of what its group may not execute goes when a stranger to the group writes; requests of FUSE don't tell all groups of who
    // writes, so there it also goes when a member does.
    if mode & 0o2000 != 0 { mode | 0o010 } else { mode }
}

/// A mode from which a mask will be taken.
fn new_mode(random: &mut Random) -> u32 {
    mode(random) & !0o2000
}

/// A change of owner. Never one of nothing: when a stranger asks for that, of a file with set-id bits, a request of FUSE looks as if it came
/// from a write, and can't be refused.
fn owner(random: &mut Random) -> (u32, u32) {
    let (user, group) =
        (random.one_of(&[u32::MAX, 0, 1001, 1002]), random.one_of(&[u32::MAX, 0, 2001, 2002, 2003]));
    if (user, group) == (u32::MAX, u32::MAX) { (user, 2001) } else { (user, group) }
}

fn size(random: &mut Random) -> i64 {
    match random.below(20) {
        0 => 0,
        1 => random.one_of(&[4096, 16384, 16383, 16385, 32768, 65536]),
        2 => 1 << 33,
        3 => random.one_of(&[-1, i64::MIN, 1]),
        4..=12 => random.below(9000) as i64,
        _ => random.below(100_000) as i64,
    }
}

fn offset(random: &mut Random) -> i64 {
    if random.one_in(3) { random.below(200) as i64 } else { size(random) }
}

fn length(random: &mut Random) -> usize {
    match random.below(10) {
        0 => 0,
        1 => random.one_of(&[4096, 16384, 16385]),
        2 => random.below(150_000) as usize,
        _ => random.below(5000) as usize,
    }
}

fn open_flags(random: &mut Random) -> i32 {
    let mut flags =
        libc::O_NONBLOCK | random.one_of(&[libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_RDWR]);
    let mut sometimes = |flag, count| {
        if random.one_in(count) {
            flags |= flag;
        }
    };
    sometimes(libc::O_CREAT, 2);
    sometimes(libc::O_EXCL, 6);
    sometimes(libc::O_TRUNC, 6);
    sometimes(libc::O_APPEND, 5);
    sometimes(libc::O_NOFOLLOW, 12);
    sometimes(libc::O_DIRECTORY, 20);
    sometimes(libc::O_PATH, 30);
    sometimes(libc::O_NOATIME, 30);
    sometimes(libc::O_DSYNC, 200);
    flags
}

fn times(random: &mut Random) -> [(i64, i64); 2] {
    [(); 2].map(|()| match random.below(10) {
        0 => (0, libc::UTIME_NOW),
        1 => (0, libc::UTIME_OMIT),
        2 => (5, 1_000_000_000),
        _ => (random.below(900_000_000) as i64, random.below(1_000_000_000) as i64),
    })
}

fn xattr(random: &mut Random) -> CString {
    let name: &[u8] = match random.below(24) {
        0 => b"nothing.known",
        1 => b"user.",
        2 => b"trusted.t",
        3 => b"security.s",
        4 => b"user",
        5 => return CString::new([&b"user."[..], &[b'x'; 250]].concat()).unwrap(),
        6 => return CString::new([&b"user."[..], &[b'x'; 251]].concat()).unwrap(),
        7 => return acl_name(random.one_in(2)),
        8..=13 => b"user.b",
        _ => b"user.a",
    };
    CString::new(name).unwrap()
}

/// The attribute that an access control list is set through.
pub fn acl_name(default: bool) -> CString {
    CString::from(if default { c"system.posix_acl_default" } else { c"system.posix_acl_access" })
}

/// An access control list of some entries, seldom a wrong one. The group's class may always execute, for the same reason as in a mode.
fn acl(random: &mut Random) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let mut may = |always: u64| (random.below(8) | always) as u16;
    let mut entries = vec![(1, may(0), NOBODY), (4, may(1), NOBODY), (32, may(0), NOBODY)];
    for (who, ids) in [(2, [1001, 1002, 1003]), (8, [2001, 2002, 2003])] {
        for id in ids {
            if random.one_in(4) {
                entries.push((who, random.below(8) as u16, id));
            }
        }
    }
    if entries.len() > 3 || random.one_in(4) {
        entries.push((16, random.below(8) as u16 | 1, NOBODY));
    }
    entries.sort_unstable();
    match random.below(30) {
        0 => drop(entries.pop()),
        1 => entries.swap(0, 1),
        2 => entries.retain(|(who, ..)| *who != 16),
        3 => entries.clear(),
        4 => entries[0].1 = 8,
        _ => {}
    }
    let bytes = entries.iter().flat_map(|(who, may, id): &(u16, u16, u32)| {
        who.to_le_bytes().into_iter().chain(may.to_le_bytes()).chain(id.to_le_bytes())
    });
    [2, 0, 0, 0].into_iter().chain(bytes).collect()
}

fn operation(random: &mut Random) -> Operation {
    let slot = random.below(SLOTS as u64) as Slot;
    let fill = random.below(255) as u8 + 1;
    match random.below(108) {
        0..=13 => {
            Operation::Open { slot, path: path(random), flags: open_flags(random), mode: new_mode(random) }
        }
        14..=15 => Operation::Close { slot },
        16..=18 => Operation::Read { slot, length: length(random) },
        19..=21 => Operation::ReadAt { slot, length: length(random), offset: offset(random) },
        22..=27 => Operation::Write { slot, length: length(random), fill },
        28..=33 => Operation::WriteAt { slot, length: length(random), fill, offset: offset(random) },
        34..=35 => {
            let whence = random.one_of(&[libc::SEEK_SET, libc::SEEK_CUR, libc::SEEK_END]);
            Operation::Seek { slot, offset: offset(random), whence }
        }
        36..=38 => Operation::SeekContent { slot, offset: offset(random), hole: random.one_in(2) },
        39..=41 => Operation::TruncateOpen { slot, length: size(random) },
        42..=43 => Operation::Truncate { path: path(random), length: size(random) },
        44..=47 => {
            let (keep, punch, zero) =
                (libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_PUNCH_HOLE, libc::FALLOC_FL_ZERO_RANGE);
            let mode = random.one_of(&[0, keep, punch, punch | keep, punch | keep, zero, zero | keep]);
            let length = if mode & punch != 0 { size(random) } else { random.below(200_000) as i64 };
            Operation::Allocate { slot, mode, offset: random.below(100_000) as i64, length }
        }
        48..=50 => {
            let to = random.below(SLOTS as u64) as Slot;
            let (from_offset, to_offset) = (offset(random), offset(random));
            Operation::CopyRange { from: slot, from_offset, to, to_offset, length: length(random) }
        }
        51 if random.one_in(10) => Operation::Sync { slot },
        51..=54 => Operation::Link { from: path(random), to: path(random), follow: random.one_in(4) },
        55..=58 => {
            let long = |length| Name(vec![b't'; length]);
            let target = match random.below(40) {
                0 => long(4095),
                1 => long(4096),
                2 => long(60),
                _ => path(random),
            };
            Operation::Symlink { target, path: path(random) }
        }
        59 => Operation::Readlink { path: path(random) },
        60..=67 => {
            const KEEP: u32 = libc::RENAME_NOREPLACE;
            const EXCHANGE: u32 = libc::RENAME_EXCHANGE;
            const WHITEOUT: u32 = libc::RENAME_WHITEOUT;
            let two = random.one_of(&[KEEP | EXCHANGE, WHITEOUT | KEEP, WHITEOUT | EXCHANGE]);
            let flags = random.one_of(&[0, 0, 0, 0, 0, KEEP, EXCHANGE, EXCHANGE, WHITEOUT, two]);
            Operation::Rename { from: path(random), to: path(random), flags }
        }
        68..=71 => Operation::Unlink { path: path(random) },
        72..=78 => Operation::MakeDirectory { path: path(random), mode: mode(random) | 0o700 },
        79..=80 => Operation::RemoveDirectory { path: path(random) },
        81..=82 => {
            let kinds = [libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFREG, libc::S_IFCHR, 0, libc::S_IFDIR];
            let mode = random.one_of(&kinds) | new_mode(random);
            Operation::MakeNode { path: path(random), mode, device: libc::makedev(1, 3) }
        }
        83..=86 => Operation::ChangeMode { path: path(random), mode: mode(random) },
        87 => Operation::ChangeModeOpen { slot, mode: mode(random) },
        88..=90 => {
            let (user, group) = owner(random);
            Operation::ChangeOwner { path: path(random), user, group, follow: random.one_in(2) }
        }
        91..=93 => Operation::SetTimes { path: path(random), times: times(random), follow: random.one_in(2) },
        94..=96 => {
            let flags = random.one_of(&[0, 0, libc::XATTR_CREATE, libc::XATTR_REPLACE]);
            let length = random.below(300) as usize;
            Operation::SetXattr { path: path(random), name: xattr(random), length, fill, flags }
        }
        97 => {
            let room = random.one_of(&[0, 1, 100, 1000]);
            Operation::GetXattr { path: path(random), name: xattr(random), room }
        }
        98 => Operation::ListXattr { path: path(random), room: random.one_of(&[0, 3, 1000]) },
        99 => Operation::RemoveXattr { path: path(random), name: xattr(random) },
        100..=101 => Operation::List { path: path(random) },
        102 if random.one_in(3) => Operation::Umask { mask: random.one_of(&[0, 0, 0, 0o22, 0o27, 0o77]) },
        103 if random.one_in(20) => Operation::Tree,
        105..=107 => {
            let default = random.one_in(2);
            Operation::SetAcl { path: path(random), default, list: acl(random) }
        }
        _ => Operation::Stat { path: path(random), follow: random.one_in(2) },
    }
}
