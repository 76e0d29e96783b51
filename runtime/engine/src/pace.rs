//! How fast a function gets through its requests, and so when one that comes now would be answered.
//!
//! What is learned is the time from one answer to the next while requests run: by so much each of them delays those behind it, whether
//! they take turns at a processor, a model or what other functions leave of either. It depends on how many run at the same time, so each
//! class of that number has an average of its own. What no request has confirmed for a while is not believed any more: a guess that
//! lets nobody in would else stand for ever. Requests that were given up count for the time that they took from others, and not as
//! answers: else a function that answers nobody would look fast.

use std::time::{Duration, Instant};

/// Ends from which a first average is made.
const FIRST: u32 = 4;
/// The fewest ends that an average goes back.
const AVERAGED: u32 = 8;
/// For how long an average is believed, beside the time that this number of ends would take.
const BELIEVED: Duration = Duration::from_secs(1);
const BELIEVED_ENDS: u32 = 16;
/// From one end to the next: up to here any growth is believed at once.
const LITTLE: Duration = Duration::from_millis(1);

/// What is known of one function. Takes next to no memory before its first request.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// For each number of binary digits of how many run at the same time, one first.
    classes: Vec<Class>,
    round: Round,
    /// When the last request ended or, if none was left then, when the first began since.
    since: Option<Instant>,
}

/// As many ends as there were requests at the same time. Fewer would not tell how fast they come, since those of one batch end
/// together.
#[derive(Debug, Default)]
struct Round {
    /// The most that ran at the same time.
    running: u32,
    ends: u32,
    /// Of the ends, those that were answers.
    answers: u32,
    /// How long any of them ran.
    took: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Class {
    /// From one answer to the next.
    step: Duration,
    /// From a request's beginning to its answer.
    hold: Duration,
    ends: u32,
    /// When the last of them was.
    at: Option<Instant>,
}

impl Pace {
    /// A request begins while `others` run.
    pub(crate) fn begins(&mut self, others: usize, now: Instant) {
        if others == 0 {
            self.since = Some(now);
        }
        self.round.running = self.round.running.max(narrow(others.saturating_add(1)));
    }

    /// One of `running` requests ends, with an answer or given up.
    pub(crate) fn ends(&mut self, running: usize, answered: bool, now: Instant) {
        let step = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.since = Some(now);
        self.round.ends += 1;
        self.round.answers += u32::from(answered);
        self.round.took += step;
        if self.round.ends < self.round.running {
            return;
        }
        let left = Round { running: narrow(running.saturating_sub(1)), ..Round::default() };
        let round = std::mem::replace(&mut self.round, left);
        let class = class(round.running);
        if self.classes.len() <= class {
            self.classes.resize(class + 1, Class::default());
        }
        self.classes[class].learn(&round, now);
    }

    /// How long until a request is answered that comes behind `running` others and `waiting` more, where `places` may run at the
    /// same time. `None` where nothing is known.
    pub(crate) fn until_end(&self, running: usize, waiting: usize, places: usize, now: Instant) -> Option<Duration> {
        let ahead = narrow(running.saturating_add(waiting));
        let together = ahead.saturating_add(1).min(narrow(places));
        let (hold, step) = self.expected(together, now)?;
        // The next end is as much nearer as the last one is past.
        let done = match (running, self.since) {
            (1.., Some(since)) => now.saturating_duration_since(since).min(step),
            _ => Duration::ZERO,
        };
        let in_line = step.saturating_mul(ahead.saturating_add(1) - together);
        Some(hold.saturating_add(in_line).saturating_sub(done))
    }

