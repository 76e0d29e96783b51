//! `torpor serve`.

use crate::{
    cli::{self, LogFormat, Serve},
    failure::Failure,
    output::Output,
};
use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{io::Write, path::Path, pin::pin};
use tokio::signal::unix::{SignalKind, signal};
use torpor::{Advice, Config, Host, Trust};
use torpor_gateway::Limits;
use torpor_manifest::ByteSize;

/// Files that a host may have open beside its connections: of models, modules and worker processes.
const OTHER_FILES: u64 = 1024;

pub(crate) fn run(arguments: Serve, output: &Output) -> Result<(), Failure> {
    let format = match arguments.log_format {
        LogFormat::Text => torpor_telemetry::LogFormat::Text,
        LogFormat::Json => torpor_telemetry::LogFormat::Json,
    };
    torpor_telemetry::init_logging(format, &arguments.log)
        .map_err(|error| {
            Advice::new(format!("`--log`: {error}"), "write, for example, `info` or `warn,torpor_engine=debug`")
        })
        .map_err(anyhow::Error::from)?;
    allow_files(arguments.max_connections);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(serve(arguments, output))?;
    // A native run that cannot be interrupted must not keep the process alive, and must not see its library go.
    runtime.shutdown_background();
    torpor_engine::exit(0)
}

/// Raises the limit of open files, as far as the system lets a program do that itself.
fn allow_files(connections: u32) {
    let wanted = u64::from(connections) + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // No limit is as good as the highest.
    let (Some(now), most) = (current, maximum.unwrap_or(u64::MAX)) else { return };
    if now < wanted.min(most)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted.min(most)), maximum })
    {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    if most < wanted {
        tracing::warn!(
            limit = most,
            wanted,
            "the system allows fewer open files than `--max-connections` may need; raise the limit (`ulimit -Hn`) or lower that"
        );
    }
}

async fn serve(arguments: Serve, output: &Output) -> Result<()> {
    let addresses = arguments.addresses.clone();
    let mut shutdown = pin!(shutdown()?);
    let host = tokio::select! {
        host = torpor::build(config(arguments)) => host?,
        // Whatever deploying has half-written is made again by the next host, as after a crash.
        () = &mut shutdown => return Ok(()),
    };
    tracing::info!(
        data = %host.data_address(), admin = %host.admin_address(), threads = %torpor::engine::Processors::here(), "serving"
    );
    if output.json {
        output.result(&addresses_of(&host), |_| String::new());
    }
    if let Some(path) = addresses {
        write_addresses(&host, &path).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    host.run(shutdown).await;
    tracing::info!("stopped");
    Ok(())
}

fn config(arguments: Serve) -> Config {
    let connections = usize::try_from(arguments.max_connections).unwrap_or(usize::MAX);
    let patience = arguments.client_timeout.into();
    Config {
        manifests: arguments.manifests,
        variables: cli::variable,
        watch: arguments.watch,
        // clap has seen to it that one of the two is given.
        trust: arguments.trust.map_or(Trust::Anybody, Trust::Policy),
        state: arguments.state,
        gateway: torpor_gateway::Config {
            data: arguments.listen,
            admin: arguments.admin,
            limits: Limits { connections, header_timeout: patience, write_timeout: patience, ..Limits::default() },
            drain: arguments.drain.into(),
            model_control: arguments.model_control,
        },
        libraries: arguments.libraries.into(),
        worker: Some(cli::worker()),
        instances: arguments.max_instances,
        memory_budget: arguments.memory_budget.map(ByteSize::as_u64),
        optimized_limit: arguments.optimized_limit.as_u64(),
        response_cache: arguments.response_cache.as_u64(),
    }
}

/// Done at the first signal to stop. The second one ends the process at once.
fn shutdown() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
    Ok(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            }
        };
        // Not within the macro, which evaluates its fields only where somebody wants to read them.
        let signal = next().await;
        tracing::info!(signal, "stopping; requests that run may end, and a second signal stops at once");
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(1);
        });
    })
}

/// For programs that let the host choose its ports.
fn addresses_of(host: &Host) -> serde_json::Value {
    serde_json::json!({ "data": host.data_address(), "admin": host.admin_address() })
}

/// Writes the file whole or not at all, since its reader waits for it to appear.
fn write_addresses(host: &Host, path: &Path) -> Result<()> {
    let text = addresses_of(host).to_string();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}
