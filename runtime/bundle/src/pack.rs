//! From a module's folder to a bundle. The same inputs give the same bytes, whoever packs them where and when.

use crate::{
    Digest, Error,
    archive::{self, Content},
    config::Wire,
    digest::{self, Piece},
    error::io_at,
    oci::{self, Index, Manifest},
    recipe, text,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek},
    path::{Path, PathBuf},
};
use torpor_manifest::{FunctionName, ModelName};

/// How each Wasm module and component begins.
const WASM: &[u8; 4] = b"\0asm";

/// Files to take instead of those that a `bundle.toml` names: what was built or fetched elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The module.
    pub module: Option<PathBuf>,
    /// Models by name; each must be in the `bundle.toml`.
    pub models: BTreeMap<ModelName, PathBuf>,
}

/// What was packed.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The digest of the bundle's manifest, which identifies all of it.
    pub digest: Digest,
    /// The bundle's name.
    pub name: FunctionName,
    /// Its version.
    pub version: String,
}

/// Packs the module folder `dir` into the bundle `out`, unsigned. An older file there is replaced when the new one is complete.
///
/// # Errors
/// [`Error::Text`] for a mistake in `bundle.toml`, [`Error::Pack`] where files do not make a bundle, else [`Error::Io`].
pub fn pack(dir: &Path, overrides: &Overrides, out: &Path) -> Result<Packed, Error> {
    let file = dir.join("bundle.toml");
    let recipe = recipe::parse(&file, &text::read(&file)?)?;
    if let Some(name) = overrides.models.keys().find(|name| !recipe.models.contains_key(*name)) {
        return Err(unfit(
            &file,
            format!("it has no model `{name}` to be replaced; add `[model.{name}]`, or correct the name"),
        ));
    }
    let mut blobs = BTreeMap::new();
    let module = overrides.module.clone().unwrap_or_else(|| dir.join(&recipe.module));
    let module = add(&mut blobs, module, true)?;
    let mut models = BTreeMap::new();
    for (name, path) in &recipe.models {
        let path = overrides.models.get(name).cloned().unwrap_or_else(|| dir.join(path));
        models.insert(name.clone(), add(&mut blobs, path, false)?);
    }
    let config = oci::encode(&Wire::new(&recipe.config));
    let manifest = oci::encode(&Manifest::function(&recipe.config, Piece::of(&config), module, &models));
    let manifest_piece = Piece::of(&manifest);
    let index = oci::encode(&Index::new(manifest_piece, &recipe.config.version, Vec::new()));
    if [&config, &manifest].iter().any(|document| document.len() as u64 > archive::MAX_DOCUMENT) {
        return Err(unfit(&file, "it says too much; shorten its texts"));
    }
    for document in [config, manifest] {
        blobs.insert(Digest::of(&document), Content::Bytes(document));
    }
    archive::write(out, &blobs, &index)?;
    Ok(Packed { digest: manifest_piece.digest, name: recipe.config.name, version: recipe.config.version })
}

/// Adds a file to what is written. It is read twice, here and when it is written, since its digest comes before it in the tar.
fn add(blobs: &mut BTreeMap<Digest, Content<'_>>, path: PathBuf, wasm: bool) -> Result<Piece, Error> {
    let mut file = File::open(&path).map_err(io_at("read", &path))?;
    if wasm {
        let mut magic = Vec::new();
        file.by_ref().take(4).read_to_end(&mut magic).and_then(|_| file.rewind()).map_err(io_at("read", &path))?;
        if magic != WASM {
            return Err(unfit(&path, "it is no Wasm module; build it, and give the `.wasm` file"));
        }
    }
    let piece = digest::hash(file).map_err(io_at("read", &path))?;
    if piece.size == 0 {
        return Err(unfit(&path, "it is empty; fetch or build it again"));
    }
    blobs.insert(piece.digest, Content::File(path, piece.size));
    Ok(piece)
}

fn unfit(path: &Path, why: impl Into<String>) -> Error {
    Error::Pack { path: path.to_owned(), why: why.into() }
}
