//! `torpor invoke`.
#![expect(clippy::print_stderr, reason = "the answer alone goes to standard output")]

use super::client::{self, Function};
use crate::{
    cli::{Invoke, Trigger},
    failure::Failure,
};
use anyhow::{Context, Result, anyhow};
use std::{
    fs::File,
    io::{self, Write},
    time::Instant,
};
use ureq::SendBody;

pub(crate) fn run(arguments: &Invoke) -> Result<(), Failure> {
    let text = client::functions(arguments.admin.admin, Some(&arguments.function))?;
    let function: Function = serde_json::from_str(&text).context("the host is of another version than this program")?;
    let url = format!("http://{}{}", arguments.listen, path(&function, arguments.trigger)?);

    let request = client::agent().post(&url).header("content-type", "application/json");
    let start = Instant::now();
    let answer = match arguments.data.strip_prefix('@') {
        Some("-") => request.send(SendBody::from_owned_reader(io::stdin())),
        Some(file) => request.send(File::open(file).with_context(|| format!("cannot read `{file}`"))?),
        None => request.send(arguments.data.as_str()),
    };
    let mut answer = client::reached(answer, arguments.listen, "--listen")?;
    let broken_off = "the function broke off its answer";
    let written = copy(&mut answer.body_mut().as_reader());
    written.map_err(|error| Failure::NotSo(anyhow::Error::from(error).context(broken_off)))?;
    if arguments.timing {
        let phases = answer.headers().get("server-timing").and_then(|value| value.to_str().ok()).unwrap_or("unknown");
        eprintln!("{:.1} ms: {phases}", start.elapsed().as_secs_f64() * 1e3);
    }
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(Failure::NotSo(anyhow!("`{}` answered {status}", function.name))),
    }
}

/// The path to call.
fn path(function: &Function, trigger: Option<Trigger>) -> Result<String> {
    let name = &function.name;
    let http = function.trigger.http.as_deref().map(|path| match path.strip_suffix('*') {
        Some(prefix) => prefix.to_owned(),
        None => path.to_owned(),
    });
    let inference = function.trigger.inference.then(|| format!("/v2/models/{name}/infer"));
    let path = match trigger {
        None => http.or(inference),
        Some(Trigger::Http) => http,
        Some(Trigger::Inference) => inference,
    };
    path.ok_or_else(|| anyhow!("`{name}` has no such trigger; see its manifest"))
}

/// Writes the answer as it comes, and ends it with a line break for people.
fn copy(answer: &mut impl io::Read) -> io::Result<()> {
    let mut out = io::stdout().lock();
    io::copy(answer, &mut out)?;
    if io::IsTerminal::is_terminal(&out) {
        out.write_all(b"\n")?;
    }
    out.flush()
}
