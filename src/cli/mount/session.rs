//! One mount from opening the store to closing it.

use super::Options;
use super::log;
use super::memory;
use super::opening;
use super::options::SyncMode;
use super::system;
use super::transport;
use crate::engine::clock::RealClock;
use crate::engine::disk::uring::UringDisk;
use crate::engine::{Config, Durability, Policy, World};
use crate::fs::control::Control;
use crate::fs::control::source::VolumeSource;
use crate::fs::traffic::Traffic;
use crate::fs::transport::classic::Classic;
use crate::fs::transport::dispatch::Dispatch;
use crate::fs::transport::mount::{self, Serving, Settings};
use crate::fs::transport::ring;
use crate::fs::volume::{Volume, VolumeConfig};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long a mount that was taken away may go on being used before its daemon ends all the same.
const GRACE: Duration = Duration::from_secs(2);
/// How long the kernel may take to hand over what it holds back.
const HAND_OVER: Duration = Duration::from_secs(30);
/// How long operations that were taken may take to come to their end.
const DRAIN: Duration = Duration::from_secs(60);
/// How far ahead the kernel reads, in KiB.
const READ_AHEAD_KIB: u32 = 1024;

/// Why a session ends.
enum Ending {
    Unmounted(Result<(), String>),
    Signal,
}

/// Mounts, calls `ready`, serves until the end, and closes the store. If `ready` says that nobody waits for the mount, it ends at once.
pub(super) fn run(options: &Options, ready: impl FnOnce() -> bool) -> Result<(), String> {
    let log = log::start(options)?;
    log::report_panics();
    // Before there is any thread: all of them inherit it.
    system::ending_signals().thread_block().map_err(|error| format!("blocking signals: {error}"))?;
    let (sender, endings) = channel();
    let mounting = Arc::new(AtomicBool::new(false));
    watch_signals(sender.clone(), mounting.clone())?;
    prepare_mountpoint(options)?;
    let over_ring = transport::choose(options)?;
    let volume = open(options, over_ring)?;
    let store = volume.store();
    let traffic = Traffic::new(store.clock().clone(), store.partition_count());
    traffic.journal().set_threshold(options.slowlog_threshold);
    let source = VolumeSource::new(volume.clone(), traffic.clone(), log, options.data.clone());
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let control = Control::new(Box::new(source), uid, gid);
    let control = Arc::new(control);
    let dispatch = Dispatch::new(volume.clone(), control, traffic.clone(), options.holds_back());
    let prepared = match over_ring {
        true => {
            let owner = (options.allow_root && !options.allow_other).then_some(uid);
            transport::prepare(options, ring::Server::new(dispatch.clone(), owner))
        }
        false => Ok(None),
    };
    let adapter = Classic::new(dispatch);
    let prepared_ring = matches!(prepared, Ok(Some(_)));
    // From here on a signal ends the mount in order; before, there was nothing to be put in order.
    mounting.store(true, Ordering::SeqCst);
    let served = prepared.and_then(|prepared| {
        let serving = mount::mount(adapter, &options.mountpoint, &settings(options), prepared)
            .map_err(|error| format!("{}: {}", options.mountpoint.display(), mounting_failed(&error)))?;
        if prepared_ring {
            transport::accept(options, serving.transport())?;
        }
        traffic.set_transport(serving.transport());
        serve(options, serving, sender, &endings, ready)
    });
    let closed = close(options, &volume, &traffic);
    served.and(closed)
}

fn mounting_failed(error: &io::Error) -> String {
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    match device {
        Err(refused) if refused.kind() == io::ErrorKind::PermissionDenied => {
            format!("mounting failed: /dev/fuse isn't open to you: {refused}; usually its mode is 666")
        }
        _ => format!("mounting failed: {error}"),
    }
}

fn serve(
    options: &Options,
    serving: Serving,
    sender: Sender<Ending>,
    endings: &Receiver<Ending>,
    ready: impl FnOnce() -> bool,
) -> Result<(), String> {
    let transport = serving.transport();
    spawn("bitkv-session", move || {
        let ended = serving.run().map_err(|error| format!("serving the mount failed: {error}"));
        let _ = sender.send(Ending::Unmounted(ended));
    })?;
    tune_read_ahead(options);
    tracing::info!(
        "{} is mounted on {}, transport {transport}",
        options.data.display(),
        options.mountpoint.display()
    );
    if !ready() {
        tracing::warn!("whoever wanted the mount is gone: ending");
        return take_away(options, endings);
    }
    let mut keeper = memory::Keeper::default();
    loop {
        match endings.recv_timeout(memory::LOOK) {
            Ok(Ending::Unmounted(ended)) => return ended,
            Ok(Ending::Signal) => return take_away(options, endings),
            Err(RecvTimeoutError::Timeout) => keeper.look(),
            Err(RecvTimeoutError::Disconnected) => {
                return Err("the threads that serve the mount are gone".to_string());
            }
        }
    }
}

