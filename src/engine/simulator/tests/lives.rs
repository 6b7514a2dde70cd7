//! The lives of one store: opened, used, crashed, opened again. Owns the world; leaves judging to the oracle.

use super::autopsy::describe;
use super::client::{Clients, all_keys};
use super::history::{History, Key, Value};
use super::oracle::judge;
use super::plan::Plan;
use crate::engine::clock::SimClock;
use crate::engine::disk::sim::{Crash, Dice, SimDisk};
use crate::engine::simulator::Player;
use crate::engine::{OpenError, PartitionId, Policy, Store, World};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// More steps than anything here needs by far.
const STEPS_MAX: u64 = 300_000;

pub(super) struct Lives {
    pub(super) plan: Plan,
    pub(super) disk: SimDisk,
    clock: Arc<SimClock>,
    history: Arc<Mutex<History>>,
    dice: Dice,
    /// What lies between the last life and now.
    crash: Crash,
    /// Somebody looks into this seed: say more.
    watched: bool,
}

/// How looking at a store ended.
enum Look {
    Seen(BTreeMap<Key, Value>),
    Died,
}

/// Runs a whole seed.
pub(super) fn run(seed: u64) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let plan = Plan::by(&mut dice);
    let mut lives = Lives::new(plan, dice);
    let faults = if lives.plan.faults { " (with faults)" } else { "" };
    lives.run().map_err(|what| format!("{what}{faults}"))
}

