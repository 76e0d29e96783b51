//! Talking to a running host.

use crate::failure::Failure;
use anyhow::Context;
use serde::Deserialize;
use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};
use torpor::Advice;
use torpor_manifest::FunctionName;
use ureq::{Agent, Body, http::Response};

/// Bytes of an answer of the admin interface: more than a million functions take.
const MAX_ANSWER: u64 = 1 << 30;

/// A function as the admin interface shows it; only what the command line needs.
#[derive(Debug, Deserialize)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) publishers: Vec<String>,
    pub(super) trigger: Trigger,
    pub(super) models: Vec<Model>,
    pub(super) sessions: usize,
    pub(super) memory: Option<u64>,
    pub(super) lacks_memory: bool,
    pub(super) active: usize,
    pub(super) queued: usize,
    pub(super) calls: u64,
    pub(super) last_call: Option<f64>,
    pub(super) wakes: u64,
    pub(super) last_wake: Option<Wake>,
    pub(super) cause: Option<String>,
    pub(super) revision: Option<u64>,
    pub(super) refused: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Trigger {
    pub(super) http: Option<String>,
    pub(super) inference: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) tier: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wake {
    pub(super) total_ms: f64,
}

/// A client that leaves statuses to its caller.
pub(super) fn agent() -> Agent {
    // Calls wait for deadlines, which are the host's to keep; only a host that is not there at all must not be waited for.
    let config = Agent::config_builder().http_status_as_error(false).timeout_connect(Some(Duration::from_secs(5)));
    config.build().into()
}

/// One function, or all of them, as the host's JSON.
pub(super) fn functions(admin: SocketAddr, name: Option<&FunctionName>) -> Result<String, Failure> {
    let path = name.map_or_else(|| "/functions".to_owned(), |name| format!("/functions/{name}"));
    get(admin, &path, name)
}

/// What the admin interface has at a path, which is about one function or about all.
pub(super) fn get(admin: SocketAddr, path: &str, name: Option<&FunctionName>) -> Result<String, Failure> {
    let mut answer = reached(agent().get(format!("http://{admin}{path}")).call(), admin, "--admin")?;
    // A host may have very many functions.
    let text = answer
        .body_mut()
        .with_config()
        .limit(MAX_ANSWER)
        .read_to_string()
        .with_context(|| Advice::new("the host broke off its answer", "its log says why"))?;
    match (answer.status().as_u16(), name) {
        (200, _) => Ok(text),
        (404, Some(name)) => {
            let what = format!("the host has no function `{name}`");
            Err(Failure::NotSo(Advice::new(what, "`torpor ps` lists those it has").into()))
        }
        (status, _) => {
            let what = format!("`{admin}` is no admin address of a Torpor host: it answered {status}");
            Err(Failure::NotSo(Advice::new(what, "say where the host's admin interface is with `--admin`").into()))
        }
    }
}

/// How long ago a moment was, in whole seconds.
#[expect(clippy::disallowed_methods, reason = "people are told, of a moment that another process has told")]
pub(super) fn ago(unix_seconds: f64) -> String {
    let then = Duration::try_from_secs_f64(unix_seconds).unwrap_or_default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since = Duration::from_secs(now.saturating_sub(then).as_secs());
    format!("{} ago", humantime::format_duration(since))
}

/// The host writes what this program does not understand.
pub(super) fn other_version() -> Advice {
    Advice::new("the host is of another version than this program", "use the `torpor` that runs the host")
}

pub(super) fn reached(
    answer: Result<Response<Body>, ureq::Error>,
    address: SocketAddr,
    flag: &str,
) -> Result<Response<Body>, Failure> {
    answer.map_err(|error| {
        let help = format!("start one with `torpor serve`, or say where it is with `{flag}`");
        let advice = Advice::new(format!("no host answers at `{address}`"), help);
        Failure::NotSo(anyhow::Error::from(error).context(advice))
    })
}
