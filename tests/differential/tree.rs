//! A whole tree as text: names, attributes, which names are one file, targets, extended attributes, contents.

use super::calls::{self, Result};
use super::side::{c_names, names_of, show};
use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;

/// What is hashed at a time; where it is all zeros it is left out, so that holes cost nothing.
const BLOCK: usize = 4096;

/// Bytes, so that two can be compared.
pub fn content(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{} bytes {:x}", bytes.len(), hasher.finish())
}

/// The names in a directory with their kinds, sorted.
pub fn list(path: &[u8]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let read =
        || -> std::io::Result<Vec<_>> { std::fs::read_dir(std::ffi::OsStr::from_bytes(path))?.collect() };
    for entry in read().map_err(|error| error.raw_os_error().unwrap_or(0))? {
        let kind = entry.file_type().map_err(|error| error.raw_os_error().unwrap_or(0))?;
        let kind = match kind {
            kind if kind.is_dir() => 'd',
            kind if kind.is_file() => 'f',
            kind if kind.is_symlink() => 'l',
            kind if kind.is_fifo() => 'p',
            kind if kind.is_socket() => 's',
            _ => 'c',
        };
        names.push(format!("{kind}{}", entry.file_name().into_vec().escape_ascii()));
    }
    names.sort_unstable();
    Ok(names)
}

/// Everything below a directory.
pub fn describe(root: &[u8]) -> String {
    let mut text = String::new();
    add(&mut text, root, &mut HashMap::new());
    text
}

fn add(text: &mut String, path: &[u8], known: &mut HashMap<u64, usize>) {
    let found = match calls::stat(path, false) {
        Ok(found) => found,
        Err(error) => {
            let _ = write!(text, "\n{}: errno {error}", path.escape_ascii());
            return;
        }
    };
    let count = known.len();
    let file = *known.entry(found.st_ino).or_insert(count);
    let _ = write!(text, "\n{} = {file}: {}", path.escape_ascii(), show(&found));
    if let Ok(listed) = calls::list_xattr(path, 10_000)
        && !listed.is_empty()
    {
        let _ = write!(text, " xattrs {}", names_of(&listed));
        let mut values: Vec<String> = c_names(&listed)
            .filter_map(|name| calls::get_xattr(path, name, 1000).ok())
            .map(|value| content(&value))
            .collect();
        values.sort_unstable();
        let _ = write!(text, " {}", values.join(" "));
    }
    match found.st_mode & libc::S_IFMT {
        libc::S_IFDIR => {
            let mut names: Vec<Vec<u8>> = std::fs::read_dir(std::ffi::OsStr::from_bytes(path))
                .map(|entries| entries.flatten().map(|entry| entry.file_name().into_vec()).collect())
                .unwrap_or_default();
            names.sort_unstable();
            for name in names {
                let mut below = path.to_vec();
                if !below.ends_with(b"/") {
                    below.push(b'/');
                }
                below.extend(name);
                add(text, &below, known);
            }
        }
        libc::S_IFLNK => {
            let _ = write!(text, " -> {:?}", calls::readlink(path).map(|target| content(&target)));
        }
        libc::S_IFREG => {
            let _ = match calls::open(path, libc::O_RDONLY | libc::O_NOATIME, 0) {
                Ok(file) => {
                    let written = write!(text, " content {}", stored(file, found.st_size));
                    let _ = calls::close(file);
                    written
                }
                Err(error) => write!(text, " errno {error}"),
            };
        }
        _ => {}
    }
}

/// What a file holds apart from zeros.
fn stored(file: RawFd, size: i64) -> String {
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 16 * BLOCK];
    let mut at = 0;
    while at < size {
        // Where each filesystem sees data differs, but not by more than a block of theirs; what is zeros counts on neither side.
        let Ok(data) = calls::seek(file, at, libc::SEEK_DATA) else { break };
        at = data / BLOCK as i64 * BLOCK as i64;
        let end = calls::seek(file, data, libc::SEEK_HOLE).unwrap_or(size);
        while at < end {
            let count = match calls::pread(file, &mut buffer, at) {
                Ok(0) => break,
                Ok(count) => count as usize,
                Err(error) => return format!("errno {error} at {at}"),
            };
            for (index, block) in buffer[..count].chunks(BLOCK).enumerate() {
                if block.iter().any(|byte| *byte != 0) {
                    (at + (index * BLOCK) as i64, block).hash(&mut hasher);
                }
            }
            at += count as i64;
        }
    }
    format!("{:x}", hasher.finish())
}
