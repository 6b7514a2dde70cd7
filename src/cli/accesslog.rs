//! `bitkv accesslog -f MNT`: shows operations as they end. They are recorded only while somebody follows.

use super::{control, finish};
use std::path::Path;
use std::time::Duration;

/// How often new operations are asked for: more than 4,096 in this time, and some are missed.
const POLL: Duration = Duration::from_millis(50);

/// Shows the operations of a mount that are remembered, and with `follow` what comes, until the mount ends or nobody reads any more; returns the exit code.
pub fn run(path: &Path, follow: bool) -> i32 {
    let shown = control::directory(path).and_then(|directory| match follow {
        false => control::read(&directory, "accesslog").and_then(|text| control::print(&text)),
        true => follow_operations(&directory),
    });
    finish("bitkv accesslog", shown)
}

fn follow_operations(directory: &Path) -> Result<(), String> {
    control::write(directory, "accesslog", "follow\n")?;
    // What was recorded for somebody else before isn't ours.
    let mut last =
        lines(&control::read(directory, "accesslog")?).map(|(number, _)| number).last().unwrap_or(0);
    let mut header_is_due = true;
    loop {
        std::thread::sleep(POLL);
        control::write(directory, "accesslog", "follow\n")?;
        let text = control::read(directory, "accesslog")?;
        let mut out = match std::mem::take(&mut header_is_due) {
            true => format!("{}\n", text.lines().next().unwrap_or_default()),
            false => String::new(),
        };
        out.push_str(&news(&text, &mut last));
        if !out.is_empty() && !control::print_to_reader(&out)? {
            return Ok(());
        }
    }
}

/// The lines behind the last one that was seen; if some are missing, a line that says so.
fn news(text: &str, last: &mut u64) -> String {
    let mut out = String::new();
    for (number, line) in lines(text).filter(|(number, _)| *number > *last).collect::<Vec<_>>() {
        if number > *last + 1 {
            out.push_str(&format!("# {} operations were missed\n", number - *last - 1));
        }
        out.push_str(line);
        out.push('\n');
        *last = number;
    }
    out
}

/// Lines of the table with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    text.lines().skip(1).filter_map(|line| Some((line.split('\t').next()?.parse().ok()?, line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_shown_once_and_gaps_are_told() {
        let mut last = 3;
        assert_eq!(news("number\tended\n3\ta\n4\tb\n5\tc\n", &mut last), "4\tb\n5\tc\n");
        assert_eq!(news("number\tended\n4\tb\n5\tc\n", &mut last), "");
        assert_eq!(news("number\tended\n9\td\n", &mut last), "# 3 operations were missed\n9\td\n");
        assert_eq!(last, 9);
    }
}
