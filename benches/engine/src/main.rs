//! The engine beside its peers: the same works, by turns, each in a process of its own; prints a table of medians.
//!
//! `cargo run --release -- [--engines a,b] [--values 100,1024,16384] [--groups hot,cold,durable,reopen,space] [--rounds 3] [--scale 1]
//! [--directory DIRECTORY]`

mod engines;
mod machine;
mod table;
mod works;

use engines::ENGINES;
use std::path::{Path, PathBuf};
use std::process::Command;
use table::Table;
use works::Run;

const GROUPS: &str = "hot,cold,durable,reopen,space";
const REOPENED_VALUE_BYTES: usize = 100;

struct Options {
    engines: Vec<String>,
    values: Vec<usize>,
    groups: Vec<String>,
    rounds: usize,
    scale: f64,
    directory: PathBuf,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--child") {
        return child(&arguments[1..]);
    }
    match options(&arguments) {
        Ok(options) => parent(&options),
        Err(message) => {
            eprintln!("bench-engine: {message}");
            std::process::exit(2);
        }
    }
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        engines: ENGINES.iter().map(|(name, _)| name.to_string()).collect(),
        values: vec![100, 1024, 16 * 1024],
        groups: GROUPS.split(',').map(str::to_string).collect(),
        rounds: 3,
        scale: 1.0,
        directory: std::env::temp_dir().join(format!("bench-engine-{}", std::process::id())),
    };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return Err(format!("{} wants a value", pair[0])) };
        let wrong = |_| format!("{name} can't be {value}");
        let words = || value.split(',').map(str::to_string).collect::<Vec<_>>();
        match name.as_str() {
            "--engines" => {
                options
                    .engines
                    .retain(|engine| words().iter().any(|word| engine.trim_end_matches('*') == word));
            }
            "--values" => {
                options.values =
                    words().iter().map(|word| word.parse()).collect::<Result<_, _>>().map_err(wrong)?;
            }
            "--groups" => options.groups = words(),
            "--rounds" => options.rounds = value.parse().map_err(wrong)?,
            "--scale" => options.scale = value.parse().map_err(|_| format!("{name} can't be {value}"))?,
            "--directory" => options.directory = value.into(),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(options)
}

fn parent(options: &Options) {
    std::fs::create_dir_all(&options.directory).expect("a directory to work in");
    println!("{}\n", machine::describe(&options.directory));
    let mut tables: Vec<(usize, Table)> =
        options.values.iter().map(|size| (*size, Table::default())).collect();
    let mut reopened = Table::default();
    for _ in 0..options.rounds {
        for group in &options.groups {
            for engine in &options.engines {
                if group == "reopen" {
                    reopen(options, engine, &mut reopened);
                    continue;
                }
                for (size, table) in &mut tables {
                    let works = if group == "hot" { &["hot1", "hot2"][..] } else { &[group.as_str()] };
                    for work in works {
                        let store = options.directory.join("store");
                        run(options, work, engine, *size, &store, table);
                        remove(&store);
                    }
                }
            }
        }
    }
    for (size, mut table) in tables {
        println!("## Values of {size} bytes\n");
        table.print(&options.engines);
        println!();
    }
    println!("## A million keys, values of {REOPENED_VALUE_BYTES} bytes\n");
    reopened.print(&options.engines);
    let _ = std::fs::remove_dir_all(&options.directory);
}

fn reopen(options: &Options, engine: &str, table: &mut Table) {
    for (leave, how) in [("leave-closed", "a clean close"), ("leave-killed", "kill -9")] {
        let store = options.directory.join("store");
        run(options, leave, engine, REOPENED_VALUE_BYTES, &store, table);
        run(options, &format!("reopen {how}"), engine, REOPENED_VALUE_BYTES, &store, table);
        remove(&store);
    }
}

fn remove(store: &Path) {
    let _ = std::fs::remove_dir_all(store);
    let _ = std::fs::remove_file(store.with_extension("baseline"));
}

/// A group in a process of its own; its results go into the table.
fn run(options: &Options, work: &str, engine: &str, size: usize, store: &Path, table: &mut Table) {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args(["--child", work, engine, &size.to_string(), &options.scale.to_string()])
        .arg(store)
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("this program can be started");
    if !output.status.success() && work != "leave-killed" {
        eprintln!("{engine}, {work}, values of {size} bytes: {}", output.status);
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((name, number)) = line.split_once('\t') {
            table.add(name, engine, number.parse().unwrap_or(f64::NAN));
        }
    }
}

fn child(arguments: &[String]) {
    let [work, engine, size, scale, directory] = arguments else {
        panic!("a child is started by its parent")
    };
    let run = Run {
        engine,
        directory: Path::new(directory),
        value_bytes: size.parse().expect("a size"),
        scale: scale.parse().expect("a scale"),
    };
    match work.as_str() {
        "hot1" => run.hot(1),
        "hot2" => run.hot(2),
        "cold" => run.cold(),
        "durable" => run.durable(),
        "leave-closed" => run.leave(true),
        "leave-killed" => run.leave(false),
        "space" => run.space(),
        other => match other.strip_prefix("reopen ") {
            Some(how) => run.reopen(how),
            None => panic!("no work {other}"),
        },
    }
}
