//! Calls to the system that the standard library lacks. The one call without a safe wrapper is `fork`.
#![allow(unsafe_code)]

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{ForkResult, fork};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

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
