//! What a function holds while it is warm, how it is made, and how it is given back.

use crate::{
    bindings::PredictFunctionPre,
    cache::{Identity, Keeping},
    command::CommandPre,
    engine::{Shared, UseOfModule},
    error::{DeployError, WakeError, chain},
    files::Files,
    guest::Guest,
    memory,
    optimized::Occasion,
    precompiled::{Kind, Mapped},
    trace::Marks,
};
use futures::future::{join, join_all};
use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use torpor_bundle::{Blob, Bundle, Digest};
use torpor_manifest::{BackendChoice, FunctionName, Isolation, Manifest, ModelCache, ModelGrant, ModelName};
use torpor_nn::{
    Backend, BackendKind, Backends, Batching, Caller, Choice, Device, Model, ModelFiles, ModelFormat, OpenOptions, Pad,
    Plan, Precision, SharedModel, Tier, Upgrade,
};
use torpor_telemetry::{CacheKind, FunctionMetrics, OpenTier};
use torpor_tensor::{Dim, NamedTensor, Signature};
use wasmtime::component::Component;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

/// How long the parts of a wake took. Code and models are got at the same time, so the parts do not add up to the whole.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct WakeTiming {
    /// Checking the compiled module, and mapping it where it is not kept.
    #[serde(serialize_with = "crate::status::milliseconds", rename = "map_ms")]
    pub map: Duration,
    /// Resolving its imports; nothing where that is kept.
    #[serde(serialize_with = "crate::status::milliseconds", rename = "link_ms")]
    pub link: Duration,
    /// Opening all its models.
    #[serde(serialize_with = "crate::status::milliseconds", rename = "session_ms")]
    pub session: Duration,
    /// The first run of a model after it, which takes longer than later ones; `None` before there was one. Not in the whole.
    #[serde(serialize_with = "crate::status::maybe_milliseconds", rename = "first_run_ms")]
    pub first_run: Option<Duration>,
    /// The whole wake.
    #[serde(serialize_with = "crate::status::milliseconds", rename = "total_ms")]
    pub total: Duration,
    /// Its models, in alphabetical order; they were opened at the same time.
    pub models: Vec<OpenedModel>,
}

/// How a model was opened in a wake.
#[derive(Debug, Clone, serde::Serialize)]
pub struct OpenedModel {
    /// The name that the module loads.
    pub name: String,
    /// In which way: `original`, `baseline` or `optimized`. Another one may have followed since.
    pub tier: &'static str,
    /// How long that took, a look at its files included.
    #[serde(serialize_with = "crate::status::milliseconds", rename = "open_ms")]
    pub open: Duration,
}

/// All that a wake needs to know, checked at deploy. Lives as long as the function, and holds no code and no session.
pub(crate) struct Recipe {
    function: FunctionName,
    module: Blob,
    kind: Kind,
    predict: bool,
    http: bool,
    models: Vec<Ingredient>,
    /// The bundle's files, if the manifest grants them.
    files: Option<Files>,
}

/// One granted model.
#[derive(Clone)]
pub(crate) struct Ingredient {
    pub(crate) name: ModelName,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) isolation: Isolation,
    blob: Blob,
    weights: Option<Blob>,
    /// The labels of its outputs, by their names.
    labels: BTreeMap<String, Blob>,
    /// Where the model and its weights are.
    files: ModelFiles,
    options: OpenOptions,
    /// How its runs are joined, if the manifest allows it.
    batching: Option<Batching>,
    /// How its outputs are kept, if the manifest wants that.
    cache: Option<ModelCache>,
}

/// What makes two open models the same one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    model: Digest,
    weights: Option<Digest>,
    backend: BackendKind,
    options: OpenOptions,
    batching: Option<Batching>,
}

/// Code and models, ready to run. Shared by all running requests; the function drops it when it goes to sleep.
pub(crate) struct Warm {
    pub(crate) code: Arc<Code>,
    pub(crate) models: Arc<Models>,
    pub(crate) timing: WakeTiming,
    /// How much the process grew during the wake, in bytes, and what the models' own processes have. Other functions that woke
    /// meanwhile are in it.
    pub(crate) memory: Option<u64>,
}

