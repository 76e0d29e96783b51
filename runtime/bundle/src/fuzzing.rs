//! Parsers of documents on their own, for fuzz targets: in a whole bundle each stands behind a digest, which no fuzzer would guess.
//! Each says whether it accepted the document. They are nobody else's business.

use crate::{
    config::Wire,
    dsse::Envelope,
    oci::{self, Index, Manifest},
};
use ed25519_dalek::SigningKey;

/// An `index.json`.
pub fn index(content: &[u8]) -> bool {
    oci::decode::<Index>(content).is_ok_and(|index| index.parts().is_ok())
}

/// A manifest, of a function or of a signature.
pub fn manifest(content: &[u8]) -> bool {
    oci::decode::<Manifest>(content).is_ok_and(|manifest| manifest.layers.iter().all(|layer| layer.piece().size > 0))
}

/// The config of a function.
pub fn config(content: &[u8]) -> bool {
    oci::decode::<Wire>(content).is_ok_and(|wire| wire.check().is_ok())
}

/// A signature's envelope, with a statement about a function in it. No document is genuinely signed with a key that signs nothing.
pub fn envelope(content: &[u8]) -> bool {
    let Ok(envelope) = oci::decode::<Envelope>(content) else { return false };
    let key = SigningKey::from_bytes(&[1; 32]).verifying_key();
    assert!(envelope.verify(&key).is_err(), "a signature that nobody made is genuine");
    !envelope.keyid().is_empty() && envelope.statement().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect;
    use std::{fs, path::Path};

    /// The seeds of a target: those whose names begin with `wrong` are refused, and the others are accepted, so that a fuzzer begins
    /// on both sides of the checks.
    #[track_caller]
    fn seeds(target: &str, accepts: impl Fn(&Path, &[u8]) -> bool) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(target);
        let (mut right, mut wrong) = (0, 0);
        for seed in fs::read_dir(folder).unwrap() {
            let path = seed.unwrap().path();
            // What a fuzzer has found is named by its hash, and is not part of the repository.
            let Some(name) = path.file_stem().filter(|_| path.extension().is_some()) else { continue };
            let expected = !name.as_encoded_bytes().starts_with(b"wrong");
            assert_eq!(accepts(&path, &fs::read(&path).unwrap()), expected, "`{}`", path.display());
            *(if expected { &mut right } else { &mut wrong }) += 1;
        }
        assert!(right > 0 && wrong > 0, "`{target}` has {right} right and {wrong} wrong seeds");
    }

    #[test]
    fn seeds_are_on_both_sides() {
        seeds("index", |_, content| index(content));
        seeds("oci_manifest", |_, content| manifest(content));
        seeds("config", |_, content| config(content));
        seeds("envelope", |_, content| envelope(content));
        seeds("archive", |path, _| inspect(path).is_ok());
    }
}
