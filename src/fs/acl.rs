//! POSIX access control lists: their bytes, what they say in permission bits, and how they are passed on. Pure.
//!
//! The bytes are those that the kernel and libacl exchange as values of two extended attributes, and they are kept as such:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | version, 2 |
//! | 4 + 8n | 2 | who: 1 the owner, 2 a user, 4 the owning group, 8 a group, 16 the mask, 32 all others |
//! | 6 + 8n | 2 | what they may: 4 read, 2 write, 1 execute |
//! | 8 + 8n | 4 | which user or group; of the others, all bits are set |
//!
//! Entries stand in this order. Owner, owning group and others are there once each; the mask at most once, and always if a user or group is named.

use super::errno::Errno;
use super::types::Answer;

const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;
/// Of entries that name nobody.
const NOBODY: u32 = u32::MAX;

/// Which of an inode's two lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AclKind {
    /// Who may do what with it.
    Access,
    /// Of a directory: what is made in it starts with this one.
    Default,
}

impl AclKind {
    /// The list that an extended attribute's name stands for.
    pub fn of(name: &[u8]) -> Option<AclKind> {
        [AclKind::Access, AclKind::Default].into_iter().find(|kind| kind.name() == name)
    }

    /// The name of the extended attribute.
    pub fn name(self) -> &'static [u8] {
        match self {
            AclKind::Access => b"system.posix_acl_access",
            AclKind::Default => b"system.posix_acl_default",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Who {
    Owner,
    User,
    OwningGroup,
    Group,
    Mask,
    Others,
}

impl Who {
    fn from_code(code: u16) -> Option<Who> {
        Some(match code {
            1 => Who::Owner,
            2 => Who::User,
            4 => Who::OwningGroup,
            8 => Who::Group,
            16 => Who::Mask,
            32 => Who::Others,
            _ => return None,
        })
    }

    fn code(self) -> u16 {
        1 << self as u16
    }

    fn is_named(self) -> bool {
        matches!(self, Who::User | Who::Group)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    who: Who,
    may: u16,
    id: u32,
}

/// A list that is as it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// Reads a list; None if there are no entries, which stands for having no list.
    ///
    /// # Errors
    /// EINVAL for what is malformed, EOPNOTSUPP for another version.
    pub fn decode(bytes: &[u8]) -> Answer<Option<Acl>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let (version, entries) = bytes.split_at_checked(HEADER_BYTES).ok_or(Errno::EINVAL)?;
        if version != VERSION.to_le_bytes() {
            return Err(Errno::EOPNOTSUPP);
        }
        if entries.len() % ENTRY_BYTES != 0 {
            return Err(Errno::EINVAL);
        }
        let entries: Option<Vec<Entry>> = entries.chunks_exact(ENTRY_BYTES).map(decode_entry).collect();
        let list = Acl { entries: entries.ok_or(Errno::EINVAL)? };
        if list.entries.is_empty() {
            return Ok(None);
        }
        list.check().map(|()| Some(list))
    }

    fn check(&self) -> Answer<()> {
        let count = |who| self.entries.iter().filter(|entry| entry.who == who).count();
        let named = self.entries.iter().any(|entry| entry.who.is_named());
        let fits = self.entries.is_sorted_by_key(|entry| entry.who)
            && [Who::Owner, Who::OwningGroup, Who::Others].into_iter().all(|who| count(who) == 1)
            && count(Who::Mask) <= 1
            && (count(Who::Mask) == 1 || !named);
        if fits { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// The list's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.who.code().to_le_bytes());
            bytes.extend_from_slice(&entry.may.to_le_bytes());
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
        bytes
    }

    /// Whether it says more than permission bits can.
    pub fn is_extended(&self) -> bool {
        self.entries.iter().any(|entry| entry.who.is_named() || entry.who == Who::Mask)
    }

    /// The nine permission bits that go with it: the group's are the mask, if there is one.
    pub fn permissions(&self) -> u16 {
        let group = self.group_class();
        self.entries.iter().fold(0, |bits, entry| match entry.who {
            Who::Owner => bits | entry.may << 6,
            Who::Others => bits | entry.may,
            who if who == group => bits | entry.may << 3,
            _ => bits,
        })
    }

    /// What becomes of it when the permission bits are set: each of the three entries behind them is changed.
    #[must_use]
    pub fn with_permissions(&self, permissions: u16) -> Acl {
        self.map_classes(|_, class| class & permissions)
    }

    /// The access list of something new in a directory that has this one as default: each of the three entries behind the permission bits loses
    /// what wasn't asked for.
    #[must_use]
    pub fn inherited(&self, asked: u16) -> Acl {
        self.map_classes(|may, class| may & class & asked)
    }

    /// With other rights of the owner, the group's class and all others: made of the rights that are there and the bits of that class, both in their
    /// place among the permission bits.
    fn map_classes(&self, change: impl Fn(u16, u16) -> u16) -> Acl {
        let group = self.group_class();
        let mut list = self.clone();
        for entry in &mut list.entries {
            let shift = match entry.who {
                Who::Owner => 6,
                Who::Others => 0,
                who if who == group => 3,
                _ => continue,
            };
            entry.may = change(entry.may << shift, 0o7 << shift) >> shift;
        }
        list
    }

    /// Whose rights the group's permission bits are.
    fn group_class(&self) -> Who {
        let masked = self.entries.iter().any(|entry| entry.who == Who::Mask);
        if masked { Who::Mask } else { Who::OwningGroup }
    }
}

fn decode_entry(bytes: &[u8]) -> Option<Entry> {
    let who = Who::from_code(u16::from_le_bytes(bytes[0..2].try_into().ok()?))?;
    let may = u16::from_le_bytes(bytes[2..4].try_into().ok()?);
    let id = u32::from_le_bytes(bytes[4..8].try_into().ok()?);
    if may > 7 || who.is_named() && id == NOBODY {
        return None;
    }
    Some(Entry { who, may, id: if who.is_named() { id } else { NOBODY } })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: u16 = 1;
    const USER: u16 = 2;
    const OWNING_GROUP: u16 = 4;
    const GROUP: u16 = 8;
    const MASK: u16 = 16;
    const OTHERS: u16 = 32;

    fn bytes(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        for (who, may, id) in entries {
            bytes.extend([who.to_le_bytes(), may.to_le_bytes()].concat());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    fn list(entries: &[(u16, u16, u32)]) -> Acl {
        Acl::decode(&bytes(entries)).unwrap().unwrap()
    }

    /// As `setfacl -m u:1001:rw,g:2001:r` makes it of mode 0640.
    const GOLDEN: [u8; 52] = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 233, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
        8, 0, 4, 0, 209, 7, 0, 0, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
    ];

    #[test]
    fn the_bytes_are_those_of_the_kernel() {
        let read = Acl::decode(&GOLDEN).unwrap().unwrap();
        let expected = [
            (OWNER, 6, NOBODY),
            (USER, 6, 1001),
            (OWNING_GROUP, 4, NOBODY),
            (GROUP, 4, 2001),
            (MASK, 6, NOBODY),
            (OTHERS, 0, NOBODY),
        ];
        assert_eq!(read, list(&expected));
        assert_eq!(read.encode(), GOLDEN);
        assert!(read.is_extended());
        assert_eq!(read.permissions(), 0o660);
    }

    #[test]
    fn what_isnt_a_list_is_refused() {
        let good = [(OWNER, 7, NOBODY), (OWNING_GROUP, 5, NOBODY), (OTHERS, 0, NOBODY)];
        assert_eq!(Acl::decode(&[]), Ok(None));
        assert_eq!(Acl::decode(&[2, 0, 0, 0]), Ok(None));
        assert_eq!(Acl::decode(&[1, 0, 0, 0]), Err(Errno::EOPNOTSUPP));
        for length in 0..bytes(&good).len() {
            let cut = Acl::decode(&bytes(&good)[..length]);
            assert!(matches!(cut, Ok(None) | Err(Errno::EINVAL)), "{length}: {cut:?}");
        }
        let with = |at: usize, entry| {
            let mut entries = good.to_vec();
            entries.insert(at, entry);
            bytes(&entries)
        };
        let wrong = [
            ("no others", bytes(&good[..2])),
            ("no owner", bytes(&good[1..])),
            ("twice the owner", with(0, good[0])),
            ("a user without a mask", with(1, (USER, 7, 1))),
            ("a group without a mask", with(2, (GROUP, 7, 1))),
            ("a mask too early", with(1, (MASK, 7, NOBODY))),
            ("something behind the others", with(3, (MASK, 7, NOBODY))),
            ("a right that there isn't", with(2, (MASK, 8, NOBODY))),
            ("somebody that there isn't", with(2, (64, 7, NOBODY))),
            ("two at once", with(2, (MASK | OTHERS, 7, NOBODY))),
            (
                "a user who is nobody",
                bytes(&[good[0], (USER, 7, NOBODY), good[1], (MASK, 7, NOBODY), good[2]]),
            ),
        ];
        for (what, bytes) in wrong {
            assert_eq!(Acl::decode(&bytes), Err(Errno::EINVAL), "{what}");
        }
    }

    #[test]
    fn permission_bits_and_lists_keep_step() {
        let plain = list(&[(OWNER, 6, 0), (OWNING_GROUP, 4, 0), (OTHERS, 1, 0)]);
        assert!(!plain.is_extended());
        assert_eq!(plain.permissions(), 0o641);
        assert_eq!(plain.with_permissions(0o4752).permissions(), 0o752);
        let masked = Acl::decode(&GOLDEN).unwrap().unwrap();
        let changed = masked.with_permissions(0o714);
        assert_eq!(changed.permissions(), 0o714);
        let expected = [
            (OWNER, 7, NOBODY),
            (USER, 6, 1001),
            (OWNING_GROUP, 4, NOBODY),
            (GROUP, 4, 2001),
            (MASK, 1, NOBODY),
            (OTHERS, 4, NOBODY),
        ];
        assert_eq!(changed, list(&expected));
    }

    #[test]
    fn what_is_new_gets_no_more_than_was_asked_for() {
        let masked = Acl::decode(&GOLDEN).unwrap().unwrap();
        assert_eq!(masked.inherited(0o777).permissions(), 0o660);
        assert_eq!(masked.inherited(0o2644).permissions(), 0o640);
        let plain = list(&[(OWNER, 7, 0), (OWNING_GROUP, 5, 0), (OTHERS, 0, 0)]);
        assert_eq!(plain.inherited(0o666).permissions(), 0o640);
        // The owning group's own entry stays: the mask says what counts.
        let kept = masked.inherited(0o600);
        assert_eq!(kept.permissions(), 0o600);
        assert_eq!(kept.encode()[20..28], GOLDEN[20..28]);
    }
}
