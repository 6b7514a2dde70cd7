//! Locks on whatever keys the engine's user has, held across awaits. Owns who waits for whom in one partition; kept only while held.
//! They live in the user's state beside the core (`HasLocks`). Who takes several keeps an order, so that nobody waits in a circle.
//!
//! A lock may *hide*: while a commit over several partitions is under way, nobody may answer from what it touches, since a
//! kill could still take it back. Who only reads waits for the lock to show again; otherwise reading ignores locks.

use super::partition::Partition;
use super::phase::{Phase, waiting};
use foldhash::{HashMap, HashMapExt};
use std::borrow::Borrow;
use std::collections::VecDeque;
use std::hash::Hash;
use std::task::{Context, Poll, Waker};

/// The locks of a partition.
pub struct Locks<K> {
    held: HashMap<K, Held>,
    tickets: u64,
}

/// A state that has locks.
pub trait HasLocks<K>: Send + 'static {
    /// Its locks.
    fn locks(&mut self) -> &mut Locks<K>;
}

/// What a lock can be on.
pub trait LockKey: Clone + Eq + Hash + Send + 'static {}
impl<K: Clone + Eq + Hash + Send + 'static> LockKey for K {}

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Locks { held: HashMap::new(), tickets: 0 }
    }
}

struct Held {
    hides: bool,
    /// Whether somebody has it now; if not, it is the first waiter's to take.
    taken: bool,
    queue: VecDeque<(u64, Waker)>,
    watchers: Vec<Waker>,
}

impl<K: LockKey> Locks<K> {
    /// Takes the lock, in order of asking. `ticket` is the asker's place in the queue, once it has one.
    fn poll_take(&mut self, key: &K, ticket: &mut Option<u64>, context: &Context<'_>) -> Poll<()> {
        let Some(held) = self.held.get_mut(key) else {
            let held = Held { hides: false, taken: true, queue: VecDeque::new(), watchers: Vec::new() };
            self.held.insert(key.clone(), held);
            return Poll::Ready(());
        };
        let Some(mine) = *ticket else {
            self.tickets += 1;
            *ticket = Some(self.tickets);
            held.queue.push_back((self.tickets, context.waker().clone()));
            return Poll::Pending;
        };
        if !held.taken && held.queue.front().is_some_and(|(first, _)| *first == mine) {
            held.queue.pop_front();
            held.taken = true;
            return Poll::Ready(());
        }
        if let Some((_, waker)) = held.queue.iter_mut().find(|(waiting, _)| *waiting == mine) {
            waker.clone_from(context.waker());
        }
        Poll::Pending
    }

    /// Takes all of them, hidden, if all are free; else none.
    fn take_all_hidden(&mut self, keys: &[K]) -> bool {
        if !self.held.is_empty() && keys.iter().any(|key| self.held.contains_key(key)) {
            return false;
        }
        for key in keys {
            let held = Held { hides: true, taken: true, queue: VecDeque::new(), watchers: Vec::new() };
            self.held.insert(key.clone(), held);
        }
        true
    }

    fn release(&mut self, key: &K) {
        let Some(held) = self.held.get_mut(key) else { return };
        held.hides = false;
        held.taken = false;
        for watcher in std::mem::take(&mut held.watchers) {
            watcher.wake();
        }
        self.next(key);
    }

    fn next(&mut self, key: &K) {
        let Some(held) = self.held.get(key) else { return };
        if held.taken {
            return;
        }
        match held.queue.front() {
            Some((_, waker)) => waker.wake_by_ref(),
            None => {
                let watchers = self.held.remove(key).map(|held| held.watchers);
                watchers.into_iter().flatten().for_each(Waker::wake);
            }
        }
    }

    /// Somebody in the queue has gone away.
    fn leave_queue(&mut self, key: &K, ticket: u64) {
        if let Some(held) = self.held.get_mut(key) {
            held.queue.retain(|(waiting, _)| *waiting != ticket);
        }
        self.next(key);
    }

