//! A host as a process, looked at from outside. Dropping it ends it.

use crate::stage::{Stage, is_add};
use anyhow::{Context, Result, bail, ensure};
use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, Signal, kill_process},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use ureq::{Agent, Body, http::Response};

/// Longer than any start that is of use to anybody.
const START: Duration = Duration::from_secs(300);
/// Longer than any idle time-out here, with the sleep.
const COLD: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

pub(crate) struct Host {
    child: Child,
    pub(crate) data: SocketAddr,
    admin: SocketAddr,
    agent: Agent,
}

/// What a process holds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Held {
    /// Resident memory, in MB of 10^6 bytes.
    pub(crate) resident_mb: f64,
    /// The part of it that no file backs.
    pub(crate) anonymous_mb: f64,
    pub(crate) threads: usize,
    pub(crate) files: usize,
}

#[derive(Deserialize)]
struct Addresses {
    data: SocketAddr,
    admin: SocketAddr,
}

impl Host {
    /// Starts the binary and waits until it serves. Hosts with the same manifests use the same state directory.
    pub(crate) fn start(stage: &Stage, manifests: &Path, flags: &[&str]) -> Result<Self> {
        let (addresses, log) = (stage.path("addresses"), stage.path("log"));
        let _ = fs::remove_file(&addresses);
        let mut command = Command::new(&stage.places.torpor);
        command.arg("serve").arg("--manifests").arg(manifests).arg("--trust").arg(stage.path("trust.toml"));
        command.arg("--state").arg(manifests.with_extension("state")).args(["--log", "warn"]).args(flags);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--addresses"]).arg(&addresses);
        command.arg("--onnxruntime").arg(&stage.places.onnxruntime);
        let output = File::create(&log)?;
        let mut child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        let begin = Instant::now();
        while begin.elapsed() < START && child.try_wait()?.is_none() {
            if let Ok(text) = fs::read_to_string(&addresses) {
                let Addresses { data, admin } = serde_json::from_str(&text)?;
                return Ok(Host { child, data, admin, agent: Agent::new_with_defaults() });
            }
            sleep(POLL);
        }
        // It did not start, so nobody else ends it.
        let _ = child.kill();
        let _ = child.wait();
        bail!("`torpor serve` did not start:\n{}", fs::read_to_string(&log).unwrap_or_default())
    }

    /// What the admin interface answers.
    pub(crate) fn admin(&self, path: &str) -> Result<String> {
        let mut answer = self.agent.get(format!("http://{}{path}", self.admin)).call()?;
        Ok(answer.body_mut().with_config().limit(1 << 30).read_to_string()?)
    }

    pub(crate) fn held(&self) -> Result<Held> {
        let id = self.child.id();
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let field = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the system tells no memory")?;
            Ok(line.trim_end_matches("kB").trim().parse()?)
        };
        Ok(Held {
            resident_mb: field("VmRSS:")? * 1024.0 / 1e6,
            anonymous_mb: field("RssAnon:")? * 1024.0 / 1e6,
            threads: fs::read_dir(format!("/proc/{id}/task"))?.count(),
            files: fs::read_dir(format!("/proc/{id}/fd"))?.count(),
        })
    }

    /// The processor time that it has used, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "a count of ticks")]
    pub(crate) fn processor_time(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name of the program, in parentheses, may hold spaces; the fields after it do not.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).context("`stat` is short")?.parse()?) };
        Ok((ticks(11)? + ticks(12)?) / clock_ticks_per_second() as f64)
    }

    /// Calls a cold function, and returns how long its wake took by its own account, in milliseconds.
    pub(crate) fn wake(&self, name: &str) -> Result<f64> {
        let answer = call(&self.agent, self.data, name, true)?;
        let timing = answer.headers().get("server-timing").and_then(|timing| timing.to_str().ok()).unwrap_or_default();
        let wake = timing.split(", ").find_map(|entry| entry.strip_prefix("wake;dur="));
        Ok(wake.context("the function was not cold")?.parse()?)
    }

    pub(crate) fn wait_until_cold(&self, name: &str) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < COLD {
            let status: Value = serde_json::from_str(&self.admin(&format!("/functions/{name}"))?)?;
            if status["state"] == "Cold" {
                return Ok(());
            }
            sleep(POLL);
        }
        bail!("`{name}` did not go cold")
    }
}

/// Calls a function; `add` is whether it adds.
pub(crate) fn call(agent: &Agent, data: SocketAddr, name: &str, add: bool) -> Result<Response<Body>> {
    let request = match add {
        true => {
            let row = |name: &str| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
            json!({ "inputs": [row("x"), row("y")] })
        }
        false => {
            let data: Vec<i32> = (0..2048).map(|index| index % 256).collect();
            json!({ "inputs": [{ "name": "bytes", "shape": [1, 2048], "datatype": "INT32", "data": data }] })
        }
    };
    let mut answer = agent.post(format!("http://{data}/v2/models/{name}/infer")).send_json(request)?;
    let body: Value = answer.body_mut().read_json()?;
    ensure!(body["outputs"].is_array(), "no outputs: {body}");
    Ok(answer)
}

/// Calls the function with this number.
pub(crate) fn call_index(agent: &Agent, data: SocketAddr, index: usize) -> Result<()> {
    call(agent, data, &crate::stage::name(index), is_add(index)).map(drop)
}

impl Drop for Host {
    fn drop(&mut self) {
        // It was not waited for, so its id is still its own. Errors change nothing on the way out.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
