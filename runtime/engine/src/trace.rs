//! Where the time of a function's last calls went. In memory alone, a few for each function, and none for one that nobody calls.

use crate::{WakeTiming, cache::CacheStatus, statistics::Runs, status};
use serde::Serialize;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// What the clock on the wall says, for statuses and traces, which people read.
#[expect(clippy::disallowed_methods, reason = "people are told, and nothing else is done with it")]
pub(crate) fn on_the_wall() -> SystemTime {
    SystemTime::now()
}

/// Calls that are remembered of one function.
const LAST: usize = 8;

/// One call that has ended. What it did not come to is `None`.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Trace {
    /// Counts the calls that this revision remembers, from 1.
    pub number: u64,
    /// When it arrived, in seconds since 1970.
    #[serde(serialize_with = "status::unix_seconds")]
    pub arrived: Option<SystemTime>,
    /// How it ended.
    pub outcome: &'static str,
    /// From its arrival to its end.
    #[serde(serialize_with = "status::milliseconds", rename = "total_ms")]
    pub total: Duration,
    /// From its arrival until it was let in, or gave up; a wake included.
    #[serde(serialize_with = "status::milliseconds", rename = "queue_ms")]
    pub queue: Duration,
    /// The wake that it waited for.
    pub wake: Option<WakeTiming>,
    /// From being let in until its instance was there.
    #[serde(serialize_with = "status::maybe_milliseconds", rename = "instantiate_ms")]
    pub instantiate: Option<Duration>,
    /// From there until the guest had an answer; for HTTP, the head of one.
    #[serde(serialize_with = "status::maybe_milliseconds", rename = "run_ms")]
    pub run: Option<Duration>,
    /// From there until its end: checking the answer, or sending its body.
    #[serde(serialize_with = "status::maybe_milliseconds", rename = "answer_ms")]
    pub answer: Option<Duration>,
    /// What the response cache did for its runs of models; `None` where none of them is kept.
    pub model_cache: Option<&'static str>,
    /// What it did for the request as a whole; `None` where answers are not kept.
    pub http_cache: Option<&'static str>,
}

/// When a call passed from one phase to the next. Shared by all who work on it; each moment is set once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks(Arc<Moments>);

#[derive(Debug, Default)]
struct Moments {
    admitted: OnceLock<(Instant, Option<WakeTiming>)>,
    ready: OnceLock<Instant>,
    answered: OnceLock<Instant>,
    first_run: OnceLock<Duration>,
    http_cache: OnceLock<CacheStatus>,
    /// Of all runs of models whose outputs are kept. Nobody waits for it, since a call's runs are one after the other.
    model_cache: Mutex<Option<CacheStatus>>,
    /// Neither for this.
    runs: Mutex<Runs>,
}

impl Marks {
    /// The call is let in, after a wake if it waited for one.
    pub(crate) fn admitted(&self, wake: Option<WakeTiming>) {
        let _ = self.0.admitted.set((Instant::now(), wake));
    }

    /// Its instance is there.
    pub(crate) fn ready(&self) {
        let _ = self.0.ready.set(Instant::now());
    }

    /// The guest has an answer. `first_run` is how long the first run of a model since the wake took, if there was one.
    pub(crate) fn answered(&self, first_run: Option<Duration>) {
        let _ = self.0.answered.set(Instant::now());
        first_run.map(|took| self.0.first_run.set(took));
    }

    /// What the response cache did for a run of a model.
    pub(crate) fn looked_up(&self, status: CacheStatus) {
        let mut all = self.0.model_cache.lock().unwrap_or_else(PoisonError::into_inner);
        *all = Some(all.map_or(status, |before| before.and(status)));
    }

    /// What it did for all of them; `None` where there were none of models whose outputs are kept.
    pub(crate) fn model_cache(&self) -> Option<CacheStatus> {
        *self.0.model_cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A model ran for it, and for others where that was with so many rows of a batch.
    pub(crate) fn ran(&self, rows: u64, took: Duration) {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner).add(rows, took);
    }

    /// The runs that count as its own.
    pub(crate) fn runs(&self) -> Runs {
        std::mem::take(&mut *self.0.runs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the response cache did for the whole request.
    pub(crate) fn looked_up_whole(&self, status: CacheStatus) {
        let _ = self.0.http_cache.set(status);
    }

    /// When it was let in.
    pub(crate) fn admission(&self) -> Option<Instant> {
        self.0.admitted.get().map(|(at, _)| *at)
    }

    /// The wake that it waited for.
    pub(crate) fn wake(&self) -> Option<WakeTiming> {
        let (_, wake) = self.0.admitted.get()?;
        let wake = wake.clone()?;
        Some(WakeTiming { first_run: wake.first_run.or(self.0.first_run.get().copied()), ..wake })
    }

    /// From being let in until its instance was there.
    pub(crate) fn instantiate(&self) -> Option<Duration> {
        Some(self.0.ready.get()?.saturating_duration_since(self.admission()?))
    }

    /// The whole call, which ends now. Its number is not known yet.
    pub(crate) fn trace(&self, arrived: Instant, outcome: &'static str) -> Trace {
        let now = Instant::now();
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let (ready, answered) = (self.0.ready.get().copied(), self.0.answered.get().copied());
        let total = now.saturating_duration_since(arrived);
        Trace {
            number: 0,
            arrived: on_the_wall().checked_sub(total),
            outcome,
            total,
            queue: self.admission().unwrap_or(now).saturating_duration_since(arrived),
            wake: self.wake(),
            instantiate: self.instantiate(),
            run: between(ready, answered),
            answer: between(answered, Some(now)),
            model_cache: self.model_cache().map(CacheStatus::as_str),
            http_cache: self.0.http_cache.get().copied().map(CacheStatus::as_str),
        }
    }
}

/// The last calls of one function, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    last: VecDeque<Trace>,
    count: u64,
}

impl Traces {
    pub(crate) fn add(&mut self, trace: Trace) {
        self.count += 1;
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(Trace { number: self.count, ..trace });
    }

    pub(crate) fn all(&self) -> Vec<Trace> {
        self.last.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_add_up_and_only_the_last_calls_are_kept() {
        let marks = Marks::default();
        let arrived = Instant::now();
        let early = marks.trace(arrived, "shed");
        assert_eq!((early.queue, early.instantiate, early.run, early.answer), (early.total, None, None, None));
        marks.admitted(Some(WakeTiming::default()));
        marks.ready();
        marks.answered(Some(Duration::from_millis(3)));
        let trace = marks.trace(arrived, "answered");
        let phases = [Some(trace.queue), trace.instantiate, trace.run, trace.answer];
        assert_eq!(phases.into_iter().sum::<Option<Duration>>(), Some(trace.total));
        assert_eq!(trace.wake.as_ref().and_then(|wake| wake.first_run), Some(Duration::from_millis(3)));

        let mut traces = Traces::default();
        (0..20).for_each(|_| traces.add(trace.clone()));
        let numbers: Vec<_> = traces.all().iter().map(|trace| trace.number).collect();
        assert_eq!(numbers, (13..=20).collect::<Vec<_>>());
    }
}
