//! What the state directory remembers of deployments: `deployments/NAME.json` for every function, with its current revision and
//! those before. Each change writes a file whole, so at any moment it holds either the old list of revisions or the new one.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};
use torpor_bundle::Digest;
use torpor_manifest::FunctionName;

/// Revisions that are remembered of one function.
const HISTORY: usize = 10;
/// What this file writes, and all that it reads.
const FORMAT: u32 = 1;
const ENDING: &str = ".json";
const TEMPORARY: &str = ".tmp";

/// The folder of records.
#[derive(Debug)]
pub(crate) struct Records {
    folder: PathBuf,
}

/// The revisions of one function, oldest first; there is at least one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    format: u32,
    revisions: Vec<Kept>,
}

/// One revision: all that is needed to deploy it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub(crate) number: u64,
    /// In seconds since 1970.
    pub(crate) deployed: u64,
    pub(crate) by: By,
    /// The manifest's file, to which the paths in it are relative.
    pub(crate) file: PathBuf,
    /// The manifest as it was written.
    pub(crate) text: String,
    /// The digest of the bundle's manifest.
    pub(crate) digest: Digest,
    /// The digest of the bundle's index, by which the content store finds it.
    pub(crate) index: Digest,
    /// The blobs that it consists of.
    pub(crate) blobs: BTreeSet<Digest>,
}

/// What deployed a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    /// A file of `serve --manifests`.
    Manifests,
    /// `torpor deploy`.
    Deploy,
    /// `torpor rollback`.
    Rollback,
}

impl By {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            By::Manifests => "manifests",
            By::Deploy => "deploy",
            By::Rollback => "rollback",
        }
    }
}

impl Record {
    /// The record of `old` with another revision. Drops what is too old; but the last revision from a file stays, since it
    /// tells whether that file has changed.
    pub(crate) fn with(old: Option<&Record>, revision: Kept) -> Self {
        let mut revisions = old.map_or_else(Vec::new, |old| old.revisions.clone());
        revisions.push(revision);
        let from_file = revisions.iter().rposition(|revision| revision.by == By::Manifests);
        let surplus = revisions.len().saturating_sub(HISTORY);
        let mut position = 0;
        revisions.retain(|_| {
            position += 1;
            position > surplus || from_file == Some(position - 1)
        });
        Record { format: FORMAT, revisions }
    }

    /// The number of the next revision.
    pub(crate) fn next(old: Option<&Record>) -> u64 {
        old.map_or(1, |old| old.current().number + 1)
    }

    /// The revision that is served.
    pub(crate) fn current(&self) -> &Kept {
        self.revisions.last().expect("a record has a revision")
    }

    /// The one before it.
    pub(crate) fn previous(&self) -> Option<&Kept> {
        self.revisions.iter().rev().nth(1)
    }

    pub(crate) fn revision(&self, number: u64) -> Option<&Kept> {
        self.revisions.iter().find(|revision| revision.number == number)
    }

    /// The newest one that a file of `serve --manifests` gave.
    pub(crate) fn last_of_file(&self) -> Option<&Kept> {
        self.revisions.iter().rev().find(|revision| revision.by == By::Manifests)
    }

    /// All that are remembered, each with the one before it, oldest first.
    pub(crate) fn history(&self) -> impl DoubleEndedIterator<Item = (Option<&Kept>, &Kept)> {
        let before = |index: usize| index.checked_sub(1).and_then(|index| self.revisions.get(index));
        self.revisions.iter().enumerate().map(move |(index, revision)| (before(index), revision))
    }

    /// The numbers of all, oldest first.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.revisions.iter().map(|revision| revision.number)
    }

    /// The blobs of all.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Digest> {
        self.revisions.iter().flat_map(|revision| revision.blobs.iter().copied())
    }
}

impl Records {
    /// Opens the folder in the state directory, and clears away what a crash left half-written.
    pub(crate) fn open(state: &Path) -> Result<Self> {
        let folder = state.join("deployments");
        let opened = fs::create_dir_all(&folder).and_then(|()| {
            for entry in fs::read_dir(&folder)?.flatten() {
                if entry.file_name().as_encoded_bytes().ends_with(TEMPORARY.as_bytes()) {
                    // A leftover that cannot be removed is in nobody's way.
                    let _ = fs::remove_file(entry.path());
                }
            }
            Ok(())
        });
        opened.with_context(|| format!("cannot use `{}`", folder.display()))?;
        Ok(Records { folder })
    }

    /// Reads all records. One that cannot be read is its function's misfortune alone.
    pub(crate) fn all(&self) -> Result<Vec<(FunctionName, Result<Record>)>> {
        let entries = fs::read_dir(&self.folder).with_context(|| format!("cannot read `{}`", self.folder.display()))?;
        let named = |entry: fs::DirEntry| -> Option<FunctionName> {
            entry.file_name().to_str()?.strip_suffix(ENDING)?.parse().ok()
        };
        Ok(entries.flatten().filter_map(named).map(|name| (name.clone(), self.read(&name))).collect())
    }

