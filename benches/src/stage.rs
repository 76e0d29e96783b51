//! What is measured, and everything for it on disk: a key of this run, bundles signed with it, manifests and requests.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// Where things are; `cargo xtask bench` sets the environment.
#[derive(clap::Args)]
pub struct Places {
    /// The `torpor` binary
    #[arg(long, value_name = "FILE", env = "TORPOR_BIN")]
    pub torpor: PathBuf,
    /// The models, as `cargo xtask setup` lays them out
    #[arg(long, value_name = "DIR", env = "TORPOR_TEST_ASSETS")]
    assets: PathBuf,
    /// The modules, built
    #[arg(long, value_name = "DIR", env = "TORPOR_TEST_MODULES")]
    modules: PathBuf,
    /// The ONNX Runtime library
    #[arg(long, value_name = "FILE", env = "TORPOR_ONNXRUNTIME")]
    pub onnxruntime: PathBuf,
    /// The OpenVINO library, where there is one
    #[arg(long, value_name = "FILE", env = "TORPOR_OPENVINO")]
    pub openvino: Option<PathBuf>,
    /// The native server; without this, the one beside this program
    #[arg(long, value_name = "FILE")]
    native_server: Option<PathBuf>,
}

impl Places {
    /// With the native server that `cargo xtask bench` builds together with this program, unless another one was named.
    pub fn complete(mut self) -> Result<Self> {
        if self.native_server.is_none() {
            let server = env::current_exe()?.with_file_name("native-server").with_extension(env::consts::EXE_EXTENSION);
            ensure!(
                server.is_file(),
                "there is no native server `{}`; build it with `cargo build --release --package torpor-benches --bins`",
                server.display()
            );
            self.native_server = Some(server);
        }
        Ok(self)
    }
}

/// As many as a manifest may ask for.
const MAX_PARALLEL: usize = 256;

/// A function over a model, and what is asked of both.
pub struct Workload {
    /// The function's name.
    pub name: &'static str,
    /// The folder of its `bundle.toml`, in the repository.
    bundle: &'static str,
    module: &'static str,
    /// The name by which the module loads its model.
    grant: &'static str,
    model: Model,
    /// The least share of native throughput that it should reach, where it is served.
    pub target: Option<f64>,
}

enum Model {
    /// A file of the assets.
    Asset(&'static str),
    /// A file of the repository.
    Repository(&'static str),
}

/// Two rows of four numbers, added: whatever it takes is overhead.
pub const ADD: Workload = Workload {
    name: "add",
    bundle: "tests/bundles/add",
    module: "passthrough.wasm",
    grant: "model",
    model: Model::Repository("tests/models/add.onnx"),
    target: Some(0.5),
};

/// Magika without code around it.
pub const FILETYPE_RAW: Workload = Workload {
    name: "filetype-raw",
    bundle: "modules/passthrough",
    module: "passthrough.wasm",
    grant: "model",
    model: Model::Asset("magika/model.onnx"),
    target: Some(0.9),
};

/// Magika with its module.
pub const FILETYPE: Workload = Workload {
    name: "filetype",
    bundle: "modules/filetype",
    module: "filetype.wasm",
    grant: "standard",
    model: Model::Asset("magika/model.onnx"),
    target: None,
};

/// all-MiniLM-L6-v2 with its module.
pub const EMBED: Workload = Workload {
    name: "embed",
    bundle: "modules/embed",
    module: "embed.wasm",
    grant: "minilm",
    model: Model::Asset("minilm/model.onnx"),
    target: None,
};

/// The model of `embed` without its code.
pub const MINILM: Workload = Workload {
    name: "minilm",
    bundle: "benches/bundles/minilm",
    module: "passthrough.wasm",
    grant: "model",
    model: Model::Asset("minilm/model.onnx"),
    target: None,
};

/// `embed` with a stand-in for its model, which takes next to no time.
pub const EMBED_LIGHT: Workload =
    Workload { name: "embed-light", model: Model::Repository("tests/models/tokens.onnx"), ..EMBED };
/// The stand-in without that code.
pub const MINILM_LIGHT: Workload =
    Workload { name: "minilm-light", model: Model::Repository("tests/models/tokens.onnx"), ..MINILM };

/// How a function is served.
pub struct Way<'a> {
    /// The function's name.
    pub name: &'a str,
    /// What runs its model.
    pub backend: &'a str,
    /// Runs at the same time.
    pub parallel: usize,
    /// After what time it sleeps.
    pub idle_timeout: &'a str,
    /// In which process its model is.
    pub isolation: Isolation,
    /// Within what time a request is to be answered.
    pub deadline: &'a str,
    /// How runs of different requests are joined: what the manifest has behind `batch =`.
    pub batch: Option<&'a str>,
    /// Requests at the same time, which is also what can be joined.
    pub max_concurrency: usize,
    /// The largest body of a request, where it is not the default: what the manifest has behind `body =`.
    pub body: Option<&'a str>,
}

/// On ONNX Runtime in the host's process, one run at a time, each alone, always warm, and with a deadline that plays no part.
impl Default for Way<'_> {
    fn default() -> Self {
        Way {
            name: "",
            backend: "onnxruntime",
            parallel: 1,
            idle_timeout: "1h",
            isolation: Isolation::Host,
            deadline: "30s",
            batch: None,
            max_concurrency: 16,
            body: None,
        }
    }
}

