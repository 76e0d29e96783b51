//! The content store: `blobs/sha256/` in the state directory, one file per blob, named by its digest.
//!
//! A file gets its name only when its content is complete, checked and on disk. So a crash leaves whole blobs, and at most
//! temporary files, which are removed later.

use crate::{Blob, Digest, Error, archive::Archive, blob::Stamp, digest::Piece, error::io_at};
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write},
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
        match Blob::whole(piece, &path) {
            Ok(Some(blob)) if archive.is_stored() => return Ok(blob),
            Ok(Some(blob)) => {
                archive.check(piece, &())?;
                return Ok(blob);
            }
            // There is nothing to mend it with, and the check says what is wrong.
            _ if archive.is_stored() => archive.check(piece, &())?,
            // A blob that is damaged, or cannot be read, is replaced.
            _ => {}
        }
        self.write(piece, |out| archive.copy(piece, out, &path))
    }

    /// Puts a document that is in memory into the store, unless it is there.
    pub(crate) fn put(&self, content: &[u8]) -> Result<Digest, Error> {
        let piece = Piece::of(content);
        let path = self.folder.join(piece.digest.hex());
        if !matches!(Blob::whole(piece, &path), Ok(Some(_))) {
            self.write(piece, |out| out.write_all(content).map_err(io_at("write", &path)))?;
        }
        Ok(piece.digest)
    }

    /// What the store kept of the bundle with this index; see [`Archive::stored`].
    pub(crate) fn archive(&self, index: Digest) -> Result<Archive, Error> {
        Archive::stored(&self.folder, index)
    }

    /// Removes every blob that `keep` does not name, and returns how many those were. Nobody may put blobs into the store
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read. A blob that cannot be removed stays until the next time.
    pub fn collect(&self, keep: &HashSet<Digest>) -> Result<usize, Error> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder).map_err(io_at("read", &self.folder))?.flatten() {
            let digest = entry.file_name().to_str().and_then(Digest::from_hex);
            if digest.is_some_and(|digest| !keep.contains(&digest)) && fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Writes a blob under a temporary name, and gives it its own when all of it is on disk.
    fn write(&self, piece: Piece, content: impl FnOnce(&mut File) -> Result<(), Error>) -> Result<Blob, Error> {
        let path = self.folder.join(piece.digest.hex());
        let mut temporary = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&self.folder)
            .map_err(io_at("create a file in", &self.folder))?;
        content(temporary.as_file_mut())?;
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
        #[expect(
            clippy::disallowed_methods,
            reason = "another process may have written it, which is told by its time on the wall"
        )]
        let stale = || -> Option<bool> { Some(entry.metadata().ok()?.modified().ok()?.elapsed().ok()? > STALE) };
        if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) && stale() == Some(true) {
            // Another process may have been faster, and a file that stays does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}
