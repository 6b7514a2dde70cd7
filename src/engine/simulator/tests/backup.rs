//! Copies taken while clients write, sync, compact: each must open as the store was at one moment, not earlier than the call.

use super::rig::{Answer, Rig, config};
use crate::engine::backup::{BackupError, BackupStats, Shelf};
use crate::engine::disk::Disk;
use crate::engine::disk::sim::{Crash, Dice, SimDisk};
use crate::engine::planted::{Bug, plant};
use crate::engine::{Batch, Config, PartitionId};
use parking_lot::Mutex;
use std::io::{self, Write};
use std::sync::Arc;

const PARTITIONS: u16 = 5;
const CLIENTS: u16 = 5;
const COMMITS: u64 = 60;
/// How many copies are taken, one after the other.
const COPIES: u64 = 5;

/// The copy is made on another disk, on which nothing is durable that wasn't synced. Where files can't be shared, a link is a copy.
struct SimShelf {
    from: SimDisk,
    to: SimDisk,
    made: Vec<String>,
    directories: Vec<String>,
}

struct SimWriter {
    file: crate::engine::disk::FileHandle,
    offset: u64,
}

impl Write for SimWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shelf for SimShelf {
    fn create_dir(&mut self, path: &str) -> io::Result<()> {
        self.directories.push(path.to_string());
        self.to.create_dir(path)
    }
    fn link(&mut self, path: &str) -> io::Result<()> {
        let bytes = self.from.content(path).ok_or(io::ErrorKind::NotFound)?;
        // What the store has synced is durable under its new name as well.
        let file = self.to.create(path)?;
        file.write_at(0, &bytes)?;
        file.sync_data()?;
        self.made.push(path.to_string());
        Ok(())
    }
    fn create(&mut self, path: &str) -> io::Result<Box<dyn Write + '_>> {
        self.made.push(path.to_string());
        Ok(Box::new(SimWriter { file: self.to.create(path)?, offset: 0 }))
    }
    fn sync(&mut self) -> io::Result<()> {
        for path in &self.made {
            self.to.open(path)?.sync_data()?;
        }
        self.directories.iter().try_for_each(|path| self.to.sync_dir(path))?;
        self.to.sync_dir("")
    }
    fn clear(&mut self) -> io::Result<()> {
        for path in self.made.drain(..) {
            self.to.remove(&path)?;
        }
        Ok(())
    }
}

/// When a commit began and when it was acknowledged, by a common count of events.
#[derive(Clone, Copy, Default)]
struct Span {
    began: u64,
    acknowledged: Option<u64>,
}

#[derive(Default)]
struct History {
    events: u64,
    commits: Vec<Vec<Span>>,
}

impl History {
    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn begin(&mut self, client: u16) {
        let began = self.event();
        self.commits[usize::from(client)].push(Span { began, acknowledged: None });
    }

    fn acknowledge(&mut self, client: u16) {
        let acknowledged = self.event();
        let span = self.commits[usize::from(client)].last_mut();
        span.expect("it has begun").acknowledged = Some(acknowledged);
    }
}

fn key(client: u16, part: u16) -> Vec<u8> {
    format!("client {client} part {part}").into_bytes()
}

/// A client commits 1, 2, 3, ... under two keys, in two partitions (or one), each time as one; and writes something else that dies soon.
fn start_client(rig: &mut Rig, client: u16, history: &Arc<Mutex<History>>) -> Answer<()> {
    let history = history.clone();
    rig.start(|store, _| async move {
        let homes = [PartitionId(client % PARTITIONS), PartitionId((client * 2 + 1) % PARTITIONS)];
        for number in 1..=COMMITS {
            let mut parts: Vec<(PartitionId, Batch)> = Vec::new();
            for (part, home) in homes.iter().enumerate() {
                let mut batch = Batch::new();
                batch.put(key(client, part as u16), number.to_le_bytes());
                batch.put(format!("bulk {client} {}", number % 3), vec![client as u8; 2000]);
                match parts.iter_mut().find(|(id, _)| id == home) {
                    Some((_, both)) => {
                        both.put(key(client, part as u16), number.to_le_bytes());
                    }
                    None => parts.push((*home, batch)),
                }
            }
            history.lock().begin(client);
            if store.commit(parts).await.is_err() {
                return;
            }
            history.lock().acknowledge(client);
            // Often: what a copy must not see is a sync that ends while it looks.
            if client != 0 {
                let _ = store.sync().await;
            }
            if number % 20 == u64::from(client) * 4 {
                let _ = store.compact(None).await;
            }
        }
    })
}

