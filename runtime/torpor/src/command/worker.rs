//! `torpor worker`: holds one model for a host, in a process of its own. Hosts start it; nobody else does.

use crate::{cli::Worker, failure::Failure};
use torpor::Advice;

#[cfg(target_os = "linux")]
pub(crate) fn run(arguments: Worker) -> Result<(), Failure> {
    let Worker { backend, library, readable, writable } = arguments;
    let places = torpor_worker::Places { readable, writable };
    let load = || torpor::load_backend(&backend, library.clone());
    torpor_worker::serve(load, library.as_deref(), &places)
        .map_err(|error| Advice::new(error.to_string(), "write `isolation = \"process\"` in the manifest of a model"))
        .map_err(anyhow::Error::from)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn run(_arguments: Worker) -> Result<(), Failure> {
    let advice = Advice::new("worker processes need Linux", "write `isolation = \"host\"`");
    Err(anyhow::Error::from(advice).into())
}
