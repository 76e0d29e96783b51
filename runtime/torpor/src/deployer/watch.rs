//! Which manifests have changed since the last look. Looks at the files' metadata and not for the system's events: those do not come
//! from other machines' disks, get lost when there are many, and say nothing of a bundle behind a symbolic link.

use super::files::Given;
use crate::{
    advice::told,
    deployments::{self, ManifestFile, Variables},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
};
use torpor_bundle::Stamp;
use torpor_manifest::{Diagnostics, check_together, parse};

/// The files of `serve --manifests`, and how they looked. Lives as long as the host.
pub(crate) struct Watch {
    sources: Vec<Source>,
    variables: Variables,
    /// The bundle that each file named when it was last right.
    bundles: BTreeMap<PathBuf, PathBuf>,
    /// How everything looked when it was last taken.
    taken: Looks,
    /// How it looked at the last look, if different. Taken when it looks the same again, so that a file is not read half-written.
    fresh: Option<Looks>,
    /// The files that were wrong when they were last taken. One may become right when another changes.
    wrong: BTreeSet<PathBuf>,
    /// Whether the last look could not be taken, so that it is told once.
    blind: bool,
}

struct Source {
    path: PathBuf,
    /// A folder that is gone is more likely not mounted than meant; a file that is gone is gone.
    folder: bool,
}

/// The files that are there, as they are named by their sources, each with its own looks and those of its bundle.
type Looks = BTreeMap<PathBuf, (Option<Stamp>, Option<Stamp>)>;

impl Watch {
    /// Begins to watch; before the files are read, so that no change is missed.
    pub(crate) fn begin(sources: &[PathBuf], variables: Variables) -> io::Result<Self> {
        let source = |path: &PathBuf| Source { path: path.clone(), folder: path.is_dir() };
        let sources = sources.iter().map(source).collect();
        let mut watch = Watch {
            sources,
            variables,
            bundles: BTreeMap::new(),
            taken: Looks::new(),
            fresh: None,
            wrong: BTreeSet::new(),
            blind: false,
        };
        watch.taken = watch.looks()?;
        Ok(watch)
    }

    /// Learns which bundles to watch from the manifests that were read at the start; before those are verified.
    pub(crate) fn learn(&mut self, manifests: &[ManifestFile]) {
        self.learn_bundles(manifests.iter());
    }

    fn learn_bundles<'a>(&mut self, manifests: impl Iterator<Item = &'a ManifestFile>) {
        self.bundles.extend(manifests.map(|file| (file.file.clone(), file.manifest.bundle.clone())));
        let mut stamps = Stamps::default();
        for (name, looks) in &mut self.taken {
            looks.1 = self.bundles.get(&absolute(name)).and_then(|bundle| stamps.of(bundle));
        }
    }

    /// Whether the last look found a change, which the next one is to confirm.
    pub(super) fn is_curious(&self) -> bool {
        self.fresh.is_some()
    }

    /// All files that are given now, if some have changed, and have not while they were looked at twice.
    pub(super) fn look(&mut self) -> Option<Vec<Given>> {
        let looks = match self.looks() {
            Ok(looks) => looks,
            Err(error) => {
                if !std::mem::replace(&mut self.blind, true) {
                    tracing::warn!(%error, "the manifests cannot be looked at, and all functions stay as they are");
                }
                return None;
            }
        };
        self.blind = false;
        if looks == self.taken {
            self.fresh = None;
            return None;
        }
        if self.fresh.as_ref() != Some(&looks) {
            self.fresh = Some(looks);
            return None;
        }
        self.fresh = None;
        let before = std::mem::replace(&mut self.taken, looks);
        Some(self.read(&before))
    }

    fn looks(&self) -> io::Result<Looks> {
        let mut looks = Looks::new();
        let mut stamps = Stamps::default();
        for source in &self.sources {
            let files = match deployments::files(&source.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !source.folder => continue,
                files => files?,
            };
            for file in files {
                let bundle = self.bundles.get(&absolute(&file)).and_then(|bundle| stamps.of(bundle));
                looks.insert(file.clone(), (Stamp::at(&file), bundle));
            }
        }
        Ok(looks)
    }

    fn read(&mut self, before: &Looks) -> Vec<Given> {
        let names: Vec<PathBuf> = self.taken.keys().cloned().collect();
        let mut texts: Vec<(String, Result<String, String>)> = names
            .iter()
            .map(|file| (file.display().to_string(), deployments::read(file).map_err(|error| told(&error))))
            .collect();
        for (name, text) in &mut texts {
            if let Some(mistakes) = text.as_ref().ok().and_then(|text| parse(name, text, &self.variables).err()) {
                *text = Err(mistakes.to_string());
            }
        }
        while let Some(mistakes) = together(&texts, self.variables) {
            // The later one of two is at fault, unless it is not among those that were compared, which cannot be.
            let Some(mistake) = mistakes.iter().next() else { break };
            let Some((_, text)) = texts.iter_mut().find(|(name, text)| *name == mistake.file && text.is_ok()) else {
                break;
            };
            *text = Err(mistakes.to_string());
        }
        let given = names.iter().zip(texts).map(|(name, (_, text))| {
            let manifest = text.and_then(|text| {
                let read = deployments::check(vec![(name.clone(), text)], self.variables)
                    .map_err(|error| format!("{error:#}"))?;
                read.into_iter().next().ok_or_else(|| "it is empty".to_owned())
            });
            let changed = before.get(name) != self.taken.get(name) || (manifest.is_ok() && self.wrong.contains(name));
            Given { file: absolute(name), manifest, changed }
        });
        let given: Vec<_> = given.collect();
        let wrong = names.iter().zip(&given).filter(|(_, given)| given.manifest.is_err()).map(|(name, _)| name.clone());
        self.wrong = wrong.collect();
        self.learn_bundles(given.iter().filter_map(|given| given.manifest.as_ref().ok()));
        given
    }
}

