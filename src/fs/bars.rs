//! Emptiness of directories. Names of one directory lie in all partitions; to remove it, all are barred, all are asked, and then it is
//! removed or the bars go again. Whoever wants to make a name meanwhile waits at the bar.

use super::errno::Errno;
use super::keys;
use super::state::{Bar, Part};
use super::types::*;
use super::volume::{Volume, at};
use std::task::Poll;

impl Volume {
    /// Bars the directory everywhere; true if it is empty and stays so. If not, the bars are gone again.
    pub(super) async fn bar_if_empty(&self, here: &Part, directory: Inode) -> Answer<bool> {
        let mut empty = true;
        for part in self.inner.store.partitions() {
            let there = part.clone();
            empty &= at(here, part, move || async move {
                Ok(there.with(|core, state| {
                    state.bars.entry(directory).or_insert_with(Bar::default);
                    let announced = state.intents.get(&directory).is_some_and(|count| *count > 0);
                    !announced && core.list(&keys::entries_of(directory), None, 1).is_empty()
                }))
            })
            .await?;
        }
        if !empty {
            self.unbar(directory, false);
        }
        Ok(empty)
    }

    /// Lifts the bars; or, where the directory was removed, leaves them until the kernel forgets it, and tells those who wait.
    pub(super) fn unbar(&self, directory: Inode, removed: bool) {
        for part in self.inner.store.partitions() {
            let inside = part.clone();
            part.submit(async move {
                inside.with(|_, state| {
                    let Some(bar) = state.bars.get_mut(&directory) else { return };
                    let waiters = std::mem::take(&mut bar.waiters);
                    bar.removed = removed;
                    if !removed {
                        state.bars.remove(&directory);
                    }
                    waiters.into_iter().for_each(std::task::Waker::wake);
                });
            })
            .detach();
        }
    }
}

/// Waits until names may be made in the directory; ENOENT if it was removed.
pub(super) async fn pass_bar(part: &Part, directory: Inode) -> Answer<()> {
    std::future::poll_fn(|context| {
        part.with(|_, state| match state.bars.get_mut(&directory) {
            None => Poll::Ready(Ok(())),
            Some(bar) if bar.removed => Poll::Ready(Err(Errno::ENOENT)),
            Some(bar) => {
                bar.waiters.push(context.waker().clone());
                Poll::Pending
            }
        })
    })
    .await
}

/// Announces that a name will be made in a directory by an operation that is under way: until the announcement is dropped the
/// directory doesn't count as empty.
pub(super) struct Intent {
    part: Part,
    directory: Inode,
}

impl Intent {
    /// Waits at the bar, then announces.
    pub(super) async fn announce(part: &Part, directory: Inode) -> Answer<Self> {
        pass_bar(part, directory).await?;
        part.with(|_, state| *state.intents.entry(directory).or_default() += 1);
        Ok(Intent { part: part.clone(), directory })
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        let directory = self.directory;
        self.part.change_soon(move |state| {
            if let Some(count) = state.intents.get_mut(&directory) {
                *count -= 1;
                if *count == 0 {
                    state.intents.remove(&directory);
                }
            }
        });
    }
}
