//! When a function wakes, runs, waits, fails and sleeps: a state machine without clock, thread or lock.
//!
//! Every method is told what time it is and answers at once; `function.rs` is the mechanism around it. What this file
//! promises: at most one wake or sleep is under way; at most `max_concurrency` requests run; at most `queue` wait; nobody
//! waits while the function is warm and a place is free; it never sleeps while somebody runs or waits.
//!
//! Overload: a request that will not be answered within its deadline, by the pace of those before it, is turned away when it arrives,
//! and again when its turn comes while others wait. Else most would be tried and few be in time. Whoever is alone is always tried,
//! since what was learned may be wrong.

use crate::pace::Pace;
use std::time::{Duration, Instant};

/// The back-off after the first failed wake; it doubles with each further failure.
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
/// The longest back-off.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// Times in a row that a function whose models ended is woken again at once.
const AT_ONCE: u32 = 2;
/// A function that stays warm for this long has not failed in a row.
const STEADY: Duration = Duration::from_secs(60);
/// What an arriving request keeps in reserve: this part of the time for which others are expected to delay it. No pace is even, so
/// without it half of those who are let in last would come too late.
const RESERVE: u32 = 4;

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
    /// Not to be answered within its deadline, by so much.
    Late(Duration),
    /// The function failed to wake lately.
    Failed,
}

/// What becomes of the request whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is nobody's: nobody waits, or no place is free.
    Nobody,
    /// Run now.
    Run,
    /// Not to be answered within its deadline any more, by so much.
    Late(Duration),
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
    pace: Pace,
    /// When the wake that is under way was wanted.
    waking_since: Instant,
    /// How long the last one took, by its own account.
    last_wake: Option<Duration>,
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
            pace: Pace::default(),
            waking_since: now,
            last_wake: None,
            idle_since: now,
            failures: 0,
            warm_since: now,
            ends: 0,
            retry_at: now,
        }
    }

    /// Changes whether it goes to sleep when it has been idle for long enough.
    pub(crate) fn keep_warm(&mut self, keep_warm: bool) {
        self.policy.keep_warm = keep_warm;
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

    /// How long until a request that comes now is answered, behind `waiting` others and those that run. `None` where nothing is known.
    fn until_answer(&self, waiting: usize, now: Instant) -> Option<Duration> {
        let run = self.pace.until_end(self.active, waiting, self.policy.max_concurrency, now);
        let wake = match self.state {
            State::Warm => None,
            State::Waking => self.last_wake.map(|took| (self.waking_since + took).saturating_duration_since(now)),
            State::Cold | State::Sleeping | State::Failed => self.last_wake,
        };
        if run.is_none() && wake.is_none() {
            return None;
        }
        Some(run.unwrap_or_default().saturating_add(wake.unwrap_or_default()))
    }

    /// How long until all who are here now are answered, as far as that is known.
    pub(crate) fn until_served(&self, now: Instant) -> Option<Duration> {
        self.until_answer(self.waiting.saturating_sub(1), now)
    }

    /// A request is here that is to be answered until `deadline`. For [`Arrival::Run`] it counts as running, for the waiting ones as
    /// waiting.
    pub(crate) fn arrive(&mut self, now: Instant, deadline: Instant) -> Arrival {
        if !self.is_ready(now) {
            return Arrival::Failed;
        }
        let alone = self.active == 0 && self.waiting == 0;
        // The first request for a sleeping function must find a place even where the manifest allows no queue, since a
        // function that is asleep is no reason to refuse anybody: whoever could run at once when awake may wait for that.
        let room = match self.state {
            State::Warm => self.policy.queue,
            _ => self.policy.queue.saturating_add(self.policy.max_concurrency),
        };
        let free = self.state == State::Warm && self.active < self.policy.max_concurrency && self.waiting == 0;
        if !free && self.waiting >= room {
            return Arrival::Full;
        }
        if let Some(time) = self.until_answer(self.waiting, now).filter(|_| !alone) {
            let reserve = time.saturating_sub(self.pace.undisturbed()) / RESERVE;
            if let Some(by) = late_by(now, time.saturating_add(reserve), deadline) {
                return Arrival::Late(by);
            }
        }
        if free {
            self.begin(now);
            return Arrival::Run;
        }
        self.waiting += 1;
        match self.state {
            State::Cold | State::Failed => {
                self.wake(now);
                Arrival::WaitAndWake
            }
            State::Waking | State::Warm | State::Sleeping => Arrival::Wait,
        }
    }

    fn begin(&mut self, now: Instant) {
        self.pace.begins(self.active, now);
        self.active += 1;
    }

    fn wake(&mut self, now: Instant) {
        self.state = State::Waking;
        self.waking_since = now;
    }

    /// Starts a wake that no request asked for. False when there is nothing to start.
    pub(crate) fn start_wake(&mut self, now: Instant) -> bool {
        let start = matches!(self.state, State::Cold | State::Failed);
        if start {
            self.wake(now);
        }
        start
    }

    /// Lets one waiting request run, if it may; it is to be answered until `deadline`. It does not wait any more unless the turn is
    /// nobody's.
    pub(crate) fn admit(&mut self, now: Instant, deadline: Instant) -> Turn {
        if self.state != State::Warm || self.waiting == 0 || self.active >= self.policy.max_concurrency {
            return Turn::Nobody;
        }
        self.waiting -= 1;
        let until_answer = self.until_answer(0, now).filter(|_| self.waiting > 0);
        if let Some(by) = until_answer.and_then(|time| late_by(now, time, deadline)) {
            return Turn::Late(by);
        }
        self.begin(now);
        Turn::Run
    }

    /// A waiting request gave up.
    pub(crate) fn give_up(&mut self, now: Instant) {
        self.waiting -= 1;
        if self.waiting == 0 && self.active == 0 {
            self.idle_since = now;
        }
    }

    /// A running request ended: with an answer, whatever it was, or because nobody wants one any more.
    pub(crate) fn finish(&mut self, answered: bool, now: Instant) {
        self.pace.ends(self.active, answered, now);
        self.active -= 1;
        if self.waiting == 0 && self.active == 0 {
            self.idle_since = now;
        }
    }

    /// The wake succeeded, and took so long from when there was memory for it.
    pub(crate) fn woke(&mut self, now: Instant, took: Duration) {
        self.state = State::Warm;
        self.last_wake = Some(took);
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
            self.wake(now);
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
    pub(crate) fn slept(&mut self, now: Instant) -> AfterSleep {
        if self.waiting > 0 {
            self.wake(now);
            AfterSleep::Wake
        } else {
            self.state = State::Cold;
            AfterSleep::Rest
        }
    }
}

/// By how much something that takes `time` from now on misses `deadline`, if it does.
fn late_by(now: Instant, time: Duration, deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(now);
    time.checked_sub(left).filter(|by| !by.is_zero())
}

/// The back-off after so many earlier failures.
fn back_off(earlier: u32) -> Duration {
    let doubled = FIRST_BACK_OFF.saturating_mul(1_u32.checked_shl(earlier).unwrap_or(u32::MAX));
    doubled.min(LONGEST_BACK_OFF)
}

#[cfg(test)]
mod overload;
#[cfg(test)]
mod tests;
