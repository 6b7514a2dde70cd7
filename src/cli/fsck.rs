//! `bitkv fsck DATA`: whether what an unmounted store keeps agrees with itself. Changes nothing; reads everything.

use super::complain;
use super::json::{Object, array, quoted};
use super::tree::Access;
use super::tree::unmounted::{open_volume, run as run_in};
use crate::fs::types::Inode;
use crate::fs::volume::Near;
use std::path::Path;

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
    let volume = open_volume(data, Access::Read)?;
    let findings =
        run_in(&volume, Near::Inode(Inode::ROOT), |volume| async move { Ok(volume.check().await) });
    volume.close().map_err(|error| {
        format!("{name}: closing the store: {}", std::io::Error::from_raw_os_error(error.0))
    })?;
    findings.map_err(|_| format!("{name}: the check was broken off"))
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
    let object = Object::default().text("store", name).plain("errors", findings.len());
    let findings = array(findings.iter().map(|finding| quoted(finding)));
    format!("{}\n", object.plain("findings", findings).line())
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
