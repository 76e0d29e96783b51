//! `torpor history`.

use super::{
    client::{self, ago},
    deploy::{Change, answered},
};
use crate::{
    cli::History,
    failure::Failure,
    output::{Output, table},
};
use serde::Deserialize;

/// One revision, as the host says it; only what people are told.
#[derive(Debug, Deserialize)]
struct Past {
    revision: u64,
    deployed: f64,
    deployed_by: String,
    current: bool,
    digest: String,
    changes: Vec<Change>,
}

pub(crate) fn run(arguments: &History, output: &Output) -> Result<(), Failure> {
    let admin = arguments.admin.admin;
    let answer = client::agent().get(format!("http://{admin}/functions/{}/history", arguments.function)).call();
    let (value, revisions): (_, Vec<Past>) = answered(client::reached(answer, admin, "--admin")?, admin)?;
    let head = ["REV", "DEPLOYED", "BY", "BUNDLE", "CHANGED"];
    output.result(&value, |_| table(head, revisions.into_iter().map(row)));
    Ok(())
}

fn row(past: Past) -> [String; 5] {
    let number = if past.current { format!("{} (current)", past.revision) } else { past.revision.to_string() };
    let changed: Vec<_> = past.changes.into_iter().map(|change| change.key).collect();
    let changed = if changed.is_empty() { "-".to_owned() } else { changed.join(", ") };
    [number, ago(past.deployed), past.deployed_by, past.digest, changed]
}
