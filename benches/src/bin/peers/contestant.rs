//! Whom to measure: Torpor or one of the others, and a server of it that runs.

use anyhow::{Context, Result};
use std::{fs, net::SocketAddr, path::PathBuf};
use torpor_benches::{
    peer::{
        self, Peer,
        process::{Memory, Processes},
    },
    served::{Served, state},
    stage::{Stage, Way, Workload, parallel},
};

/// Who takes turns.
pub(crate) enum Contestant {
    /// A host that has had its functions before, as one has that starts again.
    Torpor,
    /// A host that has never had any: it verifies, compiles and optimizes before it serves.
    TorporAnew,
    Peer {
        peer: &'static Peer,
        environment: PathBuf,
    },
}

/// A server that is to be started.
pub(crate) enum Prepared<'s> {
    Torpor { stage: &'s Stage, manifests: PathBuf },
    Peer(peer::Prepared),
}

/// A server of a contestant. Dropping it ends it.
pub(crate) enum Server {
    Torpor(Served),
    Peer { processes: Processes, address: SocketAddr },
}

impl Contestant {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Contestant::Torpor => "Torpor",
            Contestant::TorporAnew => "Torpor, with nothing deployed yet",
            Contestant::Peer { peer, .. } => peer.name,
        }
    }

    pub(crate) fn is_torpor(&self) -> bool {
        !matches!(self, Contestant::Peer { .. })
    }

    /// Puts on disk what a server of `workload` needs.
    pub(crate) fn prepare<'s>(&self, stage: &'s Stage, workload: &Workload) -> Result<Prepared<'s>> {
        let manifests = |folder: &str| -> Result<PathBuf> {
            let folder = stage.path(&format!("{folder}-{}", workload.name));
            let way = Way { name: workload.name, parallel: parallel(), ..Way::default() };
            stage.manifest_in(&folder, workload, &way)?;
            Ok(folder)
        };
        match self {
            Contestant::Torpor => Ok(Prepared::Torpor { stage, manifests: manifests("again")? }),
            Contestant::TorporAnew => {
                let manifests = manifests("anew")?;
                let state = state(&manifests);
                if state.exists() {
                    fs::remove_dir_all(&state)?;
                }
                Ok(Prepared::Torpor { stage, manifests })
            }
            Contestant::Peer { peer, environment } => {
                Ok(Prepared::Peer(peer.prepare(stage, workload, environment, false)?))
            }
        }
    }
}

impl Prepared<'_> {
    /// Starts the server. Whether it answers already is another matter.
    pub(crate) fn start(self) -> Result<Server> {
        match self {
            Prepared::Torpor { stage, manifests } => Ok(Server::Torpor(Served::start(stage, &manifests, &[])?)),
            Prepared::Peer(prepared) => {
                let address = prepared.address;
                Ok(Server::Peer { processes: prepared.start()?, address })
            }
        }
    }
}

impl Server {
    /// Where requests go.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Server::Torpor(host) => host.data,
            Server::Peer { address, .. } => *address,
        }
    }

    /// What its processes hold.
    pub(crate) fn memory(&self) -> Result<Memory> {
        match self {
            Server::Torpor(host) => {
                let held = host.held()?;
                Ok(Memory { resident: held.resident_mb, shared_once: held.once_mb })
            }
            Server::Peer { processes, .. } => processes.memory(),
        }
    }

    /// An outcome, with what the server wrote last where it is an error.
    pub(crate) fn told<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.with_context(|| match self {
            Server::Torpor(_) => "it gave no answer".to_owned(),
            Server::Peer { processes, .. } => {
                let words = processes.last_words().unwrap_or_else(|| "nothing".to_owned());
                format!("it gave no answer, and its last words were `{words}`")
            }
        })
    }
}
