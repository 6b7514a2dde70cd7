//! What lies on a disk, as text: for whoever looks into a seed that failed.

use super::segments::read_segment;
use crate::engine::disk::sim::SimDisk;
use std::fmt::Write;

/// Every frame of every segment; records as key and kind.
pub(crate) fn describe(disk: &SimDisk) -> String {
    let mut text = String::new();
    for path in disk.files() {
        let bytes = disk.content(&path).unwrap_or_default();
        let _ = writeln!(text, "{path}: {} bytes", bytes.len());
        if path == "MANIFEST" {
            let _ = writeln!(text, "{}", String::from_utf8_lossy(&bytes));
        }
        if !path.contains(".data") {
            continue;
        }
        let Some((header, found)) = read_segment(&bytes) else { continue };
        let _ = writeln!(text, "  {:?} victims {:?}", header.origin, header.victims);
        for frame in &found.frames {
            let records: Vec<_> = frame
                .records
                .iter()
                .map(|r| {
                    let key = String::from_utf8_lossy(&r.key[..r.key.len().min(6)]).into_owned();
                    let mark = if r.value_is_right { ":" } else { "!" };
                    format!("{} {key}{mark}{}", r.number, r.value_length)
                })
                .collect();
            let h = &frame.header;
            let _ = writeln!(
                text,
                "  {} {:?} number {} stable {} epoch {} commit {:x} parts {} {:?} {records:?} {:?}",
                frame.offset,
                h.kind,
                h.number,
                h.stable,
                h.epoch.0,
                h.commit,
                h.parts,
                frame.condition,
                frame.last_numbers
            );
        }
        let _ = writeln!(text, "  {:?}", found.walked);
    }
    text
}