/// The mapped module with its imports resolved, once for each thing that it exports. Shared by the functions of the module, and by
/// `kept.rs` beyond their sleep.
pub(crate) struct Code {
    pub(crate) predict: Option<PredictFunctionPre<Guest>>,
    pub(crate) http: Option<ProxyPre<Guest>>,
    /// The whole of a core module, which is a program.
    pub(crate) command: Option<CommandPre>,
}

/// The open models of one function, by the names under which its manifest grants them.
pub(crate) struct Models {
    function: FunctionName,
    models: Vec<Granted>,
    /// The labels of the outputs of each model, in their order.
    labels: Vec<Labels>,
    /// Those of all of them; of two outputs of one name, the first model's. `None` where there are none.
    all_labels: Option<Arc<Labels>>,
    /// `None` in tests.
    metrics: Option<Arc<FunctionMetrics>>,
    /// How long the first run of any of them took. Shared with calls that outlive their lease.
    first_run: Arc<OnceLock<Duration>>,
}

/// One of them.
struct Granted {
    name: ModelName,
    model: SharedModel,
    /// There where the manifest wants its outputs kept.
    keeping: Option<Keeping>,
}

/// What stands along the last dimension of outputs, by their names.
pub type Labels = BTreeMap<String, Vec<String>>;

impl Recipe {
    pub(crate) fn new(manifest: &Manifest, bundle: &Bundle, backends: &Backends) -> Result<Self, DeployError> {
        let kind = Kind::of(&bundle.module)?;
        match kind {
            Kind::Core if manifest.trigger.inference.is_some() => return Err(DeployError::CoreInference),
            Kind::Core if manifest.trigger.http.as_ref().is_some_and(|http| http.cache.is_some()) => {
                return Err(DeployError::CoreCache);
            }
            Kind::Component if !manifest.command.args.is_empty() => return Err(DeployError::ComponentArguments),
            _ => {}
        }
        if manifest.trigger.inference.is_some() && bundle.config.signature.is_none() {
            return Err(DeployError::NoSignature);
        }
        let ingredient = |(name, grant): (&ModelName, &ModelGrant)| {
            let model = bundle.models.get(name).ok_or_else(|| no_model(name, bundle))?;
            let failed = |source| DeployError::Model { model: name.clone(), source };
            let format: ModelFormat =
                model.format.parse().map_err(|error: torpor_nn::UnknownFormat| failed(error.into()))?;
            let options = options(grant, manifest.scale.max_concurrency);
            let backend = backends.choose(choice(grant.backend), format, &options).map_err(failed)?;
            let backend = match grant.isolation {
                Isolation::Host => Arc::clone(backend),
                Isolation::Process => backends.isolated(backend, grant.memory.as_u64()).map_err(failed)?,
            };
            let weights = model.weights.as_ref().map(|weights| weights.path.clone());
            let files = ModelFiles { format, model: model.blob.path.clone(), weights };
            let (blob, weights, labels) = (model.blob.clone(), model.weights.clone(), model.labels.clone());
            let (name, isolation, batching) = (name.clone(), grant.isolation, batching(grant));
            let cache = grant.cache.clone();
            Ok(Ingredient { name, backend, isolation, blob, weights, labels, files, options, batching, cache })
        };
        Ok(Recipe {
            function: manifest.name.clone(),
            module: bundle.module.clone(),
            kind,
            predict: manifest.trigger.inference.is_some(),
            http: manifest.trigger.http.is_some(),
            models: manifest.models.iter().map(ingredient).collect::<Result<_, DeployError>>()?,
            files: files(manifest, bundle)?,
        })
    }

    pub(crate) fn files(&self) -> Option<&Files> {
        self.files.as_ref()
    }

    pub(crate) fn models(&self) -> &[Ingredient] {
        &self.models
    }

    /// Whether the module is a program rather than a component.
    pub(crate) fn is_command(&self) -> bool {
        self.kind == Kind::Core
    }

