//! The deployments that are served: those in `manifests/` as they stand, or copies of them with other values.

use crate::{bundles, stamp, tree::Tree};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};
use toml::{Table, Value};

/// The folder to serve. The manifests name bundles below `target`, so where Cargo builds elsewhere they are copied.
pub(crate) fn folder(tree: &Tree) -> Result<PathBuf> {
    let folder = tree.root.join("manifests");
    if tree.target == tree.root.join("target") {
        return Ok(folder);
    }
    let copies = tree.dev().join("manifests");
    copy(tree, &copies, |_| {})?;
    Ok(copies)
}

/// Writes copies that go to zero after a second, so that one can wait for it.
pub(crate) fn sleepy(tree: &Tree, to: &Path) -> Result<()> {
    copy(tree, to, |manifest| {
        let scale = manifest.entry("scale").or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(scale) = scale {
            scale.insert("idle-timeout".to_owned(), "1s".into());
        }
    })
}

fn copy(tree: &Tree, to: &Path, change: impl Fn(&mut Table)) -> Result<()> {
    let from = tree.root.join("manifests");
    for entry in fs::read_dir(&from).with_context(|| format!("`{}` cannot be read", from.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("`{}` cannot be read", path.display()))?;
        let mut manifest: Table = toml::from_str(&text).with_context(|| format!("`{}` is not TOML", path.display()))?;
        let bundle = manifest.get("bundle").and_then(Value::as_str).map(Path::new).and_then(Path::file_name);
        let bundle = bundle.with_context(|| format!("`{}` names no bundle", path.display()))?;
        let bundle = bundles::folder(tree).join(bundle).display().to_string();
        manifest.insert("bundle".to_owned(), bundle.into());
        change(&mut manifest);
        let name = path.file_name().context("a file has a name")?;
        stamp::replace(&to.join(name), toml::to_string(&manifest)?.as_bytes())?;
    }
    Ok(())
}
