//! What each protocol costs: the same tensors as JSON, as bytes behind JSON, and over gRPC, to the binary that users run and to the
//! native server beside it; and to Triton, where it can be had.
//!
//! All servers run side by side and are put under load in turns. The model adds two tensors, so that what is measured is the way in and
//! out. `docs/benchmarks.md` says what the numbers mean.
#![expect(clippy::print_stderr, reason = "a command talks to the one who typed it")]

mod answer;
mod contestant;
mod report;
mod request;

use anyhow::{Context, Result};
use clap::Parser;
use contestant::Contestant;
use report::{Entry, Seen};
use request::{Protocol, Request, SIZES, Size};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use torpor_benches::{
    frame::{Outputs, Results, line},
    stage::{ADD, Places, Stage},
};

/// Callers at the same time, each with a connection of its own.
const CONNECTIONS: [usize; 2] = [1, 16];
/// Before a load counts, for this part of its time.
const WARM_UP: u32 = 4;

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench protocols", about = "Measures JSON, binary tensors and gRPC")]
struct Arguments {
    /// Seconds that each server is under load, for each protocol, size and number of connections in each round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds; a result is the median over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where the native server runs its model
    #[arg(long, value_name = "WHERE", default_value = "inline", value_parser = ["inline", "threads"])]
    native: String,
    /// Leave Triton out, which is fetched where it is not there
    #[arg(long)]
    no_triton: bool,
    /// Where the Python environments of other servers are kept
    #[arg(long, value_name = "DIR", env = "TORPOR_PEERS")]
    environments: PathBuf,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    places: Places,
}

fn main() -> Result<ExitCode> {
    let Arguments { seconds, rounds, native, no_triton, environments, outputs, places } = Arguments::parse();
    let time = Duration::from_secs_f64(seconds);
    let stage = Stage::new(places.complete()?, &[&ADD])?;
    // It is started first, since fetching it is a load of its own.
    let triton = (!no_triton).then(|| Contestant::triton(&stage, &environments));
    let mut results = Results::new("protocols", "tensors in each protocol", "");
    let mut contestants = vec![Contestant::native(&stage, &native)?, Contestant::torpor(&stage)?];
    match triton {
        Some(Ok(triton)) => contestants.push(triton),
        Some(Err(error)) => results.absent("Triton", line(&error)),
        None => {}
    }
    for size in SIZES {
        let requests: Vec<Request> =
            Protocol::ALL.map(|protocol| Request::new(protocol, &size)).into_iter().collect::<Result<_>>()?;
        for connections in CONNECTIONS {
            let entries = entries(&requests, &contestants, &mut results)
                .with_context(|| format!("tensors that are {}", size.name))?;
            let entries = measure(&size, connections, entries, time, rounds.max(1), &mut results)?;
            report::report(&size, connections, &entries, &mut results);
        }
    }
    Ok(if results.finish(&outputs)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every contestant in every protocol, if its answer is right. Torpor's and the native server's must be.
fn entries<'e>(
    requests: &'e [Request],
    contestants: &'e [Contestant],
    results: &mut Results,
) -> Result<Vec<Entry<'e>>> {
    let mut entries = Vec::new();
    for request in requests {
        for contestant in contestants {
            let answered = request.check(contestant.address(request.protocol));
            match answered.with_context(|| format!("{} over {}", contestant.name(), request.protocol.name())) {
                Ok(answer) => entries.push(Entry { contestant, request, answer, seen: Seen::default() }),
                Err(error) if contestant.may_fail() => results.absent(contestant.name(), line(&error)),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(entries)
}

/// Returns those that answered to the end.
fn measure<'e>(
    size: &Size,
    connections: usize,
    mut entries: Vec<Entry<'e>>,
    time: Duration,
    rounds: usize,
    results: &mut Results,
) -> Result<Vec<Entry<'e>>> {
    // The first round warms up, and does not count.
    for round in 0..=rounds {
        eprintln!("{} at {connections} connections, round {round} of {rounds}", size.name);
        let mut kept = Vec::with_capacity(entries.len());
        for mut entry in entries {
            let outcome = match round {
                0 => entry.warm_up(connections, time / WARM_UP),
                _ => entry.round(connections, time),
            };
            match outcome {
                Ok(()) => kept.push(entry),
                Err(error) if entry.contestant.may_fail() => results.absent(entry.contestant.name(), line(&error)),
                Err(error) => return Err(error).with_context(|| entry.contestant.name()),
            }
        }
        // There and back, so that a drift of the machine's speed favours nobody.
        kept.reverse();
        entries = kept;
    }
    if rounds.is_multiple_of(2) {
        entries.reverse();
    }
    Ok(entries)
}
