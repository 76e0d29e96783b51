//! Calls without HTTP: the engine in this process against the bare model in another, in turns.

use crate::{
    Effort,
    report::{Comparison, Line, Report, Target},
};
use anyhow::{Result, ensure};
use std::time::Instant;
use torpor::{
    engine::Function,
    tensor::{DType, NamedTensor, Shape, Tensor},
};
use torpor_benches::{
    host::{find, host},
    probe::Probe,
    stage::{ADD, Stage},
    statistics::{median, micros, quantile},
};

/// Runs or calls in a row, before it is the other side's turn.
const BATCH: usize = 250;
/// Of each batch, those that only warm caches up.
const WARM_UP: usize = 50;
/// What a call may cost above a run of the bare model, in microseconds.
const CALL_TARGET: f64 = 60.0;

pub(crate) fn measure(stage: &Stage, effort: Effort, report: &mut Report) -> Result<()> {
    eprintln!("a call in a fresh instance");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let host = runtime.block_on(host(stage, vec![stage.manifest(&ADD, "1h")?]))?;
    let function = find(&host, ADD.name)?;
    report.add(runtime.block_on(call(function.clone(), Probe::start(stage, &ADD)?, effort.calls))?);
    runtime.block_on(function.retire());
    Ok(())
}

/// A warm call of `add`: a fresh instance, the guest, the model, and the answer.
async fn call(function: Function, mut probe: Probe, calls: usize) -> Result<Line> {
    // On a thread of the runtime, as the gateway calls it; `block_on` would run it on one that the runtime has to wake.
    let measured = tokio::spawn(async move {
        let (mut native, mut torpor) = (Vec::new(), Vec::new());
        let row = |start: u8| (0..4).map(|index| f32::from(start + index)).collect::<Vec<_>>();
        let inputs = vec![tensor("x", &row(1))?, tensor("y", &row(5))?];
        for _ in 0..calls.div_ceil(BATCH) {
            native.extend_from_slice(&probe.ask("run", WARM_UP + BATCH)?[WARM_UP..]);
            for index in 0..WARM_UP + BATCH {
                let time = timed(&function, inputs.clone()).await?;
                if index >= WARM_UP {
                    torpor.push(time);
                }
            }
        }
        anyhow::Ok((native, torpor))
    });
    let (mut native, mut torpor) = measured.await??;
    let medians = (median(&mut native), median(&mut torpor));
    let mut line = Line::new("call of add, fresh instance".to_owned(), Comparison::Difference, medians, "µs");
    line.details.push(("p90 (µs)", quantile(&mut native, 0.9), quantile(&mut torpor, 0.9)));
    line.details.push(("p99 (µs)", quantile(&mut native, 0.99), quantile(&mut torpor, 0.99)));
    Ok(line.target(Some(Target::AtMost(CALL_TARGET))))
}

async fn timed(function: &Function, inputs: Vec<NamedTensor>) -> Result<f64> {
    let start = Instant::now();
    let answer = function.predict(inputs).await?;
    let time = micros(start.elapsed());
    ensure!(answer.value.len() == 1, "the function gave {} outputs", answer.value.len());
    Ok(time)
}

fn tensor(name: &str, row: &[f32]) -> Result<NamedTensor> {
    let data: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok((name.to_owned(), Tensor::new(DType::F32, Shape::from([1, 4]), data.into())?))
}
