//! A running host: the real binary, which is told to drain when this process is told to stop, and which never outlives it.

use crate::{bundles, run, setup::Assets, tree::Tree};
use anyhow::{Context, Error, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::{
    fs,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long a host may take to be ready: it compiles its functions first.
const START: Duration = Duration::from_secs(120);

/// How long a host may take to drain before it is killed.
const DRAIN: Duration = Duration::from_secs(40);

const POLL: Duration = Duration::from_millis(20);

/// Where and with what a host serves.
pub(crate) struct Settings<'a> {
    pub(crate) manifests: &'a Path,
    pub(crate) state: &'a Path,
    pub(crate) data: &'a str,
    pub(crate) admin: &'a str,
}

/// A host that is ready. Dropping it stops it.
pub(crate) struct Host {
    child: Child,
    /// Set by the signals that ask this process to stop.
    asked: Arc<AtomicBool>,
    pub(crate) addresses: Addresses,
}

/// What the host writes when it is ready.
#[derive(Deserialize)]
pub(crate) struct Addresses {
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// A function as the admin listener shows it.
#[derive(Deserialize)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) state: String,
}

impl Host {
    /// Starts a host and waits until it is ready.
    pub(crate) fn start(tree: &Tree, assets: &Assets, settings: &Settings<'_>) -> Result<Self> {
        // Before the host starts, so that no signal between the two leaves it running.
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&asked)).context("signals cannot be watched")?;
        }
        let file = settings.state.join("addresses.json");
        fs::create_dir_all(settings.state).with_context(|| format!("`{}` cannot be made", settings.state.display()))?;
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut command = run::tied(tree.torpor());
        command.arg("serve").arg("--manifests").arg(settings.manifests).arg("--trust").arg(bundles::trust(tree));
        command.arg("--state").arg(settings.state).args(["--listen", settings.data, "--admin", settings.admin]);
        command.arg("--addresses").arg(&file);
        for (flag, library) in [("--onnxruntime", &assets.onnxruntime), ("--openvino", &assets.openvino)] {
            if let Some(library) = library {
                command.arg(flag).arg(library);
            }
        }
        // A group of its own, so that a Ctrl-C in the terminal reaches it once: through this process.
        let child = command.process_group(0).spawn().context("the host could not be started")?;
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut host = Host { child, asked, addresses: Addresses { data: none, admin: none } };
        host.addresses = host.ready(&file)?;
        Ok(host)
    }

    fn ready(&mut self, file: &Path) -> Result<Addresses> {
        let start = Instant::now();
        loop {
            self.check()?;
            if let Ok(text) = fs::read_to_string(file) {
                let addresses: Addresses = serde_json::from_str(&text)
                    .with_context(|| format!("`{}` is not what a host writes", file.display()))?;
                if ureq::get(format!("http://{}/readyz", addresses.admin)).call().is_ok() {
                    return Ok(addresses);
                }
            }
            if start.elapsed() > START {
                bail!("the host was not ready after {} seconds; what it wrote is above", START.as_secs());
            }
            thread::sleep(POLL);
        }
    }

    /// Fails if the host has ended, or has to because this process was asked to stop.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the host ended by itself ({status}); what it wrote is above");
        }
        ensure!(!self.asked.load(Ordering::Relaxed), "stopped by a signal before everything was ready");
        Ok(())
    }

    /// The true cause of an error in talking to the host, should it be that the host is gone.
    pub(crate) fn explain(&mut self, error: Error) -> Error {
        // A process closes its connections a moment before it can be seen to have ended.
        thread::sleep(10 * POLL);
        match self.check() {
            Ok(()) => error,
            Err(cause) => cause,
        }
    }

    /// The state of every function.
    pub(crate) fn functions(&self) -> Result<Vec<Function>> {
        let url = format!("http://{}/functions", self.addresses.admin);
        let text = ureq::get(&url).call().and_then(|mut answer| answer.body_mut().read_to_string());
        let text = text.with_context(|| format!("`{url}` gave no answer"))?;
        serde_json::from_str(&text).with_context(|| format!("`{url}` is not a list of functions: {text}"))
    }

    /// The state of the function `name`.
    pub(crate) fn state(&self, name: &str) -> Result<String> {
        let function = self.functions()?.into_iter().find(|function| function.name == name);
        Ok(function.with_context(|| format!("the host does not serve `{name}`"))?.state)
    }

    /// Runs until this process is asked to stop; then lets the host drain, and says how it ended.
    pub(crate) fn attend(mut self) -> Result<ExitStatus> {
        loop {
            if self.asked.load(Ordering::Relaxed) {
                return self.stop();
            }
            self.check()?;
            thread::sleep(POLL);
        }
    }

    /// Asks the host to drain and waits for its end. One that takes too long is killed, which is an error.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // The child has not been waited for, so its id is still its own.
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("the host could not be signalled")?;
        let start = Instant::now();
        while start.elapsed() < DRAIN {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        self.child.kill()?;
        self.child.wait()?;
        bail!("the host did not drain within {} seconds and was killed", DRAIN.as_secs())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // On the way out of an error, which is what the developer has to see.
        let _ = self.stop();
    }
}
