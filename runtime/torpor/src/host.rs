//! Puts the parts together.

use crate::{Advice, Libraries, advice, load_backends, read_manifests};
use anyhow::{Context, Result};
use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use torpor_bundle::{Bundle, Store, TrustPolicy, Verified};
use torpor_engine::{Engine, Function};
use torpor_gateway::{Functions, Gateway};
use torpor_manifest::Manifest;
use torpor_telemetry::Metrics;

/// How long functions may take to go to sleep when the host ends. Only native runs that cannot be interrupted need time.
const RETIRE: Duration = Duration::from_secs(5);

/// All that a host needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Manifests, and folders with manifests.
    pub manifests: Vec<PathBuf>,
    /// What the environment variables hold that manifests name.
    pub variables: fn(&str) -> Option<OsString>,
    /// Whose bundles to run.
    pub trust: Trust,
    /// The state directory. One host at a time may use it.
    pub state: PathBuf,
    /// Listeners and their limits.
    pub gateway: torpor_gateway::Config,
    /// Where the native libraries of the backends are.
    pub libraries: Libraries,
    /// Instances that may exist at the same time, of all functions together.
    pub instances: u32,
}

/// Whose bundles a host runs.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Those of the publishers in this trust policy.
    Policy(PathBuf),
    /// Anybody's, signed or not.
    Anybody,
}

/// A host that is ready to serve. Its addresses are bound and its functions are deployed, but nobody is answered yet.
pub struct Host {
    gateway: Gateway,
    all: Functions,
    /// Those of `all` that are deployed.
    functions: Vec<Function>,
    metrics: Arc<Metrics>,
    /// Held until the host ends.
    _state: File,
}

/// Builds a host: reads manifests, binds the addresses, and verifies and compiles bundles. A function that cannot be deployed is
/// reported and keeps no other from being served.
///
/// # Errors
/// When the manifests have mistakes, the state directory or the trust policy cannot be used, or an address is taken.
pub async fn build(config: Config) -> Result<Host> {
    // What is quickly found wrong comes before what takes long.
    let manifests = read_manifests(&config.manifests, &config.variables)?;
    let state = lock(&config.state)?;
    let gateway = Gateway::bind(&config.gateway).await?;
    let mut metrics = Metrics::new();
    let trust = match &config.trust {
        Trust::Policy(path) => Some(TrustPolicy::read(path)?),
        Trust::Anybody => {
            tracing::warn!("bundles need no signature on this host: anybody who can write one runs code here");
            metrics.register_insecure();
            None
        }
    };
    let metrics = Arc::new(metrics);
    let deploy = {
        let (metrics, state) = (Arc::clone(&metrics), config.state.clone());
        let engine = torpor_engine::Config { state: config.state, instances: config.instances };
        move || -> Result<Functions> {
            let engine = Engine::new(&engine, load_backends(config.libraries), metrics)?;
            let store = Store::open(&state)?;
            let mut functions = Functions::default();
            for manifest in manifests {
                match deploy(&engine, &store, trust.as_ref(), &manifest) {
                    Ok(function) => functions.add(function)?,
                    Err(error) => {
                        let help = advice::help(&error).map(|help| format!("; {help}")).unwrap_or_default();
                        let cause = format!("{error:#}{help}");
                        tracing::error!(function = %manifest.name, cause, "the function is not deployed");
                        functions.add_failed(manifest, cause)?;
                    }
                }
            }
            Ok(functions)
        }
    };
    let all = tokio::task::spawn_blocking(deploy).await??;
    let functions = all.deployed().cloned().collect();
    Ok(Host { gateway, all, functions, metrics, _state: state })
}

fn deploy(engine: &Engine, store: &Store, trust: Option<&TrustPolicy>, manifest: &Manifest) -> Result<Function> {
    let bundle: Verified<Bundle> = match trust {
        Some(policy) => torpor_bundle::verify(&manifest.bundle, &manifest.name, policy, store)?,
        None => torpor_bundle::accept_unsigned(&manifest.bundle, store)?,
    };
    let function = engine.deploy(manifest.clone(), &bundle)?;
    let publishers = match bundle.publishers.as_slice() {
        [] => "nobody".to_owned(),
        names => names.join(", "),
    };
    tracing::info!(function = %manifest.name, version = bundle.config.version, publishers, digest = %bundle.manifest_digest, "deployed");
    Ok(function)
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

    /// The functions that are deployed, by name. They can be called without the gateway, before the host runs or while it does.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// Serves until `shutdown` is done, lets the requests that run end, and puts every function to sleep.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Host { gateway, all, functions, metrics, _state } = self;
        functions.iter().for_each(Function::start);
        gateway.run(all, metrics, shutdown).await;
        let retire = async {
            for function in &functions {
                function.retire().await;
            }
        };
        if tokio::time::timeout(RETIRE, retire).await.is_err() {
            tracing::warn!("a function did not go to sleep in time, and is left to the system");
        }
    }
}
