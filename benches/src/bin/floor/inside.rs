//! Calls without HTTP: the engine in this process against the bare model in another, in turns.

use crate::{
    Effort,
    report::{Comparison, Line, Report, Target},
    stage::{ADD, EMBED, FILETYPE, Stage, TEXT, Workload},
    statistics::{median, micros, quantile},
};
use anyhow::{Context, Result, ensure};
use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::{Duration, Instant},
};
use tokio::time::sleep;
use torpor::{
    Config, Host, Trust,
    engine::{Function, State},
    gateway,
    tensor::{DType, NamedTensor, Shape, Tensor},
};

/// Runs or calls in a row, before it is the other side's turn.
const BATCH: usize = 250;
/// Of each batch, those that only warm caches up.
const WARM_UP: usize = 50;
/// What a call may cost above a run of the bare model, in microseconds.
const CALL_TARGET: f64 = 60.0;
/// What a wake may cost, as a multiple of opening the bare model and running it.
const WAKE_TARGET: f64 = 1.3;
const POLL: Duration = Duration::from_millis(2);
/// A function that does not go cold within this time never will.
const COLD: Duration = Duration::from_secs(10);

pub(crate) fn measure(stage: &Stage, effort: Effort, wanted: impl Fn(&str) -> bool, report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let host = runtime.block_on(host(stage))?;
    let find = |workload: &Workload| -> Result<Function> {
        let function = host.functions().iter().find(|function| function.manifest().name.as_str() == workload.name);
        function.cloned().with_context(|| format!("`{}` is not deployed", workload.name))
    };
    if wanted("call") {
        eprintln!("a call in a fresh instance");
        report.add(call(&runtime, &find(&ADD)?, &Probe::start(stage, &ADD)?, effort.calls)?);
    }
    for (workload, target) in [(&FILETYPE, Some(Target::AtMost(WAKE_TARGET))), (&EMBED, None)] {
        if wanted("wake") {
            eprintln!("a wake of {}", workload.name);
            let probe = Probe::start(stage, workload)?;
            report.add(wake(&runtime, workload, &find(workload)?, &probe, effort.wakes)?.target(target));
        }
    }
    drop(host);
    Ok(())
}
