//! What a host gets done when more is asked of it than it can do: answers in time, as the rate of requests rises.
//!
//! The function is `filetype` with a short deadline, over HTTP from the binary that users run. First the rate that saturates it is
//! looked for, by callers that wait for their answers; then requests come at a part and at multiples of it, and do not wait.
//! `docs/benchmarks.md` says what the numbers mean.
#![expect(clippy::print_stderr, reason = "a command talks to the one who typed it")]

mod callers;

use anyhow::{Context, Result};
use callers::Seen;
use clap::Parser;
use std::{process::ExitCode, time::Duration};
use torpor_benches::{
    frame::{Group, Outputs, Results},
    load,
    served::Served,
    stage::{FILETYPE, Places, Stage, Way, filetype_call, parallel},
    statistics::quantile,
};

/// Of the rate that saturates.
const LOADS: [(&str, f64); 4] = [("0.5 ×", 0.5), ("1 ×", 1.0), ("2 ×", 2.0), ("3 ×", 3.0)];
/// Callers for each processor that saturate the host: one whose request runs, and one whose request is ready then.
const CALLERS: usize = 2;
/// What the peak may be of what is answered in time under three times the load.
const GOAL: f64 = 1.0 / 0.9;

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench overload", about = "Measures what is answered in time under overload")]
struct Arguments {
    /// Seconds for which requests come at one rate
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Rounds, each with all rates; results are medians over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds within which a request is to be answered
    #[arg(long, default_value_t = 100)]
    deadline: u64,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    places: Places,
}

/// What was seen at one rate, one entry a round.
#[derive(Default)]
struct Load {
    good: Vec<f64>,
    p99: Vec<f64>,
    shed: Vec<f64>,
    in_vain: Vec<f64>,
    callers: Vec<f64>,
}

fn main() -> Result<ExitCode> {
    let Arguments { seconds, rounds, deadline, outputs, places } = Arguments::parse();
    let (time, deadline) = (Duration::from_secs_f64(seconds), Duration::from_millis(deadline));
    let stage = Stage::new(places, &[&FILETYPE])?;
    let title = format!("`filetype` under overload, to be answered within {} ms", deadline.as_millis());
    let mut results = Results::new("overload", "`filetype` under overload", "");
    let within = format!("{}ms", deadline.as_millis());
    let way = Way { name: FILETYPE.name, parallel: parallel(), deadline: &within, ..Way::default() };
    let host = Served::start(&stage, &stage.manifest_in(&stage.path("manifests"), &FILETYPE, &way)?, &[])?;
    let request = filetype_call();
    eprintln!("{title}");
    // One by one until the model runs in its fastest form.
    load::round(host.data, &request, 1, time / 2)?;
    let callers = CALLERS * parallel();
    let saturated = load::round(host.data, &request, callers, time).context("it is too slow for that deadline")?;
    eprintln!("{callers} callers that wait get {:.0} answers a second", saturated.throughput);
    let mut loads = LOADS.map(|_| Load::default());
    for round in 0..rounds.max(1) {
        // There and back, so that a drift of the machine's speed favours nobody.
        let mut order: Vec<_> = (0..LOADS.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let rate = LOADS[index].1 * saturated.throughput;
            let seen = callers::call(host.data, request.clone(), rate, time, deadline)?;
            loads[index].add(seen, time);
        }
    }
    report(saturated.throughput, loads, &mut results);
    Ok(if results.finish(&outputs)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Load {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    fn add(&mut self, mut seen: Seen, time: Duration) {
        let sent = seen.sent.max(1) as f64;
        self.good.push(seen.good.len() as f64 / time.as_secs_f64());
        self.p99.push(quantile(&mut seen.good, 0.99));
        self.shed.push(seen.shed as f64 / sent * 100.0);
        self.in_vain.push((seen.late + seen.expired) as f64 / sent * 100.0);
        self.callers.push(seen.callers * 100.0);
    }
}

fn report(saturated: f64, loads: [Load; LOADS.len()], results: &mut Results) {
    let [mut good, mut p99, mut shed, mut in_vain, mut callers] = [
        "answers in time, 1/s",
        "p99 of those, ms",
        "turned away, %",
        "too late, %",
        "the callers' share of a processor, %",
    ]
    .map(Group::new);
    good.add(format!("{} callers that wait", CALLERS * parallel()), vec![saturated]);
    let mut goodput = Vec::new();
    for ((name, _), load) in LOADS.iter().zip(loads) {
        goodput.push(good.add(*name, load.good));
        p99.add(*name, load.p99);
        shed.add(*name, load.shed);
        in_vain.add(*name, load.in_vain);
        callers.add(*name, load.callers);
    }
    for group in [good, p99, shed, in_vain, callers] {
        results.add(group);
    }
    let peak = goodput.iter().copied().fold(0.0, f64::max);
    for ((name, _), good) in LOADS.iter().zip(&goodput).skip(2) {
        results.goal(format!("the peak, of what is answered in time at {name}"), peak / good.max(1e-9), GOAL, "×");
    }
}
