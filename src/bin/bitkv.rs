//! `bitkv COMMAND`: everything but mounting; see `bitkv --help`.

use bitkv::cli::{compact, explain_usage, fsck, mount, stats, status, umount};
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
    /// Checks an unmounted store, and changes nothing: exit code 0 clean, 4 errors, 8 could not run
    Fsck {
        /// The store's directory
        data: PathBuf,
        /// As one object
        #[arg(long)]
        json: bool,
    },
    /// Compacts a mounted store
    Compact {
        /// Where it is mounted, or its directory
        path: PathBuf,
        /// Return when it is done
        #[arg(long)]
        wait: bool,
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
            Command::Fsck { data, json } => fsck::run(&data, json),
            Command::Compact { path, wait } => compact::run(&path, wait),
        },
    }
}

fn main() {
    std::process::exit(run(std::env::args_os().collect()));
}
