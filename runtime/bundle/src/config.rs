//! What a bundle says of itself: its name and version, what it takes and gives, and its models' formats.
//!
//! [`Config`] is checked; [`Wire`] is the JSON document in the bundle. `recipe` makes the same checks of what an author wrote.

use crate::{Digest, digest::Piece, part::OPENVINO_IR};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use torpor_manifest::{FunctionName, ModelName};
use torpor_tensor::{DType, Dim, Signature, TensorSpec};

/// The longest description, license or tensor name, in bytes.
const MAX_TEXT: usize = 1024;

/// The most inputs, outputs, models or files.
pub(crate) const MAX_ITEMS: usize = 256;

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The bundle's name. An operator may deploy it under another one.
    pub name: FunctionName,
    /// Its version: up to 128 letters, digits, `.`, `_` and `-`, as in an OCI tag.
    pub version: String,
    /// What it does, in one line.
    pub description: Option<String>,
    /// Its license as an SPDX expression; not checked.
    pub license: Option<String>,
    /// What it takes and gives; `None` for a function that only answers HTTP.
    pub signature: Option<Signature>,
    /// What it is made for, where that is something that a protocol knows.
    pub task: Option<Task>,
    /// Its models.
    pub models: BTreeMap<ModelName, ModelConfig>,
    /// The files that it has for its module, as paths such as `fixture/labels.txt`.
    pub files: BTreeSet<String>,
    /// The module of which the bundle's is a snapshot, taken after its initializer had run; `None` where it had none.
    pub snapshot_of: Option<Origin>,
}

/// What a function is made for. Protocols that are about one task serve the functions that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Each text of its only input, which is of `BYTES` and rank 1, gets a row of its only output, which is of `FP32` and rank 2.
    Embedding,
}

impl Task {
    /// The task of this name.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        match name {
            "embedding" => Ok(Task::Embedding),
            _ => Err("a task is `embedding`, or nothing is said of it".to_owned()),
        }
    }

    /// Checks that a function with `signature` can have this task.
    pub(crate) fn fits(self, signature: Option<&Signature>) -> Result<(), String> {
        let Task::Embedding = self;
        let is = |spec: &TensorSpec, dtype, rank| {
            spec.dtype == dtype && spec.shape.as_ref().is_some_and(|shape| shape.len() == rank)
        };
        match signature.map(|signature| (&signature.inputs[..], &signature.outputs[..])) {
            Some(([input], [output])) if is(input, DType::Bytes, 1) && is(output, DType::F32, 2) => Ok(()),
            _ => Err("the task `embedding` takes one `[[input]]` of datatype BYTES with one dimension, and gives one \
                      `[[output]]` of datatype FP32 with two"
                .to_owned()),
        }
    }
}

/// What a bundle says of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// Its format, such as `onnx`; a lower-case word, or `openvino-ir`.
    pub format: String,
    /// The names of its outputs that have labels in the bundle.
    pub labels: BTreeSet<String>,
}

/// What a snapshot was taken of, so that it can be made again and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The digest of the module before its initializer ran.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl Origin {
    pub(crate) fn of(module: &[u8]) -> Self {
        let Piece { digest, size } = Piece::of(module);
        Origin { digest, size }
    }
}

/// The config as it is written into a bundle.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// In the order of the alphabet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<WireTensor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    license: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    models: BTreeMap<String, WireModel>,
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<WireTensor>,
    #[serde(default, rename = "snapshotOf", skip_serializing_if = "Option::is_none")]
    snapshot_of: Option<Origin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<Task>,
    version: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireModel {
    format: String,
    /// In the order of the alphabet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTensor {
    datatype: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<Vec<i64>>,
}

impl Wire {
    pub(crate) fn new(config: &Config) -> Self {
        let tensors = |specs: &[TensorSpec]| specs.iter().map(WireTensor::new).collect();
        Wire {
            description: config.description.clone(),
            files: config.files.iter().cloned().collect(),
            inputs: config.signature.as_ref().map(|signature| tensors(&signature.inputs)).unwrap_or_default(),
            license: config.license.clone(),
            models: config.models.iter().map(|(name, model)| (name.to_string(), WireModel::new(model))).collect(),
            name: config.name.to_string(),
            outputs: config.signature.as_ref().map(|signature| tensors(&signature.outputs)).unwrap_or_default(),
            snapshot_of: config.snapshot_of,
            task: config.task,
            version: config.version.clone(),
        }
    }

