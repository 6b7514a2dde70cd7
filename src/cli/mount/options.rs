//! What `bitkv-mount` is told: on the command line, through `-o`, and by mount(8). Pure.

use crate::engine::Window;
use crate::fs::control::units;
use crate::fs::transport::ring;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// When changes become durable by themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum SyncMode {
    /// A sync every --sync-interval
    Interval,
    /// Every operation is answered after its sync
    Always,
    /// Only fsync and unmount sync
    Fsync,
}

/// How the log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

/// How requests come from the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Transport {
    /// The ring where the kernel has it, else /dev/fuse
    Auto,
    /// FUSE over io_uring: Linux 6.14 and its fuse module's parameter enable_uring
    Ring,
    /// /dev/fuse
    Dev,
}

/// Mounts a BitKV store as a filesystem.
#[derive(Parser, Clone, Debug)]
#[command(name = "bitkv-mount", version, max_term_width = 100, args_override_self = true)]
pub struct Options {
    /// Directory of the store; made if it is missing
    pub data: PathBuf,
    /// Where to mount it
    pub mountpoint: PathBuf,

    /// Stay in the foreground
    #[arg(short, long)]
    pub foreground: bool,
    /// Mount options, separated by commas: the standard ones, and every long option below
    #[arg(short = 'o', value_name = "OPT[,OPT...]")]
    pub mount_options: Vec<String>,
    /// Taken for the sake of mount(8), which passes it on
    #[arg(short = 'v', hide = true)]
    pub verbose: bool,
    /// Taken for the sake of mount(8): don't write /etc/mtab
    #[arg(short = 'n', hide = true)]
    pub no_mtab: bool,
    /// Taken for the sake of mount(8): tolerate sloppy options
    #[arg(short = 's', hide = true)]
    pub sloppy: bool,
    /// Taken for the sake of mount(8): the type that was asked for
    #[arg(short = 't', hide = true, value_name = "TYPE")]
    pub filesystem_type: Option<String>,

    /// New store: number of partitions [default: one per core]
    #[arg(long, value_name = "N", help_heading = "Store")]
    pub partitions: Option<u16>,
    /// When changes become durable by themselves
    #[arg(long, value_enum, default_value = "interval", value_name = "MODE", help_heading = "Store")]
    pub sync: SyncMode,
    /// Time between syncs
    #[arg(long, value_parser = units::time, default_value = "1s", value_name = "TIME", help_heading = "Store")]
    pub sync_interval: Duration,
    /// Size of new segment files
    #[arg(long, value_parser = units::size, default_value = "64M", value_name = "SIZE", help_heading = "Store")]
    pub segment_size: u64,
    /// New store: size of the pieces that large files are kept in
    #[arg(long, value_parser = units::size, default_value = "16K", value_name = "SIZE", help_heading = "Store")]
    pub chunk_size: u64,
    /// How many segment files are kept open at most; never more than a quarter of what the process may have
    #[arg(long, default_value_t = 512, value_name = "N", help_heading = "Store")]
    pub open_files: usize,
    /// Take no changes
    #[arg(long, help_heading = "Store")]
    pub read_only: bool,
    /// Open a damaged store for reading what is left of it; `.bitkv/errors` and the log say what is lost
    #[arg(long, help_heading = "Store")]
    pub salvage: bool,
    /// How long to wait for another process to let go of the store
    #[arg(long, value_parser = units::time, default_value = "10s", value_name = "TIME", help_heading = "Store")]
    pub lock_wait: Duration,

