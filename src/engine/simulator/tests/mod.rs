//! Crash simulation: whole stores live several lives in a simulated world, and an oracle knows what must be left. Replay one
//! seed with `BITKV_SEED=n cargo test --lib simulation_crashes`; `BITKV_SEEDS` says how many are run.

pub(crate) mod autopsy;
mod backup;
mod beside;
mod client;
mod compaction_bugs;
mod compaction_pace;
mod counts;
mod every_io;
mod history;
mod lives;
mod oracle;
mod packed;
mod plan;
mod planted_bugs;
mod rig;
mod rot;
mod runs;
mod salvage;
mod scrub;
mod segments;
