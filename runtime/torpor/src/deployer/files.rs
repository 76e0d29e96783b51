//! How the files of `serve --manifests` and the deployments that the state directory remembers become one. See
//! `docs/decisions/0021-files-deploy-when-they-change.md`.

use super::{Deployer, revision, workshop::Candidate};
use crate::{
    advice::told,
    deployments::ManifestFile,
    records::{By, Kept, Record},
};
use anyhow::Result;
use std::{collections::BTreeSet, path::PathBuf, sync::Arc};
use torpor_engine::Function;
use torpor_gateway::{Answerer, Entry, check_routes};
use torpor_manifest::{FunctionName, Manifest};

/// A file that is given now.
pub(super) struct Given {
    /// Its absolute path.
    pub(super) file: PathBuf,
    /// What it says, or its mistakes.
    pub(super) manifest: Result<ManifestFile, String>,
    /// Whether it, or the bundle that it names, looks different than the last time.
    pub(super) changed: bool,
}

/// What is to become of one function.
struct Plan {
    name: FunctionName,
    next: Next,
    /// Why its file's manifest is not taken.
    refused: Option<String>,
}

enum Next {
    /// What the table has.
    Keep,
    /// The current revision, made ready again.
    Serve(Function, Kept),
    /// A new revision.
    New(Candidate),
    /// Nothing can be served.
    Fail(Arc<Manifest>, String),
    /// Nothing can be served, and nobody knows what it was.
    Lost(String),
}

impl Plan {
    /// The manifest that would be served, unless it is what the table has.
    fn manifest(&self) -> Option<&Manifest> {
        match &self.next {
            Next::Keep | Next::Lost(_) => None,
            Next::Serve(function, _) => Some(function.manifest()),
            Next::New(candidate) => Some(candidate.function.manifest()),
            Next::Fail(manifest, _) => Some(manifest),
        }
    }
}

impl Deployer {
    /// The host starts: serves what `files` give and what the records have besides.
    pub(super) async fn begin(&mut self, files: Vec<ManifestFile>) {
        let given = files.into_iter();
        let given = given.map(|file| Given { file: file.file.clone(), manifest: Ok(file), changed: true }).collect();
        self.settle(given, true).await;
    }

    /// Deploys what has changed in the watched files. False when nothing has.
    pub(super) async fn look(&mut self) -> bool {
        let Some(mut watch) = self.watch.take() else { return false };
        // A look at every file blocks, for long where they are far away.
        let looked = tokio::task::spawn_blocking(move || (watch.look(), watch)).await;
        let Ok((given, watch)) = looked else {
            tracing::error!("the manifests cannot be watched any more");
            return false;
        };
        self.watch = Some(watch);
        let Some(given) = given else { return false };
        self.settle(given, false).await;
        true
    }

    async fn settle(&mut self, given: Vec<Given>, start: bool) {
        let gone = self.gone(&given).await;
        let mut plans = Vec::new();
        let mut now_given = Vec::new();
        for Given { file, manifest, changed } in given {
            match manifest {
                Ok(manifest) => {
                    now_given.push((file, manifest.manifest.name.clone()));
                    if changed {
                        plans.push(self.plan_or_refuse(manifest).await);
                    }
                }
                Err(mistakes) => {
                    if changed {
                        tracing::error!(file = %file.display(), mistakes, "a manifest is wrong, and what it gave before stays");
                    }
                    if let Some(name) = self.given.get(&file).cloned() {
                        let refused = Some(format!("`{}` is wrong:\n{mistakes}", file.display()));
                        plans.push(Plan { name: name.clone(), next: Next::Keep, refused });
                        now_given.push((file, name));
                    }
                }
            }
        }
        self.given = now_given.into_iter().collect();
        if start {
            plans.extend(self.remembered(&plans, |_| true).await);
        } else {
            self.warm_up_plans(&mut plans).await;
        }
        self.carry_out(plans, &gone).await;
        if !start {
            self.functions.now().entries().filter_map(Entry::deployed).for_each(Function::start);
        }
    }

    /// Tries again to deploy what could not be, since the trust policy has changed: what files give, and `failed`.
    pub(super) async fn retry(&mut self, failed: &BTreeSet<FunctionName>) {
        let mut plans = Vec::new();
        for file in self.refused.clone().into_values() {
            plans.push(self.plan_or_refuse(file).await);
        }
        plans.extend(self.remembered(&plans, |name| failed.contains(name)).await);
        self.warm_up_plans(&mut plans).await;
        self.carry_out(plans, &[]).await;
        self.functions.now().entries().filter_map(Entry::deployed).for_each(Function::start);
    }

    async fn carry_out(&mut self, mut plans: Vec<Plan>, gone: &[FunctionName]) {
        self.part_routes(&mut plans, gone).await;
        let recorded = self.record(&plans).await;
        let mut entries = Vec::new();
        for plan in plans {
            entries.extend(self.entry(plan, recorded).await);
        }
        self.swap(entries, gone);
    }

