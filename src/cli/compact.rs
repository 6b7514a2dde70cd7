//! `bitkv compact MNT`: compacts a mounted store, holds its compaction or lets it go on, shows how far it is.

use super::progress::{Progress, Unit};
use super::{control, finish};
use std::path::Path;

/// What is wanted of compaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Compact one partition, or all, and wait for it if told to.
    Compact {
        /// None: all.
        partition: Option<u16>,
        /// Return when it is done.
        wait: bool,
    },
    /// Hold it where it is.
    Pause,
    /// Let it go on.
    Resume,
    /// Show how far it is.
    Progress,
}

/// Carries an order out; returns the exit code.
pub fn run(path: &Path, order: Order) -> i32 {
    let done = control::directory(path).and_then(|directory| match text(order) {
        Some(text) if matches!(order, Order::Compact { wait: true, .. }) => {
            let progress = Progress::new("bitkv compact", Unit::Bytes, 0);
            control::write_watched(&directory, "compact", &text, progress, done_of)
        }
        Some(text) => control::write(&directory, "compact", &text),
        None => control::read(&directory, "compact").and_then(|text| control::print(&text)),
    });
    finish("bitkv compact", done)
}

/// How far all partitions that are at it are: bytes done, and bytes in all.
fn done_of(text: &str) -> Option<(u64, u64)> {
    // partition N: PHASE DONE of TOTAL bytes, ...
    let line = |line: &str| {
        let words: Vec<&str> = line.strip_prefix("partition ")?.split_whitespace().collect();
        let of = words.iter().position(|word| *word == "of")?;
        Some((words.get(of.checked_sub(1)?)?.parse::<u64>().ok()?, words.get(of + 1)?.parse::<u64>().ok()?))
    };
    text.lines().filter_map(line).reduce(|sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// The line that gives the order; None: only look.
fn text(order: Order) -> Option<String> {
    Some(match order {
        Order::Compact { partition, wait } => {
            let which = partition.map_or("all".to_string(), |partition| format!("partition={partition}"));
            format!("{which}{}\n", if wait { " wait" } else { "" })
        }
        Order::Pause => "pause\n".to_string(),
        Order::Resume => "resume\n".to_string(),
        Order::Progress => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_that_of_all_partitions() {
        let text = "running\nreclaimed_bytes: 7\npartition 0: copying 10 of 30 bytes, 5 bytes/s, 1 segments\npartition 1: idle\n\
                    partition 2: copying 1 of 2 bytes, 5 bytes/s, 1 segments; the last attempt came to nothing: 3 of 4\n";
        assert_eq!(done_of(text), Some((11, 32)));
        assert_eq!(done_of("idle\nreclaimed_bytes: 7\npartition 0: idle\n"), None);
    }

    #[test]
    fn orders_are_lines_of_the_control_file() {
        assert_eq!(text(Order::Compact { partition: None, wait: true }).as_deref(), Some("all wait\n"));
        assert_eq!(
            text(Order::Compact { partition: Some(3), wait: false }).as_deref(),
            Some("partition=3\n")
        );
        assert_eq!((text(Order::Pause).as_deref(), text(Order::Progress)), (Some("pause\n"), None));
    }
}
