//! `bitkv fsck DATA`: whether what an unmounted store keeps agrees with itself; reads everything. With `--repair` it tells what it would do
//! about what doesn't, and with `--yes` does it.

use super::complain;
use super::json::{Object, array, quoted};
use super::tree::unmounted::{open_for_repair, run as run_in};
use crate::fs::check::{Finding, Repaired};
use crate::fs::types::Inode;
use crate::fs::volume::Near;
use std::path::Path;

/// Exit code: nothing was found.
const CLEAN: i32 = 0;
/// Exit code: errors were found, and none is left.
const REPAIRED: i32 = 1;
/// Exit code: errors are left.
const ERRORS_LEFT: i32 = 4;
/// Exit code: the check could not run.
const NOT_RUN: i32 = 8;

/// What is to be done about what is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Nothing.
    Check,
    /// Tell what a repair would do.
    Propose,
    /// Repair it.
    Repair,
}

/// Checks a store, and prints what doesn't agree, a line each or as one object; returns the exit code.
pub fn run(data: &Path, mode: Mode, json: bool) -> i32 {
    let found = match check(data, mode) {
        Ok(found) => found,
        Err(reason) => {
            complain("bitkv fsck", &reason);
            return NOT_RUN;
        }
    };
    let name = data.display().to_string();
    let text = if json { as_object(&name, &found) } else { as_lines(&name, &found, mode) };
    if let Err(reason) = super::control::print(&text) {
        complain("bitkv fsck", &reason);
        return NOT_RUN;
    }
    match (found.left.is_empty(), found.done.is_empty()) {
        (false, _) => ERRORS_LEFT,
        (true, false) => REPAIRED,
        (true, true) => CLEAN,
    }
}

fn check(data: &Path, mode: Mode) -> Result<Repaired, String> {
    let name = data.display();
    let volume = open_for_repair(data, mode != Mode::Repair)?;
    let found = run_in(&volume, Near::Inode(Inode::ROOT), move |volume| async move {
        match mode {
            Mode::Repair => volume.repair().await,
            Mode::Check | Mode::Propose => Ok(Repaired { done: Vec::new(), left: volume.check().await }),
        }
    });
    volume.close().map_err(|error| {
        format!("{name}: closing the store: {}", std::io::Error::from_raw_os_error(error.0))
    })?;
    found.map_err(|error| format!("{name}: the check was broken off: {error}"))
}

fn line(text: &str) -> String {
    format!("{}\n", text.replace('\n', " "))
}

fn as_lines(name: &str, found: &Repaired, mode: Mode) -> String {
    let done = found.done.iter().map(|finding| line(&format!("{finding}: repaired: {}", finding.remedy())));
    let left = found.left.iter().map(|finding| match mode {
        Mode::Propose => line(&format!("{finding}: a repair would: {}", finding.remedy())),
        _ => line(&finding.to_string()),
    });
    let mut text: String = done.chain(left).collect();
    match (found.left.len(), found.done.len()) {
        (0, 0) => text.push_str(&format!("{name}: clean\n")),
        (0, done) => text.push_str(&format!("{name}: {done} errors repaired\n")),
        (left, 0) => text.push_str(&format!("{name}: {left} errors\n")),
        (left, done) => text.push_str(&format!("{name}: {done} errors repaired, {left} left\n")),
    }
    text
}

fn as_object(name: &str, found: &Repaired) -> String {
    let list = |findings: &[Finding]| array(findings.iter().map(|finding| quoted(&finding.to_string())));
    let object = Object::default().text("store", name).plain("errors", found.left.len());
    let object = object.plain("findings", list(&found.left)).plain("repaired", list(&found.done));
    format!("{}\n", object.line())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_lines_or_one_object() {
        let left =
            vec![Finding::Partition("a \"name\"\n".to_string()), Finding::Partition("two\\".to_string())];
        let found = Repaired { done: Vec::new(), left };
        assert_eq!(
            as_lines("d", &found, Mode::Check),
            "partition a \"name\"  can't be checked\npartition two\\ can't be checked\nd: 2 errors\n"
        );
        assert_eq!(
            as_object("d", &found),
            "{\"store\":\"d\",\"errors\":2,\"findings\":[\"partition a \\\"name\\\"\\u000a can't be checked\",\
             \"partition two\\\\ can't be checked\"],\"repaired\":[]}\n"
        );
        let links = || vec![Finding::Links { inode: Inode(7), says: 1, has: 2 }];
        let proposed = Repaired { done: Vec::new(), left: links() };
        assert_eq!(
            as_lines("d", &proposed, Mode::Propose),
            "inode 7 says 1 links and has 2: a repair would: set the link count\nd: 1 errors\n"
        );
        let repaired = Repaired { done: links(), left: Vec::new() };
        assert_eq!(
            as_lines("d", &repaired, Mode::Repair),
            "inode 7 says 1 links and has 2: repaired: set the link count\nd: 1 errors repaired\n"
        );
        assert_eq!(
            as_lines("d", &Repaired { done: Vec::new(), left: Vec::new() }, Mode::Check),
            "d: clean\n"
        );
    }
}
