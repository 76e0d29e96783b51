//! Keeps the functions within the memory budget: tells `budget.rs` what happens, and does what that says.
//!
//! Its lock is held while gates of functions are locked, never the other way round. Wakes and sleeps take it; requests of warm
//! functions do not, unless somebody waits for memory.

use crate::{
    budget::{Budget, Id, Step, TooLarge},
    function::Inner,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use torpor_telemetry::MemoryMetrics;

/// One per engine.
pub(crate) struct Keeper {
    state: Mutex<State>,
    ids: AtomicU64,
    /// Whether a function that gets idle is to be told of. Written with the state locked; read without, at the end of each call.
    pressed: AtomicBool,
    metrics: MemoryMetrics,
}

struct State {
    budget: Budget,
    /// Those that wait, or are in memory. Cold ones are not here.
    functions: HashMap<Id, Arc<Inner>>,
}

impl Keeper {
    /// `limit` is in bytes; without one nobody ever waits.
    pub(crate) fn new(limit: Option<u64>, metrics: MemoryMetrics) -> Self {
        let state = State { budget: Budget::new(limit), functions: HashMap::new() };
        Keeper { state: Mutex::new(state), ids: AtomicU64::new(0), pressed: AtomicBool::new(false), metrics }
    }

    /// What no other function has.
    pub(crate) fn id(&self) -> Id {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// What a function counts with, while it is in memory.
    pub(crate) fn counted(&self, id: Id) -> Option<u64> {
        self.state().budget.counted(id)
    }

    /// A cold function wants to wake. True if it has to wait for memory.
    pub(crate) fn ask(&self, function: &Arc<Inner>) -> bool {
        let mut state = self.state();
        state.functions.insert(function.id, Arc::clone(function));
        state.budget.ask(function.id, function.files(), function.is_pinned());
        function.lacks_memory(true);
        drop(state);
        self.advance();
        self.state().budget.waits(function.id)
    }

    /// Nobody waits for a function any more. Where its wake has not begun, it does not.
    pub(crate) fn given_up(&self, function: &Arc<Inner>) {
        if !self.is_pressed() {
            return;
        }
        let mut state = self.state();
        let withdraws = state.budget.waits(function.id) && function.withdraws();
        if withdraws {
            state.budget.withdraw(function.id);
            state.functions.remove(&function.id);
        }
        drop(state);
        if withdraws {
            function.withdrew();
            self.advance();
        }
    }

    /// A function for which no request waits lets others pass. False when it waits no more.
    pub(crate) fn step_back(&self, function: &Arc<Inner>) -> bool {
        let mut state = self.state();
        let waits = match function.is_asked_for() {
            true => state.budget.waits(function.id),
            false => state.budget.step_back(function.id),
        };
        drop(state);
        self.advance();
        waits
    }

    /// A function got idle. Costs one look, unless somebody waits for memory.
    pub(crate) fn got_idle(&self) {
        // Whoever waits has said so before it looked who is idle, and that look locks the same gate as the caller's did.
        if self.is_pressed() {
            self.advance();
        }
    }

    fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::SeqCst)
    }

    /// A wake has succeeded. The caller goes on with [`Keeper::advance`] when the function is warm.
    pub(crate) fn woke(&self, function: &Inner, grown: Option<u64>) -> Result<(), TooLarge> {
        self.state().budget.woke(function.id, grown)
    }

    /// A function that [`Keeper::woke`] refused is closed. True if it seems to fit all the same.
    pub(crate) fn turned_away(&self, function: &Inner, given_back: Option<u64>) -> bool {
        let mut state = self.state();
        state.functions.remove(&function.id);
        state.budget.turned_away(function.id, given_back)
    }

    /// A wake did not succeed.
    pub(crate) fn failed(&self, function: &Inner) {
        let mut state = self.state();
        state.budget.failed(function.id);
        state.functions.remove(&function.id);
    }

    /// A warm function goes to sleep for its own reasons.
    pub(crate) fn sleeps(&self, function: &Inner) {
        self.state().budget.sleeps(function.id);
    }

    /// A sleep is over, whatever its reasons.
    pub(crate) fn slept(&self, function: &Inner, given_back: Option<u64>) {
        let mut state = self.state();
        state.budget.slept(function.id, given_back);
        state.functions.remove(&function.id);
        drop(state);
        self.advance();
    }

    /// Whether a function may go for others: one that is replaced or unloaded may, whatever its manifest says.
    pub(crate) fn pin(&self, function: &Inner, pin: bool) {
        self.state().budget.pin(function.id, pin);
    }

    /// A function will not wake again.
    pub(crate) fn forget(&self, function: &Inner) {
        self.state().budget.forget(function.id);
    }

    /// Does what can be done now for those who wait.
    pub(crate) fn advance(&self) {
        // The runtime has ended, and functions with it.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let mut refused = Vec::new();
        let mut withdrew = Vec::new();
        let mut guard = self.state();
        let state = &mut *guard;
        // Before anybody is asked whether it is idle: see `got_idle`.
        self.pressed.store(state.budget.is_pressed(), Ordering::SeqCst);
        loop {
            if let Some(head) = state.budget.head()
                && state.functions.get(&head).is_some_and(|function| function.withdraws())
            {
                state.budget.withdraw(head);
                withdrew.extend(state.functions.remove(&head));
                continue;
            }
            match state.budget.next(|id| state.functions.get(&id)?.idle_since()) {
                Some(Step::Wake(id)) => {
                    if let Some(function) = state.functions.get(&id) {
                        function.lacks_memory(false);
                        function.spawn_wake();
                    }
                }
                Some(Step::Evict(id)) => {
                    let evicted = state.functions.get(&id).is_some_and(|function| function.evict());
                    if !evicted {
                        state.budget.stays(id);
                    }
                }
                Some(Step::Refuse(id, why)) => {
                    refused.extend(state.functions.remove(&id).map(|function| (function, why)))
                }
                None => break,
            }
        }
        self.pressed.store(state.budget.is_pressed(), Ordering::SeqCst);
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.functions.set(gauge(state.budget.total()));
        self.metrics.waiting.set(gauge(state.budget.waiting() as u64));
        drop(guard);
        // What is sent or told may lock a gate, or this.
        for (function, why) in refused {
            function.lacks_memory(false);
            function.wake_failed(&why.into());
        }
        withdrew.iter().for_each(|function| function.withdrew());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in a locked section panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
