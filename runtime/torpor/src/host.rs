//! Puts the parts together.

use crate::{
    Advice, Libraries, Variables, Worker,
    deployer::{Deployer, Trusted, Watch, Workshop},
    isolate, load_backends, read_manifests,
};
use anyhow::{Context, Result};
use std::{
    fs::{self, File, TryLockError},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use torpor_engine::{Engine, Function};
use torpor_gateway::{Deployments, Entry, Functions, Gateway, Request};
use torpor_telemetry::Metrics;

/// How long functions may take to go to sleep when the host ends, and a deployment to be done. Only native runs that cannot be
/// interrupted, and the compiler, need time.
const RETIRE: Duration = Duration::from_secs(5);

/// All that a host needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Manifests, and folders with manifests.
    pub manifests: Vec<PathBuf>,
    /// What the environment variables hold that manifests name.
    pub variables: Variables,
    /// Whether to deploy what changes in them while the host runs.
    pub watch: bool,
    /// Whose bundles to run.
    pub trust: Trust,
    /// The state directory. One host at a time may use it.
    pub state: PathBuf,
    /// Listeners and their limits.
    pub gateway: torpor_gateway::Config,
    /// Where the native libraries of the backends are.
    pub libraries: Libraries,
    /// The program that runs models in processes of their own; `None` for a host that has no such processes.
    pub worker: Option<Worker>,
    /// Instances that may exist at the same time, of all functions together.
    pub instances: u32,
    /// Bytes that functions may take in memory, all together; `None` for no limit.
    pub memory_budget: Option<u64>,
    /// Bytes on disk that optimized models may have, all together; 0 for none of them.
    pub optimized_limit: u64,
    /// Bytes that the response cache may take; 0 for none.
    pub response_cache: u64,
}

/// Whose bundles a host runs.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Those of the publishers in this trust policy, which is read again when it changes.
    Policy(PathBuf),
    /// Anybody's, signed or not.
    Anybody,
}

/// A host that is ready to serve. Its addresses are bound and its functions are deployed, but nobody is answered yet.
pub struct Host {
    gateway: Gateway,
    functions: Functions,
    deployer: Deployer,
    deployments: Deployments,
    requests: mpsc::Receiver<Request>,
    metrics: Arc<Metrics>,
    /// Held until the host ends.
    _state: File,
}

/// Builds a host: reads manifests, binds the addresses, and verifies and compiles bundles, those that it has deployed before
/// included. A function that cannot be deployed is reported and keeps no other from being served.
///
/// # Errors
/// When the manifests have mistakes, the state directory or the trust policy cannot be used, or an address is taken.
pub async fn build(config: Config) -> Result<Host> {
    // What is quickly found wrong comes before what takes long.
    let watch = config.watch.then(|| Watch::begin(&config.manifests, config.variables)).transpose();
    let mut watch = watch.context("cannot watch the manifests")?;
    let manifests = read_manifests(&config.manifests, config.variables)?;
    if let Some(watch) = &mut watch {
        watch.learn(&manifests);
    }
    let state = lock(&config.state)?;
    let gateway = Gateway::bind(&config.gateway).await?;
    let mut metrics = Metrics::new();
    let trust = match &config.trust {
        Trust::Policy(path) => Some(Trusted::read(path)?),
        Trust::Anybody => {
            tracing::warn!("bundles need no signature on this host: anybody who can write one runs code here");
            metrics.register_insecure();
            None
        }
    };
    if let Some(budget) = config.memory_budget {
        metrics.register_budget(budget);
    }
    let metrics = Arc::new(metrics);
    let workshop = {
        let (metrics, state) = (Arc::clone(&metrics), config.state.clone());
        let Config { instances, memory_budget, optimized_limit, response_cache, .. } = config;
        let engine =
            torpor_engine::Config { state: config.state, instances, memory_budget, optimized_limit, response_cache };
        move || -> Result<Workshop> {
            let mut backends = load_backends(config.libraries);
            if let Some(mut worker) = config.worker {
                let folder = std::path::absolute(&state)?;
                worker.readable.extend([folder.join("blobs"), folder.join("optimized")]);
                worker.writable = Some(folder.join("optimized"));
                isolate(&mut backends, worker);
            }
            let engine = Engine::new(&engine, backends, metrics)?;
            Workshop::open(engine, trust, config.variables, &state)
        }
    };
    let workshop = tokio::task::spawn_blocking(workshop).await??;
    let functions = Functions::default();
    let deployer = Deployer::start(workshop, functions.clone(), manifests, watch).await?;
    if functions.now().entries().next().is_none() {
        tracing::warn!("there is no manifest and nothing was deployed before; deploy with `torpor deploy`");
    }
    let (deployments, requests) = Deployments::channel();
    Ok(Host { gateway, functions, deployer, deployments, requests, metrics, _state: state })
}

/// Makes the state directory and takes it for this process.
fn lock(state: &Path) -> Result<File> {
    let what = || format!("cannot use the state directory `{}`", state.display());
    fs::create_dir_all(state).with_context(what)?;
    let file = File::create(state.join("lock")).with_context(what)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let what = format!("the state directory `{}` is in use by another host", state.display());
            Err(Advice::new(what, "stop that one, or choose another directory with `--state`").into())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(what),
    }
}

impl Host {
    /// Where callers connect.
    pub fn data_address(&self) -> SocketAddr {
        self.gateway.data_address()
    }

    /// Where the operator connects.
    pub fn admin_address(&self) -> SocketAddr {
        self.gateway.admin_address()
    }

    /// The functions that are deployed now, by name. They can be called without the gateway, before the host runs or while it does.
    pub fn functions(&self) -> Vec<Function> {
        deployed(&self.functions)
    }

    /// Serves until `shutdown` is done, lets the requests that run and the deployment that is under way end, and puts every
    /// function to sleep.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Host { gateway, functions, deployer, deployments, requests, metrics, _state } = self;
        deployed(&functions).iter().for_each(Function::start);
        let (stop, stopped) = oneshot::channel();
        let deployer = tokio::spawn(deployer.run(requests, stopped));
        gateway.run(functions.clone(), deployments, metrics, shutdown).await;
        let retire = async {
            // Only then is it known which functions there are.
            let _ = stop.send(());
            match deployer.await {
                Ok(retiring) => drop(retiring.join_all().await),
                Err(error) => tracing::error!(%error, "the deployer ended on its own"),
            }
            for function in deployed(&functions) {
                function.retire().await;
            }
        };
        if tokio::time::timeout(RETIRE, retire).await.is_err() {
            tracing::warn!("a deployment or a function's sleep did not end in time, and is left to the system");
        }
    }
}

fn deployed(functions: &Functions) -> Vec<Function> {
    functions.now().entries().filter_map(Entry::deployed).cloned().collect()
}