    /// The most bytes of segments that automatic compaction works through in a second; 0 is without limit
    #[arg(long, value_parser = units::size, default_value = "50M", value_name = "SIZE", help_heading = "Compaction")]
    pub compact_rate: u64,
    /// Share of dead bytes from which on a segment is compacted, 0 to 1
    #[arg(long, default_value_t = 0.5, value_name = "SHARE", help_heading = "Compaction")]
    pub compact_threshold: f64,
    /// Compact by hand only
    #[arg(long, help_heading = "Compaction")]
    pub no_auto_compact: bool,
    /// How long after the mount nothing is compacted by itself
    #[arg(long, value_parser = units::time, default_value = "10s", value_name = "TIME", help_heading = "Compaction")]
    pub compact_delay: Duration,
    /// How long a partition rests after an automatic compaction
    #[arg(long, value_parser = units::time, default_value = "1s", value_name = "TIME", help_heading = "Compaction")]
    pub compact_cooldown: Duration,
    /// Compact by itself only at this time of day, in UTC: 22:00-06:00 [default: at any time]
    #[arg(long, value_name = "HH:MM-HH:MM", help_heading = "Compaction")]
    pub compact_window: Option<Window>,

    /// Let other users in
    #[arg(long, help_heading = "Access")]
    pub allow_other: bool,
    /// Let root in
    #[arg(long, help_heading = "Access")]
    pub allow_root: bool,
    /// Unmount when the process ends, however it ends
    #[arg(long, help_heading = "Access")]
    pub auto_unmount: bool,

    /// How requests come from the kernel
    #[arg(long, value_enum, default_value = "auto", value_name = "WAY", help_heading = "Kernel")]
    pub transport: Transport,
    /// Requests that a queue of the ring transport can hold at once: each takes up to 1 MiB and 4 KiB of memory, on every processor
    #[arg(long, default_value_t = ring::DEPTH_DEFAULT, value_name = "N", help_heading = "Kernel")]
    pub ring_depth: u16,
    /// Leave the parameter enable_uring of the kernel's fuse module as it is
    #[arg(long, help_heading = "Kernel")]
    pub no_enable_uring: bool,
    /// Let the kernel hold writes back until a file is closed or synced, or for some 30 seconds: faster, and lost if the daemon dies before
    #[arg(long, help_heading = "Kernel")]
    pub writeback_cache: bool,
    /// Threads that take requests from /dev/fuse
    #[arg(long, default_value_t = 8, value_name = "N", help_heading = "Kernel")]
    pub threads: usize,

    /// From which time on an operation goes into .bitkv/slowlog; 0: none does
    #[arg(long, value_parser = units::time, default_value = "100ms", value_name = "TIME", help_heading = "Log")]
    pub slowlog_threshold: Duration,
    /// Write the log to this file [default: standard error in the foreground, no log otherwise]
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    pub log_file: Option<PathBuf>,
    /// error, warn, info, debug or trace
    #[arg(long, default_value = "info", value_name = "LEVEL", help_heading = "Log")]
    pub log_level: tracing::Level,
    /// How the log is written
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT", help_heading = "Log")]
    pub log_format: LogFormat,

    /// What the kernel is told besides
    #[arg(skip)]
    pub kernel: KernelOptions,
    /// Set if a mount that is there is to be changed: the options as they were given
    #[arg(skip)]
    pub remount: Option<String>,
}

impl Options {
    /// Whether the kernel holds writes back. Never those that would be refused, after a remount for writing.
    pub(super) fn holds_back(&self) -> bool {
        self.writeback_cache && !self.read_only
    }
}

/// Standard mount options that the kernel carries out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KernelOptions {
    /// Device files: None is the default (allowed for root).
    pub dev: Option<bool>,
    /// Set-id programs: None is the default (allowed for root).
    pub suid: Option<bool>,
    /// Programs may be run.
    pub no_exec: bool,
    /// All writing is synchronous.
    pub sync: bool,
    /// Directory changes are synchronous.
    pub dir_sync: bool,
    /// What the table of mounts shows as source.
    pub source: Option<String>,
}

