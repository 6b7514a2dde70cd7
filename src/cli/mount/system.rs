//! Calls to the system that the standard library lacks. Those without a safe wrapper: `fork`, and what there is to know of another process.
#![allow(unsafe_code)]

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{ForkResult, fork};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

/// How often it is looked whether a process that has ended has been reaped.
const REAP_POLL: Duration = Duration::from_millis(2);

/// Another process, kept apart from a later one with the same number.
pub(in crate::cli) struct Process {
    descriptor: OwnedFd,
}

impl Process {
    /// The process with this number.
    pub(in crate::cli) fn open(pid: u32) -> io::Result<Self> {
        let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
        // SAFETY: the call takes two numbers and no memory of ours.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
        Ok(Process { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor as i32) } })
    }

    /// Waits until the process has ended, so long at most; whether it has.
    pub(in crate::cli) fn wait(&self, wait_max: Duration) -> io::Result<bool> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut polled = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        let milliseconds = i32::try_from(wait_max.as_millis()).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
        Ok(poll(&mut polled, timeout)? > 0)
    }

    /// What a process that has ended has left behind, in the form of `wait`; None if it can't be known: it isn't our child, so its
    /// parent must have reaped it (which is waited for a while), and the kernel must be Linux 6.15 or newer.
    pub(in crate::cli) fn wait_status(&self, wait_max: Duration) -> Option<i32> {
        let started = Instant::now();
        loop {
            // SAFETY: all fields are numbers, for which zeros are valid.
            let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
            info.mask = u64::from(libc::PIDFD_INFO_EXIT);
            // SAFETY: the request carries the size of the structure, which outlives the call and which the kernel fills no further.
            let result =
                unsafe { libc::ioctl(self.descriptor.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
            if result < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH) {
                return None;
            }
            if result == 0 && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0 {
                return Some(info.exit_code);
            }
            if started.elapsed() >= wait_max {
                return None;
            }
            std::thread::sleep(REAP_POLL);
        }
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
        child.wait().unwrap();
        // Older kernels don't tell.
        assert!(matches!(process.wait_status(Duration::ZERO), Some(0x700) | None));
    }
}
