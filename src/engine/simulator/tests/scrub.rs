//! Scrubs. Beside everything else that goes on in a healthy store, they find nothing, whatever is rotated, sealed, compacted or removed meanwhile. And
//! what a flipped bit damages is noted before anybody reads it.

use super::lives::Lives;
use super::plan::Plan;
use super::segments::read_segment;
use crate::engine::ReadError;
use crate::engine::disk::sim::{Crash, Dice};
use crate::engine::format::frame::{FRAME_HEADER_BYTES, FrameKind};
use crate::engine::format::record::encoded_length;
use crate::engine::format::{Form, Origin, hint};
use crate::engine::planted::{Bug, plant};
use crate::engine::scan::{FoundFrame, FoundRecord};
use crate::engine::scrub::{ScrubPhase, ScrubStats};
use crate::engine::simulator::Player;
use crate::engine::store::Store;

const STEPS_MAX: u64 = 300_000;

fn scrub_to_the_end(store: &Store<()>, player: &mut Player) -> Result<ScrubStats, String> {
    for _ in 0..2 {
        store.start_scrub(0).ok_or("one runs already")?.detach();
        if !player.run_until(STEPS_MAX, || store.scrub_stats().phase != ScrubPhase::Running) {
            return Err("a scrub never ends".to_string());
        }
        let stats = store.scrub_stats();
        if !player.run_until_idle(STEPS_MAX) {
            return Err("the store never falls idle".to_string());
        }
        // Else it went on where an earlier one was stopped.
        if stats.segments_done as usize >= store.segment_stats().len() {
            return Ok(stats);
        }
    }
    Err(format!("it doesn't see all segments: {:?}", store.scrub_stats()))
}

fn healthy(stats: &ScrubStats) -> Result<(), String> {
    let nothing = !stats.found_damage() && stats.damaged_dead == 0 && stats.hints_rewritten == 0;
    if nothing && stats.trouble.is_none() { Ok(()) } else { Err(format!("a healthy store: {stats:?}")) }
}

fn run(seed: u64) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let mut plan = Plan::by(&mut dice);
    plan.faults = false;
    let mut lives = Lives::new(plan, dice);
    let (store, mut player) = lives.begin_life(0)?;
    for _ in 0..4 {
        let bytes_per_second = [0, 1 << 16, 1 << 22][lives.dice.index(3)];
        if let Some(task) = store.start_scrub(bytes_per_second) {
            task.detach();
        }
        let actions = lives.dice.between(5, 150);
        lives.act(&store, &mut player, actions)?;
        if lives.dice.percent(40) {
            store.stop_scrub();
        }
    }
    lives.drain(&store, &mut player)?;
    healthy(&store.scrub_stats())?;
    healthy(&scrub_to_the_end(&store, &mut player)?)?;
    damage(&mut lives, &store, &mut player)?;
    let how = [Crash::Kill, Crash::Power][lives.dice.index(2)];
    lives.end(&store, player, false, how)
}

/// One bit of one segment or hint turns over.
fn damage(lives: &mut Lives, store: &Store<()>, player: &mut Player) -> Result<(), String> {
    let files: Vec<String> = lives.disk.files().into_iter().filter(|path| path.contains('/')).collect();
    let path = files[lives.dice.index(files.len())].clone();
    let content = lives.disk.content(&path).unwrap_or_default();
    let Some(last) = content.iter().rposition(|byte| *byte != 0) else { return Ok(()) };
    let offset = lives.dice.index(last + 1);
    let bit = lives.dice.below(8) as u8;
    lives.disk.flip_bit(&path, offset as u64, bit);
    let stats = scrub_to_the_end(store, player)?;
    let place = format!("{path}, byte {offset} of {}, bit {bit}: {stats:?}", content.len());
    if path.ends_with(".hint") {
        let again = lives.disk.content(&path);
        let right = again.is_none_or(|bytes| hint::decode(&bytes).is_ok());
        return if right && !stats.found_damage() { Ok(()) } else { Err(format!("{place}: not healed")) };
    }
    if is_of_index(&content, offset) {
        // It was made good again out of the rest.
        let mended = lives.disk.content(&path).as_ref() == Some(&content);
        let right = mended && !stats.found_damage() && stats.hints_rewritten == 1;
        return if right { Ok(()) } else { Err(format!("{place}: not mended")) };
    }
    let noted = store.integrity_errors();
    let mut unreadable = 0;
    for (key, result) in lives.read_all(store, player)? {
        match result {
            Err(ReadError::Damaged { .. }) => {
                unreadable += 1;
                if !noted.iter().any(|error| error.partition == key.partition && error.key == key.bytes) {
                    return Err(format!("{place}: {key:?} is damaged, and the scrub has missed it"));
                }
            }
            Err(error) => return Err(format!("{place}: {key:?}: {error}")),
            Ok(_) => {}
        }
    }
    if unreadable > stats.damaged_values {
        return Err(format!("{place}: {unreadable} values can't be read"));
    }
    let seen = stats.found_damage() || stats.damaged_dead > 0;
    if is_covered(&content, offset).is_some_and(|covered| seen != covered) {
        return Err(format!("{place}: seen: {seen}"));
    }
    Ok(())
}

