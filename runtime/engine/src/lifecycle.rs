//! When a function wakes, runs, waits, fails and sleeps: a state machine without clock, thread or lock.
//!
//! Every method is told what time it is and answers at once; `function.rs` is the mechanism around it. What this file
//! promises: at most one wake or sleep is under way; at most `max_concurrency` requests run; at most `queue` wait; nobody
//! waits while the function is warm and a place is free; it never sleeps while somebody runs or waits.

use std::time::{Duration, Instant};

/// The back-off after the first failed wake; it doubles with each further failure.
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
/// The longest back-off.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// Times in a row that a function whose models ended is woken again at once.
const AT_ONCE: u32 = 2;
/// A function that stays warm for this long has not failed in a row.
const STEADY: Duration = Duration::from_secs(60);

/// What the manifest says about scaling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Never sleep, and wake without being asked.
    pub(crate) keep_warm: bool,
    /// How long a warm function stays so without a request.
    pub(crate) idle_timeout: Duration,
    /// Requests that may run at the same time.
    pub(crate) max_concurrency: usize,
    /// Requests that may wait, for a place or for the wake.
    pub(crate) queue: usize,
}

/// Where a function stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum State {
    /// At zero: no code, no session, no thread.
    Cold,
    /// On its way to warm.
    Waking,
    /// Ready to answer.
    Warm,
    /// On its way to cold.
    Sleeping,
    /// The last wake did not succeed, and the next one must wait.
    Failed,
}

/// What becomes of a request that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Run now.
    Run,
    /// Wait to be let in.
    Wait,
    /// Wait to be let in, and start the wake.
    WaitAndWake,
    /// The queue is full.
    Full,
    /// The function failed to wake lately.
    Failed,
}

/// What to do after a sleep has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterSleep {
    /// Stay cold.
    Rest,
    /// Somebody came meanwhile: start a wake.
    Wake,
}

/// What to do when a function's models have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterEnd {
    /// Stay cold.
    Rest,
    /// Somebody waits, or the function is to be warm: start a wake.
    Wake,
    /// It has happened too often: everybody who waits is to be told, and nobody waits any more.
    BackOff(Duration),
}

#[derive(Debug)]
pub(crate) struct Lifecycle {
    policy: Policy,
    state: State,
    active: usize,
    waiting: usize,
    /// When the last request ended, or the wake if none came since.
    idle_since: Instant,
    failures: u32,
    /// When it became warm.
    warm_since: Instant,
    /// Times in a row that its models ended.
    ends: u32,
    /// Until when a failed function refuses to try again.
    retry_at: Instant,
}

