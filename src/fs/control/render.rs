//! What the control files show: numbers to text. Pure.

mod journal;
mod metrics;

pub(super) use journal::{accesslog, slowlog};
pub(super) use metrics::metrics;

use super::report::{Damage, Report};
use crate::engine::progress::CompactionPhase;
use crate::engine::scrub::ScrubStats;
use crate::engine::stats::{PartitionStats, SegmentStats};
use crate::fs::traffic::Latency;
use std::fmt::Write;

/// Version of the on-disk format.
const FORMAT: u32 = 1;
/// How many integrity errors are shown.
const DAMAGES_SHOWN: usize = 256;

pub(super) fn version() -> String {
    format!("bitkv {} format {FORMAT}\n", env!("CARGO_PKG_VERSION"))
}

pub(super) fn health(latch_reason: Option<String>, report: &Report) -> String {
    let crc_errors = report.store.crc_errors;
    match latch_reason {
        // One line, whatever the reason looks like.
        Some(reason) => format!("read-only: {}\n", reason.replace('\n', " ")),
        None if crc_errors > 0 => {
            format!("degraded: {crc_errors} reads failed their checksum, see .bitkv/errors\n")
        }
        None => {
            match report.compactions.iter().find_map(|one| Some((one.partition, one.trouble.as_ref()?))) {
                Some((partition, trouble)) => {
                    format!(
                        "degraded: compaction of partition {partition} gave up: {}\n",
                        trouble.replace('\n', " ")
                    )
                }
                None => "ok\n".to_string(),
            }
        }
    }
}

/// How a number is shown to people.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    Bytes,
    Seconds,
    Micros,
    Millis,
}

#[derive(Clone, Copy)]
enum Value {
    Whole(u64, Unit),
    Ratio(f64),
}

struct Row {
    name: &'static str,
    value: Value,
}

/// The names never change their meaning.
fn rows(report: &Report) -> Vec<Row> {
    use Unit::*;
    let s = &report.store;
    let counts = &report.counts;
    let sum = |field: fn(&PartitionStats) -> u64| s.partitions.iter().map(field).sum::<u64>();
    let row = |name, value: u64, unit| Row { name, value: Value::Whole(value, unit) };
    let ratio = |name, a: u64, b: u64| Row {
        name,
        value: Value::Ratio(if b == 0 { 0.0 } else { a as f64 / b as f64 }),
    };
    vec![
        row("uptime_seconds", report.uptime_seconds, Seconds),
        row("files", counts.files, Count),
        row("directories", counts.directories, Count),
        row("orphans", counts.orphans, Count),
        row("orphans_reclaimed", counts.orphans_reclaimed, Count),
        row("keys", s.keys, Count),
        row("keydir_bytes", s.keydir_bytes, Bytes),
        ratio("bytes_per_key", s.keydir_bytes, s.keys),
        row("live_bytes", s.live_bytes, Bytes),
        row("dead_bytes", s.dead_bytes, Bytes),
        row("total_bytes", s.file_bytes, Bytes),
        row("reserve_bytes", s.reserve_bytes, Bytes),
        row("puts", s.puts, Count),
        row("gets", s.gets, Count),
        row("misses", s.misses, Count),
        row("deletes", s.deletes, Count),
        row("bytes_written", s.bytes_written, Bytes),
        row("bytes_read", s.bytes_read, Bytes),
        ratio("write_amplification", s.bytes_written, s.user_bytes_written),
        row("fsyncs", s.syncs, Count),
        row("sync_rounds", s.sync_rounds, Count),
        row("fsync_p50_us", s.sync_p50_us, Micros),
        row("fsync_p99_us", s.sync_p99_us, Micros),
        row("compactions", s.compactions, Count),
        row("compaction_failures", s.compaction_failures, Count),
        row("compaction_bytes_reclaimed", s.compaction_bytes_reclaimed, Bytes),
        row("segments_removed", s.segments_removed, Count),
        row("rotations", s.rotations, Count),
        row("crc_errors", s.crc_errors, Count),
        row("torn_tail_bytes", s.torn_tail_bytes, Bytes),
        row("recovery_ms", s.recovery_ns / 1_000_000, Millis),
        row("recovery_keys", s.recovery_keys, Count),
        row("cleanup_failures", s.cleanup_failures, Count),
        row("turns_passed_on", sum(|row| row.passed_on), Count),
        row("panics", sum(|row| row.panics), Count),
        row("slow_operations", report.slow_operations, Count),
        row("last_number", s.last_number, Count),
        row("settled", s.settled, Count),
        row("stable", s.stable, Count),
    ]
}

