//! The functions of this host, found by name and by path. Those that could not be deployed are here too: their callers are told
//! that the host has a problem, not that there is no such function.
//!
//! A [`Table`] never changes. A deployment puts another one in its place, so a request sees either all of the old one or all of
//! the new one, and takes no lock.

use crate::{error::ApiError, protocol::shown};
use arc_swap::ArcSwap;
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use torpor_engine::{CallError, Function, FunctionStatus, Trace};
use torpor_manifest::{FunctionName, Manifest, RoutePath};

/// The functions of the host as they are now. Cheap to clone; all clones see the same table.
#[derive(Clone, Default)]
pub struct Functions {
    table: Arc<ArcSwap<Table>>,
}

/// All functions of the host at one moment.
#[derive(Default)]
pub struct Table {
    by_name: BTreeMap<String, Entry>,
    by_path: matchit::Router<String>,
    largest: Largest,
    /// Of the functions that give embeddings, one of those that take the largest bodies.
    widest_embedding: Option<Function>,
}

/// The most that any function takes which the protocols for tensors serve: the limits of a call that does not yet say whom it is for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Largest {
    /// Bytes of its body.
    pub(crate) body: u64,
    /// Until when it has to be there.
    pub(crate) deadline: Duration,
}

/// A function's place in the table.
#[derive(Clone)]
pub struct Entry {
    /// What answers its callers.
    pub answer: Answerer,
    /// Which revision it is; `None` for a function of which none was ever deployed.
    pub revision: Option<Revision>,
    /// Why the newest manifest of it was not taken, for the operator; `None` where it was.
    pub refused: Option<String>,
}

/// What answers the callers of a function.
#[derive(Clone)]
pub enum Answerer {
    /// The function.
    Deployed(Function),
    /// The host, with an error: the function could not be deployed.
    Failed {
        /// What was to be deployed.
        manifest: Arc<Manifest>,
        /// Why not, for the operator.
        cause: String,
    },
    /// The host, with an error: not even the manifest is known.
    Lost {
        /// The function.
        name: FunctionName,
        /// Why not, for the operator.
        cause: String,
    },
}

/// What is known of a revision besides the function that it is.
#[derive(Debug, Clone, Serialize)]
pub struct Revision {
    /// Its number, from 1. Each deployment of a function gets the next one.
    #[serde(rename = "revision")]
    pub number: u64,
    /// When it was deployed, in seconds since 1970.
    pub deployed: u64,
    /// What deployed it: `manifests`, `deploy` or `rollback`.
    #[serde(rename = "deployed_by")]
    pub by: &'static str,
}

/// Two functions want the same requests.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{function}` wants the path `{path}`, but `{other}` has `{taken}`; give each function a path that no other one matches"
)]
pub struct RouteTaken {
    /// Who wants the path.
    pub function: FunctionName,
    path: RoutePath,
    /// Who has it.
    pub other: FunctionName,
    taken: RoutePath,
}

/// A function as the protocols for tensors serve it: a model, whose versions are the function's revisions.
pub(crate) struct Served {
    pub(crate) function: Function,
    /// The number of its revision, which the protocols call its version.
    pub(crate) revision: u64,
    /// When that was deployed, in seconds since 1970.
    pub(crate) since: u64,
}

/// A function as the admin interface shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    #[serde(flatten)]
    function: FunctionStatus,
    revision: Option<u64>,
    deployed: Option<u64>,
    deployed_by: Option<&'static str>,
    refused: Option<String>,
}

