//! Adds a publisher's signature to a bundle. The manifest and its digest stay as they are; only the file around them grows.

use crate::{
    Digest, Error, PrivateKey, Progress,
    archive::{self, Content},
    digest::Piece,
    dsse::{Envelope, Statement},
    layout::Layout,
    oci::{self, EMPTY_CONTENT, Index, Manifest},
};
use std::{collections::BTreeMap, path::Path};

/// What was signed.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The digest of the bundle's manifest, which the signature is about.
    pub digest: Digest,
    /// The id of the key that signed it.
    pub keyid: String,
}

/// Signs the bundle `file` in place. An older signature with the same key is replaced; those with other keys stay.
///
/// # Errors
/// [`Error::Damaged`] when the file is no whole bundle; it is not changed then. Else [`Error::Io`].
pub fn sign(key: &PrivateKey, file: &Path) -> Result<Signed, Error> {
    sign_with(key, file, &())
}

/// As [`sign`], and tells `progress` how far it is.
///
/// # Errors
/// As [`sign`].
pub fn sign_with(key: &PrivateKey, file: &Path, progress: &dyn Progress) -> Result<Signed, Error> {
    let layout = Layout::open(file)?;
    let contents = layout.contents()?;
    progress.expect(contents.pieces().chain([layout.manifest]).map(|piece| piece.size).sum());
    let keyid = key.keyid();
    let mut blobs = BTreeMap::new();
    let mut keep = |piece: Piece| drop(blobs.insert(piece.digest, Content::Archive(&layout.archive, piece.size)));
    contents.pieces().chain([layout.manifest]).for_each(&mut keep);
    let mut referrers = Vec::new();
    for other in layout.signatures.iter().filter(|attached| attached.envelope.keyid() != keyid) {
        keep(other.referrer);
        keep(other.piece);
        referrers.push(other.referrer);
    }
    let envelope = Envelope::sign(&key.0, &Statement::new(layout.manifest.digest, &contents.config));
    let envelope = oci::encode(&envelope);
    let referrer = oci::encode(&Manifest::signature(layout.manifest, Piece::of(&envelope), &keyid));
    referrers.push(Piece::of(&referrer));
    for document in [envelope, referrer, EMPTY_CONTENT.to_vec()] {
        blobs.insert(Digest::of(&document), Content::Bytes(document));
    }
    let index = oci::encode(&Index::new(layout.manifest, &contents.config.version, referrers));
    archive::write(file, &blobs, &index, progress)?;
    Ok(Signed { digest: layout.manifest.digest, keyid })
}
