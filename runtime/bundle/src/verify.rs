//! From a file that anybody may have written to a bundle that may run: [`Verified<Bundle>`], which is made only here.
//!
//! The order is the point. First the signature is checked against the policy, over a digest; only then is what the publisher
//! wrote parsed, and only what the signed manifest names gets into the store, hashed on the way.

use crate::{
    Blob, Config, Digest, Error, Stamp, Store, TrustPolicy,
    error::io_at,
    judge::{self, Signer},
    layout::{Contents, Layout},
    part::Part,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Deref,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
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
    /// The digest of that.
    config_digest: Digest,
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
    Reading::new(Layout::open(path)?).admit(Some(policy), function, store)
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
    Reading::new(Layout::read(store.archive(index)?)?).admit(policy, function, store)
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

/// Puts the parts of the bundle at `path` into `store` whoever made it. Its digests are checked, its signatures are not.
///
/// # Errors
/// [`Error::Damaged`] when the file is no whole bundle, and [`Error::Io`] when that cannot be found out.
pub fn accept_unsigned(path: &Path, store: &Store) -> Result<Verified<Bundle>, Error> {
    let reading = Reading::new(Layout::open(path)?);
    Ok(Verified(reading.ingested(store)?))
}

/// Bundles that were read a moment ago, so that many functions of one bundle read and hash it once. Whether a bundle may run is
/// asked of the policy for each function all the same. To be cleared when the functions are deployed, since what it remembers is
/// only as good as the looks of files.
#[derive(Default)]
pub struct Readings(Mutex<HashMap<Source, Arc<Reading>>>);

/// Where a bundle was read.
#[derive(PartialEq, Eq, Hash)]
enum Source {
    File(PathBuf, Stamp),
    Kept(Digest),
}

impl Readings {
    /// As [`verify`]; without a policy as [`accept_unsigned`].
    ///
    /// # Errors
    /// Those of either.
    pub fn verify(
        &self,
        path: &Path,
        function: &FunctionName,
        policy: Option<&TrustPolicy>,
        store: &Store,
    ) -> Result<Verified<Bundle>, Error> {
        // The looks are taken first, so that a change while the file is read shows the next time.
        let looks = Stamp::of(&path.metadata().map_err(io_at("read", path))?);
        let reading = self.reading(Source::File(path.to_owned(), looks), || Layout::open(path))?;
        reading.admit(policy, function, store)
    }

    /// As [`verify_kept`].
    ///
    /// # Errors
    /// Those of that.
    pub fn verify_kept(
        &self,
        index: Digest,
        function: &FunctionName,
        policy: Option<&TrustPolicy>,
        store: &Store,
    ) -> Result<Verified<Bundle>, Error> {
        let reading = self.reading(Source::Kept(index), || Layout::read(store.archive(index)?))?;
        reading.admit(policy, function, store)
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn reading(&self, source: Source, read: impl FnOnce() -> Result<Layout, Error>) -> Result<Arc<Reading>, Error> {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = readings.get(&source) {
            return Ok(Arc::clone(reading));
        }
        let reading = Arc::new(Reading::new(read()?));
        readings.insert(source, Arc::clone(&reading));
        Ok(reading)
    }
}

/// One bundle whose outer parts were read, and the rest once it was trusted.
struct Reading {
    layout: Layout,
    /// What is in it, once it is in the store; of no publishers.
    bundle: Mutex<Option<Bundle>>,
}

impl Reading {
    fn new(layout: Layout) -> Self {
        Reading { layout, bundle: Mutex::new(None) }
    }

    fn admit(
        &self,
        policy: Option<&TrustPolicy>,
        function: &FunctionName,
        store: &Store,
    ) -> Result<Verified<Bundle>, Error> {
        let Some(policy) = policy else { return Ok(Verified(self.ingested(store)?)) };
        let layout = &self.layout;
        let signers = judge::judge(policy, layout, Some(function))?;
        let known = self.known();
        let publishers = match &known {
            Some(bundle) => agreed(layout, policy, &signers, &bundle.config, bundle.pieces())?,
            None => {
                let contents = layout.contents()?;
                agreed(layout, policy, &signers, &contents.config, contents.pieces().map(|piece| piece.digest))?
            }
        };
        let bundle = known.map_or_else(|| self.ingested(store), Ok)?;
        Ok(Verified(Bundle { publishers, ..bundle }))
    }

    fn known(&self) -> Option<Bundle> {
        self.bundle.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts its parts into the store, unless that was done.
    fn ingested(&self, store: &Store) -> Result<Bundle, Error> {
        let mut known = self.bundle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bundle) = &*known {
            return Ok(bundle.clone());
        }
        let bundle = ingest(&self.layout, self.layout.contents()?, store)?;
        Ok(known.insert(bundle).clone())
    }
}

impl Bundle {
    /// The digests of what its manifest names.
    fn pieces(&self) -> impl Iterator<Item = Digest> {
        let models = self.models.values().flat_map(|model| {
            std::iter::once(&model.blob).chain(&model.weights).chain(model.labels.values()).map(|blob| blob.digest)
        });
        let files = self.files.values().map(|blob| blob.digest);
        [self.config_digest, self.module.digest].into_iter().chain(models).chain(files)
    }
}

/// What is in the bundle, and whose signatures made it readable.
pub(crate) fn trusted(
    layout: &Layout,
    policy: &TrustPolicy,
    function: Option<&FunctionName>,
) -> Result<(Contents, Vec<String>), Error> {
    let signers = judge::judge(policy, layout, function)?;
    let contents = layout.contents()?;
    let digests = contents.pieces().map(|piece| piece.digest);
    let publishers = agreed(layout, policy, &signers, &contents.config, digests)?;
    Ok((contents, publishers))
}

/// Checks that the signatures that count are of what is in the bundle, and that the policy revokes none of it. Gives the names of
/// whose they are.
fn agreed(
    layout: &Layout,
    policy: &TrustPolicy,
    signers: &[Signer<'_>],
    config: &Config,
    digests: impl Iterator<Item = Digest>,
) -> Result<Vec<String>, Error> {
    for signer in signers {
        signer.statement.names(config).map_err(|why| Error::FalseSignature {
            path: layout.archive.path().to_owned(),
            publisher: signer.key.publisher.clone(),
            why,
        })?;
    }
    for digest in digests {
        judge::unrevoked(policy, layout, digest)?;
    }
    Ok(judge::publishers(signers).into_iter().map(str::to_owned).collect())
}

fn ingest(layout: &Layout, contents: Contents, store: &Store) -> Result<Bundle, Error> {
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
    Ok(Bundle {
        manifest_digest: layout.manifest.digest,
        publishers: Vec::new(),
        config,
        config_digest: config_piece.digest,
        module,
        models,
        files,
        index,
        blobs,
    })
}
