//! The store of optimized models. A library reads its own optimized form of a model faster than the model itself, so the form is
//! made once, when a function is deployed, together with the plan of how to open it, and a wake follows that.

use crate::{
    Error,
    derived::{Derived, io_at},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use torpor_bundle::{Blob, Digest};
use torpor_nn::{Backend, Backends, ModelFiles, OpenOptions, Plan, Tier};

/// The name of a plan, beside the files of the form.
const PLAN: &str = "plan.json";

/// Lives as long as the engine.
pub(crate) struct Optimized {
    files: Derived,
    /// Libraries optimize for the processor they run on.
    processor: u64,
    /// Forms that cannot be had, so that not every wake tries again to make them.
    none: Mutex<HashSet<String>>,
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
}

impl Optimized {
    pub(crate) fn new(files: Derived) -> Self {
        Optimized { files, processor: processor(), none: Mutex::default() }
    }

    /// The optimized form of the model `files`, whose content is `model` and perhaps `weights`, and how to open it; it is made where
    /// it is missing or damaged. `None` where it cannot be had: then the model itself is opened, which takes longer and tells what
    /// is wrong with it.
    pub(crate) fn get(
        &self,
        backend: &dyn Backend,
        files: &ModelFiles,
        model: &Blob,
        weights: Option<&Blob>,
        options: &OpenOptions,
    ) -> Option<(ModelFiles, Plan)> {
        let form = |path| ModelFiles::one(files.format, path);
        let name = self.name(backend, model, weights, options);
        if self.none().contains(&name) {
            return None;
        }
        let found = self.files.authentic(&name).and_then(|path| Some((read_plan(&path)?, path)));
        if let Some((plan, path)) = found {
            return Some((form(path), plan));
        }
        let made = self.files.make_folder(&name, |folder| {
            let tiers = backend.optimize(files, options, folder)?;
            if tiers.is_empty() {
                return Err(Failed::None);
            }
            let plan = Plan::learn(backend, &form(folder.to_owned()), options, tiers)?;
            write_plan(folder, plan)?;
            Ok(plan)
        });
        match made {
            Ok(plan) => {
                tracing::debug!(model = %model.digest, ?plan, "the model is optimized");
                self.files.authentic(&name).map(|path| (form(path), plan))
            }
            Err(error) => {
                tracing::debug!(model = %model.digest, %error, "the model has no optimized form");
                // A full disk may have room the next time; what the library says does not change.
                if !matches!(error, Failed::Store(_)) {
                    self.none().insert(name);
                }
                None
            }
        }
    }

    fn none(&self) -> MutexGuard<'_, HashSet<String>> {
        self.none.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the forms of models that `keep` does not name, and those that another version of a present library made. Those of
    /// a library that is not here stay, since it may only be missing for now.
    pub(crate) fn collect(&self, keep: &HashSet<Digest>, backends: &Backends) -> usize {
        let digests: HashSet<_> = keep.iter().map(Digest::hex).collect();
        let marks: Vec<_> =
            backends.present().map(|backend| (format!("-{}-", backend.kind()), self.mark(&**backend))).collect();
        self.files.collect(|name| {
            let digest = name.split('-').next().unwrap_or_default();
            let stale = marks.iter().any(|(kind, mark)| name.contains(kind) && !name.contains(mark));
            digests.contains(digest) && !stale
        })
    }

    /// Forms and plans differ with what the library is asked for too.
    fn name(&self, backend: &dyn Backend, model: &Blob, weights: Option<&Blob>, options: &OpenOptions) -> String {
        // The same description may come with other weights.
        let weights = weights.map(|weights| format!("-{}", weights.digest.hex())).unwrap_or_default();
        let OpenOptions { device, precision, threads, parallel, tier: _ } = options;
        let (digest, mark) = (model.digest.hex(), self.mark(backend));
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