    /// What must stay in the store for the function to wake.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Digest> {
        let models = self.models.iter().flat_map(Ingredient::blobs);
        let files = self.files.iter().flat_map(Files::blobs);
        // The folder of files is kept under the digest of their bundle.
        let bundle = self.files.iter().map(|files| files.bundle);
        std::iter::once(self.module.digest).chain(models.chain(files).map(|blob| blob.digest)).chain(bundle)
    }

    /// Bytes of the module and the models.
    pub(crate) fn size(&self) -> u64 {
        let models = self.models.iter().flat_map(Ingredient::blobs);
        models.fold(self.module.size, |sum, blob| sum.saturating_add(blob.size))
    }

    /// Does once what every wake will do with the code, so that a module that cannot be served is found at deploy.
    pub(crate) fn rehearse(&self, engine: &Shared) -> Result<(), DeployError> {
        self.lay_out(engine)?;
        engine.precompiled.prepare(&engine.wasmtime, &self.module, self.kind)?;
        // Functions of one bundle are rehearsed once.
        if !engine.rehearsed(&self.use_of_module()) {
            self.map(engine)?;
            engine.rehearse(self.use_of_module());
        }
        for model in &self.models {
            let failed = |source| DeployError::Model { model: model.name.clone(), source };
            model.files.check().map_err(failed)?;
            joinable(&model.name, model.batching, &model.files)?;
            // A model that cannot be opened is found by the first wake, which says why.
            model.optimized(engine, Occasion::Deploy);
        }
        Ok(())
    }

    /// Sees to it that the bundle's files are where instances look for them.
    fn lay_out(&self, engine: &Shared) -> Result<(), DeployError> {
        self.files.as_ref().map_or(Ok(()), |files| engine.folders.make(files))
    }

    fn use_of_module(&self) -> UseOfModule {
        (self.module.digest, self.predict, self.http)
    }

    /// The code, and how long it took to map and to link it. Where it is kept, that is a look at the file from which it was mapped.
    fn code(&self, engine: &Shared) -> Result<(Arc<Code>, Duration, Duration), DeployError> {
        let start = Instant::now();
        let module = self.use_of_module();
        let looks = engine.precompiled.looks(&self.module);
        if let Some(code) = looks.as_ref().and_then(|looks| engine.kept.get(&module, looks)) {
            return Ok((code, start.elapsed(), Duration::ZERO));
        }
        let (code, map, link) = self.map(engine)?;
        let code = Arc::new(code);
        // Only what was mapped from this very file: code that was just compiled may be memory that no file backs.
        if let Some(looks) = looks.filter(|looks| engine.precompiled.looks(&self.module).as_ref() == Some(looks)) {
            engine.kept.put(module, looks, Arc::clone(&code));
        }
        Ok((code, map, link))
    }

    fn map(&self, engine: &Shared) -> Result<(Code, Duration, Duration), DeployError> {
        let start = Instant::now();
        let mapped = engine.precompiled.load(&engine.wasmtime, &self.module, self.kind)?;
        let at = Instant::now();
        let code = match mapped {
            Mapped::Component(component) => self.component(engine, &component)?,
            Mapped::Core(module) => {
                Code { predict: None, http: None, command: Some(CommandPre::new(&engine.core_linker, &module)?) }
            }
        };
        Ok((code, at - start, at.elapsed()))
    }

    fn component(&self, engine: &Shared, component: &Component) -> Result<Code, DeployError> {
        let link = |error: wasmtime::Error| DeployError::Link(format!("{error:#}"));
        let instance = engine.linker.instantiate_pre(component).map_err(link)?;
        let no_export = |trigger, export| move |_| DeployError::NoExport { trigger, export };
        let predict = self.predict.then(|| PredictFunctionPre::new(instance.clone())).transpose();
        let http = self.http.then(|| ProxyPre::new(instance)).transpose();
        Ok(Code {
            predict: predict.map_err(no_export("inference", "torpor:function/predict"))?,
            http: http.map_err(no_export("http", "wasi:http/incoming-handler"))?,
            command: None,
        })
    }
}

/// The bundle's files, as far as the manifest grants them.
fn files(manifest: &Manifest, bundle: &Bundle) -> Result<Option<Files>, DeployError> {
    match (&manifest.allow.bundle_files, Files::of(bundle)) {
        (Some(_), None) => Err(DeployError::NoFiles),
        (Some(_), files) => Ok(files),
        (None, files) => {
            if files.is_some() {
                tracing::info!(
                    function = %manifest.name,
                    "the bundle has files that the manifest does not grant; see `bundle-files` in `[allow]`"
                );
            }
            Ok(None)
        }
    }
}

