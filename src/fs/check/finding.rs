//! What the checker finds, in words, and what can be done about it.

use crate::fs::acl::AclKind;
use crate::fs::keys;
use crate::fs::types::{Inode, Kind};
use std::fmt;

/// Something that doesn't agree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// A partition didn't answer.
    Partition(String),
    /// A record can't be read, or isn't what its key says.
    Unreadable {
        /// The record's key.
        key: Vec<u8>,
        /// What it stands for, and what is wrong with it.
        reason: String,
    },
    /// A key that this version doesn't know.
    UnknownKey(Vec<u8>),
    /// An inode's number is beyond those reserved in its partition, and could be given out again.
    Unreserved(Inode),
    /// A small file's content isn't as long as its size.
    Size {
        /// The file.
        inode: Inode,
        /// Its size.
        says: u64,
        /// Bytes of content.
        has: u64,
    },
    /// A name leads to nothing.
    NameOfNothing(Named),
    /// A name and its inode tell of different kinds.
    KindDiffers(Named, Kind),
    /// A name lies in what is no directory.
    NameInNothing(Named),
    /// A directory has a second name: this one.
    SecondName(Named),
    /// An inode has no name, and isn't marked as one that waits for its end.
    Nameless(Inode, Kind),
    /// A directory lies below itself.
    Unreached {
        /// The directory.
        inode: Inode,
        /// Its name, if it has one.
        name: Option<Named>,
    },
    /// An inode with names is marked as one without.
    NamedOrphan(Inode),
    /// A mark of an inode that isn't there.
    OrphanOfNothing(Inode),
    /// A link count is wrong.
    Links {
        /// The inode.
        inode: Inode,
        /// What it says.
        says: u32,
        /// What there is.
        has: u32,
    },
    /// Chunks without a file, or behind its end.
    Chunks {
        /// The inode that their keys name.
        inode: Inode,
        /// The first of them.
        first: u32,
        /// How many.
        count: u64,
    },
    /// Another number of bytes lies in chunks than the file says.
    StoredBytes {
        /// The file.
        inode: Inode,
        /// What it says.
        says: u64,
        /// What there is.
        has: u64,
    },
    /// The permission bits aren't those of the access control list.
    Permissions {
        /// The inode.
        inode: Inode,
        /// What it says.
        says: u16,
        /// What the list says.
        list: u16,
    },
    /// There are more or fewer extended attributes than the inode says, or it isn't there.
    Xattrs {
        /// The inode.
        inode: Inode,
        /// How many there are.
        has: u32,
        /// Whether the inode is there.
        owned: bool,
    },
}

/// Whether a record is an inode's access control list.
pub(super) fn is_access_list(key: &[u8]) -> bool {
    keys::parse_xattr(key).is_some_and(|(_, name)| name == AclKind::Access.name())
}

/// A name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The directory.
    pub parent: Inode,
    /// The name.
    pub name: Vec<u8>,
    /// What it leads to.
    pub inode: Inode,
}

