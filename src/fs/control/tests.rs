use super::report::{Damage, Finished, Pending, Report};
use super::*;
use crate::engine::scrub::ScrubStats;
use crate::engine::stats::SegmentStats;
use crate::fs::journal::Entry;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};

/// Counts what it is asked for; a compaction ends when the test says so.
#[derive(Default)]
struct Fake {
    moments: AtomicU64,
    syncs: AtomicU64,
    refuse_sync: AtomicBool,
    compactions: Mutex<Vec<(Option<u16>, Finished)>>,
    level: Mutex<String>,
    changes: Mutex<Vec<(String, String)>>,
    paused: AtomicBool,
    scrub: Mutex<Option<(u64, Finished)>>,
    follows: AtomicU64,
    backups: Mutex<Vec<PathBuf>>,
}

impl Source for Arc<Fake> {
    fn now(&self) -> Time {
        Time::default()
    }
    fn report(&self) -> Report {
        let uptime_seconds = self.moments.fetch_add(1, Ordering::Relaxed);
        let compaction_paused = self.paused.load(Ordering::Relaxed);
        Report { uptime_seconds, compaction_paused, transport: "dev", ..Default::default() }
    }
    fn segments(&self) -> Vec<SegmentStats> {
        Vec::new()
    }
    fn losses(&self) -> Vec<String> {
        Vec::new()
    }
    fn damages(&self) -> Vec<Damage> {
        Vec::new()
    }
    fn latch_reason(&self) -> Option<String> {
        None
    }
    fn slow_operations(&self) -> Vec<Entry> {
        Vec::new()
    }
    fn followed_operations(&self) -> Vec<Entry> {
        Vec::new()
    }
    fn follow_operations(&self) {
        self.follows.fetch_add(1, Ordering::Relaxed);
    }
    fn options(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    fn partition_count(&self) -> u16 {
        2
    }
    fn sync(&self) -> Pending<Answer<()>> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let answer = if self.refuse_sync.load(Ordering::Relaxed) { Err(Errno::EIO) } else { Ok(()) };
        Box::pin(async move { answer })
    }
    fn backup(&self, to: PathBuf) -> Pending<Answer<()>> {
        self.backups.lock().push(to);
        Box::pin(async { Ok(()) })
    }
    fn compact(&self, partition: Option<u16>, finished: Finished) {
        self.compactions.lock().push((partition, finished));
    }
    fn set_options(&self, changes: &[(&str, &str)]) -> Answer<()> {
        let own = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        self.changes.lock().extend(changes.iter().map(own));
        Ok(())
    }
    fn pause_compaction(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }
    fn scrub_stats(&self) -> ScrubStats {
        ScrubStats { bytes_done: 1, bytes_total: 3, damaged_values: 2, ..ScrubStats::default() }
    }
    fn start_scrub(&self, bytes_per_second: u64, finished: Finished) -> Answer<()> {
        let mut running = self.scrub.lock();
        if running.is_some() {
            return Err(Errno::EBUSY);
        }
        *running = Some((bytes_per_second, finished));
        Ok(())
    }
    fn stop_scrub(&self) {
        if let Some((_, finished)) = self.scrub.lock().take() {
            finished(Ok(2));
        }
    }
    fn log_level(&self) -> Option<String> {
        Some(self.level.lock().clone())
    }
    fn set_log_level(&self, level: &str) -> Answer<()> {
        *self.level.lock() = level.to_string();
        Ok(())
    }
}

fn control() -> (Control, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    (Control::new(Box::new(fake.clone()), 5, 6), fake)
}

fn open(control: &Control, name: &str) -> Attributes {
    control.lookup(DIRECTORY, name.as_bytes()).expect(name).attributes
}

fn write(control: &Control, name: &str, text: &str) -> Answer<()> {
    let node = open(control, name).inode;
    let mut writing = std::pin::pin!(control.write(node, text.as_bytes()));
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(answer) = writing.as_mut().poll(&mut context) {
            return answer;
        }
        std::thread::yield_now();
    }
}

