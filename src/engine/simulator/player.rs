//! Plays threads, disk and time of a simulated store: each step is one mail, one half of leaving a turn, one answer, one
//! completed request or one deadline. Owns which comes next; knows nothing of what the store is used for.
//!
//! Promises: the same seed, the same steps; whatever could go on does so sooner or later; a partition runs no mail between
//! taking numbers and handing over, and nobody comes in beside then, as in the real world.

use crate::engine::clock::SimClock;
use crate::engine::common::Common;
use crate::engine::core::Core;
use crate::engine::disk::sim::{Dice, SimDisk};
use crate::engine::shell::Shell;
use crate::engine::store::Store;
use std::sync::Arc;

/// How free neighbours are, by seed.
const BESIDE_PERCENTS: [u64; 4] = [0, 50, 90, 100];
/// Makes other dice of the same seed.
const NEIGHBOURS_SALT: u64 = 0x6e65_6967_6862_6f72;

/// What can happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Mail(usize),
    TakeNumbers(usize),
    HandOver(usize),
    Answer(usize),
    Complete(usize),
    Time,
}

/// How often each kind of step is taken, when it can be.
struct Temper {
    mail: u64,
    take: u64,
    hand_over: u64,
    answer: u64,
    complete: u64,
    time: u64,
}

/// Runs one store, step by step. It must be the only one who does.
pub struct Player {
    shells: Vec<Arc<Shell>>,
    common: Arc<Common>,
    disk: SimDisk,
    clock: Arc<SimClock>,
    dice: Dice,
    temper: Temper,
    /// In how many of 100 steps a neighbour's turn is free for who wants to go in beside.
    beside_percent: u64,
    /// Which ones. By dice of their own.
    neighbours: Dice,
    /// Something was handed over (or the store latched) since this partition last looked at who waits.
    owes_answer: Vec<bool>,
    was_latched: bool,
    steps: u64,
}

