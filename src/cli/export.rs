//! `bitkv export STORE`: all files of a store, at one moment, as a tar archive.

use super::dump::with_output;
use super::progress::{Progress, Unit, bytes};
use super::still::Still;
use super::tar;
use super::tree::unmounted::UnmountedTree;
use super::{complain, finish, say};
use std::io::BufWriter;
use std::path::Path;

const PROGRAM: &str = "bitkv export";

/// Writes the archive to a file that isn't there yet, or to standard output; returns the exit code.
pub fn run(store: &Path, output: Option<&Path>) -> i32 {
    finish(PROGRAM, write(store, output))
}

fn write(store: &Path, output: Option<&Path>) -> Result<(), String> {
    with_output(output, |out| {
        let still = Still::open(store)?;
        let counts = still.volume.counts();
        let tree = UnmountedTree::of(still.volume.clone());
        let mut progress = Progress::new(PROGRAM, Unit::Files, counts.files + counts.directories);
        let done = tar::export(
            &tree,
            BufWriter::with_capacity(1 << 20, out),
            |done| progress.at(done.entries),
            |left_out| complain(PROGRAM, left_out),
        )?;
        let took = progress.end();
        let (entries, size) = (done.entries, bytes(done.bytes as f64));
        say(&format!("{PROGRAM}: {entries} entries, {size} in {:.1} s", took.as_secs_f64()));
        match done.left_out {
            0 => Ok(()),
            count => Err(format!(
                "{count} things could not be put into the archive, see above; all others are in it"
            )),
        }
    })
}
