//! Work that several want at the same time and one does.
//!
//! Whoever comes first leads, and the others follow. A leader that is dropped, because its caller hung up or its deadline passed,
//! leaves its place to the next; one that fails tells the others so, and they decide for themselves. Knows nothing of what the
//! work is.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Locks among which the keys are divided, so that those who come at the same time rarely meet.
const SHARDS: usize = 16;

/// What is under way.
pub(super) struct Flights<K, V> {
    shards: [Mutex<HashMap<K, watch::Receiver<State<V>>>>; SHARDS],
    hasher: RandomState,
}

#[derive(Clone)]
enum State<V> {
    Running,
    Done(V),
    Failed,
}

/// The part that one who joins has.
pub(super) enum Part<'a, K: Eq + Hash, V> {
    /// To do the work.
    Leads(Leader<'a, K, V>),
    /// To wait for it.
    Follows(Following<V>),
}

/// One who does the work. Dropping it gives it up.
pub(super) struct Leader<'a, K: Eq + Hash, V> {
    flights: &'a Flights<K, V>,
    /// `None` only while being dropped.
    key: Option<K>,
    state: watch::Sender<State<V>>,
}

/// One who waits. Dropping it disturbs nobody.
pub(super) struct Following<V>(watch::Receiver<State<V>>);

/// What somebody waited for.
#[derive(Debug, PartialEq)]
pub(super) enum Waited<V> {
    /// This came of the work.
    Done(V),
    /// It failed.
    Failed,
    /// It was given up.
    Gone,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Flights { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// Takes part in the work for `key`.
    pub(super) fn join(&self, key: K) -> Part<'_, K, V> {
        match self.shard(&key).entry(key.clone()) {
            Entry::Occupied(under_way) => Part::Follows(Following(under_way.get().clone())),
            Entry::Vacant(place) => {
                let (state, following) = watch::channel(State::Running);
                place.insert(following);
                Part::Leads(Leader { flights: self, key: Some(key), state })
            }
        }
    }
}

impl<K: Eq + Hash, V> Flights<K, V> {
    fn shard(&self, key: &K) -> MutexGuard<'_, HashMap<K, watch::Receiver<State<V>>>> {
        let index = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default();
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, V> Leader<'_, K, V> {
    /// Gives everybody who waits what came of it.
    pub(super) fn done(self, value: V) {
        self.state.send_replace(State::Done(value));
    }

    /// Tells everybody who waits that nothing did.
    pub(super) fn failed(self) {
        self.state.send_replace(State::Failed);
    }
}

impl<K: Eq + Hash, V> Drop for Leader<'_, K, V> {
    fn drop(&mut self) {
        // Before the channel closes, so that whoever hears of that finds the place free.
        if let Some(key) = self.key.take() {
            self.flights.shard(&key).remove(&key);
        }
    }
}

impl<V: Clone> Following<V> {
    /// Waits for the end of the work, whichever it is.
    pub(super) async fn end(mut self) -> Waited<V> {
        match self.0.wait_for(|state| !matches!(state, State::Running)).await.as_deref() {
            Ok(State::Done(value)) => Waited::Done(value.clone()),
            Ok(State::Failed) => Waited::Failed,
            Ok(State::Running) | Err(_) => Waited::Gone,
        }
    }
}
