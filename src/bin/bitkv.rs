//! `bitkv COMMAND`: everything but mounting; see `bitkv --help`.

use bitkv::cli::{mount, umount, watch};
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
    /// Unmounts, and waits until the daemon has synced and gone
    Umount {
        /// Options of umount(8), and the mountpoint
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Shows whether a mounted store is well
    Status {
        /// Where it is mounted
        mountpoint: PathBuf,
    },
    /// Shows the statistics of a mounted store
    Stats {
        /// Where it is mounted
        mountpoint: PathBuf,
        /// As one object
        #[arg(long)]
        json: bool,
    },
    /// Compacts a mounted store
    Compact {
        /// Where it is mounted
        mountpoint: PathBuf,
        /// Return when it is done
        #[arg(long)]
        wait: bool,
    },
}

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let called =
        arguments.first().map(Path::new).and_then(Path::file_name).map(|name| name.to_string_lossy());
    // As a helper of umount(8).
    if called.is_some_and(|name| name.starts_with("umount.")) {
        let rest: Vec<String> = std::env::args().skip(1).collect();
        std::process::exit(umount::run(&rest));
    }
    let code = match Arguments::parse().command {
        Command::Mount { arguments } => {
            mount::run(std::iter::once(OsString::from("bitkv-mount")).chain(arguments).collect())
        }
        Command::Umount { arguments } => umount::run(&arguments),
        Command::Status { mountpoint } => watch::status(&mountpoint),
        Command::Stats { mountpoint, json } => watch::stats(&mountpoint, json),
        Command::Compact { mountpoint, wait } => watch::compact(&mountpoint, wait),
    };
    std::process::exit(code);
}
