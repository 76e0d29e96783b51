//! What a publisher signs, and how: a DSSE envelope around an in-toto statement about a function's manifest. Pure.
//!
//! Sources: DSSE protocol v1.0.2 (`PAE`, JSON envelope) and the in-toto Attestation Framework's Statement v1.

use crate::{Config, Digest, key};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

const PAYLOAD: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "urn:torpor:function:v1";

/// A signed payload.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Envelope {
    payload: String,
    payload_type: String,
    /// One: each publisher has an envelope of their own.
    signatures: [EnvelopeSignature; 1],
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

/// A claim about some content. Fields that it may have beside these are ignored, as in-toto demands.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate: Predicate,
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Subject {
    digest: SubjectDigest,
    #[serde(default)]
    name: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct SubjectDigest {
    /// In hexadecimal, without `sha256:`.
    sha256: String,
}

/// What is claimed: that this content is that version of a function.
#[derive(Debug, Serialize, Deserialize)]
struct Predicate {
    name: String,
    version: String,
}

impl Statement {
    /// That the manifest `subject` is the function that `config` describes.
    pub(crate) fn new(subject: Digest, config: &Config) -> Self {
        Statement {
            kind: STATEMENT.to_owned(),
            predicate: Predicate { name: config.name.to_string(), version: config.version.clone() },
            predicate_type: PREDICATE.to_owned(),
            subject: vec![Subject { digest: SubjectDigest { sha256: subject.hex() }, name: config.name.to_string() }],
        }
    }

    /// Checks that this is a claim of our kind about the manifest `subject`.
    pub(crate) fn is_about(&self, subject: Digest) -> Result<(), String> {
        if self.kind != STATEMENT || self.predicate_type != PREDICATE {
            return Err("it states something else than what a function is".to_owned());
        }
        if !self.subject.iter().any(|found| found.digest.sha256 == subject.hex()) {
            return Err("it was made for another bundle".to_owned());
        }
        Ok(())
    }

    /// Checks that the claim names what the bundle says of itself.
    pub(crate) fn names(&self, config: &Config) -> Result<(), String> {
        if self.predicate.name != config.name.as_str() || self.predicate.version != config.version {
            return Err("it names another function or version than the bundle does".to_owned());
        }
        Ok(())
    }
}

impl Envelope {
    pub(crate) fn sign(key: &SigningKey, statement: &Statement) -> Self {
        let payload = crate::oci::encode(statement);
        let signature = key.sign(&pae(PAYLOAD, &payload));
        Envelope {
            payload: BASE64_STANDARD.encode(payload),
            payload_type: PAYLOAD.to_owned(),
            signatures: [EnvelopeSignature {
                keyid: key::keyid(&key.verifying_key()),
                sig: BASE64_STANDARD.encode(signature.to_bytes()),
            }],
        }
    }

    /// The key that is said to have signed this; nothing proves it but [`Envelope::verify`].
    pub(crate) fn keyid(&self) -> &str {
        &self.signatures[0].keyid
    }

    /// The statement, if `key` has signed it.
    pub(crate) fn verify(&self, key: &VerifyingKey) -> Result<Statement, String> {
        let false_signature = || "the signature does not fit".to_owned();
        let payload = self.payload()?;
        let other_kind = |_| "it is no Ed25519 signature".to_owned();
        let signature = BASE64_STANDARD.decode(&self.signatures[0].sig).map_err(|_| "it is not base64".to_owned())?;
        let signature = Signature::from_slice(&signature).map_err(other_kind)?;
        key.verify_strict(&pae(&self.payload_type, &payload), &signature).map_err(|_| false_signature())?;
        claim(&payload)
    }

    /// The statement, whoever has signed it.
    pub(crate) fn statement(&self) -> Result<Statement, String> {
        claim(&self.payload()?)
    }

    /// What was signed. Its type is looked at first, so that nothing of another type is ever weighed.
    fn payload(&self) -> Result<Vec<u8>, String> {
        if self.payload_type != PAYLOAD {
            return Err("its payload is no in-toto statement".to_owned());
        }
        BASE64_STANDARD.decode(&self.payload).map_err(|_| "its payload is not base64".to_owned())
    }
}

fn claim(payload: &[u8]) -> Result<Statement, String> {
    serde_json::from_slice(payload).map_err(|_| "its payload is no statement about a function".to_owned())
}

/// DSSE's pre-authentication encoding: what is really signed, so that a payload can never be taken for one of another type.
fn pae(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    text.extend_from_slice(payload);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_protocol() {
        // The example of the DSSE specification.
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(pae("http://example.com/HelloWorld", b"hello world"), expected);
    }
}
