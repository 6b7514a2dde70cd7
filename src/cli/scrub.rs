//! `bitkv scrub MNT`: verifies everything that lies on the disk of a mounted store.

use super::progress::{Progress, Unit};
use super::{control, finish};
use std::path::Path;

/// Starts a verification of a mount, or stops it; waits for it if told to, and shows then what it came to. Returns the exit code.
pub fn run(path: &Path, wait: bool, stop: bool, rate: Option<&str>) -> i32 {
    let mut order = if stop { "stop" } else { "start" }.to_string();
    if let Some(rate) = rate {
        order += &format!(" rate={rate}");
    }
    if wait {
        order += " wait";
    }
    let ordered = control::directory(path).and_then(|directory| {
        let order = format!("{order}\n");
        if !wait {
            return control::write(&directory, "scrub", &order);
        }
        let progress = Progress::new("bitkv scrub", Unit::Bytes, 0);
        let done = |text: &str| Some((number(text, "bytes_done")?, number(text, "bytes_total")?));
        control::write_watched(&directory, "scrub", &order, progress, done)?;
        result(&control::read(&directory, "scrub")?)
    });
    finish("bitkv scrub", ordered)
}

/// A number of the file.
fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?.parse().ok()
}

/// Shows it; an error if anything is damaged, or not everything was seen.
fn result(text: &str) -> Result<(), String> {
    control::print(text)?;
    let count = |name: &str| number(text, name).unwrap_or(0);
    let (values, places) = (count("damaged_values"), count("damaged_places"));
    if values + places > 0 {
        return Err(format!("{values} values and {places} places are damaged: see .bitkv/errors"));
    }
    match text.lines().next() {
        Some("done") => Ok(()),
        _ => Err("it was stopped before its end: start it again to go on".to_string()),
    }
}
