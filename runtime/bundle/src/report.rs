//! What people and scripts are told about a bundle: `torpor inspect` and `torpor verify`. Needs no store and changes nothing.

use crate::{
    Digest, Error, Origin, Progress, Rule, Task, TrustPolicy,
    config::sign,
    digest::Piece,
    judge,
    layout::{Attached, Contents, Layout},
    part::Part,
    policy::shown,
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
    /// What it is made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// What it takes; empty for a function that only answers HTTP.
    pub inputs: Vec<TensorReport>,
    /// What it gives; empty for a function that only answers HTTP.
    pub outputs: Vec<TensorReport>,
    /// Its module.
    pub module: ModuleLayer,
    /// Its models, in the order of their names.
    pub models: Vec<ModelLayer>,
    /// Its files for the module, in the order of their paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileLayer>,
    /// Whose signatures make it loadable, by name; empty where no policy was asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publishers: Vec<String>,
    /// The policy's rules about the function that it is to run as, all of which are met; empty where none was named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleReport>,
    /// Every signature in it.
    pub signatures: Vec<SignatureReport>,
}

/// A rule of the policy that is met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleReport {
    /// The functions that it is about, as patterns.
    pub functions: Vec<String>,
    /// How many publishers it asks for.
    pub threshold: usize,
    /// Of whom.
    pub publishers: Vec<String>,
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

/// The module in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModuleLayer {
    /// The digest of its content.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What it is a snapshot of, as its publisher says; `None` where it is as it was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_of: Option<Origin>,
}

/// A file in a bundle that needs no more to be said of.
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
    /// The file of its weights, where the format has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Layer>,
    /// The labels of its outputs, in the order of the outputs' names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<LabelsLayer>,
}

/// A file for the module in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileLayer {
    /// The path under which the module may see it.
    pub path: String,
    /// The digest of its content.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// The labels of an output of a model in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelsLayer {
    /// The name of the output.
    pub output: String,
    /// How many there are.
    pub count: usize,
    /// The digest of the text.
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
    /// Why it is not intact, or why it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whose key the policy says this is, the signature being genuine; `None` where it does not know the key, or was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// Whether the signature counts; `None` where no policy was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<bool>,
    /// When it no longer counts, in RFC 3339; `None` where the policy says nothing of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// Reads the bundle at `path` without judging who made it.
///
/// # Errors
/// [`Error::Damaged`] when the file is no whole bundle, and [`Error::Io`] when it cannot be read.
pub fn inspect(path: &Path) -> Result<Report, Error> {
    inspect_with(path, None, &())
}

/// As [`inspect`], and says of each signature what `policy` makes of it, without judging the whole. Tells `progress` how far it
/// is.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_with(path: &Path, policy: Option<&TrustPolicy>, progress: &dyn Progress) -> Result<Report, Error> {
    let layout = Layout::open(path)?;
    let contents = layout.contents()?;
    let mut report = report(&layout, &contents, progress)?;
    let Some(policy) = policy else { return Ok(report) };
    for (attached, signature) in layout.signatures.iter().zip(&mut report.signatures) {
        if let Err(Error::FalseSignature { why, .. }) = signature.judge(&layout, attached, policy, None) {
            *signature =
                SignatureReport { intact: false, problem: Some(why), counts: Some(false), ..signature.clone() };
        }
    }
    Ok(report)
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
    let (contents, publishers) = verify::trusted(&layout, policy, function)?;
    let mut report = report(&layout, &contents, progress)?;
    report.publishers = publishers;
    report.rules = function.map_or_else(Vec::new, |function| policy.rules_for(function).map(rule).collect());
    for (attached, signature) in layout.signatures.iter().zip(&mut report.signatures) {
        signature.judge(&layout, attached, policy, function)?;
    }
    Ok(report)
}

fn rule(rule: &Rule) -> RuleReport {
    RuleReport {
        functions: rule.functions.iter().map(ToString::to_string).collect(),
        threshold: rule.threshold,
        publishers: rule.publishers.iter().cloned().collect(),
    }
}

impl SignatureReport {
    /// Adds what the policy makes of this signature.
    fn judge(
        &mut self,
        layout: &Layout,
        attached: &Attached,
        policy: &TrustPolicy,
        function: Option<&FunctionName>,
    ) -> Result<(), Error> {
        self.counts = Some(false);
        let Some(key) = policy.key(&self.keyid) else {
            self.problem.get_or_insert_with(|| "signed with a key that the trust policy does not know".to_owned());
            return Ok(());
        };
        let signer = judge::signer(policy, layout, attached, key, function)?;
        self.publisher = Some(key.publisher.clone());
        self.expires = key.expires.map(shown);
        self.problem = self.problem.take().or_else(|| signer.problem());
        self.counts = Some(self.problem.is_none());
        Ok(())
    }
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
        task: config.task,
        inputs: config.signature.as_ref().map(|signature| tensors(&signature.inputs)).unwrap_or_default(),
        outputs: config.signature.as_ref().map(|signature| tensors(&signature.outputs)).unwrap_or_default(),
        module: ModuleLayer { digest, size, snapshot_of: config.snapshot_of },
        models: models(layout, contents)?,
        files: contents.parts.iter().filter_map(file).collect(),
        publishers: Vec::new(),
        rules: Vec::new(),
        signatures: layout.signatures.iter().map(|attached| signature(layout, contents, attached)).collect(),
    })
}

/// The models, each with what belongs to it, which comes after it.
fn models(layout: &Layout, contents: &Contents) -> Result<Vec<ModelLayer>, Error> {
    let mut models = Vec::<ModelLayer>::new();
    for (part, piece) in &contents.parts {
        let Piece { digest, size } = *piece;
        match part {
            Part::Model(name) => {
                let format = contents.config.models.get(name).map(|model| model.format.clone()).unwrap_or_default();
                let (name, labels) = (name.to_string(), Vec::new());
                models.push(ModelLayer { name, format, digest, size, weights: None, labels });
            }
            Part::Weights(_) => {
                if let Some(model) = models.last_mut() {
                    model.weights = Some(Layer { digest, size });
                }
            }
            Part::File(_) => {}
            Part::Labels(_, output) => {
                let count = layout.labels(part, *piece)?;
                if let Some(model) = models.last_mut() {
                    model.labels.push(LabelsLayer { output: output.clone(), count, digest, size });
                }
            }
        }
    }
    Ok(models)
}

fn file((part, piece): &(Part, Piece)) -> Option<FileLayer> {
    let Part::File(path) = part else { return None };
    Some(FileLayer { path: path.clone(), digest: piece.digest, size: piece.size })
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
    SignatureReport {
        keyid: attached.envelope.keyid().to_owned(),
        intact: problem.is_none(),
        problem,
        publisher: None,
        counts: None,
        expires: None,
    }
}