impl Player {
    /// Runs `store`, which lives on this disk and clock, with `Policy::Manual`.
    pub fn new<S: Send + 'static>(
        store: &Store<S>,
        disk: &SimDisk,
        clock: &Arc<SimClock>,
        seed: u64,
    ) -> Self {
        let shells: Vec<_> = store.partitions().iter().map(|partition| partition.shell.clone()).collect();
        let mut dice = Dice::new(seed);
        let mut weight = |high| dice.between(1, high);
        let temper = Temper {
            mail: weight(40),
            take: weight(20),
            hand_over: weight(20),
            answer: weight(20),
            complete: weight(30),
            time: weight(2),
        };
        let mut neighbours = Dice::new(seed ^ NEIGHBOURS_SALT);
        Player {
            beside_percent: BESIDE_PERCENTS[neighbours.index(BESIDE_PERCENTS.len())],
            neighbours,
            owes_answer: vec![true; shells.len()],
            common: shells[0].common.clone(),
            shells,
            disk: disk.clone(),
            clock: clock.clone(),
            temper,
            dice,
            was_latched: false,
            steps: 0,
        }
    }

    /// From now on only the clock's owner moves time.
    pub fn leave_time_alone(&mut self) {
        self.temper.time = 0;
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether the store takes no changes any more.
    pub fn is_latched(&self) -> bool {
        self.common.order.is_latched()
    }

    /// Takes one step; false if nothing can happen by itself any more.
    pub fn step(&mut self) -> bool {
        let choices = self.choices();
        let total: u64 = choices.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return false;
        }
        let mut luck = self.dice.below(total);
        let chosen = choices.iter().find(|(_, weight)| {
            let hit = luck < *weight;
            luck = luck.saturating_sub(*weight);
            hit
        });
        if let Some((step, _)) = chosen {
            self.take(*step);
        }
        self.steps += 1;
        true
    }

    /// Steps until the condition holds; false if that took too many steps, or nothing could happen any more.
    pub fn run_until(&mut self, steps_max: u64, mut done: impl FnMut() -> bool) -> bool {
        for _ in 0..steps_max {
            if done() {
                return true;
            }
            if !self.step() {
                break;
            }
        }
        done()
    }

    /// Steps until nothing can happen by itself; false if that took too many steps.
    pub fn run_until_idle(&mut self, steps_max: u64) -> bool {
        for _ in 0..steps_max {
            if !self.step() {
                return true;
            }
        }
        false
    }

    fn choices(&mut self) -> Vec<(Step, u64)> {
        let latched = self.is_latched();
        if latched && !self.was_latched {
            self.owes_answer.fill(true);
        }
        self.was_latched = latched;
        let mut choices = Vec::new();
        for (index, shell) in self.shells.iter().enumerate() {
            let (has_frames, between) =
                shell.with_quiet(|core| (core.log().pending_count() > 0, core.log().numbered().is_some()));
            if between && !latched {
                choices.push((Step::HandOver(index), self.temper.hand_over));
                continue;
            }
            if has_frames && !latched {
                choices.push((Step::TakeNumbers(index), self.temper.take));
            }
            if shell.turn.mail_count() > 0 {
                choices.push((Step::Mail(index), self.temper.mail));
            }
            if self.owes_answer[index] {
                choices.push((Step::Answer(index), self.temper.answer));
            }
        }
        let pending = self.disk.pending();
        if pending > 0 {
            choices.push((Step::Complete(pending), self.temper.complete));
        }
        if self.clock.next_deadline().is_some() {
            choices.push((Step::Time, self.temper.time));
        }
        choices
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Mail(index) => {
                let before = self.common.order.last_numbers();
                self.mail(index);
                // Going on to another segment, and to a neighbour, writes what waits from inside a mail.
                if self.common.order.last_numbers() != before {
                    self.owes_answer.fill(true);
                }
            }
            Step::TakeNumbers(index) => self.shells[index].with_quiet(Core::take_numbers),
            Step::HandOver(index) => {
                self.shells[index].with_quiet(Core::hand_over);
                // In the real world who hands over pokes those whom it uncovers.
                self.owes_answer.fill(true);
            }
            Step::Answer(index) => {
                self.owes_answer[index] = false;
                self.shells[index].with_quiet(Core::answer);
            }
            Step::Complete(count) => drop(self.disk.complete(self.dice.index(count))),
            Step::Time => drop(self.clock.advance_to_next()),
        }
    }

    /// Runs one mail, which may go beside into neighbours where nobody is inside.
    fn mail(&mut self, index: usize) {
        let mut shut = Vec::new();
        for (other, shell) in self.shells.iter().enumerate().filter(|(other, _)| *other != index) {
            let is_between = shell.with_quiet(|core| core.log().numbered().is_some());
            if (is_between || !self.neighbours.percent(self.beside_percent)) && shell.turn.shut() {
                shut.push(other);
            }
        }
        let pending = |player: &Self| -> Vec<u64> {
            player.shells.iter().map(|shell| shell.with_quiet(|core| core.log().pending_count())).collect()
        };
        let before = pending(self);
        self.shells[index].turn.step();
        shut.into_iter().for_each(|other| self.shells[other].turn.open());
        // In the real world nobody would come by to hand it over.
        let is_left = |(other, (before, after)): (usize, (&u64, &u64))| other != index && after > before;
        let left = before.iter().zip(&pending(self)).enumerate().any(is_left);
        assert!(!left || self.is_latched(), "what was appended in a neighbour wasn't handed over");
    }

    /// The end, after the disk's crash or without one: lets all that was under way come to nothing, so that nothing keeps the dead store alive.
    pub fn bury(self) {
        self.common.latch("its world has ended");
        loop {
            self.shells.iter().for_each(|shell| shell.with_quiet(Core::answer));
            // Not forgotten: who waits for a sleeper and the sleeper would keep each other for ever.
            while self.clock.advance_to_next() {}
            self.disk.forget_pending();
            let ran = self.shells.iter().filter(|shell| shell.turn.step()).count();
            if ran == 0 {
                return;
            }
        }
    }
}
