//! The batch size that a model runs fastest at, learned from the runs that happen anyway.
//!
//! For each doubling of the size there is an average of the time that one byte of input took. A size is tried when the one
//! below it proved no worse than the best; now and then the next larger one is tried again, since models behave otherwise when
//! the machine is busy, or when another tier has taken their place.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Sizes up to two to the power of one less than this are told apart.
const CLASSES: usize = 12;
/// How much of the average the last batch is: one part of so many.
const AVERAGED: u64 = 4;
/// A size is worth going on from if it takes no more than this part longer than the best.
const SLACK: u64 = 16;
/// Every so many batches, a size beyond the best is allowed.
const AGAIN: u64 = 64;

/// What is known of one model. Shared by its workers, without a lock.
pub(crate) struct Sizes {
    /// Picoseconds for each byte; zero where nobody knows.
    costs: [AtomicU64; CLASSES],
    batches: AtomicU64,
}

impl Sizes {
    pub(crate) fn new() -> Self {
        Sizes { costs: [const { AtomicU64::new(0) }; CLASSES], batches: AtomicU64::new(0) }
    }

    /// Rows that the next batch may have, of `most` that are allowed.
    pub(crate) fn next(&self, most: u64) -> u64 {
        let last = class(most);
        let costs = self.costs[..=last].iter().map(|cost| cost.load(Ordering::Relaxed));
        // In order of size, the known ones come first: none is tried before the one below it.
        let known: Vec<_> = costs.take_while(|&cost| cost > 0).collect();
        let Some((best, &least)) = known.iter().enumerate().min_by_key(|(_, cost)| **cost) else { return 1 };
        let again = self.batches.fetch_add(1, Ordering::Relaxed) % AGAIN == AGAIN - 1;
        let goes_on =
            known.len() <= last && known.last().is_some_and(|&cost| cost <= least.saturating_add(least / SLACK));
        let next = match (again, goes_on) {
            (_, true) => known.len(),
            (true, false) => best + 1,
            (false, false) => best,
        };
        (1 << next.min(last)).min(most)
    }

    /// Learns from a batch of so many rows and bytes.
    pub(crate) fn learn(&self, rows: u64, bytes: usize, took: Duration) {
        let Some(cost) = self.costs.get(class(rows)) else { return };
        let picoseconds = took.as_nanos().saturating_mul(1000) / (bytes.max(1) as u128);
        let now = u64::try_from(picoseconds).unwrap_or(u64::MAX).max(1);
        let next = match cost.load(Ordering::Relaxed) {
            0 => now,
            known => known - known / AVERAGED + now / AVERAGED,
        };
        cost.store(next.max(1), Ordering::Relaxed);
    }
}

/// The doubling that a size needs: 0 for 1, 1 for 2, 2 for 3 and 4.
fn class(rows: u64) -> usize {
    let doublings = u64::BITS - rows.saturating_sub(1).leading_zeros();
    (doublings as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size that is settled on by a model that takes so many microseconds for a batch, of `most` rows at most.
    fn settled(most: u64, took: impl Fn(u64) -> u64) -> u64 {
        let sizes = Sizes::new();
        let mut last = Vec::new();
        for _ in 0..200 {
            let rows = sizes.next(most);
            assert!((1..=most).contains(&rows));
            sizes.learn(rows, usize::try_from(rows).unwrap() * 100, Duration::from_micros(took(rows)));
            last.push(rows);
        }
        last[190]
    }

    #[test]
    fn a_model_that_gains_gets_all_that_is_allowed() {
        assert_eq!(settled(32, |rows| 1000 + rows * 10), 32);
        assert_eq!(settled(24, |rows| 1000 + rows * 10), 24);
        assert_eq!(settled(1, |rows| rows), 1);
    }

    #[test]
    fn a_model_that_loses_runs_alone() {
        assert_eq!(settled(32, |rows| rows * 1000 + rows * rows * 300), 1);
    }

    #[test]
    fn the_best_size_may_be_in_the_middle() {
        // Beyond eight rows it no longer fits into the cache, say.
        assert_eq!(settled(64, |rows| 100 + rows * 100 + if rows > 8 { rows * 200 } else { 0 }), 8);
    }

    #[test]
    fn the_largest_size_must_be_the_best_to_be_settled_on() {
        // Beyond eight rows it loses less than a sixteenth.
        assert_eq!(settled(32, |rows| 100 + rows * 1000 + if rows > 8 { rows * 40 } else { 0 }), 8);
    }

    #[test]
    fn what_changes_is_found_out() {
        let sizes = Sizes::new();
        for _ in 0..100 {
            let rows = sizes.next(8);
            sizes.learn(rows, 100, Duration::from_micros(rows * rows));
        }
        assert_eq!(sizes.next(8), 1);
        for _ in 0..2000 {
            let rows = sizes.next(8);
            sizes.learn(rows, 100 * usize::try_from(rows).unwrap(), Duration::from_micros(10));
        }
        assert_eq!(sizes.next(8), 8);
    }
}
