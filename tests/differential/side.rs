//! One of the two directories in which a history happens: a thread whose root it is, so that no path and no link leads out of it. What it
//! tells of a command is all that must be the same on both sides.

use super::calls::{self, Result};
use super::command::{Command, Name, Operation, SLOTS, Slot, USERS, acl_name};
use super::tree;
use std::ffi::CStr;
use std::fmt::Write;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longer than the clock by which any filesystem stamps its files stands still.
const MOMENT: Duration = Duration::from_millis(12);
/// Times before this were set by the history; those behind are of the test's own time.
const LONG_AGO: i64 = 1_000_000_000;

/// A directory and the thread that lives in it.
pub struct Side {
    commands: Option<Sender<Command>>,
    reports: Receiver<String>,
    thread: Option<JoinHandle<()>>,
}

impl Side {
    /// A side in this directory.
    pub fn new(root: &Path) -> Side {
        let (commands, inbox) = channel::<Command>();
        let (outbox, reports) = channel();
        let root = root.as_os_str().as_bytes().to_vec();
        let thread = std::thread::spawn(move || {
            calls::enter(&root);
            calls::umask(0);
            let mut life = Life { slots: [None; SLOTS], user: 0 };
            for command in inbox {
                if outbox.send(life.carry_out(&command)).is_err() {
                    break;
                }
            }
            for file in life.slots.into_iter().flatten() {
                let _ = calls::close(file);
            }
        });
        Side { commands: Some(commands), reports, thread: Some(thread) }
    }

    /// Begins to carry out a command.
    pub fn send(&self, command: &Command) {
        self.commands.as_ref().unwrap().send(command.clone()).expect("the side's thread is there");
    }

    /// What came of the command that was sent.
    pub fn report(&self) -> String {
        self.reports.recv_timeout(Duration::from_secs(100)).expect("a call returns")
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.commands = None;
        // If it hangs, the mount is freed by force; a panic of its own has been shown.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Life {
    slots: [Option<RawFd>; SLOTS],
    user: usize,
}

/// What can be looked at.
enum Subject<'a> {
    Path(&'a [u8]),
    File(RawFd),
}

impl Life {
    fn carry_out(&mut self, command: &Command) -> String {
        self.act_as(0);
        let mut before = Vec::new();
        if command.patient {
            before = self.subjects(&command.operation).iter().map(look).collect();
            std::thread::sleep(MOMENT);
        }
        self.act_as(command.user);
        let mut report = match self.perform(&command.operation) {
            Ok(report) => report,
            Err(error) => return self.failed(error, &command.operation, &before),
        };
        self.act_as(0);
        self.add_subjects(&mut report, &command.operation, &before);
        report
    }

    fn failed(&mut self, error: i32, operation: &Operation, before: &[Result<libc::stat>]) -> String {
        self.act_as(0);
        let mut report = format!("errno {error} {}", nix::errno::Errno::from_raw(error));
        self.add_subjects(&mut report, operation, before);
        report
    }

    fn act_as(&mut self, user: usize) {
        if self.user != user {
            calls::become_user(USERS[user].0, USERS[user].1);
            self.user = user;
        }
    }

    /// Whether a file has set-group-ID, and its group is one of the user's other ones.
    fn is_member_by_supplement(&self, path: &[u8]) -> bool {
        let others = &USERS[self.user].1[1..];
        calls::stat(path, true)
            .is_ok_and(|found| found.st_mode & libc::S_ISGID != 0 && others.contains(&found.st_gid))
    }

    fn file(&self, slot: Slot) -> Result<RawFd> {
        self.slots[slot].ok_or(libc::EBADF)
    }

