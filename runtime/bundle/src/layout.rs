//! What the entries of a bundle mean: the function's manifest, the signatures that refer to it, and what the manifest names.
//!
//! Reading has two steps, and trust is decided between them. [`Layout::open`] reads what does not need to be trusted: headers,
//! digests, envelopes. [`Layout::contents`] then reads what the publisher wrote. Each document is also built anew from its
//! parts and compared, and a blob that nothing refers to is refused, so no byte of the file is free.

use crate::{
    Config, Digest, Error,
    archive::Archive,
    config::Wire,
    digest::Piece,
    dsse::Envelope,
    labels,
    oci::{self, Descriptor, EMPTY_CONTENT, Index, Manifest},
    part::{MAX_FILES, Part},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeSet, path::Path};

/// The most signatures that one bundle has.
const MAX_SIGNATURES: usize = 64;

/// An open bundle of which only the outer parts were read.
pub(crate) struct Layout {
    pub(crate) archive: Archive,
    /// The function's manifest. It was not read yet.
    pub(crate) manifest: Piece,
    /// The version that the index gives as a tag.
    version: String,
    pub(crate) signatures: Vec<Attached>,
}

/// A signature in a bundle, by whomever.
pub(crate) struct Attached {
    /// The manifest that refers to the function's manifest.
    pub(crate) referrer: Piece,
    pub(crate) piece: Piece,
    pub(crate) envelope: Envelope,
}

/// What the publisher wrote.
pub(crate) struct Contents {
    pub(crate) config: Config,
    pub(crate) config_piece: Piece,
    pub(crate) module: Piece,
    /// All that is neither, in the order of its layers.
    pub(crate) parts: Vec<(Part, Piece)>,
}

impl Layout {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Self::read(Archive::open(path)?)
    }

    /// Reads the outer parts of a bundle.
    pub(crate) fn read(archive: Archive) -> Result<Self, Error> {
        let index: Index = decode(&archive, "`index.json`", &archive.index)?;
        let parts = index.parts().map_err(|how| archive.damaged(format!("`index.json` {how}")))?;
        let (manifest, version, referrers) = parts;
        if referrers.len() > MAX_SIGNATURES {
            return Err(archive.damaged(format!("it has more than {MAX_SIGNATURES} signatures")));
        }
        let version = version.to_owned();
        let signatures = referrers
            .into_iter()
            .map(|referrer| Attached::read(&archive, manifest, referrer))
            .collect::<Result<_, _>>()?;
        Ok(Layout { archive, manifest, version, signatures })
    }

    /// Reads the function's manifest and config, and checks that the archive holds exactly what belongs to the bundle.
    pub(crate) fn contents(&self) -> Result<Contents, Error> {
        let archive = &self.archive;
        let manifest: Manifest = decode(archive, "its manifest", &archive.read(self.manifest)?)?;
        let config_piece = manifest.config.piece();
        let wire: Wire = decode(archive, "its config", &archive.read(config_piece)?)?;
        let config = wire.check().map_err(|why| archive.damaged(format!("its config is wrong: {why}")))?;
        let Some((module, layers)) = manifest.layers.split_first() else {
            return Err(archive.damaged("its manifest names no module"));
        };
        let module = module.piece();
        let pieces: Vec<Piece> = layers.iter().map(Descriptor::piece).collect();
        let parts = config.parts();
        if self.version != config.version {
            return Err(archive.damaged("its tag in `index.json` is not its version"));
        }
        if let Some(part) = parts.get(pieces.len()) {
            return Err(
                archive.damaged(format!("its manifest does not have all layers that its config names, as {part}"))
            );
        }
        if pieces.len() > parts.len() {
            return Err(archive.damaged("its manifest has more layers than its config names"));
        }
        let expected = Manifest::function(&config, config_piece, module, &pieces);
        let other = layers.iter().zip(&expected.layers[1..]).position(|(layer, expected)| layer != expected);
        if let Some(other) = other {
            return Err(archive.damaged(format!("its manifest does not describe {} as its config does", parts[other])));
        }
        if manifest != expected {
            return Err(archive.damaged("its manifest and config do not fit each other"));
        }
        let parts = parts.into_iter().zip(pieces).collect();
        let contents = Contents { config, config_piece, module, parts };
        let files = contents.parts.iter().filter(|(part, _)| matches!(part, Part::File(_)));
        if files.map(|(_, piece)| piece.size).fold(0, u64::saturating_add) > MAX_FILES {
            return Err(archive.damaged(format!("its files are longer than {MAX_FILES} bytes together")));
        }
        contents.pieces().try_for_each(|piece| archive.has(piece))?;
        if !archive.holds_only(&self.reached(&contents)) {
            return Err(archive.damaged("it has a blob that does not belong to it"));
        }
        for (part, piece) in &contents.parts {
            if let Part::Labels(_, output) = part {
                let count = self.labels(part, *piece)?;
                labels::fit(&contents.config, output, count).map_err(|why| wrong(archive, part, &why))?;
            }
        }
        Ok(contents)
    }

    /// How many labels there are in a part that is labels.
    pub(crate) fn labels(&self, part: &Part, piece: Piece) -> Result<usize, Error> {
        let labels = labels::parse(&self.archive.read(piece)?);
        labels.map(|labels| labels.len()).map_err(|why| wrong(&self.archive, part, &why))
    }

    /// The digests of everything that the bundle consists of.
    fn reached(&self, contents: &Contents) -> BTreeSet<Digest> {
        contents.pieces().chain(self.documents()).map(|piece| piece.digest).collect()
    }

    /// The function's manifest, and what its signatures are made of.
    pub(crate) fn documents(&self) -> impl Iterator<Item = Piece> {
        let attached = |attached: &Attached| [attached.referrer, attached.piece, Piece::of(EMPTY_CONTENT)];
        std::iter::once(self.manifest).chain(self.signatures.iter().flat_map(attached))
    }
}

impl Contents {
    /// What the manifest names.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> {
        [self.config_piece, self.module].into_iter().chain(self.parts.iter().map(|(_, piece)| *piece))
    }
}

impl Attached {
    fn read(archive: &Archive, subject: Piece, referrer: Piece) -> Result<Self, Error> {
        let manifest: Manifest = decode(archive, "the manifest of a signature", &archive.read(referrer)?)?;
        archive.read(Piece::of(EMPTY_CONTENT))?;
        let [layer] = manifest.layers.as_slice() else {
            return Err(archive.damaged("the manifest of a signature is not that of one envelope"));
        };
        let piece = layer.piece();
        let envelope: Envelope = decode(archive, "a signature", &archive.read(piece)?)?;
        // A key's id is shown to people, so it must look like one.
        if Digest::from_hex(envelope.keyid()).is_none() {
            return Err(archive.damaged("the key id of a signature is no SHA-256 in hexadecimal"));
        }
        if manifest != Manifest::signature(subject, piece, envelope.keyid()) {
            return Err(archive.damaged("the manifest of a signature does not fit it"));
        }
        Ok(Attached { referrer, piece, envelope })
    }
}

fn wrong(archive: &Archive, part: &Part, why: &str) -> Error {
    archive.damaged(format!("{part} are wrong: {why}"))
}

fn decode<T: Serialize + DeserializeOwned>(archive: &Archive, what: &str, content: &[u8]) -> Result<T, Error> {
    oci::decode(content).map_err(|why| archive.damaged(format!("{what} cannot be read: {why}")))
}
