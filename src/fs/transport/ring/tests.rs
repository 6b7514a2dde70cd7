//! Golden bytes of requests and replies, and bytes that are neither.

use super::encode::{self, FOR_EVER, Filling};
use super::wire::{self, Header, Request};
use crate::fs::errno::Errno;
use crate::fs::transport::dispatch::Opened;
use crate::fs::transport::request::Listing;
use crate::fs::types::*;

/// Bytes written as numbers of 4 and 8 bytes, one behind the other.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn words(mut self, words: &[u32]) -> Self {
        words.iter().for_each(|word| self.0.extend(word.to_ne_bytes()));
        self
    }

    fn longs(mut self, longs: &[u64]) -> Self {
        longs.iter().for_each(|long| self.0.extend(long.to_ne_bytes()));
        self
    }
}

fn decode(opcode: u32, operation: Bytes, rest: &[u8]) -> Result<String, Errno> {
    let mut operation = operation.0;
    operation.resize(wire::OPERATION_BYTES_MAX, 0);
    wire::request(opcode, &operation, rest).map(|request| format!("{request:?}"))
}

fn is(opcode: u32, operation: Bytes, rest: &[u8], expected: Request) {
    assert_eq!(decode(opcode, operation, rest), Ok(format!("{expected:?}")), "opcode {opcode}");
}

fn none() -> Bytes {
    Bytes::default()
}

fn new(kind: Kind, permissions: u16, device: u32) -> NewInode {
    NewInode { kind, permissions, umask: 0, device, target: Vec::new() }
}

#[test]
fn a_header_has_its_numbers_where_the_kernel_puts_them() {
    let bytes = none().words(&[40, 26]).longs(&[7, 99]).words(&[1000, 100, 4242, 0]).0;
    let caller = Caller { uid: 1000, gid: 100 };
    let expected = Header { opcode: 26, unique: 7, inode: Inode(99), caller };
    assert_eq!(wire::header(&bytes), Ok(expected));
    assert_eq!(wire::header(&bytes[..39]), Err(Errno::EINVAL));
}

#[test]
fn names_and_what_is_made_of_them() {
    let name = b"name".to_vec();
    is(1, none(), b"name\0", Request::Lookup { name: name.clone() });
    is(10, none(), b"name\0", Request::Unlink { name: name.clone() });
    is(11, none(), b"name\0", Request::RemoveDirectory { name: name.clone() });
    let masked = |new: NewInode| NewInode { umask: 0o22, ..new };
    let fifo = none().words(&[libc::S_IFIFO | 0o640, 0x0801, 0o22, 0]);
    is(8, fifo, b"name\0", Request::Make { name: name.clone(), new: masked(new(Kind::Fifo, 0o640, 0x0801)) });
    let directory = none().words(&[libc::S_IFDIR | 0o1755, 0o22]);
    is(
        9,
        directory,
        b"name\0",
        Request::Make { name: name.clone(), new: masked(new(Kind::Directory, 0o1755, 0)) },
    );
    let file = none().words(&[libc::O_RDWR as u32, libc::S_IFREG | 0o4711, 0o22, 0]);
    is(35, file, b"name\0", Request::Create { name: name.clone(), new: masked(new(Kind::File, 0o4711, 0)) });
    let nameless = none().words(&[(libc::O_TMPFILE | libc::O_RDWR) as u32, libc::S_IFREG | 0o600, 0o22, 0]);
    is(51, nameless, b"/\0", Request::CreateNameless { new: masked(new(Kind::File, 0o600, 0)) });
    let link = NewInode { target: b"to".to_vec(), ..new(Kind::Symlink, 0o777, 0) };
    is(6, none(), b"name\0to\0", Request::Make { name: name.clone(), new: link });
    is(13, none().longs(&[5]), b"name\0", Request::Link { inode: Inode(5), name: name.clone() });
    let renamed =
        |mode| Request::Rename { name: name.clone(), new_parent: Inode(9), new_name: b"new".to_vec(), mode };
    is(12, none().longs(&[9]), b"name\0new\0", renamed(RenameMode::Replace));
    is(45, none().longs(&[9]).words(&[1, 0]), b"name\0new\0", renamed(RenameMode::NoReplace));
    is(45, none().longs(&[9]).words(&[2, 0]), b"name\0new\0", renamed(RenameMode::Exchange));
    let whiteout = |replace| renamed(RenameMode::Whiteout { replace });
    is(45, none().longs(&[9]).words(&[4, 0]), b"name\0new\0", whiteout(true));
    is(45, none().longs(&[9]).words(&[5, 0]), b"name\0new\0", whiteout(false));
    for flags in [3, 6, 8] {
        assert_eq!(decode(45, none().longs(&[9]).words(&[flags, 0]), b"name\0new\0"), Err(Errno::EINVAL));
    }
}