/// Unmounts. What is still open keeps the mount alive for a while; it gets ENOTCONN when we are gone.
fn take_away(options: &Options, endings: &Receiver<Ending>) -> Result<(), String> {
    if options.holds_back() {
        hand_over(options);
    }
    if let Err(error) = system::detach(&options.mountpoint) {
        tracing::warn!("{}: unmounting failed: {error}", options.mountpoint.display());
    }
    let started = std::time::Instant::now();
    loop {
        match endings.recv_timeout(GRACE.saturating_sub(started.elapsed())) {
            Ok(Ending::Unmounted(ended)) => return ended,
            // Impatience changes nothing.
            Ok(Ending::Signal) => {}
            Err(_) => return Ok(()),
        }
    }
}

/// What the kernel holds back of files that stay open would be lost with us. (Waited for elsewhere: it needs threads that serve.)
fn hand_over(options: &Options) {
    let (done, is_done) = channel();
    let mountpoint = options.mountpoint.clone();
    let handing = spawn("bitkv-hand-over", move || {
        let handed = std::fs::File::open(&mountpoint).and_then(|root| Ok(nix::unistd::syncfs(root)?));
        let _ = done.send(handed.map_err(|error| error.to_string()));
    });
    let handed = handing.and_then(|()| match is_done.recv_timeout(HAND_OVER) {
        Ok(handed) => handed,
        Err(_) => Err(format!("it takes longer than {} s", HAND_OVER.as_secs())),
    });
    if let Err(error) = handed {
        tracing::warn!("{}: writing back what the kernel holds: {error}", options.mountpoint.display());
    }
}

/// Nothing may be under way when the store is closed; and once it is, nothing may come in.
fn close(options: &Options, volume: &Volume, traffic: &Traffic) -> Result<(), String> {
    let name = options.data.display();
    let left = traffic.drain(DRAIN);
    if left > 0 {
        // As after a crash: nothing that was acknowledged is lost, and the next opening takes a little longer.
        return Err(format!(
            "{name}: {left} operations don't end; the store is left as it is, and recovers when it is mounted again"
        ));
    }
    let closed = volume.close();
    tracing::info!("{name} is closed");
    closed.map_err(|error| {
        let why = std::io::Error::from_raw_os_error(error.0);
        format!("{name}: not everything could be made durable: {why}; see the log, and the disk's health")
    })
}

fn settings(options: &Options) -> Settings {
    let kernel = &options.kernel;
    let root = nix::unistd::geteuid().is_root();
    let source = kernel.source.clone().unwrap_or_else(|| options.data.display().to_string());
    Settings {
        source,
        read_only: options.read_only,
        dev: kernel.dev.unwrap_or(root),
        suid: kernel.suid.unwrap_or(root),
        no_exec: kernel.no_exec,
        sync: kernel.sync,
        dir_sync: kernel.dir_sync,
        allow_other: options.allow_other,
        allow_root: options.allow_root,
        auto_unmount: options.auto_unmount,
        threads: options.threads,
        privileged: root,
    }
}

