//! `bitkv info PATH...`: where in the store a file's records lie.

use super::json::{Object, array};
use super::tree::{Access, Node, Tree, open, said, show, walk};
use super::{control, finish};
use crate::fs::types::{Kind, Time};
use std::path::PathBuf;

const UNKNOWN: &str = "the store answers with what this version doesn't understand";

/// Shows it, a value a line or one object a line for each path; returns the exit code.
pub fn run(paths: &[PathBuf], json: bool) -> i32 {
    finish("bitkv info", shown(paths, json))
}

fn shown(paths: &[PathBuf], json: bool) -> Result<(), String> {
    let opened = open(paths, Access::Read)?;
    for path in &opened.paths {
        let node = walk(&*opened.tree, path, true)?.node;
        if !matches!(node.kind(), Kind::File | Kind::Directory) {
            // The kernel asks for attributes of nothing else.
            let (path, kind) = (node.path.display(), show::kind_name(node.kind()));
            return Err(format!("/{path}: a {kind}; this is told of files and directories only"));
        }
        let info = Info::of(&*opened.tree, &node)?;
        control::print_bytes(&if json { info.object(&node) } else { info.lines(&node) })?;
    }
    opened.tree.close().map_err(|error| error.to_string())
}

/// Records of a file in one segment. The segment is a number, or `more` for those that are too many to be listed.
#[derive(PartialEq, Eq, Debug)]
struct Share {
    segment: String,
    records: u64,
    bytes: u64,
}

/// What the store's own attributes say.
struct Info {
    born: Time,
    partition: String,
    segment: String,
    /// Only of files that are kept in one record.
    crc32c: Option<String>,
    shares: Vec<Share>,
}

impl Info {
    fn of(tree: &dyn Tree, node: &Node) -> Result<Info, String> {
        let attribute = |name: &str| {
            let value = tree.xattr(node, format!("user.bitkv.{name}").as_bytes());
            let value = value.map_err(|error| said(&node.path, &error))?;
            Ok::<_, String>(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let needed = |name: &str| {
            attribute(name)?.ok_or_else(|| {
                format!(
                    "/{}: has no attribute user.bitkv.{name}: not a file of the store",
                    node.path.display()
                )
            })
        };
        let shares = needed("records")?.lines().map(share).collect::<Option<Vec<Share>>>();
        Ok(Info {
            born: time(&needed("born")?).ok_or(UNKNOWN)?,
            partition: needed("partition")?,
            segment: needed("segment")?,
            crc32c: attribute("crc32c")?,
            shares: shares.ok_or(UNKNOWN)?,
        })
    }

    fn sum(&self, field: impl Fn(&Share) -> u64) -> u64 {
        self.shares.iter().map(field).sum()
    }

    fn lines(&self, node: &Node) -> Vec<u8> {
        let mut text = format!("\ninode: {}\n", node.attributes.inode.0);
        text += &format!("kind: {}\nsize: {}\n", show::kind_name(node.kind()), node.attributes.size);
        text += &format!("born: {}\n", show::moment(self.born));
        text += &format!("partition: {}\nsegment: {}\n", self.partition, self.segment);
        if let Some(crc32c) = &self.crc32c {
            text += &format!("crc32c: {crc32c}\n");
        }
        let (records, bytes) = (self.sum(|share| share.records), self.sum(|share| share.bytes));
        text += &format!("records: {records}\nrecord_bytes: {bytes}\n");
        for Share { segment, records, bytes } in &self.shares {
            text += &format!("segment {segment}: {records} records, {bytes} bytes\n");
        }
        [b"path: ", &show::from_root(&node.path)[..], text.as_bytes()].concat()
    }

    fn object(&self, node: &Node) -> Vec<u8> {
        let shares = self.shares.iter().map(|Share { segment, records, bytes }| {
            let object = match segment.parse::<u32>() {
                Ok(number) => Object::default().plain("segment", number),
                Err(_) => Object::default().text("segment", segment),
            };
            object.plain("records", records).plain("bytes", bytes).line()
        });
        let mut object = Object::default()
            .bytes("path", &show::from_root(&node.path))
            .plain("inode", node.attributes.inode.0)
            .text("kind", show::kind_name(node.kind()))
            .plain("size", node.attributes.size)
            .plain("born", show::moment(self.born))
            .plain("partition", &self.partition)
            .plain("segment", &self.segment);
        if let Some(crc32c) = &self.crc32c {
            object = object.text("crc32c", crc32c);
        }
        let object = object
            .plain("records", self.sum(|share| share.records))
            .plain("record_bytes", self.sum(|share| share.bytes))
            .plain("segments", array(shares));
        (object.line() + "\n").into_bytes()
    }
}

fn time(text: &str) -> Option<Time> {
    let (seconds, nanoseconds) = text.split_once(' ')?;
    Some(Time { seconds: seconds.parse().ok()?, nanoseconds: nanoseconds.parse().ok()? })
}

fn share(line: &str) -> Option<Share> {
    let mut words = line.split(' ');
    let segment = words.next()?.to_string();
    let (records, bytes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(Share { segment, records, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_lines_are_read() {
        assert_eq!(share("3 2 70"), Some(Share { segment: "3".into(), records: 2, bytes: 70 }));
        assert_eq!(share("more 9 8").map(|share| share.segment).as_deref(), Some("more"));
        for wrong in ["", "3", "3 2", "3 2 x", "3 2 70 1"] {
            assert_eq!(share(wrong), None, "{wrong}");
        }
    }
}