#[test]
fn attributes_to_set() {
    let fields = |valid: u32| {
        let longs = none().words(&[valid, 0]).longs(&[0, 4096, 0, 11, 12, 13]);
        longs.words(&[21, 22, 23, libc::S_IFREG | 0o4755, 0, 1000, 100, 0])
    };
    let at = |seconds, nanoseconds| Time { seconds, nanoseconds };
    let nothing = SetAttributes::default();
    let cases = [
        (0, nothing),
        (1, SetAttributes { permissions: Some(0o4755), ..nothing }),
        (2, SetAttributes { uid: Some(1000), ..nothing }),
        (4, SetAttributes { gid: Some(100), ..nothing }),
        (8, SetAttributes { size: Some(4096), ..nothing }),
        (16, SetAttributes { accessed: Some(SetTime::At(at(11, 21))), ..nothing }),
        (32, SetAttributes { modified: Some(SetTime::At(at(12, 22))), ..nothing }),
        (16 | 128, SetAttributes { accessed: Some(SetTime::Now), ..nothing }),
        (32 | 256, SetAttributes { modified: Some(SetTime::Now), ..nothing }),
        (1024, SetAttributes { changed: Some(at(13, 23)), ..nothing }),
        (8 | 2048, SetAttributes { size: Some(4096), kill_set_id: true, ..nothing }),
        // A handle and a lock's owner are nothing to us.
        (64 | 512, nothing),
    ];
    for (valid, expected) in cases {
        is(4, fields(valid), b"", Request::SetAttributes(expected));
    }
}

#[test]
fn content() {
    let moved = |size: u32, flags: u32| none().longs(&[0, 8192]).words(&[size, flags]).longs(&[0, 0]);
    is(15, moved(4096, 0), b"", Request::Read { offset: 8192, size: 4096 });
    let written = |kill_set_id, held_back| {
        let data = b"data".to_vec();
        Request::Write { offset: 8192, data, kill_set_id, held_back }
    };
    is(16, moved(4, 0), b"data", written(false, false));
    is(16, moved(4, 4), b"data", written(true, false));
    is(16, moved(4, 1), b"data", written(false, true));
    is(14, none().words(&[2, 0]), b"", Request::Open);
    assert_eq!(decode(16, moved(5, 0), b"data"), Err(Errno::EINVAL));
    is(28, moved(4096, 0), b"", Request::List(Listing { offset: 8192, size: 4096, attributes: false }));
    is(44, moved(4096, 0), b"", Request::List(Listing { offset: 8192, size: 4096, attributes: true }));
    let range = none().longs(&[0, 1, 2]).words(&[3, 0]);
    is(43, range, b"", Request::Allocate { offset: 1, length: 2, mode: AllocateMode::PunchHole });
    assert_eq!(decode(43, none().longs(&[0, 1, 2]).words(&[8, 0]), b""), Err(Errno::EOPNOTSUPP));
    is(46, none().longs(&[0, 7]).words(&[3, 0]), b"", Request::Seek { offset: 7, what: Seek::Data });
    is(46, none().longs(&[0, 7]).words(&[4, 0]), b"", Request::Seek { offset: 7, what: Seek::Hole });
    assert_eq!(decode(46, none().longs(&[0, u64::MAX]).words(&[4, 0]), b""), Err(Errno::ENXIO));
    let copied = |wide| Request::Copy { offset: 1, to: Inode(2), to_offset: 4, length: 5, wide };
    is(47, none().longs(&[0, 1, 2, 3, 4, 5, 0]), b"", copied(false));
    is(53, none().longs(&[0, 1, 2, 3, 4, 5, 0]), b"", copied(true));
}

