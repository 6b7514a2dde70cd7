//! How far a long work is: a bar on a terminal, with rate and what time is left; elsewhere a line now and then. On standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a bar is drawn anew.
const DRAWN_EVERY: Duration = Duration::from_millis(200);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The rate is that of about the last so many seconds.
const RATE_SECONDS: f64 = 5.0;
const BAR_WIDTH: usize = 24;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    Bytes,
    Records,
    Files,
}

impl Unit {
    fn show(self, count: f64) -> String {
        match self {
            Unit::Bytes => bytes(count),
            Unit::Records => format!("{count:.0} records"),
            Unit::Files => format!("{count:.0} files"),
        }
    }
}

/// Bytes as people read them.
pub(super) fn bytes(count: f64) -> String {
    let mut scaled = count;
    let mut units = ["KiB", "MiB", "GiB", "TiB", "PiB"].into_iter();
    let mut unit = "B";
    while scaled >= 1024.0
        && let Some(next) = units.next()
    {
        scaled /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{scaled:.0} B") } else { format!("{scaled:.1} {unit}") }
}

/// A work that is under way.
pub(super) struct Progress {
    who: &'static str,
    unit: Unit,
    /// 0: not known.
    total: u64,
    is_terminal: bool,
    started: Instant,
    shown: Instant,
    shown_count: u64,
    rate: f64,
    is_drawn: bool,
}

impl Progress {
    /// A work of `total` units, or without a known end (0).
    pub(super) fn new(who: &'static str, unit: Unit, total: u64) -> Self {
        let now = Instant::now();
        Progress {
            who,
            unit,
            total,
            is_terminal: std::io::stderr().is_terminal(),
            started: now,
            shown: now,
            shown_count: 0,
            rate: 0.0,
            is_drawn: false,
        }
    }

    /// The end is another than was thought.
    pub(super) fn set_total(&mut self, total: u64) {
        self.total = total;
    }

    /// So much is done.
    pub(super) fn at(&mut self, count: u64) {
        let since = self.shown.elapsed();
        if since < if self.is_terminal { DRAWN_EVERY } else { LINE_EVERY } {
            return;
        }
        let rate = count.saturating_sub(self.shown_count) as f64 / since.as_secs_f64();
        let weight = if self.is_drawn { (since.as_secs_f64() / RATE_SECONDS).min(1.0) } else { 1.0 };
        self.rate += (rate - self.rate) * weight;
        (self.shown, self.shown_count, self.is_drawn) = (Instant::now(), count, true);
        let text = text(self.unit, count, self.total, self.rate);
        let mut out = std::io::stderr().lock();
        // Nobody has to see it.
        let _ = match self.is_terminal {
            true => write!(out, "\r\x1b[K{}: {} {text}", self.who, bar(count, self.total)),
            false => writeln!(out, "{}: {text}", self.who),
        };
    }

    /// It is over: the bar goes. How long it took.
    pub(super) fn end(self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_terminal && self.is_drawn {
            eprint!("\r\x1b[K");
        }
    }
}

fn bar(count: u64, total: u64) -> String {
    if total == 0 {
        return String::new();
    }
    let filled = (u128::from(count.min(total)) * BAR_WIDTH as u128 / u128::from(total)) as usize;
    format!("[{}{}]", "#".repeat(filled), " ".repeat(BAR_WIDTH - filled))
}

fn text(unit: Unit, count: u64, total: u64, rate: f64) -> String {
    let mut text = unit.show(count as f64);
    if total > 0 {
        let percent = u128::from(count.min(total)) * 100 / u128::from(total);
        text += &format!(" of {} ({percent}%)", unit.show(total as f64));
    }
    text += &format!(", {}/s", unit.show(rate));
    if total > count && rate >= 1.0 {
        let seconds = ((total - count) as f64 / rate) as u64;
        text += &format!(", {}:{:02} left", seconds / 60, seconds % 60);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told() {
        let told = text(Unit::Bytes, 3 << 20, 12 << 20, (1 << 20) as f64);
        assert_eq!(told, "3.0 MiB of 12.0 MiB (25%), 1.0 MiB/s, 0:09 left");
        assert_eq!(text(Unit::Records, 7, 0, 2.0), "7 records, 2 records/s");
        assert_eq!(bar(1, 4), format!("[{}{}]", "#".repeat(6), " ".repeat(18)));
        // More than was expected is everything.
        assert_eq!(text(Unit::Files, 9, 4, 2.0), "9 files of 4 files (100%), 2 files/s");
        assert_eq!((bytes(1023.0), bytes(1536.0)), ("1023 B".to_string(), "1.5 KiB".to_string()));
    }
}
