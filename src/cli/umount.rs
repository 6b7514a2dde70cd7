//! `bitkv umount MNT`: unmounts, and waits until the daemon has synced and gone. Also as `umount.fuse.bitkv`, the helper of umount(8).

use super::mount::system::Process;
use super::mounts::{self, Mounted};
use super::{DONE, FAILED, USAGE, complain};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long the daemon is waited for: it may have much to sync.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// How long a control file is waited for, to learn the daemon's number.
const ASK_MAX: Duration = Duration::from_secs(2);

/// What the command is told; the options are umount(8)'s.
#[derive(Default, PartialEq, Eq, Debug)]
struct Arguments {
    mountpoint: PathBuf,
    /// To be passed on, values behind their options.
    options: Vec<OsString>,
    lazy: bool,
}

/// Runs the command; returns the exit code.
pub fn run(arguments: &[OsString]) -> i32 {
    match unmount(arguments) {
        Ok(()) => DONE,
        Err(Failure { code, reason }) => {
            if let Some(reason) = reason {
                complain("bitkv umount", &reason);
            }
            // What umount(8) returns is for its helper; here a failure is a failure.
            if code == USAGE { USAGE } else { FAILED }
        }
    }
}

/// Runs as the helper of umount(8), whose exit codes are then ours.
pub fn run_as_helper(arguments: &[OsString]) -> i32 {
    match unmount(arguments) {
        Ok(()) => DONE,
        Err(Failure { code, reason }) => {
            if let Some(reason) = reason {
                complain("umount.fuse.bitkv", &reason);
            }
            code
        }
    }
}

/// Why it didn't work; without a reason if that has been told already.
struct Failure {
    code: i32,
    reason: Option<String>,
}

fn failure(reason: String) -> Failure {
    Failure { code: FAILED, reason: Some(reason) }
}

fn unmount(arguments: &[OsString]) -> Result<(), Failure> {
    let arguments = parse(arguments).map_err(|reason| Failure { code: USAGE, reason: Some(reason) })?;
    let name = arguments.mountpoint.display();
    let mountpoint =
        mounts::resolve(&arguments.mountpoint).map_err(|error| failure(format!("{name}: {error}")))?;
    let Some(mounted) = mounts::at(&mountpoint) else {
        return Err(failure(format!("{name}: no store is mounted there; see bitkv status")));
    };
    // Before it goes: afterwards nobody tells who it was.
    let daemon = daemon_of(&mounted).and_then(|pid| Some((pid, Process::open(pid).ok()?)));
    let command = command(&arguments, &mountpoint, nix::unistd::geteuid().is_root());
    run_command(command, &name.to_string())?;
    // After a lazy unmount the mount lives on as long as it is used.
    match daemon {
        Some((pid, process)) if !arguments.lazy => wait_for(pid, &process, &name.to_string()),
        _ => Ok(()),
    }
}

fn run_command(mut command: Command, name: &str) -> Result<(), Failure> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        // It has said why.
        Ok(status) => Err(Failure { code: status.code().unwrap_or(FAILED), reason: None }),
        Err(error) => {
            let program = command.get_program().to_string_lossy().into_owned();
            Err(failure(format!("{name}: running {program}: {error}; install it")))
        }
    }
}

fn command(arguments: &Arguments, mountpoint: &Path, root: bool) -> Command {
    if root {
        let mut command = Command::new("umount");
        // Not through the helper again, which is us.
        command.arg("-i").args(&arguments.options).arg("--").arg(mountpoint);
        return command;
    }
    let mut command = Command::new("fusermount3");
    command.arg("-u").args(arguments.lazy.then_some("-z")).arg("--").arg(mountpoint);
    command
}