/// What is wrong only between those that are right by themselves.
fn together(texts: &[(String, Result<String, String>)], variables: Variables) -> Option<Diagnostics> {
    let right = texts.iter().filter_map(|(name, text)| {
        let text = text.as_deref().ok()?;
        Some((name.as_str(), text, parse(name, text, &variables).ok()?))
    });
    let right: Vec<_> = right.collect();
    check_together(&right.iter().map(|(name, text, manifest)| (*name, *text, manifest)).collect::<Vec<_>>()).err()
}

/// The looks of bundles, each taken once however many functions it is of.
#[derive(Default)]
struct Stamps(HashMap<PathBuf, Option<Stamp>>);

impl Stamps {
    fn of(&mut self, bundle: &Path) -> Option<Stamp> {
        if let Some(known) = self.0.get(bundle) {
            return *known;
        }
        let found = Stamp::at(bundle);
        self.0.insert(bundle.to_owned(), found);
        found
    }
}

fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const RIGHT: &str = "name = \"a\"\nbundle = \"a.torpor\"\n[trigger.inference]\n";

    fn write(folder: &Path, name: &str, text: &str) {
        fs::write(folder.join(name), text).unwrap();
    }

    fn watch(folder: &Path) -> Watch {
        let sources = [folder.to_owned()];
        let mut watch = Watch::begin(&sources, |_| None).unwrap();
        watch.learn(&deployments::read_manifests(&sources, |_| None).unwrap());
        watch
    }

    /// What is given at the second look, as `name: changed, right`.
    #[track_caller]
    fn changes(watch: &mut Watch) -> Vec<(String, bool, bool)> {
        assert!(watch.look().is_none(), "a change is not taken at its first look");
        let given = watch.look().expect("it is taken at the second");
        assert!(watch.look().is_none() && watch.look().is_none(), "and only once");
        let name = |given: &Given| given.file.file_name().unwrap().to_string_lossy().into_owned();
        given.iter().map(|given| (name(given), given.changed, given.manifest.is_ok())).collect()
    }

    #[test]
    fn every_kind_of_change_is_seen_once() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.toml", RIGHT);
        let mut watch = watch(folder.path());
        assert!(watch.look().is_none() && watch.look().is_none(), "nothing has changed");

        write(folder.path(), "b.toml", "name = 1");
        write(folder.path(), "ignored.txt", "x");
        let a = |changed, right| ("a.toml".to_owned(), changed, right);
        assert_eq!(changes(&mut watch), [a(false, true), ("b.toml".to_owned(), true, false)]);
        write(folder.path(), "b.toml", &RIGHT.replace("\"a\"", "\"b\""));
        assert_eq!(changes(&mut watch), [a(false, true), ("b.toml".to_owned(), true, true)]);
        write(folder.path(), "b.toml", RIGHT);
        assert_eq!(changes(&mut watch), [a(false, true), ("b.toml".to_owned(), true, false)], "one name twice");
        fs::rename(folder.path().join("a.toml"), folder.path().join("a.off")).unwrap();
        assert_eq!(
            changes(&mut watch),
            [("b.toml".to_owned(), true, true)],
            "it is right now, though it did not change"
        );
        fs::rename(folder.path().join("a.off"), folder.path().join("a.toml")).unwrap();
        fs::remove_file(folder.path().join("b.toml")).unwrap();
        assert_eq!(changes(&mut watch), [a(true, true)]);
        write(folder.path(), "a.torpor", "a bundle");
        assert_eq!(changes(&mut watch), [a(true, true)], "a bundle counts as its manifest");
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.toml", RIGHT);
        let mut watch = watch(folder.path());
        for length in 0..5 {
            write(folder.path(), "a.toml", &RIGHT[..length]);
            assert!(watch.look().is_none());
        }
        write(folder.path(), "a.toml", RIGHT);
        assert_eq!(changes(&mut watch), [("a.toml".to_owned(), true, true)]);
    }

    #[test]
    fn a_folder_that_is_gone_takes_nothing_away() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.toml", RIGHT);
        let mut watch = watch(folder.path());
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(watch.look().is_none() && watch.look().is_none());
    }
}
