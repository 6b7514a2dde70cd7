//! The manifest: what a store is, and which life owns which numbers.
//!
//! Owns: a small text, so that it can be read by eye where everything else failed.
//!
//! Promises: there is one way to write a manifest. A text that decodes is, byte for byte, what [`Manifest::encode`]
//! would write: no blank lines, no other order, no other spelling of a number.
//!
//! Doesn't know: which features exist, or what an option means.

use std::collections::HashSet;
use std::fmt::Write;

use super::{Damage, crc};
use crate::engine::limits::PARTITIONS_MAX;
use crate::engine::types::{Epoch, Number, StoreId};

/// The largest manifest, in bytes. An opening adds one line.
pub const MANIFEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The version of the format that this file writes, and the only one that it reads.
pub const MANIFEST_VERSION: u32 = 1;

const MAGIC: &str = "bitkv-manifest ";
/// "crc32c ", eight digits, and a newline.
const CRC_LINE_BYTES: usize = 16;

/// What a store is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Its name for ever.
    pub store: StoreId,
    /// How many partitions it has, from 1 to 256.
    pub partitions: u16,
    /// Features that a program must know to open it: words without white space.
    pub features: Vec<String>,
    /// Settings of the engine's user, each name once. A name is a word; a value is a line.
    pub options: Vec<(String, String)>,
    /// Its lives, and the first number that each owns. Epochs grow; numbers grow or stay.
    pub epochs: Vec<(Epoch, Number)>,
}

impl Manifest {
    /// The manifest's text.
    ///
    /// # Panics
    /// If [`check`](Self::check) would complain.
    pub fn encode(&self) -> String {
        assert_eq!(self.check_fields(), Ok(()), "{self:?}");
        let text = self.text();
        let sealed = format!("{text}{}", crc_line(&text));
        assert!(sealed.len() <= MANIFEST_BYTES_MAX, "a manifest of {} bytes", sealed.len());
        sealed
    }

    /// Reads a manifest, all of it.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, Damage> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(Damage::Length);
        }
        check_version(bytes)?;
        let text_length = bytes.len().checked_sub(CRC_LINE_BYTES).ok_or(Damage::TooShort)?;
        let (text, last_line) = bytes.split_at(text_length);
        // An unsealed end is a file that was cut; a sealed one with other digits is one that was changed.
        if !last_line.starts_with(b"crc32c ") || !last_line.ends_with(b"\n") {
            return Err(Damage::TooShort);
        }
        if last_line != crc_line_of(text).as_bytes() {
            return Err(Damage::Checksum("manifest"));
        }
        let text = std::str::from_utf8(text).map_err(|_| Damage::Text("manifest"))?;
        let manifest = parse(text)?;
        manifest.check_fields()?;
        if manifest.text() != text {
            return Err(Damage::Text("manifest"));
        }
        Ok(manifest)
    }

    /// Whether this can be written. A caller that passes on what a user has typed asks before it encodes.
    pub fn check(&self) -> Result<(), Damage> {
        self.check_fields()?;
        if self.text().len() + CRC_LINE_BYTES > MANIFEST_BYTES_MAX { Err(Damage::Length) } else { Ok(()) }
    }

    /// Whether the life owns the number: from the first of its own up to the first of the next life's.
    pub fn owns(&self, epoch: Epoch, number: Number) -> bool {
        let Ok(index) = self.epochs.binary_search_by_key(&epoch, |life| life.0) else {
            return false;
        };
        self.epochs[index].1 <= number && self.epochs.get(index + 1).is_none_or(|next| number < next.1)
    }

    /// The life that owns the number, if one does.
    pub fn owner(&self, number: Number) -> Option<Epoch> {
        let behind = self.epochs.partition_point(|life| life.1 <= number);
        behind.checked_sub(1).map(|index| self.epochs[index].0)
    }

    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|option| option.0 == name).map(|option| option.1.as_str())
    }

    /// The first feature that isn't among the known ones: a reason to refuse the store.
    pub fn unknown_feature(&self, known: &[&str]) -> Option<&str> {
        self.features.iter().map(String::as_str).find(|feature| !known.contains(feature))
    }

    fn check_fields(&self) -> Result<(), Damage> {
        if self.partitions < 1 || self.partitions > PARTITIONS_MAX {
            return Err(Damage::Number);
        }
        if !self.features.iter().all(|feature| is_word(feature)) {
            return Err(Damage::Text("list of features"));
        }
        let mut names = HashSet::new();
        for (name, value) in &self.options {
            if !is_word(name) || value.contains('\n') || !names.insert(name) {
                return Err(Damage::Text("list of options"));
            }
        }
        if !self.epochs.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1) {
            return Err(Damage::Order);
        }
        Ok(())
    }

    /// Everything before the last line.
    fn text(&self) -> String {
        let mut text = format!(
            "{MAGIC}{MANIFEST_VERSION}\nstore {}\npartitions {}\nfeatures",
            self.store, self.partitions
        );
        for feature in &self.features {
            text.push(' ');
            text.push_str(feature);
        }
        text.push('\n');
        for (name, value) in &self.options {
            // Writing into a String can't fail.
            let _ = writeln!(text, "option {name} {value}");
        }
        for (epoch, number) in &self.epochs {
            let _ = writeln!(text, "epoch {} {number}", epoch.0);
        }
        text
    }
}

