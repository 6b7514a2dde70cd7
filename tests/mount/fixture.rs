//! A real mount in a temporary directory. It is taken away whatever happens: a mount that hangs is freed by ending its connection.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a test may take before its mount is freed by force.
const TEST_MAX: Duration = Duration::from_secs(180);
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// False, with a notice, only where there is no FUSE.
pub fn fuse_is_there() -> bool {
    let there = fs::File::options().read(true).write(true).open("/dev/fuse");
    if let Err(error) = &there {
        println!("SKIPPED: /dev/fuse can't be opened: {error}");
    }
    there.is_ok()
}

/// A place for a store and its mount.
pub struct Place {
    directory: tempfile::TempDir,
    over: Arc<AtomicBool>,
}

impl Place {
    /// An empty place; None where nothing can be mounted.
    pub fn new() -> Option<Place> {
        if !fuse_is_there() {
            return None;
        }
        let directory = tempfile::Builder::new().prefix("bitkv-mount-test.").tempdir().unwrap();
        let place = Place { directory, over: Arc::default() };
        fs::create_dir(place.mountpoint()).unwrap();
        let (over, mountpoint) = (place.over.clone(), place.mountpoint());
        std::thread::spawn(move || {
            let started = Instant::now();
            while !over.load(Ordering::Relaxed) {
                if started.elapsed() > TEST_MAX {
                    eprintln!("{}: hangs; freed by force", mountpoint.display());
                    return free(&mountpoint);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Some(place)
    }

    /// A place with a mounted new store.
    pub fn mounted() -> Option<Place> {
        let place = Place::new()?;
        place.mount(&[]);
        Some(place)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }
    pub fn mountpoint(&self) -> PathBuf {
        self.path("mnt")
    }
    /// A path in the mount.
    pub fn at(&self, name: &str) -> PathBuf {
        self.mountpoint().join(name)
    }
    /// A control file.
    pub fn control(&self, name: &str) -> PathBuf {
        self.at(".bitkv").join(name)
    }

    /// Mounts; the new process is in the background when this returns.
    pub fn mount(&self, options: &[&str]) {
        let mounted = self.try_mount(options);
        assert!(mounted.status.success(), "mounting: {}", text(&mounted.stderr));
    }

    pub fn try_mount(&self, options: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitkv-mount"));
        command.arg("--log-file").arg(self.path("log"));
        if let Some(transport) = transport() {
            command.args(["--transport", &transport]);
        }
        command.args(std::env::var("BITKV_MOUNT_OPTIONS").unwrap_or_default().split_whitespace());
        command.args(options);
        command.arg(self.data()).arg(self.mountpoint()).output().unwrap()
    }

    /// Unmounts, and checks that the daemon is gone.
    pub fn unmount(&self) {
        let daemon = self.daemon();
        let unmounted = bitkv(&[&"umount", &self.mountpoint()]);
        assert!(unmounted.status.success(), "unmounting: {}", text(&unmounted.stderr));
        assert!(!is_alive(daemon), "the daemon outlives umount");
    }

    /// The daemon's process number.
    pub fn daemon(&self) -> u32 {
        fs::read_to_string(self.data().join("LOCK")).unwrap().trim().parse().unwrap()
    }

    /// A number of `.bitkv/stats`.
    pub fn number(&self, name: &str) -> u64 {
        let stats = fs::read_to_string(self.control("stats")).unwrap();
        let found = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = found.unwrap_or_else(|| panic!("no {name} in {stats}"));
        value.split(' ').next().unwrap().parse().unwrap()
    }

    pub fn is_mounted(&self) -> bool {
        device_of(&self.mountpoint()).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_mounted() && !bitkv(&[&"umount", &self.mountpoint()]).status.success() {
            free(&self.mountpoint());
        }
        self.over.store(true, Ordering::Relaxed);
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            eprintln!("--- the daemon's log:\n{log}");
        }
    }
}

/// Runs `bitkv`.
pub fn bitkv(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bitkv")).args(arguments).output().unwrap()
}

/// Runs a shell script with one argument.
pub fn shell(script: &str, argument: &Path) -> Output {
    Command::new("bash").args(["-c", script, "-"]).arg(argument).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Alive, and not merely waiting for its parent to take notice.
pub fn is_alive(pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !matches!(status.rsplit(')').next().unwrap_or("").trim_start().chars().next(), Some('Z' | 'X') | None)
}

/// Waits for something that happens by itself.
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < Duration::from_secs(60), "it never comes: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
}

/// The connection's number, from the kernel's table: asking the mount could hang.
fn device_of(mountpoint: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().rfind(|line| line.split(' ').nth(4).map(Path::new) == Some(mountpoint))?;
    Some(line.split(' ').nth(2)?.split_once(':')?.1.to_string())
}

fn free(mountpoint: &Path) {
    if let Some(device) = device_of(mountpoint) {
        if !Path::new(CONNECTIONS).join(&device).exists() {
            let _ = Command::new("mount").args(["-t", "fusectl", "none", CONNECTIONS]).status();
        }
        let _ = fs::write(Path::new(CONNECTIONS).join(device).join("abort"), "1");
    }
    let _ = nix::mount::umount2(mountpoint, nix::mount::MntFlags::MNT_DETACH);
}

/// Whether mounts are tested with writes held back, which some tests can't have.
pub fn holds_back() -> bool {
    std::env::var("BITKV_MOUNT_OPTIONS").is_ok_and(|options| options.contains("writeback_cache"))
}

/// The transport that mounts are tested with (beside it, BITKV_MOUNT_OPTIONS has further options for all of them), if one was asked for: BITKV_TRANSPORT=ring or dev.
pub fn transport() -> Option<String> {
    std::env::var("BITKV_TRANSPORT").ok()
}
