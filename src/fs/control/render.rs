//! What the control files show. Each takes its numbers once, so that a file is of one moment.

use super::Control;
use crate::engine::Durability;
use crate::engine::stats::{PartitionStats, StoreStats};
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// Version of the on-disk format.
const FORMAT: u32 = 1;

pub(super) fn version(_: &Control) -> String {
    format!("bitkv {} format {FORMAT}\n", env!("CARGO_PKG_VERSION"))
}

pub(super) fn health(control: &Control) -> String {
    let store = control.volume.store();
    let stats = store.stats();
    match store.read_only_reason() {
        Some(reason) => format!("read-only: {reason}\n"),
        None if stats.crc_errors > 0 => {
            format!("degraded: {} reads failed their checksum, see .bitkv/errors\n", stats.crc_errors)
        }
        None => "ok\n".to_string(),
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
    Ratio,
}

struct Row {
    name: &'static str,
    value: f64,
    unit: Unit,
}

fn rows(control: &Control) -> Vec<Row> {
    use Unit::*;
    let s: StoreStats = control.volume.store().stats();
    let counts = control.volume.counts();
    let ratio = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
    let sum = |field: fn(&PartitionStats) -> u64| s.partitions.iter().map(field).sum::<u64>() as f64;
    let row = |name, value: u64, unit| Row { name, value: value as f64, unit };
    vec![
        Row { name: "uptime_seconds", value: control.started.elapsed().as_secs() as f64, unit: Seconds },
        row("files", counts.files, Count),
        row("directories", counts.directories, Count),
        row("orphans", counts.orphans, Count),
        row("orphans_reclaimed", counts.orphans_reclaimed, Count),
        row("keys", s.keys, Count),
        row("keydir_bytes", s.keydir_bytes, Bytes),
        Row { name: "bytes_per_key", value: ratio(s.keydir_bytes, s.keys), unit: Ratio },
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
        Row { name: "write_amplification", value: ratio(s.bytes_written, s.user_bytes_written), unit: Ratio },
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
        Row { name: "turns_passed_on", value: sum(|row| row.passed_on), unit: Count },
        Row { name: "panics", value: sum(|row| row.panics), unit: Count },
        row("last_number", s.last_number, Count),
        row("settled", s.settled, Count),
        row("stable", s.stable, Count),
    ]
}

fn exact(row: &Row) -> String {
    if row.unit == Unit::Ratio { format!("{:.2}", row.value) } else { format!("{:.0}", row.value) }
}

fn human(row: &Row) -> Option<String> {
    let scaled = |step: f64, units: &[&str]| {
        let mut value = row.value;
        let mut unit = 0;
        while value >= step && unit + 1 < units.len() {
            value /= step;
            unit += 1;
        }
        (unit > 0).then(|| format!("{value:.1} {}", units[unit]))
    };
    match row.unit {
        Unit::Bytes => scaled(1024.0, &["B", "KiB", "MiB", "GiB", "TiB"]),
        Unit::Count => scaled(1000.0, &["", "thousand", "million", "billion"]),
        Unit::Micros => scaled(1000.0, &["us", "ms", "s"]),
        Unit::Millis => scaled(1000.0, &["ms", "s"]),
        Unit::Seconds => {
            let seconds = row.value as u64;
            (seconds >= 60).then(|| format!("{}h {}m {}s", seconds / 3600, seconds / 60 % 60, seconds % 60))
        }
        Unit::Ratio => None,
    }
}

pub(super) fn stats(control: &Control) -> String {
    let mut out = String::new();
    for row in rows(control) {
        let _ = match human(&row) {
            Some(human) => writeln!(out, "{}: {} ({human})", row.name, exact(&row)),
            None => writeln!(out, "{}: {}", row.name, exact(&row)),
        };
    }
    out.push_str("transport: dev\n");
    out
}

pub(super) fn stats_json(control: &Control) -> String {
    let fields: Vec<String> =
        rows(control).iter().map(|row| format!("\"{}\": {}", row.name, exact(row))).collect();
    format!("{{{}, \"transport\": \"dev\"}}\n", fields.join(", "))
}

pub(super) fn partitions(control: &Control) -> String {
    let mut out = String::from(
        "id\tkeys\tkeydir_bytes\tqueue_depth\tops\tlive_bytes\tdead_bytes\ttotal_bytes\tsegments\tunsynced_bytes\n",
    );
    for row in control.volume.store().stats().partitions {
        let _ = writeln!(
            out,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            row.partition,
            row.keys,
            row.keydir_bytes,
            row.queue_depth,
            row.operations,
            row.live_bytes,
            row.dead_bytes,
            row.file_bytes,
            row.segments,
            row.unsynced_bytes
        );
    }
    out
}

pub(super) fn segments(control: &Control) -> String {
    let mut out =
        String::from("partition\tsegment\tstate\tkeys\tlive_bytes\tdead_bytes\ttotal_bytes\tdead_ratio\n");
    for row in control.volume.store().segment_stats() {
        let bytes = row.live_bytes + row.dead_bytes;
        let dead_ratio = if bytes == 0 { 0.0 } else { row.dead_bytes as f64 / bytes as f64 };
        let _ = writeln!(
            out,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{dead_ratio:.3}",
            row.partition,
            row.segment,
            row.state.name(),
            row.live_records,
            row.live_bytes,
            row.dead_bytes,
            row.file_bytes,
        );
    }
    out
}

pub(super) fn config(control: &Control) -> String {
    let volume = &control.volume;
    let config = volume.store().config();
    let (sync, interval) = match config.durability {
        Durability::Interval(interval) => ("interval", format!("{}ms", interval.as_millis())),
        Durability::Always => ("always", "-".to_string()),
        Durability::Explicit => ("fsync", "-".to_string()),
    };
    format!(
        "partitions={}\nsync={sync}\nsync-interval={interval}\nsegment-size={}\nchunk-size={}\ncompact-rate={}\n\
         compact-threshold={}\nauto-compact={}\nread-only={}\n",
        volume.store().partition_count(),
        config.segment_bytes,
        volume.chunk_bytes(),
        config.compact_bytes_per_second,
        config.compact_threshold,
        config.auto_compact,
        config.read_only,
    )
}

pub(super) fn errors(control: &Control) -> String {
    let mut out = String::new();
    for error in control.volume.store().integrity_errors() {
        let _ = writeln!(
            out,
            "{}\tpartition {}\tsegment {}\toffset {}\t{}",
            error.noticed_ns / 1_000_000_000,
            error.partition,
            error.segment,
            error.offset,
            control.volume.describe(&error.key),
        );
    }
    out
}

pub(super) fn compact(control: &Control) -> String {
    let state = if control.progress.compacting.load(Ordering::Acquire) { "running" } else { "idle" };
    format!("{state}\nreclaimed_bytes: {}\n", control.progress.compacted_bytes.load(Ordering::Relaxed))
}