#[test]
fn each_lookup_is_an_opening_with_its_own_moment_and_true_size() {
    let (control, _) = control();
    let (first, second) = (open(&control, "stats"), open(&control, "stats"));
    assert_ne!(first.inode, second.inode);
    let read = |node| String::from_utf8(control.read(node, 0, u32::MAX).unwrap()).unwrap();
    assert!(read(first.inode).starts_with("uptime_seconds: 0\n"));
    assert!(read(second.inode).starts_with("uptime_seconds: 1\n"));
    assert_eq!(read(first.inode).len() as u64, first.size);
    assert_eq!(control.read(first.inode, first.size - 2, 100).unwrap(), b"v\n");
    assert_eq!(control.read(first.inode, u64::MAX, 100).unwrap(), b"");
    // What `stat` shows is one number for all of them.
    let shown = |node| control.getattr(node).unwrap();
    assert_eq!(shown(first.inode).inode, shown(second.inode).inode);
    control.forget(first.inode, 1);
    assert_eq!(control.read(first.inode, 0, 1), Err(Errno::ESTALE));
    assert!(control.read(second.inode, 0, 1).is_ok());
}

#[test]
fn it_answers_for_its_own_names_only() {
    let (control, _) = control();
    assert!(control.owns(Inode::ROOT, b".bitkv") && control.owns(DIRECTORY, b"anything"));
    assert!(!control.owns(Inode::ROOT, b"file") && !control.owns(Inode(7), b".bitkv"));
    assert_eq!(control.lookup(DIRECTORY, b"nothing").err(), Some(Errno::ENOENT));
    let directory = control.lookup(Inode::ROOT, b".bitkv").unwrap();
    assert!(directory.is_directory());
    assert_eq!((directory.attributes.permissions, directory.attributes.uid), (0o500, 5));
}

#[test]
fn permissions_say_what_a_file_is_for() {
    let (control, _) = control();
    for (name, permissions) in [("version", 0o400), ("sync", 0o200), ("compact", 0o600), ("log_level", 0o600)]
    {
        assert_eq!(open(&control, name).permissions, permissions, "{name}");
    }
    assert_eq!(open(&control, "sync").size, 0);
    let names = control.list(2);
    assert_eq!(names.len(), FILES.len());
    assert_eq!(control.list(names[3].position), names[4..]);
}

#[test]
fn what_only_shows_cannot_be_written_and_nothing_can_be_changed() {
    let (control, _) = control();
    assert_eq!(write(&control, "version", "x\n"), Err(Errno::EPERM));
    let chmod = SetAttributes { permissions: Some(0o777), ..Default::default() };
    let truncate = SetAttributes { size: Some(0), ..Default::default() };
    let grow = SetAttributes { size: Some(9), ..Default::default() };
    let setattr = |name, set| control.setattr(open(&control, name).inode, set).map(|found| found.size);
    assert_eq!(setattr("version", &chmod), Err(Errno::EPERM));
    assert_eq!(setattr("version", &truncate), Err(Errno::EPERM));
    assert_eq!(setattr("compact", &chmod), Err(Errno::EPERM));
    assert_eq!(setattr("compact", &grow), Err(Errno::EPERM));
    assert_eq!(setattr("compact", &truncate), Ok(0));
    assert_eq!(control.setattr(DIRECTORY, &truncate), Err(Errno::EPERM));
}

#[test]
fn any_write_to_sync_syncs_once_and_tells_the_error() {
    let (control, fake) = control();
    for text in ["1\n", "\n", "\0", "two\nlines\n"] {
        let before = fake.syncs.load(Ordering::Relaxed);
        assert_eq!(write(&control, "sync", text), Ok(()));
        assert_eq!(fake.syncs.load(Ordering::Relaxed), before + 1, "{text:?}");
    }
    fake.refuse_sync.store(true, Ordering::Relaxed);
    assert_eq!(write(&control, "sync", "1\n"), Err(Errno::EIO));
}

#[test]
fn orders_to_scrub_start_it_once_and_stop_it() {
    let (control, fake) = control();
    for wrong in ["nonsense\n", "\n", "start\nnonsense\n"] {
        assert_eq!(write(&control, "scrub", wrong), Err(Errno::EINVAL), "{wrong:?}");
    }
    assert!(fake.scrub.lock().is_none(), "a wrong text starts nothing");
    assert_eq!(write(&control, "scrub", "start rate=2K\n"), Ok(()));
    assert_eq!(fake.scrub.lock().as_ref().map(|one| one.0), Some(2048));
    assert_eq!(write(&control, "scrub", "start\n"), Err(Errno::EBUSY));
    assert_eq!(write(&control, "scrub", "stop\nstart\n"), Ok(()));
    let text = String::from_utf8(control.read(open(&control, "scrub").inode, 0, 999).unwrap()).unwrap();
    assert!(text.starts_with("never\npercent: 33\n") && text.contains("\ndamaged_values: 2\n"), "{text}");
}

