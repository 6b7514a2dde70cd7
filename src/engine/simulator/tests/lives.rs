//! The lives of one store: opened, used, crashed, opened again. Owns the world; leaves judging to the oracle.

use super::autopsy::describe;
use super::client::{Clients, all_keys};
use super::counts::check_counts;
use super::history::{History, Key, Value};
use super::oracle::judge;
use super::plan::Plan;
use crate::engine::clock::SimClock;
use crate::engine::disk::sim::{Crash, Dice, SimDisk};
use crate::engine::simulator::Player;
use crate::engine::{OpenError, PartitionId, Policy, ReadError, Store, World};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// More steps than anything here needs by far.
const STEPS_MAX: u64 = 300_000;

pub(super) struct Lives {
    pub(super) plan: Plan,
    pub(super) disk: SimDisk,
    pub(super) clock: Arc<SimClock>,
    pub(super) history: Arc<Mutex<History>>,
    pub(super) dice: Dice,
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
        let (store, player) = self.begin_life(0)?;
        player.bury();
        drop(store);
        // Nothing keeps a store alive that everybody has let go of: neither a task that nobody will wake, nor a waker.
        match self.disk.handle_count() {
            1 => Ok(()),
            count => Err(format!("{} handles of the disk are left over", count - 1)),
        }
    }

    fn crash_disk(&mut self, how: Crash) {
        self.disk = self.disk.crash(how);
        if how == Crash::Power {
            self.crash = Crash::Power;
        }
    }

    pub(super) fn any_crash(&mut self) -> Crash {
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
                        let judged = judge(&history, &found, self.crash);
                        if let (Err(_), Some(before)) = (&judged, before) {
                            eprintln!(
                                "before:\n{before}\nafter:\n{}\n{}",
                                describe(&self.disk),
                                history.describe()
                            );
                        }
                        judged?;
                        if store.config().read_only {
                            // A full disk may leave nothing else, once. Then there is room again.
                            if !self.disk.set_capacity(None) && !self.disk.has_failed() {
                                return Err("a store was opened read-only on a disk with space".to_string());
                            }
                            drop(history);
                            player.bury();
                            self.disk = self.disk.crash(Crash::Kill);
                            continue;
                        }
                        self.disk.set_capacity(None);
                        history.begin_life(found);
                        drop(history);
                        self.crash = Crash::Kill;
                        return Ok((store, player));
                    }
                    let how = self.any_crash();
                    self.crash_disk(how);
                    player.bury();
                }
                Err(_) if self.disk.is_dead() || self.disk.has_failed() => {
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

    /// Reads all keys of a healthy store.
    fn look(&mut self, store: &Store<()>, player: &mut Player) -> Result<Look, String> {
        let read = self.read_all(store, player);
        if self.disk.is_dead() {
            return Ok(Look::Died);
        }
        let mut found = BTreeMap::new();
        for (key, result) in read? {
            let value = result.map_err(|error| format!("{key:?} can't be read: {error}"))?;
            found.insert(key, value);
        }
        self.compare_listing(store, &found)?;
        Ok(Look::Seen(found))
    }

    /// Reads all keys, whatever comes of it.
    pub(super) fn read_all(
        &self,
        store: &Store<()>,
        player: &mut Player,
    ) -> Result<BTreeMap<Key, Result<Value, ReadError>>, String> {
        let found = Arc::new(Mutex::new(BTreeMap::new()));
        let keys = all_keys(&self.plan);
        let count = keys.len();
        for key in keys {
            let partition = store.partition(PartitionId(key.partition)).clone();
            let (inside, found) = (partition.clone(), found.clone());
            let read = async move {
                let result = inside.get(&key.bytes).await;
                found.lock().insert(key, result);
            };
            partition.submit(read).detach();
        }
        if !player.run_until(STEPS_MAX, || found.lock().len() == count) {
            return Err("reading got stuck".to_string());
        }
        let found = std::mem::take(&mut *found.lock());
        Ok(found)
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
        let actions = self.dice.between(5, 350);
        self.act(&store, &mut player, actions)?;
        let drained = self.dice.percent(50);
        if drained && !self.disk.is_dead() {
            self.drain(&store, &mut player)?;
        }
        let closes = drained && self.dice.percent(40);
        let how = self.any_crash();
        self.end(&store, player, closes, how)
    }

    /// Clients do so many things, unless the disk dies before.
    pub(super) fn act(&mut self, store: &Store<()>, player: &mut Player, actions: u64) -> Result<(), String> {
        let history = self.history.clone();
        let dice = self.dice.fork();
        let relays = Dice::new(dice.clone().roll());
        let mut clients = Clients { store: store.clone(), history: history.clone(), dice, relays };
        let act_percent = self.dice.between(5, 60);
        let mut acted = 0;
        while acted < actions && !self.disk.is_dead() {
            let idle =
                history.lock().unfinished < self.plan.in_flight_max && clients.dice.percent(act_percent);
            if idle || !player.step() {
                clients.act(&self.plan);
                acted += 1;
            }
            self.notice(player)?;
        }
        Ok(())
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
    pub(super) fn drain(&mut self, store: &Store<()>, player: &mut Player) -> Result<(), String> {
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
        self.notice(player)?;
        if self.disk.is_dead() || player.is_latched() {
            return Ok(());
        }
        check_counts(store, &self.disk)
    }

    /// Closes the store, if it is to be closed and still can be, and crashes.
    pub(super) fn end(
        &mut self,
        store: &Store<()>,
        player: Player,
        closes: bool,
        how: Crash,
    ) -> Result<(), String> {
        if store.stats().partitions.iter().any(|partition| partition.panics > 0) {
            return Err("an operation panicked".to_string());
        }
        if closes && !self.disk.is_dead() {
            let closed = store.close();
            let mut history = self.history.lock();
            match closed {
                Ok(()) if !self.disk.is_dead() => history.durable_before = history.tick(),
                Err(error) if !history.excused && !self.disk.is_dead() => {
                    return Err(format!("closing failed: {error}"));
                }
                _ => {}
            }
        }
        self.history.lock().over = true;
        self.crash_disk(how);
        player.bury();
        Ok(())
    }
}
