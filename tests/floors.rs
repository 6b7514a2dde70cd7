//! The floors of the house: a file uses only what lies below it. The list below is the plan; a new import upwards fails here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// From the cellar to the roof; rooms on one floor may use each other.
const FLOORS: &[&[&str]] = &[
    &[
        "engine/types",
        "engine/limits",
        "engine/error",
        "engine/lanes",
        "engine/phase",
        "engine/stats",
        "engine/progress",
        "engine/wait",
        "engine/window",
    ],
    &["engine/format"],
    &["engine/allowance", "engine/batch", "engine/clock", "engine/disk", "engine/gate", "engine/lent"],
    &["engine/opening"],
    &["engine/turn"],
    &["engine/config", "engine/keydir", "engine/scan", "engine/log"],
    &["engine/tuning"],
    &["engine/order"],
    &["engine/rounds"],
    // What is reached through a partition's handle, and the handle itself.
    &[
        "engine/common",
        "engine/core",
        "engine/segment",
        "engine/vicinity",
        "engine/shell",
        "engine/fetch",
        "engine/seal",
        "engine/sync",
        "engine/compaction",
        "engine/recovery",
        "engine/scrub",
    ],
    &["engine/close", "engine/open", "engine/partition"],
    &["engine/locks", "engine/store"],
    &["engine/backup", "engine/library", "engine/reshard", "engine/simulator"],
    &["engine"],
    &["fs/types", "fs/errno", "fs/chunk"],
    &["fs/operation", "fs/journal", "fs/traffic"],
    &["fs/keys", "fs/attributes", "fs/acl"],
    &["fs/state"],
    // One facade over rooms that share its type.
    &[
        "fs/volume",
        "fs/bars",
        "fs/counter",
        "fs/directory",
        "fs/inode",
        "fs/content",
        "fs/space",
        "fs/xattr",
        "fs/access",
        "fs/whereabouts",
        "fs/lookup",
        "fs/listing",
        "fs/make",
        "fs/unlink",
        "fs/rename",
        "fs/at_once",
        "fs/paths",
        "fs/reshard",
        "fs/check",
        "fs/backup",
        "fs/dump",
    ],
    &["fs/control"],
    &["fs/transport"],
    &["fs"],
    &["cli"],
    &["main", "bin", "lib"],
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The room that a module path lies in: the longest name in the plan that it starts with.
fn room(module: &str) -> Option<(usize, &'static str)> {
    let rooms =
        FLOORS.iter().enumerate().flat_map(|(floor, rooms)| rooms.iter().map(move |room| (floor, *room)));
    rooms
        .filter(|(_, room)| module == *room || module.starts_with(&format!("{room}/")))
        .max_by_key(|(_, room)| room.len())
}

fn module_of(path: &Path) -> String {
    let path = path.strip_prefix("src").unwrap().with_extension("");
    path.to_str().unwrap().trim_end_matches("/mod").to_string()
}

/// Imports of a file, as module paths: `use crate::a::b`, `use super::b`, `use self::b`.
fn imports(module: &str, is_folder: bool, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let Some(path) = line.strip_prefix("use ").or_else(|| line.strip_prefix("pub use ")) else {
            continue;
        };
        let path = path.trim_end_matches(';').replace("::", "/");
        let here = if is_folder { module } else { module.rsplit_once('/').map_or("", |(parent, _)| parent) };
        if let Some(rest) = path.strip_prefix("crate/") {
            found.push(rest.to_string());
        } else if let Some(mut rest) = path.strip_prefix("super/") {
            let mut base =
                if is_folder { here.rsplit_once('/').map_or("", |(parent, _)| parent) } else { here };
            while let Some(further) = rest.strip_prefix("super/") {
                base = base.rsplit_once('/').map_or("", |(parent, _)| parent);
                rest = further;
            }
            found.push(format!("{base}/{rest}"));
        }
    }
    found
}

#[test]
fn nobody_reaches_upwards() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let mut wrong = Vec::new();
    for path in files {
        let module = module_of(&path);
        // A folder's table of contents names what is in it; tests may look at anything.
        let is_folder = path.ends_with("mod.rs");
        if module.ends_with("/tests") || module.ends_with("golden") || module.ends_with("contract") {
            continue;
        }
        let Some((floor, own)) = room(&module) else {
            wrong.push(format!("{} is in no room of the plan", path.display()));
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for import in imports(&module, is_folder, text) {
            // A folder's public face re-exports its rooms; it counts as the room that the name comes from.
            let Some((other_floor, other)) = room(&import) else { continue };
            let face = ["engine", "fs"].contains(&other);
            if other_floor > floor && !(face && module.starts_with("engine") && other == "engine") {
                wrong.push(format!("{own} uses {other} above it ({}: {import})", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_has_one_place_stays_there() {
    let only: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("fuser::", &["src/fs/transport/"][..]),
        ("io_uring::", &["src/engine/disk/uring/", "src/fs/transport/ring/queue.rs"][..]),
        (
            "allow(unsafe_code)",
            &[
                "src/engine/disk/uring/ring.rs",
                "src/engine/lent.rs",
                "src/fs/transport/ring/queue.rs",
                "src/cli/mount/system.rs",
            ][..],
        ),
        ("Instant::now", &["src/engine/clock/", "src/engine/open/", "src/fs/control/", "src/cli/"][..]),
        (
            "thread::Builder",
            &["src/engine/clock/", "src/engine/disk/uring/", "src/fs/transport/ring/", "src/cli/"][..],
        ),
    ]);
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for (what, places) in &only {
            let allowed = places.iter().any(|place| path.to_str().unwrap().starts_with(place));
            assert!(allowed || !text.contains(what), "{} has {what}", path.display());
        }
        for word in ["inode", "dentry", "fuser"] {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            // The simulated disk has inodes of its own: it plays the filesystem below.
            let engine =
                path.starts_with("src/engine") && !path.to_str().unwrap().starts_with("src/engine/disk/sim");
            assert!(
                !engine || !code.clone().any(|line| line.to_lowercase().contains(word)),
                "{} says {word}",
                path.display()
            );
        }
    }
}
