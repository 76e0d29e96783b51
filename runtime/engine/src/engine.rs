//! What all functions share: the wasmtime engine, the linker, the store of compiled modules, and the places for instances.

use crate::{
    bindings::PredictFunction,
    cache::{Cache, Owner},
    derived::{Derived, host_key, io_at},
    error::{DeployError, Error},
    files::Folders,
    function::Function,
    guest::{Capabilities, Guest},
    keeper::Keeper,
    kept::Kept,
    libraries::Libraries,
    load::Loader,
    memory,
    optimized::Optimized,
    precompiled::Precompiled,
    snapshot,
    ticker::Ticker,
    warm::{Recipe, SessionKey},
    witx,
};
use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::Semaphore;
use torpor_bundle::{Bundle, Digest, Verified};
use torpor_manifest::Manifest;
use torpor_nn::{Backends, Sessions};
use torpor_telemetry::Metrics;
use wasmtime::{
    Enabled, InstanceAllocationStrategy, PoolingAllocationConfig,
    component::{HasSelf, Linker},
};

/// Core modules in one component: the module itself, and the shims that the tools put around it.
const CORE_INSTANCES: u32 = 8;
/// Linear memories and tables in one component. Beyond the first of each they are rare.
const MEMORIES: u32 = 2;
const TABLES: u32 = 4;
/// Bytes of a memory that stay mapped when its instance ends. Those that the instance wrote are copied back from the module's
/// image, so the next instance of the same module faults no page in and no processor has to forget a mapping. What
/// is of the image is given back when the module's code is no longer kept; the rest stays with the place, of which wasmtime reuses a
/// hundred.
const KEPT_RESIDENT: usize = 1024 * 1024;

/// How to build an [`Engine`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The state directory; compiled modules and the host's key live there.
    pub state: PathBuf,
    /// Instances that may exist at the same time, of all functions together.
    pub instances: u32,
    /// Bytes that functions may take in memory, all together; `None` for no limit.
    pub memory_budget: Option<u64>,
    /// Bytes on disk that optimized models may have, all together; 0 for none of them.
    pub optimized_limit: u64,
    /// Bytes that the response cache may take; 0 for none.
    pub response_cache: u64,
}

/// Makes functions. One per process; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What every function holds on to.
pub(crate) struct Shared {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) linker: Linker<Guest>,
    pub(crate) core_linker: wasmtime::Linker<Guest>,
    pub(crate) precompiled: Precompiled,
    pub(crate) kept: Kept,
    pub(crate) optimized: Optimized,
    pub(crate) ticker: Ticker,
    pub(crate) keeper: Keeper,
    /// One permit for each place in the pool. A request that finds none waits, within its deadline.
    pub(crate) places: Semaphore,
    backends: Backends,
    /// Models that functions have open and may share.
    pub(crate) sessions: Sessions<SessionKey>,
    /// What functions have kept of their answers; `None` where the operator wants none.
    pub(crate) cache: Option<Arc<Cache>>,
    pub(crate) libraries: Libraries,
    /// Where models that guests bring are while they are opened.
    loaded: PathBuf,
    /// The files of bundles, where modules may be shown them.
    pub(crate) folders: Folders,
    metrics: Arc<Metrics>,
    /// Modules that could be served by these triggers (inference, HTTP) when one of their functions was deployed.
    rehearsed: Mutex<HashSet<UseOfModule>>,
    /// What is needed to wake each function that somebody still holds, replaced ones included.
    recipes: Mutex<Vec<Weak<Recipe>>>,
}

/// A module, and whether it is to serve inference and HTTP.
pub(crate) type UseOfModule = (Digest, bool, bool);

impl Shared {
    /// Whether a module has been found fit for these triggers.
    pub(crate) fn rehearsed(&self, module: &UseOfModule) -> bool {
        self.rehearsed.lock().unwrap_or_else(PoisonError::into_inner).contains(module)
    }

    pub(crate) fn rehearse(&self, module: UseOfModule) {
        self.rehearsed.lock().unwrap_or_else(PoisonError::into_inner).insert(module);
    }
}

impl Engine {
    /// Starts wasmtime and opens the store of compiled modules.
    ///
    /// # Errors
    /// When the system cannot run guests, or the state directory cannot be written.
    pub fn new(config: &Config, backends: Backends, metrics: Arc<Metrics>) -> Result<Self, Error> {
        memory::keep_little();
        let libraries = Libraries::of(&backends);
        let wasmtime = wasmtime_engine(config.instances)?;
        let linker = linker(&wasmtime).map_err(|error| Error::Engine(format!("{error:#}")))?;
        let core_linker = core_linker(&wasmtime).map_err(|error| Error::Engine(format!("{error:#}")))?;
        let key = host_key(&config.state.join("keys"))?;
        let precompiled = Precompiled::new(Derived::open(config.state.join("compiled"), key), &wasmtime);
        // What a crash left there is of no use to anybody.
        let loaded = config.state.join("loaded");
        let _ = std::fs::remove_dir_all(&loaded);
        std::fs::create_dir_all(&loaded).map_err(io_at("create", &loaded))?;
        let optimized = Optimized::new(Derived::open(config.state.join("optimized"), key), config.optimized_limit);
        let folders = Folders::open(config.state.join("files"))?;
        let ticker = Ticker::start(wasmtime.weak()).map_err(|error| Error::Engine(format!("no thread: {error}")))?;
        let places = Semaphore::new(usize::try_from(config.instances).unwrap_or(Semaphore::MAX_PERMITS));
        let recipes = Mutex::default();
        let keeper = Keeper::new(config.memory_budget, metrics.memory().clone());
        Ok(Engine {
            shared: Arc::new(Shared {
                wasmtime,
                linker,
                core_linker,
                precompiled,
                kept: Kept::new(),
                optimized,
                ticker,
                keeper,
                places,
                backends,
                sessions: Sessions::default(),
                cache: Cache::new(config.response_cache, metrics.cache().clone()),
                libraries,
                loaded,
                folders,
                metrics,
                rehearsed: Mutex::default(),
                recipes,
            }),
        })
    }

