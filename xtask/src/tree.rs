//! Where things are: the repository, its target folder, and the cache outside of it. Everything else gets its paths from here.

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};
use std::{
    env,
    path::{Path, PathBuf},
};

/// The folders that the commands work in.
pub(crate) struct Tree {
    /// The repository.
    pub(crate) root: PathBuf,
    /// What Cargo builds into; `CARGO_TARGET_DIR` may have moved it.
    pub(crate) target: PathBuf,
    /// What `cargo metadata` says of the host's workspace, without its dependencies.
    pub(crate) metadata: Metadata,
}

impl Tree {
    /// Asks Cargo, starting at this crate's own source.
    pub(crate) fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let metadata = metadata(&manifest)?;
        Ok(Tree {
            root: metadata.workspace_root.clone().into(),
            target: metadata.target_directory.clone().into(),
            metadata,
        })
    }

    /// The manifest of the guests' workspace.
    pub(crate) fn guest_manifest(&self) -> PathBuf {
        self.root.join("guest/Cargo.toml")
    }

    /// What the guests' workspace builds into: apart, since it may be built by another toolchain.
    pub(crate) fn guest_target(&self) -> PathBuf {
        self.target.join("guest")
    }

    /// The built modules, which `torpor pack` makes components of.
    pub(crate) fn modules(&self) -> PathBuf {
        self.target.join("modules")
    }

    /// The development key, its trust policy, the bundles and the state of `cargo xtask up`.
    pub(crate) fn dev(&self) -> PathBuf {
        self.target.join("dev")
    }

    /// The host's binary.
    pub(crate) fn torpor(&self) -> PathBuf {
        self.release().join("torpor")
    }

    /// The folder of the binaries that are built.
    pub(crate) fn release(&self) -> PathBuf {
        self.target.join("release")
    }

    /// `path` as a reader in the repository would type it.
    pub(crate) fn short(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_path_buf()
    }
}

/// What `cargo metadata` says of the workspace of `manifest`, without its dependencies.
pub(crate) fn metadata(manifest: &Path) -> Result<Metadata> {
    MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .with_context(|| format!("`cargo metadata` cannot read `{}`", manifest.display()))
}

/// The folder for what was fetched, outside of the tree so that a clean clone finds it again.
pub(crate) fn cache() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("TORPOR_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|caches| caches.join("torpor")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/torpor")))
        .context("there is no place for the cache: set `TORPOR_CACHE` to a folder, or `HOME`")
}

/// Whether this is a CI run, where nothing may be left out for want of a library.
pub(crate) fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| matches!(value.as_str(), "true" | "1"))
}
