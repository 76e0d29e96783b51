//! Talking to a running host.

use crate::failure::Failure;
use anyhow::Context;
use serde::Deserialize;
use std::{net::SocketAddr, time::Duration};
use torpor::Advice;
use torpor_manifest::FunctionName;
use ureq::{Agent, Body, http::Response};

/// A function as the admin interface shows it; only what the command line needs.
#[derive(Debug, Deserialize)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) publishers: Vec<String>,
    pub(super) trigger: Trigger,
    pub(super) sessions: usize,
    pub(super) memory: Option<u64>,
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
    let mut answer = reached(agent().get(format!("http://{admin}{path}")).call(), admin, "--admin")?;
    let text = answer
        .body_mut()
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