    /// How long each of `together` requests takes, and how long it is from one of their answers to the next.
    fn expected(&self, together: u32, now: Instant) -> Option<(Duration, Duration)> {
        let class = class(together);
        let known = |class: &usize| self.classes.get(*class).is_some_and(|known| known.is_believed(now));
        if let Some(index) = (0..=class).rev().find(known) {
            let Class { step, hold, .. } = self.classes[index];
            if index == class {
                // Where they do not delay each other it is the hold that stays the same within a class, and else the step.
                return Some((hold.min(step.saturating_mul(together)), step));
            }
            // Nobody knows of so many at once. They may be up to twice as fast, unless it helped little to be more already.
            let step = if self.helped(index) { step / 2 } else { step };
            return Some((hold.max(step.saturating_mul(together)), step));
        }
        let more = (class + 1..self.classes.len()).find(known)?;
        let step = self.classes[more].step;
        Some((step.saturating_mul(together), step))
    }

    /// Whether answers came much faster in this class than where fewer ran, as far as anybody knows.
    fn helped(&self, class: usize) -> bool {
        let Some(fewer) = (0..class).rev().find(|fewer| self.classes[*fewer].ends >= FIRST) else { return true };
        let much = (fewer..class).fold(self.classes[fewer].step, |step, _| step * 3 / 4);
        self.classes[class].step < much
    }

    /// How long a request takes when others delay it least.
    pub(crate) fn undisturbed(&self) -> Duration {
        let known = self.classes.iter().filter(|class| class.ends >= FIRST);
        known.map(|class| class.hold).min().unwrap_or_default()
    }
}

impl Class {
    fn is_believed(&self, now: Instant) -> bool {
        let old = self.at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        self.ends >= FIRST && old <= BELIEVED + self.step.saturating_mul(BELIEVED_ENDS)
    }

    fn learn(&mut self, round: &Round, now: Instant) {
        // Judged as of when the round began: that it took long is no reason to forget what was usual.
        if !self.is_believed(now.checked_sub(round.took).unwrap_or(now)) && self.ends >= FIRST {
            *self = Class::default();
        }
        let ends = round.ends.max(1);
        let settled = self.ends >= AVERAGED;
        let averaged = self.ends.saturating_add(ends).min(ends.saturating_mul(2).max(AVERAGED));
        let average = |before: Duration, seen: Duration| {
            let next = (before.saturating_mul(averaged - ends) + seen.saturating_mul(ends)) / averaged;
            // A pause of the whole machine looks like a very slow request, and says little of those to come.
            if settled { next.min(before.saturating_mul(2).max(LITTLE)) } else { next }
        };
        let step = round.took / round.answers.max(1);
        (self.step, self.hold) = (average(self.step, step), average(self.hold, step.saturating_mul(round.running)));
        self.ends = self.ends.saturating_add(ends);
        self.at = Some(now);
    }
}

fn class(running: u32) -> usize {
    running.max(1).ilog2() as usize
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A pace, and a clock that moves only when told.
    struct Scene {
        pace: Pace,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Scene { pace: Pace::default(), now: Instant::now() }
        }

        /// One request after the other.
        fn alone(&mut self, times: usize, takes: Duration) {
            for _ in 0..times {
                self.pace.begins(0, self.now);
                self.now += takes;
                self.pace.ends(1, true, self.now);
            }
        }

        /// So many at the same time, all the while. `together` end in each step, and others take their places.
        fn crowded(&mut self, steps: usize, running: usize, together: usize, step: Duration) {
            (0..running).for_each(|others| self.pace.begins(others, self.now));
            for _ in 0..steps {
                self.now += step;
                (0..together).for_each(|ended| self.pace.ends(running - ended, true, self.now));
                (0..together).rev().for_each(|missing| self.pace.begins(running - 1 - missing, self.now));
            }
        }

        /// In microseconds, for one that comes behind so many that run or wait.
        fn until_end(&self, running: usize, waiting: usize) -> Option<u128> {
            self.pace.until_end(running, waiting, 16, self.now).map(|time| time.as_micros())
        }
    }