/// The process in which a model is.
#[derive(Debug, Clone, Copy)]
pub enum Isolation {
    /// The host's.
    Host,
    /// One of its own.
    Process,
}

impl Isolation {
    /// The word of manifests.
    pub fn word(self) -> &'static str {
        match self {
            Isolation::Host => "host",
            Isolation::Process => "process",
        }
    }
}

/// What is measured over HTTP: models as they are, since a native server runs no code around them.
pub const SERVED: [Workload; 2] = [FILETYPE_RAW, ADD];

/// The text that `filetype` and `embed` are asked about.
pub const TEXT: &str = "the quick brown fox";

/// Sessions of the native server, and runs at the same time that Torpor's manifests allow: one a core, so that neither
/// leaves one idle.
pub fn parallel() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAX_PARALLEL)
}

impl Workload {
    /// An inference request for the bare model. For `embed` it is what its tokenizer makes of [`TEXT`].
    pub fn request(&self) -> Vec<u8> {
        let input = |name: &str, datatype: &str, shape: [usize; 2], data: Vec<i32>| json!({ "name": name, "shape": shape, "datatype": datatype, "data": data });
        let inputs = match self.name {
            "add" => vec![input("x", "FP32", [1, 4], vec![1, 2, 3, 4]), input("y", "FP32", [1, 4], vec![5, 6, 7, 8])],
            "embed" | "embed-light" | "minilm" | "minilm-light" => {
                let ids = vec![101, 1996, 4248, 2829, 4419, 102];
                let shape = [1, ids.len()];
                vec![
                    input("attention_mask", "INT64", shape, vec![1; ids.len()]),
                    input("token_type_ids", "INT64", shape, vec![0; ids.len()]),
                    input("input_ids", "INT64", shape, ids),
                ]
            }
            _ => vec![input("bytes", "INT32", [1, 2048], (0..2048).map(|index| index % 256).collect())],
        };
        json!({ "inputs": inputs }).to_string().into_bytes()
    }
}

/// What a caller of `filetype` sends over the wire to be told of [`TEXT`].
pub fn filetype_call() -> Vec<u8> {
    let input = json!({ "name": "content", "shape": [1], "datatype": "BYTES", "data": [TEXT] });
    crate::load::wire("/v2/models/filetype/infer", json!({ "inputs": [input] }).to_string().as_bytes())
}

/// The folder of this run, which goes when it ends.
pub struct Stage {
    /// Where things are.
    pub places: Places,
    dir: TempDir,
}

impl Stage {
    /// With a bundle and a request for each of `workloads`.
    pub fn new(places: Places, workloads: &[&Workload]) -> Result<Self> {
        let stage = Stage { places, dir: tempfile::tempdir().context("no temporary folder could be made")? };
        stage.torpor(|torpor| torpor.arg("keygen").arg(stage.path("bench")))?;
        let policy = "[[publisher]]\nname = \"bench\"\nkey = \"bench.pub.pem\"\nfunctions = [\"*\"]\n";
        fs::write(stage.trust(), policy)?;
        for workload in workloads {
            stage.bundle(workload).with_context(|| format!("the bundle of `{}` could not be made", workload.name))?;
            fs::write(stage.request(workload), workload.request())?;
        }
        Ok(stage)
    }

    /// A path in the folder of this run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The policy that trusts the key of this run.
    pub fn trust(&self) -> PathBuf {
        self.path("trust.toml")
    }