    fn perform(&mut self, operation: &Operation) -> Result<String> {
        use Operation::*;
        let number = |value: i64| value.to_string();
        Ok(match operation {
            Open { slot, path, flags, mode } => {
                let file = calls::open(path, *flags, *mode)?;
                if let Some(before) = self.slots[*slot].replace(file) {
                    calls::close(before)?;
                }
                String::from("open")
            }
            Close { slot } => {
                let file = self.file(*slot)?;
                self.slots[*slot] = None;
                number(calls::close(file)?)
            }
            Read { slot, length } => {
                let mut buffer = vec![0; *length];
                let count = calls::read(self.file(*slot)?, &mut buffer)?;
                tree::content(&buffer[..count as usize])
            }
            ReadAt { slot, length, offset } => {
                let mut buffer = vec![0; *length];
                let count = calls::pread(self.file(*slot)?, &mut buffer, *offset)?;
                tree::content(&buffer[..count as usize])
            }
            Write { slot, length, fill } => number(calls::write(self.file(*slot)?, &bytes(*length, *fill))?),
            WriteAt { slot, length, fill, offset } => {
                number(calls::pwrite(self.file(*slot)?, &bytes(*length, *fill), *offset)?)
            }
            Seek { slot, offset, whence } => {
                let file = self.file(*slot)?;
                regular(file)?;
                number(calls::seek(file, *offset, *whence)?)
            }
            SeekContent { slot, offset, hole } => seek_content(self.file(*slot)?, *offset, *hole)?,
            TruncateOpen { slot, length } => number(calls::ftruncate(self.file(*slot)?, *length)?),
            Truncate { path, length } => number(calls::truncate(path, *length)?),
            Allocate { slot, mode, offset, length } => {
                number(calls::allocate(self.file(*slot)?, *mode, *offset, *length)?)
            }
            CopyRange { from, from_offset, to, to_offset, length } => {
                let (from, to) = (self.file(*from)?, self.file(*to)?);
                number(calls::copy_range(from, *from_offset, to, *to_offset, *length)?)
            }
            Sync { slot } => number(calls::sync(self.file(*slot)?)?),
            Link { from, to, follow } => number(calls::link(from, to, *follow)?),
            Symlink { target, path } => number(calls::symlink(target, path)?),
            Readlink { path } => calls::readlink(path)?.escape_ascii().to_string(),
            // Where the target is a directory with names in it, ext4 fails too late, and has changed the parent's times.
            Rename { to, flags, .. } if flags & libc::RENAME_WHITEOUT != 0 && is_directory(to) => {
                return Err(libc::ENOTEMPTY);
            }
            Rename { from, to, flags } => number(calls::rename(from, to, *flags)?),
            Unlink { path } => number(calls::unlink(path)?),
            MakeDirectory { path, mode } => number(calls::mkdir(path, *mode)?),
            RemoveDirectory { path } => number(calls::rmdir(path)?),
            MakeNode { path, mode, device } => number(calls::mknod(path, *mode, *device)?),
            ChangeMode { path, mode } => number(calls::chmod(path, *mode)?),
            ChangeModeOpen { slot, mode } => number(calls::fchmod(self.file(*slot)?, *mode)?),
            ChangeOwner { path, user, group, follow } => number(calls::chown(path, *user, *group, *follow)?),
            SetTimes { path, times, follow } => number(calls::set_times(path, *times, *follow)?),
            SetXattr { path, name, length, fill, flags } => {
                number(calls::set_xattr(path, name, &bytes(*length, *fill), *flags)?)
            }
            // Over /dev/fuse nobody says whether the caller is of the file's group, and set-group-ID goes too readily.
            SetAcl { path, .. } if self.is_member_by_supplement(path) => return Err(libc::EPERM),
            SetAcl { path, default, list } => number(calls::set_xattr(path, &acl_name(*default), list, 0)?),
            GetXattr { path, name, room } => tree::content(&calls::get_xattr(path, name, *room)?),
            ListXattr { path, room } => names_of(&calls::list_xattr(path, *room)?),
            RemoveXattr { path, name } => number(calls::remove_xattr(path, name)?),
            List { path } => tree::list(path)?.join(" "),
            Stat { path, follow } => show(&calls::stat(path, *follow)?),
            Umask { mask } => {
                calls::umask(*mask);
                String::from("set")
            }
            Tree => {
                self.act_as(0);
                tree::describe(b"/")
            }
        })
    }

    fn add_subjects(&self, report: &mut String, operation: &Operation, before: &[Result<libc::stat>]) {
        for (index, subject) in self.subjects(operation).iter().enumerate() {
            let now = look(subject);
            match (&now, before.get(index)) {
                (Ok(now), Some(Ok(before)))
                    if now.st_ino == before.st_ino && now.st_mode & libc::S_IFMT != libc::S_IFIFO =>
                {
                    let moved = |now, before| if now == before { "stays" } else { "moves" };
                    let modified =
                        moved((now.st_mtime, now.st_mtime_nsec), (before.st_mtime, before.st_mtime_nsec));
                    let changed =
                        moved((now.st_ctime, now.st_ctime_nsec), (before.st_ctime, before.st_ctime_nsec));
                    let _ = write!(report, " | {}, mtime {modified}, ctime {changed}", show(now));
                }
                (Ok(now), _) => {
                    let _ = write!(report, " | {}", show(now));
                }
                (Err(error), _) => {
                    let _ = write!(report, " | errno {error}");
                }
            }
        }
    }

    /// What an operation may have changed.
    fn subjects<'a>(&self, operation: &'a Operation) -> Vec<Subject<'a>> {
        use Operation::*;
        let file = |slot: &Slot| self.slots[*slot].map(Subject::File).into_iter().collect();
        let place = |path: &'a Name| vec![Subject::Path(path), Subject::Path(parent(path))];
        match operation {
            Open { path, .. }
            | Truncate { path, .. }
            | Symlink { path, .. }
            | Readlink { path }
            | Unlink { path }
            | MakeDirectory { path, .. }
            | RemoveDirectory { path }
            | MakeNode { path, .. }
            | ChangeMode { path, .. }
            | ChangeOwner { path, .. }
            | SetTimes { path, .. }
            | SetXattr { path, .. }
            | SetAcl { path, .. }
            | RemoveXattr { path, .. } => place(path),
            Link { from, to, .. } | Rename { from, to, .. } => {
                place(from).into_iter().chain(place(to)).collect()
            }
            Close { slot }
            | Read { slot, .. }
            | ReadAt { slot, .. }
            | Write { slot, .. }
            | WriteAt { slot, .. }
            | Seek { slot, .. }
            | SeekContent { slot, .. }
            | TruncateOpen { slot, .. }
            | Allocate { slot, .. }
            | Sync { slot }
            | ChangeModeOpen { slot, .. } => file(slot),
            CopyRange { from, to, .. } => {
                let mut both: Vec<_> = file(from);
                both.extend(self.slots[*to].map(Subject::File));
                both
            }
            GetXattr { .. } | ListXattr { .. } | List { .. } | Stat { .. } | Umask { .. } | Tree => {
                Vec::new()
            }
        }
    }
}