    /// Takes the records of functions that came from files and that no file gives any more, and says which those are. What a file
    /// gave that is wrong now stays.
    async fn gone(&mut self, given: &[Given]) -> Vec<FunctionName> {
        let held = given.iter().filter_map(|given| match &given.manifest {
            Ok(manifest) => Some(manifest.manifest.name.clone()),
            Err(_) => self.given.get(&given.file).cloned(),
        });
        let held: BTreeSet<_> = held.collect();
        let from_files = self.records.iter().filter(|(_, record)| record.current().by == By::Manifests);
        // Those that were never deployed have no record.
        let failed = self.given.values().filter(|name| !self.records.contains_key(*name));
        let gone: BTreeSet<_> =
            from_files.map(|(name, _)| name).chain(failed).filter(|name| !held.contains(*name)).collect();
        let gone: Vec<FunctionName> = gone.into_iter().cloned().collect();
        for name in &gone {
            let remove = name.clone();
            if let Err(error) = self.work(move |workshop| workshop.records.remove(&remove)).await {
                tracing::error!(function = %name, error = format!("{error:#}"), "the record of a function that is gone stays");
            }
            self.records.remove(name);
            self.refused.remove(name);
            tracing::info!(function = %name, "undeployed, since no manifest gives it any more");
        }
        gone
    }

    /// What a file makes of its function. Remembers the file where that is not what it says.
    async fn plan_or_refuse(&mut self, file: ManifestFile) -> Plan {
        let plan = self.plan(file.clone()).await;
        if plan.refused.is_some() || matches!(plan.next, Next::Fail(..)) {
            self.refused.insert(plan.name.clone(), file);
        } else {
            self.refused.remove(&plan.name);
        }
        plan
    }

    /// What a file makes of its function.
    async fn plan(&self, file: ManifestFile) -> Plan {
        let name = file.manifest.name.clone();
        let serves = self.serves(&name);
        let record = self.records.get(&name).cloned();
        let manifest = Arc::new(file.manifest.clone());
        let made = self.work(move |workshop| {
            let bundle = workshop.verify(&file.manifest)?;
            let number = Record::next(record.as_ref());
            let Some(record) = record.filter(|record| {
                record.last_of_file().is_some_and(|from_file| workshop.same(from_file, &file, &bundle))
            }) else {
                return workshop.build(&file, &bundle, By::Manifests, number).map(Next::New);
            };
            // The file is as it was when it was deployed. What came after it over the admin interface stays.
            let current = record.current();
            if serves {
                return Ok(Next::Keep);
            }
            let function = match workshop.same(current, &file, &bundle) {
                true => workshop.build(&file, &bundle, current.by, current.number)?.function,
                false => workshop.restore(&file.manifest.name, current)?,
            };
            Ok(Next::Serve(function, current.clone()))
        });
        match made.await {
            Ok(next) => Plan { name, next, refused: None },
            Err(error) => self.without(name, manifest, told(&error)).await,
        }
    }

    /// What is served when the manifest of a file cannot be: what was served before, if anything.
    async fn without(&self, name: FunctionName, manifest: Arc<Manifest>, cause: String) -> Plan {
        tracing::error!(function = %name, cause, "the function's manifest is not deployed");
        if self.serves(&name) {
            return Plan { name, next: Next::Keep, refused: Some(cause) };
        }
        if let Some(kept) = self.records.get(&name).map(|record| record.current().clone()) {
            let restore = (name.clone(), kept.clone());
            if let Ok(function) = self.work(move |workshop| workshop.restore(&restore.0, &restore.1)).await {
                tracing::warn!(function = %name, revision = kept.number, "the revision before is served");
                return Plan { name, next: Next::Serve(function, kept), refused: Some(cause) };
            }
        }
        Plan { name, next: Next::Fail(manifest, cause), refused: None }
    }

    /// The functions that only the records have, as far as they are `wanted`.
    async fn remembered(&self, plans: &[Plan], wanted: impl Fn(&FunctionName) -> bool) -> Vec<Plan> {
        let planned: BTreeSet<_> = plans.iter().map(|plan| &plan.name).collect();
        let wanted = |name: &FunctionName| !planned.contains(name) && wanted(name);
        let mut more = Vec::new();
        for (name, record) in self.records.iter().filter(|(name, _)| wanted(name)) {
            let kept = record.current().clone();
            let restore = (name.clone(), kept.clone());
            let restored = self.work(move |workshop| workshop.restore(&restore.0, &restore.1)).await;
            let next = restored.map(|function| Next::Serve(function, kept.clone())).unwrap_or_else(|error| {
                let cause = told(&error);
                tracing::error!(function = %name, cause, "the function is not deployed again");
                match self.workshop.parse(&kept) {
                    Ok(file) => Next::Fail(Arc::new(file.manifest), cause),
                    Err(_) => Next::Lost(cause),
                }
            });
            more.push(Plan { name: name.clone(), next, refused: None });
        }
        for name in self.unread.iter().filter(|name| wanted(name)) {
            let cause = format!("its deployment record cannot be read; deploy `{name}` again");
            more.push(Plan { name: name.clone(), next: Next::Lost(cause), refused: None });
        }
        more
    }

