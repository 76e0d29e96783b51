//! The line before a model: runs of several functions that wait for it, and the places in which they happen.
//!
//! Who comes next is fair in time and not in number. Each flow, which is what one function's trigger asks for, has a clock that
//! advances by what its runs are expected to take, divided by its weight; the flow whose clock is behind all others goes first.
//! A flow that was away starts where the others are, so nobody saves up time, and one that owes time still owes it when it comes
//! back. Within a flow the earliest deadline goes first.
//!
//! A worker without work sleeps at once. Channels that spin first take, with each short run, the very processor on which the
//! caller would prepare the next one.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    ops::ControlFlow,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Told when a worker may find an item and a place.
    changed: Condvar,
    capacity: usize,
}

struct State<T> {
    /// Those with items, and those that owe time.
    flows: Vec<Flow<T>>,
    waiting: usize,
    /// The clock of the flow that was last let in.
    now: u64,
    places: usize,
    /// Workers that wait. Waking nobody costs a system call all the same.
    idle: usize,
    /// Workers that have a place and wait for company.
    gathering: usize,
    closed: bool,
}

struct Flow<T> {
    id: u64,
    /// How much it was served, in nanoseconds by its weight.
    clock: u64,
    /// Earliest deadline first.
    items: VecDeque<Waiting<T>>,
}

struct Waiting<T> {
    ticket: Ticket,
    item: T,
}

/// What the queue has to know of an item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    /// Whose it is.
    pub(crate) flow: u64,
    /// How much more than one of weight 1 that flow may get.
    pub(crate) weight: NonZeroU32,
    /// When nobody wants its result any more.
    pub(crate) deadline: Instant,
    /// How long it is expected to take.
    pub(crate) cost: Duration,
}

/// The right to work on one item, or on several at once. Held for the length of the work.
pub(crate) struct Place<T>(Arc<Queue<T>>);

/// Why an item was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
    Full,
    Closed,
}

impl Ticket {
    /// What it adds to its flow's clock. Never nothing, so that flows whose runs cost nothing take turns too.
    fn charge(&self) -> u64 {
        let cost = u64::try_from(self.cost.as_nanos()).unwrap_or(u64::MAX);
        (cost / u64::from(self.weight.get())).max(1)
    }
}

impl<T> State<T> {
    fn flow(&mut self, id: u64) -> &mut Flow<T> {
        let index = self.flows.iter().position(|flow| flow.id == id).unwrap_or_else(|| {
            self.flows.push(Flow { id, clock: self.now, items: VecDeque::new() });
            self.flows.len() - 1
        });
        &mut self.flows[index]
    }

    fn add(&mut self, ticket: Ticket, item: T) {
        let now = self.now;
        let flow = self.flow(ticket.flow);
        flow.clock = flow.clock.max(now);
        // Nearly always the last place: functions have one deadline each, counted from the arrival.
        let at = flow.items.partition_point(|waiting| waiting.ticket.deadline <= ticket.deadline);
        flow.items.insert(at, Waiting { ticket, item });
        self.waiting += 1;
    }

    /// The first item of the flow that was served least.
    fn take(&mut self) -> Option<T> {
        let now = self.now;
        // Who has nothing to wait for and owes nothing needs no clock.
        self.flows.retain(|flow| !flow.items.is_empty() || flow.clock > now);
        let flow = self.flows.iter_mut().filter(|flow| !flow.items.is_empty()).min_by_key(|flow| flow.clock)?;
        let Waiting { ticket, item } = flow.items.pop_front()?;
        let clock = flow.clock;
        flow.clock = clock.saturating_add(ticket.charge());
        self.now = clock;
        self.waiting -= 1;
        Some(item)
    }
}

