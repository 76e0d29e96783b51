//! How long runs take, learned by the size of their inputs; and which of them are shorter than the way to a worker thread and back.
//!
//! What is expected is a moving average. How long the way is differs from machine to machine, so it is learned too. Whether a run
//! may happen on its caller's thread has a price limit. A run that was not quick must be made up for by a quick one, on a worker, for
//! every begun 100 µs that it took, before a caller's thread is trusted with such runs again. So whatever a model does, what its
//! surprises cost an async thread stays within 100 µs for each run. A run that only looks slow, because its thread lost the processor
//! for a moment, sends one or two others the longer way.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};
use torpor_tensor::NamedTensor;

/// About what a hop to another thread and back takes at least, with the processors busy.
const QUICK: Duration = Duration::from_micros(20);
/// Quick runs before the first one that may happen on its caller's thread.
const PROBATION: u32 = 16;
/// What one quick run makes up for.
const MADE_UP: Duration = Duration::from_micros(100);
/// How much of the average the last run is: one part of so many.
const AVERAGED: u64 = 8;
/// One class for each length of a size in binary digits, zero included.
const CLASSES: usize = usize::BITS as usize + 1;

/// What is known of one model. Shared by all its callers and workers, without a lock.
pub(crate) struct Durations {
    /// For each class of sizes, the quick runs that are still missing.
    missing: [AtomicU32; CLASSES],
    /// For each class of sizes, the average in nanoseconds; zero before the first run.
    averages: [AtomicU64; CLASSES],
    /// The average time in nanoseconds until a worker that slept began to work; zero before the first time.
    way: AtomicU64,
}

/// Inputs of about the same size, for which runs are expected to take about the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class(usize);

impl Class {
    pub(crate) fn of(inputs: &[NamedTensor]) -> Self {
        Class((usize::BITS - bytes(inputs).leading_zeros()) as usize)
    }
}

/// The size of all inputs together.
pub(crate) fn bytes(inputs: &[NamedTensor]) -> usize {
    inputs.iter().fold(0, |sum, (_, tensor)| sum.saturating_add(tensor.data().len()))
}

impl Durations {
    pub(crate) fn new() -> Self {
        Durations {
            missing: [const { AtomicU32::new(PROBATION) }; CLASSES],
            averages: [const { AtomicU64::new(0) }; CLASSES],
            way: AtomicU64::new(0),
        }
    }

    /// Whether a run on such inputs may happen on its caller's thread.
    pub(crate) fn quick(&self, class: Class) -> bool {
        self.missing[class.0].load(Ordering::Relaxed) == 0
    }

    /// How long a run on such inputs is expected to take; zero where nobody knows.
    pub(crate) fn expected(&self, class: Class) -> Duration {
        Duration::from_nanos(self.averages[class.0].load(Ordering::Relaxed))
    }

    /// Learns from a run that ended after `took`.
    pub(crate) fn learn(&self, class: Class, took: Duration) {
        // Two runs that end at the same time may count as one, which only means to learn more slowly.
        let missing = &self.missing[class.0];
        let now = missing.load(Ordering::Relaxed);
        let next = if took <= self.limit() { now.saturating_sub(1) } else { now.saturating_add(made_up(took)) };
        if next != now {
            missing.store(next, Ordering::Relaxed);
        }
        average(&self.averages[class.0], took);
    }

    /// Learns how long a worker that slept took until it began to work.
    pub(crate) fn learn_way(&self, took: Duration) {
        average(&self.way, took);
    }

    /// What a quick run takes at most. The way back is as long again, which is left as the gain.
    fn limit(&self) -> Duration {
        Duration::from_nanos(self.way.load(Ordering::Relaxed)).clamp(QUICK, MADE_UP)
    }
}

/// Moves an average in nanoseconds. It is zero before the first time.
fn average(average: &AtomicU64, took: Duration) {
    let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let next = match average.load(Ordering::Relaxed) {
        0 => took,
        now => now - now / AVERAGED + took / AVERAGED,
    };
    average.store(next, Ordering::Relaxed);
}

/// How many quick runs make up for one that took `took`.
fn made_up(took: Duration) -> u32 {
    u32::try_from(took.as_nanos().div_ceil(MADE_UP.as_nanos())).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use torpor_tensor::{DType, Tensor};

    fn class(bytes: usize) -> Class {
        let data = Bytes::from(vec![0; bytes]);
        Class::of(&[("x".into(), Tensor::new(DType::U8, [bytes as u64].into(), data).unwrap())])
    }

    /// How many quick runs it takes until the next one is trusted.
    fn until_trusted(durations: &Durations, class: Class) -> usize {
        let learn = || durations.learn(class, Duration::from_micros(3));
        std::iter::repeat_with(learn).take_while(|()| !durations.quick(class)).count() + 1
    }

    #[test]
    fn quick_runs_are_trusted_after_some_of_them() {
        let durations = Durations::new();
        assert!(!durations.quick(class(8)));
        assert_eq!(until_trusted(&durations, class(8)), 16);
    }

    #[test]
    fn a_slow_run_has_to_be_made_up_for() {
        let durations = Durations::new();
        until_trusted(&durations, class(8));
        durations.learn(class(8), Duration::from_micros(50));
        assert_eq!(until_trusted(&durations, class(8)), 1);
        durations.learn(class(8), Duration::from_secs(1));
        assert_eq!(until_trusted(&durations, class(8)), 10_000);
        durations.learn(class(8), Duration::MAX);
        assert!(!durations.quick(class(8)));
    }

    #[test]
    fn the_longer_the_way_the_longer_a_quick_run() {
        let durations = Durations::new();
        let quick = |took| {
            (0..20).for_each(|_| durations.learn(class(8), Duration::from_micros(took)));
            durations.quick(class(8))
        };
        assert!(!quick(40));
        for _ in 0..100 {
            durations.learn_way(Duration::from_micros(60));
        }
        // Those that were too slow are made up for first.
        assert!(!quick(40) && quick(40));
        // However long the way is, an async thread is no place for a long run.
        (0..100).for_each(|_| durations.learn_way(Duration::from_secs(1)));
        assert!(!quick(150));
    }

    #[test]
    fn what_is_known_of_small_inputs_says_nothing_of_large_ones() {
        let durations = Durations::new();
        until_trusted(&durations, class(33));
        assert!(durations.quick(class(63)));
        assert!(!durations.quick(class(64)) && !durations.quick(class(0)));
    }

    #[test]
    fn what_is_expected_follows_what_is_seen() {
        let durations = Durations::new();
        assert_eq!(durations.expected(class(8)), Duration::ZERO);
        durations.learn(class(8), Duration::from_millis(8));
        assert_eq!(durations.expected(class(8)), Duration::from_millis(8));
        for _ in 0..100 {
            durations.learn(class(8), Duration::from_millis(1));
        }
        let expected = durations.expected(class(8));
        assert!((Duration::from_micros(999)..Duration::from_micros(1100)).contains(&expected), "{expected:?}");
    }
}
