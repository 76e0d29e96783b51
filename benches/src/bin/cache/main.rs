//! What an answer from the response cache costs, over HTTP on one connection that stays open: against the same call without a
//! cache, and against an echo, a module that gives back the tensors it gets and has no model. All by turns, on a host of the
//! binary that users run.
#![expect(clippy::print_stderr, reason = "a command talks to the one who typed it")]

mod client;

use anyhow::{Result, ensure};
use clap::Parser;
use client::Client;
use serde_json::{Value, json};
use std::{fs, path::Path, process::ExitCode, time::Instant};
use torpor_benches::{
    frame::{Group, Outputs, Results},
    served::Served,
    stage::{ADD, FILETYPE_RAW, Places, Stage, Workload},
    statistics::micros,
};

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench cache", about = "Measures answers from the response cache")]
struct Arguments {
    /// Calls of each kind
    #[arg(long, default_value_t = 4000)]
    calls: usize,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    places: Places,
}

/// What a hit may take above an echo, in microseconds.
const GOAL: f64 = 50.0;
/// Calls before the first that counts: they wake the functions, and fill the cache.
const WARM_UP: usize = 50;

/// A request that is measured.
struct Contestant {
    name: &'static str,
    request: Vec<u8>,
    /// Whether the cache answers it.
    hit: bool,
}

fn main() -> Result<ExitCode> {
    let Arguments { calls, outputs, places } = Arguments::parse();
    let stage = Stage::new(places.complete()?, &[&ADD, &FILETYPE_RAW])?;
    let manifests = stage.path("manifests");
    deploy(&stage, &manifests)?;
    let host = Served::start(&stage, &manifests, &[])?;
    let mut client = Client::connect(host.data)?;
    let mut results = Results::new("cache", "one call of a warm function", "µs");
    for (what, workload, numbers) in [("eight numbers", &ADD, 8), ("2,048 numbers", &FILETYPE_RAW, 2048)] {
        eprintln!("{what} over the inference protocol");
        let name = workload.name;
        let contestants = [
            Contestant { name: "echo", request: infer("echo", &echo(numbers)), hit: false },
            Contestant { name: "hit", request: infer(&format!("{name}-cached"), &workload.request()), hit: true },
            Contestant { name: "no cache", request: infer(name, &workload.request()), hit: false },
        ];
        // The larger model takes milliseconds, and nobody doubts by how much it is slower.
        let calls = if numbers > 8 { calls / 10 } else { calls };
        measure(&mut client, what, contestants, calls.max(1), &mut results)?;
    }
    eprintln!("whole answers over plain HTTP");
    let contestants = [
        Contestant { name: "echo", request: get("/fn/echo"), hit: false },
        Contestant { name: "hit", request: get("/fn/echo-cached"), hit: true },
    ];
    measure(&mut client, "a whole answer", contestants, calls.max(1), &mut results)?;
    Ok(if results.finish(&outputs)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Calls all by turns, so that whatever disturbs the machine disturbs each of them. The first is the echo, the second the hit.
fn measure<const N: usize>(
    client: &mut Client,
    what: &str,
    contestants: [Contestant; N],
    calls: usize,
    results: &mut Results,
) -> Result<()> {
    let mut samples = [const { Vec::new() }; N];
    for call in 0..WARM_UP + calls {
        for turn in 0..N {
            let index = (call + turn) % N;
            let Contestant { name, request, hit } = &contestants[index];
            let start = Instant::now();
            let status = client.call(request)?;
            let time = micros(start.elapsed());
            if call >= WARM_UP {
                ensure!(status.starts_with("torpor; hit") == *hit, "{what}, {name}: the cache says `{status}`");
                samples[index].push(time);
            }
        }
    }
    let above = samples[1].iter().zip(&samples[0]).map(|(hit, echo)| hit - echo).collect();
    let mut group = Group::new(what);
    for (contestant, samples) in contestants.iter().zip(samples) {
        group.add(contestant.name, samples);
    }
    let above = group.add("hit, less the echo beside it", above);
    results.goal(format!("{what}: a hit, less an echo"), above, GOAL, "µs");
    results.add(group);
    Ok(())
}

fn deploy(stage: &Stage, folder: &Path) -> Result<()> {
    let probe = stage.without_model("probe", "tests/guests/probe", "probe.wasm")?;
    fs::create_dir_all(folder)?;
    let write = |name: &str, bundle: &Path, rest: &str| {
        let scale = "[scale]\nidle-timeout = \"1h\"\n";
        let manifest = format!("name = \"{name}\"\nbundle = \"{}\"\n{rest}{scale}", bundle.display());
        fs::write(folder.join(name).with_extension("toml"), manifest)
    };
    let model = |workload: &Workload, cache: &str| {
        let name = if cache.is_empty() { workload.name.to_owned() } else { format!("{}-cached", workload.name) };
        let rest = format!("[trigger.inference]\n[model.model]\nbackend = \"onnxruntime\"\n{cache}");
        write(&name, &stage.packed(workload), &rest)
    };
    for workload in [&ADD, &FILETYPE_RAW] {
        model(workload, "")?;
        model(workload, "cache = { ttl = \"1h\" }\n")?;
    }
    write("echo", &probe, "[trigger.inference]\n[trigger.http]\npath = \"/fn/echo/*\"\n")?;
    write("echo-cached", &probe, "[trigger.http]\npath = \"/fn/echo-cached/*\"\ncache = {}\n")?;
    Ok(())
}

/// As many numbers as a model gets beside it, and as many back.
fn echo(numbers: usize) -> Vec<u8> {
    let data: Vec<Value> = (0..numbers).map(|number| (number % 256).into()).collect();
    let command = json!({ "name": "command", "shape": [1], "datatype": "BYTES", "data": ["pass"] });
    let numbers = json!({ "name": "x", "shape": [numbers], "datatype": "FP32", "data": data });
    json!({ "inputs": [command, numbers] }).to_string().into_bytes()
}

fn infer(function: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v2/models/{function}/infer HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A request for an answer that may be kept.
fn get(path: &str) -> Vec<u8> {
    let headers = "headers=cache-control%3A%20max-age%3D3600";
    format!("GET {path}/say?{headers} HTTP/1.1\r\nhost: localhost\r\nx-say: hello\r\n\r\n").into_bytes()
}
