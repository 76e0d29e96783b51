//! From zero to the first answer: a Torpor function that wakes, against what a native program or a runtime without sessions of its
//! own does. All of it in one run, in turns.
//!
//! `docs/benchmarks.md` says what each contestant is and what the numbers mean.
#![expect(clippy::print_stderr, reason = "a command talks to the one who typed it")]

use anyhow::{Context, Result};
use clap::Parser;
use std::{process::ExitCode, time::Duration};
use tokio::time::sleep;
use torpor::{
    engine::{Function, WakeTiming},
    tensor::{Shape, Tensor},
};
use torpor_benches::{
    frame::{Group, Outputs, Results},
    host::{find, host, until_cold},
    probe::{self, Probe},
    stage::{EMBED, FILETYPE, Places, Stage, TEXT, Workload},
    statistics::{median, micros},
};

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench wake", about = "Measures how long a first answer takes, from nothing")]
struct Arguments {
    /// How often each contestant has its turn
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Only the functions with this in their name: filetype, embed
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    places: Places,
}

/// What a wake may take, as a share of a session with default settings and its first run.
const SESSION_GOAL: f64 = 0.7;
/// What map, link and the first instance of a wake may take, in microseconds.
const WASM_GOAL: f64 = 300.0;
/// Between one contestant's turn and the next one's, so that each finds the machine idle.
const PAUSE: Duration = Duration::from_millis(20);

const TORPOR: &str = "Torpor wakes";
const PROCESS: &str = "native process: start, session, run";
const DEFAULT: &str = "native session as by default, run";
const TUNED: &str = "native session with Torpor's options, run";
const REBUILT: &str = "session from bytes for each request, run";

fn main() -> Result<ExitCode> {
    let Arguments { rounds, only, outputs, places } = Arguments::parse();
    let stage = Stage::new(places.complete()?, &[&FILETYPE, &EMBED])?;
    let mut results = Results::new("wake", "from zero to the first answer", "ms");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // As soon as it may go cold, since a wake is measured again and again.
    let manifests = vec![stage.manifest(&FILETYPE, "10ms")?, stage.manifest(&EMBED, "10ms")?];
    let host = runtime.block_on(host(&stage, manifests))?;
    for workload in [&FILETYPE, &EMBED].into_iter().filter(|workload| workload.name.contains(&only)) {
        eprintln!("waking {}", workload.name);
        let function = find(&host, workload.name)?;
        let samples = runtime.block_on(measure(&stage, workload, &function, rounds.max(1)))?;
        samples.report(workload.name, &mut results);
    }
    for function in host.functions() {
        runtime.block_on(function.retire());
    }
    Ok(if results.finish(&outputs)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In milliseconds, but `wasm` and its parts in microseconds.
#[derive(Default)]
struct Samples {
    torpor: Vec<f64>,
    session: Vec<f64>,
    process: Vec<f64>,
    default: Vec<f64>,
    tuned: Vec<f64>,
    rebuilt: Vec<f64>,
    wasm: Vec<f64>,
    map: Vec<f64>,
    link: Vec<f64>,
    instance: Vec<f64>,
}

async fn measure(stage: &Stage, workload: &Workload, function: &Function, rounds: usize) -> Result<Samples> {
    let mut probe = Probe::start(stage, workload)?;
    let (text, nothing) = (elements(&[TEXT])?, elements(&[])?);
    let mut samples = Samples::default();
    // The first of each reads files that later ones find in memory.
    for round in 0..=rounds {
        let mut all = Samples::default();
        // There and back, so that whoever comes after the other is somebody else each time.
        let turns = [0, 1, 2, 3, 4, 5];
        for turn in turns.map(|turn| (turn + round) % turns.len()) {
            match turn {
                0 => {
                    let (time, wake, _) = woken(function, &text).await?;
                    all.torpor.push(time);
                    all.session.push(micros(wake.session) / 1e3);
                }
                1 => {
                    // Asked about nothing, it runs no model: all that there is beside the wake is the first instance.
                    let (_, wake, instance) = woken(function, &nothing).await?;
                    all.map.push(micros(wake.map));
                    all.link.push(micros(wake.link));
                    all.instance.push(instance);
                    all.wasm.push(micros(wake.map) + micros(wake.link) + instance);
                }
                2 => all.process.push(probe::process(stage, workload)? / 1e3),
                3 => all.default.push(probe.ask("open-default", 1)?[0] / 1e3),
                4 => all.tuned.push(probe.ask("open", 1)?[0] / 1e3),
                _ => all.rebuilt.push(probe.ask("open-bytes", 1)?[0] / 1e3),
            }
            sleep(PAUSE).await;
        }
        if round > 0 {
            samples.append(all);
        }
    }
    Ok(samples)
}

/// Calls a function that is at zero: the microseconds of the whole call, the wake's parts, and those of what came after the wake.
/// On a thread of the runtime, as the gateway calls it; `block_on` would run it on one that the runtime has to wake.
async fn woken(function: &Function, input: &Tensor) -> Result<(f64, WakeTiming, f64)> {
    let name = function.signature().inputs[0].name.clone();
    let (called, input) = (function.clone(), input.clone());
    let call = tokio::spawn(async move {
        let start = std::time::Instant::now();
        let answer = called.predict(vec![(name, input)]).await?;
        let time = micros(start.elapsed());
        let wake = answer.timing.wake.context("the function was not asleep")?;
        anyhow::Ok((time / 1e3, wake, micros(answer.timing.run)))
    });
    let measured = call.await??;
    until_cold(function).await?;
    Ok(measured)
}

fn elements(texts: &[&str]) -> Result<Tensor> {
    Ok(Tensor::from_elements(Shape::from([texts.len() as u64]), texts)?)
}

impl Samples {
    fn append(&mut self, other: Samples) {
        let Samples { torpor, session, process, default, tuned, rebuilt, wasm, map, link, instance } = other;
        for (kept, new) in [
            (&mut self.torpor, torpor),
            (&mut self.session, session),
            (&mut self.process, process),
            (&mut self.default, default),
            (&mut self.tuned, tuned),
            (&mut self.rebuilt, rebuilt),
            (&mut self.wasm, wasm),
            (&mut self.map, map),
            (&mut self.link, link),
            (&mut self.instance, instance),
        ] {
            kept.extend(new);
        }
    }

    fn report(mut self, name: &str, results: &mut Results) {
        let mut group = Group::new(name);
        let torpor = group.add(TORPOR, self.torpor);
        group.add("Torpor's session, of that", self.session);
        let thousandth = |samples: &[f64]| samples.iter().map(|micros| micros / 1e3).collect();
        group.add("Torpor's Wasm: map, link, first instance", thousandth(&self.wasm));
        let default = group.add(DEFAULT, self.default);
        group.add(TUNED, self.tuned);
        group.add(REBUILT, self.rebuilt);
        group.add(PROCESS, self.process);
        results.add(group);
        results.goal(
            format!("{name}: a wake, as a share of a session as by default"),
            torpor / default,
            SESSION_GOAL,
            "×",
        );
        let parts = [("map", &mut self.map), ("link", &mut self.link), ("first instance", &mut self.instance)];
        let parts: Vec<_> = parts.map(|(part, samples)| format!("{part} {:.0}", median(samples))).to_vec();
        let what = format!("{name}: Wasm's part of a wake ({})", parts.join(", "));
        results.goal(what, median(&mut self.wasm), WASM_GOAL, "µs");
    }
}
