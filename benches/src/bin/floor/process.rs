//! Servers as processes: started, looked at from outside, and ended with this one.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    fs::File,
    net::SocketAddr,
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use torpor_benches::{
    machine::processor_time,
    native,
    stage::{Stage, Workload},
};

const START: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A server that answers inference requests. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    admin: Option<SocketAddr>,
}

/// The memory of a process, in MB of 10^6 bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Memory {
    /// All that is resident.
    pub(crate) resident: f64,
    /// What is not backed by a file, so that the system could not drop it.
    pub(crate) anonymous: f64,
}

#[derive(Deserialize)]
struct Addresses {
    data: SocketAddr,
    admin: SocketAddr,
}

#[derive(Deserialize)]
struct Function {
    state: String,
}

impl Server {
    /// The native server. `run` says where it runs the model.
    pub(crate) fn native(stage: &Stage, workload: &Workload, run: &str) -> Result<Self> {
        let (child, address) = native::start(stage, workload, &["--run", run])?;
        Ok(Server { child, address, admin: None })
    }

    /// The `torpor` binary, with the function of `workload` alone.
    pub(crate) fn torpor(stage: &Stage, workload: &Workload, idle_timeout: &str) -> Result<Self> {
        let manifest = stage.manifest(workload, idle_timeout)?;
        let addresses = stage.path(&format!("{}.addresses.json", workload.name));
        let log = stage.path(&format!("{}.log", workload.name));
        let mut command = std::process::Command::new(&stage.places.torpor);
        command.arg("serve").arg("--manifests").arg(manifest).arg("--trust").arg(stage.trust());
        command.arg("--state").arg(stage.path(&format!("{}.state", workload.name)));
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--addresses"]).arg(&addresses);
        command.arg("--onnxruntime").arg(&stage.places.onnxruntime);
        let output = File::create(&log)?;
        let child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), admin: None };
        let start = Instant::now();
        while start.elapsed() < START && server.child.try_wait()?.is_none() {
            if let Ok(text) = fs::read_to_string(&addresses) {
                let Addresses { data, admin } = serde_json::from_str(&text)?;
                (server.address, server.admin) = (data, Some(admin));
                return Ok(server);
            }
            sleep(POLL);
        }
        bail!("`torpor serve` did not start:\n{}", fs::read_to_string(&log).unwrap_or_default())
    }

    /// Waits until every function is at zero.
    pub(crate) fn wait_until_cold(&self, limit: Duration) -> Result<()> {
        let admin = self.admin.context("only Torpor goes cold")?;
        let start = Instant::now();
        while start.elapsed() < limit {
            let functions: Vec<Function> =
                ureq::get(format!("http://{admin}/functions")).call()?.body_mut().read_json()?;
            if functions.iter().all(|function| function.state == "Cold") {
                return Ok(());
            }
            sleep(POLL);
        }
        bail!("the function did not go cold within {} seconds", limit.as_secs())
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the system tells no memory")?;
            let kilobytes: f64 = line.trim_end_matches("kB").trim().parse()?;
            Ok(kilobytes * 1024.0 / 1e6)
        };
        Ok(Memory { resident: field("VmRSS:")?, anonymous: field("RssAnon:")? })
    }

    /// The processor time that it has used, in its own code and in the system's for it.
    pub(crate) fn processor_time(&self) -> Result<f64> {
        processor_time(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It was not waited for, so its id is still its own. Errors change nothing on the way out.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
