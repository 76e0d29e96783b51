//! The content store: `blobs/sha256/` in the state directory, one file per blob, named by its digest.
//!
//! A file gets its name only when its content is complete, checked and on disk. So a crash leaves whole blobs, and at most
//! temporary files, which are removed later.

use crate::{Blob, Error, archive::Archive, blob::Stamp, digest::Piece, error::io_at};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

const TEMPORARY: &str = ".new-";

/// The age at which a temporary file was surely left by a crash: no ingestion takes that long.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The content store of a state directory. Several processes may use one at the same time.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens the store in the state directory `state`, and makes it where there is none.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be made or read.
    pub fn open(state: &Path) -> Result<Self, Error> {
        let folder = state.join("blobs").join("sha256");
        fs::create_dir_all(&folder).map_err(io_at("create", &folder))?;
        remove_stale(&folder).map_err(io_at("clean", &folder))?;
        Ok(Store { folder })
    }

    /// Puts a blob of `archive` into the store, unless a whole one is there. The archive's blob is read and checked either way.
    pub(crate) fn ingest(&self, archive: &Archive, piece: Piece) -> Result<Blob, Error> {
        let path = self.folder.join(piece.digest.hex());
        // A blob that is damaged, or cannot be read, is replaced.
        if let Ok(Some(blob)) = Blob::whole(piece, &path) {
            archive.check(piece, &())?;
            return Ok(blob);
        }
        let mut temporary = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&self.folder)
            .map_err(io_at("create a file in", &self.folder))?;
        archive.copy(piece, temporary.as_file_mut(), &path)?;
        let finish = || -> io::Result<Stamp> {
            temporary.as_file().sync_all()?;
            let file = temporary.persist(&path)?;
            File::open(&self.folder)?.sync_all()?;
            // Taken last, since on some systems a rename changes the looks of a file.
            Ok(Stamp::of(&file.metadata()?))
        };
        let seen = finish().map_err(io_at("write", &path))?;
        Ok(Blob::new(piece, path, seen))
    }
}

fn remove_stale(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let stale = || -> Option<bool> { Some(entry.metadata().ok()?.modified().ok()?.elapsed().ok()? > STALE) };
        if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) && stale() == Some(true) {
            // Another process may have been faster, and a file that stays does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
