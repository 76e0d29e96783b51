//! A bounded queue between async callers and worker threads.
//!
//! A worker without work sleeps at once. Channels that spin first take, with each short run, the very processor on which the
//! caller would prepare the next one.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
    capacity: usize,
}

struct State<T> {
    items: VecDeque<T>,
    /// Workers that wait for an item. Waking nobody costs a system call all the same.
    idle: usize,
    closed: bool,
}

/// Why an item was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
    Full,
    Closed,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State { items: VecDeque::new(), idle: 0, closed: false };
        Queue { state: Mutex::new(state), arrived: Condvar::new(), capacity }
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
            state.idle > 0
        };
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Takes the first item, and waits for one. `None` once the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Lets no more items in. Those that are there are still taken.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn it_is_bounded_and_keeps_the_order() {
        let queue = Queue::new(2);
        assert_eq!([queue.push(1), queue.push(2), queue.push(3)], [Ok(()), Ok(()), Err(PushError::Full)]);
        assert_eq!(queue.pop(), Some(1));
        queue.close();
        assert_eq!(queue.push(4), Err(PushError::Closed));
        assert_eq!((queue.pop(), queue.pop()), (Some(2), None));
    }

    #[test]
    fn every_item_is_taken_once() {
        let queue = Arc::new(Queue::new(usize::MAX));
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>())
            })
            .collect();
        (0..1000).for_each(|item| queue.push(item).unwrap());
        queue.close();
        let mut taken = takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect::<Vec<_>>();
        taken.sort_unstable();
        assert_eq!(taken, (0..1000).collect::<Vec<_>>());
    }
}
