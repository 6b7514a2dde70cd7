//! `bitkv status [MNT|DATA]`: whether a store is mounted, and well; without a path, of all that are mounted.

use super::json::{Object, array};
use super::mounts::{self, Mounted};
use super::{control, finish};
use std::path::{Path, PathBuf};

/// Shows it, as text or as an array of objects; returns the exit code.
pub fn run(path: Option<&Path>, json: bool) -> i32 {
    finish("bitkv status", path.map_or_else(|| all(json), |path| one(path, json)))
}

/// What is known of a store.
enum Status {
    Mounted {
        mounted: Mounted,
        version: String,
        health: String,
    },
    /// Open in a process, if so.
    Unmounted {
        data: PathBuf,
        holder: Option<u32>,
    },
}

fn all(json: bool) -> Result<(), String> {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for mounted in mounts::all() {
        match of_mounted(mounted) {
            Ok(status) => found.push(status),
            Err(reason) => failures.push(reason),
        }
    }
    print(&found, json)?;
    // One line, even for several.
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

fn one(path: &Path, json: bool) -> Result<(), String> {
    let name = path.display();
    let place = mounts::resolve(path).map_err(|error| format!("{name}: {error}"))?;
    if let Some(mounted) = mounts::around(&place).or_else(|| mounts::of(&place)) {
        return print(&[of_mounted(mounted)?], json);
    }
    if !place.join("MANIFEST").exists() {
        return Err(format!(
            "{name}: neither a store nor in a mounted one; name a mountpoint or a store's directory"
        ));
    }
    let holder = mounts::holder_of(&place);
    print(&[Status::Unmounted { data: path.to_path_buf(), holder }], json)
}

fn of_mounted(mounted: Mounted) -> Result<Status, String> {
    let directory = mounted.mountpoint.join(".bitkv");
    let version = control::read(&directory, "version")?.trim_end().to_string();
    let health = control::read(&directory, "health")?.trim_end().to_string();
    Ok(Status::Mounted { mounted, version, health })
}

fn print(found: &[Status], json: bool) -> Result<(), String> {
    control::print(&match json {
        true => array(found.iter().map(Status::object)) + "\n",
        false => found.iter().map(Status::text).collect(),
    })
}

impl Status {
    fn text(&self) -> String {
        match self {
            Status::Mounted { mounted, version, health } => {
                let (source, place) = (mounted.source.display(), mounted.mountpoint.display());
                format!("{source} on {place}\n{version}\n{health}\n")
            }
            Status::Unmounted { data, holder: Some(pid) } => {
                format!("{}: open in process {pid}, not mounted under this name\n", data.display())
            }
            Status::Unmounted { data, holder: None } => format!("{}: not mounted\n", data.display()),
        }
    }

    fn object(&self) -> String {
        let path =
            |object: Object, name, path: &Path| object.bytes(name, path.as_os_str().as_encoded_bytes());
        match self {
            Status::Mounted { mounted, version, health } => {
                let object = path(Object::default(), "source", &mounted.source).plain("mounted", true);
                let object = path(object, "mountpoint", &mounted.mountpoint);
                let object = match mounted.daemon() {
                    Some(pid) => object.plain("pid", pid),
                    None => object,
                };
                object.text("version", version).text("health", health).line()
            }
            Status::Unmounted { data, holder } => {
                let object = path(Object::default(), "source", data).plain("mounted", false);
                match holder {
                    Some(pid) => object.plain("pid", pid).line(),
                    None => object.line(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_shown_as_text_or_as_an_object() {
        let mounted = Mounted { mountpoint: "/mnt".into(), source: "/no/data".into() };
        let status = Status::Mounted { mounted, version: "bitkv 1".into(), health: "ok".into() };
        assert_eq!(status.text(), "/no/data on /mnt\nbitkv 1\nok\n");
        assert_eq!(
            status.object(),
            "{\"source\":\"/no/data\",\"mounted\":true,\"mountpoint\":\"/mnt\",\"version\":\"bitkv 1\",\"health\":\"ok\"}"
        );
        let status = Status::Unmounted { data: "d".into(), holder: Some(7) };
        assert_eq!(status.text(), "d: open in process 7, not mounted under this name\n");
        assert_eq!(status.object(), "{\"source\":\"d\",\"mounted\":false,\"pid\":7}");
    }
}
