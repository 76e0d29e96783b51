//! A bounded queue between async callers and worker threads, and the places in which its items are worked on.
//!
//! A worker without work sleeps at once. Channels that spin first take, with each short run, the very processor on which the
//! caller would prepare the next one.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Told when a worker may find an item and a place.
    changed: Condvar,
    capacity: usize,
}

struct State<T> {
    items: VecDeque<T>,
    /// Items that have their places already.
    begun: VecDeque<T>,
    places: usize,
    /// Workers that wait. Waking nobody costs a system call all the same.
    idle: usize,
    closed: bool,
}

/// The right to work on one item. Held for the length of the work.
pub(crate) struct Place<'a, T>(&'a Queue<T>);

/// Why an item was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
    Full,
    Closed,
}

impl<T> Queue<T> {
    /// A queue for `capacity` items that wait, and `places` that are worked on.
    pub(crate) fn new(capacity: usize, places: usize) -> Self {
        let state = State { items: VecDeque::new(), begun: VecDeque::new(), places, idle: 0, closed: false };
        Queue { state: Mutex::new(state), changed: Condvar::new(), capacity }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in a locked section panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item at the end. Never blocks for longer than moving one takes.
    pub(crate) fn push(&self, item: T) -> Result<(), PushError> {
        let wake = {
            let mut state = self.state();
            if state.closed {
                return Err(PushError::Closed);
            }
            if state.items.len() >= self.capacity {
                return Err(PushError::Full);
            }
            state.items.push_back(item);
            state.idle > 0 && state.places > 0
        };
        if wake {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Hands an item on that was begun in `place`, which it keeps. A worker is free for it, since there is one for each place.
    pub(crate) fn hand_on(&self, place: Place<'_, T>, item: T) {
        std::mem::forget(place);
        self.state().begun.push_back(item);
        self.changed.notify_one();
    }

    /// Takes the first item and a place for it, and waits for both. `None` once the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<(T, Place<'_, T>)> {
        let mut state = self.state();
        loop {
            if let Some(item) = state.begun.pop_front() {
                return Some((item, Place(self)));
            }
            if state.places > 0
                && let Some(item) = state.items.pop_front()
            {
                state.places -= 1;
                return Some((item, Place(self)));
            }
            if state.closed && state.items.is_empty() {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Takes a place for an item that was never in the queue. `None` where that would overtake somebody or make them wait.
    pub(crate) fn enter(&self) -> Option<Place<'_, T>> {
        let mut state = self.state();
        let free = state.places > 0 && state.items.is_empty() && !state.closed;
        free.then(|| {
            state.places -= 1;
            Place(self)
        })
    }

    /// Lets no more items in. Those that are there are still taken.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.places += 1;
        let (idle, closed, more) = (state.idle > 0, state.closed, !state.items.is_empty());
        drop(state);
        match (idle, closed) {
            // Everybody who waited for this place has to see whether anything is left to wait for.
            (true, true) => self.0.changed.notify_all(),
            (true, false) if more => self.0.changed.notify_one(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn pop<T>(queue: &Queue<T>) -> Option<T> {
        queue.pop().map(|(item, _place)| item)
    }

    #[test]
    fn it_is_bounded_and_keeps_the_order() {
        let queue = Queue::new(2, 1);
        assert_eq!([queue.push(1), queue.push(2), queue.push(3)], [Ok(()), Ok(()), Err(PushError::Full)]);
        assert_eq!(pop(&queue), Some(1));
        queue.close();
        assert_eq!(queue.push(4), Err(PushError::Closed));
        assert_eq!((pop(&queue), pop(&queue)), (Some(2), None));
    }

    #[test]
    fn nobody_enters_who_would_overtake_or_exceed_the_places() {
        let queue = Queue::new(2, 1);
        let place = queue.enter().unwrap();
        assert!(queue.enter().is_none(), "the one place is taken");
        queue.push(1).unwrap();
        drop(place);
        assert!(queue.enter().is_none(), "somebody was here before");
        assert_eq!(pop(&queue), Some(1));
        assert!(queue.enter().is_some());
        queue.close();
        assert!(queue.enter().is_none());
    }

    #[test]
    fn an_item_that_was_begun_keeps_its_place_and_overtakes() {
        let queue = Queue::new(2, 1);
        let place = queue.enter().unwrap();
        queue.push(1).unwrap();
        queue.hand_on(place, 2);
        let (item, place) = queue.pop().unwrap();
        assert_eq!(item, 2, "nobody else could be worked on before it");
        assert!(queue.enter().is_none(), "its place is taken");
        drop(place);
        assert_eq!(pop(&queue), Some(1));
        let place = queue.enter().unwrap();
        queue.close();
        queue.hand_on(place, 3);
        assert_eq!((pop(&queue), pop(&queue)), (Some(3), None));
    }

    #[test]
    fn every_item_is_taken_once_and_in_a_place_of_its_own() {
        const PLACES: usize = 2;
        let queue = Arc::new(Queue::new(usize::MAX, PLACES));
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || {
                    let taken = std::iter::from_fn(|| {
                        let (item, _place) = queue.pop()?;
                        assert!(queue.state().places < PLACES);
                        Some(item)
                    });
                    taken.collect::<Vec<_>>()
                })
            })
            .collect();
        for item in 0..1000 {
            // What holds the place meanwhile must not keep the items from being taken later.
            let _place = queue.enter();
            queue.push(item).unwrap();
        }
        // The end must reach takers that wait for a place as well as those that wait for an item.
        let places: Vec<_> = (0..PLACES).filter_map(|_| queue.enter()).collect();
        queue.close();
        drop(places);
        let mut taken = takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect::<Vec<_>>();
        taken.sort_unstable();
        assert_eq!(taken, (0..1000).collect::<Vec<_>>());
    }
}
