//! Whether files are still as they were when something was made of them, by length and time of change, so that a second run has
//! nothing to read. A stamp is a text file with one line per file; without it, or with another line, the work is done again.

use anyhow::{Context, Result};
use std::{
    fmt::Write,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// A list of files and of what else (hashes, versions) a piece of work depends on.
pub(crate) struct Stamp {
    path: PathBuf,
    files: Vec<PathBuf>,
    facts: String,
}

impl Stamp {
    /// A stamp kept at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Stamp { path, files: Vec::new(), facts: String::new() }
    }

    /// Adds a file that the work read or wrote.
    pub(crate) fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Adds a word that the work depends on.
    pub(crate) fn fact(mut self, fact: &str) -> Self {
        self.facts.push_str(fact);
        self.facts.push('\n');
        self
    }

    /// Whether everything is as it was when the stamp was set.
    pub(crate) fn holds(&self) -> bool {
        self.text().is_some_and(|now| fs::read_to_string(&self.path).is_ok_and(|then| now == then))
    }

    /// Remembers that the work is done. Call it after the work alone, so that an interrupted one is done again.
    pub(crate) fn set(&self) -> Result<()> {
        let text = self.text().context("a file that was just made is gone again; is another run cleaning up?")?;
        replace(&self.path, text.as_bytes())
    }

    /// What the stamp says now; `None` where a file is missing.
    fn text(&self) -> Option<String> {
        let mut text = self.facts.clone();
        for path in &self.files {
            let metadata = fs::metadata(path).ok()?;
            let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            writeln!(text, "{} {} {}", path.display(), metadata.len(), changed.as_nanos()).ok()?;
        }
        Some(text)
    }
}

/// Writes `path` whole or not at all, and makes its folder.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().permissions(readable()).tempfile_in(folder)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("`{}` cannot be written", path.display()))
}

/// What a file gets that others may read; temporary files are for their owner alone.
pub(crate) fn readable() -> Permissions {
    Permissions::from_mode(0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(dir: &Path, fact: &str) -> Stamp {
        Stamp::new(dir.join("stamp")).file(dir.join("a")).fact(fact)
    }

    #[test]
    fn it_holds_until_something_changes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(stamp(dir.path(), "1").set().is_err(), "a missing file cannot be stamped");
        fs::write(dir.path().join("a"), "one").unwrap();
        assert!(!stamp(dir.path(), "1").holds(), "nothing was done yet");
        stamp(dir.path(), "1").set().unwrap();
        assert!(stamp(dir.path(), "1").holds());
        assert!(!stamp(dir.path(), "2").holds(), "another fact");
        fs::write(dir.path().join("a"), "truncate").unwrap();
        assert!(!stamp(dir.path(), "1").holds(), "another length");
    }

    #[test]
    fn a_change_of_the_same_length_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        stamp(dir.path(), "").set().unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
        assert!(!stamp(dir.path(), "").holds());
    }
}
