//! The store of optimized models. A library reads its own optimized form of a model faster than the model itself, so the form is
//! made once, when a function is deployed, together with the plan of how to open it, and a wake follows that. All forms together
//! stay within a limit: those that were not used for longest go.

use crate::{
    Error,
    derived::{Derived, io_at, now, size},
    error::chain,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use torpor_bundle::Digest;
use torpor_nn::{Backend, Backends, ModelFiles, OpenOptions, Plan, Tier};

/// The name of a plan, beside the files of the form.
const PLAN: &str = "plan.json";
/// How often the use of a form is noted on disk.
const NOTED: Duration = Duration::from_secs(3600);

/// Lives as long as the engine.
pub(crate) struct Optimized {
    files: Derived,
    /// Libraries optimize for the processor they run on.
    processor: u64,
    /// Bytes that all forms may have together.
    limit: u64,
    known: Mutex<Known>,
}

/// What this process knows of forms, by their names.
#[derive(Default)]
struct Known {
    /// Those that cannot be had, so that nobody tries again to make them.
    none: HashSet<String>,
    /// Those that went for others, or could not be made or written. They are made again when a function is deployed; if wakes
    /// did that, two forms of which only one fits would be made over and over while callers wait.
    gone: HashSet<String>,
    /// When those that were used were last.
    used: HashMap<String, Use>,
}

/// The last use of a form.
struct Use {
    /// By the clock on the wall, since it is compared with what other processes noted.
    last: SystemTime,
    /// When this process noted one on disk, if it did.
    noted: Option<Instant>,
}

/// What a form is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// To have it later. This is no use of it: every start of the host deploys all functions.
    Deploy,
    /// To open it now.
    Wake,
}

/// Why there is no optimized form.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] Error),
    #[error(transparent)]
    Model(#[from] torpor_nn::Error),
    #[error("the library has no such form")]
    None,
    #[error("it has {size} bytes, and all together may have {limit}; see `--optimized-limit`")]
    TooLarge { size: u64, limit: u64 },
}

impl Optimized {
    pub(crate) fn new(files: Derived, limit: u64) -> Self {
        Optimized { files, processor: processor(), limit, known: Mutex::default() }
    }

