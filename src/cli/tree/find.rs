//! Which store paths mean, mounted or not, and where in it.

use super::Tree;
use super::mounted::MountedTree;
use super::unmounted::UnmountedTree;
use crate::cli::mounts;
use std::path::{Component, Path, PathBuf};

/// What will be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cli) enum Access {
    /// Only looking: an unmounted store is left as it is.
    Read,
    /// Changing.
    Write,
}

/// An open store, and the paths in it that were meant.
pub(in crate::cli) struct Opened {
    pub(in crate::cli) tree: Box<dyn Tree>,
    /// From the store's root.
    pub(in crate::cli) paths: Vec<PathBuf>,
}

/// Opens the store that paths mean: one that is mounted around them, or a store's directory and behind it a path in that store. If the first path is
/// a store itself and others follow, those are paths in it.
///
/// # Errors
/// If there is no store, several, or it can't be opened.
pub(in crate::cli) fn open(paths: &[PathBuf], access: Access) -> Result<Opened, String> {
    let (first, others) = paths.split_first().ok_or("name a path")?;
    let (at, rest) = located(first)?;
    let is_store_itself = !rest.components().any(|part| part != Component::CurDir);
    let inside = if is_store_itself && !others.is_empty() {
        others.to_vec()
    } else {
        let mut inside = vec![rest];
        for other in others {
            match located(other)? {
                (same, rest) if same == at => inside.push(rest),
                _ => return Err(format!("{}: in another store than {}", other.display(), first.display())),
            }
        }
        inside
    };
    let tree: Box<dyn Tree> = match at {
        Store::Mounted(mountpoint) => Box::new(MountedTree::new(mountpoint)),
        Store::Unmounted(data) => Box::new(UnmountedTree::open(&data, access)?),
    };
    Ok(Opened { tree, paths: inside })
}

#[derive(PartialEq, Eq, Debug)]
enum Store {
    /// Where it is mounted.
    Mounted(PathBuf),
    /// Its directory.
    Unmounted(PathBuf),
}

fn located(path: &Path) -> Result<(Store, PathBuf), String> {
    let name = path.display();
    let absolute = std::path::absolute(path).map_err(|error| format!("{name}: {error}"))?;
    locate(&absolute).ok_or_else(|| {
        format!("{name}: neither in a mounted store nor in a store's directory; name a mountpoint or a store's directory, and a path in it")
    })
}

/// The outermost directory on the way that is a store, or where one is mounted; and the rest of the way.
fn locate(path: &Path) -> Option<(Store, PathBuf)> {
    let ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.into_iter().rev().find_map(|ancestor| {
        let real = mounts::resolve(ancestor).ok()?;
        let rest = path.strip_prefix(ancestor).ok()?.to_path_buf();
        if mounts::at(&real).is_some() {
            return Some((Store::Mounted(real), rest));
        }
        if !real.join("MANIFEST").is_file() {
            return None;
        }
        Some(match mounts::of(&real) {
            Some(mounted) => (Store::Mounted(mounted.mountpoint), rest),
            None => (Store::Unmounted(real), rest),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_store_on_the_way_counts() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("data/partition_000")).unwrap();
        std::fs::write(root.join("data/MANIFEST"), "").unwrap();
        std::os::unix::fs::symlink("data", root.join("link")).unwrap();
        let data = || Store::Unmounted(root.join("data"));
        let found = |path: &str| locate(&root.join(path));
        assert_eq!(found("data"), Some((data(), PathBuf::new())));
        assert_eq!(found("data/a/../b"), Some((data(), "a/../b".into())));
        assert_eq!(found("link/x"), Some((data(), "x".into())));
        assert_eq!(found("other/x"), None);
    }
}
