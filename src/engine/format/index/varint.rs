//! Whole numbers in as few bytes as they need: seven bits a byte, the least first, the top bit says that more follow.
//!
//! Promises: a number has one spelling; others are refused.

use crate::engine::format::Damage;

const MORE: u8 = 1 << 7;

pub(super) fn append(out: &mut Vec<u8>, mut value: u64) {
    while value >= u64::from(MORE) {
        out.push(value as u8 | MORE);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small numbers of either sign are short.
pub(super) fn append_signed(out: &mut Vec<u8>, value: i64) {
    append(out, (value << 1 ^ value >> 63) as u64);
}

/// Takes a number off the front.
pub(super) fn take(bytes: &mut &[u8]) -> Result<u64, Damage> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate() {
        let bits = u64::from(byte & !MORE);
        let shift = index as u32 * 7;
        if shift > 63 || bits << shift >> shift != bits || (index > 0 && *byte == 0) {
            return Err(Damage::Length);
        }
        value |= bits << shift;
        if byte & MORE == 0 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
    }
    Err(Damage::TooShort)
}

pub(super) fn take_signed(bytes: &mut &[u8]) -> Result<i64, Damage> {
    let folded = take(bytes)?;
    Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        let mut values = vec![0, u64::MAX];
        for shift in 0..64 {
            values.extend([1 << shift, (1 << shift) - 1, (1u64 << shift).wrapping_mul(3)]);
        }
        for value in values {
            let mut bytes = Vec::new();
            append(&mut bytes, value);
            assert_eq!(bytes.len(), (64 - value.leading_zeros()).div_ceil(7).max(1) as usize);
            let length = bytes.len();
            bytes.push(9);
            let mut rest = &bytes[..];
            assert_eq!((take(&mut rest), rest), (Ok(value), &[9][..]));
            assert_eq!(take(&mut &bytes[..length - 1]), Err(Damage::TooShort));
            for signed in [value as i64, (value as i64).wrapping_neg()] {
                let mut bytes = Vec::new();
                append_signed(&mut bytes, signed);
                assert_eq!(take_signed(&mut &bytes[..]), Ok(signed));
            }
        }
        let length_of = |value| {
            let mut bytes = Vec::new();
            append_signed(&mut bytes, value);
            bytes.len()
        };
        assert_eq!([0, 1, -1, 63, -64, 64].map(length_of), [1, 1, 1, 1, 1, 2]);
    }

    #[test]
    fn another_spelling_and_what_is_too_large_are_refused() {
        for bytes in [
            &[0x80, 0][..],
            &[0xff, 0x80, 0],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert_eq!(take(&mut &bytes[..]), Err(Damage::Length), "{bytes:?}");
        }
    }
}
