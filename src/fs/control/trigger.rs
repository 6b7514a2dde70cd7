//! What the triggers do. The write itself returns the error; a text is understood as a whole before anything of it is done.

use super::Control;
use super::files::Trigger;
use super::units;
use crate::engine::scrub::SCRUB_BYTES_PER_SECOND;
use crate::fs::errno::Errno;
use crate::fs::types::Answer;
use futures_channel::oneshot;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Of compactions by hand.
#[derive(Default)]
pub(super) struct Progress {
    running: AtomicBool,
    reclaimed_bytes: AtomicU64,
}

impl Progress {
    /// Whether one runs, and how many bytes all of them have gained.
    pub(super) fn state(&self) -> (bool, u64) {
        (self.running.load(Ordering::Acquire), self.reclaimed_bytes.load(Ordering::Relaxed))
    }
}

/// An order to compaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Compact { partition: Option<u16>, wait: bool },
    Pause,
    Resume,
}

/// `all`, `all wait`, `partition=N`, `partition=N wait`, `pause`, `resume`.
fn parse(line: &str) -> Option<Order> {
    match line {
        "pause" => return Some(Order::Pause),
        "resume" => return Some(Order::Resume),
        _ => {}
    }
    let mut words = line.split_whitespace();
    let partition = match words.next()? {
        "all" => None,
        word => Some(word.strip_prefix("partition=")?.parse().ok()?),
    };
    let wait = match words.next() {
        None => false,
        Some("wait") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some(Order::Compact { partition, wait })
}

/// An order to the verification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ScrubOrder {
    Start { bytes_per_second: u64, wait: bool },
    Stop,
}

/// `start`, `start rate=SIZE`, `start wait`, `start rate=SIZE wait`, `stop`.
fn parse_scrub(line: &str) -> Option<ScrubOrder> {
    let mut words = line.split_whitespace();
    let mut order = match words.next()? {
        "stop" => ScrubOrder::Stop,
        "start" => ScrubOrder::Start { bytes_per_second: SCRUB_BYTES_PER_SECOND, wait: false },
        _ => return None,
    };
    for word in words {
        match &mut order {
            ScrubOrder::Start { wait, .. } if word == "wait" => *wait = true,
            ScrubOrder::Start { bytes_per_second, .. } => {
                *bytes_per_second = units::size(word.strip_prefix("rate=")?).ok()?;
            }
            ScrubOrder::Stop => return None,
        }
    }
    Some(order)
}

/// The lines of a text that say something; EINVAL if there are none.
fn lines(text: &[u8]) -> Answer<Vec<&str>> {
    let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { Err(Errno::EINVAL) } else { Ok(lines) }
}

impl Control {
    /// Carries out what was written to a trigger.
    pub(super) async fn pull(&self, trigger: Trigger, text: &[u8]) -> Answer<()> {
        match trigger {
            // Whatever it says.
            Trigger::Sync => self.source.sync().await,
            Trigger::Compact => {
                let orders: Option<Vec<Order>> = lines(text)?.into_iter().map(parse).collect();
                for order in orders.ok_or(Errno::EINVAL)? {
                    match order {
                        Order::Compact { partition, wait } => self.compact(partition, wait).await?,
                        Order::Pause => self.source.pause_compaction(true),
                        Order::Resume => self.source.pause_compaction(false),
                    }
                }
                Ok(())
            }
            Trigger::Config => {
                let changes: Option<Vec<_>> =
                    lines(text)?.into_iter().map(|line| line.split_once('=')).collect();
                self.source.set_options(&changes.ok_or(Errno::EINVAL)?)
            }
            Trigger::Scrub => {
                let orders: Option<Vec<ScrubOrder>> = lines(text)?.into_iter().map(parse_scrub).collect();
                for order in orders.ok_or(Errno::EINVAL)? {
                    match order {
                        ScrubOrder::Start { bytes_per_second, wait } => {
                            self.scrub(bytes_per_second, wait).await?;
                        }
                        ScrubOrder::Stop => self.source.stop_scrub(),
                    }
                }
                Ok(())
            }
            Trigger::Follow => match lines(text)?[..] {
                ["follow"] => {
                    self.source.follow_operations();
                    Ok(())
                }
                _ => Err(Errno::EINVAL),
            },
            // A path may hold anything but the end of the line.
            Trigger::Backup => match text.strip_suffix(b"\n").unwrap_or(text) {
                path if path.starts_with(b"/") && !path.contains(&b'\n') && !path.contains(&0) => {
                    self.source.backup(PathBuf::from(OsStr::from_bytes(path))).await
                }
                _ => Err(Errno::EINVAL),
            },
            Trigger::LogLevel => match lines(text)?[..] {
                [level] => self.source.set_log_level(level),
                _ => Err(Errno::EINVAL),
            },
        }
    }

