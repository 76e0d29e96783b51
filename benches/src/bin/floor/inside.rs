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
    Config, Host, Libraries, Trust,
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
/// Between one side's wake and the other's, so that each finds the machine idle.
const PAUSE: Duration = Duration::from_millis(20);
/// A function that does not go cold within this time never will.
const COLD: Duration = Duration::from_secs(10);

pub(crate) fn measure(stage: &Stage, effort: Effort, wanted: impl Fn(&str) -> bool, report: &mut Report) -> Result<()> {
    if !wanted("call") && !wanted("wake") {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let host = runtime.block_on(host(stage))?;
    let find = |workload: &Workload| -> Result<Function> {
        let function = host.functions().into_iter().find(|function| function.manifest().name.as_str() == workload.name);
        function.with_context(|| format!("`{}` was not deployed; `torpor serve` would say why", workload.name))
    };
    if wanted("call") {
        eprintln!("a call in a fresh instance");
        report.add(runtime.block_on(call(find(&ADD)?, Probe::start(stage, &ADD)?, effort.calls))?);
    }
    for (workload, target) in [(&FILETYPE, Some(Target::AtMost(WAKE_TARGET))), (&EMBED, None)] {
        if wanted("wake") {
            eprintln!("a wake of {}", workload.name);
            let probe = Probe::start(stage, workload)?;
            let line = runtime.block_on(wake(workload, find(workload)?, probe, effort.wakes))?;
            report.add(line.target(target));
        }
    }
    for function in host.functions() {
        runtime.block_on(function.retire());
    }
    Ok(())
}

/// A host in this process, whose gateway serves nobody.
async fn host(stage: &Stage) -> Result<Host> {
    let manifests = vec![
        stage.manifest(&ADD, "1h")?,
        // As soon as it may, since a wake is measured again and again.
        stage.manifest(&FILETYPE, "10ms")?,
        stage.manifest(&EMBED, "10ms")?,
    ];
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = Config {
        manifests,
        variables: |_| None,
        watch: false,
        trust: Trust::Policy(stage.trust()),
        state: stage.path("inside.state"),
        gateway: gateway::Config { data: any, admin: any, limits: gateway::Limits::default(), drain: Duration::ZERO },
        libraries: Libraries { onnxruntime: Some(stage.places.onnxruntime.clone()), openvino: None },
        worker: None,
        instances: 512,
    };
    torpor::build(config).await
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

/// From zero to the first answer.
async fn wake(workload: &'static Workload, function: Function, mut probe: Probe, wakes: usize) -> Result<Line> {
    let name = function.signature().inputs[0].name.clone();
    let text = Tensor::from_elements(Shape::from([1]), &[TEXT])?;
    let measured = tokio::spawn(async move {
        let (mut native, mut torpor, mut parts) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
        // The first of both reads files that later ones find in memory.
        for index in 0..=wakes {
            let mut opened = Vec::new();
            // By turns, since whoever is second finds the library's code in the processor's caches.
            if index % 2 == 0 {
                opened = probe.ask("open", 1)?;
                sleep(PAUSE).await;
            }
            let start = Instant::now();
            let answer = function.predict(vec![(name.clone(), text.clone())]).await?;
            let time = micros(start.elapsed());
            let wake = answer.timing.wake.context("the function was not asleep")?;
            until_cold(&function).await?;
            sleep(PAUSE).await;
            if opened.is_empty() {
                opened = probe.ask("open", 1)?;
                sleep(PAUSE).await;
            }
            if index > 0 {
                native.extend(opened);
                torpor.push(time);
                for (part, time) in parts.iter_mut().zip([wake.map + wake.link, wake.session, answer.timing.run]) {
                    part.push(micros(time) / 1e3);
                }
            }
        }
        anyhow::Ok((native, torpor, parts))
    });
    let (mut native, mut torpor, mut parts) = measured.await??;
    let medians = (median(&mut native) / 1e3, median(&mut torpor) / 1e3);
    let what = format!("wake of {} to its first answer", workload.name);
    let mut line = Line::new(what, Comparison::Ratio, medians, "ms");
    line.details.push(("p90 (ms)", quantile(&mut native, 0.9) / 1e3, quantile(&mut torpor, 0.9) / 1e3));
    for (part, times) in ["code (ms)", "session (ms)", "first call (ms)"].into_iter().zip(&mut parts) {
        line.details.push((part, f64::NAN, median(times)));
    }
    Ok(line)
}

async fn timed(function: &Function, inputs: Vec<NamedTensor>) -> Result<f64> {
    let start = Instant::now();
    let answer = function.predict(inputs).await?;
    let time = micros(start.elapsed());
    ensure!(answer.value.len() == 1, "the function gave {} outputs", answer.value.len());
    Ok(time)
}

async fn until_cold(function: &Function) -> Result<()> {
    let start = Instant::now();
    while function.status().state != State::Cold {
        ensure!(start.elapsed() < COLD, "`{}` does not go cold", function.manifest().name);
        sleep(POLL).await;
    }
    Ok(())
}

fn tensor(name: &str, row: &[f32]) -> Result<NamedTensor> {
    let data: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok((name.to_owned(), Tensor::new(DType::F32, Shape::from([1, 4]), data.into())?))
}

/// The native server's `probe`, in a process of its own.
struct Probe {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Probe {
    fn start(stage: &Stage, workload: &Workload) -> Result<Self> {
        let mut command = stage.native("probe", workload)?;
        command.arg("--request").arg(stage.request(workload));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        Ok(Probe { child, stdin, stdout: BufReader::new(stdout) })
    }

    /// Microseconds of each of `count` times.
    fn ask(&mut self, what: &str, count: usize) -> Result<Vec<f64>> {
        writeln!(self.stdin, "{what} {count}")?;
        self.stdin.flush()?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        let times: Vec<f64> = serde_json::from_str(&line).context("the native server ended; what it wrote is above")?;
        ensure!(times.len() == count, "the native server answered {} times instead of {count}", times.len());
        Ok(times.into_iter().map(|nanoseconds| nanoseconds / 1e3).collect())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // It only waits for the next command.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
