//! `bitkv import STORE`: a tar archive's files into a store, mounted or not.

use super::progress::{Progress, Unit, bytes};
use super::tree::{Access, Opened, open, said};
use super::{complain, finish, say, tar};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

const PROGRAM: &str = "bitkv import";

/// Reads the archive from a file, or from standard input; returns the exit code. Everything is durable when this returns.
pub fn run(store: &Path, input: Option<&Path>, overwrite: bool) -> i32 {
    finish(PROGRAM, read(store, input, overwrite))
}

fn read(store: &Path, input: Option<&Path>, overwrite: bool) -> Result<(), String> {
    let (source, total): (Box<dyn Read>, u64) = match input {
        Some(path) => {
            let named = |error: io::Error| format!("{}: {error}", path.display());
            let file = File::open(path).map_err(named)?;
            let length = file.metadata().map_err(named)?.len();
            (Box::new(file), length)
        }
        None => (Box::new(io::stdin().lock()), 0),
    };
    let Opened { tree, paths } = open(&[store.to_path_buf()], Access::Write)?;
    if paths != [PathBuf::new()] {
        return Err(format!("{}: name the store itself", store.display()));
    }
    let owners = nix::unistd::geteuid().is_root();
    let read_bytes = Cell::new(0);
    let mut progress = Progress::new(PROGRAM, Unit::Bytes, total);
    let source = Counted { from: BufReader::with_capacity(1 << 20, source), read_bytes: &read_bytes };
    let done = tar::import(
        &*tree,
        source,
        overwrite,
        owners,
        |_| progress.at(read_bytes.get()),
        |left_out| complain(PROGRAM, left_out),
    );
    let synced = tree.sync().map_err(|error| said(Path::new(""), &error));
    let closed = tree.close().map_err(|error| said(Path::new(""), &error));
    let done = done?;
    synced.and(closed)?;
    let took = progress.end();
    say(&format!(
        "{PROGRAM}: {} entries, {} in {:.1} s",
        done.entries,
        bytes(done.bytes as f64),
        took.as_secs_f64()
    ));
    match done.left_out {
        0 => Ok(()),
        count => Err(format!("{count} things could not be taken over, see above; all others are there")),
    }
}

/// Counts what is read.
struct Counted<'a, R> {
    from: R,
    read_bytes: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.read_bytes.set(self.read_bytes.get() + count as u64);
        Ok(count)
    }
}
