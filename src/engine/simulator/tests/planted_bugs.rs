//! The simulator must find mistakes: each of these is planted, and caught within so many seeds.

use super::runs::outcome;
use crate::engine::planted::{Bug, plant};

/// The first seed that catches a planted mistake.
fn caught_at(bug: Bug, seeds: u64) -> Option<u64> {
    plant(Some(bug));
    let caught = (0..seeds).find(|seed| outcome(*seed).is_err());
    plant(None);
    caught
}

fn assert_caught(bug: Bug, seeds: u64) {
    let caught = caught_at(bug, seeds);
    assert!(caught.is_some(), "{bug:?} was not caught within {seeds} seeds");
    eprintln!("{bug:?}: caught at seed {}", caught.unwrap_or_default());
}

macro_rules! caught {
    ($($test:ident: $bug:ident within $seeds:literal;)*) => {
        $(#[test] fn $test() { assert_caught(Bug::$bug, $seeds); })*
    };
}

caught! {
    acknowledging_early: AckEarly within 1000;
    a_round_that_does_not_close: OpenRound within 1000;
    a_directory_that_is_not_synced: SkipDirectorySync within 1000;
    tombstones_dropped_early: DropTombstones within 1000;
    a_part_without_its_sisters: PartAlone within 1000;
    each_log_cut_for_itself: CutPerLog within 1000;
    an_output_that_is_not_synced: SkipOutputSync within 1000;
    a_tail_that_is_not_synced: SkipTailSync within 1000;
    a_store_not_synced_before_compaction_commits: SkipStoreSync within 1000;
    counts_that_never_shrink: KeepCounting within 1000;
    a_failed_sync_forgiven: ForgiveSync within 1000;
    a_gap_in_the_numbers: LeaveGap within 1000;
    a_hint_trusted_beyond_its_segment: TrustHint within 1000;
    a_segment_number_used_twice: ReuseSegmentNumber within 1000;
    a_neighbour_left_without_handing_over: LeaveBeside within 100;
    going_beside_before_handing_over: GoAhead within 1000;
    packed_records_that_forget_their_numbers: ForgetNumbers within 1000;
}