    /// The inference request for the bare model of `workload`.
    pub fn request(&self, workload: &Workload) -> PathBuf {
        self.path(&format!("{}.request.json", workload.name))
    }

    /// The bundle of `workload`.
    pub fn packed(&self, workload: &Workload) -> PathBuf {
        self.path(&format!("{}.torpor", workload.name))
    }

    /// The model of `workload`.
    pub fn model(&self, workload: &Workload) -> PathBuf {
        match workload.model {
            Model::Asset(path) => self.places.assets.join(path),
            Model::Repository(path) => repository().join(path),
        }
    }

    /// Its module, as it was built.
    pub fn module(&self, workload: &Workload) -> PathBuf {
        self.places.modules.join(workload.module)
    }

    /// The native server, with the model of `workload` still to be told what to do.
    pub fn native(&self, command: &str, workload: &Workload) -> Result<Command> {
        let server = self.places.native_server.as_ref().context("there is no native server")?;
        let mut native = Command::new(server);
        native.arg(command).arg("--library").arg(&self.places.onnxruntime).arg("--model").arg(self.model(workload));
        Ok(native)
    }

    /// Writes the manifest of `workload`, and returns its path.
    pub fn manifest(&self, workload: &Workload, idle_timeout: &str) -> Result<PathBuf> {
        let way = Way { name: workload.name, parallel: parallel(), idle_timeout, ..Way::default() };
        self.manifest_in(&self.path(""), workload, &way)
    }

    /// Writes the manifest of `workload`, served in this way, into `folder`, and returns its path.
    pub fn manifest_in(&self, folder: &Path, workload: &Workload, way: &Way<'_>) -> Result<PathBuf> {
        let (Way { name, backend, parallel, idle_timeout, isolation, deadline, batch, max_concurrency, body }, grant) =
            (way, workload.grant);
        let batch = batch.map(|batch| format!("batch = {batch}\n")).unwrap_or_default();
        let body = body.map(|body| format!("body = \"{body}\"\n")).unwrap_or_default();
        let (path, bundle) = (folder.join(format!("{name}.toml")), self.packed(workload));
        let manifest = format!(
            "name = \"{name}\"\nbundle = \"{}\"\n\n[trigger.inference]\n\n\
             [model.{grant}]\nbackend = \"{backend}\"\nparallel = {parallel}\nisolation = \"{}\"\n{batch}\n\
             [scale]\nidle-timeout = \"{idle_timeout}\"\nmax-concurrency = {max_concurrency}\n\n\
             [limits]\ndeadline = \"{deadline}\"\n{body}",
            bundle.display(),
            isolation.word()
        );
        fs::create_dir_all(folder)?;
        fs::write(&path, manifest)?;
        Ok(path)
    }

    /// Packs a folder of the repository whose module has no model, and returns the bundle.
    pub fn without_model(&self, name: &str, folder: &str, module: &str) -> Result<PathBuf> {
        let packed = self.path(&format!("{name}.torpor"));
        self.torpor(|torpor| {
            torpor.arg("pack").arg(repository().join(folder)).arg("--module").arg(self.places.modules.join(module));
            torpor.arg("--output").arg(&packed)
        })?;
        self.sign(&packed)?;
        Ok(packed)
    }

    fn sign(&self, packed: &Path) -> Result<()> {
        self.torpor(|torpor| torpor.arg("sign").arg(packed).arg("--key").arg(self.path("bench.key.pem")))
    }

    fn bundle(&self, workload: &Workload) -> Result<()> {
        let model = self.model(workload);
        ensure!(model.is_file(), "there is no model `{}`; `cargo xtask setup` fetches it", model.display());
        let mut grant = std::ffi::OsString::from(format!("{}=", workload.grant));
        grant.push(&model);
        let (folder, packed) = (repository().join(workload.bundle), self.packed(workload));
        self.torpor(|torpor| {
            torpor.arg("pack").arg(folder).arg("--module").arg(self.module(workload)).arg("--model").arg(grant);
            torpor.arg("--output").arg(&packed)
        })?;
        self.sign(&packed)
    }

    fn torpor(&self, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
        let mut command = Command::new(&self.places.torpor);
        let status = arguments(&mut command).stdout(Stdio::null()).status();
        let status = status.with_context(|| format!("`{}` could not be started", self.places.torpor.display()))?;
        ensure!(status.success(), "`torpor` failed; what it wrote is above");
        Ok(())
    }
}

/// The root of this repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
