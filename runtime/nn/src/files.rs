//! The files that one model consists of.

use crate::{Error, ModelFormat, ir};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// A description of a network that is longer than this is none.
const MAX_DESCRIPTION: u64 = 256 * 1024 * 1024;

/// The files of one model, and what they are. The names of the files say nothing: a content store names them by their digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFiles {
    /// The format.
    pub format: ModelFormat,
    /// The file that is the model, or describes it.
    pub model: PathBuf,
    /// The file of its weights, where the format has one.
    pub weights: Option<PathBuf>,
}

impl ModelFiles {
    /// A model that is one file.
    pub fn one(format: ModelFormat, model: impl Into<PathBuf>) -> Self {
        ModelFiles { format, model: model.into(), weights: None }
    }

    /// Checks what is known of the format without its library: that the files are all there, and refer to no others. Reads the
    /// description of a model that has one.
    ///
    /// # Errors
    /// [`Error::Files`].
    pub fn check(&self) -> Result<(), Error> {
        let refused = |reason: String| Error::Files { model: self.model.display().to_string(), reason };
        match (self.format, &self.weights) {
            (ModelFormat::OpenVinoIr, Some(weights)) => {
                let (text, weights) = read(&self.model, weights).map_err(|error| refused(error.to_string()))?;
                ir::check(&text, weights).map_err(|why| refused(why.to_string()))
            }
            (ModelFormat::OpenVinoIr, None) => Err(refused("the file of its weights is missing".to_owned())),
            (format, Some(_)) => Err(refused(format!("{format} models have no second file"))),
            (_, None) => Ok(()),
        }
    }
}

/// The description of a network, and the size of its weights.
fn read(model: &Path, weights: &Path) -> std::io::Result<(Vec<u8>, u64)> {
    let weights = fs::metadata(weights)?.len();
    if fs::metadata(model)?.len() > MAX_DESCRIPTION {
        return Err(std::io::Error::other("it is longer than any description of a network"));
    }
    Ok((fs::read(model)?, weights))
}

impl fmt::Display for ModelFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model.display().fmt(f)
    }
}