fn no_model(name: &ModelName, bundle: &Bundle) -> DeployError {
    let names: Vec<_> = bundle.models.keys().map(|name| format!("`{name}`")).collect();
    let available = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    DeployError::NoModel { model: name.clone(), available }
}

fn choice(backend: BackendChoice) -> Choice {
    match backend {
        BackendChoice::Auto => Choice::Auto,
        BackendChoice::OnnxRuntime => Choice::Only(BackendKind::OnnxRuntime),
        BackendChoice::OpenVino => Choice::Only(BackendKind::OpenVino),
        BackendChoice::Tract => Choice::Only(BackendKind::Tract),
    }
}

/// How a model is opened of which a function has up to `most` runs at the same time. Where the manifest says nothing else, runs
/// that happen at the same time have a processor each, and no two of them share one.
fn options(grant: &ModelGrant, most: usize) -> OpenOptions {
    let device = match grant.device {
        torpor_manifest::Device::Cpu => Device::Cpu,
        torpor_manifest::Device::Cuda => Device::Cuda,
        torpor_manifest::Device::TensorRt => Device::TensorRt,
        torpor_manifest::Device::Gpu => Device::Gpu,
        torpor_manifest::Device::Npu => Device::Npu,
    };
    let precision = match grant.precision {
        torpor_manifest::Precision::F32 => Precision::F32,
        torpor_manifest::Precision::Bf16 => Precision::Bf16,
        torpor_manifest::Precision::F16 => Precision::F16,
    };
    let threads = at_least_one(grant.threads);
    let parallel = grant.parallel.unwrap_or_else(|| Processors::here().runs(threads).get().min(most));
    OpenOptions { device, precision, threads, parallel: at_least_one(parallel), tier: Tier::Original }
}

fn at_least_one(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}

/// The processors that this process may use, and how the runs of a model share them.
#[derive(Debug, Clone, Copy)]
pub struct Processors(NonZeroUsize);

impl Processors {
    /// Those of this process.
    pub fn here() -> Self {
        Processors(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// How many runs of a model happen at the same time where its manifest does not say, if each has so many threads: no two of them
    /// share a processor.
    pub fn runs(self, threads: NonZeroUsize) -> NonZeroUsize {
        at_least_one(self.0.get() / threads)
    }
}

/// For people: how a model runs of which the manifest says nothing.
impl fmt::Display for Processors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (processors, runs) = (self.0.get(), self.runs(NonZeroUsize::MIN));
        let s = |number: usize| if number == 1 { "" } else { "s" };
        write!(
            f,
            "{processors} processor{}: up to {runs} run{} of a model at a time, of 1 thread each",
            s(processors),
            s(runs.get())
        )
    }
}

/// Checks that runs of the models of `bundle` can be joined as `manifest` says, as far as their files tell without a library. Deploying
/// checks it as well.
///
/// # Errors
/// [`DeployError::Batch`] for the first one that cannot.
pub fn check_batches(manifest: &Manifest, bundle: &Bundle) -> Result<(), DeployError> {
    for (name, grant) in &manifest.models {
        let Some(model) = bundle.models.get(name) else { continue };
        // Whether this host opens models of the format is for deploying to say.
        let Ok(format) = model.format.parse() else { continue };
        joinable(name, batching(grant), &ModelFiles::one(format, &model.blob.path))?;
    }
    Ok(())
}

fn joinable(model: &ModelName, batching: Option<Batching>, files: &ModelFiles) -> Result<(), DeployError> {
    let checked = batching.map_or(Ok(()), |batching| batching.check(files));
    checked.map_err(|reason| DeployError::Batch { model: model.clone(), reason })
}

fn batching(grant: &ModelGrant) -> Option<Batching> {
    let batch = grant.batch.as_ref()?;
    let pad = batch.pad.as_ref().map(|pad| Pad { axis: pad.axis, value: pad.value });
    let max_size = NonZeroUsize::new(batch.max_size).unwrap_or(NonZeroUsize::MIN);
    Some(Batching { max_size, max_delay: batch.max_delay, pad })
}

