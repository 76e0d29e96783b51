//! All functions of a host, called at random for a while: a few often, most hardly ever, as Zipf's law says of what people want.

use crate::{host::call, stage::manifests};
use anyhow::Result;
use serde_json::Value;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use torpor_benches::{
    served::{Held, Served},
    stage::Stage,
};
use ureq::Agent;

const LOOK: Duration = Duration::from_millis(100);

/// What is to be done.
pub(crate) struct Load {
    pub(crate) functions: usize,
    pub(crate) callers: usize,
    pub(crate) time: Duration,
    pub(crate) budget: String,
}

/// What came of it.
pub(crate) struct Crowd {
    pub(crate) load: Load,
    pub(crate) errors: usize,
    /// The first of them.
    pub(crate) error: Option<String>,
    /// Milliseconds of each request that was answered.
    pub(crate) times: Vec<f64>,
    /// Functions that were called at all.
    pub(crate) called: u64,
    pub(crate) wakes: u64,
    pub(crate) evictions: u64,
    pub(crate) before: Held,
    /// The most resident memory that was seen meanwhile, in MB.
    pub(crate) most_mb: f64,
    /// When all functions are at zero again.
    pub(crate) after: Held,
}

/// Numbers that look random, and are the same in each run.
struct Dice(u64);

impl Dice {
    /// Between 0 and 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap_or_default()) / f64::from(u32::MAX)
    }
}

impl Load {
    pub(crate) fn measure(self, stage: &Stage) -> Result<Crowd> {
        let Load { functions, callers, time, budget } = &self;
        let manifests = manifests(stage, *functions, "20s")?;
        let host = Served::start(stage, &manifests, &["--memory-budget", budget])?;
        let before = host.held()?;
        let shares = shares(*functions);
        let ended = AtomicBool::new(false);
        let begin = Instant::now();
        let (results, most_mb) = thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut most: f64 = 0.0;
                while !ended.load(Ordering::Relaxed) {
                    most = host.held().map_or(most, |held| most.max(held.resident_mb));
                    thread::sleep(LOOK);
                }
                most
            });
            let calling = (0..*callers).map(|caller| {
                let (host, shares) = (&host, &shares);
                scope.spawn(move || {
                    let agent = Agent::new_with_defaults();
                    let mut dice = Dice(caller as u64 + 1);
                    let mut results = Vec::new();
                    while begin.elapsed() < *time {
                        let dice = dice.roll();
                        let index = shares.partition_point(|share| *share < dice).min(shares.len() - 1);
                        let sent = Instant::now();
                        let result = call(&agent, host.data, index).map_err(|error| format!("{error:#}"));
                        results.push(result.map(|()| sent.elapsed().as_secs_f64() * 1e3));
                    }
                    results
                })
            });
            let calling: Vec<_> = calling.collect();
            let results: Vec<_> = calling.into_iter().filter_map(|caller| caller.join().ok()).flatten().collect();
            ended.store(true, Ordering::Relaxed);
            (results, watch.join().unwrap_or_default())
        });
        let all: Vec<Value> = serde_json::from_str(&host.admin("/functions")?)?;
        let sum = |key: &str| all.iter().filter_map(|function| function[key].as_u64()).sum::<u64>();
        for function in all.iter().filter(|function| function["state"] != "Cold") {
            host.wait_until_cold(function["name"].as_str().unwrap_or_default())?;
        }
        let after = host.held()?;
        let error = results.iter().find_map(|result| result.as_ref().err().cloned());
        let times: Vec<f64> = results.iter().filter_map(|result| result.as_ref().ok().copied()).collect();
        Ok(Crowd {
            errors: results.len() - times.len(),
            error,
            times,
            called: all.iter().filter(|function| function["calls"] != 0).count() as u64,
            wakes: sum("wakes"),
            evictions: sum("evictions"),
            before,
            most_mb,
            after,
            load: self,
        })
    }
}

/// Up to where, between 0 and 1, each function reaches: the one of rank r gets 1/r of what the first gets.
#[expect(clippy::cast_precision_loss, reason = "a rank")]
fn shares(functions: usize) -> Vec<f64> {
    let weights = (1..=functions).map(|rank| 1.0 / rank as f64);
    let total: f64 = weights.clone().sum();
    let mut sum = 0.0;
    let mut reach = |weight: f64| {
        sum += weight / total;
        sum
    };
    weights.map(&mut reach).collect()
}
