//! What of the unsealed tails counts after a crash. Pure: frames in, verdicts out. The rules are those of one order over many
//! logs; the table below is walked by a test that enumerates its combinations.
//!
//! W is the greatest `stable` known. Everything up to W was synced and counts; damage there is corruption. The store goes on with the
//! longest gap-free run of numbers behind W; what lies behind the run (the cut) is the torn tail of a crash.
//!
//! | frame | number | condition | verdict |
//! |---|---|---|---|
//! | its epoch doesn't own its number | any | any | ignored: an earlier life left it |
//! | owned | <= W | whole, or a value damaged | counts (a damaged value costs itself) |
//! | owned | <= W | keys hidden | lost |
//! | owned | > W | not whole | torn: as if it weren't there |
//! | owned | W < n <= cut | whole, all sisters counted | counts |
//! | owned | W < n <= cut | whole, a sister missing | void: keeps its number, loses its records |
//! | owned | > cut | whole | cut |
//!
//! A gap (bytes that are no frame, with a frame behind) is torn only if no frame behind it counts; else it hides keys: lost.
//! Numbers have no gaps: one that is <= W, greater than all in sealed segments, and in no tail, is hidden by damage: lost.
//! A watermark names each log's last number: one that is <= W and isn't there is hidden by damage: lost.
//!
//! Where anything is lost a store isn't opened, for an older value would come back in its place; unless whoever opens it asks for what is left.

use crate::engine::format::frame::FrameKind;
use crate::engine::planted::{Bug, planted};
use crate::engine::scan::{Condition, Scan, ScannedFrame};
use crate::engine::types::{Epoch, Number};
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Ignored,
    Counts,
    Torn,
    Void,
    Cut,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The greatest number known to be stable.
    pub(crate) w: Number,
    /// The greatest number that counts.
    pub(crate) cut: Number,
    voids: BTreeSet<Number>,
}

impl Decision {
    /// What becomes of an owned or unowned frame.
    pub(crate) fn verdict(&self, frame: &ScannedFrame, owned: bool) -> Verdict {
        let number = frame.header.number;
        if !owned {
            return Verdict::Ignored;
        }
        if number <= self.w {
            return Verdict::Counts;
        }
        if frame.condition != Condition::Whole {
            return Verdict::Torn;
        }
        if number > self.cut {
            return Verdict::Cut;
        }
        if self.voids.contains(&number) { Verdict::Void } else { Verdict::Counts }
    }
}

/// One log's unsealed segments, in any order, and the greatest number in its sealed ones.
pub(crate) struct Tail<'a> {
    pub(crate) scans: Vec<&'a Scan>,
    pub(crate) sealed_last: Number,
}