/// Whether a copy at a random moment is right.
fn outcome(seed: u64) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let settings = Config { partitions: Some(PARTITIONS), ..config() };
    let mut rig = Rig::with_seed(settings, seed);
    let history =
        Arc::new(Mutex::new(History { commits: vec![Vec::new(); usize::from(CLIENTS)], events: 0 }));
    let clients: Vec<_> = (0..CLIENTS).map(|client| start_client(&mut rig, client, &history)).collect();
    for copy in 0..COPIES {
        for _ in 0..dice.between(1, 2000) {
            rig.step();
        }
        let to = SimDisk::new(seed ^ (copy + 1));
        let shelf =
            SimShelf { from: rig.disk.clone(), to: to.clone(), made: Vec::new(), directories: Vec::new() };
        let called = history.lock().event();
        let backup: Answer<Result<BackupStats, BackupError>> =
            rig.start(|store, _| async move { store.backup(move || Ok(shelf)).await });
        rig.finish(backup).map_err(|error| format!("copy {copy}: {error}"))?;
        let mut opened = rig.beside(to.crash(Crash::Power)).map_err(|what| format!("copy {copy}: {what}"))?;
        let found = |client, part| opened.get_in(PartitionId(client_home(client, part)), &key(client, part));
        judge(&history.lock(), called, found).map_err(|what| format!("copy {copy}: {what}"))?;
    }
    drop(clients);
    Ok(())
}

fn client_home(client: u16, part: u16) -> u16 {
    [client % PARTITIONS, (client * 2 + 1) % PARTITIONS][usize::from(part)]
}

fn judge(
    history: &History,
    called: u64,
    mut found: impl FnMut(u16, u16) -> Option<Vec<u8>>,
) -> Result<(), String> {
    let mut counts = Vec::new();
    for client in 0..CLIENTS {
        let number = |bytes: Option<Vec<u8>>| {
            bytes.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
        };
        let (one, other) = (number(found(client, 0)), number(found(client, 1)));
        if one != other {
            return Err(format!("client {client}: half a commit: {one} and {other}"));
        }
        counts.push(one as usize);
    }
    for (client, commits) in history.commits.iter().enumerate() {
        // The first that isn't there: nothing that is may have begun after it was acknowledged.
        let Some(missing) = commits.get(counts[client]).and_then(|span| span.acknowledged) else { continue };
        if missing < called {
            return Err(format!("client {client}: what was acknowledged before the call is missing"));
        }
        for (other, commits) in history.commits.iter().enumerate() {
            let newest = counts[other].checked_sub(1).and_then(|index| commits.get(index));
            if newest.is_some_and(|span| span.began > missing) {
                return Err(format!("clients {client} and {other} are of two moments"));
            }
        }
    }
    Ok(())
}

#[test]
fn a_copy_is_the_store_at_one_moment() {
    for seed in 0..300 {
        if let Err(what) = outcome(seed) {
            panic!("seed {seed}: {what}");
        }
    }
}

/// While somebody holds the rounds, nothing becomes stable; afterwards it does.
#[test]
fn nothing_becomes_stable_while_rounds_are_held() {
    let mut rig = Rig::new(config());
    let common = rig.store().common();
    let hold = {
        let mut taking = std::pin::pin!(common.rounds.hold());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::future::Future::poll(taking.as_mut(), &mut context) {
            std::task::Poll::Ready(held) => held,
            std::task::Poll::Pending => panic!("nobody holds them"),
        }
    };
    rig.put("key", b"value");
    let before = common.order.stable();
    let synced = rig.start(|store, _| async move { store.sync().await });
    while rig.step() {}
    assert!(synced.lock().is_none() && common.order.stable() == before);
    drop(hold);
    rig.finish(synced).expect("a sync");
    assert!(common.order.stable() > before);
}

#[test]
fn looking_while_a_round_runs_is_caught() {
    plant(Some(Bug::LookWhileSyncing));
    let caught = (0..300).find(|seed| outcome(*seed).is_err());
    plant(None);
    assert!(caught.is_some(), "not caught");
    eprintln!("caught at seed {}", caught.unwrap_or_default());
}

/// Compactions that come in between again and again end in an error, and leave nothing.
#[test]
fn a_copy_that_never_succeeds_leaves_nothing() {
    struct Hopeless(SimDisk, Vec<String>);
    impl Shelf for Hopeless {
        fn create_dir(&mut self, path: &str) -> io::Result<()> {
            self.0.create_dir(path)
        }
        fn link(&mut self, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn create(&mut self, path: &str) -> io::Result<Box<dyn Write + '_>> {
            self.1.push(path.to_string());
            Ok(Box::new(SimWriter { file: self.0.create(path)?, offset: 0 }))
        }
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn clear(&mut self) -> io::Result<()> {
            self.1.drain(..).try_for_each(|path| self.0.remove(&path))
        }
    }
    let mut rig = Rig::new(config());
    rig.fill("a");
    rig.sync();
    rig.idle();
    let to = SimDisk::new(5);
    let shelf = Hopeless(to.clone(), Vec::new());
    let copied = rig.run(|store, _| async move { store.backup(move || Ok(shelf)).await });
    assert!(matches!(copied, Err(BackupError::Busy)), "{copied:?}");
    assert!(to.files().is_empty(), "{:?}", to.files());
}
