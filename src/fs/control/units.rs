//! Sizes and times as people write them. Pure.

use std::time::Duration;

/// `4096`, `64M`, `1G`: K, M, G and T are powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = split(text);
    let number: u64 = digits.parse().map_err(|_| format!("{text} is no size; write 4096, 64K, 64M or 1G"))?;
    let factor: u64 = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        "T" | "TB" | "TIB" => 1 << 40,
        _ => return Err(format!("{unit} is no unit of size; use K, M, G or T")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("{text} is too large"))
}

/// `100us`, `500ms`, `1s`, `5m`, `2h`; without a unit, seconds.
pub fn time(text: &str) -> Result<Duration, String> {
    let (digits, unit) = split(text);
    let number: u64 = digits.parse().map_err(|_| format!("{text} is no time; write 500ms, 1s, 5m or 2h"))?;
    let factor_us: u64 = match unit {
        "us" => 1,
        "ms" => 1000,
        "" | "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err(format!("{unit} is no unit of time; use us, ms, s, m or h")),
    };
    number.checked_mul(factor_us).map(Duration::from_micros).ok_or_else(|| format!("{text} is too long"))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("1g"), Ok(1 << 30));
        assert!(
            size("").is_err() && size("5x").is_err() && size("99999999999T").is_err() && size("-1").is_err()
        );
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("100us"), Ok(Duration::from_micros(100)));
        assert_eq!(time("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(time("2h"), Ok(Duration::from_secs(7200)));
        assert!(time("1d").is_err() && time("s").is_err());
    }
}
