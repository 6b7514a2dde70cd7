use super::*;
use crate::engine::stats::{SegmentState, StoreStats};
use std::collections::HashMap;

fn report() -> Report {
    let partition = |partition, keys| PartitionStats { partition, keys, operations: 7, ..Default::default() };
    Report {
        uptime_seconds: 3661,
        store: StoreStats {
            keys: 30,
            keydir_bytes: 2000,
            live_bytes: 5 << 20,
            bytes_written: 300,
            user_bytes_written: 200,
            last_number: (1 << 53) + 1,
            partitions: vec![partition(0, 10), partition(1, 20)],
            ..Default::default()
        },
        latencies: vec![Latency { p50_us: 11, p99_us: 12 }, Latency { p50_us: 21, p99_us: 22 }],
        transport: "dev",
        ..Default::default()
    }
}

#[test]
fn stats_have_every_promised_name_with_an_exact_number() {
    let text = stats(&report());
    let numbers: HashMap<&str, &str> = text
        .lines()
        .map(|line| line.split_once(": ").expect("name: value"))
        .map(|(name, value)| (name, value.split(' ').next().unwrap()))
        .collect();
    let promised = "uptime_seconds files directories keys keydir_bytes bytes_per_key live_bytes dead_bytes total_bytes \
        reserve_bytes puts gets misses deletes bytes_written bytes_read write_amplification fsyncs sync_rounds \
        fsync_p50_us fsync_p99_us compactions compaction_failures compaction_bytes_reclaimed segments_removed \
        rotations crc_errors torn_tail_bytes recovery_ms recovery_keys cleanup_failures last_number settled stable";
    for name in promised.split_whitespace() {
        assert!(numbers[name].parse::<f64>().is_ok(), "{name}: {}", numbers[name]);
    }
    assert_eq!(numbers["write_amplification"], "1.50");
    assert_eq!(numbers["bytes_per_key"], "66.67");
    // More than a float could hold.
    assert_eq!(numbers["last_number"], "9007199254740993");
    assert!(text.contains("live_bytes: 5242880 (5.0 MiB)\n"), "{text}");
    assert!(text.contains("uptime_seconds: 3661 (1h 1m 1s)\n"));
}

#[test]
fn the_object_has_the_same_numbers() {
    let (text, object) = (stats(&report()), stats_json(&report()));
    assert!(object.starts_with('{') && object.ends_with("}\n"));
    for line in text.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        let value = value.split(' ').next().unwrap();
        let quoted = if name == "transport" { format!("\"{value}\"") } else { value.to_string() };
        assert!(object.contains(&format!("\"{name}\": {quoted}")), "{name} in {object}");
    }
}

#[test]
fn tables_have_a_header_and_a_row_each() {
    let text = partitions(&report());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "id\tkeys\tkeydir_bytes\tqueue_depth\tops\tp50_us\tp99_us\tlive_bytes\tdead_bytes\tsegments\tunsynced_bytes"
    );
    assert_eq!(lines[1..], ["0\t10\t0\t0\t7\t11\t12\t0\t0\t0\t0", "1\t20\t0\t0\t7\t21\t22\t0\t0\t0\t0"]);
    let row = SegmentStats {
        partition: 1,
        segment: 9,
        state: SegmentState::Sealed,
        live_records: 3,
        live_bytes: 30,
        dead_bytes: 10,
        file_bytes: 64,
    };
    assert_eq!(
        segments(&[row]),
        "partition\tsegment\tstate\tkeys\tlive_bytes\tdead_bytes\ttotal_bytes\tdead_ratio\n1\t9\tsealed\t3\t30\t10\t64\t0.250\n"
    );
}

#[test]
fn health_is_one_line() {
    let mut report = report();
    assert_eq!(health(None, &report), "ok\n");
    report.store.crc_errors = 2;
    assert!(health(None, &report).starts_with("degraded: 2 reads"));
    assert_eq!(health(Some("a\nb".to_string()), &report), "read-only: a b\n");
}

#[test]
fn the_newest_errors_come_last_and_old_ones_go() {
    let damages: Vec<Damage> = (0..300)
        .map(|n| Damage {
            noticed_seconds: n,
            partition: 0,
            segment: 1,
            offset: 2,
            whose: format!("/file\n{n}"),
        })
        .collect();
    let text = errors(&["number 7 is in no log".to_string()], &damages);
    assert_eq!(text.lines().next(), Some("lost\tnumber 7 is in no log"));
    assert_eq!(text.lines().count(), 1 + 256);
    assert_eq!(text.lines().next_back(), Some("299\tpartition 0\tsegment 1\toffset 2\t/file\\n299"));
}

#[test]
fn options_and_levels() {
    assert_eq!(config(&[("sync", "always".to_string()), ("a", "1".to_string())]), "sync=always\na=1\n");
    assert_eq!((log_level(None), log_level(Some("info".to_string()))), ("off\n".into(), "info\n".into()));
    assert!(version().starts_with("bitkv ") && version().ends_with(" format 1\n"));
}
