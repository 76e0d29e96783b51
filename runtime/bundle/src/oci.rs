//! The OCI documents of a bundle: index, function manifest and signature manifest, as they are written.
//!
//! Each has exactly one spelling: compact JSON with its keys in the order of the alphabet. `oci-spec` has these documents too,
//! but with unordered annotations and without refusing what it does not know. Pure.

use crate::{
    Config, Digest,
    digest::Piece,
    part::{self, Part},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const FUNCTION: &str = "application/vnd.torpor.function.v1";
const CONFIG: &str = "application/vnd.torpor.function.config.v1+json";
const MODULE: &str = "application/wasm";
const MODEL_CONFIG: &str = "application/vnd.cncf.model.weight.config.v1.raw";
const MODEL: &str = "application/vnd.cncf.model.weight.v1.raw";
const FILE: &str = "application/vnd.torpor.file.v1";
const SIGNATURE: &str = "application/vnd.torpor.signature.v1";
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

const TITLE: &str = "org.opencontainers.image.title";
const DESCRIPTION: &str = "org.opencontainers.image.description";
const LICENSES: &str = "org.opencontainers.image.licenses";
const VERSION: &str = "org.opencontainers.image.version";
const TAG: &str = "org.opencontainers.image.ref.name";
const MODEL_NAME: &str = "vnd.torpor.model.name";
const MODEL_PART: &str = "vnd.torpor.model.part";
const MODEL_OUTPUT: &str = "vnd.torpor.model.output";
const FILE_PATH: &str = "vnd.torpor.file.path";
const KEY_ID: &str = "vnd.torpor.signature.keyid";

/// The content of the config that a manifest without one has.
pub(crate) const EMPTY_CONTENT: &[u8] = b"{}";

/// Notes by key, in the order of the alphabet.
type Annotations = BTreeMap<String, String>;

/// What is known of some content, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: Annotations,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    digest: Digest,
    media_type: String,
    size: u64,
}

impl Descriptor {
    fn new(media_type: &str, piece: Piece) -> Self {
        let Piece { digest, size } = piece;
        Descriptor {
            annotations: Annotations::new(),
            artifact_type: None,
            digest,
            media_type: media_type.to_owned(),
            size,
        }
    }

    fn of_type(self, artifact_type: &str) -> Self {
        Descriptor { artifact_type: Some(artifact_type.to_owned()), ..self }
    }

    fn note(mut self, key: &str, value: impl Into<String>) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    /// The content that this describes.
    pub(crate) fn piece(&self) -> Piece {
        Piece { digest: self.digest, size: self.size }
    }

    /// The layer of a part of what `config` says. The names of files are made from those of models, so that the folder that a
    /// publisher packed from does not show in the digest, and `oras pull` never writes two layers to one file.
    fn part(config: &Config, part: &Part, piece: Piece) -> Self {
        match part {
            Part::Model(name) => {
                let format = config.models.get(name).map_or("", |model| &model.format);
                let file = format!("{name}.{}", part::extension(format));
                Descriptor::new(MODEL, piece).note(TITLE, file).note(MODEL_NAME, name.as_str())
            }
            Part::Weights(name) => Descriptor::new(MODEL, piece)
                .note(TITLE, format!("{name}.bin"))
                .note(MODEL_NAME, name.as_str())
                .note(MODEL_PART, "weights"),
            Part::File(path) => {
                Descriptor::new(FILE, piece).note(TITLE, format!("files/{path}")).note(FILE_PATH, path.as_str())
            }
            Part::Labels(name, output) => {
                // An output may have any name, a file not. No model has a folder in its name.
                let outputs = config.models.get(name).into_iter().flat_map(|model| &model.labels);
                let index = outputs.take_while(|other| *other != output).count();
                Descriptor::new(MODEL_CONFIG, piece)
                    .note(TITLE, format!("labels/{name}.{index}.txt"))
                    .note(MODEL_NAME, name.as_str())
                    .note(MODEL_PART, "labels")
                    .note(MODEL_OUTPUT, output.as_str())
            }
        }
    }
}

/// The root of the layout.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
    media_type: String,
    schema_version: u32,
}

