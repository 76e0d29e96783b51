//! Torpor against the native floor, side by side in one run, so that whatever disturbs the machine disturbs both.
//!
//! - over HTTP, the same model and the same JSON through a minimal native server and through Torpor: `serving.rs`;
//! - without HTTP, a call through a fresh instance against a run of the bare model: `inside.rs`;
//! - what the processes hold, for information: `serving.rs` too.
//!
//! `docs/benchmarks.md` says what the numbers mean.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to the one who typed it")]

mod inside;
mod process;
mod report;
mod serving;

use anyhow::{Context, Result};
use clap::Parser;
use std::{path::PathBuf, process::ExitCode, time::Duration};
use torpor_benches::stage::{ADD, EMBED, FILETYPE, FILETYPE_RAW, Places, SERVED, Stage, Workload};

/// What is packed; those that are not served tell how large they are.
const WORKLOADS: [&Workload; 4] = [&ADD, &FILETYPE_RAW, &FILETYPE, &EMBED];

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench floor", about = "Measures Torpor against a minimal native server")]
struct Arguments {
    /// Seconds that each server is under load, in each round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds; a result is the median over them
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// A tenth of everything: to see that it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Only the parts with this in their name: filetype-raw, add, call
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Also write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a target is missed
    #[arg(long)]
    assert: bool,
    #[command(flatten)]
    places: Places,
}

/// How long and how often to measure.
#[derive(Clone, Copy)]
struct Effort {
    round: Duration,
    rounds: usize,
    calls: usize,
}

impl Effort {
    fn new(arguments: &Arguments) -> Self {
        let round = Duration::from_secs_f64(arguments.seconds);
        let effort = Effort { round, rounds: arguments.rounds.max(1), calls: 20_000 };
        if !arguments.quick {
            return effort;
        }
        Effort { round: round / 10, rounds: effort.rounds.min(3), calls: effort.calls / 10 }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build, which says nothing about speed; use `--release`");
    }
    let effort = Effort::new(&arguments);
    let stage = Stage::new(arguments.places.complete()?, &WORKLOADS)?;
    let mut report = report::Report::new(&stage);
    let wanted = |name: &str| name.contains(&arguments.only);
    for workload in SERVED.iter().filter(|workload| wanted(workload.name)) {
        serving::measure(&stage, workload, effort, &mut report)
            .with_context(|| format!("serving {}", workload.name))?;
    }
    if wanted("call") {
        inside::measure(&stage, effort, &mut report)?;
    }
    print!("{report}");
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    let missed = report.missed();
    Ok(if arguments.assert && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