    /// The optimized form of the model `files`, whose content is `model` and perhaps `weights`, and how to open it; it is made where
    /// it is missing or damaged, though not by a wake if it went for want of room. `None` where it cannot be had: then the model
    /// itself is opened, which takes longer and tells what is wrong with it.
    pub(crate) fn get(
        &self,
        backend: &dyn Backend,
        files: &ModelFiles,
        model: Digest,
        weights: Option<Digest>,
        options: &OpenOptions,
        occasion: Occasion,
    ) -> Option<(ModelFiles, Plan)> {
        let form = |path| ModelFiles::one(files.format, path);
        let name = self.name(backend, model, weights, options);
        if self.limit == 0 || self.known().none.contains(&name) {
            return None;
        }
        let found = self.files.authentic(&name).and_then(|path| Some((read_plan(&path)?, path)));
        if let Some((plan, path)) = found {
            if occasion == Occasion::Wake {
                self.note_use(&name);
            }
            return Some((form(path), plan));
        }
        if occasion == Occasion::Wake && self.known().gone.contains(&name) {
            return None;
        }
        let made = self.files.make_folder(&name, |folder| {
            let tiers = backend.optimize(files, options, folder)?;
            if tiers.is_empty() {
                return Err(Failed::None);
            }
            let plan = Plan::learn(backend, &form(folder.to_owned()), options, tiers)?;
            write_plan(folder, plan)?;
            let size = size(folder).map_err(io_at("read", folder))?;
            if size > self.limit {
                return Err(Failed::TooLarge { size, limit: self.limit });
            }
            Ok(plan)
        });
        match made {
            Ok(plan) => {
                tracing::debug!(model = %model, ?plan, "the model is optimized");
                self.known().gone.remove(&name);
                self.note_use(&name);
                self.shrink(Some(&name));
                self.files.authentic(&name).map(|path| (form(path), plan))
            }
            Err(error) => {
                let mut known = self.known();
                match &error {
                    Failed::Store(error) => self.files.failed(error),
                    Failed::None => {
                        tracing::debug!(model = %model, "its library has no optimized form of the model")
                    }
                    Failed::Model(_) | Failed::TooLarge { .. } => tracing::warn!(
                        model = %model,
                        error = chain(&error),
                        "the model has no optimized form, and is opened as it is, which takes longer"
                    ),
                }
                // A full disk, which stops the library too, may have room the next time.
                let may_change = matches!(error, Failed::Store(_) | Failed::Model(_));
                let names = if may_change { &mut known.gone } else { &mut known.none };
                names.insert(name);
                None
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a use, and now and then notes it where a restart finds it.
    fn note_use(&self, name: &str) {
        let last = now();
        let mut known = self.known();
        let used = known.used.entry(name.to_owned()).or_insert(Use { last, noted: None });
        used.last = last;
        if used.noted.is_none_or(|noted| noted.elapsed() >= NOTED) {
            used.noted = Some(Instant::now());
            self.files.touch(name);
        }
    }

    /// Removes forms until they are within the limit. A session that has mapped one keeps it.
    fn shrink(&self, newest: Option<&str>) -> usize {
        let mut known = self.known();
        let removed = self.files.shrink(self.limit, newest, |name| known.used.get(name).map(|used| used.last));
        for name in &removed {
            tracing::info!(
                form = name,
                "the optimized form of a model went for others; until a function that has it is deployed again, or the host \
                 starts again, the model is opened as it is; see `--optimized-limit`"
            );
            known.used.remove(name);
        }
        let count = removed.len();
        known.gone.extend(removed);
        count
    }

    /// Removes the forms of models that `keep` does not name, and those that another version of a present library made. Those of
    /// a library that is not here stay, since it may only be missing for now.
    pub(crate) fn collect(&self, keep: &HashSet<Digest>, backends: &Backends) -> usize {
        let digests: HashSet<_> = keep.iter().map(Digest::hex).collect();
        let marks: Vec<_> =
            backends.present().map(|backend| (format!("-{}-", backend.kind()), self.mark(&**backend))).collect();
        let removed = self.files.collect(|name| {
            let digest = name.split('-').next().unwrap_or_default();
            let stale = marks.iter().any(|(kind, mark)| name.contains(kind) && !name.contains(mark));
            digests.contains(digest) && !stale
        });
        // The limit may be another than that of the host which made them.
        removed + self.shrink(None)
    }

    /// Forms and plans differ with what the library is asked for too.
    fn name(&self, backend: &dyn Backend, model: Digest, weights: Option<Digest>, options: &OpenOptions) -> String {
        // The same description may come with other weights.
        let weights = weights.map(|weights| format!("-{}", weights.hex())).unwrap_or_default();
        let OpenOptions { device, precision, threads, parallel, tier: _ } = options;
        let (digest, mark) = (model.hex(), self.mark(backend));
        format!("{digest}{mark}{weights}-{device}-{precision}-{threads}-{parallel}")
    }

    /// What tells apart the forms of one model.
    fn mark(&self, backend: &dyn Backend) -> String {
        let mut hasher = DefaultHasher::new();
        (backend.version(), self.processor).hash(&mut hasher);
        format!("-{}-{:016x}", backend.kind(), hasher.finish())
    }
}

/// What a plan is on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    first: String,
    upgrade_after_us: Option<u64>,
}

fn write_plan(folder: &Path, plan: Plan) -> Result<(), Error> {
    let path = folder.join(PLAN);
    let upgrade_after_us = plan.upgrade_after.map(|after| u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
    let written = Written { first: plan.first.name().to_owned(), upgrade_after_us };
    let text = serde_json::to_vec(&written).map_err(std::io::Error::from);
    text.and_then(|text| std::fs::write(&path, text)).map_err(io_at("write", &path))
}

/// The plan in an authentic folder; `None` for one that an older version wrote.
fn read_plan(folder: &Path) -> Option<Plan> {
    let text = std::fs::read(folder.join(PLAN)).ok()?;
    let Written { first, upgrade_after_us } = serde_json::from_slice(&text).ok()?;
    let first = [Tier::Baseline, Tier::Optimized].into_iter().find(|tier| tier.name() == first)?;
    Some(Plan { first, upgrade_after: upgrade_after_us.map(Duration::from_micros) })
}

/// What the system says of the processor's features. Where it says nothing, only the library's version tells forms apart.
fn processor() -> u64 {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let features = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    let mut hasher = DefaultHasher::new();
    (std::env::consts::ARCH, features).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
