//! A store in which nothing happens, for works that read all of it: one that isn't mounted, or, of a mounted one, a snapshot beside it.

use super::backup::Snapshot;
use super::mounts;
use super::tree::Access;
use super::tree::unmounted::open_volume;
use crate::fs::Volume;
use std::path::Path;

/// An open store that nobody changes.
pub(super) struct Still {
    pub(super) volume: Volume,
    /// Goes when everything is read.
    _snapshot: Option<Snapshot>,
}

impl Still {
    /// Of a store's directory, or where one is mounted.
    ///
    /// # Errors
    /// One line that says what is in the way.
    pub(super) fn open(store: &Path) -> Result<Still, String> {
        let name = store.display();
        let place = mounts::resolve(store).map_err(|error| format!("{name}: {error}"))?;
        let snapshot = match mounts::at(&place).or_else(|| mounts::of(&place)) {
            Some(mounted) => Some(Snapshot::of(&mounted)?),
            None if place.join("MANIFEST").is_file() => None,
            None => {
                return Err(format!("{name}: neither a store nor where one is mounted; name one of both"));
            }
        };
        let data = snapshot.as_ref().map_or(place.as_path(), |snapshot| snapshot.data.as_path());
        Ok(Still { volume: open_volume(data, Access::Read)?, _snapshot: snapshot })
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        // Nothing was changed: there is nothing that could fail to become durable.
        let _ = self.volume.close();
    }
}
