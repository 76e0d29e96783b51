//! The one place that changes what a running host serves: it makes revisions ready, records them, and puts them in the place of
//! those before.
//!
//! A task of its own that does one thing after another, in the order in which it is asked, so no two deployments ever meet. A
//! revision takes its function's place only when all of it is ready and its record is on disk. From then on new requests find
//! it; those that found the one before are answered by that, which goes when the last of them has ended.

mod files;
mod trust;
mod watch;
mod workshop;

pub(crate) use trust::Trusted;
pub(crate) use watch::Watch;
pub(crate) use workshop::Workshop;

use crate::{
    advice::{self, told},
    changes::changes,
    deployments::ManifestFile,
    records::{By, Kept, Record},
};
use anyhow::{Context, Result, anyhow};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use torpor_engine::Function;
use torpor_gateway::{
    Answerer, Deploy, Done, Entry, Functions, Order, Outcome, Past, Refused, RefusedKind, Request, Revision,
    RouteTaken, Table, check_routes,
};
use torpor_manifest::{FunctionName, Manifest};
use workshop::Candidate;

/// How often the trust policy and the files of `serve --watch` are looked at.
const POLL: Duration = Duration::from_millis(250);
/// The part of the time that looking may take, of one processor: where there are very many files they are looked at less often.
const LOOKING: u32 = 250;

/// Deploys. One per host; lives as long as it.
pub(crate) struct Deployer {
    workshop: Arc<Workshop>,
    functions: Functions,
    /// What is on disk.
    records: BTreeMap<FunctionName, Record>,
    /// Functions whose records cannot be read. While there is one nobody knows which blobs it needs.
    unread: BTreeSet<FunctionName>,
    /// The files of `serve --manifests`, each with the function that it gave last.
    given: BTreeMap<PathBuf, FunctionName>,
    /// What the files of `serve --manifests` say that is not served, by function. Tried again when the trust policy changes.
    refused: BTreeMap<FunctionName, ManifestFile>,
    /// Revisions that were replaced, each on its way to zero.
    retiring: JoinSet<()>,
    watch: Option<Watch>,
}

impl Deployer {
    /// Deploys what the state directory remembers and what `files` give. A function that cannot be deployed is reported and keeps
    /// no other from being served.
    ///
    /// # Errors
    /// When the records cannot be listed.
    pub(crate) async fn start(
        workshop: Workshop,
        functions: Functions,
        files: Vec<ManifestFile>,
        watch: Option<Watch>,
    ) -> Result<Self> {
        let mut deployer = Deployer {
            workshop: Arc::new(workshop),
            functions,
            records: BTreeMap::new(),
            unread: BTreeSet::new(),
            given: BTreeMap::new(),
            refused: BTreeMap::new(),
            retiring: JoinSet::new(),
            watch,
        };
        for (name, record) in deployer.work(|workshop| workshop.records.all()).await? {
            match record {
                Ok(record) => drop(deployer.records.insert(name, record)),
                Err(error) => {
                    tracing::error!(function = %name, error = format!("{error:#}"), "a deployment record is lost");
                    deployer.unread.insert(name);
                }
            }
        }
        deployer.begin(files).await;
        deployer.collect().await;
        Ok(deployer)
    }

