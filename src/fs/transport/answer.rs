//! Answers of the volume as replies to the kernel.

use super::convert::{self, FOR_EVER, errno};
use crate::fs::control::ControlNode;
use crate::fs::types::*;
use fuser::{Generation, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyXattr};
use std::time::Duration;

/// Inode numbers are never used twice.
pub(super) const GENERATION: Generation = Generation(0);

pub(super) fn answer_entry(reply: ReplyEntry, answer: Answer<Attributes>) {
    match answer {
        Ok(attributes) => reply.entry(&FOR_EVER, &convert::attributes(&attributes), GENERATION),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn answer_attributes(reply: ReplyAttr, ttl: Duration, answer: Answer<Attributes>) {
    match answer {
        Ok(attributes) => reply.attr(&ttl, &convert::attributes(&attributes)),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn answer_data(reply: ReplyData, answer: Answer<Vec<u8>>) {
    match answer {
        Ok(bytes) => reply.data(&bytes),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn answer_empty(reply: ReplyEmpty, answer: Answer<()>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

/// A value for a caller who may only want to know its size.
pub(super) fn answer_xattr(reply: ReplyXattr, size: u32, answer: Answer<Vec<u8>>) {
    match answer {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(fuser::Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(error) => reply.error(errno(error)),
    }
}

/// Each lookup of a control file is an opening: it has a node of its own, and nothing about it is kept.
pub(super) fn answer_control_entry(reply: ReplyEntry, node: Answer<ControlNode>) {
    match node {
        Ok(node) => {
            let attributes = convert::attributes(&node.attributes);
            let entry_ttl = if node.is_directory() { FOR_EVER } else { Duration::ZERO };
            reply.entry_with_ttls(&Duration::ZERO, &entry_ttl, &attributes, GENERATION);
        }
        Err(error) => reply.error(errno(error)),
    }
}
