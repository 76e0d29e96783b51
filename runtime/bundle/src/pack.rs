//! From a module's folder to a bundle. The same inputs give the same bytes, whoever packs them where and when.

use crate::{
    Config, Digest, Error, Progress,
    archive::{self, Content},
    component,
    config::{Origin, Wire},
    digest::{self, Piece},
    error::io_at,
    labels,
    oci::{self, Index, Manifest},
    part::{MAX_FILES, Part},
    recipe::{self, Recipe},
    text,
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};
use torpor_manifest::{FunctionName, ModelName};

/// How each Wasm module and component begins.
const WASM: &[u8; 4] = b"\0asm";

/// What a module's author writes of it, in the module's folder.
const RECIPE: &str = "bundle.toml";

/// Files to take instead of those that a `bundle.toml` names: what was built or fetched elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The module.
    pub module: Option<PathBuf>,
    /// Models by name; each must be in the `bundle.toml`. Where the format has a second file, it is beside the one given here.
    pub models: BTreeMap<ModelName, PathBuf>,
}

/// Runs what a module wants to have run once, when it is packed. It takes a Wasm engine to do so, which this crate has none of.
pub trait Initializer {
    /// The module after its initializer has run, always the same for the same module; `None` where it has none.
    ///
    /// # Errors
    /// Why it cannot be packed.
    fn initialize(&self, module: &[u8]) -> Result<Option<Vec<u8>>, Unfit>;
}

/// Packs modules as they are. Where such a one has an initializer, it is never run.
impl Initializer for () {
    fn initialize(&self, _: &[u8]) -> Result<Option<Vec<u8>>, Unfit> {
        Ok(None)
    }
}

/// Why a module cannot be packed.
#[derive(Debug, Clone)]
pub struct Unfit {
    /// What is wrong with it.
    pub why: String,
    /// What to do about it.
    pub help: String,
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
    /// The module's length in bytes.
    pub module: u64,
    /// What the module is a snapshot of, if it had an initializer.
    pub snapshot_of: Option<Origin>,
}

/// The name that the `bundle.toml` in the module folder `dir` gives.
///
/// # Errors
/// [`Error::Text`] for a mistake in it, and [`Error::Io`] when it cannot be read.
pub fn name(dir: &Path) -> Result<FunctionName, Error> {
    let file = dir.join(RECIPE);
    Ok(recipe::parse(&file, &text::read(&file)?)?.config.name)
}

/// Packs the module folder `dir` into the bundle `out`, unsigned. An older file there is replaced when the new one is complete. A
/// core module that describes its interfaces is packed as the component that it makes.
///
/// # Errors
/// [`Error::Text`] for a mistake in `bundle.toml`, [`Error::Pack`] where files do not make a bundle, else [`Error::Io`].
pub fn pack(dir: &Path, overrides: &Overrides, out: &Path) -> Result<Packed, Error> {
    pack_with(dir, overrides, out, &(), &())
}

/// As [`pack`], with the module that `initializer` makes of it, and tells `progress` how far it is.
///
/// # Errors
/// As [`pack`], and [`Error::Pack`] with what `initializer` says.
pub fn pack_with(
    dir: &Path,
    overrides: &Overrides,
    out: &Path,
    initializer: &dyn Initializer,
    progress: &dyn Progress,
) -> Result<Packed, Error> {
    let file = dir.join(RECIPE);
    let mut recipe = recipe::parse(&file, &text::read(&file)?)?;
    if let Some(name) = overrides.models.keys().find(|name| !recipe.models.contains_key(*name)) {
        let why = format!("it has no model `{name}` to be replaced");
        return Err(unfit(&file, why, format!("add `[model.{name}]`, or correct the name")));
    }
    let module = overrides.module.clone().unwrap_or_else(|| dir.join(&recipe.module));
    let located = |part: Part| (source(&part, &recipe, overrides, dir), part);
    let parts: Vec<(PathBuf, Part)> = recipe.config.parts().into_iter().map(located).collect();
    // Each file is read twice, here and when it is written, since its digest comes before it in the tar. What cannot be read is
    // told below.
    let files = parts.iter().map(|(file, _)| file).chain([&module]);
    let bytes: u64 = files.filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).sum();
    progress.expect(bytes.saturating_mul(2));

    let mut blobs = BTreeMap::new();
    let (module, snapshot_of) = add_module(&mut blobs, module, initializer, progress)?;
    recipe.config = Config { snapshot_of, ..recipe.config };
    let add = |(path, part): (PathBuf, Part)| match part {
        Part::Labels(_, output) => add_labels(&mut blobs, &path, &recipe.config, &output, progress),
        Part::Model(_) | Part::Weights(_) | Part::File(_) => add(&mut blobs, path, progress),
    };
    let parts = parts.into_iter().map(add).collect::<Result<Vec<_>, Error>>()?;
    let pieces = recipe.config.parts().into_iter().zip(&parts);
    let files = pieces.filter(|(part, _)| matches!(part, Part::File(_)));
    if files.map(|(_, piece)| piece.size).sum::<u64>() > MAX_FILES {
        let why = format!("its `[files]` are longer than {MAX_FILES} bytes together");
        return Err(unfit(&file, why, "leave some out; what is that large is a model, or belongs on the host"));
    }
    let config = oci::encode(&Wire::new(&recipe.config));
    let manifest = oci::encode(&Manifest::function(&recipe.config, Piece::of(&config), module, &parts));
    let manifest_piece = Piece::of(&manifest);
    let index = oci::encode(&Index::new(manifest_piece, &recipe.config.version, Vec::new()));
    if [&config, &manifest].iter().any(|document| document.len() as u64 > archive::MAX_DOCUMENT) {
        return Err(unfit(&file, "it says too much", "shorten its texts"));
    }
    for document in [config, manifest] {
        blobs.insert(Digest::of(&document), Content::Bytes(document));
    }
    archive::write(out, &blobs, &index, progress)?;
    let Config { name, version, .. } = recipe.config;
    Ok(Packed { digest: manifest_piece.digest, name, version, module: module.size, snapshot_of })
}

