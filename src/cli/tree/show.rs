//! What is known of a node, as text and as JSON. Pure.

use super::Node;
use crate::cli::json::Object;
use crate::fs::types::{Kind, Time};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The word for what something is.
pub(in crate::cli) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice => "char-device",
        Kind::BlockDevice => "block-device",
    }
}

/// The letter that long listings begin with.
pub(in crate::cli) fn kind_letter(kind: Kind) -> char {
    match kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
    }
}

/// A moment: seconds since 1970, and nanoseconds behind the point.
pub(in crate::cli) fn moment(time: Time) -> String {
    // Before 1970 the nanoseconds count forwards all the same.
    match (time.seconds, time.nanoseconds) {
        (seconds, nanoseconds) if seconds >= 0 || nanoseconds == 0 => format!("{seconds}.{nanoseconds:09}"),
        (-1, nanoseconds) => format!("-0.{:09}", 1_000_000_000 - nanoseconds),
        (seconds, nanoseconds) => format!("{}.{:09}", seconds + 1, 1_000_000_000 - nanoseconds),
    }
}

/// A path from the store's root, as bytes: it may be no text.
pub(in crate::cli) fn from_root(path: &Path) -> Vec<u8> {
    Path::new("/").join(path).as_os_str().as_bytes().to_vec()
}

/// Names and values, numbers as they are. Not the birth, which the kernel doesn't ask every mount for: `bitkv info` shows it.
fn values(node: &Node) -> [(&'static str, String); 12] {
    let found = &node.attributes;
    [
        ("inode", found.inode.0.to_string()),
        ("permissions", format!("{:04o}", found.permissions)),
        ("links", found.links.to_string()),
        ("uid", found.uid.to_string()),
        ("gid", found.gid.to_string()),
        ("size", found.size.to_string()),
        ("blocks", found.blocks.to_string()),
        ("device_major", nix::sys::stat::major(found.device.into()).to_string()),
        ("device_minor", nix::sys::stat::minor(found.device.into()).to_string()),
        ("accessed", moment(found.accessed)),
        ("modified", moment(found.modified)),
        ("changed", moment(found.changed)),
    ]
}

/// A line for each.
pub(in crate::cli) fn lines(node: &Node) -> Vec<u8> {
    let mut out = [b"path: ", &from_root(&node.path)[..], b"\n"].concat();
    out.extend_from_slice(format!("kind: {}\n", kind_name(node.kind())).as_bytes());
    for (name, value) in values(node) {
        out.extend_from_slice(format!("{name}: {value}\n").as_bytes());
    }
    out
}

/// The same as an object. Permissions are a text, since JSON has no octal numbers.
pub(in crate::cli) fn object(node: &Node) -> Object {
    let start = Object::default().bytes("path", &from_root(&node.path)).text("kind", kind_name(node.kind()));
    values(node).into_iter().fold(start, |object, (name, value)| match name {
        "permissions" => object.text(name, &value),
        _ => object.plain(name, value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::types::{Attributes, Inode};

    fn node() -> Node {
        let time = |seconds| Time { seconds, nanoseconds: 500_000_000 };
        let attributes = Attributes {
            inode: Inode(7),
            kind: Kind::CharDevice,
            permissions: 0o644,
            links: 1,
            uid: 2,
            gid: 3,
            device: 0x103,
            size: 4,
            blocks: 5,
            block_bytes: 4096,
            accessed: time(-1),
            modified: time(-2),
            changed: time(0),
            born: time(9),
        };
        Node { path: "a/b".into(), attributes }
    }

    #[test]
    fn a_node_is_shown_as_lines_and_as_an_object() {
        let expected = "path: /a/b\nkind: char-device\ninode: 7\npermissions: 0644\nlinks: 1\nuid: 2\ngid: 3\nsize: 4\nblocks: 5\n\
            device_major: 1\ndevice_minor: 3\naccessed: -0.500000000\nmodified: -1.500000000\nchanged: 0.500000000\n";
        assert_eq!(String::from_utf8(lines(&node())).unwrap(), expected);
        let expected = "{\"path\":\"/a/b\",\"kind\":\"char-device\",\"inode\":7,\"permissions\":\"0644\",\"links\":1,\"uid\":2,\
            \"gid\":3,\"size\":4,\"blocks\":5,\"device_major\":1,\"device_minor\":3,\"accessed\":-0.500000000,\
            \"modified\":-1.500000000,\"changed\":0.500000000}";
        assert_eq!(object(&node()).line(), expected);
    }
}
