//! What the triggers do. The write itself returns the error.

use super::Control;
use super::files::Trigger;
use crate::engine::PartitionId;
use crate::fs::errno::Errno;
use crate::fs::types::Answer;
use std::sync::atomic::Ordering;

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

impl Control {
    pub(super) async fn pull(&self, trigger: Trigger, line: &str) -> Answer<()> {
        match trigger {
            Trigger::Sync => self.volume.sync().await,
            Trigger::Compact => self.compact(parse(line).ok_or(Errno::EINVAL)?).await,
        }
    }

    async fn compact(&self, order: Order) -> Answer<()> {
        let volume = self.volume.clone();
        if order.partition.is_some_and(|partition| partition >= volume.store().partition_count()) {
            return Err(Errno::EINVAL);
        }
        if self.progress.compacting.swap(true, Ordering::AcqRel) {
            return Err(Errno::EBUSY);
        }
        let running = Running { progress: self.progress.clone() };
        let partition = order.partition.map(PartitionId);
        let work = async move {
            let result = volume.compact(partition).await;
            if let Ok(bytes) = result {
                running.progress.compacted_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            drop(running);
            result
        };
        // In a task of its own: it goes on if the one who waits is interrupted.
        let task = self.volume.store().partitions()[0].submit(work);
        if order.wait {
            task.fallible().await.unwrap_or(Err(Errno::EIO))?;
        } else {
            task.detach();
        }
        Ok(())
    }
}

/// While this lives, a compaction by hand runs.
struct Running {
    progress: std::sync::Arc<super::Progress>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.progress.compacting.store(false, Ordering::Release);
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
}
