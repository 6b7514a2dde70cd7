//! Shows how far a long opening is: a bar where somebody watches a terminal, else plain lines.

use super::Options;
use crate::engine::opening::{OpeningStats, OpeningWatch};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const BAR_WIDTH: usize = 30;

/// A bar that may be there. It goes when this does.
#[derive(Default)]
pub(super) struct Bar(Arc<AtomicBool>);

impl Drop for Bar {
    fn drop(&mut self) {
        if self.0.load(Ordering::Relaxed) {
            show("\r\x1b[K");
        }
    }
}

/// Whoever waits for the mount sees its standard error until the mount is there.
pub(super) fn watch(options: &Options) -> (OpeningWatch, Bar) {
    let shown = Bar::default();
    let log_is_shown = options.foreground && options.log_file.is_none();
    let watch = if std::io::stderr().is_terminal() {
        let is_there = shown.0.clone();
        OpeningWatch::new(move |stats| {
            is_there.store(true, Ordering::Relaxed);
            show(&bar(stats));
        })
    } else if log_is_shown {
        OpeningWatch::default()
    } else {
        let name = options.data.display().to_string();
        OpeningWatch::new(move |stats| show(&format!("{name}: opening: {stats}\n")))
    };
    (watch, shown)
}

fn show(text: &str) {
    // Who can't be told can't be helped.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn bar(stats: &OpeningStats) -> String {
    let full = (stats.share() * BAR_WIDTH as f64) as usize;
    format!("\r\x1b[K[{}{}] {stats}", "#".repeat(full), ".".repeat(BAR_WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills() {
        let at = |bytes_done| {
            bar(&OpeningStats { bytes_done, bytes_total: 2_000_000_000, elapsed_ns: 3_000_000_000 })
        };
        assert!(at(0).starts_with("\r\x1b[K[..............................] 0 %"));
        assert!(
            at(1_000_000_000)
                .contains("[###############...............] 50 % of 1.0 GB of segments, 3 s left")
        );
        assert!(at(2_000_000_000).contains("[##############################] 100 %"));
    }
}