impl fmt::Display for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "name {} in directory {}", self.name.escape_ascii(), self.parent.0)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Partition(id) => write!(formatter, "partition {id} can't be checked"),
            Finding::Unreadable { reason, .. } => formatter.write_str(reason),
            Finding::UnknownKey(key) => write!(formatter, "a key of no known kind: {}", key.escape_ascii()),
            Finding::Unreserved(inode) => {
                write!(formatter, "inode {} is beyond the reserved numbers", inode.0)
            }
            Finding::Size { inode, says, has } => {
                write!(formatter, "inode {} says {says} bytes and has {has}", inode.0)
            }
            Finding::NameOfNothing(named) => {
                write!(formatter, "{named} leads to inode {}, which isn't there", named.inode.0)
            }
            Finding::KindDiffers(named, kind) => {
                write!(formatter, "{named} and inode {} differ in kind: it is a {kind:?}", named.inode.0)
            }
            Finding::NameInNothing(named) => write!(formatter, "{named}, which is no directory"),
            Finding::SecondName(named) => {
                write!(formatter, "{named} is a second name of directory {}", named.inode.0)
            }
            Finding::Nameless(inode, _) => write!(formatter, "inode {} has no name", inode.0),
            Finding::Unreached { inode, .. } => {
                write!(formatter, "directory {} isn't reached from the root", inode.0)
            }
            Finding::NamedOrphan(inode) => {
                write!(formatter, "inode {} has names and a mark of having none", inode.0)
            }
            Finding::OrphanOfNothing(inode) => write!(formatter, "orphan {} isn't there", inode.0),
            Finding::Links { inode, says, has } => {
                write!(formatter, "inode {} says {says} links and has {has}", inode.0)
            }
            Finding::Chunks { inode, first, count } => {
                write!(
                    formatter,
                    "{count} chunks of inode {} from {first} on lie behind its end, or it isn't there",
                    inode.0
                )
            }
            Finding::StoredBytes { inode, says, has } => {
                write!(formatter, "inode {} says {says} bytes in chunks and has {has}", inode.0)
            }
            Finding::Permissions { inode, says, list } => {
                write!(
                    formatter,
                    "inode {} says permissions {says:o}, its access control list {list:o}",
                    inode.0
                )
            }
            Finding::Xattrs { inode, has, owned: true } => {
                write!(formatter, "inode {} has {has} extended attributes, and says otherwise", inode.0)
            }
            Finding::Xattrs { inode, has, owned: false } => {
                write!(formatter, "{has} extended attributes of inode {}, which isn't there", inode.0)
            }
        }
    }
}

impl Finding {
    /// When its repair has its turn; what comes earlier shows or settles what comes later. None: it can't be repaired.
    pub(super) fn turn(&self) -> Option<u8> {
        Some(match self {
            Finding::Unreadable { key, .. } if keys::parse_chunk(key).is_some() || *key == keys::meta() => {
                return None;
            }
            Finding::Partition(_) | Finding::UnknownKey(_) => return None,
            Finding::Unreadable { .. } | Finding::Size { .. } | Finding::Unreserved(_) => 0,
            Finding::NameOfNothing(_)
            | Finding::KindDiffers(..)
            | Finding::NameInNothing(_)
            | Finding::SecondName(_) => 1,
            Finding::Unreached { name: Some(_), .. } => 2,
            Finding::Nameless(..) | Finding::NamedOrphan(_) | Finding::OrphanOfNothing(_) => 3,
            Finding::Unreached { name: None, .. } => 4,
            Finding::Links { .. }
            | Finding::Chunks { .. }
            | Finding::StoredBytes { .. }
            | Finding::Permissions { .. }
            | Finding::Xattrs { .. } => 4,
        })
    }

    /// What a repair does about it, in words.
    pub fn remedy(&self) -> &'static str {
        match self {
            Finding::Unreadable { key, .. } if is_access_list(key) => {
                "remove the list, and what the group may"
            }
            Finding::Unreadable { key, .. } => match keys::parse_inode(key) {
                Some(inode) if keys::is_directory(inode) => {
                    "make its attributes anew: root's, for root alone"
                }
                Some(_) => "make a file of root's from its chunks, or remove it if there are none",
                None if keys::parse_chunk(key).is_some() || *key == keys::meta() => {
                    "none: what it held is lost"
                }
                None => "remove the record",
            },
            Finding::Partition(_) | Finding::UnknownKey(_) => "none",
            Finding::Unreserved(_) => "reserve the numbers",
            Finding::Size { .. } => "set the size",
            Finding::NameOfNothing(_) | Finding::NameInNothing(_) | Finding::SecondName(_) => {
                "remove the name"
            }
            Finding::KindDiffers(..) => "set the name's kind",
            Finding::Nameless(..) => "give it a name in /lost+found",
            Finding::Unreached { .. } => "give one of its circle a name in /lost+found",
            Finding::NamedOrphan(_) | Finding::OrphanOfNothing(_) => "remove the mark",
            Finding::Links { .. } => "set the link count",
            Finding::Chunks { .. } => "remove the chunks",
            Finding::StoredBytes { .. } => "set the bytes",
            Finding::Permissions { .. } => "set the permissions",
            Finding::Xattrs { owned: true, .. } => "set the count",
            Finding::Xattrs { owned: false, .. } => "remove them",
        }
    }
}
