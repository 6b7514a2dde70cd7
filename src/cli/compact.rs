//! `bitkv compact MNT`: compacts a mounted store, holds its compaction or lets it go on, shows how far it is.

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
        Some(text) => control::write(&directory, "compact", &text),
        None => control::read(&directory, "compact").and_then(|text| control::print(&text)),
    });
    finish("bitkv compact", done)
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
    fn orders_are_lines_of_the_control_file() {
        assert_eq!(text(Order::Compact { partition: None, wait: true }).as_deref(), Some("all wait\n"));
        assert_eq!(
            text(Order::Compact { partition: Some(3), wait: false }).as_deref(),
            Some("partition=3\n")
        );
        assert_eq!((text(Order::Pause).as_deref(), text(Order::Progress)), (Some("pause\n"), None));
    }
}
