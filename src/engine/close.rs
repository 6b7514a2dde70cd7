//! A clean close: everything synced, a last watermark, the hints of the active segments. What is left undone here costs the
//! next opening time, never data.

use super::common::Common;
use super::core::Core;
use super::disk::Disk;
use super::error::WriteError;
use super::recovery::load::remove_segment;
use super::seal::Seal;
use super::shell::Shell;
use super::turn::Policy;
use super::types::Number;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;

/// How often it is looked whether slow work has come to an end.
const QUIET_POLL: std::time::Duration = std::time::Duration::from_millis(5);

/// Closes what is open. Waits for the disk. In a simulated world the simulator must have run everything before.
pub(crate) fn close<'a>(
    common: &Arc<Common>,
    shells: impl Iterator<Item = &'a Arc<Shell>> + Clone,
) -> Result<(), WriteError> {
    if common.config.read_only {
        return Ok(());
    }
    common.order.begin_ending();
    for shell in shells.clone() {
        wait_until_quiet(shell);
    }
    sync_everything(common, shells.clone())?;
    let stable = common.order.stable();
    for shell in shells {
        // The data is safe; a failure here is one of tidiness.
        if let Err(error) = tidy(&*common.disk, shell, stable) {
            tracing::warn!("partition {}: closing left work for the next opening: {error}", shell.id);
        }
    }
    Ok(())
}

fn sync_everything<'a>(
    common: &Arc<Common>,
    shells: impl Iterator<Item = &'a Arc<Shell>> + Clone,
) -> Result<(), WriteError> {
    if common.turns[0].policy() == Policy::Manual {
        sync_by_hand(common, shells.clone())?;
        if let Some(first) = shells.clone().next() {
            first.write_watermark();
        }
        return sync_by_hand(common, shells);
    }
    flush_all(shells.clone());
    block_on_sync(common)?;
    if let Some(first) = shells.clone().next() {
        let writing = first.clone();
        let (sender, receiver) = mpsc::channel();
        first
            .submit(async move {
                writing.write_watermark();
                let _ = sender.send(());
            })
            .detach();
        let _ = receiver.recv();
    }
    flush_all(shells);
    block_on_sync(common)
}

/// A sync where one thread plays all roles: nobody else is inside, so the steps can be taken one after the other.
fn sync_by_hand<'a>(
    common: &Arc<Common>,
    shells: impl Iterator<Item = &'a Arc<Shell>> + Clone,
) -> Result<(), WriteError> {
    common.order.check()?;
    for shell in shells.clone() {
        shell.with_quiet(|core| core.leave());
    }
    common.order.check()?;
    for shell in shells {
        for file in shell.with_quiet(|core| core.begin_sync()) {
            if let Err(error) = file.sync_data() {
                common.order.latch(&format!("syncing failed: {error}"));
                return common.order.check();
            }
        }
        shell.with_quiet(|core| core.end_sync());
    }
    common.order.advance_stable(common.order.newest());
    Ok(())
}

/// Whatever was appended has its number and is with the kernel. (We may be answered from inside a turn that hasn't been left yet: what
/// it appended would have no number, and a sync would not wait for it.)
fn flush_all<'a>(shells: impl Iterator<Item = &'a Arc<Shell>>) {
    for shell in shells {
        inside(shell, Core::flush);
    }
}

/// Something done to a core in its turn, waiting for it on this thread; at once where one thread plays all roles.
fn inside<R: Send + 'static>(
    shell: &Arc<Shell>,
    f: impl FnOnce(&mut Core) -> R + Send + 'static,
) -> Option<R> {
    if shell.turn.policy() == Policy::Manual {
        return Some(shell.with_quiet(f));
    }
    let (sender, receiver) = mpsc::channel();
    let core = shell.clone();
    shell.submit(async move { drop(sender.send(core.with(f))) }).detach();
    receiver.recv().ok()
}

/// Compaction stops by itself once the store is closing, and a segment that is being made gets finished.
fn wait_until_quiet(shell: &Arc<Shell>) {
    if shell.turn.policy() == Policy::Manual {
        return;
    }
    while inside(shell, |core| core.compaction.is_running() || core.spares.creating) == Some(true) {
        std::thread::sleep(QUIET_POLL);
    }
}

fn block_on_sync(common: &Arc<Common>) -> Result<(), WriteError> {
    let (sender, receiver) = mpsc::channel();
    let syncing = common.clone();
    common.spawn(0, async move { drop(sender.send(syncing.sync().await)) });
    receiver.recv().unwrap_or(Err(WriteError::Gone))
}

/// Cuts the active segment to its length and writes its hint; removes the segments made ahead.
fn tidy(disk: &dyn Disk, shell: &Arc<Shell>, stable: Number) -> io::Result<()> {
    let found = inside(shell, move |core| {
        core.flush();
        let spares = [core.spares.next.take(), core.spares.reserve.take()];
        let spares: Vec<_> = spares.into_iter().flatten().collect();
        let last_number =
            core.segments.get(&core.active()).map_or(Number::ZERO, |segment| segment.last_number);
        let outline = core.log_mut().take_outline();
        let log = core.log();
        let seal = Seal {
            partition: core.partition,
            id: log.segment(),
            end: log.end(),
            last_number,
            stable,
            epoch: core.common.order.epoch(),
        };
        let empty = core.segments.get(&seal.id).is_none_or(|segment| segment.header_bytes == seal.end);
        (seal, log.file().clone(), outline, empty, spares)
    });
    let Some((seal, file, outline, empty, spares)) = found else { return Ok(()) };
    for spare in spares {
        remove_segment(disk, shell.id, spare.id)?;
    }
    if empty {
        return remove_segment(disk, shell.id, seal.id);
    }
    file.set_length(seal.end)?;
    file.sync_data()?;
    seal.leave_open(disk, &file, outline)
}
