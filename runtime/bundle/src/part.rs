//! What the layers of a bundle are behind the module: models, and what goes with them. The config says which there are and in what
//! order, so that nothing else can be among them. Pure.

use crate::Config;
use std::fmt;
use torpor_manifest::ModelName;

/// The format whose models are two files: what OpenVINO calls its intermediate representation.
pub(crate) const OPENVINO_IR: &str = "openvino-ir";

/// The most bytes of all files together that a bundle has for its module.
pub(crate) const MAX_FILES: u64 = 1 << 30;

/// A layer of a bundle that is not its module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The file of a model, which alone names its format.
    Model(ModelName),
    /// The weights of a model whose format keeps them in a file of their own.
    Weights(ModelName),
    /// The labels of an output of a model.
    Labels(ModelName, String),
    /// A file for the module, by the path under which it sees it.
    File(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Model(name) => write!(f, "the model `{name}`"),
            Part::Weights(name) => write!(f, "the weights of the model `{name}`"),
            Part::File(path) => write!(f, "the file `{path}`"),
            Part::Labels(name, output) => write!(f, "the labels of the output `{output}` of the model `{name}`"),
        }
    }
}

impl Config {
    /// All parts, in the order of their layers.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        for (name, model) in &self.models {
            parts.push(Part::Model(name.clone()));
            if has_weights(&model.format) {
                parts.push(Part::Weights(name.clone()));
            }
            parts.extend(model.labels.iter().map(|output| Part::Labels(name.clone(), output.clone())));
        }
        parts.extend(self.files.iter().cloned().map(Part::File));
        parts
    }
}

/// Whether models of this format have their weights in a second file.
pub(crate) fn has_weights(format: &str) -> bool {
    format == OPENVINO_IR
}

/// How the name of a model's file ends, without the dot.
pub(crate) fn extension(format: &str) -> &str {
    if format == OPENVINO_IR { "xml" } else { format }
}

/// The format of files whose names end like this.
pub(crate) fn format_of(extension: &str) -> &str {
    if extension == "xml" { OPENVINO_IR } else { extension }
}