    /// Damage that is found is no failure of the order: the file tells of it.
    async fn scrub(&self, bytes_per_second: u64, wait: bool) -> Answer<()> {
        let (sender, receiver) = oneshot::channel();
        let finished = move |result: Answer<u64>| {
            // Whoever gave the order may not wait for it.
            let _ = sender.send(result);
        };
        self.source.start_scrub(bytes_per_second, Box::new(finished))?;
        if wait {
            receiver.await.unwrap_or(Err(Errno::EIO))?;
        }
        Ok(())
    }

    async fn compact(&self, partition: Option<u16>, wait: bool) -> Answer<()> {
        if partition.is_some_and(|partition| partition >= self.source.partition_count()) {
            return Err(Errno::ENOENT);
        }
        // It would stand still, and whoever waits for it with it.
        if self.source.report().compaction_paused {
            return Err(Errno::EBUSY);
        }
        if self.progress.running.swap(true, Ordering::AcqRel) {
            return Err(Errno::EBUSY);
        }
        let (sender, receiver) = oneshot::channel();
        let progress: Arc<Progress> = self.progress.clone();
        let finished = move |result: Answer<u64>| {
            if let Ok(bytes) = result {
                progress.reclaimed_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            progress.running.store(false, Ordering::Release);
            // Whoever gave the order may not wait for it.
            let _ = sender.send(result);
        };
        self.source.compact(partition, Box::new(finished));
        if wait {
            receiver.await.unwrap_or(Err(Errno::EIO))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_whole_words() {
        let compact = |partition, wait| Some(Order::Compact { partition, wait });
        assert_eq!(parse("all"), compact(None, false));
        assert_eq!(parse("all wait"), compact(None, true));
        assert_eq!(parse("partition=3 wait"), compact(Some(3), true));
        assert_eq!((parse("pause"), parse("resume")), (Some(Order::Pause), Some(Order::Resume)));
        for wrong in ["pause all", "", "none", "all now", "partition=", "partition=x", "all wait now"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn orders_to_scrub() {
        let start = |bytes_per_second, wait| Some(ScrubOrder::Start { bytes_per_second, wait });
        assert_eq!(parse_scrub("start"), start(SCRUB_BYTES_PER_SECOND, false));
        assert_eq!(parse_scrub("start rate=1M wait"), start(1 << 20, true));
        assert_eq!(parse_scrub("start rate=0"), start(0, false));
        assert_eq!(parse_scrub("stop"), Some(ScrubOrder::Stop));
        for wrong in ["", "begin", "start rate=", "start rate=x", "stop wait", "start now"] {
            assert_eq!(parse_scrub(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_text_without_a_word_is_no_order() {
        assert_eq!(lines(b"a\n\n b \n"), Ok(vec!["a", "b"]));
        for wrong in [&b""[..], b"\n", b" \n\n", b"\xff"] {
            assert_eq!(lines(wrong), Err(Errno::EINVAL));
        }
    }
}
