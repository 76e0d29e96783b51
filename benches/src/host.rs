//! A host in this process, whose functions are called without HTTP.

use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use torpor::{
    Config, Host, Libraries, Trust, Worker,
    engine::{Function, State},
    gateway,
};

const POLL: Duration = Duration::from_millis(2);
/// A function that does not go cold within this time never will.
const COLD: Duration = Duration::from_secs(10);

/// A host with the functions of `manifests`, whose gateway serves nobody.
pub async fn host(stage: &Stage, manifests: Vec<PathBuf>) -> Result<Host> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = Config {
        manifests,
        variables: |_| None,
        watch: false,
        trust: Trust::Policy(stage.trust()),
        state: stage.path("inside.state"),
        gateway: gateway::Config {
            data: any,
            admin: any,
            limits: gateway::Limits::default(),
            drain: Duration::ZERO,
            model_control: false,
        },
        libraries: Libraries { onnxruntime: Some(stage.places.onnxruntime.clone()), openvino: None },
        // Nothing starts one unless a manifest asks for it.
        worker: Some(Worker {
            file: stage.places.torpor.clone(),
            environment: Vec::new(),
            readable: Vec::new(),
            writable: None,
        }),
        instances: 512,
        memory_budget: None,
        optimized_limit: u64::MAX,
        response_cache: 64 << 20,
    };
    torpor::build(config).await
}

/// The function called `name`.
pub fn find(host: &Host, name: &str) -> Result<Function> {
    let function = host.functions().into_iter().find(|function| function.manifest().name.as_str() == name);
    function.with_context(|| format!("`{name}` was not deployed; `torpor serve` would say why"))
}

/// Waits until `function` is at zero.
pub async fn until_cold(function: &Function) -> Result<()> {
    let start = Instant::now();
    while function.status().state != State::Cold {
        ensure!(start.elapsed() < COLD, "`{}` does not go cold", function.manifest().name);
        sleep(POLL).await;
    }
    Ok(())
}
