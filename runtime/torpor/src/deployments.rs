//! From manifest files to checked manifests: the I/O that `torpor-manifest` does not do.

use anyhow::{Context, Result};
use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};
use torpor_bundle::{Store, accept_unsigned};
use torpor_engine::DeployError;
use torpor_manifest::{Diagnostics, MAX_TEXT, Manifest, check_together, mistake, parse};

/// What an environment variable holds that a manifest names; `None` where it is not set.
pub type Variables = fn(&str) -> Option<OsString>;

/// A manifest with the file that it is from.
#[derive(Debug, Clone)]
pub struct ManifestFile {
    /// The file's absolute path.
    pub file: PathBuf,
    /// Its content as it was written, with the names of variables and not what they hold.
    pub text: String,
    /// What it says. Paths in it are absolute.
    pub manifest: Manifest,
}

/// Reads every manifest of `sources`, each a file, or a folder whose `.toml` files are taken; a folder may have none.
///
/// # Errors
/// [`Diagnostics`] with every mistake of every file, or that a file cannot be read.
pub fn read_manifests(sources: &[PathBuf], variables: Variables) -> Result<Vec<ManifestFile>> {
    let what = |source: &PathBuf| format!("cannot read the manifests in `{}`", source.display());
    let files = sources.iter().map(|source| files(source).with_context(|| what(source)));
    let files = files.collect::<Result<Vec<_>>>()?.concat();
    let texts = files.into_iter().map(|file| read(&file).map(|text| (file, text))).collect::<Result<Vec<_>>>()?;
    check(texts, variables)
}

/// Checks manifests that were read from these files, as far as that can be done without their bundles.
///
/// # Errors
/// [`Diagnostics`] with every mistake of every text.
pub(crate) fn check(texts: Vec<(PathBuf, String)>, variables: Variables) -> Result<Vec<ManifestFile>> {
    let (mut manifests, mut mistakes) = (Vec::new(), Vec::new());
    for (file, text) in texts {
        let name = file.display().to_string();
        match parse(&name, &text, &variables) {
            Ok(manifest) => manifests.push((name, text, manifest)),
            Err(diagnostics) => mistakes.push(diagnostics),
        }
    }
    // Mistakes between files are told even where other files have mistakes of their own.
    let whole: Vec<_> =
        manifests.iter().map(|(name, text, manifest)| (name.as_str(), text.as_str(), manifest)).collect();
    mistakes.extend(check_together(&whole).err());
    if let Some(diagnostics) = Diagnostics::merge(mistakes) {
        return Err(diagnostics.into());
    }
    manifests.into_iter().map(|(file, text, manifest)| absolute(Path::new(&file), text, manifest)).collect()
}

/// Checks what shows only in the bundles that manifests name: whether runs of a model can be joined where a manifest says so. A bundle
/// that is not there is not looked at, and neither is one of which nothing is asked. Whoever signed it, nothing of it runs.
///
/// # Errors
/// [`Diagnostics`] with every mistake of every manifest, or that a bundle is damaged or cannot be read.
pub fn check_bundles(files: &[ManifestFile]) -> Result<()> {
    let asked = |file: &&ManifestFile| {
        file.manifest.models.values().any(|grant| grant.batch.is_some()) && file.manifest.bundle.is_file()
    };
    let mut mistakes = Vec::new();
    for file in files.iter().filter(asked) {
        let folder = tempfile::tempdir().context("cannot make a folder to look into bundles")?;
        let bundle = accept_unsigned(&file.manifest.bundle, &Store::open(folder.path())?)?;
        match torpor_engine::check_batches(&file.manifest, &bundle) {
            Ok(()) => {}
            Err(DeployError::Batch { model, reason }) => {
                let keys = ["model", model.as_str(), "batch"];
                let help = "leave `batch` out, or export the model with an open first dimension";
                mistakes.push(mistake(&file.file.display().to_string(), &file.text, &keys, reason, help));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Diagnostics::merge(mistakes).map_or(Ok(()), |mistakes| Err(mistakes.into()))
}

/// The files that a source means, in the order of their names.
pub(crate) fn files(source: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(source)?.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let paths = fs::read_dir(source)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut files: Vec<_> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "toml")).collect();
    files.sort();
    Ok(files)
}

/// Reads a file no further than a manifest may be long; `parse` then says that it is too long.
pub(crate) fn read(file: &Path) -> Result<String> {
    let what = || format!("cannot read the manifest `{}`", file.display());
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_TEXT).map_or(u64::MAX, |limit| limit + 1);
    fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes)).with_context(what)?;
    String::from_utf8(bytes).with_context(what)
}

fn absolute(file: &Path, text: String, mut manifest: Manifest) -> Result<ManifestFile> {
    let file = std::path::absolute(file).with_context(|| format!("`{}` has no absolute path", file.display()))?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    manifest.bundle = folder.join(&manifest.bundle);
    for grant in &mut manifest.allow.files {
        grant.host = folder.join(&grant.host);
    }
    Ok(ManifestFile { file, text, manifest })
}