    /// Carries out orders, and deploys what changes in the watched files, until told to stop. What is under way then is done to
    /// its end. Returns the revisions that are still on their way to zero.
    pub(crate) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut stop: oneshot::Receiver<()>,
    ) -> JoinSet<()> {
        let mut next_look = Instant::now() + POLL;
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => return self.retiring,
                Some(request) = requests.recv() => match request {
                    Request::Order(order, answer) => {
                        let outcomes = self.order(order).await;
                        // Whoever has gone meanwhile sees in `ps` what became of it.
                        let _ = answer.send(outcomes);
                    }
                    Request::History(name, answer) => {
                        let _ = answer.send(self.history(&name));
                        continue;
                    }
                },
                Some(_) = self.retiring.join_next(), if !self.retiring.is_empty() => {}
                () = sleep_until(next_look), if self.watch.is_some() || self.workshop.trust().is_some() => {
                    let begin = Instant::now();
                    let judged = self.look_at_trust().await;
                    let changed = self.look().await || judged;
                    let curious = self.watch.as_ref().is_some_and(Watch::is_curious);
                    let pause = if curious { POLL } else { POLL.max(begin.elapsed() * LOOKING) };
                    next_look = Instant::now() + pause;
                    if !changed {
                        continue;
                    }
                }
            }
            self.collect().await;
        }
    }

    async fn order(&mut self, order: Order) -> Result<Vec<Outcome>, Refused> {
        match order {
            Order::Deploy(order) => self.deploy(order).await,
            Order::Undeploy(name) => self.undeploy(name).await,
            Order::Rollback(name, to) => self.rollback(name, to).await,
        }
    }

    fn history(&self, name: &FunctionName) -> Result<Vec<Past>, Refused> {
        let Some(record) = self.records.get(name) else {
            return Err(match self.functions.now().get(name) {
                Some(_) => Refused {
                    kind: RefusedKind::NotFound,
                    text: format!("`{name}` has no revision, since it could not be deployed yet"),
                    help: format!("`torpor ps {name}` says why"),
                },
                None => not_found(name),
            });
        };
        let past = |(before, kept): (Option<&Kept>, &Kept)| Past {
            revision: revision(kept),
            current: kept.number == record.current().number,
            manifest: kept.file.clone(),
            digest: kept.digest.to_string(),
            before: before.map(|before| before.number),
            changes: before.map(|before| changes(Some(before), kept)).unwrap_or_default(),
        };
        Ok(record.history().rev().map(past).collect())
    }

    async fn deploy(&mut self, order: Deploy) -> Result<Vec<Outcome>, Refused> {
        let Deploy { manifests, dry_run, wait } = order;
        if let Some(manifest) = manifests.iter().find(|manifest| !manifest.file.is_absolute()) {
            let text = format!("`{}` is no absolute path", manifest.file.display());
            let help = "give the absolute path of the file, to which the paths in `text` are relative".to_owned();
            return Err(Refused { kind: RefusedKind::Malformed, text, help });
        }
        let texts = manifests.into_iter().map(|manifest| (manifest.file, manifest.text)).collect();
        let files = self.workshop.check(texts).map_err(malformed)?;
        self.check_routes(files.iter().map(|file| &file.manifest)).map_err(|taken| conflict(&taken.into()))?;

        let mut candidates = Vec::new();
        let mut outcomes = Vec::new();
        for file in files {
            let name = file.manifest.name.clone();
            let made = self.candidate(file).await.with_context(|| format!("`{name}` is not deployed"));
            match self.refusing(made, &mut candidates)? {
                Some(candidate) => {
                    outcomes.push(self.outcome(&name, Done::Deployed, &candidate.kept));
                    candidates.push(candidate);
                }
                None => {
                    let Some(record) = self.records.get(&name) else { continue };
                    outcomes.push(self.outcome(&name, Done::Unchanged, record.current()));
                }
            }
        }
        self.warm_up(&mut candidates, |manifest| wait || (manifest.scale.min > 0 && !dry_run)).await?;
        if dry_run {
            self.discard(candidates);
            return Ok(outcomes);
        }
        let entries = self.install(candidates).await.map_err(|error| conflict(&error))?;
        // What is deployed already is what is wanted, whatever a file said before.
        let unchanged = outcomes.iter().filter(|outcome| outcome.outcome == Done::Unchanged);
        let cleared = unchanged.filter_map(|outcome| {
            let name: FunctionName = outcome.function.parse().ok()?;
            let now = self.functions.now();
            now.get(&name).filter(|entry| entry.refused.is_some()).map(|entry| Entry { refused: None, ..entry.clone() })
        });
        let cleared: Vec<_> = cleared.collect();
        self.swap(entries.into_iter().chain(cleared).collect(), &[]);
        Ok(outcomes)
    }

    /// A revision from a manifest; `None` where it would be the one that is served already.
    async fn candidate(&self, file: ManifestFile) -> Result<Option<Candidate>> {
        let name = file.manifest.name.clone();
        let serves = self.functions.now().get(&name).is_some_and(|entry| entry.deployed().is_some());
        let record = self.records.get(&name).cloned();
        self.work(move |workshop| {
            let bundle = workshop.verify(&file.manifest)?;
            let current = record.as_ref().map(Record::current).filter(|_| serves);
            if current.is_some_and(|current| workshop.same(current, &file, &bundle)) {
                return Ok(None);
            }
            workshop.build(&file, &bundle, By::Deploy, Record::next(record.as_ref())).map(Some)
        })
        .await
    }

    async fn undeploy(&mut self, name: FunctionName) -> Result<Vec<Outcome>, Refused> {
        let Some(entry) = self.functions.now().get(&name).cloned() else { return Err(not_found(&name)) };
        let remove = name.clone();
        let removed = self.work(move |workshop| workshop.records.remove(&remove)).await;
        removed.map_err(|error| conflict(&error))?;
        self.records.remove(&name);
        self.unread.remove(&name);
        self.refused.remove(&name);
        let note = self.giver(&name).map(|file| {
            format!(
                "`{}` gives it still: the host deploys it again at its next start, or when that file changes",
                file.display()
            )
        });
        self.swap(Vec::new(), std::slice::from_ref(&name));
        tracing::info!(function = %name, "undeployed");
        Ok(vec![Outcome {
            function: name.to_string(),
            outcome: Done::Undeployed,
            revision: None,
            before: entry.revision.map(|revision| revision.number),
            changes: Vec::new(),
            note,
        }])
    }

    async fn rollback(&mut self, name: FunctionName, to: Option<u64>) -> Result<Vec<Outcome>, Refused> {
        let Some(record) = self.records.get(&name) else { return Err(not_found(&name)) };
        let found = to.map_or_else(|| record.previous(), |number| record.revision(number));
        let Some(found) = found.cloned() else {
            let numbers: Vec<_> = record.numbers().map(|number| number.to_string()).collect();
            let wanted = to.map_or_else(|| "no earlier revision".to_owned(), |number| format!("no revision {number}"));
            let text = format!("`{name}` has {wanted}");
            let help = format!("its revisions are {}", numbers.join(", "));
            return Err(Refused { kind: RefusedKind::NotFound, text, help });
        };
        if found.number == record.current().number {
            return Ok(vec![self.outcome(&name, Done::Unchanged, &found)]);
        }
        let number = Record::next(Some(record));
        let restore = (name.clone(), found.clone());
        let made = self.work(move |workshop| workshop.restore(&restore.0, &restore.1)).await;
        let made = made.with_context(|| format!("revision {} of `{name}` is not deployed again", found.number));
        let function = self.refusing(made, &mut Vec::new())?;
        let kept = Kept { number, deployed: workshop::now(), by: By::Rollback, ..found };
        let outcome = self.outcome(&name, Done::Deployed, &kept);
        let mut candidates = vec![Candidate { function, kept }];
        let taken = self.check_routes([candidates[0].function.manifest()]).map_err(anyhow::Error::from);
        self.refusing(taken, &mut candidates)?;
        self.warm_up(&mut candidates, |manifest| manifest.scale.min > 0).await?;
        let entries = self.install(candidates).await.map_err(|error| conflict(&error))?;
        self.swap(entries, &[]);
        Ok(vec![outcome])
    }

    /// Wakes those candidates of which `wanted` says so. Where one does not wake none of them is to be deployed.
    async fn warm_up(
        &mut self,
        candidates: &mut Vec<Candidate>,
        wanted: impl Fn(&Manifest) -> bool,
    ) -> Result<(), Refused> {
        let mut awake = Ok(());
        for candidate in candidates.iter().filter(|candidate| wanted(candidate.function.manifest())) {
            let name = &candidate.function.manifest().name;
            awake = candidate.function.warm_up().await.with_context(|| format!("`{name}` is not deployed"));
            if awake.is_err() {
                break;
            }
        }
        self.refusing(awake, candidates)
    }

    /// Turns an error into a refusal, and lets go of what was made ready before.
    fn refusing<T>(&mut self, result: Result<T>, candidates: &mut Vec<Candidate>) -> Result<T, Refused> {
        result.map_err(|error| {
            self.discard(std::mem::take(candidates));
            tracing::warn!(error = told(&error), "a deployment is refused, and everything stays as it is");
            conflict(&error)
        })
    }

    /// Records candidates, all or none, and gives their places in the table. Their paths must be free.
    async fn install(&mut self, candidates: Vec<Candidate>) -> Result<Vec<Entry>> {
        let record = |Candidate { function, kept }: &Candidate| {
            let name = function.manifest().name.clone();
            let old = self.records.get(&name).cloned();
            let new = Record::with(old.as_ref(), kept.clone());
            (name, old, new)
        };
        let written: Vec<_> = candidates.iter().map(record).collect();
        let write = written.clone();
        let result = self.work(move |workshop| workshop.write_all(&write)).await;
        if let Err(error) = result {
            self.discard(candidates);
            return Err(error);
        }
        for (name, _, record) in written {
            self.unread.remove(&name);
            self.refused.remove(&name);
            self.records.insert(name, record);
        }
        Ok(candidates.into_iter().map(Candidate::deployed).collect())
    }

    /// Changes the table: `entries` take the places of those with their names, and `gone` go. Whatever was replaced retires.
    fn swap(&mut self, entries: Vec<Entry>, gone: &[FunctionName]) {
        let before = self.functions.now();
        let stays =
            |entry: &&Entry| !gone.contains(entry.name()) && !entries.iter().any(|new| new.name() == entry.name());
        let all: Vec<_> = before.entries().filter(stays).chain(&entries).cloned().collect();
        match Table::new(all) {
            Ok(table) => self.functions.replace(table),
            Err(error) => {
                // Whoever calls this has checked the paths.
                tracing::error!(%error, "the functions could not be changed");
                return;
            }
        }
        let now = self.functions.now();
        for function in before.entries().filter_map(Entry::deployed) {
            let same = now.get(&function.manifest().name).and_then(Entry::deployed).is_some_and(|new| new.is(function));
            if !same {
                self.retire(function.clone());
            }
        }
    }

    fn retire(&mut self, function: Function) {
        self.retiring.spawn(async move { function.retire().await });
    }

    /// Lets go of candidates that are not to be deployed. They may be warm.
    fn discard(&mut self, candidates: Vec<Candidate>) {
        candidates.into_iter().for_each(|candidate| self.retire(candidate.function));
    }

    /// Checks that manifests want no requests of functions that they do not replace.
    fn check_routes<'a>(&self, manifests: impl IntoIterator<Item = &'a Manifest>) -> Result<(), RouteTaken> {
        let manifests: Vec<_> = manifests.into_iter().collect();
        let now = self.functions.now();
        let others = now.entries().filter_map(Entry::manifest);
        let others = others.filter(|other| !manifests.iter().any(|manifest| manifest.name == other.name));
        check_routes(others.chain(manifests.iter().copied()))
    }

    /// The file of `serve --manifests` that gives a function.
    fn giver(&self, name: &FunctionName) -> Option<&PathBuf> {
        self.given.iter().find(|(_, given)| *given == name).map(|(file, _)| file)
    }

    fn outcome(&self, name: &FunctionName, done: Done, after: &Kept) -> Outcome {
        let before = self.records.get(name).map(Record::current);
        let note = self.giver(name).filter(|_| done == Done::Deployed);
        Outcome {
            function: name.to_string(),
            outcome: done,
            revision: Some(after.number),
            before: before.map(|before| before.number),
            changes: changes(before, after),
            note: note
                .map(|file| format!("`{}` gives it too: the host deploys that file when it changes", file.display())),
        }
    }

    /// Removes what no revision and no function needs: metrics, outputs in the cache, and files in the state directory.
    async fn collect(&mut self) {
        while self.retiring.try_join_next().is_some() {}
        self.workshop.tidy();
        // What retires may count still.
        if self.retiring.is_empty() {
            let now = self.functions.now();
            let served: HashSet<String> = now.entries().map(|entry| entry.name().to_string()).collect();
            let retain = move |workshop: &Workshop| {
                workshop.retain(|name| served.contains(name));
                Ok(())
            };
            if let Err(error) = self.work(retain).await {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "what was kept of functions that are gone could not be removed"
                );
            }
        }
        if !self.unread.is_empty() {
            tracing::warn!("nothing is removed from the state directory while a deployment record cannot be read");
            return;
        }
        let keep: HashSet<_> = self.records.values().flat_map(Record::blobs).collect();
        if let Err(error) = self.work(move |workshop| workshop.collect(keep)).await {
            tracing::warn!(error = format!("{error:#}"), "what is needed no more could not be removed");
        }
    }

    /// Does what blocks, where it may.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce(&Workshop) -> Result<T> + Send + 'static) -> Result<T> {
        let workshop = Arc::clone(&self.workshop);
        let done = tokio::task::spawn_blocking(move || work(&workshop)).await;
        done.map_err(|_| anyhow!("the host failed while it deployed; its log says more"))?
    }
}

impl Candidate {
    /// Its place in the table.
    fn deployed(self) -> Entry {
        Entry { revision: Some(revision(&self.kept)), answer: Answerer::Deployed(self.function), refused: None }
    }
}

fn revision(kept: &Kept) -> Revision {
    Revision { number: kept.number, deployed: kept.deployed, by: kept.by.as_str() }
}

fn not_found(name: &FunctionName) -> Refused {
    let text = format!("the host has no function `{name}`");
    Refused { kind: RefusedKind::NotFound, text, help: "`torpor ps` lists those it has".to_owned() }
}

fn malformed(error: anyhow::Error) -> Refused {
    let help = "correct them; `docs/manifest.md` has every key".to_owned();
    Refused { kind: RefusedKind::Malformed, text: format!("{error:#}"), help }
}

fn conflict(error: &anyhow::Error) -> Refused {
    let help = advice::help(error).unwrap_or_else(|| "nothing was changed; correct that, then try again".to_owned());
    Refused { kind: RefusedKind::Conflict, text: format!("{error:#}"), help }
}
