//! Where the records of an inode lie, for people who want to know. Shown as extended attributes that exist only when they are asked for by name.

use super::attributes::InodeRecord;
use super::errno::Errno;
use super::keys;
use super::state::Part;
use super::types::*;
use super::volume::Volume;
use crate::engine::types::SegmentId;
use std::collections::BTreeMap;
use std::task::Poll;

/// How many records one step looks at.
const SLICE: usize = 1024;
/// The longest list of segments: an extended attribute has at most 64 KiB, and a line of the list at most 44 bytes.
const SEGMENTS_MAX: usize = 1400;

/// What lies in one segment of an inode's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Share {
    records: u64,
    bytes: u64,
}

impl Volume {
    /// An attribute that is made up: `partition` and `segment` tell where the inode's own record lies; `records` has a line for each segment
    /// that holds records of it (its own, chunks, extended attributes): segment, records, bytes, with blanks between, and at its end
    /// `more`, records, bytes for what didn't fit; `crc32c` is the checksum of the content in hexadecimal digits, of files that
    /// are kept in one record; `born` is when it was made, in seconds since 1970 and nanoseconds.
    ///
    /// # Errors
    /// ENODATA for what isn't among these, or can't be had cheaply.
    pub(super) async fn made_up(
        &self,
        part: &Part,
        inode: Inode,
        record: &InodeRecord,
        name: &[u8],
    ) -> Answer<Vec<u8>> {
        let text = match name {
            b"partition" => part.id().to_string(),
            b"segment" => {
                let place = part.with(|core, _| core.place(&keys::inode(inode)));
                place.ok_or(Errno::ESTALE)?.0.to_string()
            }
            b"records" => as_lines(&shares(part, inode).await),
            b"born" => format!("{} {}", record.born.seconds, record.born.nanoseconds),
            b"crc32c" if record.kind == Kind::File && record.inline => {
                let mut content = vec![0; record.size as usize];
                self.read_as(part, inode, record, 0, &mut content).await?;
                format!("{:08x}", crc32c::crc32c(&content))
            }
            _ => return Err(Errno::ENODATA),
        };
        part.settled().await?;
        Ok(text.into_bytes())
    }
}

async fn shares(part: &Part, inode: Inode) -> BTreeMap<SegmentId, Share> {
    let mut shares: BTreeMap<SegmentId, Share> = BTreeMap::new();
    for prefix in [keys::inode(inode), keys::chunks_of(inode), keys::xattrs_of(inode)] {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let last = part.with(|core, _| {
                let keys = core.list(&prefix, after.as_deref(), SLICE);
                for (segment, bytes) in keys.iter().filter_map(|key| core.place(key)) {
                    let share = shares.entry(segment).or_default();
                    share.records += 1;
                    share.bytes += bytes;
                }
                keys.into_iter().last()
            });
            let Some(last) = last else { break };
            after = Some(last);
            let_others_in().await;
        }
    }
    shares
}

/// A large file has millions of records: others get their turn between two slices.
async fn let_others_in() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn as_lines(shares: &BTreeMap<SegmentId, Share>) -> String {
    let line = |what: &str, share: &Share| format!("{what} {} {}\n", share.records, share.bytes);
    let mut text: String =
        shares.iter().take(SEGMENTS_MAX).map(|(segment, share)| line(&segment.to_string(), share)).collect();
    if shares.len() > SEGMENTS_MAX {
        let left = shares.values().skip(SEGMENTS_MAX).fold(Share::default(), |sum, share| Share {
            records: sum.records + share.records,
            bytes: sum.bytes + share.bytes,
        });
        text.push_str(&line("more", &left));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let shares = |count: u32| {
            let share = Share { records: u64::MAX >> 10, bytes: u64::from(u32::MAX) };
            (0..count).map(|segment| (SegmentId(u32::MAX - segment), share)).collect()
        };
        assert_eq!(as_lines(&BTreeMap::from([(SegmentId(3), Share { records: 2, bytes: 70 })])), "3 2 70\n");
        assert_eq!(as_lines(&shares(1400)).lines().count(), 1400);
        let cut = as_lines(&shares(1402));
        assert_eq!(
            cut.lines().last().unwrap(),
            format!("more {} {}", (u64::MAX >> 10) * 2, u64::from(u32::MAX) * 2)
        );
        assert!(cut.len() < 65_536, "{}", cut.len());
    }
}