    fn read(&self, name: &FunctionName) -> Result<Record> {
        let path = self.path(name);
        let what = || format!("the deployment record `{}` cannot be read; deploy `{name}` again", path.display());
        let record: Record = serde_json::from_slice(&fs::read(&path).with_context(what)?).with_context(what)?;
        ensure!(record.format == FORMAT && !record.revisions.is_empty(), "{}: it is of another version", what());
        Ok(record)
    }

    /// Writes a record, such that a crash leaves the old one or the new one. It is on disk afterwards.
    pub(crate) fn write(&self, name: &FunctionName, record: &Record) -> Result<()> {
        let path = self.path(name);
        let write = || -> io::Result<()> {
            let mut temporary = tempfile::Builder::new().suffix(TEMPORARY).tempfile_in(&self.folder)?;
            temporary.write_all(&serde_json::to_vec(record)?)?;
            temporary.as_file().sync_all()?;
            temporary.persist(&path)?;
            self.sync()
        };
        write().with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Writes many records as [`Records::write`] does, but waits for the disk once and not for each.
    pub(crate) fn write_many(&self, records: &[(FunctionName, Record)]) -> Result<()> {
        let write = || -> io::Result<()> {
            let mut written = Vec::with_capacity(records.len());
            for (name, record) in records {
                let mut temporary = tempfile::Builder::new().suffix(TEMPORARY).tempfile_in(&self.folder)?;
                temporary.write_all(&serde_json::to_vec(record)?)?;
                if cfg!(not(target_os = "linux")) {
                    temporary.as_file().sync_all()?;
                }
                // Closed, since there may be more of them than a process may have files open.
                written.push((temporary.into_temp_path(), self.path(name)));
            }
            #[cfg(target_os = "linux")]
            rustix::fs::syncfs(File::open(&self.folder)?)?;
            for (temporary, path) in written {
                temporary.persist(path)?;
            }
            self.sync()
        };
        write().with_context(|| format!("cannot write `{}`", self.folder.display()))
    }

    /// Removes a record, if there is one. It is gone from the disk afterwards.
    pub(crate) fn remove(&self, name: &FunctionName) -> Result<()> {
        let path = self.path(name);
        let remove = || match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| self.sync()),
        };
        remove().with_context(|| format!("cannot remove `{}`", path.display()))
    }

    fn path(&self, name: &FunctionName) -> PathBuf {
        self.folder.join(format!("{name}{ENDING}"))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(number: u64, by: By) -> Kept {
        let digest = Digest::of(&number.to_le_bytes());
        let blobs = BTreeSet::from([digest]);
        Kept { number, deployed: 0, by, file: "/a.toml".into(), text: String::new(), digest, index: digest, blobs }
    }

    fn history(kinds: &[By]) -> Record {
        let add = |old: Option<Record>, by: &By| {
            let number = Record::next(old.as_ref());
            Some(Record::with(old.as_ref(), kept(number, *by)))
        };
        kinds.iter().fold(None, add).expect("at least one")
    }

    #[test]
    fn a_history_is_bounded_but_remembers_what_a_file_gave() {
        let mut kinds = vec![By::Deploy, By::Manifests];
        kinds.extend([By::Deploy; 20]);
        let record = history(&kinds);
        assert_eq!(record.numbers().collect::<Vec<_>>(), [2, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22]);
        assert_eq!(record.last_of_file().map(|revision| revision.number), Some(2));
        assert_eq!(record.previous().map(|revision| revision.number), Some(21));
        assert!(history(&[By::Deploy]).previous().is_none());
    }

    #[test]
    fn what_is_written_is_read_and_a_damaged_record_is_one_function_s() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        let name = |name: &str| name.parse::<FunctionName>().unwrap();
        records.write(&name("a"), &history(&[By::Manifests, By::Rollback])).unwrap();
        fs::write(folder.path().join("deployments/b.json"), b"{").unwrap();
        fs::write(folder.path().join("deployments/half.tmp"), b"{").unwrap();
        let records = Records::open(folder.path()).unwrap();
        assert!(!folder.path().join("deployments/half.tmp").exists());
        let mut all = records.all().unwrap();
        all.sort_by(|left, right| left.0.cmp(&right.0));
        let [(a, Ok(record)), (b, Err(error))] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((a.as_str(), b.as_str(), record.current().number), ("a", "b", 2));
        assert!(error.to_string().contains("b.json"), "{error:#}");
        records.remove(&name("a")).unwrap();
        records.remove(&name("a")).unwrap();
        assert_eq!(records.all().unwrap().len(), 1);

        let many = [("c", By::Deploy), ("d", By::Manifests)].map(|(each, by)| (name(each), history(&[by])));
        records.write_many(&many).unwrap();
        assert!(many.iter().all(|(each, _)| records.read(each).is_ok()), "{:?}", records.all());
        assert_eq!(fs::read_dir(folder.path().join("deployments")).unwrap().count(), 3, "nothing else is left");
    }
}
