//! A file of the simulated disk: what the process sees, what is durable, and the changes between the two. Owns what a power
//! loss makes of them; knows nothing of names.

use super::dice::Dice;

/// What a power loss keeps or drops by itself, in bytes.
const SECTOR_BYTES: u64 = 512;

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

/// How much of what wasn't synced a power loss keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    /// In how many of a hundred cases a change is kept whole.
    pub(super) kept_percent: u64,
    /// In how many it is torn or garbled.
    pub(super) torn_percent: u64,
}

impl Loss {
    /// One moment's luck: sometimes everything was written back, sometimes nothing, mostly something between.
    pub(super) fn by(dice: &mut Dice) -> Self {
        match dice.below(6) {
            0 => Loss { kept_percent: 100, torn_percent: 0 },
            1 => Loss { kept_percent: 0, torn_percent: 0 },
            2 => Loss { kept_percent: 90, torn_percent: 5 },
            3 => Loss { kept_percent: 20, torn_percent: 10 },
            _ => Loss { kept_percent: 55, torn_percent: 25 },
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) content: Vec<u8>,
    durable: Vec<u8>,
    /// In order, each with the ordinal that it was made under.
    changes: Vec<(u64, Change)>,
    ordinal: u64,
}

impl Inode {
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        if end > self.content.len() as u64 {
            self.set_length(end);
        }
        self.content[offset as usize..end as usize].copy_from_slice(bytes);
        self.note(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_length(&mut self, length: u64) {
        self.content.resize(length as usize, 0);
        self.note(Change::Length(length));
    }

    fn note(&mut self, change: Change) {
        self.ordinal += 1;
        self.changes.push((self.ordinal, change));
    }

    /// Reads past the memory: what was not synced yet is written back for it.
    pub(super) fn read_from_disk(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let mut image = self.durable.clone();
        for (_, change) in &self.changes {
            apply(&mut image, change);
        }
        let start = (offset as usize).min(image.len());
        let count = buffer.len().min(image.len() - start);
        buffer[..count].copy_from_slice(&image[start..start + count]);
        count
    }

    /// Names what has been changed so far: a sync that is submitted now covers no more.
    pub(super) fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// Makes the changes up to an ordinal durable.
    pub(super) fn sync(&mut self, up_to: u64) {
        let later = self.changes.partition_point(|(ordinal, _)| *ordinal <= up_to);
        for (_, change) in self.changes.drain(..later) {
            apply(&mut self.durable, &change);
        }
    }

    /// A sync that failed: some of it reached the disk, the rest is forgotten, and what the process sees stays. Nobody will
    /// write it back any more. Lengths aren't lost: they go through a journal.
    pub(super) fn fail_sync(&mut self, dice: &mut Dice) {
        for (_, change) in std::mem::take(&mut self.changes) {
            if matches!(change, Change::Length(_)) || dice.percent(50) {
                apply(&mut self.durable, &change);
            }
        }
    }

    pub(super) fn lose_power(&mut self, loss: Loss, dice: &mut Dice) {
        for (_, change) in std::mem::take(&mut self.changes) {
            let luck = dice.below(100);
            if luck < loss.kept_percent {
                apply(&mut self.durable, &change);
            } else if luck < loss.kept_percent + loss.torn_percent
                && let Change::Write { offset, bytes } = &change
            {
                tear(&mut self.durable, *offset, bytes, dice);
            }
        }
        self.content = self.durable.clone();
    }

    /// Bytes that change by themselves, on the platter as in memory.
    pub(super) fn rot(&mut self, offset: usize, mask: u8) {
        for bytes in [&mut self.content, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= mask;
            }
        }
    }

    pub(super) fn overwrite(&mut self, content: &[u8]) {
        self.content = content.to_vec();
        self.durable = content.to_vec();
        self.changes.clear();
    }
}

fn apply(durable: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => durable.resize(*length as usize, 0),
        Change::Write { offset, bytes } => put(durable, *offset, bytes),
    }
}

/// What lies behind the end that a file has by its (perhaps lost) changes of length isn't part of it.
fn put(durable: &mut [u8], offset: u64, bytes: &[u8]) {
    let start = (offset as usize).min(durable.len());
    let end = (offset as usize + bytes.len()).min(durable.len());
    durable[start..end].copy_from_slice(&bytes[..end - start]);
}

/// A subset of the sectors, now and then one of them as noise.
fn tear(durable: &mut [u8], offset: u64, bytes: &[u8], dice: &mut Dice) {
    let end = offset + bytes.len() as u64;
    let sectors: Vec<u64> = (offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)).collect();
    let garbled = dice.percent(40).then(|| sectors[dice.index(sectors.len())]);
    for sector in sectors {
        let from = (sector * SECTOR_BYTES).max(offset);
        let to = ((sector + 1) * SECTOR_BYTES).min(end);
        let mut part = bytes[(from - offset) as usize..(to - offset) as usize].to_vec();
        // Writing once more what is there already harms nothing: a sector is written whole or not at all.
        let same = durable.get(from as usize..to as usize) == Some(&part);
        if garbled == Some(sector) && !same {
            dice.fill(&mut part);
        } else if dice.percent(50) {
            continue;
        }
        put(durable, from, &part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_covers_what_was_there_when_it_was_asked_for() {
        let mut inode = Inode::default();
        inode.write(0, b"first");
        let up_to = inode.ordinal();
        inode.write(0, b"later");
        inode.sync(up_to);
        inode.lose_power(Loss { kept_percent: 0, torn_percent: 0 }, &mut Dice::new(1));
        assert_eq!(inode.content, b"first");
    }

    #[test]
    fn lost_bytes_inside_a_kept_length_are_zeros() {
        let mut inode = Inode::default();
        inode.set_length(8);
        inode.sync(inode.ordinal());
        inode.write(2, b"xyz");
        inode.lose_power(Loss { kept_percent: 0, torn_percent: 0 }, &mut Dice::new(1));
        assert_eq!(inode.content, [0; 8]);
    }

    #[test]
    fn noise_stays_inside_what_was_not_synced() {
        for seed in 0..200 {
            let mut inode = Inode::default();
            inode.write(0, &[1; 3000]);
            inode.sync(inode.ordinal());
            inode.write(700, &[2; 1000]);
            inode.lose_power(Loss { kept_percent: 0, torn_percent: 100 }, &mut Dice::new(seed));
            assert!(inode.content[..700].iter().chain(&inode.content[1700..]).all(|byte| *byte == 1));
        }
    }
}
