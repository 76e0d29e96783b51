//! Single cases by hand, and all promises of `lifecycle.rs` over random lives on a clock of the test's own.

use super::*;
use proptest::prelude::*;

/// A deadline, or a clock, that plays no part.
const LONG: Duration = Duration::from_secs(1_000_000);
const MS: Duration = Duration::from_millis(1);

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
        assert!(scene.life.start_wake(scene.now));
        scene.woke();
        scene
    }

    fn arrive(&mut self) -> Arrival {
        self.life.arrive(self.now, self.now + LONG)
    }

    /// One that is to be answered within `left`.
    fn arrive_within(&mut self, left: Duration) -> Arrival {
        self.life.arrive(self.now, self.now + left)
    }

    /// Whether somebody who has time is let in.
    fn admit(&mut self) -> bool {
        self.life.admit(self.now, self.now + LONG) == Turn::Run
    }

    fn woke(&mut self) {
        self.life.woke(self.now, MS);
    }

    fn slept(&mut self) -> AfterSleep {
        self.life.slept(self.now)
    }

    /// Requests one after the other, each of which takes so long.
    fn serve(&mut self, times: usize, takes: Duration) {
        for _ in 0..times {
            assert_eq!(self.arrive(), Arrival::Run);
            self.now += takes;
            self.life.finish(true, self.now);
        }
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
    assert!(!scene.admit(), "nobody runs before the wake has ended");
    scene.woke();
    assert_eq!((scene.admit(), scene.admit(), scene.admit()), (true, true, false));
    scene.life.finish(true, scene.now);
    assert!(scene.admit());
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
    assert_eq!((scene.arrive(), scene.arrive(), scene.arrive()), (Arrival::WaitAndWake, Arrival::Wait, Arrival::Full));
}

#[test]
fn who_waits_is_not_overtaken() {
    let mut scene = Scene::warm(1, 8);
    assert_eq!((scene.arrive(), scene.arrive()), (Arrival::Run, Arrival::Wait));
    scene.life.finish(true, scene.now);
    assert_eq!(scene.arrive(), Arrival::Wait, "a place is free, but somebody was here before");
}

#[test]
fn idle_is_measured_from_the_last_request_s_end() {
    let mut scene = Scene::warm(1, 1);
    scene.pass(29.0);
    assert_eq!(scene.arrive(), Arrival::Run);
    scene.pass(100.0);
    assert!(!scene.try_sleep(), "a running request keeps it awake");
    scene.life.finish(true, scene.now);
    scene.pass(29.9);
    assert!(!scene.try_sleep());
    scene.pass(0.1);
    assert!(scene.try_sleep());
    assert!(!scene.try_sleep(), "one sleep at a time");
    assert_eq!(scene.slept(), AfterSleep::Rest);
    assert_eq!(scene.life.state(), State::Cold);
}

#[test]
fn who_comes_during_the_sleep_wakes_it_again() {
    let mut scene = Scene::warm(1, 1);
    scene.pass(30.0);
    assert!(scene.try_sleep());
    assert_eq!(scene.arrive(), Arrival::Wait);
    assert_eq!(scene.slept(), AfterSleep::Wake);
    assert_eq!(scene.life.state(), State::Waking);
}

#[test]
fn who_gives_up_leaves_no_trace() {
    let mut scene = Scene::new(1, 1);
    assert_eq!(scene.arrive(), Arrival::WaitAndWake);
    scene.life.give_up(scene.now);
    scene.pass(1.0);
    scene.woke();
    assert!(!scene.admit());
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
    scene.woke();
    assert!(scene.admit());
    scene.life.finish(true, scene.now);
    scene.pass(30.0);
    assert!(scene.try_sleep());
    assert_eq!(scene.slept(), AfterSleep::Rest);
    assert_eq!(scene.arrive(), Arrival::WaitAndWake);
    assert_eq!(scene.life.wake_failed(scene.now), Duration::from_millis(500), "a success forgets the failures");
}

