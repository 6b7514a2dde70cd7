//! One mount from opening the store to closing it.

use super::Options;
use super::options::{LogFormat, SyncMode};
use super::system;
use crate::engine::clock::RealClock;
use crate::engine::disk::uring::UringDisk;
use crate::engine::{Config, Durability, Policy, World};
use crate::fs::control::Control;
use crate::fs::transport::classic::Classic;
use crate::fs::transport::mount::{self, Serving, Settings};
use crate::fs::volume::{Volume, VolumeConfig};
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// How long a mount that was taken away may go on being used before its daemon ends all the same.
const GRACE: Duration = Duration::from_secs(2);
/// How far ahead the kernel reads, in KiB.
const READ_AHEAD_KIB: u32 = 1024;

/// Why a session ends.
enum Ending {
    Unmounted(Result<(), String>),
    Signal,
}

/// Mounts, calls `ready`, serves until the end, and closes the store.
pub(super) fn run(options: &Options, ready: impl FnOnce()) -> Result<(), String> {
    start_log(options)?;
    // Before there is any thread: all of them inherit it.
    system::ending_signals().thread_block().map_err(|error| format!("blocking signals: {error}"))?;
    prepare_mountpoint(options)?;
    let volume = open(options)?;
    let control =
        Control::new(volume.clone(), nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let adapter = Classic::new(volume.clone(), Arc::new(control));
    let (sender, endings) = channel();
    let mounted = mount::mount(adapter, &options.mountpoint, &settings(options));
    let serving = match mounted {
        Ok(serving) => serving,
        Err(error) => {
            let _ = volume.close();
            return Err(format!("{}: mounting failed: {error}", options.mountpoint.display()));
        }
    };
    serve_and_watch(serving, sender)?;
    tune_read_ahead(options);
    tracing::info!("{} is mounted on {}", options.data.display(), options.mountpoint.display());
    ready();
    let served = wait_for_end(options, &endings);
    let closed = volume.close();
    tracing::info!("{} is closed", options.data.display());
    closed.map_err(|error| {
        let why = std::io::Error::from_raw_os_error(error.0);
        format!("{}: not everything could be made durable: {why}", options.data.display())
    })?;
    served
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
        no_atime: kernel.no_atime,
        sync: kernel.sync,
        dir_sync: kernel.dir_sync,
        allow_other: options.allow_other,
        allow_root: options.allow_root,
        auto_unmount: options.auto_unmount,
        threads: options.threads,
        privileged: root,
    }
}

fn open(options: &Options) -> Result<Volume, String> {
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
    let config = Config {
        partitions: options.partitions,
        create: true,
        read_only: options.read_only,
        durability,
        segment_bytes: options.segment_size,
        options: Vec::new(),
        auto_compact: !options.no_auto_compact,
        compact_threshold: options.compact_threshold,
        compact_bytes_per_second: options.compact_rate,
        lock_wait: options.lock_wait,
    };
    let volume = VolumeConfig {
        chunk_bytes: u32::try_from(options.chunk_size).unwrap_or(u32::MAX),
        root_uid: nix::unistd::getuid().as_raw(),
        root_gid: nix::unistd::getgid().as_raw(),
        // One reader stays free to take the next request.
        blocking_threads_max: options.threads.saturating_sub(1),
    };
    Volume::open(world, config, volume).map_err(|error| format!("{name}: {error}"))
}

/// A mount whose daemon has died is taken away; then there must be a directory.
fn prepare_mountpoint(options: &Options) -> Result<(), String> {
    let mountpoint = &options.mountpoint;
    let name = mountpoint.display();
    if system::is_dead(mountpoint) {
        system::detach(mountpoint)
            .map_err(|error| format!("{name}: the dead mount there can't be taken away: {error}"))?;
        tracing::warn!("{name}: took away a mount whose daemon had died");
    }
    match std::fs::metadata(mountpoint) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(format!("{name}: not a directory; mount on a directory")),
        Err(error) => Err(format!("{name}: {error}; make the directory first")),
    }
}

/// Threads that serve the mount and wait for signals; either tells when it is over.
fn serve_and_watch(serving: Serving, sender: Sender<Ending>) -> Result<(), String> {
    let signals = sender.clone();
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        let spawned = std::thread::Builder::new().name(name.to_string()).spawn(work);
        spawned.map(drop).map_err(|error| format!("starting a thread: {error}"))
    };
    spawn(
        "bitkv-session",
        Box::new(move || {
            let ended = serving.run().map_err(|error| format!("serving the mount failed: {error}"));
            let _ = sender.send(Ending::Unmounted(ended));
        }),
    )?;
    spawn(
        "bitkv-signals",
        Box::new(move || {
            while let Ok(signal) = system::ending_signals().wait() {
                tracing::info!("{signal}: ending");
                if signals.send(Ending::Signal).is_err() {
                    return;
                }
            }
        }),
    )
}

fn wait_for_end(options: &Options, endings: &Receiver<Ending>) -> Result<(), String> {
    match endings.recv() {
        Ok(Ending::Unmounted(ended)) => ended,
        Ok(Ending::Signal) => {
            if let Err(error) = system::detach(&options.mountpoint) {
                tracing::warn!("{}: unmounting failed: {error}", options.mountpoint.display());
            }
            // What is still open keeps the mount alive; it gets ENOTCONN when we are gone.
            match endings.recv_timeout(GRACE) {
                Ok(Ending::Unmounted(ended)) => ended,
                _ => Ok(()),
            }
        }
        Err(_) => Err("the threads that serve the mount are gone".to_string()),
    }
}

fn tune_read_ahead(options: &Options) {
    let Ok((major, minor)) = system::device_of(&options.mountpoint) else { return };
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    // Only root may; without it reading ahead is a little shorter.
    let _ = std::fs::write(path, READ_AHEAD_KIB.to_string());
}

fn start_log(options: &Options) -> Result<(), String> {
    // The binding complains of a mount that is gone when it wants to unmount, which is how all mounts end.
    let levels = Targets::new().with_default(options.log_level).with_target("fuser", tracing::Level::ERROR);
    let started = match (&options.log_file, options.log_format) {
        (Some(path), format) => {
            let file = File::options().create(true).append(true).open(path);
            let file = Arc::new(file.map_err(|error| format!("{}: {error}", path.display()))?);
            match format {
                LogFormat::Text => {
                    install(fmt::layer().with_ansi(false).with_target(false).with_writer(file), levels)
                }
                LogFormat::Json => install(fmt::layer().json().with_target(false).with_writer(file), levels),
            }
        }
        (None, _) if !options.foreground => return Ok(()),
        (None, LogFormat::Text) => {
            install(fmt::layer().with_target(false).with_writer(std::io::stderr), levels)
        }
        (None, LogFormat::Json) => {
            install(fmt::layer().json().with_target(false).with_writer(std::io::stderr), levels)
        }
    };
    started.map_err(|error| format!("starting the log: {error}"))
}

fn install(
    layer: impl Layer<Registry> + Send + Sync + 'static,
    levels: Targets,
) -> Result<(), tracing_subscriber::util::TryInitError> {
    tracing_subscriber::registry().with(layer.with_filter(levels)).try_init()
}