impl Index {
    /// The index of a function's manifest and of its signatures, which are sorted by their digest.
    pub(crate) fn new(function: Piece, version: &str, mut signatures: Vec<Piece>) -> Self {
        signatures.sort_by_key(|piece| piece.digest);
        let mut manifests = vec![Descriptor::new(MANIFEST, function).of_type(FUNCTION).note(TAG, version)];
        manifests.extend(signatures.into_iter().map(|piece| Descriptor::new(MANIFEST, piece).of_type(SIGNATURE)));
        Index { manifests, media_type: INDEX.to_owned(), schema_version: 2 }
    }

    /// The parts that [`Index::new`] was given, if this is what it made of them; else how it is not.
    pub(crate) fn parts(&self) -> Result<(Piece, &str, Vec<Piece>), &'static str> {
        if self.manifests.iter().any(|descriptor| descriptor.media_type == INDEX) {
            return Err("leads to another index");
        }
        let Some((function, signatures)) = self.manifests.split_first() else {
            return Err("is empty");
        };
        if signatures.iter().any(|descriptor| descriptor.artifact_type.as_deref() == Some(FUNCTION)) {
            return Err("does not name one function, and that first");
        }
        let signatures: Vec<Piece> = signatures.iter().map(Descriptor::piece).collect();
        if signatures.iter().any(|signature| signature.digest == function.digest) {
            return Err("leads back to the function's manifest");
        }
        if signatures.windows(2).any(|pair| pair[0].digest == pair[1].digest) {
            return Err("names a signature twice");
        }
        if !signatures.is_sorted_by_key(|signature| signature.digest) {
            return Err("names signatures that are not in order");
        }
        match function.annotations.get(TAG) {
            Some(version) if Index::new(function.piece(), version, signatures.clone()) == *self => {
                Ok((function.piece(), version, signatures))
            }
            _ => Err("is not that of a function"),
        }
    }
}

/// A manifest: of a function, or of a signature.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Manifest {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: Annotations,
    artifact_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    media_type: String,
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
}

impl Manifest {
    /// The manifest of a function: its config, its module and its parts, which are those that the config names, in their order.
    pub(crate) fn function(config: &Config, content: Piece, module: Piece, parts: &[Piece]) -> Self {
        let texts = [
            (TITLE, Some(config.name.as_str())),
            (VERSION, Some(config.version.as_str())),
            (DESCRIPTION, config.description.as_deref()),
            (LICENSES, config.license.as_deref()),
        ];
        let annotations =
            texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?.to_owned()))).collect();
        let mut layers = vec![Descriptor::new(MODULE, module).note(TITLE, format!("{}.wasm", config.name))];
        let part = |(part, &piece): (&Part, &Piece)| Descriptor::part(config, part, piece);
        layers.extend(config.parts().iter().zip(parts).map(part));
        Manifest {
            annotations,
            artifact_type: FUNCTION.to_owned(),
            config: Descriptor::new(CONFIG, content),
            layers,
            media_type: MANIFEST.to_owned(),
            schema_version: 2,
            subject: None,
        }
    }

    /// The manifest that attaches an envelope to the function's manifest.
    pub(crate) fn signature(subject: Piece, envelope: Piece, keyid: &str) -> Self {
        Manifest {
            annotations: Annotations::from([(KEY_ID.to_owned(), keyid.to_owned())]),
            artifact_type: SIGNATURE.to_owned(),
            config: Descriptor::new(EMPTY, Piece::of(EMPTY_CONTENT)),
            layers: vec![Descriptor::new(ENVELOPE, envelope)],
            media_type: MANIFEST.to_owned(),
            schema_version: 2,
            subject: Some(Descriptor::new(MANIFEST, subject)),
        }
    }
}

/// The one spelling of a document.
pub(crate) fn encode(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents hold only texts, numbers, lists and maps with texts as keys")
}

/// Reads a document in its one spelling, and says what is wrong with any other.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(content: &[u8]) -> Result<T, String> {
    // The parser's own text would repeat what a stranger wrote.
    let document: T = serde_json::from_slice(content)
        .map_err(|error| format!("it is not the expected JSON at line {} column {}", error.line(), error.column()))?;
    if encode(&document) != content {
        return Err("it is not in canonical form".to_owned());
    }
    Ok(document)
}
