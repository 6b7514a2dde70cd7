//! Calls that the standard library lacks: extended attributes and mappings.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn path_of(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

pub fn set_xattr(path: &Path, name: &CStr, value: &[u8], flags: i32) -> io::Result<()> {
    let path = path_of(path);
    let (pointer, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: both strings end with a zero byte, and the value is as long as is said.
    checked(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), pointer, length, flags) } as isize)?;
    Ok(())
}

/// The value's length, and the value as far as it fits into `room` bytes (0 asks for the length alone).
pub fn get_xattr(path: &Path, name: &CStr, room: usize) -> io::Result<(usize, Vec<u8>)> {
    let path = path_of(path);
    let mut value = vec![0; room];
    // SAFETY: both strings end with a zero byte, and the buffer is as long as is said.
    let result =
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let length = checked(result)?;
    value.truncate(length);
    Ok((length, value))
}

pub fn list_xattr(path: &Path, room: usize) -> io::Result<(usize, Vec<u8>)> {
    let path = path_of(path);
    let mut names = vec![0u8; room];
    // SAFETY: the string ends with a zero byte, and the buffer is as long as is said.
    let result = unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let length = checked(result)?;
    names.truncate(length);
    Ok((length, names))
}

pub fn remove_xattr(path: &Path, name: &CStr) -> io::Result<()> {
    let path = path_of(path);
    // SAFETY: both strings end with a zero byte.
    checked(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) } as isize)?;
    Ok(())
}

/// Changes a file through a shared mapping of its first bytes, and writes the mapping back.
pub fn change_mapped(file: &File, length: usize, change: impl FnOnce(&mut [u8])) -> io::Result<()> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: the kernel chooses the place; the descriptor is open.
    let mapping = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, file.as_raw_fd(), 0) };
    if mapping == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is that long, and nobody else changes the file meanwhile.
    change(unsafe { std::slice::from_raw_parts_mut(mapping.cast(), length) });
    // SAFETY: the mapping is ours, and is not used afterwards.
    let results = unsafe { (libc::msync(mapping, length, libc::MS_SYNC), libc::munmap(mapping, length)) };
    if results == (0, 0) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub fn ioctl_error(file: &File) -> Option<i32> {
    let mut number: libc::c_int = 0;
    // SAFETY: the request writes one number, which outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::FIONREAD + 1, &raw mut number) };
    (result < 0).then(|| io::Error::last_os_error().raw_os_error()).flatten()
}

pub fn allocate(file: &File, mode: i32, offset: i64, length: i64) -> io::Result<()> {
    // SAFETY: the call takes numbers and an open descriptor.
    checked(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) } as isize)?;
    Ok(())
}

pub fn seek(file: &File, offset: i64, whence: i32) -> io::Result<usize> {
    // SAFETY: the call takes numbers and an open descriptor.
    checked(unsafe { libc::lseek(file.as_raw_fd(), offset, whence) } as isize)
}

pub fn rename_with(from: &Path, to: &Path, flags: u32) -> io::Result<()> {
    let (from, to) = (path_of(from), path_of(to));
    // SAFETY: both strings end with a zero byte.
    let result =
        unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) };
    checked(result as isize)?;
    Ok(())
}
