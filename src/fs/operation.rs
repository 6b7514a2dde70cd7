//! What an operation is, for whoever logs it. The operation says it itself, with its first step; so it costs nothing to carry around, and nobody has to
//! be told of it who only passes it on.

use super::types::Inode;
use std::cell::Cell;

/// As much of a name as is kept, in bytes.
const NAME_BYTES_KEPT: usize = 64;

/// What an operation does, and to what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    /// One word.
    pub what: &'static str,
    /// The inode that it names first: of a name, the directory.
    pub inode: Inode,
    /// Where it begins in a file, in bytes.
    pub offset: u64,
    /// How many bytes of a file it is about.
    pub length: u64,
    name: [u8; NAME_BYTES_KEPT],
    name_bytes: u16,
}

impl Operation {
    /// Of an operation that hasn't said anything.
    pub const UNKNOWN: Operation = Operation::on("unknown", Inode(0));

    /// On an inode.
    pub(super) const fn on(what: &'static str, inode: Inode) -> Self {
        Operation { what, inode, offset: 0, length: 0, name: [0; NAME_BYTES_KEPT], name_bytes: 0 }
    }

    /// On a name in a directory.
    pub(super) fn on_name(what: &'static str, directory: Inode, name: &[u8]) -> Self {
        let mut operation = Operation::on(what, directory);
        let kept = name.len().min(NAME_BYTES_KEPT);
        operation.name[..kept].copy_from_slice(&name[..kept]);
        operation.name_bytes = name.len().min(usize::from(u16::MAX)) as u16;
        operation
    }

    /// On a part of a file.
    pub(super) const fn on_range(what: &'static str, inode: Inode, offset: u64, length: u64) -> Self {
        let mut operation = Operation::on(what, inode);
        operation.offset = offset;
        operation.length = length;
        operation
    }

    /// The name, if it is about one; a long one is cut, and ends in `...` then. What would end a column or a line is escaped.
    pub fn name(&self) -> String {
        let kept = usize::from(self.name_bytes).min(NAME_BYTES_KEPT);
        let mut text = self.name[..kept].escape_ascii().to_string();
        if usize::from(self.name_bytes) > kept {
            text.push_str("...");
        }
        text
    }

    /// Says what it is. What an operation says first counts: it may be made of others.
    pub(super) fn begins(self) {
        if SAID.get().is_none() {
            SAID.set(Some(self));
        }
    }
}

thread_local! {
    static SAID: Cell<Option<Operation>> = const { Cell::new(None) };
}

/// An operation is about to take its first step on this thread.
pub(super) fn listen() {
    SAID.set(None);
}

/// What the operation that has just taken its first step on this thread has said.
pub(super) fn said() -> Operation {
    SAID.take().unwrap_or(Operation::UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_first_counts() {
        Operation::on("left over", Inode(9)).begins();
        listen();
        Operation::on_name("rename", Inode(1), b"a\tb").begins();
        Operation::on("lookup", Inode(2)).begins();
        let operation = said();
        assert_eq!(
            (operation.what, operation.inode, operation.name().as_str()),
            ("rename", Inode(1), "a\\tb")
        );
        assert_eq!(said(), Operation::UNKNOWN);
    }

    #[test]
    fn a_long_name_is_cut() {
        let name = |length| Operation::on_name("x", Inode(1), &vec![b'n'; length]).name();
        assert_eq!((name(64), name(65)), ("n".repeat(64), "n".repeat(64) + "..."));
    }
}
