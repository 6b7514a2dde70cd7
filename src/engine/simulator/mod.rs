//! Whole stores in a simulated world, one thread, one seed, one history. [`Player`] plays what threads, disk and time do in the real
//! world, one small step after the other; the tests beside it play clients, crash the world and know what must be left.

mod player;

#[cfg(test)]
pub(crate) mod tests;

pub use self::player::Player;
