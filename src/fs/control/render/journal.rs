//! Operations that are over, a line each: slow ones with the time that each phase took, all of them while somebody follows. Pure.

use super::table;
use crate::engine::phase::Phase;
use crate::fs::journal::Entry;
use crate::fs::operation::Operation;

/// What both tables say of an operation.
fn subject(entry: &Entry) -> [String; 6] {
    let Operation { what, inode, offset, length, .. } = entry.operation;
    [
        format!(
            "{}.{:06}",
            entry.ended_ns.div_euclid(1_000_000_000),
            entry.ended_ns.rem_euclid(1_000_000_000) / 1000
        ),
        what.to_string(),
        inode.0.to_string(),
        entry.operation.name(),
        offset.to_string(),
        length.to_string(),
    ]
}

const SUBJECT: [&str; 6] = ["ended", "operation", "inode", "name", "offset", "length"];

/// The newest last.
pub(in super::super) fn slowlog(entries: &[Entry]) -> String {
    let phases: Vec<String> = Phase::ALL.iter().map(|phase| format!("{}_us", phase.name())).collect();
    let mut header = SUBJECT.to_vec();
    header.push("total_us");
    header.extend(phases.iter().map(String::as_str));
    let row = |entry: &Entry| {
        let times = std::iter::once(entry.total_ns).chain(entry.phases_ns);
        subject(entry).into_iter().chain(times.map(|ns| (ns / 1000).to_string())).collect()
    };
    table(&header, entries.iter().map(row))
}

/// The newest last.
pub(in super::super) fn accesslog(entries: &[Entry]) -> String {
    let mut header = vec!["number"];
    header.extend(SUBJECT);
    header.push("total_us");
    let row = |entry: &Entry| {
        let number = std::iter::once(entry.number.to_string());
        number.chain(subject(entry)).chain([(entry.total_ns / 1000).to_string()]).collect()
    };
    table(&header, entries.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::phase::PHASES;

    #[test]
    fn the_tables_are_as_they_always_were() {
        let mut phases_ns = [0; PHASES];
        phases_ns[Phase::Sync as usize] = 2_000_000;
        let entry = Entry {
            number: 7,
            ended_ns: 1_700_000_000_123_456_789,
            operation: Operation::UNKNOWN,
            total_ns: 2_500_999,
            phases_ns,
        };
        assert_eq!(
            slowlog(&[entry]),
            "ended\toperation\tinode\tname\toffset\tlength\ttotal_us\tqueue_us\twork_us\tread_us\tlock_us\troom_us\t\
             settle_us\tsync_us\telsewhere_us\n1700000000.123456\tunknown\t0\t\t0\t0\t2500\t0\t0\t0\t0\t0\t0\t2000\t0\n"
        );
        assert_eq!(
            accesslog(&[entry]),
            "number\tended\toperation\tinode\tname\toffset\tlength\ttotal_us\n\
             7\t1700000000.123456\tunknown\t0\t\t0\t0\t2500\n"
        );
    }
}
