//! Single cases by hand, and all promises of `budget.rs` over random lives of functions on a clock of the test's own.

use super::*;
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

const MIB: u64 = 1 << 20;

/// A host whose functions do what the budget says.
struct Host {
    budget: Budget,
    now: Instant,
    functions: BTreeMap<Id, Function>,
    /// What was done, in order.
    done: Vec<Step>,
}

#[derive(Debug, Clone)]
struct Function {
    pinned: bool,
    /// What its files take, and what it takes once it is warm.
    files: u64,
    bytes: u64,
    state: State,
    active: usize,
    waiting: usize,
    idle_since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Cold,
    InLine,
    Waking,
    Warm,
    Sleeping,
}

impl Function {
    fn is_idle(&self) -> bool {
        self.state == State::Warm && self.active == 0 && self.waiting == 0
    }
}

impl Host {
    fn new(limit: u64, functions: impl IntoIterator<Item = (u64, u64, bool)>) -> Self {
        let now = Instant::now();
        let function = |(files, bytes, pinned)| Function {
            pinned,
            files: files * MIB,
            bytes: bytes * MIB,
            state: State::Cold,
            active: 0,
            waiting: 0,
            idle_since: now,
        };
        let functions = (0..).zip(functions.into_iter().map(function)).collect();
        Host { budget: Budget::new(Some(limit * MIB)), now, functions, done: Vec::new() }
    }

    fn function(&mut self, id: Id) -> &mut Function {
        self.functions.get_mut(&id).expect("it is there")
    }

    /// A request for a function.
    fn call(&mut self, id: Id) {
        let Function { files, pinned, state, .. } = *self.function(id);
        match state {
            State::Warm => self.function(id).active += 1,
            State::Cold => {
                (self.function(id).waiting, self.function(id).state) = (1, State::InLine);
                self.budget.ask(id, files, pinned);
            }
            _ => self.function(id).waiting += 1,
        }
        self.advance();
    }

    fn finish(&mut self, id: Id) {
        let now = self.now;
        let function = self.function(id);
        function.active -= 1;
        function.idle_since = now;
        self.advance();
    }

    /// Everybody who waits for a function gives up.
    fn give_up(&mut self, id: Id) {
        self.function(id).waiting = 0;
        if self.function(id).state == State::InLine {
            self.function(id).state = State::Cold;
            self.budget.withdraw(id);
        }
        self.advance();
    }

    /// A wake or a sleep that is under way ends.
    fn settle(&mut self, id: Id) {
        let (now, bytes, waiting) = (self.now, self.function(id).bytes, self.function(id).waiting);
        match self.function(id).state {
            State::Waking => match self.budget.woke(id, Some(bytes)) {
                Ok(()) => {
                    let function = self.function(id);
                    (function.state, function.active, function.waiting) = (State::Warm, waiting, 0);
                    function.idle_since = now;
                }
                Err(_) => {
                    assert!(!self.budget.turned_away(id, Some(bytes)));
                    (self.function(id).state, self.function(id).waiting) = (State::Cold, 0);
                }
            },
            State::Sleeping => {
                self.budget.slept(id, Some(bytes));
                self.function(id).state = State::Cold;
                if waiting > 0 {
                    let (files, pinned) = (self.function(id).files, self.function(id).pinned);
                    self.function(id).state = State::InLine;
                    self.budget.ask(id, files, pinned);
                }
            }
            _ => {}
        }
        self.advance();
    }

    /// What the keeper does.
    fn advance(&mut self) {
        loop {
            let functions = &self.functions;
            let idle = |id: Id| Some(&functions[&id]).filter(|f| f.is_idle()).map(|f| f.idle_since);
            let head = self.budget.head();
            let Some(step) = self.budget.next(idle) else { return };
            match &step {
                Step::Wake(id) => {
                    assert_eq!(Some(*id), head, "nobody overtakes");
                    self.function(*id).state = State::Waking;
                    let total: u64 = self.budget.total();
                    assert!(Some(total) <= self.budget.limit, "no wake goes over the budget");
                }
                Step::Evict(id) => {
                    let function = self.function(*id);
                    assert!(function.is_idle() && !function.pinned, "only what is idle and may go is put to sleep");
                    let since = function.idle_since;
                    let longer =
                        |(_, other): (&Id, &Function)| other.is_idle() && !other.pinned && other.idle_since < since;
                    assert!(!self.functions.iter().any(longer), "the one that was idle for longest goes first");
                    self.function(*id).state = State::Sleeping;
                }
                Step::Refuse(id, _) => {
                    assert_eq!(Some(*id), head);
                    (self.function(*id).state, self.function(*id).waiting) = (State::Cold, 0);
                }
            }
            self.done.push(step);
        }
    }