    pub(crate) fn check(self) -> Result<Config, String> {
        let text = |text: Option<String>| text.map(|text| line(&text).map(|()| text)).transpose();
        let tensors = |tensors: Vec<WireTensor>| tensors.into_iter().map(WireTensor::check).collect::<Result<_, _>>();
        let models = self.models.into_iter().map(|(name, model)| {
            let name = ModelName::try_from(name).map_err(|error| error.to_string())?;
            Ok((name, model.check()?))
        });
        version(&self.version)?;
        if !self.files.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err("its files are not in order".to_owned());
        }
        let config = Config {
            name: self.name.try_into().map_err(|error: torpor_manifest::Error| error.to_string())?,
            version: self.version,
            description: text(self.description)?,
            license: text(self.license)?,
            signature: signature(tensors(self.inputs)?, tensors(self.outputs)?)?,
            task: self.task,
            models: models.collect::<Result<_, String>>()?,
            files: self.files.into_iter().collect(),
            snapshot_of: self.snapshot_of,
        };
        files(&config.files)?;
        if let Some(task) = config.task {
            task.fits(config.signature.as_ref())?;
        }
        if config.models.len() > MAX_ITEMS {
            return Err(format!("it has more than {MAX_ITEMS} models"));
        }
        Ok(config)
    }
}

impl WireModel {
    fn new(model: &ModelConfig) -> Self {
        WireModel { format: model.format.clone(), labels: model.labels.iter().cloned().collect() }
    }

    fn check(self) -> Result<ModelConfig, String> {
        format(&self.format)?;
        self.labels.iter().try_for_each(|output| line(output))?;
        if self.labels.len() > MAX_ITEMS {
            return Err(format!("a model has more than {MAX_ITEMS} outputs with labels"));
        }
        if !self.labels.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err("the outputs with labels are not in order".to_owned());
        }
        Ok(ModelConfig { format: self.format, labels: self.labels.into_iter().collect() })
    }
}

impl WireTensor {
    fn new(spec: &TensorSpec) -> Self {
        WireTensor {
            datatype: spec.dtype.to_string(),
            name: spec.name.clone(),
            shape: spec.shape.as_ref().map(|dims| dims.iter().map(sign).collect()),
        }
    }

    fn check(self) -> Result<TensorSpec, String> {
        line(&self.name)?;
        Ok(TensorSpec {
            name: self.name,
            dtype: self.datatype.parse::<DType>().map_err(|_| "a tensor has an unknown datatype")?,
            shape: self.shape.as_deref().map(dims).transpose()?,
        })
    }
}

/// A dimension as it is written. Sizes come from written ones, so they fit.
pub(crate) fn sign(dim: &Dim) -> i64 {
    match dim {
        Dim::Named(_) | Dim::Any => -1,
        Dim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
    }
}

/// Checks a text that is shown to people: one line, not empty, and unable to steer a terminal.
pub(crate) fn line(text: &str) -> Result<(), String> {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(steers) {
        return Err(format!("a text must be one line of 1 to {MAX_TEXT} bytes without control characters"));
    }
    Ok(())
}

/// Checks a version.
pub(crate) fn version(text: &str) -> Result<(), String> {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !first || text.len() > 128 || !text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Err("a version has 1 to 128 letters, digits, `.`, `_` and `-`, as in `1.0.0`".to_owned());
    }
    Ok(())
}

/// Checks the name of a model format.
pub(crate) fn format(text: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text == OPENVINO_IR {
        return Ok(());
    }
    // `wasm` would give a model the file name of the module.
    if text.is_empty() || text.len() > 32 || !text.chars().all(good) || text == "wasm" {
        return Err("a model format is a lower-case word, such as `onnx`, or `openvino-ir`".to_owned());
    }
    Ok(())
}

