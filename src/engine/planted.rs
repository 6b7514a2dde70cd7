//! Mistakes planted on purpose, so that tests can show that the simulator finds them. Outside of tests nothing of it exists:
//! [`planted`] is `false` at compile time.

/// A mistake that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Acknowledge once the own frames are with the kernel, whatever becomes of smaller numbers.
    AckEarly,
    /// A sync round takes its S while commits over several partitions have a part of their numbers.
    OpenRound,
    /// A new segment's name isn't synced.
    SkipDirectorySync,
    /// Compaction drops tombstones that still bury something.
    DropTombstones,
    /// A part of a commit counts without its sisters.
    PartAlone,
    /// Each log is cut for itself.
    CutPerLog,
    /// A compaction output gets its name before it is synced.
    SkipOutputSync,
    /// What recovery leaves of a tail isn't synced.
    SkipTailSync,
    /// Compaction doesn't sync the store before it removes what newer records made dead.
    SkipStoreSync,
    /// A failed sync is taken for a good one.
    ForgiveSync,
    /// A number is skipped, that no frame will ever have.
    LeaveGap,
    /// A hint of a clean close counts, whatever was written since.
    TrustHint,
    /// A new segment gets the number of one that was removed.
    ReuseSegmentNumber,
    /// Dead records that compaction removed go on being counted.
    KeepCounting,
    /// Packed records forget their numbers.
    ForgetNumbers,
    /// Who was beside in a neighbour's turn leaves what was appended there.
    LeaveBeside,
    /// Who goes beside doesn't hand over first what was appended in the own turn.
    GoAhead,
    /// A verification takes values for right without looking at their checksums.
    TrustValues,
    /// A verification goes on behind a place that it can't understand, and says nothing.
    PassOverGaps,
}

#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Plants a mistake on this thread, or takes it back.
#[cfg(test)]
pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}