/// Decides for a whole store. `w` is the greatest `stable` known from outside the tails. Also says what was made durable and is lost, each
/// in a line.
pub(crate) fn decide(
    tails: &[Tail<'_>],
    w: Number,
    owns: impl Fn(Epoch, Number) -> bool,
) -> (Decision, Vec<String>) {
    let owned = |frame: &&ScannedFrame| {
        frame.header.kind == FrameKind::Seal || owns(frame.header.epoch, frame.header.number)
    };
    let frames = || tails.iter().flat_map(|tail| &tail.scans).flat_map(|scan| &scan.frames).filter(owned);
    // `stable` of a frame that isn't whole is right all the same: its header has its own checksum.
    let w = frames().map(|frame| frame.header.stable).max().unwrap_or(Number::ZERO).max(w);

    let mut losses: Vec<String> = frames()
        .filter(|frame| frame.header.number <= w && frame.condition == Condition::KeysHidden)
        .map(|frame| format!("number {} was made durable, and its keys can't be read", frame.header.number))
        .collect();

    // Numbers have no gaps: what is in no sealed segment, and was made durable, must be in a tail.
    let sealed_last = tails.iter().map(|tail| tail.sealed_last).max().unwrap_or(Number::ZERO);
    let numbers: BTreeSet<Number> = frames().map(|frame| frame.header.number).collect();
    losses.extend(missing(&numbers, sealed_last, w));

    let candidates: BTreeMap<Number, &ScannedFrame> = frames()
        .filter(|frame| frame.header.number > w && frame.condition == Condition::Whole)
        .map(|frame| (frame.header.number, frame))
        .collect();
    let mut cut = w;
    while candidates.contains_key(&cut.next()) {
        cut = cut.next();
    }

    if planted(Bug::CutPerLog) {
        cut = candidates.keys().next_back().copied().unwrap_or(cut).max(cut);
    }

    let mut parts: BTreeMap<u64, u16> = BTreeMap::new();
    for frame in candidates.range(..=cut).map(|(_, frame)| frame) {
        if frame.header.parts > 1 {
            *parts.entry(frame.header.commit).or_default() += 1;
        }
    }
    let voids = candidates
        .range(..=cut)
        .filter(|(_, frame)| frame.header.parts > 1 && parts[&frame.header.commit] < frame.header.parts)
        .filter(|_| !planted(Bug::PartAlone))
        .map(|(number, _)| *number)
        .collect();
    let decision = Decision { w, cut, voids };
    check_gaps(tails, &decision, &owned, &mut losses);
    check_watermarks(tails, &decision, &owned, &mut losses);
    (decision, losses)
}

/// The numbers between two that aren't there, as ranges.
fn missing(numbers: &BTreeSet<Number>, after: Number, up_to: Number) -> Vec<String> {
    let mut losses = Vec::new();
    let mut expected = after.next();
    let end = up_to.next();
    for number in numbers.range(expected..).copied().take_while(|number| *number < end).chain([end]) {
        if number > expected {
            let last = Number(number.0 - 1);
            losses.push(match last == expected {
                true => format!("number {expected} was made durable and is in no log"),
                false => format!("numbers {expected} to {last} were made durable and are in no log"),
            });
        }
        expected = expected.max(number.next());
    }
    losses
}

fn check_gaps(
    tails: &[Tail<'_>],
    decision: &Decision,
    owned: &impl Fn(&&ScannedFrame) -> bool,
    losses: &mut Vec<String>,
) {
    for scan in tails.iter().flat_map(|tail| &tail.scans) {
        for gap in &scan.gaps {
            let behind = &scan.frames[gap.before_frame..];
            let counts = |frame: &&ScannedFrame| {
                matches!(decision.verdict(frame, owned(frame)), Verdict::Counts | Verdict::Void)
            };
            if let Some(frame) = behind.iter().find(counts) {
                losses.push(format!(
                    "bytes at offset {} can't be read, but number {} behind them counts",
                    gap.offset, frame.header.number
                ));
            }
        }
    }
}

fn check_watermarks(
    tails: &[Tail<'_>],
    decision: &Decision,
    owned: &impl Fn(&&ScannedFrame) -> bool,
    losses: &mut Vec<String>,
) {
    let greatest: Vec<Number> = tails
        .iter()
        .map(|tail| {
            let frames = tail.scans.iter().flat_map(|scan| &scan.frames).filter(owned);
            frames.map(|frame| frame.header.number).max().unwrap_or(Number::ZERO).max(tail.sealed_last)
        })
        .collect();
    let watermarks = tails.iter().flat_map(|tail| &tail.scans).flat_map(|scan| &scan.frames).filter(owned);
    for watermark in watermarks.filter(|frame| frame.condition == Condition::Whole) {
        for (index, (last, found)) in watermark.last_numbers.iter().zip(&greatest).enumerate() {
            if *last <= decision.w && found < last {
                losses.push(format!("number {last} of partition {index} was made durable and is gone"));
            }
        }
    }
    losses.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::format::frame::FrameHeader;
    use crate::engine::scan::Gap;

    fn frame(number: u64, stable: u64) -> ScannedFrame {
        ScannedFrame {
            offset: number * 100,
            header: FrameHeader {
                length: 96,
                number: Number(number),
                stable: Number(stable),
                commit: 0,
                epoch: Epoch(1),
                parts: 1,
                kind: FrameKind::Commit,
                records: 1,
            },
            condition: Condition::Whole,
            last_numbers: Vec::new(),
            records: 0..0,
        }
    }
    fn part(number: u64, commit: u64, parts: u16) -> ScannedFrame {
        let mut frame = frame(number, 0);
        frame.header.commit = commit;
        frame.header.parts = parts;
        frame
    }
    fn scan_of(frames: Vec<ScannedFrame>) -> Scan {
        Scan { frames, ..Scan::default() }
    }
    fn run(scans: &[Scan], w: u64) -> Result<Decision, String> {
        let tails: Vec<_> =
            scans.iter().map(|scan| Tail { scans: vec![scan], sealed_last: Number(w) }).collect();
        let (decision, losses) = decide(&tails, Number(w), |epoch, _| epoch == Epoch(1));
        if losses.is_empty() { Ok(decision) } else { Err(losses.join("; ")) }
    }

    #[test]
    fn lost_numbers_are_told_as_ranges() {
        let numbers = BTreeSet::from([1, 2, 5, 9, 12].map(Number));
        assert_eq!(
            missing(&numbers, Number(1), Number(10)),
            [
                "numbers 3 to 4 were made durable and are in no log",
                "numbers 6 to 8 were made durable and are in no log",
                "number 10 was made durable and is in no log"
            ]
        );
        assert!(missing(&numbers, Number(11), Number(12)).is_empty());
        assert!(missing(&numbers, Number(12), Number(3)).is_empty());
    }

    /// Every row of the table, for every order of number against W and the cut, every condition, owned or not.
    #[test]
    fn the_whole_table() {
        for owned in [true, false] {
            for number in 1..=6u64 {
                for condition in [Condition::Whole, Condition::ValueDamaged, Condition::KeysHidden] {
                    for sister in [true, false] {
                        // W = 2 comes from outside; numbers 1..=6 but `number` are whole in log 0; `number` is in log 1.
                        let mut subject = part(number, 9, 2);
                        subject.condition = condition;
                        subject.header.epoch = Epoch(if owned { 1 } else { 7 });
                        let mut others: Vec<_> =
                            (1..=4).filter(|n| *n != number).map(|n| frame(n, 0)).collect();
                        // The sister is inside the run if there is one to be in.
                        if sister {
                            others.push(part(7, 9, 2));
                            others.extend((5..=6).filter(|n| *n != number).map(|n| frame(n, 0)));
                        }
                        let decision = run(&[scan_of(others), scan_of(vec![subject.clone()])], 2);
                        if owned && number <= 2 && condition == Condition::KeysHidden {
                            assert!(decision.is_err());
                            continue;
                        }
                        let decision = decision.unwrap();
                        let verdict = decision.verdict(&subject, owned);
                        let expected = match (owned, number, condition) {
                            (false, _, _) => Verdict::Ignored,
                            (true, 1..=2, _) => Verdict::Counts,
                            (true, _, Condition::ValueDamaged | Condition::KeysHidden) => Verdict::Torn,
                            (true, _, Condition::Whole) if sister => Verdict::Counts,
                            (true, 6, Condition::Whole) => Verdict::Cut,
                            (true, _, Condition::Whole) => Verdict::Void,
                        };
                        assert_eq!(
                            verdict, expected,
                            "owned {owned} number {number} {condition:?} sister {sister}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_run_ends_at_the_first_missing_number() {
        let decision =
            run(&[scan_of(vec![frame(1, 0), frame(3, 1)]), scan_of(vec![frame(2, 0), frame(5, 1)])], 0);
        assert_eq!(decision.unwrap().cut, Number(3));
    }

    #[test]
    fn a_gap_is_torn_only_if_nothing_behind_it_counts() {
        let mut log = scan_of(vec![frame(1, 0), frame(4, 0)]);
        log.gaps.push(Gap { offset: 196, before_frame: 1 });
        assert_eq!(run(&[log.clone(), scan_of(vec![frame(2, 0)])], 0).unwrap().cut, Number(2));
        assert!(run(&[log, scan_of(vec![frame(2, 0), frame(3, 0)])], 0).is_err());
    }

    #[test]
    fn a_watermark_tells_of_a_lost_end() {
        let mut watermark = frame(4, 3);
        watermark.header.kind = FrameKind::Watermark;
        watermark.last_numbers = vec![Number(3), Number(2)];
        let first = scan_of(vec![frame(1, 0), frame(3, 0), watermark]);
        assert!(run(&[first.clone(), scan_of(vec![frame(2, 0)])], 0).is_ok());
        assert!(run(&[first, scan_of(vec![])], 0).is_err(), "number 2 is gone");
    }
}
