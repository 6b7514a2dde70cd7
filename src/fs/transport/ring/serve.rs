//! A request over the ring: decoded, passed on, and its answer encoded.

use super::encode::{self, FOR_EVER, Filling};
use super::queue;
use super::wire;
use crate::fs::errno::Errno;
use crate::fs::transport::dispatch::{Dispatch, Keep, Reply, Serve, Value};
use crate::fs::transport::request::Listing;
use crate::fs::types::*;

/// What serves the requests of all queues.
pub struct Server<S = Dispatch> {
    dispatch: S,
    /// Only this user and root may come in; the kernel, which lets everybody in for root's sake, doesn't see to it.
    owner: Option<u32>,
}

impl<S: Serve> Server<S> {
    /// A server; with an owner, nobody else but root may come in.
    pub fn new(dispatch: S, owner: Option<u32>) -> Self {
        Server { dispatch, owner }
    }

    /// Takes a request, and has it answered now or later.
    pub(super) fn serve(&self, reply: queue::Reply) {
        let (header, request) = match reply.request() {
            Ok(found) => found,
            Err(error) => return reply.answer(Err(error)),
        };
        let stranger = self.owner.is_some_and(|owner| ![0, owner].contains(&header.caller.uid));
        if stranger && !wire::is_in_nobodys_name(&request) {
            return reply.answer(Err(Errno::EACCES));
        }
        self.dispatch.serve(header.caller, header.inode, request, reply);
    }
}

impl Reply for queue::Reply {
    fn answer(self, answer: Answer<Value>) {
        self.fill(answer, put);
    }

    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let payload = self.payload_mut();
        let bytes = bytes.min(payload.len());
        &mut payload[..bytes]
    }

    fn filled(self, count: Answer<usize>) {
        self.fill(count, |count, to| to.is_filled(count));
    }

    fn names(self, directory: Inode, listing: Listing, names: &[Entry]) -> usize {
        let mut taken = 0;
        self.fill(Ok(()), |(), to| taken = put_names(to, directory, listing, names));
        taken
    }
}

fn seconds(keep: Keep) -> u64 {
    if keep == Keep::ForEver { FOR_EVER } else { 0 }
}

fn put(value: Value, to: &mut Filling<'_>) {
    match value {
        Value::Nothing => {}
        Value::Entry(found, name, keep) => encode::entry(to, seconds(name), seconds(keep), &found),
        Value::NoEntry => encode::no_entry(to),
        Value::Created(made) => {
            encode::entry(to, FOR_EVER, FOR_EVER, &made);
            encode::created(to);
        }
        Value::Opened(opened) => encode::opened(to, opened),
        Value::Attributes(found, keep) => encode::attributes(to, seconds(keep), &found),
        Value::Statx(found) => encode::statx(to, &found),
        Value::Bytes(bytes) => to.put(&bytes),
        Value::Count(count) => {
            to.word(count);
            to.word(0);
        }
        Value::Position(position) => to.long(position),
        Value::Statistics(found) => encode::statistics(to, &found),
    }
}

fn put_names(to: &mut Filling<'_>, directory: Inode, listing: Listing, names: &[Entry]) -> usize {
    to.limit(listing.size as usize);
    let put = if listing.attributes { encode::name_plus } else { encode::name };
    for dot in listing.dots(directory) {
        if !put(to, &dot) {
            return 0;
        }
    }
    names.iter().take_while(|name| put(to, name)).count()
}