impl Ingredient {
    /// What the model consists of.
    fn blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.blob).chain(&self.weights).chain(self.labels.values())
    }

    /// The optimized form of the model, where it has one, and how to open it. It is made for the processor, so no other device opens
    /// it.
    fn optimized(&self, engine: &Shared, occasion: Occasion) -> Option<(ModelFiles, Plan)> {
        let on_processor = self.options.device == Device::Cpu;
        let (model, weights) = (self.blob.digest, self.weights.as_ref().map(|weights| weights.digest));
        let form = || engine.optimized.get(&*self.backend, &self.files, model, weights, &self.options, occasion);
        on_processor.then(form).flatten()
    }

    async fn open(
        &self,
        engine: &Arc<Shared>,
        function: &FunctionName,
        metrics: &Arc<FunctionMetrics>,
    ) -> Result<(Granted, Labels, OpenedModel), WakeError> {
        let start = Instant::now();
        let (model, labels) = self.opened(engine, metrics).await?;
        // Noted at once: a faster tier may follow in the background.
        let tier = model.tier();
        let opened = OpenedModel { name: self.name.to_string(), tier: tier.name(), open: start.elapsed() };
        let unfit = labels.iter().find_map(|(output, labels)| unfit(output, labels.len(), model.signature()));
        if let Some(reason) = unfit {
            let source = torpor_nn::Error::Files { model: self.files.to_string(), reason };
            return Err(WakeError::Model { model: self.name.clone(), source });
        }
        let granted = Granted { name: self.name.clone(), model, keeping: self.keeping(engine, function) };
        Ok((granted, labels, opened))
    }

    fn keeping(&self, engine: &Shared, function: &FunctionName) -> Option<Keeping> {
        let settings = self.cache.as_ref()?;
        let model = (self.blob.digest, self.weights.as_ref().map(|weights| weights.digest));
        let backend = (self.backend.kind(), self.backend.version());
        let identity = Identity::new(function, settings.share.as_ref(), model, backend, &self.options);
        Some(Keeping::new(engine.cache.clone(), identity, function, settings))
    }

    async fn opened(
        &self,
        engine: &Arc<Shared>,
        metrics: &Arc<FunctionMetrics>,
    ) -> Result<(SharedModel, Labels), WakeError> {
        let found = tokio::task::spawn_blocking({
            let (engine, model) = (Arc::clone(engine), self.clone());
            move || -> Result<(Option<(ModelFiles, Plan)>, Labels), DeployError> {
                // One look at each file's metadata, unless somebody has touched the file: then it is hashed again.
                model.blobs().try_for_each(Blob::check)?;
                engine.libraries.check(&*model.backend);
                let read = |(output, blob): (&String, &Blob)| Ok((output.clone(), torpor_bundle::read_labels(blob)?));
                let labels = model.labels.iter().map(read).collect::<Result<_, torpor_bundle::Error>>()?;
                Ok((model.optimized(&engine, Occasion::Wake), labels))
            }
        });
        let (optimized, labels) = found.await.map_err(|_| WakeError::Interrupted)??;
        let open = async {
            let before = memory::anonymous();
            let model = self.open_in_tier(optimized, metrics).await?;
            metrics.opened(counted(model.tier()));
            Ok::<_, WakeError>((model, memory::grown(before)))
        };
        let model = match self.isolation {
            Isolation::Host => engine.sessions.get(self.session_key(), open).await?,
            // A process is one function's, so that whatever ends it fails only that function's requests.
            Isolation::Process => {
                let (model, memory) = open.await?;
                SharedModel::alone(model, memory)
            }
        };
        Ok((model, labels))
    }

    fn session_key(&self) -> SessionKey {
        SessionKey {
            model: self.blob.digest,
            weights: self.weights.as_ref().map(|weights| weights.digest),
            backend: self.backend.kind(),
            options: self.options,
            batching: self.batching,
        }
    }

    /// Opens it as its plan says, or from its own file.
    async fn open_in_tier(
        &self,
        optimized: Option<(ModelFiles, Plan)>,
        metrics: &Arc<FunctionMetrics>,
    ) -> Result<Model, WakeError> {
        let open = |files, tier, upgrade| {
            let options = OpenOptions { tier, ..self.options };
            Model::open(Arc::clone(&self.backend), files, options, upgrade, self.batching)
        };
        if let Some((files, plan)) = optimized {
            let (first, upgrade) = match (self.isolation, plan.upgrade_after) {
                // Another tier beside the first would need another worker, so the one that is to stay is opened at once.
                (Isolation::Process, Some(_)) => (Tier::Optimized, None),
                (_, upgrade_after) => {
                    let upgrade = upgrade_after.map(|after| {
                        let metrics = Arc::clone(metrics);
                        let done = Arc::new(move || metrics.opened(OpenTier::Optimized));
                        Upgrade { after, tier: Tier::Optimized, done }
                    });
                    (plan.first, upgrade)
                }
            };
            match open(files, first, upgrade).await {
                Ok(model) => return Ok(model),
                Err(error) => {
                    tracing::warn!(model = %self.name, error = chain(&error), "the optimized form does not open")
                }
            }
        }
        let opened = open(self.files.clone(), Tier::Original, None).await;
        opened.map_err(|source| WakeError::Model { model: self.name.clone(), source })
    }
}

