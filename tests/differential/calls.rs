//! System calls as they are, with the number of the error that they fail with. Of this thread alone: also where the C library would
//! change all threads.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

/// What a call returned, or its errno.
pub type Result<T = i64> = std::result::Result<T, i32>;

fn text(path: &[u8]) -> CString {
    CString::new(path).expect("a path has no zero byte")
}

macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: strings end with a zero byte, buffers are as long as is said, and all of them outlive the call.
        let result = unsafe { libc::$name($($argument),*) };
        match result < 0 {
            true => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
            false => Ok(result as i64),
        }
    }};
}

pub fn open(path: &[u8], flags: i32, mode: u32) -> Result<RawFd> {
    call!(open(text(path).as_ptr(), flags | libc::O_CLOEXEC, mode)).map(|file| file as RawFd)
}
pub fn close(file: RawFd) -> Result {
    call!(close(file))
}
pub fn read(file: RawFd, buffer: &mut [u8]) -> Result {
    call!(read(file, buffer.as_mut_ptr().cast(), buffer.len()))
}
pub fn pread(file: RawFd, buffer: &mut [u8], offset: i64) -> Result {
    call!(pread(file, buffer.as_mut_ptr().cast(), buffer.len(), offset))
}
pub fn write(file: RawFd, bytes: &[u8]) -> Result {
    call!(write(file, bytes.as_ptr().cast(), bytes.len()))
}
pub fn pwrite(file: RawFd, bytes: &[u8], offset: i64) -> Result {
    call!(pwrite(file, bytes.as_ptr().cast(), bytes.len(), offset))
}
pub fn seek(file: RawFd, offset: i64, whence: i32) -> Result {
    call!(lseek(file, offset, whence))
}
pub fn truncate(path: &[u8], length: i64) -> Result {
    call!(truncate(text(path).as_ptr(), length))
}
pub fn ftruncate(file: RawFd, length: i64) -> Result {
    call!(ftruncate(file, length))
}
pub fn allocate(file: RawFd, mode: i32, offset: i64, length: i64) -> Result {
    call!(fallocate(file, mode, offset, length))
}
pub fn sync(file: RawFd) -> Result {
    call!(fsync(file))
}
pub fn copy_range(from: RawFd, mut from_offset: i64, to: RawFd, mut to_offset: i64, length: usize) -> Result {
    call!(copy_file_range(from, &raw mut from_offset, to, &raw mut to_offset, length, 0))
}
pub fn link(from: &[u8], to: &[u8], follow: bool) -> Result {
    let flags = if follow { libc::AT_SYMLINK_FOLLOW } else { 0 };
    call!(linkat(libc::AT_FDCWD, text(from).as_ptr(), libc::AT_FDCWD, text(to).as_ptr(), flags))
}
pub fn symlink(target: &[u8], path: &[u8]) -> Result {
    call!(symlink(text(target).as_ptr(), text(path).as_ptr()))
}
pub fn readlink(path: &[u8]) -> Result<Vec<u8>> {
    let mut target = vec![0u8; 5000];
    let length = call!(readlink(text(path).as_ptr(), target.as_mut_ptr().cast(), target.len()))?;
    target.truncate(length as usize);
    Ok(target)
}
pub fn rename(from: &[u8], to: &[u8], flags: u32) -> Result {
    call!(renameat2(libc::AT_FDCWD, text(from).as_ptr(), libc::AT_FDCWD, text(to).as_ptr(), flags))
}
pub fn unlink(path: &[u8]) -> Result {
    call!(unlink(text(path).as_ptr()))
}
pub fn mkdir(path: &[u8], mode: u32) -> Result {
    call!(mkdir(text(path).as_ptr(), mode))
}
pub fn rmdir(path: &[u8]) -> Result {
    call!(rmdir(text(path).as_ptr()))
}
pub fn mknod(path: &[u8], mode: u32, device: u64) -> Result {
    call!(mknod(text(path).as_ptr(), mode, device))
}
pub fn chmod(path: &[u8], mode: u32) -> Result {
    call!(chmod(text(path).as_ptr(), mode))
}
pub fn fchmod(file: RawFd, mode: u32) -> Result {
    call!(fchmod(file, mode))
}
pub fn chown(path: &[u8], user: u32, group: u32, follow: bool) -> Result {
    let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    call!(fchownat(libc::AT_FDCWD, text(path).as_ptr(), user, group, flags))
}
pub fn set_times(path: &[u8], times: [(i64, i64); 2], follow: bool) -> Result {
    let times = times.map(|(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec });
    let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    call!(utimensat(libc::AT_FDCWD, text(path).as_ptr(), times.as_ptr(), flags))
}
pub fn umask(mask: u32) {
    // SAFETY: it takes a number, and can't fail.
    unsafe { libc::umask(mask) };
}

fn empty_stat() -> libc::stat {
    // SAFETY: all its fields are numbers.
    unsafe { std::mem::zeroed() }
}
pub fn stat(path: &[u8], follow: bool) -> Result<libc::stat> {
    let mut found = empty_stat();
    let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    call!(fstatat(libc::AT_FDCWD, text(path).as_ptr(), &raw mut found, flags)).map(|_| found)
}
pub fn fstat(file: RawFd) -> Result<libc::stat> {
    let mut found = empty_stat();
    call!(fstat(file, &raw mut found)).map(|_| found)
}

pub fn set_xattr(path: &[u8], name: &CStr, value: &[u8], flags: i32) -> Result {
    call!(lsetxattr(text(path).as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags))
}
pub fn get_xattr(path: &[u8], name: &CStr, room: usize) -> Result<Vec<u8>> {
    let mut value = vec![0u8; room];
    let length =
        call!(lgetxattr(text(path).as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()))?;
    value.resize(length as usize, 0);
    Ok(value)
}
pub fn list_xattr(path: &[u8], room: usize) -> Result<Vec<u8>> {
    let mut names = vec![0u8; room];
    let length = call!(llistxattr(text(path).as_ptr(), names.as_mut_ptr().cast(), names.len()))?;
    names.resize(length as usize, 0);
    Ok(names)
}
pub fn remove_xattr(path: &[u8], name: &CStr) -> Result {
    call!(lremovexattr(text(path).as_ptr(), name.as_ptr()))
}

/// This thread, which must be root's, shows only this directory to itself from now on, without noting when something is read.
pub fn enter(root: &[u8]) {
    let (root, nothing) = (text(root), std::ptr::null());
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let quiet = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_NOATIME;
    let enter = || -> Result {
        call!(unshare(libc::CLONE_FS | libc::CLONE_NEWNS))?;
        call!(mount(nothing, c"/".as_ptr(), nothing, private, nothing.cast()))?;
        call!(mount(root.as_ptr(), root.as_ptr(), nothing, libc::MS_BIND, nothing.cast()))?;
        call!(mount(nothing, root.as_ptr(), nothing, quiet, nothing.cast()))?;
        call!(chroot(root.as_ptr()))?;
        call!(chdir(c"/".as_ptr()))
    };
    enter().expect("a thread of root can have a root of its own");
}

/// This thread acts as another user from now on.
pub fn become_user(user: u32, groups: &[u32]) {
    let none = u32::MAX;
    let change = || -> Result {
        call!(syscall(libc::SYS_setresuid, none, 0, none))?;
        call!(syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        call!(syscall(libc::SYS_setresgid, none, groups[0], none))?;
        call!(syscall(libc::SYS_setresuid, none, user, none))
    };
    change().expect("root can be anybody");
}
