//! SHA-256 digests as OCI writes them, and copying that hashes on the way. Pure but for the given reader and writer.

use crate::{Progress, progress::Counted};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    io::{self, Read, Write},
    str::FromStr,
};

/// The length of the buffer that models are copied through.
const BUFFER: usize = 128 << 10;

/// The SHA-256 of some content; written `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Digest(Sha256::digest(content).into())
    }

    /// The 64 hexadecimal digits alone.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads what [`Digest::hex`] wrote, and nothing else: upper-case digits are another spelling, so they are refused.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).ok()?;
        (!text.bytes().any(|digit| digit.is_ascii_uppercase())).then_some(Digest(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `sha256:` and 64 lower-case hexadecimal digits")]
pub struct InvalidDigest;

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        text.strip_prefix("sha256:").and_then(Digest::from_hex).ok_or(InvalidDigest)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Some content of a bundle: what identifies it and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Piece {
    pub(crate) fn of(content: &[u8]) -> Self {
        Piece { digest: Digest::of(content), size: content.len() as u64 }
    }
}

/// Which side of a copy failed.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies all of `reader` and says what it was.
pub(crate) fn copy(mut reader: impl Read, mut writer: impl Write) -> Result<Piece, CopyError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        let length = match reader.read(&mut buffer) {
            Ok(0) => return Ok(Piece { digest: Digest(hasher.finalize().into()), size }),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        hasher.update(&buffer[..length]);
        writer.write_all(&buffer[..length]).map_err(CopyError::Write)?;
        size += length as u64;
    }
}

/// Reads `reader` to its end and says what it was.
pub(crate) fn hash(reader: impl Read, progress: &dyn Progress) -> io::Result<Piece> {
    copy(reader, Counted(io::sink(), progress)).map_err(|(CopyError::Read(error) | CopyError::Write(error))| error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_digest_of_nothing() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), format!("sha256:{hex}"));
        assert_eq!(Digest::of(b"").hex(), hex);
        assert_eq!(format!("sha256:{hex}").parse(), Ok(Digest::of(b"")));
    }

    #[test]
    fn only_one_spelling_is_a_digest() {
        let hex = Digest::of(b"").hex();
        for bad in
            [hex.clone(), format!("SHA256:{hex}"), format!("sha256:{}", hex.to_uppercase()), format!("sha256:{hex}0")]
        {
            assert_eq!(bad.parse::<Digest>(), Err(InvalidDigest), "{bad}");
        }
    }

    #[test]
    fn copying_hashes_more_than_one_buffer() {
        let content = vec![7; BUFFER * 2 + 1];
        let mut copied = Vec::new();
        assert_eq!(copy(content.as_slice(), &mut copied).unwrap(), Piece::of(&content));
        assert_eq!(copied, content);
    }
}
