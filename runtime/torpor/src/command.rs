//! What each command does.

pub(crate) mod bundle;
pub(crate) mod check;
mod client;
pub(crate) mod deploy;
pub(crate) mod invoke;
pub(crate) mod ps;
pub(crate) mod serve;

use anyhow::{Result, bail};
use std::path::PathBuf;
use torpor::ManifestFile;

/// Reads manifests, of which there must be one at least.
fn manifests(sources: &[PathBuf]) -> Result<Vec<ManifestFile>> {
    let manifests = torpor::read_manifests(sources)?;
    if manifests.is_empty() {
        let folders: Vec<_> = sources.iter().map(|source| format!("`{}`", source.display())).collect();
        bail!("there is no manifest in {}: no file there ends in `.toml`", folders.join(", "));
    }
    Ok(manifests)
}
