//! What each command does.

pub(crate) mod bundle;
pub(crate) mod check;
mod client;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod history;
pub(crate) mod invoke;
pub(crate) mod new;
pub(crate) mod ps;
pub(crate) mod reference;
pub(crate) mod serve;
pub(crate) mod trace;
pub(crate) mod worker;

use crate::cli;
use anyhow::Result;
use std::path::PathBuf;
use torpor::{Advice, ManifestFile};

/// Reads manifests, of which there must be one at least.
fn manifests(sources: &[PathBuf]) -> Result<Vec<ManifestFile>> {
    let manifests = torpor::read_manifests(sources, cli::variable)?;
    if manifests.is_empty() {
        let folders: Vec<_> = sources.iter().map(|source| format!("`{}`", source.display())).collect();
        let what = format!("there is no manifest in {}: no file there ends in `.toml`", folders.join(", "));
        return Err(Advice::new(what, "give the folder of manifests, or one of them").into());
    }
    Ok(manifests)
}
