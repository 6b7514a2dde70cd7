//! The numbers in Prometheus' text format, version 0.0.4: base units, counters end in `_total`, and no label ever holds a path. Pure.

use super::Report;
use crate::engine::stats::{Distribution, PartitionStats};
use std::fmt::{Display, Write};

/// What a family of samples is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The text so far. A family is begun, then gets its samples.
#[derive(Default)]
struct Page {
    text: String,
    name: String,
}

impl Page {
    fn begin(&mut self, kind: Kind, name: &str, help: &str) {
        let (suffix, word) = match kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
            Kind::Histogram => ("", "histogram"),
        };
        self.name = format!("bitkv_{name}{suffix}");
        let _ = writeln!(self.text, "# HELP {} {help}", self.name);
        let _ = writeln!(self.text, "# TYPE {} {word}", self.name);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.name);
    }

    fn one(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.begin(kind, name, help);
        self.sample("", &[], value);
    }

    /// A sample for each partition.
    fn each(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        report: &Report,
        field: fn(&PartitionStats) -> u64,
    ) {
        self.begin(kind, name, help);
        for row in &report.store.partitions {
            self.sample("", &[("partition", &row.partition.to_string())], field(row));
        }
    }

    /// The samples of one distribution.
    fn spread(&mut self, labels: &[(&str, &str)], distribution: &Distribution) {
        for (bound_us, count) in &distribution.below {
            let bound = seconds(u128::from(*bound_us) * 1000);
            self.sample("_bucket", &[labels, &[("le", bound.as_str())]].concat(), count);
        }
        self.sample("_bucket", &[labels, &[("le", "+Inf")]].concat(), distribution.count);
        self.sample("_sum", labels, seconds(distribution.sum_ns.into()));
        self.sample("_count", labels, distribution.count);
    }
}

/// Nanoseconds as seconds, exactly.
fn seconds(ns: u128) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

pub(in super::super) fn metrics(report: &Report, is_read_only: bool) -> String {
    let mut page = Page::default();
    about(&mut page, report, is_read_only);
    contents(&mut page, report);
    work(&mut page, report);
    background(&mut page, report);
    order(&mut page, report);
    times(&mut page, report);
    page.text
}

fn about(page: &mut Page, report: &Report, is_read_only: bool) {
    use Kind::Gauge;
    page.begin(Gauge, "info", "What serves the mount.");
    let format = super::FORMAT.to_string();
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("format", format.as_str()),
        ("transport", report.transport),
    ];
    page.sample("", &labels, 1);
    page.one(Gauge, "uptime_seconds", "How long the store has been mounted.", report.uptime_seconds);
    page.one(Gauge, "read_only", "1 if the store takes no changes.", u8::from(is_read_only));
    let paused = u8::from(report.compaction_paused);
    page.one(Gauge, "compaction_paused", "1 if compaction is held.", paused);
}

fn contents(page: &mut Page, report: &Report) {
    use Kind::{Counter, Gauge};
    let counts = &report.counts;
    page.one(Gauge, "files", "Inodes that are no directories.", counts.files);
    page.one(Gauge, "directories", "Directories.", counts.directories);
    page.one(Gauge, "orphans", "Inodes without a name that are still open.", counts.orphans);
    let reclaimed = counts.orphans_reclaimed;
    page.one(Counter, "orphans_reclaimed", "Inodes without a name that an earlier life left.", reclaimed);
    page.each(Gauge, "keys", "Live keys.", report, |row| row.keys);
    page.each(Gauge, "keydir_bytes", "Memory of the index of keys.", report, |row| row.keydir_bytes);
    page.each(Gauge, "live_bytes", "Bytes of live records.", report, |row| row.live_bytes);
    page.each(Gauge, "dead_bytes", "Bytes of records that compaction can free.", report, |row| {
        row.dead_bytes
    });
    page.each(Gauge, "file_bytes", "Size of the segment files.", report, |row| row.file_bytes);
    page.each(Gauge, "segments", "Segment files.", report, |row| row.segments);
    page.one(Gauge, "reserve_bytes", "Space kept for a full disk.", report.store.reserve_bytes);
}

