//! Times in pax records: seconds since 1970 with a fraction. Pure.

use crate::cli::tree::show::moment;
use crate::fs::types::Time;

/// As it is written.
pub(super) fn encode(time: Time) -> String {
    let text = moment(time);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// As it is read; digits behind the ninth are cut.
pub(super) fn decode(text: &str) -> Option<Time> {
    let (is_before, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) || whole.is_empty() {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let fraction = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction));
    let nanoseconds: u32 = fraction.parse().ok()?;
    Some(match (is_before, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (10, 0, "10"),
            (1_700_000_000, 120_000_000, "1700000000.12"),
            (5, 1, "5.000000001"),
            (-1, 500_000_000, "-0.5"),
            (-2, 0, "-2"),
            (-3, 750_000_000, "-2.25"),
        ] {
            let time = Time { seconds, nanoseconds };
            assert_eq!((encode(time).as_str(), decode(text)), (text, Some(time)));
        }
        assert_eq!(decode("1.1234567899"), Some(Time { seconds: 1, nanoseconds: 123_456_789 }));
        for wrong in ["", "x", "1.x", "--1", ".5", "1e3", "+1"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
