//! A function under more load than it can bear, on a clock of the test's own: what is answered in time must not fall when more is
//! asked for.

use super::*;
use std::collections::VecDeque;

const MS: Duration = Duration::from_millis(1);
const DEADLINE: Duration = Duration::from_millis(100);
/// What a run takes of one of two processors; they get through 250 in a second.
const RUN: Duration = Duration::from_millis(8);
const PROCESSORS: usize = 2;
const TIME: Duration = Duration::from_secs(20);

/// How requests that run share the processors.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sharing {
    /// Those that came first are computed first, as before a model.
    InTurns,
    /// All at the same time, as code in sandboxes.
    Evenly,
}

/// A request that runs, and what is left of its run.
struct Running {
    deadline: Instant,
    left: Duration,
}

struct World {
    life: Lifecycle,
    now: Instant,
    sharing: Sharing,
    line: VecDeque<Instant>,
    running: VecDeque<Running>,
    in_time: u32,
    dice: u64,
}

impl World {
    fn new(sharing: Sharing, max_concurrency: usize) -> Self {
        let now = Instant::now();
        let policy = Policy { keep_warm: true, idle_timeout: Duration::ZERO, max_concurrency, queue: 256 };
        let mut life = Lifecycle::new(policy, now);
        assert!(life.start_wake(now));
        life.woke(now, MS);
        World { life, now, sharing, line: VecDeque::new(), running: VecDeque::new(), in_time: 0, dice: 1 }
    }

    /// Between 0 and 1.
    fn roll(&mut self) -> f64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.dice >> 32).unwrap()) / f64::from(u32::MAX)
    }

    /// The share of a processor that the request with this place has.
    fn speed(&self, place: usize) -> f64 {
        match self.sharing {
            Sharing::InTurns if place < PROCESSORS => 1.0,
            Sharing::InTurns => 0.0,
            #[expect(clippy::cast_precision_loss, reason = "a few requests")]
            Sharing::Evenly => (PROCESSORS as f64 / self.running.len() as f64).min(1.0),
        }
    }

    fn begin(&mut self, deadline: Instant) {
        // Real runs are not quite even.
        let left = RUN.mul_f64(0.8 + 0.4 * self.roll());
        self.running.push_back(Running { deadline, left });
    }

    fn arrive(&mut self) {
        let deadline = self.now + DEADLINE;
        match self.life.arrive(self.now, deadline) {
            Arrival::Run => self.begin(deadline),
            Arrival::Wait | Arrival::WaitAndWake => self.line.push_back(deadline),
            Arrival::Full | Arrival::Late(_) | Arrival::Failed => {}
        }
    }

    /// When the next of those that run or wait is done with, one way or the other.
    fn next(&self) -> Option<Instant> {
        let runs = self.running.iter().enumerate().map(|(place, run)| match self.speed(place) {
            speed if speed > 0.0 => run.deadline.min(self.now + run.left.div_f64(speed)),
            _ => run.deadline,
        });
        runs.chain(self.line.front().copied()).min()
    }

    /// Lets time pass, in which nobody ends.
    fn pass(&mut self, until: Instant) {
        let time = until - self.now;
        let speeds: Vec<_> = (0..self.running.len()).map(|place| self.speed(place)).collect();
        for (run, speed) in self.running.iter_mut().zip(speeds) {
            run.left = run.left.saturating_sub(time.mul_f64(speed));
        }
        self.now = until;
    }

    /// Ends what has ended or is too late, and lets in who waits.
    fn settle(&mut self) {
        const ROUNDED: Duration = Duration::from_nanos(10);
        for run in std::mem::take(&mut self.running) {
            let answered = run.left <= ROUNDED;
            if answered || run.deadline <= self.now {
                self.in_time += u32::from(answered && run.deadline >= self.now);
                self.life.finish(answered, self.now);
            } else {
                self.running.push_back(run);
            }
        }
        while self.line.front().is_some_and(|deadline| *deadline <= self.now) {
            self.line.pop_front();
            self.life.give_up(self.now);
        }
        while let Some(&deadline) = self.line.front() {
            match self.life.admit(self.now, deadline) {
                Turn::Nobody => break,
                Turn::Run => self.begin(deadline),
                Turn::Late(_) => {}
            }
            self.line.pop_front();
        }
    }

    /// Answers in time for each second, when so many requests a second come at random.
    fn goodput(mut self, rate: f64) -> f64 {
        let end = self.now + TIME;
        let mut arrival = self.now;
        while self.now < end {
            let next = self.next().map_or(arrival, |next| next.min(arrival));
            self.pass(next);
            self.settle();
            if self.now == arrival {
                self.arrive();
                arrival += Duration::from_secs_f64(-(1.0 - self.roll()).max(1e-9).ln() / rate);
            }
        }
        f64::from(self.in_time) / TIME.as_secs_f64()
    }
}

#[track_caller]
fn holds(sharing: Sharing, max_concurrency: usize) {
    let goodput = |rate| World::new(sharing, max_concurrency).goodput(rate);
    let relaxed = goodput(125.0);
    assert!(relaxed > 123.0 * 0.97, "{relaxed}");
    let overload = [250.0, 500.0, 750.0, 2500.0].map(goodput);
    let peak = overload.iter().copied().fold(relaxed, f64::max);
    assert!(peak > 220.0, "{overload:?}");
    assert!(overload[2..].iter().all(|goodput| *goodput >= 0.9 * peak), "{overload:?}");
}

#[test]
fn more_places_than_processors() {
    holds(Sharing::InTurns, 16);
    holds(Sharing::Evenly, 16);
}

#[test]
fn as_many_places_as_processors() {
    holds(Sharing::InTurns, 2);
    holds(Sharing::Evenly, 2);
}

#[test]
fn far_more_places_than_can_be_in_time() {
    holds(Sharing::InTurns, 256);
    holds(Sharing::Evenly, 256);
}