/// What an open in this tier counts as.
fn counted(tier: Tier) -> OpenTier {
    match tier {
        Tier::Original => OpenTier::Original,
        Tier::Baseline => OpenTier::Baseline,
        Tier::Optimized => OpenTier::Optimized,
    }
}

/// Why so many labels are not those of an output of a model that has this signature.
fn unfit(output: &str, count: usize, signature: &Signature) -> Option<String> {
    let Some(spec) = signature.outputs.iter().find(|spec| spec.name == output) else {
        return Some(format!("the bundle has labels of an output `{output}`, which the model does not have"));
    };
    match spec.shape.as_deref().map(<[Dim]>::last) {
        Some(Some(Dim::Fixed(size))) if *size != count as u64 => {
            Some(format!("the bundle has {count} labels of the output `{output}`, whose last dimension has {size}"))
        }
        Some(None) => Some(format!("the bundle has labels of the output `{output}`, which is one number")),
        _ => None,
    }
}

impl Warm {
    /// Maps the code and opens the models, both at the same time. Dropping the future closes what was opened so far.
    pub(crate) async fn wake(
        engine: Arc<Shared>,
        recipe: Arc<Recipe>,
        metrics: Arc<FunctionMetrics>,
    ) -> Result<Self, WakeError> {
        let before = memory::anonymous();
        let start = Instant::now();
        let code = tokio::task::spawn_blocking({
            let recipe = Arc::clone(&recipe);
            let engine = Arc::clone(&engine);
            move || {
                recipe.lay_out(&engine)?;
                recipe.code(&engine)
            }
        });
        let models = async {
            let opened =
                join_all(recipe.models.iter().map(|model| model.open(&engine, &recipe.function, &metrics))).await;
            (opened, start.elapsed())
        };
        let (code, (opened, session)) = join(code, models).await;

        let (models, labels, opened) = opened.into_iter().collect::<Result<(Vec<_>, Vec<_>, Vec<_>), _>>()?;
        let models = Arc::new(Models {
            function: recipe.function.clone(),
            models,
            all_labels: all(&labels),
            labels,
            metrics: Some(metrics),
            first_run: Arc::default(),
        });
        let (code, map, link) = code.map_err(|_| WakeError::Interrupted)??;
        let timing = WakeTiming { map, link, session, first_run: None, total: start.elapsed(), models: opened };
        // What was open before is not in what the process grew by, and is still there when the others who share it have gone.
        let memory = memory::grown(before).map(|grown| grown.max(models.shared()) + models.elsewhere());
        Ok(Warm { code, models, timing, memory })
    }

    /// Gives everything back to the operating system. Blocks until it is done.
    pub(crate) fn close(self) {
        let Warm { code, models, .. } = self;
        drop(code);
        match Arc::into_inner(models) {
            Some(models) => models.models.into_iter().for_each(|granted| granted.model.close()),
            // An instance outlives its request only if the life cycle is broken; its drop then closes the models.
            None => tracing::error!("an instance still holds the models of a function that goes to sleep"),
        }
        memory::give_back();
    }
}

/// The labels of all outputs, by their names.
fn all(labels: &[Labels]) -> Option<Arc<Labels>> {
    let mut all = Labels::new();
    for (output, labels) in labels.iter().flatten() {
        all.entry(output.clone()).or_insert_with(|| labels.clone());
    }
    (!all.is_empty()).then(|| Arc::new(all))
}

