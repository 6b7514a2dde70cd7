//! `bitkv COMMAND`: everything but mounting; see `bitkv --help`.

use bitkv::cli::compact::Order;
use bitkv::cli::{
    accesslog, compact, explain_usage, fsck, get, info, ls, mount, put, reshard, rm, scrub, stat, stats,
    status, umount,
};
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Looks after BitKV stores.
#[derive(Parser)]
#[command(name = "bitkv", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Files of a store.
#[derive(clap::Args)]
struct Paths {
    /// Paths in a mounted store, or in the directory of a store that isn't mounted (DATA/a/b); or the store first, then paths in it
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Mounts a store: the same as bitkv-mount
    #[command(disable_help_flag = true)]
    Mount {
        /// See bitkv-mount --help
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Unmounts, and waits until the daemon has synced and gone; its exit status is ours
    Umount {
        /// Options of umount(8), and the mountpoint
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Shows whether a store is mounted and well
    Status {
        /// Where it is mounted, or its directory [default: all mounted stores]
        path: Option<PathBuf>,
    },
    /// Shows the statistics of a mounted store
    Stats {
        /// Where it is mounted, or its directory
        path: PathBuf,
        /// As one object
        #[arg(long)]
        json: bool,
    },
    /// Shows the operations of a mounted store as they end; they are recorded only while somebody follows
    Accesslog {
        /// Where it is mounted, or its directory
        path: PathBuf,
        /// Go on showing what comes
        #[arg(short, long)]
        follow: bool,
    },
    /// Writes the content of a file to standard output
    Get {
        #[command(flatten)]
        paths: Paths,
    },
    /// Replaces the content of a file with standard input, whole or not at all; durable when it returns
    Put {
        #[command(flatten)]
        paths: Paths,
        /// Take the content of this file instead
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Removes files; durable when it returns
    Rm {
        #[command(flatten)]
        paths: Paths,
        /// Also directories, with everything in them
        #[arg(short, long)]
        recursive: bool,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
    /// Lists names
    Ls {
        #[command(flatten)]
        paths: Paths,
        /// With kind, permissions, links, owner, size and time of the last change
        #[arg(short, long)]
        long: bool,
        /// As an array of objects
        #[arg(long, conflicts_with = "long")]
        json: bool,
    },
    /// Writes the contents of files to standard output, one after the other
    Cat {
        #[command(flatten)]
        paths: Paths,
    },
    /// Shows what is known of a file
    Stat {
        #[command(flatten)]
        paths: Paths,
        /// As one object a line
        #[arg(long)]
        json: bool,
    },
    /// Shows where in the store a file's records lie
    Info {
        #[command(flatten)]
        paths: Paths,
        /// As one object a line
        #[arg(long)]
        json: bool,
    },
    /// Checks an unmounted store, and changes nothing: exit code 0 clean, 4 errors, 8 could not run
    Fsck {
        /// The store's directory
        data: PathBuf,
        /// As one object
        #[arg(long)]
        json: bool,
    },
    /// Compacts a mounted store, or holds its compaction
    Compact {
        /// Where it is mounted, or its directory
        path: PathBuf,
        /// Return when it is done
        #[arg(long)]
        wait: bool,
        /// Only this partition
        #[arg(long, value_name = "N")]
        partition: Option<u16>,
        /// Hold all compaction where it is, until it is resumed or the store is mounted again
        #[arg(long, conflicts_with_all = ["wait", "partition", "resume"])]
        pause: bool,
        /// Let it go on
        #[arg(long, conflicts_with_all = ["wait", "partition"])]
        resume: bool,
        /// Show how far it is
        #[arg(long, conflicts_with_all = ["wait", "partition", "pause", "resume"])]
        progress: bool,
    },
    /// Gives a store that isn't mounted another number of partitions
    Reshard {
        /// The store's directory
        data: PathBuf,
        /// How many partitions
        #[arg(long, value_name = "N")]
        partitions: u16,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
    /// Verifies everything that lies on the disk of a mounted store, or goes on where that was stopped
    Scrub {
        /// Where it is mounted, or its directory
        path: PathBuf,
        /// Return when it is done, and tell what was found
        #[arg(long)]
        wait: bool,
        /// Stop the one that runs
        #[arg(long, conflicts_with_all = ["wait", "rate"])]
        stop: bool,
        /// The most bytes that it reads in a second; 0 is without limit [default: 50M]
        #[arg(long, value_name = "SIZE")]
        rate: Option<String>,
    },
}

fn run(arguments: Vec<OsString>) -> i32 {
    let called = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    // As a helper of umount(8).
    if called.to_string_lossy().starts_with("umount.") {
        return umount::run_as_helper(&arguments[1..]);
    }
    match Arguments::try_parse_from(arguments) {
        Err(error) => explain_usage("bitkv", &error),
        Ok(Arguments { command }) => match command {
            Command::Mount { arguments } => {
                mount::run(std::iter::once(OsString::from("bitkv-mount")).chain(arguments).collect())
            }
            Command::Umount { arguments } => umount::run(&arguments),
            Command::Status { path } => status::run(path.as_deref()),
            Command::Stats { path, json } => stats::run(&path, json),
            Command::Accesslog { path, follow } => accesslog::run(&path, follow),
            Command::Get { paths } => get::run("bitkv get", &paths.paths, true),
            Command::Cat { paths } => get::run("bitkv cat", &paths.paths, false),
            Command::Put { paths, from } => put::run(&paths.paths, from.as_deref()),
            Command::Rm { paths, recursive, yes } => rm::run(&paths.paths, recursive, yes),
            Command::Ls { paths, long, json } => {
                let format = match (long, json) {
                    (true, _) => ls::Format::Long,
                    (_, true) => ls::Format::Json,
                    _ => ls::Format::Short,
                };
                ls::run(&paths.paths, format)
            }
            Command::Stat { paths, json } => stat::run(&paths.paths, json),
            Command::Info { paths, json } => info::run(&paths.paths, json),
            Command::Compact { path, wait, partition, pause, resume, progress } => {
                let order = match (pause, resume, progress) {
                    (true, ..) => Order::Pause,
                    (_, true, _) => Order::Resume,
                    (.., true) => Order::Progress,
                    _ => Order::Compact { partition, wait },
                };
                compact::run(&path, order)
            }
            Command::Reshard { data, partitions, yes } => reshard::run(&data, partitions, yes),
            Command::Scrub { path, wait, stop, rate } => scrub::run(&path, wait, stop, rate.as_deref()),
            Command::Fsck { data, json } => fsck::run(&data, json),
        },
    }
}

fn main() {
    std::process::exit(run(std::env::args_os().collect()));
}
