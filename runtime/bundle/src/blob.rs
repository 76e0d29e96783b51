//! One file of the content store, and the cheap check before each use that it still is what was verified.

use crate::{
    Digest, Error,
    digest::{self, Piece},
    error::io_at,
};
use std::{
    fs::{File, Metadata},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// A file of the content store whose content was verified when this value was made.
#[derive(Debug, Clone)]
pub struct Blob {
    /// What its content must be.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where it is.
    pub path: PathBuf,
    /// How the file looked when its content was last found whole. Held while a file that looks different is read anew, so that
    /// many users of one blob read it once.
    seen: Arc<Mutex<Stamp>>,
}

/// How a file looks without reading it. A file that looks as it did has the content it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    /// Inode, and the time of its last change, which unlike the time of modification cannot be set at will.
    #[cfg(unix)]
    inode: (u64, i64, i64),
}

impl Stamp {
    /// How the file at `path` looks now; `None` for one that is not there, or cannot be looked at.
    pub fn at(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|metadata| Stamp::of(&metadata))
    }

    /// The looks of the file that `metadata` is of.
    pub fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        Stamp {
            size: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            inode: (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Blob {
    pub(crate) fn new(piece: Piece, path: PathBuf, seen: Stamp) -> Self {
        Blob { digest: piece.digest, size: piece.size, path, seen: Arc::new(Mutex::new(seen)) }
    }

    /// The blob at `path`, if the file there is whole.
    pub(crate) fn whole(piece: Piece, path: &Path) -> io::Result<Option<Self>> {
        Ok(whole(piece, path)?.map(|seen| Blob::new(piece, path.to_owned(), seen)))
    }

    /// Checks that the file is still what was verified. Costs one look at its metadata; only a file that looks different is read.
    ///
    /// # Errors
    /// [`Error::Blob`] when it is gone or its content has changed.
    pub fn check(&self) -> Result<(), Error> {
        let damaged = |why: &str| Error::Blob { digest: self.digest, why: format!("`{}` {why}", self.path.display()) };
        let read = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => damaged("is gone"),
            _ => io_at("read", &self.path)(error),
        };
        let found = Stamp::of(&self.path.metadata().map_err(read)?);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen != found {
            let piece = Piece { digest: self.digest, size: self.size };
            *seen = whole(piece, &self.path).map_err(read)?.ok_or_else(|| damaged("has other content"))?;
        }
        Ok(())
    }

    /// Whether the file at `path` is this blob's own file, or one of the same content. The blob must have passed a check.
    pub fn is_at(&self, path: &Path) -> bool {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A link that leads elsewhere is no file of ours, whatever it leads to.
        let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        let same = |metadata: Metadata| Stamp::of(&metadata) == seen;
        let piece = Piece { digest: self.digest, size: self.size };
        is_file && (path.metadata().is_ok_and(same) || whole(piece, path).is_ok_and(|stamp| stamp.is_some()))
    }
}

/// Reads the file, and gives its looks if its content is `piece`.
fn whole(piece: Piece, path: &Path) -> io::Result<Option<Stamp>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    // The looks are taken first, so that a change while the file is read shows in the next check.
    let whole = metadata.len() == piece.size && digest::hash(&file, &())? == piece;
    Ok(whole.then(|| Stamp::of(&metadata)))
}
