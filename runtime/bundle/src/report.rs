//! What people and scripts are told about a bundle: `torpor inspect` and `torpor verify`. Needs no store and changes nothing.

use crate::{
    Digest, Error, Progress, TrustPolicy,
    config::sign,
    digest::Piece,
    layout::{Attached, Contents, Layout},
    verify,
};
use serde::Serialize;
use std::path::Path;
use torpor_manifest::FunctionName;
use torpor_tensor::TensorSpec;

/// What is in a bundle. All digests in the file were found right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The digest of its manifest, which identifies all of it.
    pub digest: Digest,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its license.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// What it takes; empty for a function that only answers HTTP.
    pub inputs: Vec<TensorReport>,
    /// What it gives; empty for a function that only answers HTTP.
    pub outputs: Vec<TensorReport>,
    /// Its module.
    pub module: Layer,
    /// Its models, in the order of their names.
    pub models: Vec<ModelLayer>,
    /// Who made it loadable; `None` where no policy was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// Everyone who signed it.
    pub signatures: Vec<SignatureReport>,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its element type, as in the Open Inference Protocol.
    pub datatype: String,
    /// The size of each dimension, -1 for any; `None` where even the rank may vary.
    pub shape: Option<Vec<i64>>,
}

/// A file in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// The digest of its content.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A model in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelLayer {
    /// The name that the module loads.
    pub name: String,
    /// Its format, such as `onnx`.
    pub format: String,
    /// The digest of its content.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A signature in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignatureReport {
    /// The key that is said to have signed: the SHA-256 of the public key's DER form, in hexadecimal.
    pub keyid: String,
    /// Whether the envelope holds a statement about this very bundle. Only a key can tell whether its signature is genuine.
    pub intact: bool,
    /// Why it is not intact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whose key the policy says this is, and whose signature was found genuine; `None` where no policy was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
}

/// Reads the bundle at `path` without judging who made it.
///
/// # Errors
/// [`Error::Damaged`] when the file is no whole bundle, and [`Error::Io`] when it cannot be read.
pub fn inspect(path: &Path) -> Result<Report, Error> {
    inspect_with(path, &())
}

/// As [`inspect`], and tells `progress` how far it is.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_with(path: &Path, progress: &dyn Progress) -> Result<Report, Error> {
    let layout = Layout::open(path)?;
    let contents = layout.contents()?;
    report(&layout, &contents, progress)
}

/// Checks that `policy` trusts the bundle at `path`: to run as `function`, or to run at all.
///
/// # Errors
/// As [`verify`](crate::verify).
pub fn verify_file(path: &Path, policy: &TrustPolicy, function: Option<&FunctionName>) -> Result<Report, Error> {
    verify_file_with(path, policy, function, &())
}

/// As [`verify_file`], and tells `progress` how far it is.
///
/// # Errors
/// As [`verify`](crate::verify).
pub fn verify_file_with(
    path: &Path,
    policy: &TrustPolicy,
    function: Option<&FunctionName>,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let layout = Layout::open(path)?;
    let (contents, publisher) = verify::trusted(&layout, policy, function)?;
    let mut report = report(&layout, &contents, progress)?;
    report.publisher = Some(publisher);
    for signature in &mut report.signatures {
        // The policy has refused the bundle already if one of these was not genuine.
        signature.publisher = policy.publisher(&signature.keyid).map(|publisher| publisher.name.clone());
    }
    Ok(report)
}

fn report(layout: &Layout, contents: &Contents, progress: &dyn Progress) -> Result<Report, Error> {
    progress.expect(contents.pieces().map(|piece| piece.size).sum());
    for piece in contents.pieces() {
        layout.archive.check(piece, progress)?;
    }
    let config = &contents.config;
    let tensors = |specs: &[TensorSpec]| specs.iter().map(tensor).collect();
    let Piece { digest, size } = contents.module;
    Ok(Report {
        digest: layout.manifest.digest,
        name: config.name.to_string(),
        version: config.version.clone(),
        description: config.description.clone(),
        license: config.license.clone(),
        inputs: config.signature.as_ref().map(|signature| tensors(&signature.inputs)).unwrap_or_default(),
        outputs: config.signature.as_ref().map(|signature| tensors(&signature.outputs)).unwrap_or_default(),
        module: Layer { digest, size },
        models: contents
            .models
            .iter()
            .map(|(name, &Piece { digest, size })| {
                let format = config.models.get(name).cloned().unwrap_or_default();
                ModelLayer { name: name.to_string(), format, digest, size }
            })
            .collect(),
        publisher: None,
        signatures: layout.signatures.iter().map(|attached| signature(layout, contents, attached)).collect(),
    })
}

fn tensor(spec: &TensorSpec) -> TensorReport {
    TensorReport {
        name: spec.name.clone(),
        datatype: spec.dtype.to_string(),
        shape: spec.shape.as_ref().map(|dims| dims.iter().map(sign).collect()),
    }
}

fn signature(layout: &Layout, contents: &Contents, attached: &Attached) -> SignatureReport {
    let statement = attached.envelope.statement().and_then(|statement| {
        statement.is_about(layout.manifest.digest)?;
        statement.names(&contents.config)
    });
    let problem = statement.err();
    SignatureReport { keyid: attached.envelope.keyid().to_owned(), intact: problem.is_none(), problem, publisher: None }
}
