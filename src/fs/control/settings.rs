//! Options that may change while the store is open, as `config` shows and takes them. Pure.

use super::units;
use crate::engine::Tune;
use std::time::Duration;

/// A change of an option.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Change {
    /// The store carries it out.
    Store(Tune),
    /// From which time on an operation is slow.
    SlowThreshold(Duration),
}

const SLOW_THRESHOLD: &str = "slowlog-threshold";

/// The name and value of the time from which on an operation is slow.
pub(super) fn show_threshold(threshold: Duration) -> (&'static str, String) {
    (SLOW_THRESHOLD, format!("{}us", threshold.as_micros()))
}

/// An option's name and value.
pub(super) fn show(setting: Tune) -> (&'static str, String) {
    match setting {
        Tune::AutoCompact(auto) => ("auto-compact", auto.to_string()),
        Tune::CompactThreshold(threshold) => ("compact-threshold", threshold.to_string()),
        Tune::CompactBytesPerSecond(bytes) => ("compact-rate", bytes.to_string()),
        Tune::CompactCooldown(time) => ("compact-cooldown", format!("{}ms", time.as_millis())),
        Tune::CompactWindow(None) => ("compact-window", "any".to_string()),
        Tune::CompactWindow(Some(window)) => ("compact-window", window.to_string()),
        Tune::Paused(paused) => ("compact-paused", paused.to_string()),
    }
}

/// The change that a line asks for. None: there is no such option, or it can't change; None within: that is no value for it.
pub(super) fn parse(name: &str, value: &str) -> Option<Option<Change>> {
    match name {
        SLOW_THRESHOLD => Some(units::time(value).ok().map(Change::SlowThreshold)),
        _ => parse_tune(name, value).map(|change| change.map(Change::Store)),
    }
}

fn parse_tune(name: &str, value: &str) -> Option<Option<Tune>> {
    let share = |share: &f64| (0.0..=1.0).contains(share);
    Some(match name {
        "auto-compact" => value.parse().ok().map(Tune::AutoCompact),
        "compact-threshold" => value.parse().ok().filter(share).map(Tune::CompactThreshold),
        "compact-rate" => units::size(value).ok().map(Tune::CompactBytesPerSecond),
        "compact-cooldown" => units::time(value).ok().map(Tune::CompactCooldown),
        "compact-window" if value == "any" => Some(Tune::CompactWindow(None)),
        "compact-window" => value.parse().ok().map(|window| Tune::CompactWindow(Some(window))),
        "compact-paused" => value.parse().ok().map(Tune::Paused),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_written_back() {
        let settings = [
            Tune::AutoCompact(false),
            Tune::CompactThreshold(0.25),
            Tune::CompactBytesPerSecond(10 << 20),
            Tune::CompactCooldown(Duration::from_millis(1500)),
            Tune::CompactWindow(None),
            Tune::CompactWindow("22:00-06:00".parse().ok()),
            Tune::Paused(true),
        ];
        for setting in settings {
            let (name, value) = show(setting);
            assert_eq!(parse(name, &value), Some(Some(Change::Store(setting))), "{name}={value}");
        }
        let ten = Change::Store(Tune::CompactBytesPerSecond(10 << 20));
        assert_eq!(parse("compact-rate", "10M"), Some(Some(ten)));
        for threshold in [Duration::ZERO, Duration::from_micros(1), Duration::from_secs(7)] {
            let (name, value) = show_threshold(threshold);
            assert_eq!(parse(name, &value), Some(Some(Change::SlowThreshold(threshold))), "{name}={value}");
        }
    }

    #[test]
    fn wrong_values_and_wrong_names_differ() {
        for (name, value) in [
            ("auto-compact", "perhaps"),
            ("compact-threshold", "2"),
            ("compact-threshold", "NaN"),
            ("compact-rate", "-1"),
            ("compact-window", "25:00-26:00"),
            ("slowlog-threshold", "-1s"),
        ] {
            assert_eq!(parse(name, value), Some(None), "{name}={value}");
        }
        assert_eq!(parse("partitions", "3"), None);
    }
}
