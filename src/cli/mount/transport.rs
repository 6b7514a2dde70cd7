//! Which transport a mount gets: what the kernel offers, and what was asked for.

use super::Options;
use super::options::Transport;
use super::system;
use crate::fs::transport::mount;
use crate::fs::transport::ring::{self, Server, Threads};

/// Whether requests shall come over the ring. Turns the kernel's parameter on if that is needed, and allowed.
///
/// # Errors
/// Why not, if nothing else will do.
pub(super) fn choose(options: &Options) -> Result<bool, String> {
    if options.transport == Transport::Dev {
        return Ok(false);
    }
    match offered(options) {
        Ok(()) => Ok(true),
        Err(reason) => without(options, &reason).map(|()| false),
    }
}

/// The threads and queues of the ring; None if they can't be had and something else will do.
///
/// # Errors
/// Why not, if nothing else will do.
pub(super) fn prepare(options: &Options, server: Server) -> Result<Option<Threads>, String> {
    match mount::prepare_ring(server, options.ring_depth, system::standing_back()) {
        Ok(threads) => Ok(Some(threads)),
        Err(error) => without(options, &format!("making the queues: {error}")).map(|()| None),
    }
}

/// Whether a mount that was prepared for the ring will do, whose requests come this way.
///
/// # Errors
/// Why not, if nothing else than the ring will do.
pub(super) fn accept(options: &Options, transport: &str) -> Result<(), String> {
    match transport {
        "ring" => Ok(()),
        _ => without(options, "the kernel didn't agree when it was mounted"),
    }
}

/// How many threads that dispatch operations may wait for the disk at once: one stays free to take the next request. Those of the ring never
/// do: what they ask of the disk goes through their own rings.
pub(super) fn blocking_threads_max(options: &Options, over_ring: bool) -> usize {
    if over_ring { 0 } else { options.threads.saturating_sub(1) }
}

/// What to do without the ring.
fn without(options: &Options, reason: &str) -> Result<(), String> {
    if options.transport == Transport::Ring {
        return Err(format!("--transport ring: {reason}; mount with --transport auto or dev"));
    }
    tracing::info!("requests come over /dev/fuse, not io_uring: {reason}");
    Ok(())
}

fn offered(options: &Options) -> Result<(), String> {
    let parameter = ring::PARAMETER;
    let on = std::fs::read_to_string(parameter)
        .map_err(|error| format!("{parameter}: {error} (it came with Linux 6.14)"))?;
    if on.trim() == "Y" {
        return Ok(());
    }
    if options.no_enable_uring {
        return Err(format!("{parameter} is off, and --no-enable-uring leaves it so"));
    }
    std::fs::write(parameter, "Y")
        .map_err(|error| format!("{parameter} is off: {error}; root can write Y to it"))?;
    tracing::info!("{parameter} was off, and is now on (--no-enable-uring leaves it as it is)");
    Ok(())
}