fn open(options: &Options, over_ring: bool) -> Result<Volume, String> {
    let name = options.data.display();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let disk = UringDisk::open(&options.data, cores, options.read_only)
        .map_err(|error| format!("{name}: opening the store: {error}"))?;
    let seed = disk.random_seed().map_err(|error| format!("/dev/urandom: {error}"))?;
    let world = World { disk, clock: RealClock::new(), seed, policy: Policy::Inline };
    let durability = match options.sync {
        SyncMode::Interval => Durability::Interval(options.sync_interval),
        SyncMode::Always => Durability::Always,
        SyncMode::Fsync => Durability::Explicit,
    };
    let (opening_watch, bar) = opening::watch(options);
    let config = Config {
        partitions: options.partitions,
        create: true,
        read_only: options.read_only,
        salvage: options.salvage,
        durability,
        segment_bytes: options.segment_size,
        options: Vec::new(),
        auto_compact: !options.no_auto_compact,
        compact_threshold: options.compact_threshold,
        compact_bytes_per_second: options.compact_rate,
        compact_start_delay: options.compact_delay,
        compact_cooldown: options.compact_cooldown,
        compact_window: options.compact_window,
        open_files_max: options.open_files,
        lock_wait: options.lock_wait,
        opening_watch,
    };
    let volume = VolumeConfig {
        chunk_bytes: u32::try_from(options.chunk_size).unwrap_or(u32::MAX),
        root_uid: nix::unistd::getuid().as_raw(),
        root_gid: nix::unistd::getgid().as_raw(),
        blocking_threads_max: transport::blocking_threads_max(options, over_ring),
        repairing: false,
    };
    let opened = Volume::open(world, config, volume);
    drop(bar);
    opened.map_err(|error| format!("{name}: {error}"))
}

/// A mount whose daemon has died is taken away; then there must be a directory.
fn prepare_mountpoint(options: &Options) -> Result<(), String> {
    let mountpoint = &options.mountpoint;
    let name = mountpoint.display();
    take_away_if_dead(mountpoint)?;
    if hides(mountpoint, &options.data) {
        return Err(format!(
            "{name}: the store's directory {} lies there, and the mount would hide it from its own daemon; mount elsewhere",
            options.data.display()
        ));
    }
    let mut found = std::fs::metadata(mountpoint);
    // Its daemon may have been dying just now.
    if found.is_err() && take_away_if_dead(mountpoint)? {
        found = std::fs::metadata(mountpoint);
    }
    match found {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(format!("{name}: not a directory; mount on a directory")),
        Err(error) => Err(format!("{name}: {error}; make the directory first")),
    }
}

/// Whether there was a mount whose daemon had died; it isn't any more.
fn take_away_if_dead(mountpoint: &Path) -> Result<bool, String> {
    let is_dead = system::is_dead(mountpoint);
    if is_dead {
        let name = mountpoint.display();
        system::detach(mountpoint)
            .map_err(|error| format!("{name}: the dead mount there can't be taken away: {error}"))?;
        tracing::warn!("{name}: took away a mount whose daemon had died");
    }
    Ok(is_dead)
}

/// Whether a mount there would cover the store's directory, which may yet have to be made.
fn hides(mountpoint: &Path, data: &Path) -> bool {
    let existing = data.ancestors().find_map(|ancestor| {
        let rest = data.strip_prefix(ancestor).ok()?;
        Some(ancestor.canonicalize().ok()?.join(rest))
    });
    let mountpoint = mountpoint.canonicalize();
    existing.is_some_and(|data| mountpoint.is_ok_and(|mountpoint| data.starts_with(mountpoint)))
}

/// Waits for signals. Until there is a mount to end, one simply ends the process: opening a store may be broken off anywhere.
fn watch_signals(sender: Sender<Ending>, mounting: Arc<AtomicBool>) -> Result<(), String> {
    spawn("bitkv-signals", move || {
        while let Ok(signal) = system::ending_signals().wait() {
            tracing::info!("{signal}: ending");
            if !mounting.load(Ordering::SeqCst) {
                eprintln!("bitkv-mount: {signal} came before the mount was there");
                std::process::exit(super::FAILED);
            }
            if sender.send(Ending::Signal).is_err() {
                return;
            }
        }
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let spawned = std::thread::Builder::new().name(name.to_string()).spawn(work);
    spawned.map(drop).map_err(|error| format!("starting a thread: {error}"))
}

fn tune_read_ahead(options: &Options) {
    let Ok((major, minor)) = system::device_of(&options.mountpoint) else { return };
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    // Only root may; without it reading ahead is a little shorter.
    let _ = std::fs::write(path, READ_AHEAD_KIB.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_must_not_hide_its_store() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        std::fs::create_dir_all(path("a/mnt")).unwrap();
        std::os::unix::fs::symlink("a", path("link")).unwrap();
        for data in ["a", "a/data", "a/not/yet", "link/data"] {
            assert!(hides(&path("a"), &path(data)), "{data}");
        }
        for data in ["data", "ab", "not/yet"] {
            assert!(!hides(&path("a"), &path(data)), "{data}");
        }
        assert!(!hides(&path("a/mnt"), &path("a")));
    }
}