/// The file of a part: one given instead, else the one in the `bundle.toml` of the folder `dir`.
fn source(part: &Part, recipe: &Recipe, overrides: &Overrides, dir: &Path) -> PathBuf {
    match part {
        Part::Model(name) => match overrides.models.get(name) {
            Some(file) => file.clone(),
            None => dir.join(&recipe.models[name].model),
        },
        Part::Weights(name) => match (overrides.models.get(name), &recipe.models[name].weights) {
            // Weights of one model fit no other, so those in the recipe do not count any more.
            (Some(file), _) => recipe::weights_beside(file),
            (None, Some(weights)) => dir.join(weights),
            (None, None) => recipe::weights_beside(&dir.join(&recipe.models[name].model)),
        },
        Part::File(path) => dir.join(&recipe.files[path]),
        // Labels say what an output means, whichever file it is computed by.
        Part::Labels(name, output) => dir.join(&recipe.models[name].labels[output]),
    }
}

/// Adds the module: a file as it is, the component that a core module makes, or the snapshot of either. The latter two are made in
/// memory.
fn add_module(
    blobs: &mut BTreeMap<Digest, Content<'_>>,
    path: PathBuf,
    initializer: &dyn Initializer,
    progress: &dyn Progress,
) -> Result<(Piece, Option<Origin>), Error> {
    let mut head = Vec::new();
    let mut file = File::open(&path).map_err(io_at("read", &path))?;
    file.by_ref().take(component::CORE.len() as u64).read_to_end(&mut head).map_err(io_at("read", &path))?;
    if !head.starts_with(WASM) {
        return Err(unfit(&path, "it is no Wasm module", "build it, and give the `.wasm` file"));
    }
    let mut module = head;
    file.read_to_end(&mut module).map_err(io_at("read", &path))?;
    let read = (module.len() as u64).saturating_mul(2);
    let mut made = false;
    if module.starts_with(component::CORE) {
        let component = component::of(&module).map_err(|why| {
            let help = "build it for `wasm32-unknown-unknown`, or as a component, with bindings of one version";
            unfit(&path, why, help)
        })?;
        made = component.is_some();
        module = component.unwrap_or(module);
    }
    let snapshot = initializer.initialize(&module).map_err(|Unfit { why, help }| unfit(&path, why, help))?;
    let snapshot_of = snapshot.is_some().then(|| Origin::of(&module));
    if !made && snapshot.is_none() {
        return Ok((add(blobs, path, progress)?, None));
    }
    let module = snapshot.unwrap_or(module);
    let piece = Piece::of(&module);
    progress.advance(read);
    blobs.insert(piece.digest, Content::Bytes(module));
    Ok((piece, snapshot_of))
}

/// Adds the labels of an output, which are checked.
fn add_labels(
    blobs: &mut BTreeMap<Digest, Content<'_>>,
    path: &Path,
    config: &Config,
    output: &str,
    progress: &dyn Progress,
) -> Result<Piece, Error> {
    let content = labels::bounded(File::open(path)).map_err(io_at("read", path))?;
    let labels = labels::parse(&content).and_then(|labels| labels::fit(config, output, labels.len()));
    labels.map_err(|why| {
        let help = "write one label on each line, in UTF-8, and as many as the output has numbers";
        unfit(path, format!("these are no labels of the output `{output}`: {why}"), help)
    })?;
    let piece = Piece::of(&content);
    progress.advance(piece.size.saturating_mul(2));
    blobs.insert(piece.digest, Content::Bytes(content));
    Ok(piece)
}

/// Adds a file to what is written.
fn add(blobs: &mut BTreeMap<Digest, Content<'_>>, path: PathBuf, progress: &dyn Progress) -> Result<Piece, Error> {
    let file = File::open(&path).map_err(io_at("read", &path))?;
    let piece = digest::hash(file, progress).map_err(io_at("read", &path))?;
    if piece.size == 0 {
        return Err(unfit(&path, "it is empty", "fetch or build it again"));
    }
    blobs.insert(piece.digest, Content::File(path, piece.size));
    Ok(piece)
}

fn unfit(path: &Path, why: impl Into<String>, help: impl Into<String>) -> Error {
    Error::Pack { path: path.to_owned(), why: why.into(), help: help.into() }
}
