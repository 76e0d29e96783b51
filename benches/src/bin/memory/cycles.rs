//! One function that wakes and sleeps again and again: what the process holds while it is at zero must not grow.

use crate::request;
use anyhow::{Result, ensure};
use torpor_benches::{
    frame::{Group, Results},
    served::{Held, Served},
    stage::{Stage, Way, Workload},
    statistics::median,
};

/// The shortest that a manifest may ask for.
const IDLE_TIMEOUT: &str = "10ms";
/// Samples of which one number is made. The first are let pass: a library keeps what it makes once.
const WINDOW: usize = 10;
/// What may be held at the end, as a share of what was held after the first cycles.
const GROWTH: f64 = 1.1;
/// What no file backs may be at the end, as a share of what it was halfway: what is lost in each cycle shows here.
const LEAK: f64 = 1.02;

/// A function and what runs its model.
pub(crate) struct Cycles {
    pub(crate) workload: &'static Workload,
    pub(crate) backend: &'static str,
}

impl Cycles {
    /// Its name among the results.
    pub(crate) fn name(&self) -> String {
        format!("{} on {}", self.workload.name, self.backend)
    }

    /// Adds what the process holds after some, more and all of `cycles`.
    pub(crate) fn measure(&self, stage: &Stage, cycles: usize, results: &mut Results) -> Result<()> {
        ensure!(cycles >= 2 * WINDOW, "`--cycles` must be {} at least", 2 * WINDOW);
        let (Cycles { workload, backend }, name) = (self, self.workload.name);
        let folder = stage.path(&format!("{name}-{backend}"));
        let way = Way { name, backend, idle_timeout: IDLE_TIMEOUT, ..Way::default() };
        stage.manifest_in(&folder, workload, &way)?;
        // What the deployment leaves in the heap is another matter, so it is made by a host of its own.
        drop(Served::start(stage, &folder, &[])?);
        let host = Served::start(stage, &folder, &[])?;
        let request = request(&host, name)?;
        let before = host.held()?;
        let mut held = Vec::with_capacity(cycles);
        for _ in 0..cycles {
            host.infer(name, &request)?;
            host.wait_until_cold(name)?;
            held.push(host.held()?);
        }

        let mut resident = Group::new(format!("{}: resident", self.name()));
        let mut anonymous = Group::new(format!("{}: anonymous", self.name()));
        resident.add("before the first call", vec![before.resident_mb]);
        anonymous.add("before the first call", vec![before.anonymous_mb]);
        for end in ends(cycles) {
            let window = held.get(end - WINDOW..end).unwrap_or_default();
            let series = format!("Torpor at zero, cycles {} to {end}", end - WINDOW + 1);
            resident.add(&series, column(window, |held| held.resident_mb));
            anonymous.add(&series, column(window, |held| held.anonymous_mb));
        }
        results.add(resident);
        results.add(anonymous);
        let at = |end: usize, of: fn(&Held) -> f64| median(&mut column(&held[end - WINDOW..end], of));
        let (resident, anonymous) = (|held: &Held| held.resident_mb, |held: &Held| held.anonymous_mb);
        let what = format!("{}: resident at the end, as a share of the first {WINDOW} cycles", self.name());
        results.goal(what, at(cycles, resident) / at(WINDOW, resident), GROWTH, "×");
        let what = format!("{}: anonymous at the end, as a share of halfway", self.name());
        results.goal(what, at(cycles, anonymous) / at(cycles / 2, anonymous), LEAK, "×");
        Ok(())
    }
}

/// Where windows end: after the first, then ten times as far each, and at the end.
fn ends(cycles: usize) -> Vec<usize> {
    let mut ends: Vec<usize> =
        std::iter::successors(Some(WINDOW), |end| end.checked_mul(10)).take_while(|end| *end < cycles).collect();
    ends.push(cycles);
    ends
}

fn column(held: &[Held], of: impl Fn(&Held) -> f64) -> Vec<f64> {
    held.iter().map(of).collect()
}
