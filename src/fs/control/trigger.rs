//! What the triggers do. The write itself returns the error; a text is understood as a whole before anything of it is done.

use super::Control;
use super::files::Trigger;
use crate::fs::errno::Errno;
use crate::fs::types::Answer;
use futures_channel::oneshot;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Of compactions by hand.
#[derive(Default)]
pub(super) struct Progress {
    running: AtomicBool,
    reclaimed_bytes: AtomicU64,
}

impl Progress {
    pub(super) fn show(&self) -> String {
        let state = if self.running.load(Ordering::Acquire) { "running" } else { "idle" };
        format!("{state}\nreclaimed_bytes: {}\n", self.reclaimed_bytes.load(Ordering::Relaxed))
    }
}

/// An order to compact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Order {
    partition: Option<u16>,
    wait: bool,
}

/// `all`, `all wait`, `partition=N`, `partition=N wait`.
fn parse(line: &str) -> Option<Order> {
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
    words.next().is_none().then_some(Order { partition, wait })
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
                    self.compact(order).await?;
                }
                Ok(())
            }
            Trigger::LogLevel => match lines(text)?[..] {
                [level] => self.source.set_log_level(level),
                _ => Err(Errno::EINVAL),
            },
        }
    }

    async fn compact(&self, order: Order) -> Answer<()> {
        if order.partition.is_some_and(|partition| partition >= self.source.partition_count()) {
            return Err(Errno::ENOENT);
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
        self.source.compact(order.partition, Box::new(finished));
        if order.wait {
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
        assert_eq!(parse("all"), Some(Order { partition: None, wait: false }));
        assert_eq!(parse("all wait"), Some(Order { partition: None, wait: true }));
        assert_eq!(parse("partition=3 wait"), Some(Order { partition: Some(3), wait: true }));
        for wrong in ["", "none", "all now", "partition=", "partition=x", "all wait now"] {
            assert_eq!(parse(wrong), None, "{wrong}");
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
