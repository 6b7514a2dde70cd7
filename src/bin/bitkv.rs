//! `bitkv COMMAND`: everything but mounting; see `bitkv --help`.

use bitkv::cli::compact::Order;
use bitkv::cli::{
    accesslog, backup, bench, compact, completions, dump, explain_usage, export, fsck, get, import, info,
    load, ls, man, mount, put, reshard, rm, scrub, stat, stats, status, top, umount,
};
use bitkv::fs::control::units;
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        /// As an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Shows the statistics of a mounted store
    Stats {
        /// Where it is mounted, or its directory
        path: PathBuf,
        /// As one object
        #[arg(long)]
        json: bool,
    },
    /// Shows what a mounted store does, live on a terminal, elsewhere once
    Top {
        /// Where it is mounted, or its directory
        path: PathBuf,
        /// How often it is shown anew
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::time)]
        interval: Duration,
    },
    /// Measures how fast small files are in a directory, of a mounted store or of any other filesystem
    Bench {
        /// Where a directory with files is made, and removed at the end
        directory: PathBuf,
        /// How many files each thread has
        #[arg(long, value_name = "N", default_value_t = 2000)]
        files: usize,
        /// How large they are
        #[arg(long, value_name = "SIZE", default_value = "1K", value_parser = units::size)]
        size: u64,
        /// How many threads
        #[arg(long, value_name = "N", default_value_t = 1)]
        threads: usize,
        /// As one object
        #[arg(long)]
        json: bool,
    },
    /// Writes what a shell needs to complete command lines of bitkv and bitkv-mount
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Writes a manual page: bitkv man bitkv-put | man -l -
    Man {
        /// bitkv, bitkv-mount, or bitkv- and a command
        #[arg(default_value = "bitkv")]
        page: String,
        /// Write all pages into this directory instead
        #[arg(long, value_name = "DIRECTORY", conflicts_with = "page")]
        all: Option<PathBuf>,
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
    /// Copies a store into another directory of the same filesystem, by hard links, as it is at one moment
    Backup {
        /// Where it is mounted, or its directory
        store: PathBuf,
        /// Where the copy goes: empty, or not there yet
        directory: PathBuf,
    },
    /// Writes all records of a store, as they are at one moment, as a stream
    Dump {
        /// Where it is mounted, or its directory
        store: PathBuf,
        /// Write to this file, which isn't there yet [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Makes a new store out of a dump
    Load {
        /// The directory of the new store: empty, or not there yet
        data: PathBuf,
        /// Read from this file [default: standard input]
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
        /// How many partitions [default: as many as the dumped store had]
        #[arg(long, value_name = "N")]
        partitions: Option<u16>,
    },
    /// Writes all files of a store, as they are at one moment, as an archive
    Export {
        /// Where it is mounted, or its directory
        store: PathBuf,
        /// Of which format the archive is
        #[arg(long, value_name = "FORMAT", default_value = "tar", value_parser = ["tar"])]
        format: String,
        /// Write to this file, which isn't there yet [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Unpacks a tar archive into a store; everything is durable when it returns
    Import {
        /// Where it is mounted, or its directory
        store: PathBuf,
        /// Read from this file [default: standard input]
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
        /// Replace files that are there already
        #[arg(long)]
        overwrite: bool,
    },
    /// Checks an unmounted store: exit code 0 clean, 1 repaired, 4 errors left, 8 could not run
    Fsck {
        /// The store's directory
        data: PathBuf,
        /// Show what a repair would do about what is found; with --yes, do it
        #[arg(long)]
        repair: bool,
        /// Change the store: records that can't be read, names that lead nowhere and chunks of no file go
        #[arg(long, requires = "repair")]
        yes: bool,
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
            Command::Status { path, json } => status::run(path.as_deref(), json),
            Command::Stats { path, json } => stats::run(&path, json),
            Command::Top { path, interval } => top::run(&path, interval),
            Command::Bench { directory, files, size, threads, json } => {
                bench::run(&directory, bench::Plan { files, bytes: size, threads }, json)
            }
            Command::Completions { shell } => completions::run(Arguments::command(), shell),
            Command::Man { page, all } => man::run(&Arguments::command(), &page, all.as_deref()),
            Command::Accesslog { path, follow } => accesslog::run(&path, follow),
            Command::Backup { store, directory } => backup::run(&store, &directory),
            Command::Dump { store, output } => dump::run(&store, output.as_deref()),
            Command::Load { data, input, partitions } => load::run(&data, input.as_deref(), partitions),
            Command::Export { store, format: _, output } => export::run(&store, output.as_deref()),
            Command::Import { store, input, overwrite } => import::run(&store, input.as_deref(), overwrite),
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
            Command::Fsck { data, repair, yes, json } => {
                let mode = match (repair, yes) {
                    (true, true) => fsck::Mode::Repair,
                    (true, false) => fsck::Mode::Propose,
                    _ => fsck::Mode::Check,
                };
                fsck::run(&data, mode, json)
            }
        },
    }
}

fn main() {
    std::process::exit(run(std::env::args_os().collect()));
}
