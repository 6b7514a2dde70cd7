//! What must be left after a crash. It knows only what clients were told, and when; nothing of numbers or files.
//!
//! Found values say of some operations that they survived. From there on it follows: what was promised survived; whatever was
//! settled before a survivor began survived; so did what lies before it in the same log, and what its maker had seen elsewhere; a commit is whole. Each key must
//! then have the value of its last survivor, or of a later operation, which thereby becomes a survivor.

use super::history::{History, Key, Value, brief};
use crate::engine::disk::sim::Crash;
use std::collections::{BTreeMap, BTreeSet};

/// Judges what was found after a crash.
pub(super) fn judge(history: &History, found: &BTreeMap<Key, Value>, crash: Crash) -> Result<(), String> {
    let mut survivors = Survivors { history, members: BTreeSet::new() };
    for (id, operation) in history.operations.iter().enumerate() {
        let promised = match crash {
            Crash::Kill => operation.settled.is_some(),
            Crash::Power => operation.settled.is_some_and(|settled| settled < history.durable_before),
        };
        if promised {
            survivors.members.insert(id);
        }
    }
    loop {
        survivors.close();
        let before = survivors.members.len();
        for (key, value) in found {
            survivors.explain(key, value).map_err(|what| format!("after {crash:?}: {what}"))?;
        }
        if survivors.members.len() == before {
            return Ok(());
        }
    }
}

struct Survivors<'a> {
    history: &'a History,
    members: BTreeSet<usize>,
}

impl Survivors<'_> {
    /// Adds all that must have survived because others did.
    fn close(&mut self) {
        let history = self.history;
        loop {
            let before = self.members.len();
            let newest_start =
                self.members.iter().map(|id| history.operations[*id].started).max().unwrap_or(0);
            let earlier = history.operations.iter().enumerate();
            let earlier =
                earlier.filter(|(_, operation)| operation.settled.is_some_and(|at| at < newest_start));
            self.members.extend(earlier.map(|(id, _)| id));
            for log in history.in_log.values().chain(history.on_key.values()) {
                if let Some(last) = log.iter().rposition(|id| self.members.contains(id)) {
                    self.members.extend(&log[..last]);
                }
            }
            for (seen, by) in &history.seen {
                if self.members.contains(by) {
                    self.members.insert(*seen);
                }
            }
            if self.members.len() == before {
                return;
            }
        }
    }

    /// The earliest operation from the last known survivor on that explains what a key has.
    fn explain(&mut self, key: &Key, value: &Value) -> Result<(), String> {
        let history = self.history;
        let on_key = history.on_key.get(key).map_or(&[][..], Vec::as_slice);
        let from = on_key.iter().rposition(|id| self.members.contains(id)).map_or(0, |last| last + 1);
        match (from..=on_key.len()).find(|count| history.value_after(key, *count) == *value) {
            Some(0) => Ok(()),
            Some(count) => {
                self.members.insert(on_key[count - 1]);
                Ok(())
            }
            None => {
                let wanted = history.value_after(key, from);
                let earlier = (0..from).rev().find(|count| history.value_after(key, *count) == *value);
                Err(format!(
                    "key {:?} of partition {} has {} instead of {} (what it had {}); operation {:?} is gone",
                    String::from_utf8_lossy(&key.bytes[..key.bytes.len().min(8)]),
                    key.partition,
                    brief(value),
                    brief(&wanted),
                    earlier
                        .map_or("never".to_string(), |count| format!("{} operations earlier", from - count)),
                    from.checked_sub(1).map(|last| on_key[last]),
                ))
            }
        }
    }
}
