//! From a file that anybody may have written to a bundle that may run: [`Verified<Bundle>`], which is made only here.
//!
//! The order is the point. First the signature is checked against the policy, over a digest; only then is what the publisher
//! wrote parsed, and only what the signed manifest names gets into the store, hashed on the way.

use crate::{
    Blob, Config, Digest, Error, Stamp, Store, TrustPolicy,
    error::io_at,
    judge::{self, Signer},
    layout::{Contents, Layout},
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
        let models = self.models.values().map(|model| model.blob.digest);
        [self.config_digest, self.module.digest].into_iter().chain(models)
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
    let Contents { config, config_piece, module, models } = contents;
    store.ingest(&layout.archive, config_piece)?;
    let module = store.ingest(&layout.archive, module)?;
    let model = |(name, piece): (ModelName, _)| {
        let format = config.models.get(&name).cloned().unwrap_or_default();
        Ok((name, Model { format, blob: store.ingest(&layout.archive, piece)? }))
    };
    let models: BTreeMap<_, Model> = models.into_iter().map(model).collect::<Result<_, Error>>()?;
    let mut blobs = BTreeSet::from([config_piece.digest, module.digest]);
    blobs.extend(models.values().map(|model| model.blob.digest));
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
        index,
        blobs,
    })
}
