//! A time of day in which something may happen, in UTC. Pure.

use std::fmt;
use std::str::FromStr;

const DAY_MINUTES: u64 = 24 * 60;
const MINUTE_NS: u64 = 60_000_000_000;
const DAY_NS: u64 = DAY_MINUTES * MINUTE_NS;

/// From one minute of the day to another, in UTC: from the first on, up to but without the last. One that ends before it begins goes over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    from_minute: u16,
    to_minute: u16,
}

impl Window {
    /// A window between two minutes of the day; None if it is empty or a minute isn't one (0 to 1439).
    pub fn new(from_minute: u16, to_minute: u16) -> Option<Window> {
        let minutes = |minute: u16| u64::from(minute) < DAY_MINUTES;
        let fits = minutes(from_minute) && minutes(to_minute) && from_minute != to_minute;
        fits.then_some(Window { from_minute, to_minute })
    }

    /// How long until it is open, in nanoseconds; 0 if it is. `wall_ns` is the time since 1970.
    pub fn wait_ns(self, wall_ns: i64) -> u64 {
        let now_ns = wall_ns.rem_euclid(DAY_NS as i64) as u64;
        let from_ns = u64::from(self.from_minute) * MINUTE_NS;
        let to_ns = u64::from(self.to_minute) * MINUTE_NS;
        let since_open_ns = (now_ns + DAY_NS - from_ns) % DAY_NS;
        let length_ns = (to_ns + DAY_NS - from_ns) % DAY_NS;
        if since_open_ns < length_ns { 0 } else { DAY_NS - since_open_ns }
    }

    /// The first and the last minute, to be kept in one word.
    pub(crate) fn minutes(self) -> (u16, u16) {
        (self.from_minute, self.to_minute)
    }
}

impl FromStr for Window {
    type Err = String;

    /// `22:00-06:30`.
    fn from_str(text: &str) -> Result<Window, String> {
        let minute = |text: &str| -> Option<u16> {
            let (hours, minutes) = text.split_once(':')?;
            let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            if !two_digits(hours) || !two_digits(minutes) {
                return None;
            }
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let window = text.split_once('-').and_then(|(from, to)| Window::new(minute(from)?, minute(to)?));
        window.ok_or_else(|| format!("{text} is no time of day; write it as 22:00-06:30, in UTC"))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from_minute, self.to_minute);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_NS: i64 = 3_600_000_000_000;

    #[test]
    fn a_window_may_go_over_midnight() {
        let night: Window = "22:00-06:00".parse().unwrap();
        for hour in [22, 23, 0, 5] {
            assert_eq!(night.wait_ns(hour * HOUR_NS), 0, "{hour}");
        }
        assert_eq!(night.wait_ns(6 * HOUR_NS), 16 * HOUR_NS as u64, "its end is outside");
        assert_eq!(night.wait_ns(21 * HOUR_NS + HOUR_NS / 2), HOUR_NS as u64 / 2);
        // Days before 1970 have hours too.
        assert_eq!(night.wait_ns(-HOUR_NS), 0);
        let noon: Window = "12:00-12:01".parse().unwrap();
        assert_eq!((noon.wait_ns(12 * HOUR_NS), noon.wait_ns(11 * HOUR_NS)), (0, HOUR_NS as u64));
        assert_eq!(noon.wait_ns(13 * HOUR_NS), 23 * HOUR_NS as u64);
    }

    #[test]
    fn it_is_shown_as_it_is_read() {
        for text in ["22:00-06:30", "00:00-23:59"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        for wrong in
            ["", "22-6", "22:00", "24:00-01:00", "22:60-23:00", "01:00-01:00", "1:00-02:00", "+1:00-02:00"]
        {
            assert!(wrong.parse::<Window>().is_err(), "{wrong}");
        }
    }
}