fn wait_for(pid: u32, process: &Process, name: &str) -> Result<(), Failure> {
    match process.wait(WAIT_MAX) {
        Ok(true) => {}
        Ok(false) => {
            return Err(failure(format!(
                "{name}: unmounted, but the daemon (process {pid}) is still at work; what it has is safe once it ends"
            )));
        }
        Err(error) => {
            return Err(failure(format!("{name}: waiting for the daemon (process {pid}): {error}")));
        }
    }
    // Where the kernel doesn't tell, its having gone must do.
    match process.wait_status() {
        None | Some(0) => Ok(()),
        Some(status) if libc::WIFSIGNALED(status) => Err(failure(format!(
            "{name}: unmounted, but the daemon was killed by signal {}; mount the store again to recover it",
            libc::WTERMSIG(status)
        ))),
        Some(_) => Err(failure(format!(
            "{name}: unmounted, but the daemon could not make everything durable; see its log, and the disk's health"
        ))),
    }
}

/// The daemon's process, by the store's lock; if the table names something else than the store, the mount itself is asked.
fn daemon_of(mounted: &Mounted) -> Option<u32> {
    mounted.daemon().or_else(|| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let config = mounted.mountpoint.join(".bitkv/config");
        // On a thread of its own, because a mount that hangs doesn't answer.
        std::thread::spawn(move || sender.send(std::fs::read_to_string(config)));
        let config = receiver.recv_timeout(ASK_MAX).ok()?.ok()?;
        config.lines().find_map(|line| line.strip_prefix("pid="))?.parse().ok()
    })
}

/// Options of umount(8), as it passes them to helpers too: flags, alone or several in a word, and two options with values.
fn parse(arguments: &[OsString]) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut mountpoint = None;
    let mut rest = arguments.iter();
    let mut only_names = false;
    while let Some(argument) = rest.next() {
        let bytes = argument.as_bytes();
        if only_names || !bytes.starts_with(b"-") || bytes == b"-" {
            if mountpoint.replace(PathBuf::from(argument)).is_some() {
                return Err("name one mountpoint only".to_string());
            }
            continue;
        }
        match bytes {
            b"--" => only_names = true,
            // Which type it was: we know.
            b"-t" => drop(rest.next()),
            b"-N" => {
                let namespace = rest.next().ok_or("-N needs a namespace")?;
                parsed.options.extend([argument.clone(), namespace.clone()]);
            }
            b"-i" | b"--internal-only" => {}
            b"--lazy" | b"--force" | b"--no-mtab" | b"--verbose" | b"--read-only" | b"--quiet" => {
                parsed.lazy |= bytes == b"--lazy";
                parsed.options.push(argument.clone());
            }
            [b'-', flags @ ..] if flags.iter().all(|flag| b"flnrvqi".contains(flag)) => {
                parsed.lazy |= flags.contains(&b'l');
                parsed.options.push(argument.clone());
            }
            _ => return Err(format!("unknown option {}; see umount(8)", argument.to_string_lossy())),
        }
    }
    parsed.mountpoint = mountpoint.ok_or("name the mountpoint: bitkv umount MNT")?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Arguments, String> {
        parse(&words.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn what_umount_passes_to_its_helpers_is_understood() {
        let arguments = parsed("/mnt -n -l -f -v -r -N 17 -t fuse.bitkv").unwrap();
        assert_eq!(arguments.mountpoint, Path::new("/mnt"));
        assert!(arguments.lazy);
        assert_eq!(arguments.options, ["-n", "-l", "-f", "-v", "-r", "-N", "17"]);
        assert_eq!(parsed("-fv /mnt").unwrap().options, ["-fv"]);
        assert!(!parsed("-f /mnt").unwrap().lazy);
        assert_eq!(parsed("-- -l").unwrap().mountpoint, Path::new("-l"));
    }

    #[test]
    fn wrong_usage_is_told() {
        for wrong in ["", "-f", "/a /b", "-x /a", "--nonsense /a", "/a -N"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_users_unmount_through_their_helper() {
        let arguments = parsed("-l /mnt").unwrap();
        let words = |root| {
            let command = command(&arguments, Path::new("/mnt"), root);
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(true), "umount -i -l -- /mnt");
        assert_eq!(words(false), "fusermount3 -u -z -- /mnt");
    }
}
