//! Torpor against what one would take today to serve a model: the same models, the same requests, in the Open Inference Protocol.
//!
//! In each round every contestant has a turn of its own, in another order each time: it is started, asked until it answers, put
//! under load by 1 and by 16 callers, looked at, and ended, so that none of them has another beside it. `docs/benchmarks.md` says
//! what the numbers mean; `benches/peers` has what the others run.
#![expect(clippy::print_stderr, reason = "a command talks to the one who typed it")]

mod answer;
mod contestant;
mod report;

use anyhow::{Context, Result};
use clap::Parser;
use contestant::Contestant;
use report::{Entry, Sample};
use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};
use torpor_benches::{
    frame::{Outputs, Results, line},
    load,
    peer::{self, environment},
    stage::{ADD, FILETYPE_RAW, Places, Stage, Workload},
};

/// What is served: a model that takes no time, and one that takes some milliseconds.
const WORKLOADS: [&Workload; 2] = [&ADD, &FILETYPE_RAW];
/// Callers at the same time.
const CALLERS: [usize; 2] = [1, 16];
/// No server takes longer to start.
const START: Duration = Duration::from_secs(60);
/// Before a load counts, for this part of its time.
const WARM_UP: u32 = 4;

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench peers", about = "Measures Torpor against other inference servers")]
struct Arguments {
    /// Seconds that each server is under load, for each number of callers in each round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds; a result is the median over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only the servers with this in their name, beside Torpor: fastapi, mlserver, bentoml, litserve, pytriton, triton
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,
    /// Where the Python environments of the others are kept
    #[arg(long, value_name = "DIR", env = "TORPOR_PEERS")]
    environments: PathBuf,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    places: Places,
}

fn main() -> Result<ExitCode> {
    let Arguments { seconds, rounds, only, environments, outputs, places } = Arguments::parse();
    let stage = Stage::new(places, &WORKLOADS)?;
    let mut contestants = vec![Contestant::Torpor, Contestant::TorporAnew];
    let mut absent = Vec::new();
    for peer in peer::named(&only) {
        match environment::ready(&environments, peer.folder) {
            Ok(environment) => contestants.push(Contestant::Peer { peer, environment }),
            Err(error) => absent.push((peer.name, error)),
        }
    }
    // After the installing, which is a load of its own.
    let mut results = Results::new("peers", "inference servers", "");
    for (name, error) in absent {
        results.absent(name, line(&error));
    }
    let time = Duration::from_secs_f64(seconds);
    for workload in WORKLOADS {
        let entries = measure(&stage, workload, &contestants, time, rounds.max(1))
            .with_context(|| format!("serving {}", workload.name))?;
        report::report(workload, entries, &mut results);
    }
    Ok(if results.finish(&outputs)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What each contestant did. One that fails has no further turns; Torpor must not.
fn measure<'c>(
    stage: &Stage,
    workload: &Workload,
    contestants: &'c [Contestant],
    time: Duration,
    rounds: usize,
) -> Result<Vec<Entry<'c>>> {
    let request = load::wire(&format!("/v2/models/{}/infer", workload.name), &workload.request());
    let mut entries: Vec<Entry<'_>> = contestants.iter().map(Entry::new).collect();
    let mut expected = None;
    // The first round shows that they answer, and all the same, and reads their files; none of it counts.
    for round in 0..=rounds {
        for turn in 0..entries.len() {
            let count = entries.len();
            let entry = &mut entries[(turn + round) % count];
            if entry.failure.is_some() {
                continue;
            }
            eprintln!("{}, round {round} of {rounds}: {}", workload.name, entry.contestant.name());
            let outcome = if round == 0 {
                look(stage, workload, entry.contestant, &request).and_then(|answer| {
                    // Torpor has the first turn of this round.
                    answer::same(expected.get_or_insert_with(|| answer.clone()), &answer)
                })
            } else {
                take(stage, workload, entry.contestant, &request, time).map(|sample| entry.samples.push(sample))
            };
            match outcome {
                Err(error) if entry.contestant.is_torpor() => return Err(error),
                outcome => entry.failure = outcome.err(),
            }
        }
    }
    Ok(entries)
}

/// Starts a server, and ends it after its first answer.
fn look(stage: &Stage, workload: &Workload, contestant: &Contestant, request: &[u8]) -> Result<answer::Answer> {
    let server = contestant.prepare(stage, workload)?.start()?;
    let answer = server.told(load::first(server.address(), request, START))?;
    answer::read(&answer)
}

/// One turn of a contestant.
fn take(stage: &Stage, workload: &Workload, contestant: &Contestant, request: &[u8], time: Duration) -> Result<Sample> {
    let prepared = contestant.prepare(stage, workload)?;
    let begin = Instant::now();
    let server = prepared.start()?;
    server.told(load::first(server.address(), request, START))?;
    let first = begin.elapsed();
    let under = |callers| -> Result<load::Round> {
        load::round(server.address(), request, callers, time / WARM_UP)?;
        load::round(server.address(), request, callers, time)
    };
    let [one, many] = CALLERS;
    let loads = [server.told(under(one))?, server.told(under(many))?];
    Ok(Sample { first, loads, memory: server.memory()? })
}
