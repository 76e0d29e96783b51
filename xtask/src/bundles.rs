//! The development bundles: a key of one's own, a trust policy that trusts it, and the stock functions packed and signed with it.
//! All of it is under `target/dev`; what has not changed is not packed again.

use crate::{console, pins::asset, run, setup::Assets, stamp, stamp::Stamp, tree::Tree};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A function that the repository brings, and what its bundle is made of.
struct Recipe {
    /// The name of the bundle and of its manifest.
    name: &'static str,
    /// The folder below `modules` with its `bundle.toml`.
    module: &'static str,
    /// The name by which the module loads its model, and the asset.
    model: (&'static str, &'static str),
}

const RECIPES: [Recipe; 3] = [
    Recipe { name: "filetype", module: "filetype", model: ("standard", "magika/model.onnx") },
    Recipe { name: "embed", module: "embed", model: ("minilm", "minilm/model.onnx") },
    Recipe { name: "filetype-raw", module: "passthrough", model: ("model", "magika/model.onnx") },
];

/// Where the development bundles are.
pub(crate) fn folder(tree: &Tree) -> PathBuf {
    tree.dev().join("bundles")
}

/// The policy under which the host loads them.
pub(crate) fn trust(tree: &Tree) -> PathBuf {
    tree.dev().join("trust.toml")
}

/// Packs and signs every bundle whose inputs changed.
pub(crate) fn make(tree: &Tree, assets: &Assets) -> Result<()> {
    fs::create_dir_all(folder(tree)).with_context(|| format!("`{}` cannot be made", folder(tree).display()))?;
    let key = key(tree)?;
    for recipe in &RECIPES {
        bundle(tree, assets, recipe, &key)?;
    }
    Ok(())
}

/// The development key, made at the first run together with the policy that trusts it for every function.
fn key(tree: &Tree) -> Result<PathBuf> {
    let stem = tree.dev().join("dev");
    let (key, public) = (stem.with_extension("key.pem"), stem.with_extension("pub.pem"));
    let trust = trust(tree);
    let stamp = Stamp::new(tree.dev().join("dev.stamp")).file(&key).file(&public).file(&trust);
    if stamp.holds() {
        return Ok(key);
    }
    console::step("key", tree.short(&key).display());
    for half in [&key, &public] {
        match fs::remove_file(half) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    run::run(Command::new(tree.torpor()).arg("keygen").arg(&stem).stdout(Stdio::null()))?;
    let policy = "# Trusts the key of this working copy, for development alone.\n\
                  [[publisher]]\nname = \"dev\"\nkey = \"dev.pub.pem\"\nfunctions = [\"*\"]\n";
    stamp::replace(&trust, policy.as_bytes())?;
    stamp.set()?;
    Ok(key)
}

fn bundle(tree: &Tree, assets: &Assets, recipe: &Recipe, key: &Path) -> Result<()> {
    let source = tree.root.join("modules").join(recipe.module);
    let wasm = tree.modules().join(recipe.module).with_extension("wasm");
    let (model, file) = (recipe.model.0, asset(&assets.dir, recipe.model.1));
    let bundle = folder(tree).join(format!("{}.torpor", recipe.name));
    let stamp = Stamp::new(bundle.with_extension("stamp"))
        .file(tree.torpor())
        .file(source.join("bundle.toml"))
        .file(&wasm)
        .file(&file)
        .file(key)
        .file(&bundle);
    if stamp.holds() {
        return Ok(());
    }
    console::step("bundle", tree.short(&bundle).display());
    let mut grant = std::ffi::OsString::from(format!("{model}="));
    grant.push(&file);
    let mut pack = Command::new(tree.torpor());
    pack.arg("pack").arg(&source).arg("--module").arg(&wasm).arg("--model").arg(grant).arg("-o").arg(&bundle);
    run::run(pack.stdout(Stdio::null()))?;
    let mut sign = Command::new(tree.torpor());
    run::run(sign.arg("sign").arg("--key").arg(key).arg(&bundle).stdout(Stdio::null()))?;
    stamp.set()
}
