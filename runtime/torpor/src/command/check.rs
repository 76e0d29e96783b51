//! `torpor check`.

use crate::{cli::Check, failure::Failure, output::Output};
use serde::Serialize;

#[derive(Serialize)]
struct Checked {
    functions: Vec<String>,
}

pub(crate) fn run(arguments: &Check, output: &Output) -> Result<(), Failure> {
    let manifests = torpor::read_manifests(&arguments.manifests)?;
    let functions = manifests.iter().map(|manifest| manifest.name.to_string()).collect();
    output.result(&Checked { functions }, |checked| {
        format!("{} manifests are right: {}", checked.functions.len(), checked.functions.join(", "))
    });
    Ok(())
}
