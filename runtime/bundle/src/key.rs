//! Ed25519 keys in the PEM forms that openssl reads and writes: PKCS#8 for private keys, SPKI for public ones.

use crate::{Digest, Error, error::io_at, text};
use ed25519_dalek::{
    SigningKey, VerifyingKey,
    pkcs8::{
        DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes, spki::der::pem::LineEnding,
    },
};
use rand_core::OsRng;
use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A new pair of keys.
#[derive(Debug)]
pub struct KeyFiles {
    /// `STEM.key.pem`, which only this user can read.
    pub private: PathBuf,
    /// `STEM.pub.pem`, for the trust policies of operators.
    pub public: PathBuf,
    /// The SHA-256 of the public key's DER form, in hexadecimal.
    pub keyid: String,
}

/// Makes a new pair of keys, `STEM.key.pem` and `STEM.pub.pem`.
///
/// # Errors
/// [`Error::KeyExists`] when one of the files is there, and [`Error::Io`] when one cannot be written.
pub fn keygen(stem: &Path) -> Result<KeyFiles, Error> {
    let name = |suffix: &str| {
        let mut name = OsString::from(stem);
        name.push(suffix);
        PathBuf::from(name)
    };
    let files = |keyid| KeyFiles { private: name(".key.pem"), public: name(".pub.pem"), keyid };
    let key = SigningKey::generate(&mut OsRng);
    let files = files(keyid(&key.verifying_key()));
    // Without the public half: openssl 3.0 does not read the newer form of PKCS#8 that holds both.
    let bare = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let private = bare.to_pkcs8_pem(LineEnding::LF).map_err(|error| unusable(&files.private, "private", error))?;
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF);
    let public = public.map_err(|error| unusable(&files.public, "public", error))?;
    create(&files.private, private.as_bytes(), 0o600)?;
    create(&files.public, public.as_bytes(), 0o644).inspect_err(|_| {
        // A private key without its public half is of no use. It was made just now, so nothing is lost.
        let _ = fs::remove_file(&files.private);
    })?;
    Ok(files)
}

fn create(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let mut file = options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::KeyExists { path: path.to_owned() },
        _ => io_at("write", path)(error),
    })?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|error| {
        // Half a key would stand in the way of the next attempt.
        let _ = fs::remove_file(path);
        io_at("write", path)(error)
    })
}

/// A publisher's private key. It is wiped from memory when it is dropped.
pub struct PrivateKey(pub(crate) SigningKey);

impl PrivateKey {
    /// Reads a private key that [`keygen`] or `openssl genpkey -algorithm ed25519` wrote.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, and [`Error::Key`] when it holds no such key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let pem = text::read(path)?;
        SigningKey::from_pkcs8_pem(&pem).map(PrivateKey).map_err(|error| unusable(path, "private", error))
    }

    /// The id of the key: the SHA-256 of the public key's DER form, in hexadecimal.
    pub fn keyid(&self) -> String {
        keyid(&self.0.verifying_key())
    }
}

/// Reads a public key in PEM.
pub(crate) fn public(pem: &str) -> Result<VerifyingKey, String> {
    let key = VerifyingKey::from_public_key_pem(pem.trim_start()).map_err(|error| error.to_string())?;
    // Such a key accepts signatures that nobody made.
    if key.is_weak() { Err("it is a weak key".to_owned()) } else { Ok(key) }
}

/// The SHA-256 of the key's SPKI DER form, in hexadecimal, as `openssl pkey -pubin -outform DER | sha256sum` prints it.
pub(crate) fn keyid(key: &VerifyingKey) -> String {
    let der = key.to_public_key_der().expect("an Ed25519 key always has the same 44 bytes");
    Digest::of(der.as_bytes()).hex()
}

pub(crate) fn unusable(path: &Path, kind: &'static str, why: impl ToString) -> Error {
    Error::Key { path: path.to_owned(), kind, why: why.to_string() }
}
