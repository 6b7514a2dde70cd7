//! The commands. Each is a file: options in, a call of the library, an exit code out. No logic of the store's.

pub mod accesslog;
pub mod backup;
pub mod bench;
pub mod compact;
pub mod completions;
mod control;
pub mod dump;
pub mod export;
pub mod fsck;
pub mod get;
pub mod import;
pub mod info;
mod json;
pub mod load;
pub mod ls;
pub mod man;
pub mod mount;
mod mounts;
mod progress;
pub mod put;
pub mod reshard;
pub mod rm;
pub mod scrub;
pub mod stat;
pub mod stats;
pub mod status;
mod still;
mod tar;
pub mod top;
mod tree;
pub mod umount;

/// Exit code: done.
pub const DONE: i32 = 0;
/// Exit code: failed.
pub const FAILED: i32 = 1;
/// Exit code: wrong usage.
pub const USAGE: i32 = 2;

/// Says on standard error what failed: one line, whatever it holds.
fn complain(who: &str, reason: &str) {
    eprintln!("{who}: {}", reason.replace('\n', " "));
}

/// Says on standard error what was done; standard output is for what was asked for.
fn say(what: &str) {
    eprintln!("{what}");
}

/// The exit code of an outcome; a failure is told.
fn finish(who: &str, outcome: Result<(), String>) -> i32 {
    match outcome {
        Ok(()) => DONE,
        Err(reason) => {
            complain(who, &reason);
            FAILED
        }
    }
}

/// What is wrong with a command line, as one line; help and version are printed as they are. Returns the exit code.
pub fn explain_usage(who: &str, error: &clap::Error) -> i32 {
    if !error.use_stderr() {
        let _ = error.print();
        return DONE;
    }
    complain(who, &format!("{}; see {who} --help", one_line(&error.to_string())));
    USAGE
}

/// The parts of clap's explanation that say what is wrong and what to do: not the usage, nor where to find help.
fn one_line(text: &str) -> String {
    let parts = text.split("\n\n").filter(|part| {
        let part = part.trim_start();
        !part.is_empty() && !part.starts_with("Usage:") && !part.starts_with("For more information")
    });
    let words = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = parts.map(words).collect::<Vec<_>>().join("; ");
    line.strip_prefix("error: ").unwrap_or(&line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_is_brief() {
        let text = "error: unexpected argument '--thread' found\n\n  tip: a similar argument exists: '--threads'\n\n\
                    Usage: bitkv-mount <DATA>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            one_line(text),
            "unexpected argument '--thread' found; tip: a similar argument exists: '--threads'"
        );
    }
}
