//! Fresh numbers for inodes and positions: a counter in each partition, reserved in blocks. A block's end is durable before its first
//! number is used, so no number is ever given out twice, whatever crashes in between.

use super::errno::Errno;
use super::keys::{self, MetaRecord};
use super::state::{Counter, Part};
use super::types::Answer;
use super::volume::Volume;
use crate::engine::Batch;
use std::task::Poll;

/// How many numbers are reserved at once.
const BLOCK: u64 = 65_536;

impl Counter {
    /// A fresh number, if enough are left that nobody has to be asked for more.
    pub(super) fn at_once(&mut self) -> Option<u64> {
        if self.end.saturating_sub(self.next) < BLOCK / 2 {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

impl Volume {
    /// A fresh number of the partition. Waits only if a new block isn't reserved yet.
    pub(super) async fn next_number(&self, part: &Part) -> Answer<u64> {
        loop {
            let (number, low) = part.with(|_, state| {
                let counter = &mut state.counter;
                let number = (counter.next < counter.end).then(|| {
                    counter.next += 1;
                    counter.next - 1
                });
                (number, counter.end - counter.next.min(counter.end) < BLOCK / 2 && !counter.reserving)
            });
            if low {
                self.reserve_numbers(part);
            }
            if let Some(number) = number {
                return Ok(number);
            }
            self.wait_for_numbers(part).await?;
        }
    }

    fn reserve_numbers(&self, part: &Part) {
        let (volume, inside) = (self.clone(), part.clone());
        part.with(|_, state| state.counter.reserving = true);
        part.submit(async move {
            let result = volume.reserve_block(&inside).await;
            inside.with(|_, state| {
                let counter = &mut state.counter;
                counter.reserving = false;
                match result {
                    Ok(end) => counter.end = end,
                    Err(error) => counter.failure = Some(error),
                }
                for waiter in std::mem::take(&mut counter.waiters) {
                    waiter.wake();
                }
            });
        })
        .detach();
    }

    async fn reserve_block(&self, part: &Part) -> Answer<u64> {
        let (end, record) = part.with(|_, state| {
            let end = state.counter.promised.max(state.counter.next) + BLOCK;
            (end, MetaRecord { counter_end: end, absorbed: state.absorbed })
        });
        let mut batch = Batch::new();
        // From the reserve, if need be: without numbers nothing can be renamed on a full disk.
        batch.put(keys::meta(), record.encode()).free_space();
        part.room_to_free(batch.records_bytes()).await?;
        // What is absorbed may have moved on while there was no room.
        let ticket = part.with(|core, state| {
            state.counter.promised = end;
            let record = MetaRecord { counter_end: end, absorbed: state.absorbed };
            let mut batch = Batch::new();
            batch.put(keys::meta(), record.encode());
            core.append(&batch)
        });
        part.settle(ticket).await?;
        self.inner.store.sync().await?;
        Ok(end)
    }

    async fn wait_for_numbers(&self, part: &Part) -> Answer<()> {
        let mut waited = false;
        std::future::poll_fn(|context| {
            part.with(|_, state| {
                let counter = &mut state.counter;
                if counter.next < counter.end {
                    return Poll::Ready(Ok(()));
                }
                if !counter.reserving {
                    let failure = counter.failure.take().unwrap_or(Errno::EIO);
                    return if waited { Poll::Ready(Err(failure)) } else { Poll::Ready(Ok(())) };
                }
                waited = true;
                counter.waiters.push(context.waker().clone());
                Poll::Pending
            })
        })
        .await
    }
}