/// Checks the paths of files: relative, below one folder, and none of them a folder of another.
pub(crate) fn files(paths: &BTreeSet<String>) -> Result<(), String> {
    if paths.len() > MAX_ITEMS {
        return Err(format!("a bundle has at most {MAX_ITEMS} files"));
    }
    for path in paths {
        file(path)?;
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        if let Some(folder) = above.into_iter().find(|folder| paths.contains(*folder)) {
            return Err(format!("`{folder}` is a file, so `{path}` cannot be below it"));
        }
    }
    Ok(())
}

/// Checks the path of one file.
pub(crate) fn file(path: &str) -> Result<(), String> {
    line(path)?;
    let good = |segment: &str| !matches!(segment, "" | "." | "..") && segment.len() <= 255;
    if !path.split('/').all(good) || path.contains('\\') {
        return Err(format!("`{path}` is no path of a file in a bundle; write one such as `fixture/labels.txt`"));
    }
    Ok(())
}

/// Checks the dimensions of a shape.
pub(crate) fn dims(sizes: &[i64]) -> Result<Vec<Dim>, String> {
    if sizes.len() > 64 {
        return Err("a shape has at most 64 dimensions".to_owned());
    }
    let dim = |&size: &i64| match size {
        -1 => Ok(Dim::Any),
        size => u64::try_from(size)
            .map(Dim::Fixed)
            .map_err(|_| format!("`{size}` is no dimension; write a size, or -1 for any")),
    };
    sizes.iter().map(dim).collect()
}