fn exact(value: Value) -> String {
    match value {
        Value::Whole(number, _) => number.to_string(),
        Value::Ratio(ratio) => format!("{ratio:.2}"),
    }
}

/// For people; None where the exact number reads well enough.
fn human(value: Value) -> Option<String> {
    let Value::Whole(number, unit) = value else { return None };
    let scaled = |step: f64, units: &[&str]| {
        let mut scaled = number as f64;
        let mut index = 0;
        while scaled >= step && index + 1 < units.len() {
            scaled /= step;
            index += 1;
        }
        (index > 0).then(|| format!("{scaled:.1} {}", units[index]))
    };
    match unit {
        Unit::Bytes => scaled(1024.0, &["B", "KiB", "MiB", "GiB", "TiB"]),
        Unit::Count => scaled(1000.0, &["", "thousand", "million", "billion"]),
        Unit::Micros => scaled(1000.0, &["us", "ms", "s"]),
        Unit::Millis => scaled(1000.0, &["ms", "s"]),
        Unit::Seconds => {
            (number >= 60).then(|| format!("{}h {}m {}s", number / 3600, number / 60 % 60, number % 60))
        }
    }
}

pub(super) fn stats(report: &Report) -> String {
    let mut out = String::new();
    for Row { name, value } in rows(report) {
        let _ = match human(value) {
            Some(human) => writeln!(out, "{name}: {} ({human})", exact(value)),
            None => writeln!(out, "{name}: {}", exact(value)),
        };
    }
    let _ = writeln!(out, "transport: {}", report.transport);
    out
}

pub(super) fn stats_json(report: &Report) -> String {
    let fields: Vec<String> =
        rows(report).iter().map(|row| format!("\"{}\": {}", row.name, exact(row.value))).collect();
    format!("{{{}, \"transport\": \"{}\"}}\n", fields.join(", "), report.transport)
}

/// A table: a header row, then the rows, in columns between tabs.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut out = header.join("\t");
    out.push('\n');
    for row in rows {
        debug_assert_eq!(row.len(), header.len());
        out.push_str(&row.join("\t"));
        out.push('\n');
    }
    out
}

pub(super) fn partitions(report: &Report) -> String {
    let header = [
        "id",
        "keys",
        "keydir_bytes",
        "queue_depth",
        "ops",
        "p50_us",
        "p99_us",
        "live_bytes",
        "dead_bytes",
        "segments",
        "unsynced_bytes",
    ];
    let row = |row: &PartitionStats| {
        let Latency { p50_us, p99_us } =
            report.latencies.get(usize::from(row.partition)).copied().unwrap_or_default();
        let numbers = [
            u64::from(row.partition),
            row.keys,
            row.keydir_bytes,
            row.queue_depth,
            row.operations,
            p50_us,
            p99_us,
            row.live_bytes,
            row.dead_bytes,
            row.segments,
            row.unsynced_bytes,
        ];
        numbers.iter().map(u64::to_string).collect()
    };
    table(&header, report.store.partitions.iter().map(row))
}

