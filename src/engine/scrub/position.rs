//! What is kept of a verification beside the store: the file `SCRUB`. Where the next one goes on, and what the last one came to. Losing it
//! costs a verification from the start, so it isn't synced.

use super::{ScrubPhase, ScrubStats};
use crate::engine::disk::Disk;
use crate::engine::format::crc;
use crate::engine::recovery::load::read_file;
use std::fmt::Write;
use std::io;

const FILE: &str = "SCRUB";
const TEMPORARY: &str = "SCRUB.tmp";
const FIRST_LINE: &str = "bitkv-scrub 1";

/// Keeps how far a verification is. Waits for the disk.
pub(super) fn keep(disk: &dyn Disk, stats: &ScrubStats) -> io::Result<()> {
    match disk.remove(TEMPORARY) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(TEMPORARY)?;
    file.write_at(0, encode(stats).as_bytes())?;
    disk.rename(TEMPORARY, FILE)
}

/// What was kept, if it can be read. Waits for the disk.
pub(super) fn recall(disk: &dyn Disk) -> Option<ScrubStats> {
    decode(&String::from_utf8(read_file(disk, FILE).ok()?).ok()?)
}

fn fields(stats: &mut ScrubStats) -> [(&'static str, &mut u64); 12] {
    [
        ("partition", &mut stats.partition),
        ("segment", &mut stats.segment),
        ("segments_done", &mut stats.segments_done),
        ("bytes_done", &mut stats.bytes_done),
        ("bytes_total", &mut stats.bytes_total),
        ("records", &mut stats.records),
        ("damaged_values", &mut stats.damaged_values),
        ("damaged_dead", &mut stats.damaged_dead),
        ("damaged_places", &mut stats.damaged_places),
        ("hints_rewritten", &mut stats.hints_rewritten),
        ("elapsed_ns", &mut stats.elapsed_ns),
        ("ended_seconds", &mut stats.ended_seconds),
    ]
}

fn encode(stats: &ScrubStats) -> String {
    let mut text = format!("{FIRST_LINE}\nphase {}\n", stats.phase.name());
    for (name, value) in fields(&mut stats.clone()) {
        let _ = writeln!(text, "{name} {value}");
    }
    let crc = crc(None, &[text.as_bytes()]);
    let _ = writeln!(text, "crc32c {crc:08x}");
    text
}

fn decode(text: &str) -> Option<ScrubStats> {
    let mut stats = ScrubStats::default();
    let mut lines = text.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let phase = lines.next()?.strip_prefix("phase ")?;
    stats.phase = match phase {
        _ if phase == ScrubPhase::Done.name() => ScrubPhase::Done,
        // One that ran when the store was closed, or died, has stopped.
        _ => ScrubPhase::Stopped,
    };
    for (name, value) in fields(&mut stats) {
        *value = lines.next()?.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()?;
    }
    let right = text.rsplit_once("crc32c ").is_some_and(|(before, crc_text)| {
        crc_text.trim_end() == format!("{:08x}", crc(None, &[before.as_bytes()]))
    });
    right.then_some(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_recalled_and_nothing_else_is_believed() {
        let stats = ScrubStats {
            phase: ScrubPhase::Running,
            partition: 3,
            segment: 17,
            records: 99,
            ..Default::default()
        };
        let text = encode(&stats);
        let recalled = ScrubStats { phase: ScrubPhase::Stopped, ..stats };
        assert_eq!(decode(&text), Some(recalled));
        for cut in 0..text.len() - 1 {
            assert_eq!(decode(&text[..cut]), None, "{cut}");
        }
        for (from, to) in [("segment 17", "segment 18"), ("scrub 1", "scrub 2"), ("records 99", "records x")]
        {
            assert_eq!(decode(&text.replacen(from, to, 1)), None, "{to}");
        }
    }
}
