//! `bitkv dump STORE`: everything in a store, at one moment, as a stream.

use super::progress::{Progress, Unit, bytes};
use super::still::Still;
use super::{finish, say};
use crate::fs::dump;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

const PROGRAM: &str = "bitkv dump";

/// Writes the dump to a file that isn't there yet, or to standard output; returns the exit code.
pub fn run(store: &Path, output: Option<&Path>) -> i32 {
    finish(PROGRAM, write(store, output))
}

fn write(store: &Path, output: Option<&Path>) -> Result<(), String> {
    with_output(output, |out| {
        let still = Still::open(store)?;
        let stats = still.volume.store().stats();
        let mut progress = Progress::new(PROGRAM, Unit::Bytes, stats.live_bytes);
        let mut dumped = 0;
        let records = dump::dump(&still.volume, BufWriter::new(out), |_, bytes| {
            dumped = bytes;
            progress.at(bytes);
        })?;
        let took = progress.end();
        say(&format!(
            "{PROGRAM}: {records} records, {} in {:.1} s",
            bytes(dumped as f64),
            took.as_secs_f64()
        ));
        Ok(())
    })
}

/// Has something written to a file that isn't there yet, and is durable then, or to standard output. A file that didn't become whole is removed.
///
/// # Errors
/// If there can be no such file, or standard output is a terminal; what `write` says.
pub(super) fn with_output(
    output: Option<&Path>,
    write: impl FnOnce(&mut dyn Write) -> Result<(), String>,
) -> Result<(), String> {
    let Some(path) = output else {
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            return Err(
                "standard output is a terminal: send it to a file or a pipe, or name a file with --output"
                    .into(),
            );
        }
        return write(&mut out);
    };
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let mut file = File::create_new(path).map_err(named)?;
    let written = write(&mut file).and_then(|()| file.sync_all().map_err(named));
    if written.is_err() {
        // The first failure is the one to tell.
        let _ = std::fs::remove_file(path);
    }
    written
}