fn crc_line(text: &str) -> String {
    crc_line_of(text.as_bytes())
}

fn crc_line_of(text: &[u8]) -> String {
    format!("crc32c {:08x}\n", crc(None, &[text]))
}

/// Something without white space, so that it ends where the next thing begins.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

/// Before the checksum: of a later version only the first line is promised, and it deserves a better word than
/// "damaged".
fn check_version(bytes: &[u8]) -> Result<(), Damage> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or(if MAGIC.as_bytes().starts_with(bytes) {
        Damage::TooShort
    } else {
        Damage::Magic
    })?;
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or(Damage::TooShort)?;
    let digits = std::str::from_utf8(&rest[..end]).map_err(|_| Damage::Text("version"))?;
    match digits.parse() {
        Ok(MANIFEST_VERSION) => Ok(()),
        Ok(version) => Err(Damage::Version(version)),
        Err(_) => Err(Damage::Text("version")),
    }
}

/// Reads the lines in their order. What it lets pass, the comparison with a fresh text finds.
fn parse(text: &str) -> Result<Manifest, Damage> {
    // Not `lines()`, which would swallow a carriage return.
    let mut lines = text.split_terminator('\n').skip(1).peekable();
    let mut line = |name| {
        lines.next_if(|line| is_named(line, name)).map(|line| line[name.len()..].trim_start_matches(' '))
    };
    let store = line("store").and_then(parse_store).ok_or(Damage::Text("store id"))?;
    let partitions =
        line("partitions").and_then(|count| count.parse().ok()).ok_or(Damage::Text("partition count"))?;
    let features = line("features").ok_or(Damage::Text("list of features"))?;
    let features = features.split(' ').filter(|feature| !feature.is_empty()).map(str::to_string).collect();
    let mut options = Vec::new();
    while let Some(option) = line("option") {
        let (name, value) = option.split_once(' ').ok_or(Damage::Text("list of options"))?;
        options.push((name.to_string(), value.to_string()));
    }
    let mut epochs = Vec::new();
    while let Some(life) = line("epoch") {
        epochs.push(parse_epoch(life).ok_or(Damage::Text("list of epochs"))?);
    }
    if lines.next().is_some() {
        return Err(Damage::Text("manifest"));
    }
    Ok(Manifest { store, partitions, features, options, epochs })
}

fn is_named(line: &str, name: &str) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

fn parse_store(digits: &str) -> Option<StoreId> {
    // from_str_radix would take a sign; the length and the fresh text leave it no room.
    let number = u128::from_str_radix(digits, 16).ok()?;
    (digits.len() == 32).then(|| StoreId(number.to_be_bytes()))
}

fn parse_epoch(life: &str) -> Option<(Epoch, Number)> {
    let (epoch, number) = life.split_once(' ')?;
    Some((Epoch(epoch.parse().ok()?), Number(number.parse().ok()?)))
}

#[cfg(test)]
mod tests;
