//! Whom to measure. Each serves the same model in every protocol.

use crate::request::Protocol;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::{net::SocketAddr, path::Path, process::Child, time::Duration};
use torpor_benches::{
    load,
    machine::processor_time,
    native,
    peer::{self, environment, process::Processes},
    served::Served,
    stage::{ADD, Stage, Way, parallel},
};

/// What the function takes at most: the JSON of a megabyte of tensors, and more.
const BODY: &str = "16MiB";
/// Triton takes no longer to start.
const START: Duration = Duration::from_secs(60);

/// Lives until it is dropped.
pub(crate) enum Contestant {
    Native { rest: Native, grpc: Native },
    Torpor(Served),
    Triton { processes: Processes, rest: SocketAddr, grpc: SocketAddr },
}

/// The native server speaks one protocol in each process.
pub(crate) struct Native {
    child: Child,
    address: SocketAddr,
}

impl Contestant {
    /// `run` says where it runs the model.
    pub(crate) fn native(stage: &Stage, run: &str) -> Result<Self> {
        let start = |flags: &[&str]| -> Result<Native> {
            let (child, address) = native::start(stage, &ADD, flags)?;
            Ok(Native { child, address })
        };
        Ok(Contestant::Native { rest: start(&["--run", run])?, grpc: start(&["--run", run, "--grpc"])? })
    }

    pub(crate) fn torpor(stage: &Stage) -> Result<Self> {
        let way = Way { name: ADD.name, parallel: parallel(), body: Some(BODY), ..Way::default() };
        let manifests = stage.path("manifests");
        stage.manifest_in(&manifests, &ADD, &way)?;
        Ok(Contestant::Torpor(Served::start(stage, &manifests, &[])?))
    }

    pub(crate) fn triton(stage: &Stage, environments: &Path) -> Result<Self> {
        let peer = peer::named("Triton, Python backend").next().context("there is no such server")?;
        let prepared = peer.prepare(stage, &ADD, &environment::ready(environments, peer.folder)?, true)?;
        let (rest, grpc) = (prepared.address, prepared.grpc);
        let processes = prepared.start()?;
        let request = load::wire(&format!("/v2/models/{}/infer", ADD.name), &ADD.request());
        load::first(rest, &request, START).with_context(|| {
            let words = processes.last_words().unwrap_or_else(|| "nothing".to_owned());
            format!("it gave no answer, and its last words were `{words}`")
        })?;
        Ok(Contestant::Triton { processes, rest, grpc })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Contestant::Native { .. } => "native",
            Contestant::Torpor(_) => "Torpor",
            Contestant::Triton { .. } => "Triton, Python backend",
        }
    }

    /// Whether it may be left out where it does not answer.
    pub(crate) fn may_fail(&self) -> bool {
        matches!(self, Contestant::Triton { .. })
    }

    /// Where a protocol is spoken.
    pub(crate) fn address(&self, protocol: Protocol) -> SocketAddr {
        match self {
            Contestant::Native { rest, grpc } => rest.or(grpc, protocol).address,
            Contestant::Torpor(host) => host.data,
            Contestant::Triton { rest, grpc, .. } => *if protocol == Protocol::Grpc { grpc } else { rest },
        }
    }

    /// What the process that speaks a protocol, and those that it started, have used of the processors, in seconds.
    pub(crate) fn processor_time(&self, protocol: Protocol) -> Result<f64> {
        match self {
            Contestant::Native { rest, grpc } => processor_time(rest.or(grpc, protocol).child.id()),
            Contestant::Torpor(host) => host.processor_time(),
            Contestant::Triton { processes, .. } => Ok(processes.processor_time()),
        }
    }
}

impl Native {
    fn or<'n>(&'n self, grpc: &'n Native, protocol: Protocol) -> &'n Native {
        if protocol == Protocol::Grpc { grpc } else { self }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // It was not waited for, so its id is still its own. Errors change nothing on the way out.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
