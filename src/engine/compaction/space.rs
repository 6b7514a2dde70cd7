//! Whether there is room for an output, before it is begun: a compaction must not be what fills the disk.
//!
//! With space to spare, all candidates go at once. Else one does, the deadest that fits, and what is removed then makes room for the next. The
//! partition's reserve is given up for it if need be, and nobody else of this store takes space meanwhile: what one partition gives up must
//! not become another's, which may have nothing that is dead. Writers who want a segment wait for it; hence it neither keeps to
//! a rate nor stops for a pause once it has begun.

use super::victims::{Victim, output_bytes_max};
use super::{Failure, Run};
use crate::engine::shell::Shell;
use std::sync::Arc;

impl Shell {
    /// Whether the disk has room for one output of all of these, and leaves writers what they want next.
    pub(super) async fn has_room_for(&self, victims: &[Victim]) -> bool {
        let spare_bytes = self.common.config.segment_bytes;
        output_bytes_max(victims).saturating_add(spare_bytes) <= self.free_bytes().await
    }

    /// Replaces the deadest that fits into what is left. Returns how many bytes the files shrank by.
    pub(super) async fn replace_one_alone(
        self: &Arc<Self>,
        candidates: Vec<Victim>,
        run: &Run,
    ) -> Result<u64, Failure> {
        self.wait_until_resumed().await;
        let _growth = self.common.growth_alone().await;
        let replaced = match self.fitting(candidates).await {
            Ok(victim) => self.replace(vec![victim], run).await,
            Err(failure) => Err(failure),
        };
        self.restore_reserve().await;
        replaced
    }

    /// The deadest that fits; the reserve is given up for it if need be.
    async fn fitting(&self, candidates: Vec<Victim>) -> Result<Victim, Failure> {
        let candidates = match take_one(candidates, self.free_bytes().await) {
            Ok(one) => return Ok(one),
            Err(candidates) => candidates,
        };
        let released_bytes = self.release_reserve().await;
        // Some disks take their time to say so.
        let free_bytes = self.free_bytes().await.max(released_bytes);
        take_one(candidates, free_bytes).map_err(|candidates| {
            let sizes = candidates.iter().map(|one| output_bytes_max(std::slice::from_ref(one)));
            Failure::Space { needed_bytes: sizes.min().unwrap_or(0), free_bytes }
        })
    }

    /// What the disk has to give; a disk that can't tell has enough.
    async fn free_bytes(&self) -> u64 {
        let space = self.common.background(|disk| disk.space()).await;
        space.map_or(u64::MAX, |space| space.available_bytes)
    }
}

/// The first whose output fits; all of them back if there is none.
fn take_one(mut candidates: Vec<Victim>, free_bytes: u64) -> Result<Victim, Vec<Victim>> {
    let fits = |one: &Victim| output_bytes_max(std::slice::from_ref(one)) <= free_bytes;
    match candidates.iter().position(fits) {
        Some(index) => Ok(candidates.swap_remove(index)),
        None => Err(candidates),
    }
}
