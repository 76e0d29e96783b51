//! The files that people write, `bundle.toml` and the trust policy: read with a limit, and judged by line and column.

use crate::{Error, error::io_at};
use serde::de::DeserializeOwned;
use std::{fs::File, io::Read, ops::Range, path::Path};

/// The longest file that is read, in bytes.
const MAX: u64 = 1 << 20;

/// A file's text under its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) file: &'a Path,
    pub(crate) text: &'a str,
}

impl Text<'_> {
    /// Reads TOML into `T`.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        toml::from_str(self.text)
            .map_err(|error| self.mistake(error.span().unwrap_or(0..0), error.message().replace('\n', "; ")))
    }

    /// The error for a mistake at `span`, which is a range of bytes.
    pub(crate) fn mistake(&self, span: Range<usize>, message: impl Into<String>) -> Error {
        let before = &self.text[..self.text.floor_char_boundary(span.start)];
        let begin = before.rfind('\n').map_or(0, |end| end + 1);
        Error::Text {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[begin..].chars().count() + 1,
            message: message.into(),
        }
    }
}

/// Reads a short file of text.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(MAX + 1).read_to_string(&mut text)).map_err(io_at("read", path))?;
    if text.len() as u64 > MAX {
        let too_long = std::io::Error::other(format!("it is longer than {MAX} bytes"));
        return Err(io_at("read", path)(too_long));
    }
    Ok(text)
}
