//! `torpor deploy`, `undeploy`, `diff` and `rollback`.

use super::client;
use crate::{
    cli::{Deploy, Diff, Rollback, Undeploy},
    failure::Failure,
    output::Output,
};
use anyhow::Context;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::PathBuf};
use torpor::{
    Advice,
    gateway::{Deploy as Order, ManifestText},
};
use ureq::{Body, RequestBuilder, http::Response, typestate::WithBody};

/// What became of one function, as the host says it; only what people are told.
#[derive(Debug, Deserialize)]
struct Outcome {
    function: String,
    outcome: String,
    revision: Option<u64>,
    before: Option<u64>,
    changes: Vec<Change>,
    note: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Change {
    pub(super) key: String,
    from: Option<String>,
    to: Option<String>,
}

pub(crate) fn deploy(arguments: Deploy, output: &Output) -> Result<(), Failure> {
    let (value, outcomes) = send(&arguments.manifests, arguments.dry_run, arguments.wait, arguments.admin.admin)?;
    output.result(&value, |_| outcomes.iter().map(|outcome| told(outcome, arguments.dry_run)).collect());
    Ok(())
}

pub(crate) fn diff(arguments: Diff, output: &Output) -> Result<(), Failure> {
    let (value, outcomes) = send(&arguments.manifests, true, false, arguments.admin.admin)?;
    output.result(&value, |_| outcomes.iter().map(|outcome| told(outcome, true)).collect());
    match outcomes.iter().all(|outcome| outcome.outcome == "unchanged") {
        true => Ok(()),
        false => Err(Failure::Told),
    }
}

pub(crate) fn undeploy(arguments: &Undeploy, output: &Output) -> Result<(), Failure> {
    let admin = arguments.admin.admin;
    let (mut values, mut outcomes) = (Vec::new(), Vec::new());
    for function in &arguments.functions {
        let answer = client::agent().delete(format!("http://{admin}/functions/{function}")).call();
        let answer = client::reached(answer, admin, "--admin").and_then(|answer| answered(answer, admin));
        let (value, mut outcome) = answer.map_err(|failure| after(&outcomes, failure))?;
        values.push(value[0].clone());
        outcomes.append(&mut outcome);
    }
    output.result(&values, |_| outcomes.iter().map(|outcome| told(outcome, false)).collect());
    Ok(())
}

/// A failure that says what was done before it.
fn after(done: &[Outcome], failure: Failure) -> Failure {
    let names: Vec<_> = done.iter().map(|outcome| format!("`{}`", outcome.function)).collect();
    match failure {
        Failure::NotSo(error) if !names.is_empty() => {
            Failure::NotSo(error.context(format!("{} undeployed, and then", names.join(", "))))
        }
        failure => failure,
    }
}

pub(crate) fn rollback(arguments: &Rollback, output: &Output) -> Result<(), Failure> {
    let admin = arguments.admin.admin;
    let request = client::agent().post(format!("http://{admin}/functions/{}/rollback", arguments.function));
    let (value, outcomes): (_, Vec<Outcome>) = answered(post(request, &json!({ "to": arguments.to }), admin)?, admin)?;
    output.result(&value, |_| outcomes.iter().map(|outcome| told(outcome, false)).collect());
    Ok(())
}

/// Checks manifests as `torpor check` does, and has the host deploy them.
fn send(sources: &[PathBuf], dry_run: bool, wait: bool, admin: SocketAddr) -> Result<(Value, Vec<Outcome>), Failure> {
    let manifests = super::manifests(sources)?;
    let manifests = manifests.into_iter().map(|manifest| ManifestText { file: manifest.file, text: manifest.text });
    let order = Order { manifests: manifests.collect(), dry_run, wait };
    let answer = post(client::agent().post(format!("http://{admin}/deployments")), &order, admin)?;
    // Where a host deploys there is such a path.
    match answer.status().as_u16() {
        404 => Err(stranger(admin, 404)),
        _ => answered(answer, admin),
    }
}

fn post(
    request: RequestBuilder<WithBody>,
    body: &impl serde::Serialize,
    admin: SocketAddr,
) -> Result<Response<Body>, Failure> {
    let body = serde_json::to_string(body).context("the order is no JSON")?;
    let answer = request.header("content-type", "application/json").send(body);
    client::reached(answer, admin, "--admin")
}

fn stranger(admin: SocketAddr, status: u16) -> Failure {
    let what = format!("`{admin}` is no admin address of a Torpor host that can deploy: it answered {status}");
    Failure::NotSo(Advice::new(what, "say where the host's admin interface is with `--admin`").into())
}

/// What the host answers to an order or a question, as it is and as the command line knows it; or why it refuses.
pub(super) fn answered<T: DeserializeOwned>(
    mut answer: Response<Body>,
    admin: SocketAddr,
) -> Result<(Value, T), Failure> {
    let status = answer.status();
    let text = answer
        .body_mut()
        .read_to_string()
        .with_context(|| Advice::new("the host broke off its answer", "`torpor ps` shows what it serves now"))?;
    let stranger = || stranger(admin, status.as_u16());
    let value: Value = serde_json::from_str(&text).map_err(|_| stranger())?;
    if !status.is_success() {
        let why = value["error"].as_str().ok_or_else(stranger)?;
        let help = value["help"].as_str().unwrap_or("`torpor ps` shows what the host serves");
        return Err(Failure::NotSo(Advice::new(why, help).into()));
    }
    let known = serde_json::from_value(value.clone()).with_context(client::other_version)?;
    Ok((value, known))
}

/// One function's line, and one for each difference.
fn told(outcome: &Outcome, dry_run: bool) -> String {
    let Outcome { function, outcome, revision, before, changes, note } = outcome;
    let number =
        |revision: &Option<u64>| revision.map_or_else(|| "nothing".to_owned(), |number| format!("revision {number}"));
    let mut text = match (outcome.as_str(), dry_run) {
        ("deployed", false) => {
            format!("{function}: {} is deployed in the place of {}\n", number(revision), number(before))
        }
        ("deployed", true) => {
            format!("{function}: {} would be deployed in the place of {}\n", number(revision), number(before))
        }
        ("unchanged", _) => format!("{function}: {} is unchanged\n", number(revision)),
        ("undeployed", _) => format!("{function}: {} is undeployed\n", number(before)),
        (other, _) => format!("{function}: {other}\n"),
    };
    // Of a new function everything would differ.
    for Change { key, from, to } in changes.iter().filter(|_| before.is_some()) {
        text.push_str(&match (from, to) {
            (Some(from), Some(to)) => format!("  {key}: {from} -> {to}\n"),
            (None, Some(to)) => format!("  {key}: + {to}\n"),
            (Some(from), None) => format!("  {key}: - {from}\n"),
            (None, None) => String::new(),
        });
    }
    if let Some(note) = note {
        text.push_str(&format!("  note: {note}\n"));
    }
    text
}