    /// Checks that this host can serve `manifest` with `bundle`, and compiles the module if that was not done before. The
    /// function is cold afterwards. Folders in the manifest must be absolute. Blocks, for seconds where the module is large.
    ///
    /// # Errors
    /// When manifest, bundle and host do not fit each other; see [`DeployError`].
    pub fn deploy(&self, manifest: Manifest, bundle: &Verified<Bundle>) -> Result<Function, DeployError> {
        let recipe = Recipe::new(&manifest, bundle, &self.shared.backends)?;
        recipe.rehearse(&self.shared)?;
        let limit = manifest.allow.load.map(|limit| limit.as_u64());
        let loader =
            limit.map(|limit| Loader::new(&self.shared.backends, self.shared.loaded.clone(), limit)).transpose()?;
        let recipe = Arc::new(recipe);
        let files = recipe.files().map(|files| self.shared.folders.path(files.bundle));
        let capabilities = Capabilities::new(&manifest, loader, files)
            .map_err(|(path, source)| DeployError::Folder { path, source })?;
        let metrics = self.shared.metrics.function(manifest.name.as_str());
        self.shared.recipes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&recipe));
        Ok(Function::new(Arc::clone(&self.shared), manifest, bundle, recipe, capabilities, metrics))
    }

    /// The blobs that functions need to wake, of all functions that somebody still holds.
    pub fn blobs_in_use(&self) -> HashSet<Digest> {
        let mut recipes = self.shared.recipes.lock().unwrap_or_else(PoisonError::into_inner);
        recipes.retain(|recipe| recipe.strong_count() > 0);
        recipes.iter().filter_map(Weak::upgrade).flat_map(|recipe| recipe.blobs().collect::<Vec<_>>()).collect()
    }

    /// Drops the metrics, and what is kept of models' outputs for them alone, of all functions of which `keep` does not say
    /// that they are still there. Blocks, for milliseconds where much is kept.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.shared.metrics.retain(&keep);
        if let Some(cache) = &self.shared.cache {
            cache.forget(|owner| matches!(owner, Owner::Function(name) if !keep(name.as_str())));
        }
    }

    /// Removes the compiled modules, optimized models and folders of files of blobs that `keep` does not name, and those that
    /// another version of this host or of a library made. Returns how many files those were. Must not run beside [`Engine::deploy`].
    pub fn collect(&self, keep: &HashSet<Digest>) -> usize {
        let Shared { precompiled, kept, optimized, folders, backends, .. } = &*self.shared;
        kept.collect(keep);
        precompiled.collect(keep) + optimized.collect(keep, backends) + folders.collect(keep)
    }
}

/// A wasmtime engine that keeps places for instances, so that making one takes microseconds.
fn wasmtime_engine(instances: u32) -> Result<wasmtime::Engine, Error> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
        .total_memories(instances.saturating_mul(MEMORIES))
        .total_tables(instances.saturating_mul(TABLES))
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .linear_memory_keep_resident(KEPT_RESIDENT)
        .table_keep_resident(4096)
        .pagemap_scan(Enabled::Auto);
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true).allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    // The system's unwinder would read what it has registered once more when code is dropped, and code that is kept may be dropped
    // because its file was damaged. Wasm's own backtraces do without.
    config.native_unwind_info(false);
    // However far apart a snapshot's tables lie, its memory is mapped, and not written anew for each instance.
    config.memory_guaranteed_dense_image_size(snapshot::MAX_MEMORY as u64);
    match wasmtime::Engine::new(&config) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            // The pool reserves address space, of which small systems have too little.
            tracing::warn!(
                error = format!("{error:#}"),
                "no pool of instances on this system: each request will take longer"
            );
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            wasmtime::Engine::new(&config).map_err(|error| Error::Engine(format!("{error:#}")))
        }
    }
}

/// Everything that a core module may import.
fn core_linker(engine: &wasmtime::Engine) -> wasmtime::Result<wasmtime::Linker<Guest>> {
    let mut linker = wasmtime::Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, Guest::preview1)?;
    witx::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Everything that a component may import.
fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    PredictFunction::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    Ok(linker)
}
