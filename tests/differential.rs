//! Random histories on a mount and on a plain directory of the disk: results, errors, attributes, listings and contents are the same.
//!
//! BITKV_OPERATIONS=N makes it longer, BITKV_SEED=N begins with another seed. A difference is shrunk to the few commands that it takes,
//! and shown with its seed. It needs root (other users, and roots of its own), and ext4, xfs or btrfs below the temporary directory.

#[path = "differential/calls.rs"]
mod calls;
#[path = "differential/command.rs"]
mod command;
#[path = "mount/fixture.rs"]
#[allow(dead_code)]
mod fixture;
#[path = "differential/side.rs"]
mod side;
#[path = "differential/tree.rs"]
mod tree;

use command::{Command, history};
use fixture::Place;
use side::Side;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Commands of one history, which begins in empty directories.
const HISTORY_LENGTH: usize = 1500;
/// After so many histories the store is mounted anew, and must show the same tree.
const HISTORIES_A_MOUNT: u64 = 8;
/// A store sees so many histories.
const HISTORIES_A_STORE: u64 = 32;
/// The most histories that are tried to shrink one.
const SHRINKS_MAX: usize = 400;

/// Where two sides disagree.
struct Difference {
    index: usize,
    ours: String,
    theirs: String,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Runs a history on both sides.
fn run(place: &Place, commands: &[Command]) -> Option<Difference> {
    let roots = [place.at("root"), place.path("root")];
    for root in &roots {
        if root.exists() {
            fs::remove_dir_all(root).unwrap();
        }
        fs::create_dir(root).unwrap();
        fs::set_permissions(root, fs::Permissions::from_mode(0o1777)).unwrap();
    }
    // Whoever else walks over the disk changes no times of access: what is made below inherits it.
    let _ = std::process::Command::new("chattr").arg("+A").arg(&roots[1]).status();
    let [ours, theirs] = roots.map(|root| Side::new(&root));
    commands.iter().enumerate().find_map(|(index, command)| {
        ours.send(command);
        theirs.send(command);
        let (ours, theirs) = (ours.report(), theirs.report());
        (ours != theirs).then_some(Difference { index, ours, theirs })
    })
}

/// A short history that still shows a difference.
fn shrink(place: &Place, mut commands: Vec<Command>, mut found: Difference) -> (Vec<Command>, Difference) {
    commands.truncate(found.index + 1);
    let mut piece = commands.len() / 2;
    let mut tries = 0;
    while piece > 0 && tries < SHRINKS_MAX {
        let mut start = 0;
        while start < commands.len() && tries < SHRINKS_MAX {
            let end = (start + piece).min(commands.len());
            let fewer = [&commands[..start], &commands[end..]].concat();
            tries += 1;
            match run(place, &fewer) {
                Some(difference) => {
                    commands = fewer;
                    commands.truncate(difference.index + 1);
                    found = difference;
                }
                None => start = end,
            }
        }
        piece /= 2;
    }
    (commands, found)
}

fn explain(seed: u64, commands: &[Command], difference: &Difference) -> String {
    let commands: Vec<String> = commands.iter().map(|command| format!("{command:?}")).collect();
    let mut lines = difference.ours.split('\n').zip(difference.theirs.split('\n'));
    let (ours, theirs) =
        lines.find(|(ours, theirs)| ours != theirs).unwrap_or((&difference.ours, &difference.theirs));
    format!("BITKV_SEED={seed}:\n{}\nmount: {ours}\ndisk:  {theirs}", commands.join("\n"))
}

fn reference_is_good(place: &Place) -> bool {
    const GOOD: [i64; 3] = [libc::EXT4_SUPER_MAGIC, libc::XFS_SUPER_MAGIC, libc::BTRFS_SUPER_MAGIC];
    let found = nix::sys::statfs::statfs(&place.path("")).unwrap().filesystem_type().0;
    let good = GOOD.contains(&found);
    if !good {
        println!("SKIPPED: below the temporary directory is neither ext4 nor xfs nor btrfs");
    }
    good
}

/// Both sides show the same tree, also when the store has just been mounted.
fn trees_are_the_same(place: &Place, seed: u64) {
    let look = Command { user: 0, patient: false, operation: command::Operation::Tree };
    let sides = [place.at("root"), place.path("root")].map(|root| Side::new(&root));
    let [ours, theirs] = sides.map(|side| {
        side.send(&look);
        side.report()
    });
    let difference = Difference { index: 0, ours, theirs };
    assert!(difference.ours == difference.theirs, "remounted: {}", explain(seed, &[look], &difference));
}

/// Histories in one store.
fn life_of_a_store(seeds: std::ops::Range<u64>) {
    let Some(place) = Place::new() else { return };
    if !reference_is_good(&place) {
        return;
    }
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let mount = || place.mount(&["--allow-other", "--segment-size", "4M"]);
    mount();
    for seed in seeds.clone() {
        let commands = history(seed, HISTORY_LENGTH);
        if let Some(difference) = run(&place, &commands) {
            let (commands, difference) = shrink(&place, commands, difference);
            panic!("{}", explain(seed, &commands, &difference));
        }
        if (seed - seeds.start) % HISTORIES_A_MOUNT == HISTORIES_A_MOUNT - 1 || seed == seeds.end - 1 {
            place.unmount();
            mount();
            trees_are_the_same(&place, seed);
        }
    }
}

#[test]
fn random_histories_are_the_same_on_a_disk() {
    if !nix::unistd::geteuid().is_root() {
        return println!("SKIPPED: needs root");
    }
    let first = number("BITKV_SEED", 1);
    let end = first + number("BITKV_OPERATIONS", 15_000).div_ceil(HISTORY_LENGTH as u64);
    for start in (first..end).step_by(HISTORIES_A_STORE as usize) {
        life_of_a_store(start..end.min(start + HISTORIES_A_STORE));
    }
}