#[test]
fn attributes_by_name() {
    let name = b"user.a".to_vec();
    let set_or = |mode, kill_set_gid| {
        let value = b"va\0ue".to_vec();
        Request::SetXattr { name: name.clone(), value, mode, kill_set_gid: Some(kill_set_gid) }
    };
    let set = |mode| set_or(mode, false);
    is(21, none().words(&[5, 0, 0, 0]), b"user.a\0va\0ue", set(XattrMode::Any));
    is(21, none().words(&[5, 1, 0, 0]), b"user.a\0va\0ue", set(XattrMode::Create));
    is(21, none().words(&[5, 2, 0, 0]), b"user.a\0va\0ue", set(XattrMode::Replace));
    is(21, none().words(&[5, 0, 1, 0]), b"user.a\0va\0ue", set_or(XattrMode::Any, true));
    assert_eq!(decode(21, none().words(&[6, 0, 0, 0]), b"user.a\0va\0ue"), Err(Errno::EINVAL));
    is(22, none().words(&[64, 0]), b"user.a\0", Request::GetXattr { name: name.clone(), size: 64 });
    is(23, none().words(&[64, 0]), b"", Request::ListXattr { size: 64 });
    is(24, none(), b"user.a\0", Request::RemoveXattr { name });
}

#[test]
fn what_costs_nothing_is_refused_once_and_what_is_unknown_too() {
    for opcode in [25, 34, 40, 49, 4096, 0] {
        assert_eq!(decode(opcode, none(), b"name\0"), Err(Errno::ENOSYS), "{opcode}");
    }
    assert_eq!(decode(39, none(), b""), Err(Errno::ENOTTY));
}

#[test]
fn bytes_that_are_no_request_end_with_an_errno() {
    for opcode in 0..64 {
        for length in 0..wire::OPERATION_BYTES_MAX {
            for filling in [0, 0x41, 0xff] {
                let operation = vec![filling; length];
                // Neither has an end of a name; numbers are as large as they can be.
                let _ = wire::request(opcode, &operation, b"");
                let _ = wire::request(opcode, &operation, &[filling; 9]);
            }
        }
    }
    for opcode in [1, 6, 8, 9, 10, 11, 12, 13, 21, 22, 24, 35, 45] {
        assert_eq!(decode(opcode, none(), b"name"), Err(Errno::EINVAL), "{opcode}");
    }
}

const EXAMPLE: Attributes = Attributes {
    inode: Inode(7),
    kind: Kind::CharDevice,
    permissions: 0o4644,
    links: 2,
    uid: 1000,
    gid: 100,
    // Major 0x123, minor 0x45678.
    device: 0x4561_2378,
    size: 10,
    blocks: 8,
    block_bytes: 4096,
    accessed: Time { seconds: 11, nanoseconds: 21 },
    modified: Time { seconds: -12, nanoseconds: 22 },
    changed: Time { seconds: 13, nanoseconds: 23 },
    born: Time { seconds: 14, nanoseconds: 24 },
};

