//! What a function holds while it is warm, how it is made, and how it is given back.

use crate::{
    bindings::PredictFunctionPre,
    command::CommandPre,
    engine::Shared,
    error::{DeployError, WakeError, chain},
    guest::Guest,
    memory,
    precompiled::{Kind, Mapped},
};
use futures::future::{join, join_all};
use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use torpor_bundle::{Blob, Bundle, Digest};
use torpor_manifest::{BackendChoice, FunctionName, Isolation, Manifest, ModelGrant, ModelName};
use torpor_nn::{Backend, BackendKind, Backends, Choice, Device, Model, ModelFormat, OpenOptions, Precision};
use torpor_tensor::{NamedTensor, Signature};
use wasmtime::component::Component;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

/// How long the parts of a wake took. Code and models are got at the same time, so the parts do not add up to the whole.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct WakeTiming {
    /// Checking and mapping the compiled module.
    #[serde(serialize_with = "crate::status::milliseconds", rename = "map_ms")]
    pub map: Duration,
    /// Resolving its imports.
    #[serde(serialize_with = "crate::status::milliseconds", rename = "link_ms")]
    pub link: Duration,
    /// Opening all its models.
    #[serde(serialize_with = "crate::status::milliseconds", rename = "session_ms")]
    pub session: Duration,
    /// The whole wake.
    #[serde(serialize_with = "crate::status::milliseconds", rename = "total_ms")]
    pub total: Duration,
}

/// All that a wake needs to know, checked at deploy. Lives as long as the function, and holds no code and no session.
pub(crate) struct Recipe {
    function: FunctionName,
    module: Blob,
    kind: Kind,
    predict: bool,
    http: bool,
    models: Vec<Ingredient>,
}

/// One granted model.
#[derive(Clone)]
pub(crate) struct Ingredient {
    pub(crate) name: ModelName,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) isolation: Isolation,
    blob: Blob,
    format: ModelFormat,
    options: OpenOptions,
}

/// Code and models, ready to run. Shared by all running requests; the function drops it when it goes to sleep.
pub(crate) struct Warm {
    pub(crate) code: Code,
    pub(crate) models: Arc<Models>,
    pub(crate) timing: WakeTiming,
    /// How much the process grew during the wake, in bytes, and what the models' own processes have. Other functions that woke
    /// meanwhile are in it.
    pub(crate) memory: Option<u64>,
}

/// The mapped module with its imports resolved, once for each thing that it exports.
pub(crate) struct Code {
    pub(crate) predict: Option<PredictFunctionPre<Guest>>,
    pub(crate) http: Option<ProxyPre<Guest>>,
    /// The whole of a core module, which is a program.
    pub(crate) command: Option<CommandPre>,
}

/// The open models of one function, by the names under which its manifest grants them.
pub(crate) struct Models {
    function: FunctionName,
    models: Vec<(ModelName, Model)>,
}

impl Recipe {
    pub(crate) fn new(manifest: &Manifest, bundle: &Bundle, backends: &Backends) -> Result<Self, DeployError> {
        let kind = Kind::of(&bundle.module)?;
        match kind {
            Kind::Core if manifest.trigger.inference.is_some() => return Err(DeployError::CoreInference),
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
            let options = options(grant);
            let backend = backends.choose(choice(grant.backend), format, &options).map_err(failed)?;
            let backend = match grant.isolation {
                Isolation::Host => Arc::clone(backend),
                Isolation::Process => backends.isolated(backend, grant.memory.as_u64()).map_err(failed)?,
            };
            let (blob, isolation) = (model.blob.clone(), grant.isolation);
            Ok(Ingredient { name: name.clone(), backend, isolation, blob, format, options })
        };
        Ok(Recipe {
            function: manifest.name.clone(),
            module: bundle.module.clone(),
            kind,
            predict: manifest.trigger.inference.is_some(),
            http: manifest.trigger.http.is_some(),
            models: manifest.models.iter().map(ingredient).collect::<Result<_, DeployError>>()?,
        })
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
        std::iter::once(self.module.digest).chain(self.models.iter().map(|model| model.blob.digest))
    }

    /// Does once what every wake will do with the code, so that a module that cannot be served is found at deploy.
    pub(crate) fn rehearse(&self, engine: &Shared) -> Result<(), DeployError> {
        engine.precompiled.prepare(&engine.wasmtime, &self.module, self.kind)?;
        self.code(engine)?;
        for model in &self.models {
            // A model that cannot be opened is found by the first wake, which says why.
            model.optimized(engine);
        }
        Ok(())
    }