    /// Wakes new revisions that are to be warm before they take their places.
    async fn warm_up_plans(&mut self, plans: &mut [Plan]) {
        for plan in plans {
            let Next::New(candidate) = &plan.next else { continue };
            let manifest = Arc::new(candidate.function.manifest().clone());
            if manifest.scale.min == 0 {
                continue;
            }
            if let Err(error) = candidate.function.warm_up().await {
                self.drop_new(plan, manifest, told(&error.into())).await;
            }
        }
    }

    /// Leaves to every function requests of its own. Where two want the same, the one that had them before keeps them.
    async fn part_routes(&mut self, plans: &mut [Plan], gone: &[FunctionName]) {
        plans.sort_by_key(|plan| matches!(plan.next, Next::New(_)));
        loop {
            let now = self.functions.now();
            let planned =
                |name: &FunctionName| plans.iter().any(|plan| plan.name == *name && plan.manifest().is_some());
            let others = now.entries().filter_map(Entry::manifest);
            let others = others.filter(|manifest| !planned(&manifest.name) && !gone.contains(&manifest.name));
            let Err(taken) = check_routes(others.chain(plans.iter().filter_map(Plan::manifest))) else { return };
            let Some(plan) = plans.iter_mut().find(|plan| plan.name == taken.function) else { return };
            let Some(manifest) = plan.manifest().cloned() else { return };
            let pathless = Arc::new(without_path(manifest));
            match plan.next {
                Next::New(_) => self.drop_new(plan, pathless, taken.to_string()).await,
                _ => plan.next = Next::Fail(pathless, taken.to_string()),
            }
        }
    }

    /// Puts what was served before in the place of a new revision.
    async fn drop_new(&mut self, plan: &mut Plan, manifest: Arc<Manifest>, cause: String) {
        let instead = self.without(plan.name.clone(), manifest, cause).await;
        if let Next::New(candidate) = std::mem::replace(plan, instead).next {
            self.discard(vec![candidate]);
        }
    }

    /// Records all new revisions together. Where that does not succeed, [`Deployer::entry`] tries it with each.
    async fn record(&self, plans: &[Plan]) -> bool {
        let new = plans.iter().filter_map(|plan| match &plan.next {
            Next::New(candidate) => Some((plan.name.clone(), self.with(&plan.name, candidate))),
            _ => None,
        });
        let new: Vec<_> = new.collect();
        self.work(move |workshop| workshop.records.write_many(&new)).await.is_ok()
    }

    fn with(&self, name: &FunctionName, candidate: &Candidate) -> Record {
        Record::with(self.records.get(name), candidate.kept.clone())
    }

    /// A function's new place in the table, and its record, unless that is `recorded`. `None` where nothing changes.
    async fn entry(&mut self, plan: Plan, recorded: bool) -> Option<Entry> {
        let Plan { name, next, refused } = plan;
        let known = self.records.get(&name).map(|record| revision(record.current()));
        Some(match next {
            Next::Keep => Entry { refused, ..self.functions.now().get(&name)?.clone() },
            Next::Serve(function, kept) => {
                Entry { answer: Answerer::Deployed(function), revision: Some(revision(&kept)), refused }
            }
            Next::New(candidate) => {
                let record = self.with(&name, &candidate);
                let write = (name.clone(), record.clone());
                let write = async || self.work(move |workshop| workshop.records.write(&write.0, &write.1)).await;
                match if recorded { Ok(()) } else { write().await } {
                    Ok(()) => {
                        self.unread.remove(&name);
                        self.records.insert(name, record);
                        candidate.deployed()
                    }
                    // It is served all the same: the file is there, and the next start deploys it again.
                    Err(error) => {
                        let refused = format!("it is served, but not recorded: {error:#}");
                        tracing::warn!(function = %name, refused);
                        Entry { refused: Some(refused), ..candidate.deployed() }
                    }
                }
            }
            Next::Fail(manifest, cause) => {
                Entry { answer: Answerer::Failed { manifest, cause }, revision: known, refused }
            }
            Next::Lost(cause) => Entry { answer: Answerer::Lost { name, cause }, revision: known, refused },
        })
    }

    fn serves(&self, name: &FunctionName) -> bool {
        self.functions.now().get(name).is_some_and(|entry| entry.deployed().is_some())
    }
}

/// What fails for its path's sake must not hold that path.
fn without_path(mut manifest: Manifest) -> Manifest {
    manifest.trigger.http = None;
    manifest
}