/// Checks inputs and outputs as a whole.
pub(crate) fn signature(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Result<Option<Signature>, String> {
    for (kind, specs) in [("input", &inputs), ("output", &outputs)] {
        if specs.len() > MAX_ITEMS {
            return Err(format!("there are more than {MAX_ITEMS} of `[[{kind}]]`"));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = specs.iter().find(|spec| !names.insert(&spec.name)) {
            return Err(format!("`[[{kind}]]` has the name `{}` twice", twice.name));
        }
    }
    match (inputs.is_empty(), outputs.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(Signature { inputs, outputs })),
        (true, false) => Err("there is an `[[output]]` but no `[[input]]`".to_owned()),
        (false, true) => Err("there is an `[[input]]` but no `[[output]]`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci;

    fn config() -> Config {
        let spec = |name: &str, shape| TensorSpec { name: name.into(), dtype: DType::Bytes, shape };
        Config {
            name: "echo".parse().unwrap(),
            version: "1.0.0-rc.1".into(),
            description: Some("gives back what it gets".into()),
            license: None,
            signature: Some(Signature {
                inputs: vec![spec("text", Some(vec![Dim::Any, Dim::Fixed(2)]))],
                outputs: vec![spec("any rank", None), spec("scalar", Some(vec![]))],
            }),
            task: None,
            models: BTreeMap::from([(
                "standard".parse().unwrap(),
                ModelConfig { format: "onnx".into(), labels: BTreeSet::from(["any rank".into()]) },
            )]),
            files: BTreeSet::from(["a/b.txt".into(), "a/c".into(), "d".into()]),
            snapshot_of: None,
        }
    }

    #[test]
    fn a_config_comes_back_from_its_one_spelling() {
        let written = oci::encode(&Wire::new(&config()));
        assert_eq!(
            String::from_utf8(written.clone()).unwrap(),
            concat!(
                r#"{"description":"gives back what it gets","files":["a/b.txt","a/c","d"],"inputs":[{"datatype":"BYTES","name":"text","shape":[-1,2]}],"#,
                r#""models":{"standard":{"format":"onnx","labels":["any rank"]}},"name":"echo","outputs":[{"datatype":"BYTES","name":"any rank"},"#,
                r#"{"datatype":"BYTES","name":"scalar","shape":[]}],"version":"1.0.0-rc.1"}"#
            )
        );
        assert_eq!(oci::decode::<Wire>(&written).unwrap().check(), Ok(config()));
    }

    fn model(config: &mut Config) -> &mut ModelConfig {
        config.models.values_mut().next().unwrap()
    }

    #[test]
    fn outputs_with_labels_have_one_order() {
        let wire = |labels: &str| {
            let text =
                format!(r#"{{"models":{{"a":{{"format":"onnx","labels":[{labels}]}}}},"name":"a","version":"1"}}"#);
            oci::decode::<Wire>(text.as_bytes()).unwrap().check()
        };
        assert_eq!(wire(r#""x","y""#).unwrap().models["a"].labels.len(), 2);
        for labels in [r#""y","x""#, r#""x","x""#] {
            assert!(wire(labels).unwrap_err().contains("not in order"), "{labels}");
        }
    }

    #[test]
    fn a_file_has_one_place_in_one_folder() {
        let check = |paths: &[&str]| files(&paths.iter().map(|&path| path.to_owned()).collect());
        assert_eq!(check(&["a", "b/c", "b/d.txt", "b.c/d"]), Ok(()));
        for path in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a\nb", &"x".repeat(256)] {
            assert!(check(&[path]).is_err(), "{path:?}");
        }
        assert!(check(&["a/b/c", "a"]).unwrap_err().contains("`a` is a file"));
        let many: BTreeSet<_> = (0..=MAX_ITEMS).map(|number| number.to_string()).collect();
        assert!(files(&many).unwrap_err().contains("at most 256 files"));
        let text = r#"{"files":["b","a"],"name":"a","version":"1"}"#;
        assert!(oci::decode::<Wire>(text.as_bytes()).unwrap().check().unwrap_err().contains("not in order"));
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Config), why: &str) {
        let mut config = config();
        change(&mut config);
        let found = Wire::new(&config).check().unwrap_err();
        assert!(found.contains(why), "{found}");
    }

    #[test]
    fn what_no_recipe_would_give_is_refused() {
        refused(|config| config.version = "1+2".into(), "a version");
        refused(|config| config.version = String::new(), "a version");
        refused(|config| config.description = Some("\u{1b}[2J".into()), "one line");
        refused(|config| config.license = Some("x".repeat(MAX_TEXT + 1)), "one line");
        refused(|config| config.models.values_mut().next().unwrap().format = "Onnx".into(), "a model format");
        refused(|config| model(config).labels.extend(["\n".to_owned()]), "one line");
        refused(|config| model(config).labels.extend((0..MAX_ITEMS).map(|n| n.to_string())), "outputs with labels");
        refused(|config| config.signature.as_mut().unwrap().outputs.clear(), "no `[[output]]`");
        refused(|config| config.signature.as_mut().unwrap().outputs[1].name = "any rank".into(), "twice");
    }

    #[test]
    fn a_task_fits_its_tensors() {
        let spec = |name: &str, dtype, shape| TensorSpec { name: name.into(), dtype, shape: Some(shape) };
        let signature = Signature {
            inputs: vec![spec("text", DType::Bytes, vec![Dim::Any])],
            outputs: vec![spec("embedding", DType::F32, vec![Dim::Any, Dim::Fixed(3)])],
        };
        let config = Config { task: Some(Task::Embedding), signature: Some(signature), ..config() };
        let written = String::from_utf8(oci::encode(&Wire::new(&config))).unwrap();
        assert!(written.ends_with(r#"],"task":"embedding","version":"1.0.0-rc.1"}"#), "{written}");
        assert_eq!(oci::decode::<Wire>(written.as_bytes()).unwrap().check(), Ok(config));
        refused(|config| config.task = Some(Task::Embedding), "the task `embedding` takes one `[[input]]`");
        let unknown = r#"{"name":"a","task":"chat","version":"1"}"#;
        assert!(oci::decode::<Wire>(unknown.as_bytes()).is_err());
    }

    #[test]
    fn a_snapshot_says_what_it_was_taken_of() {
        let config = Config { snapshot_of: Some(Origin::of(b"a module")), ..config() };
        let written = String::from_utf8(oci::encode(&Wire::new(&config))).unwrap();
        let digest = Digest::of(b"a module");
        let expected = format!(r#"],"snapshotOf":{{"digest":"{digest}","size":8}},"version":"1.0.0-rc.1"}}"#);
        assert!(written.ends_with(&expected), "{written}");
        assert_eq!(oci::decode::<Wire>(written.as_bytes()).unwrap().check(), Ok(config));
    }

    #[test]
    fn dimensions_are_sizes_or_any() {
        assert_eq!(dims(&[-1, 0, 3]), Ok(vec![Dim::Any, Dim::Fixed(0), Dim::Fixed(3)]));
        assert!(dims(&[-2]).is_err());
    }
}
