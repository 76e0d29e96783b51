//! What the code of a module costs beside its model: `embed`, which is given text, against its model by `passthrough`, which is given
//! the tensors that `embed` makes of that text. Both in this process and in turns, each call in a fresh instance.
//!
//! The native time for the same token ids is measured too: it is what the code would cost without a sandbox around it.
#![expect(clippy::print_stderr, reason = "a command talks to the one who typed it")]

// The module's own source, compiled for this processor.
#[path = "../../../../modules/embed/src/tokenizer.rs"]
mod tokenizer;

use anyhow::{Result, ensure};
use clap::Parser;
use std::{process::ExitCode, time::Instant};
use tokenizer::TOKENIZER;
use torpor::{
    engine::Function,
    tensor::{DType, NamedTensor, Shape, Tensor},
};
use torpor_benches::{
    frame::{Group, Outputs, Results},
    host::{find, host},
    stage::{EMBED, EMBED_LIGHT, MINILM, MINILM_LIGHT, Places, Stage},
    statistics::micros,
};

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench guest", about = "Measures what a module's code costs beside its model")]
struct Arguments {
    /// Calls of each function and text
    #[arg(long, default_value_t = 4000)]
    calls: usize,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    places: Places,
}

/// What `embed` may take above `passthrough` and the native time for its token ids, in microseconds.
const GOAL: f64 = 30.0;
/// Calls before the first that counts: by then the host knows how long the model runs.
const WARM_UP: usize = 50;
/// The real model takes a thousand times as long as the other, so it is called less often.
const REAL: usize = 10;

/// The stand-in for the model: the same inputs and outputs, and next to no computing.
const LIGHT: &str = "a model that takes no time";

/// What is embedded, by what it is.
const TEXTS: [(&str, &str, usize); 3] = [
    ("four words", "the quick brown fox", 1),
    ("a sentence", "The hummingbird spends almost nothing at night, and wakes when the first flower opens.", 1),
    ("a page", "The hummingbird spends almost nothing at night, and wakes when the first flower opens. ", 20),
];

fn main() -> Result<ExitCode> {
    let Arguments { calls, outputs, places } = Arguments::parse();
    let workloads = [&EMBED, &MINILM, &EMBED_LIGHT, &MINILM_LIGHT];
    let stage = Stage::new(places.complete()?, &workloads)?;
    let mut results = Results::new("guest", "one call of a warm function", "µs");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let manifests = workloads.map(|workload| stage.manifest(workload, "1h")).into_iter().collect::<Result<Vec<_>>>()?;
    let host = runtime.block_on(host(&stage, manifests))?;
    for (model, embed, passthrough, calls, goal) in [
        (LIGHT, &EMBED_LIGHT, &MINILM_LIGHT, calls, Some(GOAL)),
        // Its runs differ by more than what is looked for here, so it shows what share of a call that is, and has no goal.
        ("all-MiniLM-L6-v2", &EMBED, &MINILM, calls / REAL, None),
    ] {
        let (embed, passthrough) = (find(&host, embed.name)?, find(&host, passthrough.name)?);
        for (what, text, times) in TEXTS {
            eprintln!("{what} through {model}");
            let text = text.repeat(times);
            let (embed, passthrough) = (embed.clone(), passthrough.clone());
            // On a thread of the runtime, as the gateway calls it; `block_on` would run it on one that the runtime has to wake.
            let samples = runtime.block_on(runtime.spawn(measure(embed, passthrough, text, calls.max(1))))??;
            samples.report(what, model, goal, &mut results);
        }
    }
    for function in host.functions() {
        runtime.block_on(function.retire());
    }
    Ok(if results.finish(&outputs)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In microseconds.
#[derive(Default)]
struct Samples {
    tokens: usize,
    passthrough: Vec<f64>,
    embed: Vec<f64>,
    native: Vec<f64>,
}

async fn measure(embed: Function, passthrough: Function, text: String, calls: usize) -> Result<Samples> {
    let ids = TOKENIZER.encode(&text);
    let mut samples = Samples { tokens: ids.len(), ..Samples::default() };
    let input = vec![("text".to_owned(), Tensor::from_elements(Shape::from([1]), &[text.as_str()])?)];
    let tensors =
        [("input_ids", ids.clone()), ("attention_mask", vec![1; ids.len()]), ("token_type_ids", vec![0; ids.len()])];
    let tensors = tensors.map(|(name, values)| tensor(name, &values)).into_iter().collect::<Result<Vec<_>>>()?;
    for call in 0..WARM_UP + calls {
        let mut times = [0.0; 2];
        // By turns, since whoever is second finds the model in the processor's caches.
        for turn in [call % 2, (call + 1) % 2] {
            let (function, inputs) = if turn == 0 { (&passthrough, &tensors) } else { (&embed, &input) };
            let inputs = inputs.clone();
            let start = Instant::now();
            let answer = function.predict(inputs).await?;
            times[turn] = micros(start.elapsed());
            ensure!(answer.value.len() == 1, "`{}` gave no answer", function.manifest().name);
        }
        let start = Instant::now();
        let again = TOKENIZER.encode(std::hint::black_box(&text));
        let native = micros(start.elapsed());
        ensure!(again == ids, "the tokenizer gave other ids");
        if call >= WARM_UP {
            samples.passthrough.push(times[0]);
            samples.embed.push(times[1]);
            samples.native.push(native);
        }
    }
    Ok(samples)
}

fn tensor(name: &str, values: &[i64]) -> Result<NamedTensor> {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok((name.to_owned(), Tensor::new(DType::I64, Shape::from([1, values.len() as u64]), data.into())?))
}

impl Samples {
    fn report(self, what: &str, model: &str, goal: Option<f64>, results: &mut Results) {
        let name = format!("{what} ({} tokens), {model}", self.tokens);
        let mut group = Group::new(name.clone());
        // Each pair ran one right after the other, so that what disturbs one disturbs both.
        let above = self.embed.iter().zip(&self.passthrough).map(|(embed, passthrough)| embed - passthrough).collect();
        group.add("Torpor: embed, given text", self.embed);
        group.add("Torpor: passthrough, given tensors", self.passthrough);
        let above = group.add("the difference", above);
        let native = group.add("token ids, native", self.native);
        results.add(group);
        if let Some(most) = goal {
            results.goal(format!("{name}: the difference, less the native token ids"), above - native, most, "µs");
        }
    }
}
