//! How much more a host gets done on all processors than on one: `filetype` over HTTP, by a host that may run on one alone, and
//! another that may run on all.
//!
//! They take turns, with the same callers. The callers are a program of their own, which takes its share from the host that has all
//! processors, and none from the other; how much that is, is measured too.
#![expect(clippy::print_stderr, reason = "a command talks to the one who typed it")]

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::{process::ExitCode, time::Duration};
use torpor_benches::{
    frame::{Group, Outputs, Results},
    load,
    served::Served,
    stage::{FILETYPE, Places, Stage, Way, filetype_call},
    statistics::median,
};

/// Of what a host gets done on as many processors as there are, the part that it should: 1.8 times as much on two as on one.
const GOAL: f64 = 0.9;
/// Enough that no processor waits for callers.
const CALLERS: usize = 16;

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench cores", about = "Measures what more processors are worth")]
struct Arguments {
    /// Seconds that each host is under load, in each round
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Rounds; a result is the median over them
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    places: Places,
}

/// A host, and what its callers saw: one entry a round.
struct Contestant {
    host: Served,
    throughput: Vec<f64>,
    /// Processor time of the host for one request, in milliseconds.
    processor: Vec<f64>,
}

fn main() -> Result<ExitCode> {
    let Arguments { seconds, rounds, outputs, places } = Arguments::parse();
    let time = Duration::from_secs_f64(seconds);
    let stage = Stage::new(places, &[&FILETYPE])?;
    let mut results = Results::new("cores", "`filetype`, all that a host can do", "");
    let all = sched_getaffinity(None).context("the system does not tell which processors there are")?;
    let processors = all.count();
    ensure!(processors > 1, "this machine has one processor, so there is nothing to compare");
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu)).context("there is no processor")?;
    let mut one = CpuSet::new();
    one.set(last);
    let mut alone = Contestant::on(&stage, "alone", &one)?;
    let mut everywhere = Contestant::on(&stage, "everywhere", &all)?;
    sched_setaffinity(None, &all)?;
    let request = filetype_call();
    for contestant in [&alone, &everywhere] {
        // One by one until the model runs in its fastest form.
        load::round(contestant.host.data, &request, 1, time)?;
    }
    for round in 0..rounds.max(1) {
        eprintln!("round {} of {rounds}", round + 1);
        // There and back, so that a drift of the machine's speed favours nobody.
        let mut order = [&mut alone, &mut everywhere];
        if round % 2 == 1 {
            order.reverse();
        }
        for contestant in order {
            contestant.round(&request, time)?;
        }
    }
    report(alone, everywhere, processors, &mut results);
    Ok(if results.finish(&outputs)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Contestant {
    /// A host that may run on these processors. It has them from this thread, and knows of no others.
    fn on(stage: &Stage, name: &str, processors: &CpuSet) -> Result<Self> {
        sched_setaffinity(None, processors).context("the system does not let this program choose its processors")?;
        let way = Way { name: FILETYPE.name, parallel: usize::try_from(processors.count())?, ..Way::default() };
        let manifests = stage.path(name);
        stage.manifest_in(&manifests, &FILETYPE, &way)?;
        Ok(Contestant { host: Served::start(stage, &manifests, &[])?, throughput: Vec::new(), processor: Vec::new() })
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    fn round(&mut self, request: &[u8], time: Duration) -> Result<()> {
        let before = self.host.processor_time()?;
        let round = load::round(self.host.data, request, CALLERS, time)?;
        let processor = self.host.processor_time()? - before;
        self.throughput.push(round.throughput);
        self.processor.push(processor * 1e3 / round.requests.max(1) as f64);
        Ok(())
    }
}

fn report(alone: Contestant, everywhere: Contestant, processors: u32, results: &mut Results) {
    // Round by round, so that what disturbs one disturbs both.
    let pairs = everywhere.throughput.iter().zip(&alone.throughput);
    let mut speedups: Vec<_> = pairs.map(|(everywhere, alone)| everywhere / alone).collect();
    let speedup = median(&mut speedups);
    let (one, all) = ("on one processor", format!("on {processors}"));
    let mut group = Group::new("answers, 1/s");
    group.add(one, alone.throughput);
    group.add(&*all, everywhere.throughput);
    results.add(group);
    let mut group = Group::new("times as many answers");
    group.add(&*all, speedups);
    results.add(group);
    let mut group = Group::new("processor time of the host for a request, ms");
    group.add(one, alone.processor);
    group.add(&*all, everywhere.processor);
    results.add(group);
    let what = format!("{processors} processors, of what a host gets done on them and on one");
    results.goal(what, f64::from(processors) * GOAL / speedup, 1.0, "×");
}