    fn code(&self, engine: &Shared) -> Result<(Code, Duration, Duration), DeployError> {
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

fn options(grant: &ModelGrant) -> OpenOptions {
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
    let at_least_one = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
    let (threads, parallel) = (at_least_one(grant.threads), at_least_one(grant.parallel));
    OpenOptions { device, precision, threads, parallel, optimized: false }
}

impl Ingredient {
    /// The optimized form of the model, where it has one. It is made for the processor, so no other device opens it.
    fn optimized(&self, engine: &Shared) -> Option<PathBuf> {
        let on_processor = self.options.device == Device::Cpu;
        on_processor.then(|| engine.optimized.get(&*self.backend, &self.blob, self.format)).flatten()
    }

    async fn open(&self, engine: &Arc<Shared>) -> Result<Model, WakeError> {
        let found = tokio::task::spawn_blocking({
            let (engine, model) = (Arc::clone(engine), self.clone());
            move || -> Result<Option<PathBuf>, DeployError> {
                // One look at the file's metadata, unless somebody has touched the file: then it is hashed again.
                model.blob.check()?;
                Ok(model.optimized(&engine))
            }
        });
        let optimized = found.await.map_err(|_| WakeError::Interrupted)??;
        let open = |path, optimized| {
            Model::open(Arc::clone(&self.backend), path, self.format, OpenOptions { optimized, ..self.options })
        };
        if let Some(path) = optimized {
            match open(path, true).await {
                Ok(model) => return Ok(model),
                Err(error) => {
                    tracing::warn!(model = %self.name, error = chain(&error), "the optimized form does not open")
                }
            }
        }
        let opened = open(self.blob.path.clone(), false).await;
        opened.map_err(|source| WakeError::Model { model: self.name.clone(), source })
    }
}

impl Warm {
    /// Maps the code and opens the models, both at the same time. Dropping the future closes what was opened so far.
    pub(crate) async fn wake(engine: Arc<Shared>, recipe: Arc<Recipe>) -> Result<Self, WakeError> {
        let before = memory::resident();
        let start = Instant::now();
        let code = tokio::task::spawn_blocking({
            let recipe = Arc::clone(&recipe);
            let engine = Arc::clone(&engine);
            move || recipe.code(&engine)
        });
        let models = async {
            let opened = join_all(recipe.models.iter().map(|model| model.open(&engine))).await;
            (opened, start.elapsed())
        };
        let (code, (opened, session)) = join(code, models).await;

        let names = recipe.models.iter().map(|ingredient| ingredient.name.clone());
        let models = opened.into_iter().collect::<Result<Vec<_>, _>>()?;
        let models = Arc::new(Models { function: recipe.function.clone(), models: names.zip(models).collect() });
        let (code, map, link) = code.map_err(|_| WakeError::Interrupted)??;
        let timing = WakeTiming { map, link, session, total: start.elapsed() };
        let memory = before.zip(memory::resident()).map(|(before, after)| after.saturating_sub(before));
        let memory = memory.map(|grown| grown + models.elsewhere());
        Ok(Warm { code, models, timing, memory })
    }

    /// Gives everything back to the operating system. Blocks until it is done.
    pub(crate) fn close(self) {
        let Warm { code, models, .. } = self;
        drop(code);
        match Arc::into_inner(models) {
            Some(models) => models.models.into_iter().for_each(|(_, model)| model.close()),
            // An instance outlives its request only if the life cycle is broken; its drop then closes the models.
            None => tracing::error!("an instance still holds the models of a function that goes to sleep"),
        }
        memory::give_back();
    }
}

impl Models {
    /// Where a granted model stands.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.models.iter().position(|(granted, _)| granted.as_str() == name)
    }

    /// The names of all, in alphabetical order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn name(&self, model: usize) -> &str {
        self.models[model].0.as_str()
    }

    /// What a model takes and gives.
    pub(crate) fn signature(&self, model: usize) -> &Arc<Signature> {
        self.models[model].1.signature()
    }

    /// The process that holds a model, where it is not this one and has not ended.
    pub(crate) fn process(&self, name: &str) -> Option<u32> {
        let (_, model) = self.models.get(self.position(name)?)?;
        model.process().filter(|_| model.ended().is_none())
    }

    /// Resident memory of all processes of their own, in bytes.
    fn elsewhere(&self) -> u64 {
        let processes = self.models.iter().filter_map(|(_, model)| model.process());
        processes.filter_map(|process| memory::resident_of(&process.to_string())).sum()
    }

    /// How the process of a model has ended, for the operator, if any has.
    pub(crate) fn ended(&self) -> Option<String> {
        let ended = self.models.iter().find_map(|(name, model)| model.ended().map(|how| (name, how)));
        ended.map(|(name, how)| format!("the worker process of the model `{name}` ended: {how}"))
    }

    /// Runs a model once.
    pub(crate) async fn run(
        &self,
        model: usize,
        inputs: Vec<NamedTensor>,
    ) -> Result<Vec<NamedTensor>, torpor_nn::Error> {
        self.models[model].1.run(inputs).await
    }

    /// Tells the operator of a model that failed for no fault of its inputs.
    pub(crate) fn report(&self, model: &str, error: &dyn std::error::Error) {
        tracing::warn!(function = %self.function, model, error = chain(error), "a model failed");
    }
}