impl<T> Queue<T> {
    /// A queue for `capacity` items that wait, and `places` that are worked on.
    pub(crate) fn new(capacity: usize, places: usize) -> Arc<Self> {
        let state = State { flows: Vec::new(), waiting: 0, now: 0, places, idle: 0, gathering: 0, closed: false };
        Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new(), capacity })
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in a locked section panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item. Never blocks for longer than moving one takes.
    pub(crate) fn push(&self, ticket: Ticket, item: T) -> Result<(), PushError> {
        let (idle, gathering) = {
            let mut state = self.state();
            if state.closed {
                return Err(PushError::Closed);
            }
            if state.waiting >= self.capacity {
                return Err(PushError::Full);
            }
            state.add(ticket, item);
            (state.idle > 0 && state.places > 0, state.gathering > 0)
        };
        match (idle, gathering) {
            // Both kinds wait for the same signal.
            (_, true) => self.changed.notify_all(),
            (true, false) => self.changed.notify_one(),
            (false, false) => {}
        }
        Ok(())
    }

    /// Takes the next item and a place for it, and waits for both; tells whether it waited. `None` once the queue is closed and empty.
    pub(crate) fn pop(self: &Arc<Self>) -> Option<(T, Place<T>, bool)> {
        let mut state = self.state();
        let mut waited = false;
        loop {
            if let Some((item, place)) = self.next(&mut state) {
                return Some((item, place, waited));
            }
            if state.closed && state.waiting == 0 {
                return None;
            }
            waited = true;
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// The same without waiting. `None` where there is no item, or no place for it.
    pub(crate) fn try_pop(self: &Arc<Self>) -> Option<(T, Place<T>)> {
        self.next(&mut self.state())
    }

    fn next(self: &Arc<Self>, state: &mut State<T>) -> Option<(T, Place<T>)> {
        if state.places == 0 {
            return None;
        }
        let item = state.take()?;
        state.places -= 1;
        Some((item, Place(Arc::clone(self))))
    }

    /// Takes a place for an item that was never in the queue. `None` where that would overtake somebody or make them wait.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place<T>> {
        let mut state = self.state();
        let free = state.places > 0 && state.waiting == 0 && !state.closed;
        free.then(|| {
            state.places -= 1;
            Place(Arc::clone(self))
        })
    }

    /// Takes those items out of the line for which `joins` says to go on, as it sees them, to be worked on in the place of another one.
    /// They are charged as if it had been their turn. `joins` breaks where it wants no more.
    pub(crate) fn join(&self, mut joins: impl FnMut(&T) -> ControlFlow<(), bool>) -> Vec<T> {
        let mut joined = Vec::new();
        let state = &mut *self.state();
        for flow in &mut state.flows {
            let mut index = 0;
            while let Some(waiting) = flow.items.get(index) {
                match joins(&waiting.item) {
                    ControlFlow::Continue(false) => index += 1,
                    ControlFlow::Continue(true) => {
                        let Some(Waiting { ticket, item }) = flow.items.remove(index) else { break };
                        flow.clock = flow.clock.saturating_add(ticket.charge());
                        state.waiting -= 1;
                        joined.push(item);
                    }
                    ControlFlow::Break(()) => return joined,
                }
            }
        }
        joined
    }

    /// Waits until so many items are in the line, for no longer than `until`. For one who has a place already.
    pub(crate) fn gather(&self, items: usize, until: Instant) {
        let mut state = self.state();
        state.gathering += 1;
        while state.waiting < items && !state.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        state.gathering -= 1;
    }

    /// How many items wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting
    }

    /// Lets no more items in. Those that are there are still taken.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.places += 1;
        let (idle, closed, more) = (state.idle > 0, state.closed, state.waiting > 0);
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
    use proptest::prelude::*;

    /// Of a flow, due so many milliseconds from now, that takes `cost` milliseconds.
    fn ticket(flow: u64, due: u64, cost: u64) -> Ticket {
        let deadline = start() + Duration::from_millis(due);
        Ticket { flow, weight: NonZeroU32::MIN, deadline, cost: Duration::from_millis(cost) }
    }

    fn start() -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now)
    }

    fn any() -> Ticket {
        ticket(0, 0, 1)
    }

    fn pop<T>(queue: &Arc<Queue<T>>) -> Option<T> {
        queue.pop().map(|(item, ..)| item)
    }

    #[test]
    fn it_is_bounded_and_keeps_the_order() {
        let queue = Queue::new(2, 1);
        let pushed = [1, 2, 3].map(|item| queue.push(any(), item));
        assert_eq!(pushed, [Ok(()), Ok(()), Err(PushError::Full)]);
        assert_eq!(pop(&queue), Some(1));
        queue.close();
        assert_eq!(queue.push(any(), 4), Err(PushError::Closed));
        assert_eq!((pop(&queue), pop(&queue)), (Some(2), None));
    }

    #[test]
    fn nobody_enters_who_would_overtake_or_exceed_the_places() {
        let queue = Queue::new(2, 1);
        let place = queue.enter().unwrap();
        assert!(queue.enter().is_none(), "the one place is taken");
        queue.push(any(), 1).unwrap();
        assert!(queue.try_pop().is_none(), "the one place is taken");
        drop(place);
        assert!(queue.enter().is_none(), "somebody was here before");
        assert_eq!(queue.try_pop().map(|(item, _place)| item), Some(1));
        assert!(queue.enter().is_some());
        queue.close();
        assert!(queue.enter().is_none());
    }

    #[test]
    fn within_a_flow_the_earliest_deadline_goes_first() {
        let queue = Queue::new(9, 1);
        for (item, due) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
            queue.push(ticket(0, due, 1), item).unwrap();
        }
        assert_eq!([(); 4].map(|()| pop(&queue)), [2, 4, 3, 1].map(Some));
    }

    #[test]
    fn flows_share_time_and_not_turns() {
        let queue = Queue::new(99, 1);
        for item in 0..4 {
            queue.push(ticket(0, item, 30), "long").unwrap();
        }
        for item in 0..12 {
            queue.push(ticket(1, item, 10), "short").unwrap();
        }
        let first: Vec<_> = (0..8).filter_map(|_| pop(&queue)).collect();
        assert_eq!(first.iter().filter(|&&item| item == "long").count(), 2);
    }

    #[test]
    fn a_weight_is_a_share() {
        let queue = Queue::new(99, 1);
        for item in 0..40 {
            queue.push(ticket(0, item, 10), "usual").unwrap();
            queue.push(Ticket { weight: NonZeroU32::new(4).unwrap(), ..ticket(1, item, 10) }, "favoured").unwrap();
        }
        let first: Vec<_> = (0..40).filter_map(|_| pop(&queue)).collect();
        let favoured = first.iter().filter(|&&item| item == "favoured").count();
        assert!((31..=33).contains(&favoured), "{favoured} of 40");
    }

    #[test]
    fn who_comes_back_has_saved_nothing_and_still_owes() {
        let queue = Queue::new(99, 1);
        queue.push(ticket(0, 0, 100), "owes").unwrap();
        queue.push(ticket(1, 0, 10), "other").unwrap();
        assert_eq!((pop(&queue), pop(&queue)), (Some("owes"), Some("other")));
        // It was served for 100 ms and the other one for 10.
        queue.push(ticket(0, 1, 100), "owes").unwrap();
        for item in 0..20 {
            queue.push(ticket(1, item, 10), "other").unwrap();
        }
        // Away all the time, and no further ahead for it than the one that is served next.
        queue.push(ticket(2, 0, 10), "away").unwrap();
        let order: Vec<_> = (0..22).filter_map(|_| pop(&queue)).collect();
        assert!(order.iter().position(|&item| item == "away").unwrap() <= 2, "{order:?}");
        let turn = order.iter().position(|&item| item == "owes").unwrap();
        assert!((9..=12).contains(&turn), "{order:?}");
    }

    #[test]
    fn those_that_join_are_charged() {
        let queue = Queue::new(99, 1);
        for item in 0..4 {
            queue.push(ticket(0, item, 10), item).unwrap();
            queue.push(ticket(1, item, 10), 10 + item).unwrap();
        }
        assert_eq!(pop(&queue), Some(0));
        let mut room = 3;
        let joined = queue.join(|&item| {
            if room == 0 {
                return ControlFlow::Break(());
            }
            let joins = item < 10;
            room -= u32::from(joins);
            ControlFlow::Continue(joins)
        });
        assert_eq!(joined, [1, 2, 3]);
        queue.push(ticket(0, 9, 10), 9).unwrap();
        assert_eq!([(); 5].map(|()| pop(&queue)), [10, 11, 12, 13, 9].map(Some));
    }

    #[test]
    fn every_item_is_taken_once_and_in_a_place_of_its_own() {
        const PLACES: usize = 2;
        let queue = Queue::new(usize::MAX, PLACES);
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || {
                    let taken = std::iter::from_fn(|| {
                        let (item, _place, _) = queue.pop()?;
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
            queue.push(ticket(item % 3, 0, 1), item).unwrap();
        }
        // The end must reach takers that wait for a place as well as those that wait for an item.
        let places: Vec<_> = (0..PLACES).filter_map(|_| queue.enter()).collect();
        queue.close();
        drop(places);
        let mut taken = takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect::<Vec<_>>();
        taken.sort_unstable();
        assert_eq!(taken, (0..1000).collect::<Vec<_>>());
    }

    proptest! {
        /// While several flows wait, none is ahead of another by more than the longest run of each.
        #[test]
        fn shares_are_fair_at_any_time(costs in prop::collection::vec((0_u64..3, 1_u64..50), 30..80)) {
            let queue = Queue::new(usize::MAX, 1);
            let mut left = [0; 3];
            for (due, &(flow, cost)) in costs.iter().enumerate() {
                queue.push(ticket(flow, due as u64, cost), (usize::try_from(flow).unwrap(), cost)).unwrap();
                left[usize::try_from(flow).unwrap()] += 1;
            }
            let mut served = [0_u64; 3];
            while left.iter().all(|&left| left > 0) {
                let (flow, cost) = pop(&queue).unwrap();
                served[flow] += cost;
                left[flow] -= 1;
                let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
                prop_assert!(most - least <= 2 * 50, "{served:?}");
            }
        }
    }
}
