//! Mounting a volume through the classic transport's binding: which options it gets, and the session that serves it.

use super::classic::Classic;
use super::dispatch::{Dispatch, Serve};
use super::ring::{Server, StandBack, Threads};
use fuser::{InitFlags, KernelConfig, MountOption};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

/// The most that one read or write request moves, in bytes.
const REQUEST_BYTES_MAX: u32 = 1024 * 1024;
/// Requests that nobody waits for at once (read-ahead) which the kernel may have under way.
const BACKGROUND_MAX: u16 = 64;
/// Threads that read the device beside the ring.
const DEVICE_THREADS: usize = 2;

/// How a volume is mounted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the table of mounts shows as source.
    pub source: String,
    /// The kernel refuses changes.
    pub read_only: bool,
    /// Device files work.
    pub dev: bool,
    /// Set-id programs work.
    pub suid: bool,
    /// Programs can't be run.
    pub no_exec: bool,
    /// All writing is synchronous.
    pub sync: bool,
    /// Directory changes are synchronous.
    pub dir_sync: bool,
    /// Other users may come in.
    pub allow_other: bool,
    /// Root may come in.
    pub allow_root: bool,
    /// The mount goes when the process ends.
    pub auto_unmount: bool,
    /// Threads that take requests.
    pub threads: usize,
    /// Root mounts by itself; others through a helper program.
    pub privileged: bool,
}

/// A mount that is there, and waits to be served.
pub struct Serving<S: Serve = Dispatch> {
    session: fuser::Session<Classic<S>>,
    ring: Option<Threads>,
}

impl<S: Serve> Serving<S> {
    /// How requests come: `ring` or `dev`.
    pub fn transport(&self) -> &'static str {
        if self.ring.is_some() { "ring" } else { "dev" }
    }

    /// Serves until it is unmounted.
    ///
    /// # Errors
    /// If the kernel's device fails, or a ring.
    pub fn run(self) -> io::Result<()> {
        let served = self.session.run();
        served.and(self.ring.map_or(Ok(()), Threads::join))
    }
}

/// Makes what serves requests over io_uring, for [`mount`]: queues of this depth. Each of their entries takes a page and the largest payload,
/// 1 MiB, of memory once it has been used to the full.
///
/// # Errors
/// If there are no rings, threads or memory to be had.
pub fn prepare_ring(
    server: Server<impl Serve>,
    depth: u16,
    stand_back: Option<StandBack>,
) -> io::Result<Threads> {
    Threads::start(server, depth, REQUEST_BYTES_MAX as usize, stand_back)
}

/// Mounts. If the kernel agrees, requests come over the ring.
///
/// # Errors
/// What the kernel or the helper program says.
pub fn mount<S: Serve>(
    mut adapter: Classic<S>,
    mountpoint: &Path,
    settings: &Settings,
    ring: Option<Threads>,
) -> io::Result<Serving<S>> {
    let agreed = ring.is_some().then(|| adapter.ask_for_ring());
    let mut config = fuser::Config::default();
    let mut add = |wanted: bool, option: MountOption| {
        if wanted {
            config.mount_options.push(option);
        }
    };
    add(true, MountOption::FSName(settings.source.clone()));
    add(true, MountOption::DefaultPermissions);
    // The binding ignores its own option for the subtype when it mounts by itself.
    add(settings.privileged, MountOption::CUSTOM("subtype=bitkv".to_string()));
    add(!settings.privileged, MountOption::Subtype("bitkv".to_string()));
    add(settings.read_only, MountOption::RO);
    add(settings.dev, MountOption::Dev);
    add(settings.suid, MountOption::Suid);
    add(settings.no_exec, MountOption::NoExec);
    // The kernel leaves access times to the filesystem, which doesn't see what is read from memory: the table of mounts says what is so.
    add(true, MountOption::NoAtime);
    add(settings.sync, MountOption::Sync);
    add(settings.dir_sync, MountOption::DirSync);
    add(settings.auto_unmount, MountOption::AutoUnmount);
    config.acl = match (settings.allow_other, settings.allow_root) {
        (true, _) => fuser::SessionACL::All,
        (false, true) => fuser::SessionACL::RootAndOwner,
        (false, false) => fuser::SessionACL::Owner,
    };
    // Over the ring, all that is left for the device is what nobody waits for.
    config.n_threads =
        Some(if ring.is_some() { settings.threads.min(DEVICE_THREADS) } else { settings.threads });
    config.clone_fd = true;
    let session = fuser::Session::new(adapter, mountpoint, &config)?;
    let ring = ring.filter(|_| agreed.is_some_and(|agreed| agreed.load(Ordering::SeqCst)));
    if let Some(threads) = &ring {
        threads.connect(&session)?;
    }
    Ok(Serving { session, ring })
}

/// Says to the kernel what we can do and want; whether requests will come over io_uring, if that is asked for.
pub(super) fn negotiate(config: &mut KernelConfig, ring: bool, writeback_cache: bool) -> bool {
    let wanted = [
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_READDIRPLUS_AUTO,
        InitFlags::FUSE_CACHE_SYMLINKS,
        InitFlags::FUSE_NO_OPEN_SUPPORT,
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        InitFlags::FUSE_ASYNC_DIO,
        InitFlags::FUSE_EXPLICIT_INVAL_DATA,
        InitFlags::FUSE_POSIX_ACL,
        // What the umask takes off depends on the directory's default list.
        InitFlags::FUSE_DONT_MASK,
    ];
    for flag in wanted.into_iter().chain(writeback_cache.then_some(InitFlags::FUSE_WRITEBACK_CACHE)) {
        // Older kernels do without.
        let _ = config.add_capabilities(flag);
    }
    let _ = config.set_max_write(REQUEST_BYTES_MAX);
    let _ = config.set_max_readahead(REQUEST_BYTES_MAX);
    let _ = config.set_max_background(BACKGROUND_MAX);
    // The binding can't read the requests that this makes longer; over the ring it isn't asked.
    ring && config.add_capabilities(InitFlags::FUSE_OVER_IO_URING | InitFlags::FUSE_SETXATTR_EXT).is_ok()
}
