//! From manifest files to checked manifests: the I/O that `torpor-manifest` does not do.

use crate::Advice;
use anyhow::{Context, Result};
use std::{
    ffi::OsString,
    fs,
    io::Read,
    path::{Path, PathBuf},
};
use torpor_manifest::{Diagnostics, MAX_TEXT, Manifest, check_together, parse};

/// Reads every manifest of `sources`, each a file, or a folder whose `.toml` files are taken. `variables` says what the environment
/// variables hold that they name. Paths within the manifests are made absolute.
///
/// # Errors
/// [`Diagnostics`] with every mistake of every file, or that a file cannot be read.
pub fn read_manifests(sources: &[PathBuf], variables: &dyn Fn(&str) -> Option<OsString>) -> Result<Vec<Manifest>> {
    let files = sources.iter().map(|source| files(source)).collect::<Result<Vec<_>>>()?.concat();
    let texts = files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();

    let (mut manifests, mut mistakes) = (Vec::new(), Vec::new());
    for (name, text) in names.iter().zip(&texts) {
        match parse(name, text, variables) {
            Ok(manifest) => manifests.push((name.as_str(), text.as_str(), manifest)),
            Err(diagnostics) => mistakes.push(diagnostics),
        }
    }
    // Mistakes between files are told even where other files have mistakes of their own.
    let whole: Vec<_> = manifests.iter().map(|(name, text, manifest)| (*name, *text, manifest)).collect();
    mistakes.extend(check_together(&whole).err());
    if let Some(diagnostics) = Diagnostics::merge(mistakes) {
        return Err(diagnostics.into());
    }
    manifests.into_iter().map(|(file, _, manifest)| absolute(Path::new(file), manifest)).collect()
}

fn files(source: &Path) -> Result<Vec<PathBuf>> {
    let what = || format!("cannot read the manifests in `{}`", source.display());
    if !fs::metadata(source).with_context(what)?.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let entries = fs::read_dir(source).with_context(what)?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>().with_context(what)?;
    let mut files: Vec<_> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "toml")).collect();
    if files.is_empty() {
        let what = format!("there is no manifest in `{}`: no file there ends in `.toml`", source.display());
        return Err(Advice::new(what, "give the folder of manifests, or one of them").into());
    }
    files.sort();
    Ok(files)
}

/// Reads a file no further than a manifest may be long; `parse` then says that it is too long.
fn read(file: &Path) -> Result<String> {
    let what = || format!("cannot read the manifest `{}`", file.display());
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_TEXT).map_or(u64::MAX, |limit| limit + 1);
    fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes)).with_context(what)?;
    String::from_utf8(bytes).with_context(what)
}

fn absolute(file: &Path, mut manifest: Manifest) -> Result<Manifest> {
    let file = std::path::absolute(file).with_context(|| format!("`{}` has no absolute path", file.display()))?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    manifest.bundle = folder.join(&manifest.bundle);
    for grant in &mut manifest.allow.files {
        grant.host = folder.join(&grant.host);
    }
    Ok(manifest)
}
