//! Whether there is room for an output, before it is begun: a compaction must not be what fills the disk.

use super::victims::{Victim, output_bytes_max};
use super::{Failure, Run};
use crate::engine::shell::Shell;

impl Shell {
    /// Of the candidates those whose output has room. With space to spare, all of them. Else one, the deadest that fits; the reserve is
    /// given up for it if need be. What is removed then makes room for the next.
    pub(super) async fn fitting(
        &self,
        candidates: Vec<Victim>,
        run: &mut Run,
    ) -> Result<Vec<Victim>, Failure> {
        let free_bytes = self.free_bytes().await;
        // What writers want next stays theirs.
        let spare_bytes = self.common.config.segment_bytes;
        if !run.tight && output_bytes_max(&candidates).saturating_add(spare_bytes) <= free_bytes {
            return Ok(candidates);
        }
        run.tight = true;
        let candidates = match take_one(candidates, free_bytes) {
            Ok(one) => return Ok(vec![one]),
            Err(candidates) => candidates,
        };
        // It may just be being made.
        self.wait_for_spare().await;
        let released_bytes = self.release_reserve().await;
        // Some disks take their time to say so.
        let free_bytes = self.free_bytes().await.max(released_bytes);
        take_one(candidates, free_bytes).map(|one| vec![one]).map_err(|candidates| {
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
