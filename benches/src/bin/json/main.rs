//! How fast JSON becomes tensors and tensors become JSON, by the gateway's own functions: a request of a megabyte, for each kind of
//! tensor. Beside it serde_json reads and writes the same array as a plain `Vec`, which has no envelope, no shape and no checks.
//!
//! One thread and no host, so the numbers are for one processor.
#![expect(clippy::print_stderr, reason = "a command talks to the one who typed it")]

mod texts;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::{Serialize, de::DeserializeOwned};
use std::{hint::black_box, process::ExitCode, time::Instant};
use texts::{Plain, Text};
use torpor::gateway::measuring::{infer_request, infer_response};
use torpor_benches::frame::{Group, Outputs, Results};

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench json", about = "Measures JSON to tensors and back")]
struct Arguments {
    /// Times that each text is read and written
    #[arg(long, default_value_t = 300)]
    rounds: usize,
    /// Measure only kinds whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    #[command(flatten)]
    outputs: Outputs,
}

/// Milliseconds that a megabyte of JSON may take, either way: 200 MB/s.
const GOAL: f64 = 5.0;
/// Rounds before the first that counts.
const WARM_UP: usize = 10;

fn main() -> Result<ExitCode> {
    let Arguments { rounds, only, outputs } = Arguments::parse();
    let mut results = Results::new("json", "JSON read or written by one processor", "MB/s");
    for text in texts::all() {
        if only.as_ref().is_some_and(|only| !text.name.contains(only.as_str())) {
            continue;
        }
        eprintln!("{}", text.name);
        check(&text)?;
        measure(&text, rounds.max(1)).report(text.name, &mut results);
    }
    Ok(if results.finish(&outputs)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is to be measured must be right.
fn check(text: &Text) -> Result<()> {
    for body in [&text.body, &text.turned] {
        let tensors = infer_request(body.as_bytes()).with_context(|| format!("{} is not read", text.name))?;
        ensure!(tensors == text.tensors, "{} is read as something else", text.name);
    }
    let written = infer_response(&text.tensors).with_context(|| format!("{} is not written", text.name))?;
    ensure!(!written.is_empty(), "{} is written as nothing", text.name);
    Ok(())
}

/// In MB/s of JSON.
#[derive(Default)]
struct Samples {
    read: Vec<f64>,
    turned: Vec<f64>,
    plain_read: Vec<f64>,
    written: Vec<f64>,
    plain_written: Vec<f64>,
}

/// All contestants in turns, so that what disturbs one disturbs all.
fn measure(text: &Text, rounds: usize) -> Samples {
    let mut samples = Samples::default();
    for round in 0..WARM_UP + rounds {
        let read = speed(text.body.len(), || infer_request(black_box(text.body.as_bytes())));
        let turned = speed(text.turned.len(), || infer_request(black_box(text.turned.as_bytes())));
        let written = infer_response(&text.tensors).map_or(0, |written| written.len());
        let written = speed(written, || infer_response(black_box(&text.tensors)));
        let (plain_read, plain_written) = match &text.plain {
            Plain::F32(values) => plain(&text.array, values),
            Plain::F64(values) => plain(&text.array, values),
            Plain::I32(values) => plain(&text.array, values),
            Plain::I64(values) => plain(&text.array, values),
            Plain::U8(values) => plain(&text.array, values),
            Plain::Bool(values) => plain(&text.array, values),
            Plain::Text(values) => plain(&text.array, values),
        };
        if round >= WARM_UP {
            samples.read.push(read);
            samples.turned.push(turned);
            samples.plain_read.push(plain_read);
            samples.written.push(written);
            samples.plain_written.push(plain_written);
        }
    }
    samples
}

/// What serde_json reads and writes of plain elements. Nested arrays are read as such.
fn plain<T: DeserializeOwned + Serialize>(array: &str, values: &[T]) -> (f64, f64) {
    let read = if array.starts_with("[[") {
        speed(array.len(), || serde_json::from_slice::<Vec<Vec<T>>>(black_box(array.as_bytes())))
    } else {
        speed(array.len(), || serde_json::from_slice::<Vec<T>>(black_box(array.as_bytes())))
    };
    let size = serde_json::to_vec(values).map_or(0, |text| text.len());
    (read, speed(size, || serde_json::to_vec(black_box(values))))
}

/// Bytes per microsecond, which are MB/s. Dropping what was made is part of it.
#[expect(clippy::cast_precision_loss, reason = "sizes of texts")]
fn speed<T>(bytes: usize, work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    drop(black_box(work()));
    bytes as f64 / (start.elapsed().as_secs_f64() * 1e6)
}

impl Samples {
    fn report(self, name: &str, results: &mut Results) {
        let mut group = Group::new(name);
        let read = group.add("Torpor, read", self.read);
        group.add("Torpor, read, data before datatype", self.turned);
        group.add("serde_json, read into a Vec", self.plain_read);
        let written = group.add("Torpor, written", self.written);
        group.add("serde_json, written of a slice", self.plain_written);
        results.add(group);
        results.goal(format!("{name}: a megabyte read"), 1e3 / read, GOAL, "ms");
        results.goal(format!("{name}: a megabyte written"), 1e3 / written, GOAL, "ms");
    }
}