pub(super) fn segments(segments: &[SegmentStats]) -> String {
    let header =
        ["partition", "segment", "state", "keys", "live_bytes", "dead_bytes", "total_bytes", "dead_ratio"];
    let row = |row: &SegmentStats| {
        let bytes = row.live_bytes + row.dead_bytes;
        let dead_ratio = if bytes == 0 { 0.0 } else { row.dead_bytes as f64 / bytes as f64 };
        vec![
            row.partition.to_string(),
            row.segment.to_string(),
            row.state.name().to_string(),
            row.live_records.to_string(),
            row.live_bytes.to_string(),
            row.dead_bytes.to_string(),
            row.file_bytes.to_string(),
            format!("{dead_ratio:.3}"),
        ]
    };
    table(&header, segments.iter().map(row))
}

/// What compaction does; first in one word, then partition by partition. `by_hand` tells whether one runs by hand, and what they gained.
pub(super) fn compact(by_hand: (bool, u64), report: &Report) -> String {
    use CompactionPhase::{Copying, Finishing, Waiting};
    let any = |phases: &[CompactionPhase]| report.compactions.iter().any(|one| phases.contains(&one.phase));
    let state = match () {
        () if report.compaction_paused => "paused",
        () if by_hand.0 || any(&[Copying, Finishing]) => "running",
        () if any(&[Waiting]) => "waiting",
        () => "idle",
    };
    let mut out = format!("{state}\nreclaimed_bytes: {}\n", by_hand.1);
    for one in &report.compactions {
        let _ = write!(out, "partition {}: {}", one.partition, one.phase.name());
        if matches!(one.phase, Copying | Finishing) {
            let _ = write!(
                out,
                " {} of {} bytes, {} bytes/s, {} segments",
                one.bytes_done,
                one.bytes_total,
                one.bytes_per_second(),
                one.victims
            );
        }
        if let Some(trouble) = &one.trouble {
            let _ = write!(out, "; the last attempt came to nothing: {}", trouble.replace('\n', " "));
        }
        out.push('\n');
    }
    out
}

pub(super) fn scrub(stats: &ScrubStats) -> String {
    let mut out = format!("{}\n", stats.phase.name());
    let percent = (stats.bytes_done.min(stats.bytes_total) * 100).checked_div(stats.bytes_total).unwrap_or(0);
    for (name, value) in [
        ("percent", percent),
        ("partition", stats.partition),
        ("segment", stats.segment),
        ("segments_done", stats.segments_done),
        ("bytes_done", stats.bytes_done),
        ("bytes_total", stats.bytes_total),
        ("records", stats.records),
        ("damaged_values", stats.damaged_values),
        ("damaged_dead", stats.damaged_dead),
        ("damaged_places", stats.damaged_places),
        ("hints_rewritten", stats.hints_rewritten),
        ("elapsed_seconds", stats.elapsed_ns / 1_000_000_000),
        ("ended_seconds", stats.ended_seconds),
    ] {
        let _ = writeln!(out, "{name}: {value}");
    }
    if let Some(trouble) = &stats.trouble {
        let _ = writeln!(out, "trouble: {}", trouble.replace('\n', " "));
    }
    out
}

pub(super) fn config(options: &[(&'static str, String)]) -> String {
    options.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// The newest last.
pub(super) fn errors(losses: &[String], damages: &[Damage]) -> String {
    let mut out = String::new();
    for loss in losses {
        let _ = writeln!(out, "lost\t{}", loss.replace('\n', "\\n"));
    }
    for damage in &damages[damages.len().saturating_sub(DAMAGES_SHOWN)..] {
        let Damage { noticed_seconds, partition, segment, offset, whose } = damage;
        let _ = writeln!(
            out,
            "{noticed_seconds}\tpartition {partition}\tsegment {segment}\toffset {offset}\t{}",
            // A name may hold anything; here an error is a line.
            whose.replace('\n', "\\n")
        );
    }
    out
}

pub(super) fn log_level(level: Option<String>) -> String {
    format!("{}\n", level.as_deref().unwrap_or("off"))
}

#[cfg(test)]
mod tests;
