//! `bitkv bench DIRECTORY`: how fast small files are there, mounted or not: the same on any directory, so that they can be compared.

use super::json::{Object, array};
use super::{USAGE, complain, control, finish};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PROGRAM: &str = "bitkv bench";

/// What is done with how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// How many files each thread has.
    pub files: usize,
    /// How large they are, in bytes.
    pub bytes: u64,
    /// How many threads.
    pub threads: usize,
}

/// One kind of operation.
struct Work {
    name: &'static str,
    run: fn(&Path, usize, &[u8]) -> io::Result<()>,
}

/// In this order: each finds what those before it have left.
const WORKS: [Work; 7] = [
    Work { name: "create", run: |directory, number, content| create(directory, number, content).map(drop) },
    Work { name: "stat", run: |directory, number, _| fs::metadata(file(directory, number)).map(drop) },
    Work { name: "read", run: |directory, number, _| fs::read(file(directory, number)).map(drop) },
    Work { name: "overwrite", run: |directory, number, content| fs::write(file(directory, number), content) },
    Work { name: "durable", run: durable },
    Work {
        name: "rename",
        run: |directory, number, _| fs::rename(file(directory, number), renamed(directory, number)),
    },
    Work { name: "unlink", run: |directory, number, _| fs::remove_file(renamed(directory, number)) },
];
/// Of these, only so many, since each waits for the disk.
const DURABLE_SHARE: usize = 10;

fn file(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("file{number}"))
}

fn renamed(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("renamed{number}"))
}

fn create(directory: &Path, number: usize, content: &[u8]) -> io::Result<File> {
    let mut file = File::create_new(file(directory, number))?;
    file.write_all(content)?;
    Ok(file)
}

/// A new file, and its fsync; it goes at once.
fn durable(directory: &Path, number: usize, content: &[u8]) -> io::Result<()> {
    let name = usize::MAX - number;
    create(directory, name, content)?.sync_all()?;
    fs::remove_file(file(directory, name))
}

/// Runs all of it in a directory of its own, which goes at the end; returns the exit code.
pub fn run(directory: &Path, plan: Plan, json: bool) -> i32 {
    if plan.files == 0 || plan.threads == 0 || plan.threads > 1024 || plan.bytes > 1 << 30 {
        complain(PROGRAM, "at least one file, 1 to 1024 threads, and files of 1G at most");
        return USAGE;
    }
    finish(PROGRAM, measure(directory, plan, json))
}

fn measure(directory: &Path, plan: Plan, json: bool) -> Result<(), String> {
    let own = Own::inside(directory)?;
    let content: Vec<u8> = (0..plan.bytes).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut rows = Vec::new();
    for work in &WORKS {
        rows.push(measured(work, &own.path, plan, &content)?);
    }
    drop(own);
    control::print(&if json { as_object(directory, plan, &rows) } else { as_table(plan, &rows) })
}

/// What came of one kind of operation.
struct Row {
    name: &'static str,
    operations: usize,
    seconds: f64,
    p50_us: f64,
    p99_us: f64,
}

fn measured(work: &Work, directory: &Path, plan: Plan, content: &[u8]) -> Result<Row, String> {
    let started = Instant::now();
    let outcome: io::Result<Vec<Vec<Duration>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|thread| {
                let place = directory.join(thread.to_string());
                scope.spawn(move || one_thread(work, &place, plan.files, content))
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    let mut times: Vec<Duration> = outcome
        .map_err(|error| format!("{}: {}: {error}", directory.display(), work.name))?
        .into_iter()
        .flatten()
        .collect();
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len() as f64 * share) as usize).min(times.len() - 1);
        times[index].as_secs_f64() * 1e6
    };
    Ok(Row { name: work.name, operations: times.len(), seconds, p50_us: at(0.5), p99_us: at(0.99) })
}

fn one_thread(work: &Work, place: &Path, files: usize, content: &[u8]) -> io::Result<Vec<Duration>> {
    fs::create_dir_all(place)?;
    let step = if work.name == "durable" { DURABLE_SHARE } else { 1 };
    let mut times = Vec::with_capacity(files);
    for number in (0..files).step_by(step) {
        let started = Instant::now();
        (work.run)(place, number, content)?;
        times.push(started.elapsed());
    }
    Ok(times)
}

/// A directory of our own; it goes with everything in it.
struct Own {
    path: PathBuf,
}

impl Own {
    fn inside(directory: &Path) -> Result<Own, String> {
        let path = directory.join(format!(".bitkv-bench.{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Own { path })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            complain(PROGRAM, &format!("{}: can't be removed: {error}", self.path.display()));
        }
    }
}

fn as_table(plan: Plan, rows: &[Row]) -> String {
    let Plan { files, bytes, threads } = plan;
    let mut out = format!("{files} files of {bytes} bytes for each of {threads} threads\n");
    out += "operation    operations  per second    p50 us    p99 us\n";
    for Row { name, operations, seconds, p50_us, p99_us } in rows {
        let rate = *operations as f64 / seconds;
        out += &format!("{name:<10} {operations:>12} {rate:>11.0} {p50_us:>9.1} {p99_us:>9.1}\n");
    }
    out
}

fn as_object(directory: &Path, plan: Plan, rows: &[Row]) -> String {
    let row = |row: &Row| {
        Object::default()
            .text("operation", row.name)
            .plain("operations", row.operations)
            .plain("per_second", format!("{:.1}", row.operations as f64 / row.seconds))
            .plain("p50_us", format!("{:.1}", row.p50_us))
            .plain("p99_us", format!("{:.1}", row.p99_us))
            .line()
    };
    let object = Object::default()
        .bytes("directory", directory.as_os_str().as_encoded_bytes())
        .plain("files", plan.files)
        .plain("bytes", plan.bytes)
        .plain("threads", plan.threads)
        .plain("rows", array(rows.iter().map(row)));
    object.line() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_finds_what_it_needs_and_nothing_is_left() {
        let place = tempfile::tempdir().unwrap();
        let plan = Plan { files: 20, bytes: 100, threads: 2 };
        measure(place.path(), plan, true).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        assert_eq!(run(place.path(), Plan { files: 0, ..plan }, false), USAGE);
        assert_eq!(run(&place.path().join("none"), plan, false), super::super::FAILED);
    }

    #[test]
    fn results_are_a_table_or_an_object() {
        let rows = [Row { name: "stat", operations: 10, seconds: 2.0, p50_us: 1.25, p99_us: 3.0 }];
        let plan = Plan { files: 10, bytes: 5, threads: 1 };
        assert!(as_table(plan, &rows).ends_with("stat                 10           5       1.2       3.0\n"));
        assert_eq!(
            as_object(Path::new("d"), plan, &rows),
            "{\"directory\":\"d\",\"files\":10,\"bytes\":5,\"threads\":1,\"rows\":[{\"operation\":\"stat\",\"operations\":10,\
             \"per_second\":5.0,\"p50_us\":1.2,\"p99_us\":3.0}]}\n"
        );
    }
}