#[test]
fn orders_to_compact() {
    let (control, fake) = control();
    for wrong in ["nonsense\n", "\n", "all\nnonsense\n"] {
        assert_eq!(write(&control, "compact", wrong), Err(Errno::EINVAL), "{wrong:?}");
    }
    assert_eq!(write(&control, "compact", "partition=2\n"), Err(Errno::ENOENT));
    assert!(fake.compactions.lock().is_empty(), "a wrong text starts nothing");
    assert_eq!(write(&control, "compact", "partition=1\n"), Ok(()));
    assert_eq!(write(&control, "compact", "all\n"), Err(Errno::EBUSY));
    let text = |control: &Control| {
        String::from_utf8(control.read(open(control, "compact").inode, 0, 99).unwrap()).unwrap()
    };
    assert_eq!(text(&control), "running\nreclaimed_bytes: 0\n");
    let (partition, finished) = fake.compactions.lock().pop().unwrap();
    assert_eq!(partition, Some(1));
    finished(Ok(123));
    assert_eq!(text(&control), "idle\nreclaimed_bytes: 123\n");
}

#[test]
fn who_waits_is_told_how_a_compaction_ended() {
    let (control, fake) = control();
    let ending = std::thread::spawn(move || {
        loop {
            let begun = fake.compactions.lock().pop();
            if let Some((partition, finished)) = begun {
                assert_eq!(partition, None);
                finished(Err(Errno::ENOSPC));
                return;
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(write(&control, "compact", "all wait\n"), Err(Errno::ENOSPC));
    ending.join().unwrap();
}

#[test]
fn the_level_of_the_log_is_a_word() {
    let (control, fake) = control();
    assert_eq!(write(&control, "log_level", "debug\n"), Ok(()));
    assert_eq!(*fake.level.lock(), "debug");
    assert_eq!(write(&control, "log_level", "debug\ninfo\n"), Err(Errno::EINVAL));
}

#[test]
fn a_pause_is_shown_and_starts_nothing() {
    let (control, fake) = control();
    assert_eq!(write(&control, "compact", "pause\n"), Ok(()));
    let text = control.read(open(&control, "compact").inode, 0, 99).unwrap();
    assert_eq!(text, b"paused\nreclaimed_bytes: 0\n");
    assert_eq!(write(&control, "compact", "all\n"), Err(Errno::EBUSY));
    assert!(fake.compactions.lock().is_empty());
    assert_eq!(write(&control, "compact", "resume\nall\n"), Ok(()));
    assert_eq!(fake.compactions.lock().len(), 1);
}

#[test]
fn options_are_written_back_as_they_are_shown() {
    let (control, fake) = control();
    for wrong in ["compact-rate\n", "compact-rate=1M\nnonsense\n", ""] {
        assert_eq!(write(&control, "config", wrong), Err(Errno::EINVAL), "{wrong:?}");
    }
    assert!(fake.changes.lock().is_empty(), "a wrong text changes nothing");
    assert_eq!(write(&control, "config", "compact-rate=10M\nauto-compact=false\n"), Ok(()));
    let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
    assert_eq!(*fake.changes.lock(), [pair("compact-rate", "10M"), pair("auto-compact", "false")]);
}

#[test]
fn operations_are_followed_by_order_only() {
    let (control, fake) = control();
    open(&control, "accesslog");
    assert_eq!(fake.follows.load(Ordering::Relaxed), 0, "a look doesn't begin it");
    assert_eq!(write(&control, "accesslog", "follow\n"), Ok(()));
    assert_eq!(fake.follows.load(Ordering::Relaxed), 1);
    for wrong in ["", "on\n", "follow\nfollow\n"] {
        assert_eq!(write(&control, "accesslog", wrong), Err(Errno::EINVAL), "{wrong:?}");
    }
    assert_eq!(write(&control, "slowlog", "x\n"), Err(Errno::EPERM));
}

#[test]
fn a_backup_goes_to_an_absolute_path() {
    let (control, fake) = control();
    for wrong in ["", "\n", "relative\n", "/a\n/b\n", "/a\0\n"] {
        assert_eq!(write(&control, "backup", wrong), Err(Errno::EINVAL), "{wrong:?}");
    }
    assert_eq!(write(&control, "backup", "/a b/c\n"), Ok(()));
    assert_eq!(write(&control, "backup", "/d"), Ok(()));
    assert_eq!(*fake.backups.lock(), [PathBuf::from("/a b/c"), PathBuf::from("/d")]);
}