impl Lives {
    pub(super) fn new(plan: Plan, mut dice: Dice) -> Self {
        Lives {
            plan,
            disk: SimDisk::new(dice.roll()),
            clock: SimClock::new(),
            history: Arc::default(),
            dice,
            crash: Crash::Kill,
            watched: std::env::var("BITKV_SEED").is_ok(),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.plan.lives {
            let player = self.begin_life(25)?;
            self.live(player)?;
        }
        let (_, player) = self.begin_life(0)?;
        player.bury();
        Ok(())
    }

    fn crash_disk(&mut self, how: Crash) {
        self.disk = self.disk.crash(how);
        self.disk.set_capacity(None);
        if how == Crash::Power {
            self.crash = Crash::Power;
        }
    }

    fn any_crash(&mut self) -> Crash {
        if self.dice.percent(40) { Crash::Kill } else { Crash::Power }
    }

    /// Opens, perhaps dying while at it several times over, and judges what is there.
    pub(super) fn begin_life(&mut self, nested_percent: u64) -> Result<(Store<()>, Player), String> {
        loop {
            if self.dice.percent(nested_percent) {
                let at = self.disk.io_count() + self.dice.between(1, 30);
                self.disk.crash_at(Some(at));
            }
            let before = self.watched.then(|| describe(&self.disk));
            match self.open() {
                Ok(store) => {
                    let mut player = Player::new(&store, &self.disk, &self.clock, self.dice.roll());
                    if let Look::Seen(found) = self.look(&store, &mut player)? {
                        let mut history = self.history.lock();
                        judge(&history, &found, self.crash).inspect_err(|_| {
                            if let Some(before) = before {
                                eprintln!("before:\n{before}\nafter:\n{}", describe(&self.disk));
                                for (id, o) in history.operations.iter().enumerate() {
                                    let keys: Vec<_> = o
                                        .writes
                                        .iter()
                                        .map(|(k, v)| {
                                            (
                                                k.partition,
                                                String::from_utf8_lossy(&k.bytes[..k.bytes.len().min(6)])
                                                    .into_owned(),
                                                v.as_ref().map(Vec::len),
                                            )
                                        })
                                        .collect();
                                    eprintln!(
                                        "{id}: {} to {:?} acknowledged {} {keys:?}",
                                        o.started, o.settled, o.acknowledged
                                    );
                                }
                                eprintln!("durable before {}", history.durable_before);
                            }
                        })?;
                        history.begin_life(found);
                        drop(history);
                        self.crash = Crash::Kill;
                        return Ok((store, player));
                    }
                    let how = self.any_crash();
                    self.crash_disk(how);
                    player.bury();
                }
                Err(_) if self.disk.is_dead() => {
                    let how = self.any_crash();
                    self.crash_disk(how);
                }
                Err(error) => {
                    if let Some(before) = before {
                        eprintln!("before:\n{before}");
                    }
                    return Err(format!("a healthy store was refused after {:?}: {error}", self.crash));
                }
            }
        }
    }

    pub(super) fn open(&mut self) -> Result<Store<()>, OpenError> {
        let world = World {
            disk: Arc::new(self.disk.clone()),
            clock: self.clock.clone(),
            seed: self.dice.roll(),
            policy: Policy::Manual,
        };
        Store::open(world, self.plan.config.clone(), |_| Ok(()))
    }

    /// Reads all keys.
    fn look(&mut self, store: &Store<()>, player: &mut Player) -> Result<Look, String> {
        let found = Arc::new(Mutex::new(BTreeMap::new()));
        let failure = Arc::new(Mutex::new(None));
        let keys = all_keys(&self.plan);
        let count = keys.len();
        for key in keys {
            let partition = store.partition(PartitionId(key.partition)).clone();
            let (inside, found, failure) = (partition.clone(), found.clone(), failure.clone());
            let read = async move {
                match inside.get(&key.bytes).await {
                    Ok(value) => drop(found.lock().insert(key, value)),
                    Err(error) => *failure.lock() = Some(format!("{key:?} can't be read: {error}")),
                }
            };
            partition.submit(read).detach();
        }
        let complete = || found.lock().len() == count || failure.lock().is_some();
        let complete = player.run_until(STEPS_MAX, complete);
        if self.disk.is_dead() {
            return Ok(Look::Died);
        }
        if let Some(failure) = failure.lock().take() {
            return Err(failure);
        }
        if !complete {
            return Err("reading got stuck".to_string());
        }
        let found = std::mem::take(&mut *found.lock());
        self.compare_listing(store, &found)?;
        Ok(Look::Seen(found))
    }

    fn compare_listing(&self, store: &Store<()>, found: &BTreeMap<Key, Value>) -> Result<(), String> {
        for partition in store.partitions() {
            let listed = partition.with(|core, ()| core.list(&[], None, usize::MAX));
            let here = found.iter().filter(|(key, _)| key.partition == partition.id().0);
            let mut present: Vec<_> =
                here.filter(|(_, value)| value.is_some()).map(|(key, _)| key.bytes.clone()).collect();
            present.sort();
            if listed != present {
                return Err(format!("partition {} lists {listed:?} and has {present:?}", partition.id()));
            }
        }
        Ok(())
    }

    /// Uses the store until this life ends in one way or another.
    fn live(&mut self, (store, mut player): (Store<()>, Player)) -> Result<(), String> {
        self.cause_trouble();
        let history = self.history.clone();
        let mut clients = Clients { store: store.clone(), history: history.clone(), dice: self.dice.fork() };
        let actions = self.dice.between(5, 350);
        let act_percent = self.dice.between(5, 60);
        let mut acted = 0;
        while acted < actions && !self.disk.is_dead() {
            let idle =
                history.lock().unfinished < self.plan.in_flight_max && clients.dice.percent(act_percent);
            if idle || !player.step() {
                clients.act(&self.plan);
                acted += 1;
            }
            self.notice(&player)?;
        }
        let drained = self.dice.percent(50);
        if drained && !self.disk.is_dead() {
            self.drain(&mut player)?;
        }
        self.end(&store, player, drained)
    }

    fn cause_trouble(&mut self) {
        if self.dice.percent(30) {
            let within = [20, 200, 600][self.dice.index(3)];
            let at = self.disk.io_count() + self.dice.between(1, within);
            self.disk.crash_at(Some(at));
        }
        if !self.plan.faults {
            return;
        }
        match self.dice.below(4) {
            0 => self.disk.fail_sync(self.dice.below(60)),
            1 => self.disk.fail_write(self.dice.below(150)),
            2 => {
                use crate::engine::disk::Disk;
                let space = self.disk.space().map_or(0, |space| space.total_bytes - space.available_bytes);
                self.disk.set_capacity(Some(space + self.dice.below(400_000)));
            }
            _ => return,
        }
        self.history.lock().excused = true;
    }

    fn notice(&self, player: &Player) -> Result<(), String> {
        let mut history = self.history.lock();
        if let Some(violation) = history.violation.take() {
            if self.disk.is_dead() {
                return Ok(());
            }
            return Err(violation);
        }
        if self.disk.is_dead() {
            history.over = true;
        }
        if player.is_latched() && history.latched_at.is_none() {
            let now = history.tick();
            history.latched_at = Some(now);
            if !history.excused && !self.disk.is_dead() {
                return Err("the store latched on a healthy disk".to_string());
            }
        }
        Ok(())
    }

    /// Everything that was asked for is answered in the end.
    fn drain(&mut self, player: &mut Player) -> Result<(), String> {
        let history = self.history.clone();
        let disk = self.disk.clone();
        let all = player.run_until(STEPS_MAX, || history.lock().unfinished == 0 || disk.is_dead());
        self.notice(player)?;
        if self.disk.is_dead() {
            return Ok(());
        }
        let history = self.history.lock();
        if !all && (history.latched_at.is_none() || !history.excused) {
            let open = history.operations.iter().enumerate().filter(|(_, operation)| !operation.finished);
            let open: Vec<_> = open.map(|(id, o)| (id, o.writes.len(), o.writes[0].0.partition)).collect();
            return Err(format!("{} operations never end; changes among them: {open:?}", history.unfinished));
        }
        drop(history);
        if !player.run_until_idle(STEPS_MAX) {
            return Err("the store never falls idle".to_string());
        }
        self.notice(player)
    }

    fn end(&mut self, store: &Store<()>, player: Player, drained: bool) -> Result<(), String> {
        let panics: u64 = store.stats().partitions.iter().map(|partition| partition.panics).sum();
        if panics > 0 {
            return Err("an operation panicked".to_string());
        }
        let clean = drained && !self.disk.is_dead() && self.dice.percent(40);
        if clean {
            let closed = store.close();
            if !self.disk.is_dead() {
                let mut history = self.history.lock();
                match closed {
                    Ok(()) => history.durable_before = history.tick(),
                    Err(error) if !history.excused => return Err(format!("closing failed: {error}")),
                    Err(_) => {}
                }
            }
        }
        self.history.lock().over = true;
        let how = self.any_crash();
        self.crash_disk(how);
        player.bury();
        Ok(())
    }
}