#[test]
fn only_the_idle_are_evicted() {
    let mut scene = Scene::warm(1, 1);
    assert_eq!(scene.life.idle_since(), Some(scene.now));
    assert_eq!(scene.arrive(), Arrival::Run);
    assert!(!scene.life.evict() && scene.life.idle_since().is_none());
    scene.life.finish(true, scene.now);
    assert!(scene.life.evict());
    assert_eq!(scene.arrive(), Arrival::Wait);
    assert_eq!(scene.slept(), AfterSleep::Wake);
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
    scene.woke();
    assert!(scene.admit());
    assert_eq!(scene.arrive(), Arrival::Wait);
    assert_eq!(scene.models_end(), AfterEnd::Wake, "somebody waits");
    scene.life.finish(true, scene.now);
    scene.woke();
    assert!(scene.admit(), "who waited is served");
    assert_eq!(scene.arrive(), Arrival::Wait);
    assert_eq!(scene.models_end(), AfterEnd::BackOff(Duration::from_millis(500)));
    scene.life.finish(true, scene.now);
    assert_eq!((scene.arrive(), scene.life.waiting()), (Arrival::Failed, 0));
    scene.pass(0.5);
    assert_eq!(scene.arrive(), Arrival::WaitAndWake);
    scene.woke();
    assert_eq!(scene.models_end(), AfterEnd::BackOff(Duration::from_secs(1)));
    scene.pass(1.0);
    assert_eq!(scene.arrive(), Arrival::WaitAndWake);
    scene.woke();
    scene.pass(60.0);
    assert_eq!(scene.models_end(), AfterEnd::Wake, "it was steady for long enough");
}

#[test]
fn who_runs_when_the_models_end_keeps_the_next_ones_awake() {
    let mut scene = Scene::warm(2, 8);
    assert_eq!(scene.arrive(), Arrival::Run);
    assert_eq!(scene.models_end(), AfterEnd::Rest);
    assert_eq!(scene.arrive(), Arrival::WaitAndWake);
    scene.woke();
    assert!(scene.admit());
    scene.life.finish(true, scene.now);
    scene.pass(30.0);
    assert!(!scene.try_sleep(), "one of the two still runs");
    scene.life.finish(true, scene.now);
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

#[test]
fn who_would_come_too_late_is_turned_away_at_once() {
    let mut scene = Scene::warm(1, 8);
    scene.serve(8, 10 * MS);
    assert_eq!(scene.arrive_within(30 * MS), Arrival::Run);
    // The second is done after 20 ms, and keeps a quarter of the 10 in reserve for which it is delayed.
    assert_eq!(scene.arrive_within(22 * MS), Arrival::Late(MS / 2));
    assert_eq!(scene.arrive_within(23 * MS), Arrival::Wait);
    assert_eq!(scene.life.until_served(scene.now), Some(20 * MS));
    assert_eq!(scene.arrive_within(34 * MS), Arrival::Late(MS));
    scene.now += 4 * MS;
    assert_eq!(scene.arrive_within(34 * MS), Arrival::Wait, "part of the first is done");
    assert_eq!((scene.life.active(), scene.life.waiting()), (1, 2));
}

#[test]
fn whose_time_has_run_out_is_passed_over_while_others_wait() {
    let mut scene = Scene::warm(1, 8);
    scene.serve(8, 10 * MS);
    assert_eq!(scene.arrive(), Arrival::Run);
    let (soon, later) = (scene.now + 30 * MS, scene.now + LONG);
    for _ in 0..3 {
        assert_eq!(scene.arrive(), Arrival::Wait);
    }
    assert_eq!(scene.life.admit(scene.now, soon), Turn::Nobody, "no place is free");
    scene.now += 25 * MS;
    scene.life.finish(true, scene.now);
    assert!(matches!(scene.life.admit(scene.now, soon), Turn::Late(_)));
    assert_eq!(scene.life.admit(scene.now, later), Turn::Run);
    scene.life.finish(true, scene.now);
    assert_eq!(scene.life.admit(scene.now, soon), Turn::Run, "it is the last, and is tried");
}

#[test]
fn who_is_alone_is_always_tried() {
    let mut scene = Scene::warm(2, 8);
    scene.serve(8, 10 * MS);
    assert_eq!(scene.arrive_within(MS), Arrival::Run);
}

#[test]
fn a_wake_counts_once_one_was_seen() {
    let mut scene = Scene::new(4, 8);
    assert_eq!(scene.arrive_within(MS), Arrival::WaitAndWake);
    assert_eq!(scene.arrive_within(MS), Arrival::Wait, "nobody knows how long it takes");
    scene.now += 50 * MS;
    scene.life.woke(scene.now, 50 * MS);
    assert!(scene.admit() && scene.admit());
    scene.life.finish(true, scene.now);
    scene.life.finish(true, scene.now);
    scene.pass(30.0);
    assert!(scene.try_sleep());
    assert_eq!(scene.slept(), AfterSleep::Rest);
    assert_eq!(scene.arrive_within(MS), Arrival::WaitAndWake, "whoever is alone is tried");
    assert!(matches!(scene.arrive_within(50 * MS), Arrival::Late(_)));
    scene.now += 40 * MS;
    assert_eq!(scene.arrive_within(20 * MS), Arrival::Wait, "most of the wake is over");
}

/// What may happen to a function.
#[derive(Debug, Clone)]
enum Event {
    /// A request comes, to be answered within so many milliseconds.
    Arrives(u32),
    /// The request that has run for longest ends.
    Ends,
    /// One of those that wait gives up.
    GivesUp(prop::sample::Index),
    Wakes,
    WakeFails,
    Passes(u32),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1_u32..200).prop_map(Event::Arrives),
        5 => Just(Event::Ends),
        1 => any::<prop::sample::Index>().prop_map(Event::GivesUp),
        3 => Just(Event::Wakes),
        1 => Just(Event::WakeFails),
        4 => (0_u32..40).prop_map(Event::Passes),
        1 => Just(Event::Passes(31_000)),
    ]
}

