//! The files that bundles bring, laid out as folders that modules may be shown: each is a hard link to its blob in the content store.
//!
//! A folder is made when a function is deployed, and looked through at each wake. It is never written to afterwards, and a guest
//! can only read it. All of it blocks.

use crate::{Error, derived::io_at, error::DeployError};
use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use torpor_bundle::{Blob, Bundle, Digest};

/// What the name of a folder begins with that is not complete.
const UNFINISHED: &str = ".unfinished-";

/// The folders of all bundles. Lives as long as the engine.
pub(crate) struct Folders {
    folder: PathBuf,
    /// Held while a folder is made, so that functions of one bundle do not make it at the same time.
    making: Mutex<()>,
}

/// The files of one bundle.
pub(crate) struct Files {
    /// The digest of the bundle, which names the folder.
    pub(crate) bundle: Digest,
    files: BTreeMap<String, Blob>,
}

impl Files {
    /// The files of a bundle, if it has some.
    pub(crate) fn of(bundle: &Bundle) -> Option<Self> {
        let files = bundle.files.clone();
        (!files.is_empty()).then_some(Files { bundle: bundle.manifest_digest, files })
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.files.values()
    }
}

impl Folders {
    /// Takes over the folder, and removes what a crash left unfinished.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&folder).map_err(io_at("create", &folder))?;
        for (name, path) in entries(&folder) {
            if name.starts_with(UNFINISHED) {
                let _ = fs::remove_dir_all(path);
            }
        }
        Ok(Folders { folder, making: Mutex::default() })
    }

    /// Where the folder of a bundle is, or will be.
    pub(crate) fn path(&self, bundle: Digest) -> PathBuf {
        self.folder.join(bundle.hex())
    }

    /// Makes the folder, unless it is there and whole.
    pub(crate) fn make(&self, files: &Files) -> Result<(), DeployError> {
        files.blobs().try_for_each(Blob::check)?;
        let path = self.path(files.bundle);
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let is_whole = files.files.iter().all(|(name, blob)| blob.is_at(&path.join(name)));
        if is_whole {
            return Ok(());
        }
        let unfinished = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.folder);
        let unfinished = unfinished.map_err(io_at("create a folder in", &self.folder))?;
        for (name, blob) in &files.files {
            let file = unfinished.path().join(name);
            lay(&blob.path, &file).map_err(io_at("write", &file))?;
        }
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at("replace", &path)(error).into()),
            _ => {}
        }
        fs::rename(unfinished.keep(), &path).map_err(io_at("write", &path))?;
        // Links change how the blobs' files look.
        files.blobs().try_for_each(Blob::check)?;
        Ok(())
    }

    /// Removes the folders of bundles that `keep` does not name. Returns how many those were.
    pub(crate) fn collect(&self, keep: &HashSet<Digest>) -> usize {
        let keep: HashSet<_> = keep.iter().map(Digest::hex).collect();
        let old = entries(&self.folder).filter(|(name, _)| !keep.contains(name));
        old.filter(|(_, path)| fs::remove_dir_all(path).is_ok()).count()
    }
}

/// Links a file to its place, or copies it where links cannot be had.
fn lay(blob: &Path, file: &Path) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::hard_link(blob, file).or_else(|_| fs::copy(blob, file).map(drop))
}

fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
}