impl Entry {
    /// The manifest behind it, where it is known.
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.answer {
            Answerer::Deployed(function) => Some(function.manifest()),
            Answerer::Failed { manifest, .. } => Some(manifest),
            Answerer::Lost { .. } => None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &FunctionName {
        match &self.answer {
            Answerer::Deployed(function) => &function.manifest().name,
            Answerer::Failed { manifest, .. } => &manifest.name,
            Answerer::Lost { name, .. } => name,
        }
    }

    /// The function, where it is deployed.
    pub fn deployed(&self) -> Option<&Function> {
        match &self.answer {
            Answerer::Deployed(function) => Some(function),
            Answerer::Failed { .. } | Answerer::Lost { .. } => None,
        }
    }

    /// Whether the protocols for tensors know it. Of a function whose manifest is lost nobody can say that it has no such trigger.
    fn is_model(&self) -> bool {
        self.manifest().is_none_or(|manifest| manifest.trigger.inference.is_some())
    }

    fn status(&self) -> Status {
        let function = match &self.answer {
            Answerer::Deployed(function) => function.status(),
            Answerer::Failed { manifest, cause } => FunctionStatus::not_deployed(manifest, cause.clone()),
            Answerer::Lost { name, cause } => FunctionStatus::lost(name.to_string(), cause.clone()),
        };
        let revision = self.revision.as_ref();
        Status {
            function,
            revision: revision.map(|revision| revision.number),
            deployed: revision.map(|revision| revision.deployed),
            deployed_by: revision.map(|revision| revision.by),
            refused: self.refused.clone(),
        }
    }

    fn answering(&self) -> Result<Function, ApiError> {
        let function = self.deployed().cloned();
        function.ok_or_else(|| CallError::Unavailable { function: self.name().clone() }.into())
    }
}

impl Table {
    /// A table of these functions. Of two with one name the last one counts.
    ///
    /// # Errors
    /// When two of them want the same requests.
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Result<Self, RouteTaken> {
        let by_name: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.name().to_string(), entry)).collect();
        check_routes(by_name.values().filter_map(Entry::manifest))?;
        let mut by_path = matchit::Router::new();
        for (name, entry) in &by_name {
            let Some(http) = entry.manifest().and_then(|manifest| manifest.trigger.http.as_ref()) else { continue };
            let patterns = match http.path.prefix() {
                // A catch-all matches no empty rest, but `/fn/` is below `/fn` too.
                Some(prefix) => vec![format!("{prefix}/"), format!("{prefix}/{{*rest}}")],
                None => vec![http.path.as_str().to_owned()],
            };
            for pattern in patterns {
                // Paths that the router would confuse overlap, and were refused above.
                if let Err(error) = by_path.insert(pattern, name.clone()) {
                    tracing::error!(function = name, %error, "the function's path is not served");
                }
            }
        }
        let served =
            by_name.values().filter_map(Entry::manifest).filter(|manifest| manifest.trigger.inference.is_some());
        let largest = served.fold(Largest::default(), |largest, Manifest { limits, .. }| Largest {
            body: largest.body.max(limits.body.as_u64()),
            deadline: largest.deadline.max(limits.deadline),
        });
        let deployed = by_name.values().filter(|entry| entry.is_model()).filter_map(Entry::deployed);
        let embedding = deployed.filter(|function| function.gives_embeddings());
        let widest_embedding = embedding.max_by_key(|function| function.manifest().limits.body).cloned();
        Ok(Table { by_name, by_path, largest, widest_embedding })
    }

    /// All functions, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.by_name.values()
    }

    /// One function.
    pub fn get(&self, name: &FunctionName) -> Option<&Entry> {
        self.by_name.get(name.as_str())
    }
}

/// Checks that no two of these manifests, each of another function, want the same requests.
///
/// # Errors
/// The first conflict, from the view of the manifest that comes later.
pub fn check_routes<'a>(manifests: impl IntoIterator<Item = &'a Manifest>) -> Result<(), RouteTaken> {
    let http = |manifest: &'a Manifest| Some((&manifest.name, &manifest.trigger.http.as_ref()?.path));
    let wanted: Vec<(&FunctionName, &RoutePath)> = manifests.into_iter().filter_map(http).collect();
    let conflict = |one: usize, two: usize| {
        let ((other, taken), (function, path)) = (wanted[one.min(two)], wanted[one.max(two)]);
        RouteTaken { function: function.clone(), path: path.clone(), other: other.clone(), taken: taken.clone() }
    };
    let mut places = HashMap::with_capacity(wanted.len());
    for (place, (_, path)) in wanted.iter().enumerate() {
        if let Some(earlier) = places.insert(path.as_str(), place) {
            return Err(conflict(earlier, place));
        }
    }
    // Paths that are not the same overlap only where one is all that is below some part of the other.
    for (place, (_, path)) in wanted.iter().enumerate() {
        let mut above = path.prefix().unwrap_or(path.as_str());
        while let Some((parent, _)) = above.rsplit_once('/') {
            if let Some(other) = places.get(format!("{parent}/*").as_str()) {
                return Err(conflict(*other, place));
            }
            above = parent;
        }
    }
    Ok(())
}