/// Reads the command line.
///
/// # Errors
/// What is wrong with it, with what clap prints for it; also help and version.
pub fn parse(arguments: Vec<OsString>) -> Result<Options, clap::Error> {
    let mut options = Options::try_parse_from(&arguments)?;
    let given = options.mount_options.join(",");
    if given.split(',').any(|option| option.trim() == "remount") {
        options.remount = Some(given);
        return Ok(options);
    }
    let mut long = Vec::new();
    let mut kernel = KernelOptions::default();
    let mut read_only = false;
    for option in std::mem::take(&mut options.mount_options).iter().flat_map(|list| list.split(',')) {
        match classify(option.trim()).map_err(|reason| wrong(&reason))? {
            Meaning::Nothing => {}
            Meaning::ReadOnly(value) => read_only = value,
            Meaning::Kernel(change) => change(&mut kernel),
            Meaning::Long(argument) => long.push(OsString::from(argument)),
        }
    }
    // In front: what stands on the command line itself has the last word, and a `--` there changes nothing.
    let mut all = arguments;
    let place = 1.min(all.len());
    all.splice(place..place, long);
    let mut options = Options::try_parse_from(&all)?;
    options.kernel = kernel;
    options.read_only |= read_only || options.salvage;
    check(&options).map_err(|reason| wrong(&reason))?;
    Ok(options)
}

fn wrong(reason: &str) -> clap::Error {
    Options::command().error(ErrorKind::InvalidValue, reason)
}

fn check(options: &Options) -> Result<(), String> {
    // One request of the kernel must fit into a segment with much room to spare.
    if options.segment_size < 4 << 20 {
        return Err("--segment-size must be at least 4M".to_string());
    }
    if !(0.0..=1.0).contains(&options.compact_threshold) {
        return Err("--compact-threshold must be between 0 and 1".to_string());
    }
    if !(1..=64).contains(&options.threads) {
        return Err("--threads must be between 1 and 64".to_string());
    }
    if !ring::DEPTH_RANGE.contains(&options.ring_depth) {
        return Err("--ring-depth must be between 1 and 256".to_string());
    }
    if options.auto_unmount && !options.allow_other && !options.allow_root {
        return Err("--auto-unmount needs --allow-other or --allow-root".to_string());
    }
    if options.allow_other && options.allow_root {
        return Err("--allow-other and --allow-root exclude each other".to_string());
    }
    Ok(())
}

enum Meaning {
    Nothing,
    ReadOnly(bool),
    Kernel(Box<dyn Fn(&mut KernelOptions)>),
    Long(String),
}

/// What a single `-o` option means.
fn classify(option: &str) -> Result<Meaning, String> {
    let kernel = |change: fn(&mut KernelOptions)| Ok(Meaning::Kernel(Box::new(change)));
    match option {
        // What mount(8), systemd and /etc/fstab leave behind. Access times stay as they are in any case.
        ""
        | "defaults"
        | "auto"
        | "noauto"
        | "nofail"
        | "_netdev"
        | "user"
        | "nouser"
        | "users"
        | "owner"
        | "group"
        | "noatime"
        | "atime"
        | "relatime"
        | "strictatime"
        | "norelatime"
        | "nostrictatime"
        | "diratime"
        | "nodiratime"
        | "default_permissions" => Ok(Meaning::Nothing),
        "ro" => Ok(Meaning::ReadOnly(true)),
        "rw" => Ok(Meaning::ReadOnly(false)),
        "dev" => kernel(|kernel| kernel.dev = Some(true)),
        "nodev" => kernel(|kernel| kernel.dev = Some(false)),
        "suid" => kernel(|kernel| kernel.suid = Some(true)),
        "nosuid" => kernel(|kernel| kernel.suid = Some(false)),
        // Of opposites the last one counts.
        "noexec" => kernel(|kernel| kernel.no_exec = true),
        "exec" => kernel(|kernel| kernel.no_exec = false),
        "sync" => kernel(|kernel| kernel.sync = true),
        "async" => kernel(|kernel| kernel.sync = false),
        "dirsync" => kernel(|kernel| kernel.dir_sync = true),
        _ => classify_named(option),
    }
}

