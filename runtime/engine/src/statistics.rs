//! What the calls for tensors of a function came to, all together, since it was deployed.
//!
//! Counted where a call ends and its trace is kept, which takes the function's lock anyway; nothing more is locked for it.

use crate::trace::Trace;
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};
use torpor_telemetry::Outcome;

/// The most rows of a run that are counted apart. Joined runs have no more; a single large request may have any number.
const MOST_ROWS: u64 = 1024;

/// How often something happened, and how long it took all together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    /// How often.
    pub count: u64,
    /// How long, all together.
    pub took: Duration,
}

/// The runs of models whose runs may be joined, by the rows of the whole run: up to 1024 rows.
pub type Batches = BTreeMap<u64, Total>;

/// What the calls for tensors of a function came to. Calls of its HTTP trigger are not among them.
#[derive(Debug, Default, Clone)]
#[non_exhaustive]
pub struct Statistics {
    /// When the last one ended with an answer.
    pub last: Option<SystemTime>,
    /// Calls that were answered, from their arrival to their end.
    pub answered: Total,
    /// All others, whatever kept them from an answer.
    pub failed: Total,
    /// Of those that were answered: from their arrival until they were let in, a wake included.
    pub queue: Total,
    /// From there until their instance was there.
    pub instantiate: Total,
    /// From there until the guest had an answer, its models' runs included.
    pub run: Total,
    /// From there until their end.
    pub answer: Total,
    /// Calls for which every run of a model was found in the response cache, and how long the guest took with that.
    pub cache_hits: Total,
    /// Calls for which some run was not there, or somebody else was about to make it.
    pub cache_misses: Total,
    /// Native runs of its models. Of several calls that were joined in one, one has it.
    pub runs: Total,
    /// Those of models whose runs may be joined, by their rows.
    pub batches: Batches,
}

/// The native runs of one call: their rows, 0 where they could not be joined, and how long they took.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    // Most calls have one, which takes no memory of its own.
    first: Option<(u64, Duration)>,
    more: Vec<(u64, Duration)>,
}

impl Total {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.took = self.took.saturating_add(took);
    }
}

impl Runs {
    pub(crate) fn add(&mut self, rows: u64, took: Duration) {
        match self.first {
            None => self.first = Some((rows, took)),
            Some(_) => self.more.push((rows, took)),
        }
    }
}

impl Statistics {
    /// Counts a call that has ended.
    pub(crate) fn count(&mut self, trace: &Trace, outcome: Outcome, runs: Runs) {
        for (rows, took) in runs.first.into_iter().chain(runs.more) {
            self.runs.add(took);
            if (1..=MOST_ROWS).contains(&rows) {
                self.batches.entry(rows).or_default().add(took);
            }
        }
        if outcome != Outcome::Answered {
            self.failed.add(trace.total);
            return;
        }
        self.last = trace.arrived.and_then(|arrived| arrived.checked_add(trace.total));
        self.answered.add(trace.total);
        self.queue.add(trace.queue);
        let run = trace.run.unwrap_or_default();
        self.instantiate.add(trace.instantiate.unwrap_or_default());
        self.run.add(run);
        self.answer.add(trace.answer.unwrap_or_default());
        match trace.model_cache {
            None | Some("bypass") => {}
            Some("hit") => self.cache_hits.add(run),
            Some(_) => self.cache_misses.add(run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Marks;
    use std::time::Instant;

    #[test]
    fn calls_and_runs_add_up() {
        let trace = |outcome: Outcome| {
            let marks = Marks::default();
            marks.admitted(None);
            marks.ready();
            marks.answered(None);
            marks.ran(2, Duration::from_millis(3));
            marks.ran(0, Duration::from_millis(4));
            (marks.trace(Instant::now(), outcome.as_str()), outcome, marks.runs())
        };
        let mut statistics = Statistics::default();
        for outcome in [Outcome::Answered, Outcome::Late, Outcome::Answered] {
            let (trace, outcome, runs) = trace(outcome);
            statistics.count(&trace, outcome, runs);
        }
        assert_eq!((statistics.answered.count, statistics.failed.count, statistics.run.count), (2, 1, 2));
        assert_eq!(statistics.runs, Total { count: 6, took: Duration::from_millis(21) });
        let batch = Total { count: 3, took: Duration::from_millis(9) };
        assert_eq!(statistics.batches, Batches::from([(2, batch)]));
        assert!(statistics.last.is_some());
        statistics.count(
            &trace(Outcome::Failed).0,
            Outcome::Failed,
            Runs { first: Some((5000, Duration::ZERO)), more: vec![] },
        );
        assert_eq!(statistics.batches.len(), 1);
    }
}