/// Whether a byte of a segment is one that a checksum covers, or a checksum. None for padding, of which only some is looked at, and for a segment
/// without a frame: it may have been made ahead.
fn is_covered(content: &[u8], offset: usize) -> Option<bool> {
    let (header, found) = read_segment(content)?;
    if found.frames.is_empty() {
        return None;
    }
    if offset < header.encoded_length() {
        return Some(true);
    }
    let within = |frame: &&FoundFrame| {
        let start = frame.offset as usize;
        (start..start + frame.header.length as usize).contains(&offset)
    };
    let Some(frame) = found.frames.iter().find(within) else {
        let records = || found.frames.iter().flat_map(|frame| &frame.records);
        let form = header.origin.form();
        let place = |r: &FoundRecord| {
            r.offset as usize..r.offset as usize + form.length(r.key.len(), r.value_length as usize)
        };
        return match form {
            Form::Whole => Some(false),
            Form::Bare => records().any(|record| place(record).contains(&offset)).then_some(true),
        };
    };
    let header_end = frame.offset as usize + FRAME_HEADER_BYTES;
    let body_end = match frame.records.last() {
        Some(last) => last.offset as usize + encoded_length(last.key.len(), last.value_length as usize),
        None if frame.last_numbers.is_empty() => header_end,
        None => header_end + 8 + 8 * frame.last_numbers.len(),
    };
    (offset < body_end).then_some(true)
}

/// Whether a byte belongs to the index of a packed segment, or to its seal. (One without a record has no index to make a seal from.)
fn is_of_index(content: &[u8], offset: usize) -> bool {
    let Some((header, found)) = read_segment(content) else { return false };
    let first = found.frames.first().filter(|frame| frame.header.kind == FrameKind::Index);
    header.origin == Origin::Packed && first.is_some_and(|frame| offset >= frame.offset as usize)
}

#[test]
fn a_scrub_finds_what_is_damaged_and_nothing_else() {
    if let Some(seed) = std::env::var("BITKV_SEED").ok().and_then(|text| text.parse().ok()) {
        return run(seed).unwrap();
    }
    let seeds = std::env::var("BITKV_SCRUB_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let failed: Vec<_> = (0..seeds).filter_map(|seed| Some((seed, run(seed).err()?))).take(5).collect();
    assert!(failed.is_empty(), "of {seeds} seeds failed: {failed:#?}");
}

/// The checks above find a scrub that doesn't look: each mistake within so many seeds.
#[test]
fn a_scrub_that_does_not_look_is_caught() {
    for (bug, seeds) in [(Bug::TrustValues, 100), (Bug::PassOverGaps, 200)] {
        plant(Some(bug));
        let caught = (0..seeds).find(|seed| run(*seed).is_err());
        plant(None);
        assert!(caught.is_some(), "{bug:?} was not caught within {seeds} seeds");
        eprintln!("{bug:?}: caught at seed {}", caught.unwrap_or_default());
    }
}

#[test]
fn a_stopped_scrub_goes_on_in_the_next_life() {
    let (mut stopped, mut went_on) = (0, 0);
    for seed in 0..40 {
        let mut dice = Dice::new(seed);
        let mut plan = Plan::by(&mut dice);
        (plan.faults, plan.value_bytes_max, plan.keys) = (false, 6000, 16);
        let mut lives = Lives::new(plan, dice);
        let (store, mut player) = lives.begin_life(0).unwrap();
        lives.act(&store, &mut player, 300).unwrap();
        lives.drain(&store, &mut player).unwrap();
        store.start_scrub(0).unwrap().detach();
        assert!(store.start_scrub(0).is_none(), "one at a time");
        let steps = lives.dice.between(1, 60);
        for _ in 0..steps {
            player.step();
        }
        store.stop_scrub();
        assert!(player.run_until_idle(STEPS_MAX));
        let before = store.scrub_stats();
        lives.end(&store, player, true, Crash::Kill).unwrap();
        let (store, mut player) = lives.begin_life(0).unwrap();
        let recalled = store.scrub_stats();
        assert_eq!(recalled, before, "seed {seed}");
        if before.phase == ScrubPhase::Stopped {
            stopped += 1;
            store.start_scrub(0).unwrap().detach();
            assert!(player.run_until_idle(STEPS_MAX));
            let after = store.scrub_stats();
            assert_eq!(after.phase, ScrubPhase::Done, "seed {seed}: {after:?}");
            assert!(after.segments_done >= before.segments_done);
            went_on += u64::from(before.segments_done > 0);
            healthy(&after).unwrap();
        }
        lives.end(&store, player, false, Crash::Kill).unwrap();
    }
    assert!(stopped > 5 && went_on > 0, "{stopped} stopped, {went_on} had seen something");
}