impl Functions {
    /// The table as it is now.
    pub fn now(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Puts `table` in the place of the present one. Requests that have found their function keep it.
    pub fn replace(&self, table: Table) {
        self.table.store(Arc::new(table));
    }

    /// How all functions are doing, by name.
    pub(crate) fn statuses(&self) -> Vec<Status> {
        self.table.load().entries().map(Entry::status).collect()
    }

    pub(crate) fn status(&self, name: &str) -> Option<Status> {
        self.table.load().by_name.get(name).map(Entry::status)
    }

    /// Where the time of a function's last calls went, oldest first; none of a function that could not be deployed.
    pub(crate) fn traces(&self, name: &str) -> Option<Vec<Trace>> {
        let table = self.table.load();
        Some(table.by_name.get(name)?.deployed().map(Function::traces).unwrap_or_default())
    }

    /// The function that the protocols for tensors know under `name`. Only its current revision is served; `version` may name it by
    /// its number or by the version that its bundle declares, and `None` stands for whichever is current.
    ///
    /// # Errors
    /// When there is no such function or not this revision of it, and when it could not be deployed.
    pub(crate) fn model(&self, name: &str, version: Option<&str>) -> Result<Served, ApiError> {
        let table = self.table.load();
        let Some(entry) = table.by_name.get(name).filter(|entry| entry.is_model()) else {
            return Err(ApiError::not_found(format!("there is no model `{}`", shown(name))));
        };
        let function = entry.answering()?;
        // What is deployed has a revision; 0 is none that anybody could mean.
        let (revision, since) = entry.revision.as_ref().map_or((0, 0), |revision| (revision.number, revision.deployed));
        match version {
            Some(version) if version != function.version() && version.parse() != Ok(revision) => {
                let (has, version) = (function.version(), shown(version));
                Err(ApiError::not_found(format!(
                    "`{name}` has no version `{version}`, only `{revision}`, which is `{has}` by its bundle"
                )))
            }
            _ => Ok(Served { function, revision, since }),
        }
    }

    /// The names of all that [`Functions::model`] knows, also of those that could not be deployed.
    pub(crate) fn model_names(&self) -> Vec<String> {
        self.table.load().entries().filter(|entry| entry.is_model()).map(|entry| entry.name().to_string()).collect()
    }

    /// All functions that the protocols for tensors know, by name.
    pub(crate) fn models(&self) -> Vec<Entry> {
        self.table.load().entries().filter(|entry| entry.is_model()).cloned().collect()
    }

    /// The most that any function takes which [`Functions::model`] may find.
    pub(crate) fn largest(&self) -> Largest {
        self.table.load().largest
    }

    /// Of the functions that give embeddings, one of those that take the largest bodies.
    pub(crate) fn widest_embedding(&self) -> Option<Function> {
        self.table.load().widest_embedding.clone()
    }

    /// Whether the model of this name would let a call in; `None` where there is none.
    pub(crate) fn ready(&self, name: &str) -> Option<bool> {
        match self.model(name, None) {
            Ok(Served { function, .. }) => Some(function.is_ready()),
            Err(error) => (!error.is_not_found()).then_some(false),
        }
    }

    /// The function whose HTTP trigger has `path`; `None` if there is none.
    pub(crate) fn by_path(&self, path: &str) -> Option<Result<Function, ApiError>> {
        let table = self.table.load();
        Some(table.by_name.get(table.by_path.at(path).ok()?.value)?.answering())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest(index: usize, path: &str) -> Manifest {
        let text = format!("name = \"f{index}\"\nbundle = \"b\"\n[trigger.http]\npath = \"{path}\"\n");
        torpor_manifest::parse("f.toml", &text, &|_: &str| None).unwrap()
    }

    #[test]
    fn a_conflict_names_both() {
        let manifests = [manifest(0, "/a/b"), manifest(1, "/c"), manifest(2, "/a/*")];
        let text = check_routes(&manifests).unwrap_err().to_string();
        assert!(text.starts_with("`f2` wants the path `/a/*`, but `f0` has `/a/b`;"), "{text}");
        check_routes(&manifests[..2]).unwrap();
    }

    proptest! {
        #[test]
        fn every_overlap_is_a_conflict(paths in prop::collection::vec("(/[ab]){1,3}(/\\*)?", 0..6)) {
            let manifests: Vec<_> = paths.iter().enumerate().map(|(index, path)| manifest(index, path)).collect();
            let routes: Vec<RoutePath> = paths.iter().map(|path| path.parse().unwrap()).collect();
            let pairs = (0..routes.len()).flat_map(|one| (0..one).map(move |two| (one, two)));
            let overlap = pairs.clone().any(|(one, two)| routes[one].overlaps(&routes[two]));
            prop_assert_eq!(check_routes(&manifests).is_err(), overlap);
            let failed = |manifest: Manifest| Entry {
                answer: Answerer::Failed { manifest: Arc::new(manifest), cause: String::new() },
                revision: None,
                refused: None,
            };
            if let Ok(table) = Table::new(manifests.into_iter().map(failed)) {
                for path in ["/a", "/b", "/a/", "/a/b", "/a/b/a", "/b/b/b/b"] {
                    let wants = routes.iter().position(|route| route.matches(path)).map(|index| format!("f{index}"));
                    prop_assert_eq!(table.by_path.at(path).ok().map(|found| found.value.clone()), wants);
                }
            }
        }
    }
}
