//! From a file that anybody may have written to a bundle that may run: [`Verified<Bundle>`], which is made only here.
//!
//! The order is the point. First the signature is checked against the policy, over a digest; only then is what the publisher
//! wrote parsed, and only what the signed manifest names gets into the store, hashed on the way.

use crate::{
    Blob, Config, Digest, Error, Store, TrustPolicy, judge,
    layout::{Contents, Layout},
    part::Part,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    path::Path,
};
use torpor_manifest::{FunctionName, ModelName};

/// Something whose digests and, unless the operator waived it, whose signature were checked. Only this crate makes one.
#[derive(Debug, Clone)]
pub struct Verified<T>(T);

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A bundle in the content store.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The digest of its manifest, which identifies all of it.
    pub manifest_digest: Digest,
    /// Whose signatures made it runnable, by name; empty where the operator accepted it unsigned.
    pub publishers: Vec<String>,
    /// What it says of itself.
    pub config: Config,
    /// The Wasm module.
    pub module: Blob,
    /// Its models, by the name that the module loads.
    pub models: BTreeMap<ModelName, Model>,
    /// Its files for the module, by the paths under which the module may see them.
    pub files: BTreeMap<String, Blob>,
    /// The digest of its index, by which the store finds all of it again, signatures included.
    pub index: Digest,
    /// Every blob that it consists of in the store, the index included.
    pub blobs: BTreeSet<Digest>,
}

/// A model in the content store.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its format, such as `onnx`. This crate knows no formats.
    pub format: String,
    /// The file.
    pub blob: Blob,
    /// The file of its weights, where the format has one.
    pub weights: Option<Blob>,
    /// The labels of its outputs, by their names; [`read_labels`](crate::read_labels) reads them.
    pub labels: BTreeMap<String, Blob>,
}

/// Checks that `policy` lets the bundle at `path` run as `function`, and puts its parts into `store`.
///
/// # Errors
/// A refusal ([`Error::is_refusal`]) when the file is damaged or not trusted, and [`Error::Io`] when that cannot be found out.
pub fn verify(
    path: &Path,
    function: &FunctionName,
    policy: &TrustPolicy,
    store: &Store,
) -> Result<Verified<Bundle>, Error> {
    admit(&Layout::open(path)?, function, Some(policy), store)
}

/// Checks again whether a bundle that `store` has kept may run as `function`. Without a policy anybody's may, as in
/// [`accept_unsigned`].
///
/// # Errors
/// As [`verify`]; and [`Error::Damaged`] or [`Error::Io`] when the store has not kept all of it.
pub fn verify_kept(
    index: Digest,
    function: &FunctionName,
    policy: Option<&TrustPolicy>,
    store: &Store,
) -> Result<Verified<Bundle>, Error> {
    admit(&Layout::read(store.archive(index)?)?, function, policy, store)
}

/// Asks `policy` alone whether a bundle that `store` has kept may still run as `function`, and gives the names of the
/// publishers whose signatures make it so. Reads its small documents and not its module and models: whoever runs it has
/// verified those.
///
/// # Errors
/// As [`verify_kept`].
pub fn judge_kept(
    index: Digest,
    function: &FunctionName,
    policy: &TrustPolicy,
    store: &Store,
) -> Result<Vec<String>, Error> {
    trusted(&Layout::read(store.archive(index)?)?, policy, Some(function)).map(|(_, publishers)| publishers)
}

fn admit(
    layout: &Layout,
    function: &FunctionName,
    policy: Option<&TrustPolicy>,
    store: &Store,
) -> Result<Verified<Bundle>, Error> {
    let (contents, publishers) = match policy {
        Some(policy) => trusted(layout, policy, Some(function))?,
        None => (layout.contents()?, Vec::new()),
    };
    ingest(layout, contents, publishers, store)
}

/// Puts the parts of the bundle at `path` into `store` whoever made it. Its digests are checked, its signatures are not.
///
/// # Errors
/// [`Error::Damaged`] when the file is no whole bundle, and [`Error::Io`] when that cannot be found out.
pub fn accept_unsigned(path: &Path, store: &Store) -> Result<Verified<Bundle>, Error> {
    let layout = Layout::open(path)?;
    let contents = layout.contents()?;
    ingest(&layout, contents, Vec::new(), store)
}

/// What is in the bundle, and whose signatures made it readable.
pub(crate) fn trusted(
    layout: &Layout,
    policy: &TrustPolicy,
    function: Option<&FunctionName>,
) -> Result<(Contents, Vec<String>), Error> {
    let signers = judge::judge(policy, layout, function)?;
    let contents = layout.contents()?;
    for signer in &signers {
        signer.statement.names(&contents.config).map_err(|why| Error::FalseSignature {
            path: layout.archive.path().to_owned(),
            publisher: signer.key.publisher.clone(),
            why,
        })?;
    }
    for piece in contents.pieces() {
        judge::unrevoked(policy, layout, piece.digest)?;
    }
    Ok((contents, judge::publishers(&signers).into_iter().map(str::to_owned).collect()))
}

fn ingest(
    layout: &Layout,
    contents: Contents,
    publishers: Vec<String>,
    store: &Store,
) -> Result<Verified<Bundle>, Error> {
    let Contents { config, config_piece, module, parts } = contents;
    store.ingest(&layout.archive, config_piece)?;
    let module = store.ingest(&layout.archive, module)?;
    let mut blobs = BTreeSet::from([config_piece.digest, module.digest]);
    let mut models = BTreeMap::<ModelName, Model>::new();
    let mut files = BTreeMap::new();
    for (part, piece) in parts {
        let blob = store.ingest(&layout.archive, piece)?;
        blobs.insert(blob.digest);
        match part {
            Part::Model(name) => {
                let format = config.models.get(&name).map(|model| model.format.clone()).unwrap_or_default();
                models.insert(name, Model { format, blob, weights: None, labels: BTreeMap::new() });
            }
            // What belongs to a model comes after it.
            Part::Weights(name) => {
                models.entry(name).and_modify(|model| model.weights = Some(blob));
            }
            Part::File(path) => {
                files.insert(path, blob);
            }
            Part::Labels(name, output) => {
                models.entry(name).and_modify(|model| drop(model.labels.insert(output, blob)));
            }
        }
    }
    for document in layout.documents() {
        blobs.insert(store.ingest(&layout.archive, document)?.digest);
    }
    let index = store.put(&layout.archive.index)?;
    blobs.insert(index);
    Ok(Verified(Bundle {
        manifest_digest: layout.manifest.digest,
        publishers,
        config,
        module,
        models,
        files,
        index,
        blobs,
    }))
}
