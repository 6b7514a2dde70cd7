//! What clients asked for and were told, with the order in which it happened. Owns the facts; judges nothing.

use crate::engine::disk::sim::Dice;
use crate::engine::error::WriteError;
use std::collections::BTreeMap;

/// A key of a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) partition: u16,
    pub(super) bytes: Vec<u8>,
}

/// A value, or none.
pub(super) type Value = Option<Vec<u8>>;

/// One change that a client asked for.
pub(super) struct Operation {
    pub(super) writes: Vec<(Key, Value)>,
    pub(super) started: u64,
    /// When it was acknowledged, or shown to a reader.
    pub(super) settled: Option<u64>,
    pub(super) acknowledged: bool,
    pub(super) finished: bool,
    /// It was refused before anything was changed.
    pub(super) refused: bool,
}

#[derive(Default)]
pub(super) struct History {
    now: u64,
    /// Of this life.
    pub(super) operations: Vec<Operation>,
    /// What each key had when this life began.
    pub(super) base: BTreeMap<Key, Value>,
    /// Operations on each key, in order.
    pub(super) on_key: BTreeMap<Key, Vec<usize>>,
    /// Operations within one partition, in the order of its log.
    pub(super) in_log: BTreeMap<u16, Vec<usize>>,
    /// Pairs of operations: who made the second one had seen the first.
    pub(super) seen: Vec<(usize, usize)>,
    /// What was settled before this moment is durable.
    pub(super) durable_before: u64,
    /// The life is over: what is still told to clients reaches nobody.
    pub(super) over: bool,
    pub(super) latched_at: Option<u64>,
    /// Whether a failing or full disk excuses errors.
    pub(super) excused: bool,
    pub(super) unfinished: usize,
    pub(super) violation: Option<String>,
    pub(super) in_use: BTreeMap<Key, Use>,
    ids: u64,
}

/// Who uses a key: a number of operations within its partition, or one over several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    shared: u32,
    alone: bool,
}

impl History {
    pub(super) fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    pub(super) fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// A value that no other operation writes (unless it is shorter than eight bytes).
    pub(super) fn fresh_value(&mut self, length: u64) -> Vec<u8> {
        self.ids += 1;
        let mut value = vec![0; length as usize];
        Dice::new(self.ids).fill(&mut value);
        let id = self.ids.to_le_bytes();
        let count = id.len().min(value.len());
        value[..count].copy_from_slice(&id[..count]);
        value
    }

    /// Takes keys for an operation; false if another one is in the way.
    pub(super) fn take_keys(&mut self, keys: &[&Key], alone: bool) -> bool {
        let free = |key: &&Key| {
            let used = self.in_use.get(*key).copied().unwrap_or_default();
            !used.alone && (!alone || used.shared == 0)
        };
        if !keys.iter().all(free) {
            return false;
        }
        for key in keys {
            let used = self.in_use.entry((*key).clone()).or_default();
            used.alone |= alone;
            used.shared += u32::from(!alone);
        }
        true
    }