impl Models {
    /// None, of a function that is never woken.
    #[cfg(test)]
    pub(crate) fn none(function: FunctionName) -> Self {
        Models {
            function,
            models: Vec::new(),
            labels: Vec::new(),
            all_labels: None,
            metrics: None,
            first_run: Arc::default(),
        }
    }

    /// Where a granted model stands.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.models.iter().position(|granted| granted.name.as_str() == name)
    }

    /// The names of all, in alphabetical order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|granted| granted.name.as_str())
    }

    pub(crate) fn name(&self, model: usize) -> &str {
        self.models[model].name.as_str()
    }

    /// How a model that stands there is open.
    pub(crate) fn tier(&self, model: usize) -> Tier {
        self.models[model].model.tier()
    }

    /// What a model takes and gives.
    pub(crate) fn signature(&self, model: usize) -> &Arc<Signature> {
        self.models[model].model.signature()
    }

    /// The labels of an output, where the bundle has some.
    pub(crate) fn labels(&self, model: usize, output: &str) -> Option<&[String]> {
        self.labels[model].get(output).map(Vec::as_slice)
    }

    /// The labels of all outputs that have some. They outlive the models.
    pub(crate) fn all_labels(&self) -> Option<Arc<Labels>> {
        self.all_labels.clone()
    }

    /// The process that holds a model, where it is not this one and has not ended.
    pub(crate) fn process(&self, name: &str) -> Option<u32> {
        let model = &self.models.get(self.position(name)?)?.model;
        model.process().filter(|_| model.ended().is_none())
    }

    /// What the models took when they were opened, for this function or for another, in bytes.
    fn shared(&self) -> u64 {
        self.models.iter().filter_map(|granted| granted.model.memory()).sum()
    }

    /// Memory of all processes of their own that no file backs, in bytes.
    pub(crate) fn elsewhere(&self) -> u64 {
        let processes = self.models.iter().filter_map(|granted| granted.model.process());
        processes.filter_map(|process| memory::anonymous_of(&process.to_string())).sum()
    }

    /// How the process of a model has ended, for the operator, if any has.
    pub(crate) fn ended(&self) -> Option<String> {
        let ended = self.models.iter().find_map(|granted| granted.model.ended().map(|how| (&granted.name, how)));
        ended.map(|(name, how)| format!("the worker process of the model `{name}` ended: {how}"))
    }

    /// What a model gives for `inputs`: by a run, or what it gave before where the manifest lets that be kept.
    pub(crate) async fn run(
        &self,
        model: usize,
        inputs: Vec<NamedTensor>,
        caller: Caller,
        marks: &Marks,
    ) -> Result<Vec<NamedTensor>, torpor_nn::Error> {
        let granted = &self.models[model];
        let Some(keeping) = &granted.keeping else { return self.run_now(granted, inputs, caller, marks).await };
        let run = |inputs| self.run_now(granted, inputs, caller, marks);
        let (status, outputs) = keeping.outputs(inputs, caller.weight, run).await;
        marks.looked_up(status);
        if let (Some(metrics), Some(result)) = (&self.metrics, status.counted()) {
            metrics.looked_up(CacheKind::Model, result);
        }
        outputs
    }

    async fn run_now(
        &self,
        granted: &Granted,
        inputs: Vec<NamedTensor>,
        caller: Caller,
        marks: &Marks,
    ) -> Result<Vec<NamedTensor>, torpor_nn::Error> {
        let begin = Instant::now();
        let ran = granted.model.run(inputs, caller).await;
        if ran.is_ok() && self.first_run.get().is_none() {
            // Where several run at once the first to end is the first.
            let _ = self.first_run.set(begin.elapsed());
        }
        let ran = ran?;
        if ran.counts {
            marks.ran(ran.batch, ran.took);
        }
        if let Some(metrics) = &self.metrics {
            metrics.ran(ran.waited, ran.batch);
        }
        Ok(ran.outputs)
    }

    /// How long the first run took, once there was one.
    pub(crate) fn first_run(&self) -> &Arc<OnceLock<Duration>> {
        &self.first_run
    }

    /// Tells the operator of a model that failed for no fault of its inputs.
    pub(crate) fn report(&self, model: &str, error: &dyn std::error::Error) {
        tracing::warn!(function = %self.function, model, error = chain(error), "a model failed");
    }
}