    /// Calls a function and lets its wake end; the function is idle afterwards.
    fn use_once(&mut self, id: Id) {
        self.call(id);
        self.settle(id);
        self.finish(id);
        self.now += Duration::from_secs(1);
    }

    fn done(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.done)
    }
}

#[test]
fn the_least_recently_used_goes_first_and_only_as_many_as_must() {
    let mut host = Host::new(100, [(1, 40, false), (1, 40, false), (1, 20, false), (1, 60, false)]);
    [0, 1, 2].into_iter().for_each(|id| host.use_once(id));
    host.call(0);
    host.finish(0);
    host.done();
    // Of 3 only the files are known, 1 MiB; one has to go for it.
    host.call(3);
    assert_eq!(host.done(), [Step::Evict(1)]);
    host.settle(1);
    assert_eq!(host.done(), [Step::Wake(3)]);
    // It turns out to need 60: more must go, until all fits.
    host.settle(3);
    assert_eq!(host.done(), [Step::Evict(2)]);
    host.settle(2);
    assert_eq!(host.done(), []);
    assert_eq!(host.budget.total(), 100 * MIB);
}

#[test]
fn a_large_function_is_not_starved_by_small_ones() {
    let mut host = Host::new(100, [(1, 50, false), (1, 50, false), (1, 90, false), (1, 10, false)]);
    // All sizes are known, and two of them run.
    for id in [2, 3] {
        host.use_once(id);
    }
    host.call(0);
    host.settle(2);
    host.settle(0);
    host.call(1);
    host.settle(1);
    host.settle(3);
    host.done();
    host.call(2);
    host.call(3);
    assert_eq!(host.done(), [], "both wait, though the small one may fit first");
    host.finish(0);
    assert_eq!(host.done(), [Step::Evict(0)]);
    host.settle(0);
    assert_eq!(host.done(), [], "the room is kept for the large one");
    host.finish(1);
    host.settle(1);
    assert_eq!(host.done(), [Step::Evict(1), Step::Wake(2), Step::Wake(3)]);
}

#[test]
fn what_can_never_fit_is_refused_with_the_cause_and_keeps_nobody_waiting() {
    let mut host = Host::new(100, [(1, 60, true), (50, 50, false), (1, 10, false), (1, 200, false)]);
    host.use_once(0);
    host.done();
    host.call(1);
    let [Step::Refuse(1, why)] = host.done()[..] else { panic!("{:?}", host.done) };
    assert_eq!(
        why.to_string(),
        "it takes 50.0 MiB (its files alone), and the memory budget of 100.0 MiB, of which functions with `min = 1` hold \
         60.0 MiB, has no room for that; raise `--memory-budget`, or give it a smaller model"
    );
    // Nobody knows of 3 before it was awake once.
    host.call(3);
    host.call(2);
    host.settle(3);
    assert_eq!(host.function(3).state, State::Cold);
    assert_eq!(host.done(), [Step::Wake(3), Step::Wake(2)]);
    host.call(3);
    host.settle(2);
    let [Step::Refuse(3, why)] = host.done()[..] else { panic!("{:?}", host.done) };
    assert!(why.to_string().starts_with("it takes 200.0 MiB (measured), and"), "{why}");
}

#[test]
fn only_what_was_alone_is_measured() {
    let mut budget = Budget::new(None);
    let idle = |_| None;
    budget.ask(0, 5 * MIB, false);
    budget.ask(1, 5 * MIB, false);
    assert_eq!((budget.next(idle), budget.next(idle)), (Some(Step::Wake(0)), Some(Step::Wake(1))), "without a limit");
    budget.woke(0, Some(70 * MIB)).unwrap();
    budget.woke(1, Some(80 * MIB)).unwrap();
    assert_eq!((budget.counted(0), budget.counted(1)), (Some(5 * MIB), Some(5 * MIB)), "each grew with the other");
    budget.sleeps(0);
    budget.slept(0, Some(30 * MIB));
    budget.ask(0, 5 * MIB, false);
    assert_eq!(budget.next(idle), Some(Step::Wake(0)));
    assert_eq!(budget.counted(0), Some(30 * MIB), "what it gave back alone is what it holds");
    budget.woke(0, Some(0)).unwrap();
    assert_eq!(budget.counted(0), Some(30 * MIB), "what another one gave back meanwhile does not hide it");
}

