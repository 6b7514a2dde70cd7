//! `bitkv top MNT`: what a mount does, live on a terminal; elsewhere once.

use super::progress::bytes;
use super::{control, finish};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

/// Clears the screen, and begins at its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows it, on a terminal again and again until it is interrupted; returns the exit code.
pub fn run(path: &Path, interval: Duration) -> i32 {
    finish("bitkv top", show(path, interval))
}

fn show(path: &Path, interval: Duration) -> Result<(), String> {
    let directory = control::directory(path)?;
    let is_live = std::io::stdout().is_terminal();
    let mut before = Moment::of(&directory)?;
    loop {
        std::thread::sleep(interval);
        let now = Moment::of(&directory)?;
        let screen = screen(&directory.with_file_name("").display().to_string(), &before, &now);
        let begin = if is_live { CLEAR } else { "" };
        if !control::print_to_reader(format!("{begin}{screen}"))? || !is_live {
            return Ok(());
        }
        before = now;
    }
}

/// Everything that is shown, at one moment.
struct Moment {
    at: Instant,
    health: String,
    stats: HashMap<String, f64>,
    /// The table of partitions, with its header.
    partitions: Vec<Vec<String>>,
}

impl Moment {
    fn of(directory: &Path) -> Result<Moment, String> {
        let at = Instant::now();
        let stats = numbers(&control::read(directory, "stats")?);
        let partitions = control::read(directory, "partitions")?;
        let partitions = partitions.lines().map(|line| line.split('\t').map(str::to_string).collect());
        let health = control::read(directory, "health")?.trim_end().to_string();
        Ok(Moment { at, health, stats, partitions: partitions.collect() })
    }

    fn number(&self, name: &str) -> f64 {
        self.stats.get(name).copied().unwrap_or(0.0)
    }

    /// A number of a partition's row.
    fn of_partition(&self, row: usize, column: &str) -> f64 {
        let index = self.partitions.first().and_then(|header| header.iter().position(|name| name == column));
        let value = index.and_then(|index| self.partitions.get(row)?.get(index)?.parse().ok());
        value.unwrap_or(0.0)
    }
}

/// `name: value` a line, whatever follows the value.
fn numbers(text: &str) -> HashMap<String, f64> {
    let line = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_string(), value.split(' ').next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn screen(place: &str, before: &Moment, now: &Moment) -> String {
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let rate = |name: &str| (now.number(name) - before.number(name)).max(0.0) / seconds;
    let up = now.number("uptime_seconds") as u64;
    let mut out = format!(
        "{}  up {}:{:02}:{:02}  {}\n\n",
        place.trim_end_matches('/'),
        up / 3600,
        up / 60 % 60,
        up % 60,
        now.health
    );
    let count = |name: &str| now.number(name);
    out += &format!(
        "files {:.0}  directories {:.0}  keys {:.0}  memory of keys {}\n",
        count("files"),
        count("directories"),
        count("keys"),
        bytes(count("keydir_bytes"))
    );
    out += &format!(
        "live {}  dead {}  on disk {}  write amplification {:.2}\n\n",
        bytes(count("live_bytes")),
        bytes(count("dead_bytes")),
        bytes(count("total_bytes")),
        count("write_amplification")
    );
    out += &format!(
        "puts {:.0}/s  gets {:.0}/s  deletes {:.0}/s  written {}/s  read {}/s\n",
        rate("puts"),
        rate("gets"),
        rate("deletes"),
        bytes(rate("bytes_written")),
        bytes(rate("bytes_read"))
    );
    out += &format!(
        "fsyncs {:.0}/s in {:.0} rounds/s  p50 {:.0} us  p99 {:.0} us  slow operations {:.0}\n",
        rate("fsyncs"),
        rate("sync_rounds"),
        count("fsync_p50_us"),
        count("fsync_p99_us"),
        count("slow_operations")
    );
    out += &format!(
        "compactions {:.0}  reclaimed {}  failed {:.0}  checksum errors {:.0}\n\n",
        count("compactions"),
        bytes(count("compaction_bytes_reclaimed")),
        count("compaction_failures"),
        count("crc_errors")
    );
    out += "partition      ops/s   queue   p50 us   p99 us         keys       live       dead   unsynced\n";
    for row in 1..now.partitions.len() {
        let number = |column: &str| now.of_partition(row, column);
        let operations = (number("ops") - before.of_partition(row, "ops")).max(0.0) / seconds;
        out += &format!(
            "{:>9} {operations:>10.0} {:>7.0} {:>8.0} {:>8.0} {:>12.0} {:>10} {:>10} {:>10}\n",
            number("id"),
            number("queue_depth"),
            number("p50_us"),
            number("p99_us"),
            number("keys"),
            bytes(number("live_bytes")),
            bytes(number("dead_bytes")),
            bytes(number("unsynced_bytes")),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between() {
        let moment = |at, puts: u64, ops: u64| Moment {
            at,
            health: "ok".to_string(),
            stats: numbers(&format!(
                "uptime_seconds: 3661 (1h 1m 1s)\nputs: {puts}\nlive_bytes: 2048 (2.0 KiB)\n"
            )),
            partitions: vec![
                ["id", "ops", "queue_depth"].map(String::from).to_vec(),
                [0, ops, 7].map(|number: u64| number.to_string()).to_vec(),
            ],
        };
        let start = Instant::now();
        let text = screen("/mnt/", &moment(start, 10, 100), &moment(start + Duration::from_secs(2), 30, 500));
        assert!(text.starts_with("/mnt  up 1:01:01  ok\n"), "{text}");
        assert!(text.contains("puts 10/s  gets 0/s") && text.contains("live 2.0 KiB"), "{text}");
        let row: Vec<&str> = text.lines().last().unwrap().split_whitespace().take(3).collect();
        assert_eq!(row, ["0", "200", "7"]);
    }
}
