//! `torpor check`.

use crate::{
    cli::{self, Check},
    failure::Failure,
    output::Output,
};
use serde::Serialize;

#[derive(Serialize)]
struct Checked {
    functions: Vec<String>,
}

pub(crate) fn run(arguments: &Check, output: &Output) -> Result<(), Failure> {
    let manifests = torpor::read_manifests(&arguments.manifests, &cli::variable)?;
    let functions = manifests.iter().map(|manifest| manifest.name.to_string()).collect();
    output.result(&Checked { functions }, |checked| {
        let (number, names) = (checked.functions.len(), checked.functions.join(", "));
        match number {
            1 => format!("the manifest is right: {names}"),
            _ => format!("{number} manifests are right: {names}"),
        }
    });
    Ok(())
}
