//! The functions of this host, found by name and by path. Those that could not be deployed are here too: their callers are told
//! that the host has a problem, not that there is no such function.

use crate::error::ApiError;
use std::collections::BTreeMap;
use torpor_engine::{CallError, Function, FunctionStatus};
use torpor_manifest::Manifest;

/// All functions of the host. Built once at start.
#[derive(Default)]
pub struct Functions {
    by_name: BTreeMap<String, Entry>,
    by_path: matchit::Router<String>,
}

enum Entry {
    Deployed(Function),
    Failed { manifest: Box<Manifest>, cause: String },
}

/// Two functions want the same requests.
#[derive(Debug, thiserror::Error)]
#[error("the path `{path}` of `{function}` is taken by another function")]
pub struct RouteTaken {
    path: String,
    function: String,
}

impl Entry {
    fn manifest(&self) -> &Manifest {
        match self {
            Entry::Deployed(function) => function.manifest(),
            Entry::Failed { manifest, .. } => manifest,
        }
    }

    fn status(&self) -> FunctionStatus {
        match self {
            Entry::Deployed(function) => function.status(),
            Entry::Failed { manifest, cause } => FunctionStatus::not_deployed(manifest, cause.clone()),
        }
    }

    fn function(&self) -> Result<&Function, ApiError> {
        match self {
            Entry::Deployed(function) => Ok(function),
            Entry::Failed { manifest, .. } => Err(CallError::Unavailable { function: manifest.name.clone() }.into()),
        }
    }
}

impl Functions {
    /// Adds a function. One of the same name is replaced.
    ///
    /// # Errors
    /// When another function has its path.
    pub fn add(&mut self, function: Function) -> Result<(), RouteTaken> {
        self.insert(Entry::Deployed(function))
    }

    /// Adds a function that could not be deployed. `cause` is for the operator.
    ///
    /// # Errors
    /// When another function has its path.
    pub fn add_failed(&mut self, manifest: Manifest, cause: String) -> Result<(), RouteTaken> {
        self.insert(Entry::Failed { manifest: Box::new(manifest), cause })
    }

    fn insert(&mut self, entry: Entry) -> Result<(), RouteTaken> {
        let name = entry.manifest().name.to_string();
        if let Some(http) = &entry.manifest().trigger.http {
            let patterns = match http.path.prefix() {
                // A catch-all matches no empty rest, but `/fn/` is below `/fn` too.
                Some(prefix) => vec![format!("{prefix}/"), format!("{prefix}/{{*rest}}")],
                None => vec![http.path.as_str().to_owned()],
            };
            for pattern in patterns {
                let taken = |_| RouteTaken { path: http.path.to_string(), function: name.clone() };
                self.by_path.insert(pattern, name.clone()).map_err(taken)?;
            }
        }
        self.by_name.insert(name, entry);
        Ok(())
    }

    /// The functions that are deployed, by name.
    pub fn deployed(&self) -> impl Iterator<Item = &Function> {
        self.by_name.values().filter_map(|entry| match entry {
            Entry::Deployed(function) => Some(function),
            Entry::Failed { .. } => None,
        })
    }

    /// How all functions are doing, by name.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = FunctionStatus> {
        self.by_name.values().map(Entry::status)
    }

    pub(crate) fn status(&self, name: &str) -> Option<FunctionStatus> {
        self.by_name.get(name).map(Entry::status)
    }

    /// The function that the inference protocol knows under `name`; `None` if there is none.
    pub(crate) fn model(&self, name: &str) -> Option<Result<&Function, ApiError>> {
        let entry = self.by_name.get(name).filter(|entry| entry.manifest().trigger.inference.is_some())?;
        Some(entry.function())
    }

    /// The function whose HTTP trigger has `path`; `None` if there is none.
    pub(crate) fn by_path(&self, path: &str) -> Option<Result<&Function, ApiError>> {
        Some(self.by_name.get(self.by_path.at(path).ok()?.value)?.function())
    }
}
