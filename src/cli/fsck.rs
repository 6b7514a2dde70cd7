//! `bitkv fsck DATA`: whether what an unmounted store keeps agrees with itself. Changes nothing; reads everything.

use super::complain;
use crate::engine::clock::RealClock;
use crate::engine::disk::uring::UringDisk;
use crate::engine::{Config, Policy, World};
use crate::fs::types::Inode;
use crate::fs::volume::Near;
use crate::fs::{Volume, VolumeConfig};
use std::path::Path;
use std::sync::mpsc;

/// Exit code: nothing was found.
const CLEAN: i32 = 0;
/// Exit code: errors are left.
const ERRORS_LEFT: i32 = 4;
/// Exit code: the check could not run.
const NOT_RUN: i32 = 8;

/// Checks a store, and prints what doesn't agree, a line each or as one object; returns the exit code.
pub fn run(data: &Path, json: bool) -> i32 {
    let findings = match check(data) {
        Ok(findings) => findings,
        Err(reason) => {
            complain("bitkv fsck", &reason);
            return NOT_RUN;
        }
    };
    let name = data.display().to_string();
    let text = if json { as_object(&name, &findings) } else { as_lines(&name, &findings) };
    if let Err(reason) = super::control::print(&text) {
        complain("bitkv fsck", &reason);
        return NOT_RUN;
    }
    if findings.is_empty() { CLEAN } else { ERRORS_LEFT }
}

fn check(data: &Path) -> Result<Vec<String>, String> {
    let name = data.display();
    let disk =
        UringDisk::open(data, 1, true).map_err(|error| format!("{name}: opening the store: {error}"))?;
    let seed = disk.random_seed().map_err(|error| format!("/dev/urandom: {error}"))?;
    let world = World { disk, clock: RealClock::new(), seed, policy: Policy::Inline };
    let config = Config { create: false, read_only: true, ..Config::default() };
    let volume = VolumeConfig { blocking_threads_max: 1, ..VolumeConfig::default() };
    let volume = Volume::open(world, config, volume).map_err(|error| format!("{name}: {error}"))?;
    let (sender, receiver) = mpsc::channel();
    let checking = volume.clone();
    volume.dispatch(Near::Inode(Inode::ROOT), async move {
        // Whoever asked waits, unless this thread is gone.
        let _ = sender.send(checking.check().await);
    });
    let findings = receiver.recv().map_err(|_| format!("{name}: the check was broken off"));
    volume.close().map_err(|error| {
        format!("{name}: closing the store: {}", std::io::Error::from_raw_os_error(error.0))
    })?;
    findings
}

fn as_lines(name: &str, findings: &[String]) -> String {
    let mut text: String =
        findings.iter().map(|finding| format!("{}\n", finding.replace('\n', " "))).collect();
    match findings.len() {
        0 => text.push_str(&format!("{name}: clean\n")),
        count => text.push_str(&format!("{name}: {count} errors\n")),
    }
    text
}

fn as_object(name: &str, findings: &[String]) -> String {
    let findings: Vec<String> = findings.iter().map(|finding| quoted(finding)).collect();
    let (name, count) = (quoted(name), findings.len());
    format!("{{\"store\":{name},\"errors\":{count},\"findings\":[{}]}}\n", findings.join(","))
}

/// A string as JSON writes it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_lines_or_one_object() {
        let findings = ["a \"name\"\nleads nowhere".to_string(), "two\\".to_string()];
        assert_eq!(as_lines("d", &findings), "a \"name\" leads nowhere\ntwo\\\nd: 2 errors\n");
        assert_eq!(
            as_object("d", &findings),
            "{\"store\":\"d\",\"errors\":2,\"findings\":[\"a \\\"name\\\"\\u000aleads nowhere\",\"two\\\\\"]}\n"
        );
        assert_eq!(as_lines("d", &[]), "d: clean\n");
    }
}