    #[test]
    fn nothing_is_said_of_what_nobody_has_seen() {
        let mut scene = Scene::new();
        assert_eq!(scene.until_end(3, 3), None);
        scene.alone(3, 8 * MS);
        assert_eq!(scene.until_end(0, 0), None, "three are too few");
        scene.alone(1, 8 * MS);
        assert_eq!(scene.until_end(0, 0), Some(8000));
    }

    #[test]
    fn those_ahead_count() {
        let mut scene = Scene::new();
        scene.crowded(64, 16, 1, 4 * MS);
        assert_eq!(scene.until_end(15, 0), Some(64_000));
        assert_eq!(scene.until_end(16, 8), Some(100_000));
        scene.now += 3 * MS;
        assert_eq!(scene.until_end(16, 8), Some(97_000), "the next one is nearly done");
        scene.now += 30 * MS;
        assert_eq!(scene.until_end(16, 8), Some(96_000), "and late");
    }

    #[test]
    fn more_at_once_may_be_twice_as_fast_until_it_was_seen() {
        let mut scene = Scene::new();
        scene.alone(8, 8 * MS);
        assert_eq!([1, 2, 7].map(|running| scene.until_end(running, 0)), [Some(8000), Some(12_000), Some(32_000)]);
        scene.crowded(16, 2, 2, 8 * MS);
        assert_eq!(scene.until_end(7, 0), Some(16_000));
        scene.crowded(64, 4, 1, 4 * MS);
        assert_eq!(scene.until_end(7, 0), Some(32_000), "four were no faster than two");
    }

    #[test]
    fn what_holds_for_many_is_all_that_is_known_of_few() {
        let mut scene = Scene::new();
        scene.crowded(64, 16, 1, 4 * MS);
        assert_eq!(scene.until_end(1, 0), Some(8000));
    }

    #[test]
    fn those_that_were_given_up_are_no_answers() {
        let mut scene = Scene::new();
        for ended in 0..40 {
            (0..4).for_each(|others| scene.pace.begins(others, scene.now));
            scene.now += 4 * MS;
            scene.pace.ends(4, ended % 4 == 0, scene.now);
        }
        assert_eq!(scene.until_end(3, 0), Some(64_000));
    }

    #[test]
    fn those_that_do_not_delay_each_other_take_as_long_as_one() {
        let mut scene = Scene::new();
        scene.crowded(16, 2, 2, 60 * MS);
        scene.crowded(24, 3, 3, 60 * MS);
        assert_eq!((scene.pace.undisturbed(), scene.until_end(2, 0)), (60 * MS, Some(60_000)));
    }

    #[test]
    fn those_of_one_batch_share_its_time() {
        let mut scene = Scene::new();
        scene.crowded(20, 16, 8, 32 * MS);
        assert_eq!(scene.until_end(15, 0), Some(64_000));
    }

    #[test]
    fn time_without_requests_does_not_count() {
        let mut scene = Scene::new();
        for _ in 0..10 {
            scene.alone(1, 8 * MS);
            scene.now += 100 * MS;
        }
        assert_eq!(scene.until_end(0, 0), Some(8000));
    }

    #[test]
    fn one_pause_says_little() {
        let mut scene = Scene::new();
        scene.alone(20, 8 * MS);
        scene.alone(1, 2000 * MS);
        assert_eq!(scene.until_end(0, 0), Some(16_000));
        scene.alone(30, 8 * MS);
        assert!(scene.until_end(0, 0).unwrap() < 8300);
    }

    #[test]
    fn what_nobody_confirms_is_forgotten() {
        let mut scene = Scene::new();
        scene.crowded(32, 16, 1, 500 * MS);
        assert!(scene.until_end(15, 0).is_some());
        scene.now += Duration::from_secs(10);
        assert_eq!(scene.until_end(15, 0), None);
        // And it has no part in what is learned then.
        scene.crowded(16, 16, 1, MS);
        assert_eq!(scene.until_end(15, 0), Some(16_000));
    }
}
