//! What joining the runs of different requests is worth: `embed`, and its model by `passthrough`, asked by many callers at the same
//! time, with `batch` in the manifest and without, against a native loop over batches of the size that is fastest here.
//!
//! The loop has its tensors at hand, and neither server nor sandbox: `native.rs`. All take turns in one run. `docs/benchmarks.md`
//! says what the numbers mean.
#![expect(clippy::print_stderr, reason = "a command talks to the one who typed it")]

mod native;
mod report;
mod texts;

use anyhow::{Context, Result};
use clap::Parser;
use report::{Seen, rows_of};
use std::{fs, process::ExitCode, time::Duration};
use texts::Text;
use torpor_benches::{
    frame::{Group, Outputs, Results},
    load,
    served::Served,
    stage::{EMBED, MINILM, Places, Stage, Way, parallel},
};

/// As a manifest has it for texts.
const BATCH: &str = "{ max-size = 32, pad = { axis = 1 } }";
/// Four words, a sentence, and some sentences.
const TEXTS: [Text; 3] = [Text(1), Text(4), Text(16)];

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask bench batch",
    about = "Measures runs that are joined against a native loop over batches"
)]
struct Arguments {
    /// Callers at the same time
    #[arg(long, default_value_t = 32)]
    callers: usize,
    /// Seconds that each turn takes
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Turns of each; a result is the median over them
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    places: Places,
}

/// A function, and what it is asked.
struct Function {
    /// Its name in the host.
    name: &'static str,
    /// Its name in the results.
    shown: &'static str,
    takes_text: bool,
    batch: Option<&'static str>,
}

const JOINED: Function =
    Function { name: "embed-joined", shown: "Torpor: embed, runs joined", takes_text: true, batch: Some(BATCH) };
const ALONE: Function =
    Function { name: "embed-alone", shown: "Torpor: embed, each alone", takes_text: true, batch: None };
const MODEL_JOINED: Function = Function {
    name: "model-joined",
    shown: "Torpor: its model by passthrough, runs joined",
    takes_text: false,
    batch: Some(BATCH),
};
const MODEL_ALONE: Function = Function {
    name: "model-alone",
    shown: "Torpor: its model by passthrough, each alone",
    takes_text: false,
    batch: None,
};
/// In the order of the reports.
const FUNCTIONS: [Function; 4] = [JOINED, ALONE, MODEL_JOINED, MODEL_ALONE];

/// How long and how often to measure, and with how many callers.
struct Effort {
    callers: usize,
    time: Duration,
    rounds: usize,
}

fn main() -> Result<ExitCode> {
    let Arguments { callers, seconds, rounds, outputs, places } = Arguments::parse();
    let stage = Stage::new(places.complete()?, &[&EMBED, &MINILM])?;
    let effort = Effort { callers, time: Duration::from_secs_f64(seconds), rounds: rounds.max(1) };
    let mut results = Results::new("batch", "texts embedded in a second", "");
    let folder = stage.path("functions");
    for Function { name, takes_text, batch, .. } in FUNCTIONS {
        let workload = if takes_text { &EMBED } else { &MINILM };
        let way = Way { name, parallel: parallel(), batch, max_concurrency: 64, ..Way::default() };
        stage.manifest_in(&folder, workload, &way)?;
    }
    let host = Served::start(&stage, &folder, &[])?;
    let mut sizes = Vec::new();
    for text in TEXTS {
        sizes.extend(measure(&stage, &host, &text, &effort, &mut results).with_context(|| text.name())?);
    }
    results.compare("native loop, texts/s", sizes);
    Ok(if results.finish(&outputs)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Adds what was seen to `results`, and returns what the native loop does with each size of batch.
fn measure(stage: &Stage, host: &Served, text: &Text, effort: &Effort, results: &mut Results) -> Result<Vec<Group>> {
    let Effort { callers, time, rounds } = *effort;
    let request = |function: &Function| {
        let body = if function.takes_text { text.text() } else { text.tokens() };
        load::wire(&format!("/v2/models/{}/infer", function.name), &body)
    };
    let requests = FUNCTIONS.each_ref().map(request);
    let model = load::once(host.data, &request(&MODEL_ALONE))?;
    for function in [JOINED, ALONE] {
        texts::same(&load::once(host.data, &request(&function))?, &model)?;
    }

    eprintln!("{}: the best size of a native batch", text.name());
    let file = stage.path("tokens.json");
    fs::write(&file, text.tokens())?;
    let (mut native, rows, tried) = native::best(stage, &file)?;
    for request in &requests {
        // By then a faster form is open, and the host has learned what joins best.
        load::round(host.data, request, callers, time)?;
    }
    let before = rows_of(host, JOINED.name)?;
    let mut seen = Seen { loops: Vec::new(), functions: FUNCTIONS.map(|_| Vec::new()), joined: before };
    for round in 0..rounds {
        eprintln!("{}, round {} of {rounds}", text.name(), round + 1);
        // There and back, so that a drift of the machine's speed favours nobody.
        let order: [usize; 5] = if round % 2 == 0 { [0, 1, 2, 3, 4] } else { [4, 3, 2, 1, 0] };
        for turn in order {
            match turn.checked_sub(1) {
                None => seen.loops.push(native.throughput(rows, time)?),
                Some(index) => {
                    let round = load::round(host.data, &requests[index], callers, time)?;
                    seen.functions[index].push(round.throughput);
                }
            }
        }
    }
    seen.joined = rows_of(host, JOINED.name)?.since(before);
    report::report(&format!("{}, {callers} callers", text.name()), rows, seen, results);
    Ok(report::sizes(text, &tried))
}
