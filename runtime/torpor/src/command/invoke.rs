//! `torpor invoke`.
#![expect(clippy::print_stderr, reason = "the answer alone goes to standard output")]

use super::client::{self, Function};
use crate::{
    cli::{Invoke, Trigger},
    failure::Failure,
    output::{Output, help},
};
use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{self, Read, Write},
    time::{Duration, Instant},
};
use torpor::Advice;
use ureq::{
    Body, SendBody,
    http::{Response, StatusCode},
};

pub(crate) fn run(arguments: &Invoke, output: &Output) -> Result<(), Failure> {
    let text = client::functions(arguments.admin.admin, Some(&arguments.function))?;
    let function: Function = serde_json::from_str(&text).with_context(client::other_version)?;
    let url = format!("http://{}{}", arguments.listen, path(&function, arguments.trigger)?);

    let request = client::agent().post(&url).header("content-type", "application/json");
    let start = Instant::now();
    let answer = match arguments.data.strip_prefix('@') {
        Some("-") => request.send(SendBody::from_owned_reader(io::stdin())),
        Some(file) => request.send(File::open(file).with_context(|| format!("cannot read `{file}`"))?),
        None => request.send(arguments.data.as_str()),
    };
    let mut answer = client::reached(answer, arguments.listen, "--listen")?;
    if output.json {
        return described(&function, &mut answer, start, output);
    }
    let written = copy(&mut answer.body_mut().as_reader());
    written.map_err(broken_off)?;
    if arguments.timing {
        eprintln!("{:.1} ms: {}", milliseconds(start.elapsed()), phases(&answer));
    }
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(Failure::NotSo(refused(&function, status))),
    }
}

/// Writes the answer with what is around it, as JSON.
fn described(function: &Function, answer: &mut Response<Body>, start: Instant, output: &Output) -> Result<(), Failure> {
    let mut body = Vec::new();
    answer.body_mut().as_reader().read_to_end(&mut body).map_err(broken_off)?;
    let status = answer.status();
    let content_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
    let mut value = json!({
        "function": function.name, "status": status.as_u16(), "milliseconds": milliseconds(start.elapsed()),
        "timing": phases(answer), "content_type": content_type,
    });
    // JSON as it is, text as a string, anything else in base64.
    match (serde_json::from_slice::<Value>(&body), String::from_utf8(body)) {
        (Ok(json), _) if content_type.is_some_and(|kind| kind.starts_with("application/json")) => value["body"] = json,
        (_, Ok(text)) => value["body"] = text.into(),
        (_, Err(error)) => value["body_base64"] = STANDARD.encode(error.as_bytes()).into(),
    }
    if !status.is_success() {
        let error = refused(function, status);
        (value["error"], value["help"]) = (format!("{error:#}").into(), help(&error).into());
    }
    output.result(&value, |_| String::new());
    if status.is_success() { Ok(()) } else { Err(Failure::Told) }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Where the time went, as the host says.
fn phases(answer: &Response<Body>) -> &str {
    answer.headers().get("server-timing").and_then(|value| value.to_str().ok()).unwrap_or("unknown")
}

fn broken_off(error: io::Error) -> Failure {
    let advice = Advice::new("the function broke off its answer", "the host's log says why");
    Failure::NotSo(anyhow::Error::from(error).context(advice))
}

fn refused(function: &Function, status: StatusCode) -> anyhow::Error {
    let help = match status.as_u16() {
        503 => "try again: its queue is full, see `scale.queue` of its manifest, or memory is, see `--memory-budget` of the host"
            .to_owned(),
        504 => "its deadline passed: raise `limits.deadline` in its manifest, if the call may take longer".to_owned(),
        400..500 => "correct the call; the answer says what is wrong with it".to_owned(),
        _ => format!("the host's log says why, as may `torpor ps {}`", function.name),
    };
    Advice::new(format!("`{}` answered {status}", function.name), help).into()
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
    path.ok_or_else(|| Advice::new(format!("`{name}` has no such trigger"), "its manifest says which it has").into())
}

/// Writes the answer as it comes, and ends it with a line break for people.
fn copy(answer: &mut impl Read) -> io::Result<()> {
    let mut out = io::stdout().lock();
    io::copy(answer, &mut out)?;
    if io::IsTerminal::is_terminal(&out) {
        out.write_all(b"\n")?;
    }
    out.flush()
}