impl Lifecycle {
    pub(crate) fn new(policy: Policy, now: Instant) -> Self {
        Lifecycle {
            policy,
            state: State::Cold,
            active: 0,
            waiting: 0,
            idle_since: now,
            failures: 0,
            warm_since: now,
            ends: 0,
            retry_at: now,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn active(&self) -> usize {
        self.active
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether a request that arrives now would be let in, or at least let wait.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.state != State::Failed || now >= self.retry_at
    }

    /// A request is here. For [`Arrival::Run`] it counts as running, for the waiting ones as waiting.
    pub(crate) fn arrive(&mut self, now: Instant) -> Arrival {
        if self.state == State::Warm && self.active < self.policy.max_concurrency && self.waiting == 0 {
            self.active += 1;
            return Arrival::Run;
        }
        if !self.is_ready(now) {
            return Arrival::Failed;
        }
        // The first request for a sleeping function must find a place even where the manifest allows no queue, since a
        // function that is asleep is no reason to refuse anybody: whoever could run at once when awake may wait for that.
        let room = match self.state {
            State::Warm => self.policy.queue,
            _ => self.policy.queue.saturating_add(self.policy.max_concurrency),
        };
        if self.waiting >= room {
            return Arrival::Full;
        }
        self.waiting += 1;
        match self.state {
            State::Cold | State::Failed => {
                self.state = State::Waking;
                Arrival::WaitAndWake
            }
            State::Waking | State::Warm | State::Sleeping => Arrival::Wait,
        }
    }

    /// Starts a wake that no request asked for. False when there is nothing to start.
    pub(crate) fn start_wake(&mut self) -> bool {
        let start = matches!(self.state, State::Cold | State::Failed);
        if start {
            self.state = State::Waking;
        }
        start
    }

    /// Lets one waiting request run, if it may.
    pub(crate) fn admit(&mut self) -> bool {
        let admit = self.state == State::Warm && self.waiting > 0 && self.active < self.policy.max_concurrency;
        if admit {
            self.waiting -= 1;
            self.active += 1;
        }
        admit
    }

    /// A waiting request gave up.
    pub(crate) fn give_up(&mut self, now: Instant) {
        self.waiting -= 1;
        if self.waiting == 0 && self.active == 0 {
            self.idle_since = now;
        }
    }

    /// A running request ended.
    pub(crate) fn finish(&mut self, now: Instant) {
        self.active -= 1;
        if self.waiting == 0 && self.active == 0 {
            self.idle_since = now;
        }
    }

    /// The wake succeeded.
    pub(crate) fn woke(&mut self, now: Instant) {
        self.state = State::Warm;
        self.failures = 0;
        self.idle_since = now;
        self.warm_since = now;
    }

    /// The processes of a warm function's models have ended. Whoever arrives waits, until what counted as theirs is given back.
    pub(crate) fn models_are_gone(&mut self) {
        self.state = State::Sleeping;
    }

    /// It is given back. Requests that run go on, and will find out what happened.
    pub(crate) fn models_ended(&mut self, now: Instant) -> AfterEnd {
        if now.saturating_duration_since(self.warm_since) >= STEADY {
            self.ends = 0;
        }
        self.ends = self.ends.saturating_add(1);
        if let Some(earlier) = self.ends.checked_sub(AT_ONCE + 1) {
            let back_off = back_off(earlier);
            self.state = State::Failed;
            self.waiting = 0;
            self.retry_at = now + back_off;
            AfterEnd::BackOff(back_off)
        } else if self.waiting > 0 || self.policy.keep_warm {
            self.state = State::Waking;
            AfterEnd::Wake
        } else {
            self.state = State::Cold;
            AfterEnd::Rest
        }
    }

    /// The wake did not succeed: everybody who waits is to be told, and nobody waits any more. Returns the back-off.
    pub(crate) fn wake_failed(&mut self, now: Instant) -> Duration {
        let back_off = back_off(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Failed;
        self.waiting = 0;
        self.retry_at = now + back_off;
        back_off
    }

    /// A function whose wake has not begun wants none any more: it is cold again. False if somebody waits, or it does not wake.
    pub(crate) fn withdraw(&mut self) -> bool {
        let withdraw = self.state == State::Waking && self.waiting == 0;
        if withdraw {
            self.state = State::Cold;
        }
        withdraw
    }

    /// Since when it is idle; `None` while it is not warm, or somebody runs or waits.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let idle = self.state == State::Warm && self.active == 0 && self.waiting == 0;
        idle.then_some(self.idle_since)
    }

    /// When the function would go to sleep if nothing happened until then; `None` while it is not idle, or never sleeps.
    pub(crate) fn sleep_at(&self) -> Option<Instant> {
        self.idle_since().filter(|_| !self.policy.keep_warm).map(|since| since + self.policy.idle_timeout)
    }

    /// Goes to sleep if it is time.
    pub(crate) fn try_sleep(&mut self, now: Instant) -> bool {
        let sleep = self.sleep_at().is_some_and(|at| at <= now);
        if sleep {
            self.state = State::Sleeping;
        }
        sleep
    }

    /// Goes to sleep before it is time, since another function needs its memory. False unless it is idle.
    pub(crate) fn evict(&mut self) -> bool {
        let sleep = self.idle_since().is_some();
        if sleep {
            self.state = State::Sleeping;
        }
        sleep
    }

    /// Goes to sleep for good, as a host that ends does. False unless it is warm and nobody runs.
    pub(crate) fn retire(&mut self) -> bool {
        let sleep = self.state == State::Warm && self.active == 0;
        if sleep {
            self.state = State::Sleeping;
        }
        sleep
    }

    /// Everything is given back.
    pub(crate) fn slept(&mut self) -> AfterSleep {
        if self.waiting > 0 {
            self.state = State::Waking;
            AfterSleep::Wake
        } else {
            self.state = State::Cold;
            AfterSleep::Rest
        }
    }
}

/// The back-off after so many earlier failures.
fn back_off(earlier: u32) -> Duration {
    let doubled = FIRST_BACK_OFF.saturating_mul(1_u32.checked_shl(earlier).unwrap_or(u32::MAX));
    doubled.min(LONGEST_BACK_OFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A life cycle and a clock that moves only when told.
    struct Scene {
        life: Lifecycle,
        now: Instant,
    }

    impl Scene {
        fn new(max_concurrency: usize, queue: usize) -> Self {
            let policy = Policy { keep_warm: false, idle_timeout: Duration::from_secs(30), max_concurrency, queue };
            let now = Instant::now();
            Scene { life: Lifecycle::new(policy, now), now }
        }

        fn models_end(&mut self) -> AfterEnd {
            self.life.models_are_gone();
            assert!(self.life.idle_since().is_none() && !self.life.evict(), "nobody evicts what is gone");
            self.life.models_ended(self.now)
        }

        fn warm(max_concurrency: usize, queue: usize) -> Self {
            let mut scene = Scene::new(max_concurrency, queue);
            assert!(scene.life.start_wake());
            scene.life.woke(scene.now);
            scene
        }

        fn arrive(&mut self) -> Arrival {
            self.life.arrive(self.now)
        }

        fn pass(&mut self, seconds: f64) {
            self.now += Duration::from_secs_f64(seconds);
        }

        fn try_sleep(&mut self) -> bool {
            self.life.try_sleep(self.now)
        }
    }

    #[test]
    fn one_wake_serves_all_who_wait() {
        let mut scene = Scene::new(2, 8);
        assert_eq!(scene.arrive(), Arrival::WaitAndWake);
        assert_eq!(scene.arrive(), Arrival::Wait);
        assert_eq!(scene.arrive(), Arrival::Wait);
        assert!(!scene.life.admit(), "nobody runs before the wake has ended");
        scene.life.woke(scene.now);
        assert_eq!((scene.life.admit(), scene.life.admit(), scene.life.admit()), (true, true, false));
        scene.life.finish(scene.now);
        assert!(scene.life.admit());
        assert_eq!((scene.life.active(), scene.life.waiting()), (2, 0));
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut scene = Scene::warm(1, 1);
        assert_eq!((scene.arrive(), scene.arrive(), scene.arrive()), (Arrival::Run, Arrival::Wait, Arrival::Full));
    }

    #[test]
    fn a_sleeping_function_refuses_nobody_whom_it_could_serve_awake() {
        let mut scene = Scene::new(2, 0);
        assert_eq!(
            (scene.arrive(), scene.arrive(), scene.arrive()),
            (Arrival::WaitAndWake, Arrival::Wait, Arrival::Full)
        );
    }

    #[test]
    fn who_waits_is_not_overtaken() {
        let mut scene = Scene::warm(1, 8);
        assert_eq!((scene.arrive(), scene.arrive()), (Arrival::Run, Arrival::Wait));
        scene.life.finish(scene.now);
        assert_eq!(scene.arrive(), Arrival::Wait, "a place is free, but somebody was here before");
    }

    #[test]
    fn idle_is_measured_from_the_last_request_s_end() {
        let mut scene = Scene::warm(1, 1);
        scene.pass(29.0);
        assert_eq!(scene.arrive(), Arrival::Run);
        scene.pass(100.0);
        assert!(!scene.try_sleep(), "a running request keeps it awake");
        scene.life.finish(scene.now);
        scene.pass(29.9);
        assert!(!scene.try_sleep());
        scene.pass(0.1);
        assert!(scene.try_sleep());
        assert!(!scene.try_sleep(), "one sleep at a time");
        assert_eq!(scene.life.slept(), AfterSleep::Rest);
        assert_eq!(scene.life.state(), State::Cold);
    }

    #[test]
    fn who_comes_during_the_sleep_wakes_it_again() {
        let mut scene = Scene::warm(1, 1);
        scene.pass(30.0);
        assert!(scene.try_sleep());
        assert_eq!(scene.arrive(), Arrival::Wait);
        assert_eq!(scene.life.slept(), AfterSleep::Wake);
        assert_eq!(scene.life.state(), State::Waking);
    }

    #[test]
    fn who_gives_up_leaves_no_trace() {
        let mut scene = Scene::new(1, 1);
        assert_eq!(scene.arrive(), Arrival::WaitAndWake);
        scene.life.give_up(scene.now);
        scene.pass(1.0);
        scene.life.woke(scene.now);
        assert!(!scene.life.admit());
        scene.pass(30.0);
        assert!(scene.try_sleep());
    }

    #[test]
    fn a_failed_wake_backs_off_and_recovers() {
        let mut scene = Scene::new(1, 8);
        assert_eq!(scene.arrive(), Arrival::WaitAndWake);
        assert_eq!(scene.life.wake_failed(scene.now), Duration::from_millis(500));
        assert_eq!(scene.arrive(), Arrival::Failed);
        assert!(!scene.life.is_ready(scene.now));
        scene.pass(0.5);
        assert!(scene.life.is_ready(scene.now), "a client that waits for readiness must get its chance to try");
        assert_eq!(scene.arrive(), Arrival::WaitAndWake);
        assert_eq!(scene.life.wake_failed(scene.now), Duration::from_secs(1));
        for _ in 0..80 {
            scene.pass(60.0);
            assert_eq!(scene.arrive(), Arrival::WaitAndWake);
            assert!(scene.life.wake_failed(scene.now) <= LONGEST_BACK_OFF);
        }
        scene.pass(60.0);
        assert_eq!(scene.arrive(), Arrival::WaitAndWake);
        scene.life.woke(scene.now);
        assert!(scene.life.admit());
        scene.life.finish(scene.now);
        scene.pass(30.0);
        assert!(scene.try_sleep());
        assert_eq!(scene.life.slept(), AfterSleep::Rest);
        assert_eq!(scene.arrive(), Arrival::WaitAndWake);
        assert_eq!(scene.life.wake_failed(scene.now), Duration::from_millis(500), "a success forgets the failures");
    }

    #[test]
    fn only_the_idle_are_evicted() {
        let mut scene = Scene::warm(1, 1);
        assert_eq!(scene.life.idle_since(), Some(scene.now));
        assert_eq!(scene.arrive(), Arrival::Run);
        assert!(!scene.life.evict() && scene.life.idle_since().is_none());
        scene.life.finish(scene.now);
        assert!(scene.life.evict());
        assert_eq!(scene.arrive(), Arrival::Wait);
        assert_eq!(scene.life.slept(), AfterSleep::Wake);
        assert!(!scene.life.withdraw(), "somebody waits");
        scene.life.give_up(scene.now);
        assert!(scene.life.withdraw());
        assert_eq!(scene.life.state(), State::Cold);
        assert!(!scene.life.withdraw() && !scene.life.evict());
    }

    #[test]
    fn models_that_ended_are_replaced_and_those_that_keep_ending_back_off() {
        let mut scene = Scene::warm(1, 8);
        assert_eq!(scene.models_end(), AfterEnd::Rest);
        assert_eq!(scene.arrive(), Arrival::WaitAndWake, "the next request wakes it at once");
        scene.life.woke(scene.now);
        assert!(scene.life.admit());
        assert_eq!(scene.arrive(), Arrival::Wait);
        assert_eq!(scene.models_end(), AfterEnd::Wake, "somebody waits");
        scene.life.finish(scene.now);
        scene.life.woke(scene.now);
        assert!(scene.life.admit(), "who waited is served");
        assert_eq!(scene.arrive(), Arrival::Wait);
        assert_eq!(scene.models_end(), AfterEnd::BackOff(Duration::from_millis(500)));
        scene.life.finish(scene.now);
        assert_eq!((scene.arrive(), scene.life.waiting()), (Arrival::Failed, 0));
        scene.pass(0.5);
        assert_eq!(scene.arrive(), Arrival::WaitAndWake);
        scene.life.woke(scene.now);
        assert_eq!(scene.models_end(), AfterEnd::BackOff(Duration::from_secs(1)));
        scene.pass(1.0);
        assert_eq!(scene.arrive(), Arrival::WaitAndWake);
        scene.life.woke(scene.now);
        scene.pass(60.0);
        assert_eq!(scene.models_end(), AfterEnd::Wake, "it was steady for long enough");
    }

    #[test]
    fn who_runs_when_the_models_end_keeps_the_next_ones_awake() {
        let mut scene = Scene::warm(2, 8);
        assert_eq!(scene.arrive(), Arrival::Run);
        assert_eq!(scene.models_end(), AfterEnd::Rest);
        assert_eq!(scene.arrive(), Arrival::WaitAndWake);
        scene.life.woke(scene.now);
        assert!(scene.life.admit());
        scene.life.finish(scene.now);
        scene.pass(30.0);
        assert!(!scene.try_sleep(), "one of the two still runs");
        scene.life.finish(scene.now);
        scene.pass(30.0);
        assert!(scene.try_sleep());
    }

    #[test]
    fn kept_warm_never_sleeps() {
        let mut scene = Scene::warm(1, 1);
        scene.life.policy.keep_warm = true;
        scene.pass(1e6);
        assert!(!scene.try_sleep());
        assert!(scene.life.retire(), "but it does when the host ends");
    }
}