fn encoded(fill: impl FnOnce(&mut Filling<'_>)) -> Vec<u8> {
    let mut bytes = vec![0xee; 512];
    let mut filling = Filling::new(&mut bytes);
    fill(&mut filling);
    let length = filling.length();
    bytes.truncate(length);
    bytes
}

fn attributes_of_example() -> Bytes {
    let minus = -12i64 as u64;
    let longs = none().longs(&[7, 10, 8, 11, minus, 13]);
    longs.words(&[21, 22, 23, libc::S_IFCHR | 0o4644, 2, 1000, 100, 0x4561_2378, 4096, 0])
}

#[test]
fn replies_have_the_kernels_layout() {
    let attributes = attributes_of_example().0;
    let expected = [none().longs(&[FOR_EVER, 0]).0, attributes.clone()].concat();
    assert_eq!(expected.len(), 104);
    assert_eq!(encoded(|to| encode::attributes(to, FOR_EVER, &EXAMPLE)), expected);
    let expected = [none().longs(&[7, 0, 1, 2, 0]).0, attributes].concat();
    assert_eq!(expected.len(), 128);
    assert_eq!(encoded(|to| encode::entry(to, 1, 2, &EXAMPLE)), expected);
    let expected = [none().longs(&[0, 0, FOR_EVER]).0, vec![0; 104]].concat();
    assert_eq!(encoded(encode::no_entry), expected);
    assert_eq!(encoded(encode::created), none().longs(&[0]).words(&[0x22, 0]).0);
    for (opened, flags) in [(Opened::File, 2), (Opened::Directory, 0), (Opened::Control, 1)] {
        assert_eq!(encoded(|to| encode::opened(to, opened)), none().longs(&[0]).words(&[flags, 0]).0);
    }
    let found = Statistics { total_bytes: 1 << 20, available_bytes: 1 << 19, inodes: 3 };
    let expected = none().longs(&[256, 128, 128, 515, 512]).words(&[4096, 255, 4096]).0;
    assert_eq!(encoded(|to| encode::statistics(to, &found)), [expected, vec![0; 28]].concat());
}

#[test]
fn statx_shows_the_birth_and_the_device() {
    let minus = -12i64 as u64;
    let expected = none().longs(&[FOR_EVER, 0, 0, 0]).words(&[0xfff, 4096]).longs(&[0]);
    let expected = expected.words(&[2, 1000, 100, libc::S_IFCHR | 0o4644]).longs(&[7, 10, 8, 0]);
    let expected = expected.longs(&[11]).words(&[21, 0]).longs(&[14]).words(&[24, 0]);
    let expected = expected.longs(&[13]).words(&[23, 0]).longs(&[minus]).words(&[22, 0]);
    let expected = [expected.words(&[0x123, 0x45678]).0, vec![0; 120]].concat();
    assert_eq!(expected.len(), 288);
    assert_eq!(encoded(|to| encode::statx(to, &EXAMPLE)), expected);
}

#[test]
fn listings_are_padded_and_end_where_the_room_does() {
    let entry = |attributes| Entry {
        position: 5,
        name: b"name".to_vec(),
        inode: Inode(7),
        kind: Kind::CharDevice,
        attributes,
    };
    let name = [none().longs(&[7, 5]).words(&[4, 2]).0, b"name\0\0\0\0".to_vec()].concat();
    assert_eq!(
        encoded(|to| assert!(encode::name(to, &entry(None)))),
        name,
        "a name takes a multiple of eight bytes"
    );
    let entry_bytes = encoded(|to| encode::entry(to, FOR_EVER, FOR_EVER, &EXAMPLE));
    let plus = encoded(|to| assert!(encode::name_plus(to, &entry(Some(EXAMPLE)))));
    assert_eq!(plus, [entry_bytes, name.clone()].concat());
    let bare = encoded(|to| assert!(encode::name_plus(to, &entry(None))));
    assert_eq!(bare, [vec![0; 128], name].concat());
    for (limit, fits) in [(31, false), (32, true), (63, true)] {
        let listed = encoded(|to| {
            to.limit(limit);
            assert_eq!(encode::name(to, &entry(None)), fits);
            assert!(!encode::name(to, &entry(None)));
        });
        assert_eq!(listed.len(), if fits { 32 } else { 0 });
    }
}