proptest! {
    #[test]
    fn nobody_is_lost(events in prop::collection::vec(event(), 0..400), places in 1_usize..5, queue in 0_usize..9) {
        let mut scene = Scene::new(places, queue);
        // Those who wait, by their deadlines, and how many run.
        let (mut line, mut running) = (Vec::<Instant>::new(), 0);
        for event in events {
            match event {
                Event::Arrives(left) => {
                    let deadline = scene.now + left * MS;
                    let alone = line.is_empty() && running == 0;
                    let cold = matches!(scene.life.state(), State::Cold | State::Failed);
                    match scene.life.arrive(scene.now, deadline) {
                        Arrival::Run => running += 1,
                        Arrival::Wait => {
                            prop_assert!(!cold, "somebody has to start the wake");
                            line.push(deadline);
                        }
                        Arrival::WaitAndWake => {
                            prop_assert!(cold);
                            line.push(deadline);
                        }
                        Arrival::Full => prop_assert!(line.len() >= queue),
                        Arrival::Late(by) => prop_assert!(!alone && !by.is_zero()),
                        Arrival::Failed => prop_assert_eq!(scene.life.state(), State::Failed),
                    }
                }
                Event::Ends if running > 0 => {
                    running -= 1;
                    scene.life.finish(true, scene.now);
                }
                Event::GivesUp(which) if !line.is_empty() => {
                    line.remove(which.index(line.len()));
                    scene.life.give_up(scene.now);
                }
                Event::Wakes if scene.life.state() == State::Waking => scene.woke(),
                Event::WakeFails if scene.life.state() == State::Waking => {
                    scene.life.wake_failed(scene.now);
                    line.clear();
                }
                Event::Passes(time) => scene.now += time * MS,
                Event::Ends | Event::GivesUp(_) | Event::Wakes | Event::WakeFails => {}
            }
            line.sort();
            while let Some(&deadline) = line.first() {
                match scene.life.admit(scene.now, deadline) {
                    Turn::Nobody => break,
                    Turn::Run => running += 1,
                    Turn::Late(by) => prop_assert!(line.len() > 1 && !by.is_zero()),
                }
                line.remove(0);
            }
            prop_assert_eq!((scene.life.active(), scene.life.waiting()), (running, line.len()));
            prop_assert!(running <= places && line.len() <= queue + places);
            let free = scene.life.state() == State::Warm && running < places;
            prop_assert!(!free || line.is_empty(), "somebody waits in vain");
            if scene.try_sleep() {
                prop_assert!(running == 0 && line.is_empty());
                prop_assert_eq!(scene.slept(), AfterSleep::Rest);
            }
        }
    }
}