    pub(super) fn give_keys_back<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        for key in keys {
            let used = self.in_use.entry(key.clone()).or_default();
            used.shared = used.shared.saturating_sub(u32::from(!used.alone));
            used.alone = false;
        }
    }

    /// A change is asked for; its keys are taken.
    pub(super) fn begin(&mut self, writes: Vec<(Key, Value)>) -> usize {
        let started = self.tick();
        self.unfinished += 1;
        self.operations.push(Operation {
            writes,
            started,
            settled: None,
            acknowledged: false,
            finished: false,
            refused: false,
        });
        self.operations.len() - 1
    }

    /// It has its place on its keys now.
    pub(super) fn placed(&mut self, id: usize) {
        for (key, _) in &self.operations[id].writes {
            self.on_key.entry(key.clone()).or_default().push(id);
        }
    }

    /// It has its place in its partition's log too.
    pub(super) fn appended(&mut self, id: usize) {
        self.placed(id);
        let partition = self.operations[id].writes[0].0.partition;
        self.in_log.entry(partition).or_default().push(id);
    }

    /// Who made one operation had seen another.
    pub(super) fn follows(&mut self, earlier: usize, later: usize) {
        self.seen.push((earlier, later));
    }

    pub(super) fn finished(&mut self, id: usize, result: Result<(), WriteError>) {
        let now = self.tick();
        self.unfinished -= 1;
        if self.over {
            return;
        }
        let operation = &mut self.operations[id];
        operation.finished = true;
        let failure = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        match result {
            Ok(()) => {
                operation.acknowledged = true;
                operation.settled.get_or_insert(now);
                let started = operation.started;
                if self.latched_at.is_some_and(|latched| latched < started) {
                    self.violated("a change was acknowledged after the store had latched".to_string());
                }
            }
            Err(WriteError::Full) => {
                operation.refused = true;
                for ids in self.on_key.values_mut() {
                    ids.retain(|other| *other != id);
                }
            }
            // Whether it counts is for the next opening to say: its keys stay taken.
            Err(_) => {}
        }
        let operation = &self.operations[id];
        if operation.acknowledged || operation.refused {
            let keys: Vec<Key> = operation.writes.iter().map(|(key, _)| key.clone()).collect();
            self.give_keys_back(keys.iter());
        }
        if !self.excused && !self.operations[id].acknowledged {
            self.violated(format!("operation {id} failed on a healthy disk: {failure}"));
        }
    }

    /// A sync that was asked for at `started` has returned.
    pub(super) fn synced(&mut self, started: u64) {
        if !self.over {
            self.durable_before = self.durable_before.max(started);
        }
    }

    /// The value that an operation gave to a key.
    pub(super) fn written(&self, id: usize, key: &Key) -> Value {
        // In a batch the last change of a key counts.
        let mut writes = self.operations[id].writes.iter().rev();
        writes.find(|(other, _)| other == key).and_then(|(_, value)| value.clone())
    }

    /// The number of operations that a key has seen.
    pub(super) fn count_on(&self, key: &Key) -> usize {
        self.on_key.get(key).map_or(0, Vec::len)
    }

    /// What a key has after so many operations.
    pub(super) fn value_after(&self, key: &Key, count: usize) -> Value {
        match count.checked_sub(1) {
            Some(last) => self.written(self.on_key[key][last], key),
            None => self.base.get(key).cloned().flatten(),
        }
    }

    /// A reader was shown a value that the key had after `from` to `to` operations.
    pub(super) fn shown(&mut self, key: &Key, from: usize, value: &Value) {
        if self.over {
            return;
        }
        let now = self.tick();
        let to = self.count_on(key);
        let from = from.min(to);
        match (from..=to).find(|count| self.value_after(key, *count) == *value) {
            Some(0) => {}
            Some(count) => {
                let id = self.on_key[key][count - 1];
                self.operations[id].settled.get_or_insert(now);
            }
            None => self.violated(format!("a reader of {key:?} was shown {}", brief(value))),
        }
    }

    /// All changes of this life, as text.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("durable before {}\n", self.durable_before);
        for (id, operation) in self.operations.iter().enumerate() {
            let writes: Vec<_> = operation
                .writes
                .iter()
                .map(|(key, value)| {
                    let name = String::from_utf8_lossy(&key.bytes[..key.bytes.len().min(6)]).into_owned();
                    (key.partition, name, value.as_ref().map(Vec::len))
                })
                .collect();
            let (from, to, sure) = (operation.started, operation.settled, operation.acknowledged);
            text.push_str(&format!("{id}: {from} to {to:?}, acknowledged {sure}: {writes:?}\n"));
        }
        text
    }

    /// A new life begins with what was found.
    pub(super) fn begin_life(&mut self, found: BTreeMap<Key, Value>) {
        let (now, ids, violation) = (self.now, self.ids, self.violation.take());
        *self = History { now, ids, violation, base: found, ..History::default() };
    }
}

/// A value in a message.
pub(super) fn brief(value: &Value) -> String {
    match value {
        None => "nothing".to_string(),
        Some(bytes) => format!("{} bytes {:02x?}", bytes.len(), &bytes[..bytes.len().min(12)]),
    }
}
