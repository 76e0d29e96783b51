//! A host as a process of the binary that users run, called over HTTP and looked at from outside. Dropping it ends it.

use crate::{machine::processor_time, stage::Stage};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use ureq::{Agent, Body, http::Response};

/// Kilobytes of the system, which are 1,024 bytes, in a megabyte of 10^6 bytes.
const KILOBYTES: f64 = 1e6 / 1024.0;

/// Longer than any start that is of use to anybody.
const START: Duration = Duration::from_secs(300);
/// Longer than any idle time-out here, with the sleep.
const COLD: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

/// Lives until it is dropped.
pub struct Served {
    child: Child,
    /// Where functions are called.
    pub data: SocketAddr,
    admin: SocketAddr,
    agent: Agent,
}

/// What a process holds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Held {
    /// Resident memory, in MB of 10^6 bytes.
    pub resident_mb: f64,
    /// The part of it that no file backs.
    pub anonymous_mb: f64,
    /// Resident memory in which a page that is mapped several times counts once, and one that other processes map too in part.
    pub once_mb: f64,
    /// Threads.
    pub threads: usize,
    /// Open files.
    pub files: usize,
}

#[derive(Deserialize)]
struct Addresses {
    data: SocketAddr,
    admin: SocketAddr,
}

impl Served {
    /// Starts the binary and waits until it serves. Hosts with the same manifests use the same state directory.
    pub fn start(stage: &Stage, manifests: &Path, flags: &[&str]) -> Result<Self> {
        let (addresses, log) = (stage.path("addresses"), stage.path("log"));
        let _ = fs::remove_file(&addresses);
        let mut command = Command::new(&stage.places.torpor);
        command.arg("serve").arg("--manifests").arg(manifests).arg("--trust").arg(stage.trust());
        command.arg("--state").arg(state(manifests)).args(["--log", "warn"]).args(flags);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--addresses"]).arg(&addresses);
        command.arg("--onnxruntime").arg(&stage.places.onnxruntime);
        if let Some(openvino) = &stage.places.openvino {
            command.arg("--openvino").arg(openvino);
        }
        let output = File::create(&log)?;
        let mut child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        let begin = Instant::now();
        while begin.elapsed() < START && child.try_wait()?.is_none() {
            if let Ok(text) = fs::read_to_string(&addresses) {
                let Addresses { data, admin } = serde_json::from_str(&text)?;
                return Ok(Served { child, data, admin, agent: Agent::new_with_defaults() });
            }
            sleep(POLL);
        }
        // It did not start, so nobody else ends it.
        let _ = child.kill();
        let _ = child.wait();
        bail!("`torpor serve` did not start:\n{}", fs::read_to_string(&log).unwrap_or_default())
    }

    /// What the admin interface answers.
    pub fn admin(&self, path: &str) -> Result<String> {
        let mut answer = self.agent.get(format!("http://{}{path}", self.admin)).call()?;
        Ok(answer.body_mut().with_config().limit(1 << 30).read_to_string()?)
    }

    /// What the process holds now.
    pub fn held(&self) -> Result<Held> {
        let id = self.child.id();
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        let field = |name: &str| -> Result<f64> {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)).context("the system tells no memory")?;
            Ok(line.trim_end_matches("kB").trim().parse::<f64>()? / KILOBYTES)
        };
        Ok(Held {
            resident_mb: field("Rss:")?,
            anonymous_mb: field("Anonymous:")?,
            once_mb: field("Pss:")?,
            threads: fs::read_dir(format!("/proc/{id}/task"))?.count(),
            files: fs::read_dir(format!("/proc/{id}/fd"))?.count(),
        })
    }

    /// The processor time that it has used, in seconds.
    pub fn processor_time(&self) -> Result<f64> {
        processor_time(self.child.id())
    }

    /// The names of a function's inputs.
    pub fn inputs(&self, name: &str) -> Result<Vec<String>> {
        let mut answer = self.agent.get(format!("http://{}/v2/models/{name}", self.data)).call()?;
        let model: Value = answer.body_mut().read_json()?;
        let inputs = model["inputs"].as_array().context("the function has no inputs")?;
        Ok(inputs.iter().filter_map(|input| Some(input["name"].as_str()?.to_owned())).collect())
    }

    /// Calls the function called `name`.
    pub fn infer(&self, name: &str, request: &Value) -> Result<Response<Body>> {
        infer(&self.agent, self.data, name, request)
    }

    /// Waits until the function called `name` is at zero.
    pub fn wait_until_cold(&self, name: &str) -> Result<()> {
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

/// The state directory of hosts with these manifests.
pub fn state(manifests: &Path) -> PathBuf {
    manifests.with_extension("state")
}

/// Calls the function called `name` of the host at `data`, over the connections of `agent`.
pub fn infer(agent: &Agent, data: SocketAddr, name: &str, request: &Value) -> Result<Response<Body>> {
    let mut answer = agent.post(format!("http://{data}/v2/models/{name}/infer")).send_json(request)?;
    let body: Value = answer.body_mut().read_json()?;
    ensure!(body["outputs"].is_array(), "no outputs: {body}");
    Ok(answer)
}

impl Drop for Served {
    fn drop(&mut self) {
        // It was not waited for, so its id is still its own. Errors change nothing on the way out.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