#[test]
fn what_a_library_keeps_shuts_nobody_out() {
    let mut budget = Budget::new(Some(50 * MIB));
    budget.ask(0, MIB, false);
    assert_eq!(budget.next(|_| None), Some(Step::Wake(0)));
    budget.woke(0, Some(60 * MIB)).unwrap_err();
    assert!(budget.turned_away(0, Some(40 * MIB)), "the library was opened too, and stays");
    budget.ask(0, MIB, false);
    assert_eq!(budget.next(|_| None), Some(Step::Wake(0)));
    assert_eq!(budget.counted(0), Some(40 * MIB));
}

#[test]
fn a_replaced_function_may_go() {
    let mut host = Host::new(100, [(1, 60, true), (1, 60, true)]);
    host.use_once(0);
    host.call(1);
    host.settle(1);
    assert_eq!(host.function(1).state, State::Cold, "both never fit");
    host.done();
    host.budget.pin(0, false);
    host.function(0).pinned = false;
    host.call(1);
    assert_eq!(host.done(), [Step::Evict(0)]);
}

#[test]
fn who_was_not_asked_for_lets_others_pass() {
    let mut host = Host::new(100, [(1, 60, false), (1, 60, true), (1, 30, false)]);
    for id in [2, 0] {
        host.use_once(id);
    }
    host.call(0);
    host.budget.sizes.insert(1, Size { grown: Some(60 * MIB), given_back: None });
    host.call(1);
    host.done();
    host.settle(2);
    host.call(2);
    assert_eq!(host.done(), [], "it waits behind one that waits for a busy one");
    assert!(host.budget.step_back(1));
    host.advance();
    assert_eq!(host.done(), [Step::Wake(2)]);
    assert!(!host.budget.step_back(7));
}

/// What may happen to a host, each for the function with this number.
#[derive(Debug, Clone, Copy)]
enum Event {
    Call(Id),
    Finish(Id),
    GiveUp(Id),
    Settle(Id),
    Pass,
}

fn event(functions: Id) -> impl Strategy<Value = Event> {
    let id = 0..functions;
    prop_oneof![
        4 => id.clone().prop_map(Event::Call),
        3 => id.clone().prop_map(Event::Finish),
        1 => id.clone().prop_map(Event::GiveUp),
        4 => id.prop_map(Event::Settle),
        1 => Just(Event::Pass),
    ]
}

const COUNT: usize = 8;
const FUNCTIONS: Id = COUNT as Id;

proptest! {
    /// `Host::advance` checks each step; this checks what is so between them, and that everybody is served in the end.
    #[test]
    fn the_promises_hold(
        sizes in prop::collection::vec((0_u64..40, 1_u64..70, prop::bool::weighted(0.1)), COUNT),
        events in prop::collection::vec(event(FUNCTIONS), 1..200),
    ) {
        let mut host = Host::new(100, sizes);
        for event in events {
            host.now += Duration::from_millis(1);
            match event {
                Event::Call(id) => host.call(id),
                Event::Finish(id) if host.function(id).active > 0 => host.finish(id),
                Event::GiveUp(id) => host.give_up(id),
                Event::Settle(id) => host.settle(id),
                Event::Finish(_) | Event::Pass => {}
            }
            check(&host)?;
        }
        // All requests end. Then whoever waits is let in or refused, and nothing is stuck.
        for _ in 0..20 * FUNCTIONS {
            for id in 0..FUNCTIONS {
                host.now += Duration::from_millis(1);
                host.settle(id);
                while host.function(id).active > 0 {
                    host.finish(id);
                }
                check(&host)?;
            }
        }
        prop_assert_eq!(host.budget.waiting(), 0);
        prop_assert!(host.functions.values().all(|function| function.waiting == 0), "{:?}", host.functions);
        prop_assert!(host.budget.total() <= 100 * MIB);
    }
}

fn check(host: &Host) -> Result<(), TestCaseError> {
    let moving = host.functions.values().any(|function| matches!(function.state, State::Waking | State::Sleeping));
    let idle = host.functions.values().any(|function| function.is_idle() && !function.pinned);
    if !moving && idle {
        // Somebody who waits waits for busy ones only.
        prop_assert_eq!(host.budget.waiting(), 0);
        prop_assert!(host.budget.total() <= 100 * MIB);
    }
    let held = |function: &&Function| matches!(function.state, State::Waking | State::Warm | State::Sleeping);
    prop_assert_eq!(host.budget.held.len(), host.functions.values().filter(held).count());
    let in_line = |function: &&Function| function.state == State::InLine;
    prop_assert_eq!(host.budget.waiting(), host.functions.values().filter(in_line).count());
    Ok(())
}