fn is_directory(path: &[u8]) -> bool {
    calls::stat(path, false).is_ok_and(|found| found.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn look(subject: &Subject<'_>) -> Result<libc::stat> {
    match subject {
        Subject::Path(path) => calls::stat(path, false),
        Subject::File(file) => calls::fstat(*file),
    }
}

/// The directory of a path, as its text says.
fn parent(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => b"/",
        Some(slash) => &path[..slash],
        None => b".",
    }
}

fn bytes(length: usize, fill: u8) -> Vec<u8> {
    // Not all the same, so that bytes which land elsewhere show.
    (0..length).map(|index| fill.wrapping_add((index % 251) as u8)).collect()
}

/// Attributes, as far as two filesystems agree.
pub fn show(found: &libc::stat) -> String {
    // What goes through a pipe changes its times on a disk. The kernel keeps those, and never does for FUSE.
    let pipe = found.st_mode & libc::S_IFMT == libc::S_IFIFO;
    let time = |seconds, nanoseconds| match seconds < LONG_AGO {
        _ if pipe => String::from("any"),
        true => format!("{seconds}.{nanoseconds:09}"),
        false => String::from("now"),
    };
    let accessed = time(found.st_atime, found.st_atime_nsec);
    let modified = time(found.st_mtime, found.st_mtime_nsec);
    let kind = found.st_mode & libc::S_IFMT;
    let size = if kind == libc::S_IFDIR { 0 } else { found.st_size };
    let device = if matches!(kind, libc::S_IFCHR | libc::S_IFBLK) { found.st_rdev } else { 0 };
    let (mode, links, user, group) = (found.st_mode, found.st_nlink, found.st_uid, found.st_gid);
    format!(
        "{mode:o} links {links} {user}:{group} size {size} device {device} atime {accessed} mtime {modified}"
    )
}

/// Where holes begin and end is each filesystem's own affair, but what is called a hole must read as zeros, and at the end of a file all agree.
fn seek_content(file: RawFd, offset: i64, hole: bool) -> Result<String> {
    let size = regular(file)?.st_size;
    let position = calls::seek(file, 0, libc::SEEK_CUR)?;
    let found = calls::seek(file, offset, if hole { libc::SEEK_HOLE } else { libc::SEEK_DATA });
    calls::seek(file, position, libc::SEEK_SET)?;
    let within = (0..size).contains(&offset);
    let right = match (hole, found) {
        (true, Ok(end)) => (offset..=size).contains(&end),
        (false, Ok(start)) => (offset..size).contains(&start) && is_zero(file, offset, start),
        (false, Err(libc::ENXIO)) if within => is_zero(file, offset, size),
        (_, Err(error)) => return Err(error),
    };
    Ok(if right { String::from("right") } else { format!("wrong: {found:?} from {offset} of {size}") })
}

/// Attributes of an open file; the places in a directory are each filesystem's own affair.
fn regular(file: RawFd) -> Result<libc::stat> {
    let found = calls::fstat(file)?;
    if found.st_mode & libc::S_IFMT == libc::S_IFREG { Ok(found) } else { Err(libc::ESPIPE) }
}

/// Whether a range of a file reads as zeros: looked at near both ends, which is where mistakes are made.
fn is_zero(file: RawFd, start: i64, end: i64) -> bool {
    let mut buffer = vec![0; 40_000];
    [start, end - buffer.len() as i64].into_iter().all(|from| {
        let from = from.max(start);
        let length = buffer.len().min((end - from) as usize);
        match calls::pread(file, &mut buffer[..length], from) {
            Ok(count) => buffer[..count as usize].iter().all(|byte| *byte == 0),
            // Open for writing only.
            Err(_) => true,
        }
    })
}

/// Names of extended attributes, in an order; what a security module gives every file isn't the history's.
pub fn names_of(listed: &[u8]) -> String {
    let mut names: Vec<&[u8]> = listed
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && *name != b"security.selinux")
        .collect();
    names.sort_unstable();
    names.join(&b' ').escape_ascii().to_string()
}

/// A name as the calls take it.
pub fn c_names(listed: &[u8]) -> impl Iterator<Item = &CStr> {
    listed.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok())
}
