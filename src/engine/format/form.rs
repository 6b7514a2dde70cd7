//! How a record lies at the place that the keydir knows.
//!
//! Owns: the four bytes before a bare value.
//!
//! Promises: whoever reads a place with the key that he looks for knows whether all of it is what was written there for this key, in this
//! segment, from the place alone.
//!
//! Doesn't know: where the keys of bare records are kept; that is [`index`](super::index).

use super::record::{self, RECORD_HEADER_BYTES};
use super::{Damage, crc};

/// What stands before a bare value: the CRC of key and value, salted.
const BARE_HEAD_BYTES: usize = 4;

/// How the records of a segment lie in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// With a header and their key, in frames.
    Whole,
    /// A checksum and the value; the key is in the segment's index, once for many readers, and takes no space here.
    Bare,
}

impl Form {
    /// How much stands before the value, in bytes.
    pub fn head_bytes(self, key_length: usize) -> usize {
        match self {
            Form::Whole => RECORD_HEADER_BYTES + key_length,
            Form::Bare => BARE_HEAD_BYTES,
        }
    }

    /// The whole place, in bytes.
    pub fn length(self, key_length: usize, value_length: usize) -> usize {
        self.head_bytes(key_length).saturating_add(value_length)
    }

    /// The value in a place that was read as a whole, if the place is what was written for this key.
    pub fn value<'a>(self, place: &'a [u8], key: &[u8], salt: u32) -> Result<&'a [u8], Damage> {
        let (head, value) = place.split_at_checked(self.head_bytes(key.len())).ok_or(Damage::TooShort)?;
        self.check(head, value, key, salt).map(|()| value)
    }

    /// The same, of a place whose two parts were read apart.
    pub fn check(self, head: &[u8], value: &[u8], key: &[u8], salt: u32) -> Result<(), Damage> {
        match self {
            Form::Whole => {
                let head = record::decode_head(head, salt)?;
                if head.key != key {
                    return Err(Damage::Foreign);
                }
                if head.value_length as usize != value.len() {
                    return Err(Damage::Length);
                }
                if record::value_is_right(value, head.value_crc, salt) { Ok(()) } else { Err(Damage::Value) }
            }
            Form::Bare => {
                let is_right = head == bare_crc(key, value, salt).to_le_bytes();
                if is_right { Ok(()) } else { Err(Damage::Value) }
            }
        }
    }
}

/// Appends a bare record to `out`. Its key and its lengths are for the index to keep.
pub fn append_bare(out: &mut Vec<u8>, salt: u32, key: &[u8], value: &[u8]) {
    out.extend_from_slice(&bare_crc(key, value, salt).to_le_bytes());
    out.extend_from_slice(value);
}

fn bare_crc(key: &[u8], value: &[u8], salt: u32) -> u32 {
    crc(Some(salt), &[key, value])
}

#[cfg(test)]
mod tests {
    use super::super::record::RecordKind;
    use super::super::testing::{Random, each_flip, each_truncation};
    use super::*;

    const SALT: u32 = 7;

    fn places(key: &[u8], value: &[u8]) -> [(Form, Vec<u8>); 2] {
        let (mut whole, mut bare) = (Vec::new(), Vec::new());
        record::append(&mut whole, SALT, RecordKind::Put, key, value);
        append_bare(&mut bare, SALT, key, value);
        [(Form::Whole, whole), (Form::Bare, bare)]
    }

    #[test]
    fn a_place_is_right_for_its_key_in_its_segment_and_for_nothing_else() {
        let mut random = Random::new(1);
        for _ in 0..50 {
            let key_length = 1 + random.below(40);
            let (key, mut other) = (random.bytes(key_length), random.bytes(key_length));
            other[0] = !key[0];
            let value_length = random.below(60);
            let value = random.bytes(value_length);
            for (form, place) in places(&key, &value) {
                assert_eq!(place.len(), form.length(key.len(), value.len()));
                assert_eq!(form.value(&place, &key, SALT), Ok(&value[..]));
                assert!(form.value(&place, &key, SALT + 1).is_err());
                assert!(form.value(&place, &other, SALT).is_err());
                each_flip(&place, |_, place| assert!(form.value(place, &key, SALT).is_err()));
                each_truncation(&place, |place| assert!(form.value(place, &key, SALT).is_err()));
            }
        }
    }
}
