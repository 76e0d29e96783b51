//! `torpor check`.

use crate::{cli::Check, failure::Failure, output::Output};
use serde::Serialize;

#[derive(Serialize)]
struct Checked {
    functions: Vec<String>,
}

pub(crate) fn run(arguments: &Check, output: &Output) -> Result<(), Failure> {
    let manifests = super::manifests(&arguments.manifests)?;
    torpor::check_bundles(&manifests)?;
    let functions = manifests.iter().map(|file| file.manifest.name.to_string()).collect();
    output.result(&Checked { functions }, |checked| {
        let (number, names) = (checked.functions.len(), checked.functions.join(", "));
        match number {
            1 => format!("the manifest is right: {names}"),
            _ => format!("{number} manifests are right: {names}"),
        }
    });
    Ok(())
}