fn classify_named(option: &str) -> Result<Meaning, String> {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    if name.starts_with("x-") || name.starts_with("X-") || name == "comment" || name == "subtype" {
        return Ok(Meaning::Nothing);
    }
    if name == "fsname" {
        let source = value.unwrap_or_default().to_string();
        return Ok(Meaning::Kernel(Box::new(move |kernel| kernel.source = Some(source.clone()))));
    }
    let long = name.replace('_', "-");
    let known = Options::command();
    let found = known.get_arguments().find(|argument| argument.get_long() == Some(&long));
    match found {
        Some(argument) if argument.get_action().takes_values() == value.is_some() => {
            Ok(Meaning::Long(match value {
                Some(value) => format!("--{long}={value}"),
                None => format!("--{long}"),
            }))
        }
        Some(_) if value.is_some() => Err(format!("mount option {name} takes no value")),
        Some(_) => Err(format!("mount option {name} needs a value: {name}=...")),
        None => Err(format!("unknown mount option {option}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Options, String> {
        let arguments = ["bitkv-mount"].iter().chain(arguments).map(OsString::from).collect();
        parse(arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn options_in_any_place_and_by_either_name() {
        let options =
            parsed(&["/d", "/m", "-o", "ro,segment_size=8M", "-f", "-o", "sync-interval=2s,nodev"]).unwrap();
        assert!(options.read_only && options.foreground);
        assert_eq!(options.segment_size, 8 << 20);
        assert_eq!(options.sync_interval, Duration::from_secs(2));
        assert_eq!(options.kernel.dev, Some(false));
        assert_eq!(options.data, PathBuf::from("/d"));
    }

    #[test]
    fn what_mount_and_systemd_leave_behind_is_swallowed() {
        let list = "rw,defaults,auto,nofail,_netdev,user,x-systemd.automount,comment=x,relatime,fsname=abc";
        let options = parsed(&["/d", "/m", "-o", list]).unwrap();
        assert_eq!(options.kernel.source.as_deref(), Some("abc"));
        assert!(!options.read_only);
    }

    #[test]
    fn a_remount_is_the_kernels_to_carry_out() {
        let options = parsed(&["/d", "/m", "-o", "rw,remount,ro"]).unwrap();
        assert_eq!(options.remount.as_deref(), Some("rw,remount,ro"));
    }

    #[test]
    fn the_command_line_has_the_last_word() {
        let options = parsed(&["-o", "threads=2,threads=3,sync=always", "--sync", "fsync", "--", "/d", "/m"]);
        let options = options.unwrap();
        assert_eq!((options.threads, options.sync), (3, SyncMode::Fsync));
        let options =
            parsed(&["--allow-other", "/d", "/m", "-o", "allow_other,noexec,exec,sync,async"]).unwrap();
        assert!(options.allow_other && !options.kernel.no_exec && !options.kernel.sync);
        assert_eq!(parsed(&["/d", "/m", "--threads=4", "--threads=5"]).unwrap().threads, 5);
    }

    #[test]
    fn help_is_in_groups_and_shows_defaults() {
        let help = parsed(&["--help"]).unwrap_err();
        for part in
            ["Store:", "Compaction:", "Access:", "Kernel:", "Log:", "[default: 64M]", "[default: 10s]"]
        {
            assert!(help.contains(part), "{part} in {help}");
        }
    }

    #[test]
    fn what_is_not_there_yet_is_not_taken() {
        for wrong in ["--transport=other", "--ring-depth=0", "--ring-depth=257", "--uid=1", "--umask=022"] {
            assert!(parsed(&["/d", "/m", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_option_is_named() {
        assert!(parsed(&["/d", "/m", "-o", "rw,frobnicate=1"]).unwrap_err().contains("frobnicate=1"));
        assert!(parsed(&["/d", "/m", "-o", "segment-size"]).unwrap_err().contains("needs a value"));
        assert!(parsed(&["/d", "/m", "-o", "allow_other=1"]).unwrap_err().contains("takes no value"));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for wrong in ["--segment-size=1M", "--compact-threshold=2", "--threads=0", "--auto-unmount"] {
            assert!(parsed(&["/d", "/m", wrong]).is_err(), "{wrong}");
        }
    }
}
