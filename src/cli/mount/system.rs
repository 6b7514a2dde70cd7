//! Calls to the system that the standard library lacks. Those without a safe wrapper: `fork`, and what there is to know of another process.
#![allow(unsafe_code)]

use crate::fs::transport::ring::StandBack;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{ForkResult, fork};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Which of the two we are after a fork.
pub(super) enum Side {
    Parent,
    Child,
}

/// Forks. To be called before any thread is started.
pub(super) fn fork_once() -> io::Result<Side> {
    // SAFETY: the process has one thread (options are parsed, nothing else has happened), so the child may do whatever a process may.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(Side::Parent),
        ForkResult::Child => Ok(Side::Child),
    }
}

/// The signals that ask us to end. Blocked in all threads, so that one thread can wait for them.
pub(super) fn ending_signals() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGHUP);
    signals
}

/// How a thread stands back behind others who want its processor (see `ring/manners.rs`), where that may be done: the class IDLE has a tiny share of the
/// processor beside others of the same group, so only where the daemon is a group of its own, whose share is as large as any other's. It
/// leads its session, sessions are groups (`sched_autogroup_enabled`), and no control group has it otherwise. And only if a thread may come back.
pub fn standing_back() -> Option<StandBack> {
    let leads = nix::unistd::getsid(None).ok() == Some(nix::unistd::getpid());
    let there_and_back =
        || std::thread::spawn(|| stand_back(true) && stand_back(false)).join().unwrap_or(false);
    (leads && sessions_are_groups() && there_and_back()).then_some(stand_back)
}

/// Of the calling thread.
fn stand_back(back: bool) -> bool {
    let class = if back { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
    // SAFETY: a structure of one number, for which zero is what both classes want; the call reads it and nothing else.
    unsafe {
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, class, &raw const parameters) == 0
    }
}

/// Whether the scheduler shares processors out between sessions, ours among them.
fn sessions_are_groups() -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let grouped = read("/proc/self/cgroup").lines().any(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match controllers {
            // The second version of control groups: one has a share of its own if it has this file, which the root lacks.
            "" => Path::new(&format!("/sys/fs/cgroup{path}/cpu.weight")).exists(),
            list => list.split(',').any(|controller| controller == "cpu") && path != "/",
        }
    });
    !grouped && read("/proc/sys/kernel/sched_autogroup_enabled").trim() == "1"
}

/// Gives memory back that the allocator keeps free. Takes milliseconds for each 100 MB that it has; who allocates meanwhile may have to wait.
pub(super) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes the mount away; what is open stays usable until it is closed.
pub(super) fn detach(mountpoint: &Path) -> io::Result<()> {
    match umount2(mountpoint, MntFlags::MNT_DETACH) {
        Err(nix::errno::Errno::EPERM) => detach_with_helper(mountpoint),
        other => Ok(other?),
    }
}

/// For users other than root.
fn detach_with_helper(mountpoint: &Path) -> io::Result<()> {
    let status = Command::new("fusermount3")
        .args(["-u", "-z", "-q", "--"])
        .arg(mountpoint)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("fusermount3 refused")) }
}

/// Whether a mountpoint's daemon has died.
pub(super) fn is_dead(mountpoint: &Path) -> bool {
    // Attributes may still be in the kernel's cache; what a filesystem has in all is always asked for.
    let error = nix::sys::statvfs::statvfs(mountpoint).err();
    matches!(error, Some(nix::errno::Errno::ENOTCONN | nix::errno::Errno::ECONNABORTED))
}

/// Major and minor number of the device that a mount shows as its own.
pub(super) fn device_of(mountpoint: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(mountpoint)?.dev();
    Ok((nix::sys::stat::major(device), nix::sys::stat::minor(device)))
}

/// Another process, kept apart from a later one with the same number.
pub(in crate::cli) struct Process {
    pid: u32,
    descriptor: OwnedFd,
}

impl Process {
    /// The process with this number.
    pub(in crate::cli) fn open(pid: u32) -> io::Result<Self> {
        let number = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
        // SAFETY: the call takes two numbers and no memory of ours.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        Ok(Process { pid, descriptor: unsafe { OwnedFd::from_raw_fd(descriptor as i32) } })
    }

    /// Waits until the process has ended, so long at most; whether it has.
    pub(in crate::cli) fn wait(&self, wait_max: Duration) -> io::Result<bool> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut polled = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        let milliseconds = i32::try_from(wait_max.as_millis()).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
        Ok(poll(&mut polled, timeout)? > 0)
    }

    /// How a process that has ended has ended, in the form of `wait`; None if it can't be known. It isn't our child: as long as its parent
    /// hasn't reaped it, its state file tells; afterwards the kernel does, from Linux 6.15 on.
    pub(in crate::cli) fn wait_status(&self) -> Option<i32> {
        self.status_of_zombie().or_else(|| self.status_of_reaped())
    }

    fn status_of_zombie(&self) -> Option<i32> {
        // Were it reaped, and its number another zombie's by now, that one's end would be told; numbers don't come round that fast.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        if *fields.first()? != "Z" { None } else { fields.last()?.parse().ok() }
    }

    fn status_of_reaped(&self) -> Option<i32> {
        // SAFETY: all fields are numbers, for which zeros are valid.
        let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
        info.mask = u64::from(libc::PIDFD_INFO_EXIT);
        // SAFETY: the request carries the size of the structure, which outlives the call and which the kernel fills no further.
        let result = unsafe { libc::ioctl(self.descriptor.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
        let told = result == 0 && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
        told.then_some(info.exit_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_another_process_is_seen_with_its_status() {
        let mut child = Command::new("sh").args(["-c", "sleep 0.05; exit 7"]).spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        assert!(!process.wait(Duration::ZERO).unwrap());
        assert!(process.wait(Duration::from_secs(60)).unwrap());
        assert_eq!(process.wait_status(), Some(0x700));
        child.wait().unwrap();
        // Older kernels don't tell any more.
        assert!(matches!(process.wait_status(), Some(0x700) | None));
    }
}
