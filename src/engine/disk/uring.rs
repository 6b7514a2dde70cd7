//! The real world: files of a directory, one ring and one thread a partition, two threads for slow work, and one for syncs.
//!
//! What goes through the ring and what doesn't was measured: on ext4 a buffered write through a ring is punted to a kernel thread (40 us)
//! while a plain `pwrite` costs 1 us, so writes are plain; reads that miss the page cache and syncs go through the ring, many at once.
//! But a sync that goes through a ring wakes the worker, then a thread of the kernel's, then the worker again; a thread that just calls `fdatasync` is
//! woken once. So the first goes to such a thread, and those that come while it is busy to the rings.

mod background;
mod file;
mod flights;
mod ring;
mod worker;

pub(crate) use self::flights::{Flights, Next};

use self::background::Background;
use self::file::RealFile;
use self::worker::Worker;
use super::{Disk, FileHandle, Lock, Queue, Request, Space};
use nix::sys::statfs::{EXT4_SUPER_MAGIC, FsType, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs};
use parking_lot::Mutex;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Of the descriptors that the process may have, a store keeps one in so many.
const OPEN_FILES_SHARE: u64 = 4;
/// How many it may have, where that can't be found out.
const OPEN_FILES_FALLBACK: u64 = 1024;

/// Filesystems that are known to write again where they have written (of files that share no blocks with others, as ours).
const REWRITING_IN_PLACE: [FsType; 3] = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, TMPFS_MAGIC];

/// A store's directory on a real filesystem.
pub struct UringDisk {
    directory: PathBuf,
    read_only: bool,
    rewrites_in_place: bool,
    workers: Vec<Worker>,
    background: Background,
    making: Background,
    syncing: Background,
    lock: Mutex<Option<nix::fcntl::Flock<File>>>,
}

impl UringDisk {
    /// Opens a directory, with so many workers (at least one; partitions share them if there are fewer); makes it unless it is opened for reading only.
    ///
    /// # Errors
    /// If the directory can't be made or read, or a thread can't be started.
    pub fn open(directory: &Path, workers: usize, read_only: bool) -> io::Result<Arc<Self>> {
        if !read_only {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        // A path that works wherever the process goes afterwards, and an error now if it leads nowhere.
        let directory = directory.canonicalize()?;
        fs::read_dir(&directory)?;
        let filesystem = statfs(&directory)?.filesystem_type();
        Ok(Arc::new(UringDisk {
            directory,
            read_only,
            rewrites_in_place: REWRITING_IN_PLACE.contains(&filesystem),
            workers: (0..workers.max(1)).map(Worker::start).collect::<io::Result<_>>()?,
            background: Background::start("bitkv-slow")?,
            making: Background::start("bitkv-making")?,
            syncing: Background::start("bitkv-syncing")?,
            lock: Mutex::new(None),
        }))
    }

    /// A seed that nobody can guess.
    ///
    /// # Errors
    /// If the system has none to give.
    pub fn random_seed(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Whether all workers have a ring. Without one they read and sync one after the other.
    pub fn ring_available(&self) -> bool {
        self.workers.iter().all(Worker::has_ring)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }
}

impl Disk for UringDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(self.path(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path))? {
            // A name that isn't UTF-8 is none of ours.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn create(&self, path: &str) -> io::Result<FileHandle> {
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path(path))?;
        Ok(Arc::new(RealFile::new(file, self.rewrites_in_place)))
    }

    fn open(&self, path: &str) -> io::Result<FileHandle> {
        let file = OpenOptions::new().read(true).write(!self.read_only).open(self.path(path))?;
        Ok(Arc::new(RealFile::new(file, self.rewrites_in_place)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        File::open(self.path(path))?.sync_all()
    }

    fn lock(&self) -> io::Result<Lock> {
        use nix::fcntl::{Flock, FlockArg};
        let path = self.path("LOCK");
        let (options, how) = match self.read_only {
            true => (OpenOptions::new().read(true).clone(), FlockArg::LockSharedNonblock),
            false => (
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone(),
                FlockArg::LockExclusiveNonblock,
            ),
        };
        let file = match options.open(&path) {
            // Never opened for writing: there is nobody to keep out.
            Err(error) if self.read_only && error.kind() == io::ErrorKind::NotFound => return Ok(Lock::Ours),
            other => other?,
        };
        match Flock::lock(file, how) {
            Ok(mut locked) => {
                if !self.read_only {
                    locked.set_len(0)?;
                    locked.rewind()?;
                    writeln!(locked, "{}", std::process::id())?;
                }
                *self.lock.lock() = Some(locked);
                Ok(Lock::Ours)
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                Ok(Lock::Theirs(holder))
            }
            Err((_, error)) => Err(error.into()),
        }
    }

    fn open_files_max(&self) -> usize {
        use nix::sys::resource::{Resource, getrlimit};
        // The rest is for everything else in the process: sockets, rings, the kernel's readers, other stores.
        let allowed = getrlimit(Resource::RLIMIT_NOFILE).map_or(OPEN_FILES_FALLBACK, |(soft, _)| soft);
        usize::try_from(allowed / OPEN_FILES_SHARE).unwrap_or(usize::MAX)
    }

    fn space(&self) -> io::Result<Space> {
        let directory = File::open(&self.directory)?;
        let space = nix::sys::statvfs::fstatvfs(directory.as_fd())?;
        let unit = space.fragment_size();
        Ok(Space { total_bytes: space.blocks() * unit, available_bytes: space.blocks_available() * unit })
    }

    fn submit(&self, queue: Queue, request: Request) {
        let request = match request {
            sync @ Request::Sync { .. } => match self.syncing.offer(sync) {
                Ok(()) => return,
                Err(busy) => busy,
            },
            other => other,
        };
        match queue {
            Queue::Worker(index) => self.workers[index % self.workers.len()].submit(request),
            Queue::Background => self.background.submit(request),
            Queue::Making => self.making.submit(request),
        }
    }

    fn shut_down(&self) {
        for worker in &self.workers {
            worker.shut_down();
        }
        self.background.shut_down();
        self.making.shut_down();
        self.syncing.shut_down();
        drop(self.lock.lock().take());
    }
}

impl Drop for UringDisk {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Runs what a request's end sets off. A panic in it costs that alone, not the thread.
pub(crate) fn guarded(f: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err() {
        tracing::error!("a completion panicked; its operation is lost");
    }
}