fn work(page: &mut Page, report: &Report) {
    use Kind::{Counter, Gauge};
    let store = &report.store;
    page.one(Counter, "puts", "Values written.", store.puts);
    page.one(Counter, "gets", "Keys looked up.", store.gets);
    page.one(Counter, "misses", "Keys looked up that had no value.", store.misses);
    page.one(Counter, "deletes", "Keys removed.", store.deletes);
    page.one(Counter, "written_bytes", "Bytes written to segments.", store.bytes_written);
    let user = store.user_bytes_written;
    page.one(Counter, "user_written_bytes", "Bytes of records that operations wrote.", user);
    page.one(Counter, "read_bytes", "Bytes read from segments.", store.bytes_read);
    page.one(Counter, "syncs", "Requests to make everything durable.", store.syncs);
    page.one(Counter, "sync_rounds", "Rounds of syncing that served them.", store.sync_rounds);
    page.one(Counter, "rotations", "Segments that were filled.", store.rotations);
    page.one(Counter, "crc_errors", "Records that failed their checksum.", store.crc_errors);
    page.each(Gauge, "unsynced_bytes", "Bytes that aren't durable yet.", report, |row| row.unsynced_bytes);
    page.each(Gauge, "queue_depth", "Operations that wait for the partition.", report, |row| row.queue_depth);
    page.each(Counter, "operations", "Operations started in the partition.", report, |row| row.operations);
    page.each(Counter, "turns_passed_on", "Turns handed to the worker.", report, |row| row.passed_on);
    page.each(Counter, "panics", "Operations that panicked: bugs.", report, |row| row.panics);
}

fn background(page: &mut Page, report: &Report) {
    use Kind::{Counter, Gauge};
    let store = &report.store;
    page.one(Counter, "compactions", "Compactions.", store.compactions);
    page.one(Counter, "compaction_failures", "Compactions that came to nothing.", store.compaction_failures);
    let (reclaimed, copied) = (store.compaction_bytes_reclaimed, store.compaction_bytes_copied);
    page.one(Counter, "compaction_reclaimed_bytes", "Bytes that compactions freed.", reclaimed);
    page.one(Counter, "compaction_copied_bytes", "Bytes that compactions copied.", copied);
    page.one(Counter, "segments_removed", "Segments that compactions removed.", store.segments_removed);
    page.one(Counter, "cleanup_failures", "Files that couldn't be removed.", store.cleanup_failures);
    let torn = store.torn_tail_bytes;
    page.one(
        Gauge,
        "torn_tail_bytes",
        "Bytes behind the last whole commit, cut when the store opened.",
        torn,
    );
    let recovery = seconds(store.recovery_ns.into());
    page.one(Gauge, "recovery_seconds", "How long opening the store took.", recovery);
    page.one(Gauge, "recovery_keys", "Keys found when the store was opened.", store.recovery_keys);
}

fn order(page: &mut Page, report: &Report) {
    use Kind::Gauge;
    let store = &report.store;
    page.one(Gauge, "last_number", "Number of the newest commit.", store.last_number);
    page.one(Gauge, "settled_number", "Up to here everything is with the kernel.", store.settled);
    page.one(Gauge, "stable_number", "Up to here everything is durable.", store.stable);
}

fn times(page: &mut Page, report: &Report) {
    page.one(Kind::Counter, "slow_operations", "Operations in .bitkv/slowlog.", report.slow_operations);
    let help = "Requests from being taken to being answered.";
    page.begin(Kind::Histogram, "request_duration_seconds", help);
    for (partition, distribution) in report.distributions.iter().enumerate() {
        page.spread(&[("partition", &partition.to_string())], distribution);
    }
    page.begin(Kind::Histogram, "sync_duration_seconds", "How long whoever asked for a sync waited.");
    page.spread(&[], &report.store.sync_times);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stats::StoreStats;

    #[test]
    fn families_have_help_type_and_base_units() {
        let times = Distribution { below: vec![(1, 0), (4, 2)], count: 3, sum_ns: 1_500_000_100 };
        let report = Report {
            store: StoreStats {
                recovery_ns: 2_000_000,
                last_number: (1 << 53) + 1,
                partitions: vec![PartitionStats { partition: 0, keys: 5, ..Default::default() }],
                ..Default::default()
            },
            distributions: vec![times],
            transport: "dev",
            ..Default::default()
        };
        let text = metrics(&report, true);
        for line in [
            "# HELP bitkv_puts_total Values written.\n# TYPE bitkv_puts_total counter\nbitkv_puts_total 0\n",
            "# TYPE bitkv_keys gauge\nbitkv_keys{partition=\"0\"} 5\n",
            "bitkv_read_only 1\n",
            "bitkv_recovery_seconds 0.002\n",
            "bitkv_last_number 9007199254740993\n",
            "# TYPE bitkv_request_duration_seconds histogram\n\
             bitkv_request_duration_seconds_bucket{partition=\"0\",le=\"0.000001\"} 0\n\
             bitkv_request_duration_seconds_bucket{partition=\"0\",le=\"0.000004\"} 2\n\
             bitkv_request_duration_seconds_bucket{partition=\"0\",le=\"+Inf\"} 3\n\
             bitkv_request_duration_seconds_sum{partition=\"0\"} 1.5000001\n\
             bitkv_request_duration_seconds_count{partition=\"0\"} 3\n",
            "transport=\"dev\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn times_are_exact_seconds() {
        let expected = ["0", "0.000000001", "1", "1.5", "10"];
        let got = [0, 1, 1_000_000_000, 1_500_000_000, 10_000_000_000].map(seconds);
        assert_eq!(got, expected);
    }
}
