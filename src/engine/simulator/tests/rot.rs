//! One bit turns over in one file of a closed or crashed store. Opening refuses, or every read gives the right value or an
//! error. Only in a log that a crash cut off is an older state allowed: its last frame may be taken for a torn one, as long as
//! no frame behind it and no watermark tells of it. Never wrong bytes.

use super::history::{Key, Value, brief};
use super::lives::Lives;
use super::oracle::judge;
use super::plan::Plan;
use super::segments::read_segment;
use crate::engine::OpenError;
use crate::engine::disk::sim::{Crash, Dice};
use crate::engine::simulator::Player;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

const FLIPS: usize = 40;

fn rot(seed: u64) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let mut plan = Plan::by(&mut dice);
    plan.faults = false;
    let mut lives = Lives::new(plan, dice);
    let (store, mut player) = lives.begin_life(0)?;
    let actions = lives.dice.between(20, 200);
    lives.act(&store, &mut player, actions)?;
    lives.drain(&store, &mut player)?;
    let closes = lives.dice.percent(50);
    let how = [Crash::Kill, Crash::Power][lives.dice.index(2)];
    lives.end(&store, player, closes, how)?;
    drop(store);
    if !closes {
        // What no frame that is left tells of as synced can't be missed.
        lives.history.lock().durable_before = 0;
    }
    let healthy = lives.disk.clone();
    for flip in 0..FLIPS {
        lives.disk = healthy.snapshot();
        let files = lives.disk.files();
        let path = &files[lives.dice.index(files.len())];
        let content = lives.disk.content(path).unwrap_or_default();
        // Where something is written; what lies ahead is zeros.
        let Some(last) = content.iter().rposition(|byte| *byte != 0) else { continue };
        let (offset, bit) = (lives.dice.index(last + 1) as u64, lives.dice.below(8) as u8);
        lives.disk.flip_bit(path, offset, bit);
        let place = format!("flip {flip}: {path}, byte {offset} of {}, bit {bit}", content.len());
        let cut_off = !closes && path.ends_with(".data") && !is_sealed(&content);
        match catch_unwind(AssertUnwindSafe(|| look(&mut lives, cut_off))) {
            Ok(result) => result.map_err(|what| format!("{place}: {what}"))?,
            Err(_) => return Err(format!("{place}: panicked")),
        }
    }
    Ok(())
}

fn is_sealed(content: &[u8]) -> bool {
    read_segment(content).is_some_and(|(_, found)| found.is_sealed())
}

fn look(lives: &mut Lives, cut_off: bool) -> Result<(), String> {
    let (store, salvaged) = match lives.open() {
        Ok(store) => (store, false),
        // What is left can be had all the same.
        Err(OpenError::Damaged(what)) => {
            lives.disk = lives.disk.crash(Crash::Kill);
            lives.plan.config.salvage = true;
            let opened = lives.open();
            lives.plan.config.salvage = false;
            let store = opened.map_err(|error| format!("{what}; and salvage was refused: {error}"))?;
            if store.losses().is_empty() {
                return Err(format!("{what}; but salvage tells of no loss"));
            }
            (store, true)
        }
        Err(_) => return Ok(()),
    };
    let mut player = Player::new(&store, &lives.disk, &lives.clock, lives.dice.roll());
    let read = lives.read_all(&store, &mut player)?;
    player.bury();
    let found: BTreeMap<Key, Value> =
        read.into_iter().filter_map(|(key, result)| Some((key, result.ok()?))).collect();
    let history = lives.history.lock();
    if !cut_off && !salvaged {
        return judge(&history, &found, Crash::Power);
    }
    let was_once = |(key, value): &(&Key, &Value)| {
        (0..=history.count_on(key)).any(|count| history.value_after(key, count) == **value)
    };
    match found.iter().find(|one| !was_once(one)) {
        Some((key, value)) => Err(format!("{key:?} has {}, which it never had", brief(value))),
        None => Ok(()),
    }
}

#[test]
fn a_flipped_bit_never_gives_wrong_bytes() {
    let seeds = std::env::var("BITKV_ROT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    let failed: Vec<_> = (0..seeds).filter_map(|seed| Some((seed, rot(seed).err()?))).collect();
    assert!(failed.is_empty(), "{} of {seeds} seeds failed: {failed:#?}", failed.len());
}
