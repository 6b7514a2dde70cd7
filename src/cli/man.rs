//! `bitkv man [PAGE]`: manual pages, made of what `--help` says.

use super::{USAGE, complain, control, finish, mount};
use clap_mangen::Man;
use std::io;
use std::path::Path;

const PROGRAM: &str = "bitkv man";

/// Writes a page to standard output (`bitkv`, `bitkv-mount`, or `bitkv-` and a command), or all of them into a directory; returns the exit code.
pub fn run(command: &clap::Command, page: &str, directory: Option<&Path>) -> i32 {
    match directory {
        Some(directory) => finish(PROGRAM, all(command, directory)),
        None => match rendered(command, page) {
            Some(text) => {
                finish(PROGRAM, text.map_err(explained).and_then(|text| control::print_bytes(&text)))
            }
            None => {
                complain(
                    PROGRAM,
                    &format!("there is no page {page}; name bitkv, bitkv-mount, or bitkv-COMMAND"),
                );
                USAGE
            }
        },
    }
}

fn explained(error: io::Error) -> String {
    format!("making the page: {error}")
}

fn pages(command: &clap::Command) -> Vec<clap::Command> {
    let mut whole = command.clone();
    // Only then do the parts know the whole's name.
    whole.build();
    let parts = whole.get_subcommands().filter(|part| part.get_name() != "help");
    let parts: Vec<clap::Command> =
        parts.map(|part| part.clone().display_name(format!("bitkv-{}", part.get_name()))).collect();
    [whole.clone(), mount::command().display_name("bitkv-mount")].into_iter().chain(parts).collect()
}

fn rendered(command: &clap::Command, page: &str) -> Option<io::Result<Vec<u8>>> {
    let wanted = pages(command).into_iter().find(|found| name_of(found) == page)?;
    let mut out = Vec::new();
    Some(Man::new(wanted).render(&mut out).map(|()| out))
}

fn name_of(page: &clap::Command) -> String {
    page.get_display_name().unwrap_or(page.get_name()).to_string()
}

fn all(command: &clap::Command, directory: &Path) -> Result<(), String> {
    for page in pages(command) {
        let path = directory.join(format!("{}.1", name_of(&page)));
        let mut out = Vec::new();
        let made = Man::new(page).render(&mut out).and_then(|()| std::fs::write(&path, &out));
        made.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::DONE;
    use super::*;

    #[test]
    fn there_is_a_page_for_each_program_and_command() {
        let command = clap::Command::new("bitkv").subcommand(clap::Command::new("status").about("Shows it"));
        let names: Vec<String> = pages(&command).iter().map(name_of).collect();
        assert_eq!(names, ["bitkv", "bitkv-mount", "bitkv-status"]);
        let page = String::from_utf8(rendered(&command, "bitkv-status").unwrap().unwrap()).unwrap();
        assert!(page.contains("Shows it") && page.contains(".TH"), "{page}");
        assert!(rendered(&command, "bitkv-none").is_none());
        let place = tempfile::tempdir().unwrap();
        assert_eq!(run(&command, "", Some(place.path())), DONE);
        assert!(place.path().join("bitkv-mount.1").is_file());
    }
}