    /// Whether nobody may answer from it now.
    pub fn hides<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        !self.held.is_empty() && self.held.get(key).is_some_and(|held| held.hides)
    }

    /// Whether somebody has it, or waits for it.
    pub fn is_held<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        !self.held.is_empty() && self.held.contains_key(key)
    }

    /// Whether nobody has any.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Some other key that is held.
    pub fn another(&self, but: &K) -> Option<K> {
        self.held.keys().find(|key| *key != but).cloned()
    }

    /// From now until it is let go nobody may answer from it. The caller holds it.
    pub fn hide(&mut self, key: &K) {
        if let Some(held) = self.held.get_mut(key) {
            held.hides = true;
        }
    }

    fn watch(&mut self, key: &K, waker: &Waker) {
        if let Some(held) = self.held.get_mut(key) {
            held.watchers.push(waker.clone());
        }
    }
}

/// A lock that is held. Dropping it lets go, also when an operation is cancelled or panics.
pub struct Guard<K: LockKey, S: HasLocks<K>> {
    part: Partition<S>,
    key: Option<K>,
}

impl<K: LockKey, S: HasLocks<K>> Drop for Guard<K, S> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.part.change_soon(move |state| state.locks().release(&key));
        }
    }
}

/// Several locks of a partition. Dropping them lets all of them go.
pub struct Guards<K: LockKey, S: HasLocks<K>> {
    part: Partition<S>,
    keys: Vec<K>,
}

impl<K: LockKey, S: HasLocks<K>> Drop for Guards<K, S> {
    fn drop(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        self.part.change_soon(move |state| keys.iter().for_each(|key| state.locks().release(key)));
    }
}

/// A place in a queue; given up if the operation goes away before its turn comes.
struct Waiting<'a, K: LockKey, S: HasLocks<K>> {
    part: &'a Partition<S>,
    key: &'a K,
    ticket: Option<u64>,
}

impl<K: LockKey, S: HasLocks<K>> Drop for Waiting<'_, K, S> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let key = self.key.clone();
            self.part.change_soon(move |state| state.locks().leave_queue(&key, ticket));
        }
    }
}

/// Takes a lock of the partition. Inside an operation of that partition.
pub async fn lock<K: LockKey, S: HasLocks<K>>(part: &Partition<S>, key: K) -> Guard<K, S> {
    let mut place = Waiting { part, key: &key, ticket: None };
    let taken = std::future::poll_fn(|context| {
        part.with(|_, state| state.locks().poll_take(&key, &mut place.ticket, context))
    });
    waiting(Phase::Lock, taken).await;
    place.ticket = None;
    drop(place);
    Guard { part: part.clone(), key: Some(key) }
}

/// Takes several locks of the partition, and hides what they stand for. The keys must differ, and come in an order that all who take several
/// keep. Inside an operation of that partition.
pub async fn lock_hidden<K: LockKey, S: HasLocks<K>>(part: &Partition<S>, keys: Vec<K>) -> Guards<K, S> {
    if !part.with(|_, state| state.locks().take_all_hidden(&keys)) {
        let mut guards = Vec::with_capacity(keys.len());
        for key in &keys {
            guards.push(lock(part, key.clone()).await);
        }
        part.with(|_, state| keys.iter().for_each(|key| state.locks().hide(key)));
        // From here on they are let go together.
        guards.iter_mut().for_each(|guard| guard.key = None);
    }
    Guards { part: part.clone(), keys }
}

/// Waits until what the key stands for may be answered from.
pub async fn visible<K: LockKey, S: HasLocks<K>>(part: &Partition<S>, key: &K) {
    wait_while(part, key, Locks::hides).await;
}

/// Waits until nobody holds the lock.
pub async fn free<K: LockKey, S: HasLocks<K>>(part: &Partition<S>, key: &K) {
    wait_while(part, key, Locks::is_held).await;
}

async fn wait_while<K: LockKey, S: HasLocks<K>>(
    part: &Partition<S>,
    key: &K,
    waits: impl Fn(&Locks<K>, &K) -> bool,
) {
    let over = std::future::poll_fn(|context| {
        part.with(|_, state| {
            if !waits(state.locks(), key) {
                return Poll::Ready(());
            }
            state.locks().watch(key, context.waker());
            Poll::Pending
        })
    });
    waiting(Phase::Lock, over).await;
}
