//! The others: what each of them is, and how its documentation has it started. Their own code is in `benches/peers`.
//!
//! Each may use all processors, in the way that its documentation gives for models on the processor.

pub mod environment;
pub mod process;

use crate::stage::{Stage, Workload, parallel, repository};
use anyhow::{Context, Result};
use process::Processes;
use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

/// One way to serve a model.
pub struct Peer {
    /// As results call it.
    pub name: &'static str,
    /// The folder of `benches/peers` with its requirements, which is the name of its environment too.
    pub folder: &'static str,
    command: fn(&Place<'_>) -> Result<Command>,
}

/// Where one server runs.
struct Place<'p> {
    /// Its Python environment.
    environment: &'p Path,
    /// A folder of its own, with the files of `benches/peers` in it; what it writes goes there too.
    folder: &'p Path,
    workload: &'p Workload,
    /// The file of its model.
    model: &'p Path,
    /// Where requests go, and two more ports for those that cannot do without.
    ports: [u16; 3],
    /// Whether it is to be asked over gRPC too, where it can be: at the second port.
    grpc: bool,
}

/// A server that is to be started.
pub struct Prepared {
    command: Box<Command>,
    log: PathBuf,
    /// Where requests go.
    pub address: SocketAddr,
    /// Where calls of gRPC go.
    pub grpc: SocketAddr,
}

const ALL: [Peer; 7] = [
    Peer { name: "FastAPI", folder: "fastapi", command: |place| Ok(uvicorn(place, "plain:app", 1)) },
    Peer { name: "FastAPI, tuned", folder: "fastapi", command: |place| Ok(uvicorn(place, "tuned:app", parallel())) },
    Peer { name: "MLServer", folder: "mlserver", command: |place| Ok(mlserver(place)) },
    Peer { name: "BentoML", folder: "bentoml", command: |place| Ok(bentoml(place)) },
    Peer { name: "LitServe", folder: "litserve", command: |place| Ok(script(place, "server.py")) },
    Peer { name: "PyTriton", folder: "pytriton", command: |place| Ok(script(place, "server.py")) },
    Peer { name: "Triton, Python backend", folder: "pytriton", command: triton },
];

/// Those with `text` in their name.
pub fn named(text: &str) -> impl Iterator<Item = &'static Peer> {
    let text = text.to_lowercase();
    ALL.iter().filter(move |peer| peer.name.to_lowercase().contains(&text))
}

impl Peer {
    /// Puts on disk what a server of `workload` needs. It speaks gRPC too, if it can and `grpc` says so.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn prepare(&self, stage: &Stage, workload: &Workload, environment: &Path, grpc: bool) -> Result<Prepared> {
        let ports = free_ports()?;
        let folder = stage.path(&format!("{}-{}", self.folder, ports[0]));
        copy(&repository().join("benches/peers").join(self.folder), &folder)?;
        let place = Place { environment, folder: &folder, workload, model: &stage.model(workload), ports, grpc };
        let command = Box::new(self.command(&place)?);
        let [address, grpc, _] = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Ok(Prepared { command, log: folder.join("log"), address, grpc })
    }

    /// The command that starts it.
    fn command(&self, place: &Place<'_>) -> Result<Command> {
        let mut command = (self.command)(place)?;
        let [port, ..] = place.ports;
        command
            .current_dir(place.folder)
            .env("PATH", env::join_paths([place.environment.join("bin"), "/usr/bin".into(), "/bin".into()])?)
            .env("VIRTUAL_ENV", place.environment)
            // What it keeps between runs, it would keep at home.
            .env("HOME", place.folder)
            // As it is by default: what is compiled, is kept.
            .env_remove("PYTHONDONTWRITEBYTECODE")
            .env("PEER_NAME", place.workload.name)
            .env("PEER_MODEL", place.model)
            .env("PEER_PORT", port.to_string());
        Ok(command)
    }
}

impl Prepared {
    /// Starts the server. Whether it answers already is another matter.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(mut self) -> Result<Processes> {
        Processes::start(&mut self.command, &self.log)
    }
}

/// A program of the environment.
fn program(place: &Place<'_>, name: &str) -> Command {
    Command::new(place.environment.join("bin").join(name))
}

fn script(place: &Place<'_>, name: &str) -> Command {
    let mut command = program(place, "python3");
    command.arg(name);
    command
}

fn uvicorn(place: &Place<'_>, app: &str, workers: usize) -> Command {
    let mut command = program(place, "uvicorn");
    command.args([app, "--host", "127.0.0.1", "--log-level", "warning", "--no-access-log"]);
    command.args(["--port", &place.ports[0].to_string(), "--workers", &workers.to_string()]);
    command
}

/// Without worker processes, with which it answers less here.
fn mlserver(place: &Place<'_>) -> Command {
    let mut command = program(place, "mlserver");
    command.args(["start", "."]);
    let [http, grpc, metrics] = place.ports.map(|port| port.to_string());
    command.env("MLSERVER_HOST", "127.0.0.1").env("MLSERVER_HTTP_PORT", http).env("MLSERVER_GRPC_PORT", grpc);
    command.env("MLSERVER_METRICS_PORT", metrics).env("MLSERVER_PARALLEL_WORKERS", "0").env("MLSERVER_DEBUG", "false");
    command.env("MLSERVER_MODEL_NAME", place.workload.name).env("MLSERVER_MODEL_URI", place.model);
    command.env("MLSERVER_MODEL_IMPLEMENTATION", "runtime.OnnxRuntime");
    command
}

fn bentoml(place: &Place<'_>) -> Command {
    let mut command = program(place, "bentoml");
    command.args(["serve", "service:Model", "--host", "127.0.0.1", "--port", &place.ports[0].to_string()]);
    command.env("BENTOML_DO_NOT_TRACK", "true");
    command
}

/// The server that PyTriton brings, alone, with a repository of one model.
fn triton(place: &Place<'_>) -> Result<Command> {
    let Place { environment, folder, workload, ports, grpc, .. } = place;
    let brought = environment.join("lib/python3.11/site-packages/pytriton/tritonserver");
    let (models, backends) = (folder.join("models"), folder.join("backends"));
    let (model, backend) = (models.join(workload.name), backends.join("python"));
    fs::create_dir_all(model.join("1"))?;
    fs::create_dir_all(&backend)?;
    let files = repository().join("benches/peers/triton");
    fs::copy(files.join("model.py"), model.join("1/model.py"))?;
    let config = files.join(format!("{}.pbtxt", workload.name));
    let config = fs::read_to_string(&config).with_context(|| format!("`{}` cannot be read", config.display()))?;
    fs::write(model.join("config.pbtxt"), config.replace("PROCESSORS", &parallel().to_string()))?;
    for file in ["backends/python/libtriton_python.so", "backends/python/triton_python_backend_utils.py"] {
        copy_into(&brought.join(file), &backend)?;
    }
    copy_into(&brought.join("python_backend_stubs/3.11/triton_python_backend_stub"), &backend)?;
    let mut command = Command::new(brought.join("bin/tritonserver"));
    command.arg("--model-repository").arg(&models).arg("--backend-directory").arg(&backends);
    command.args(["--http-address", "127.0.0.1", "--http-port", &ports[0].to_string()]);
    command.args(["--grpc-address", "127.0.0.1", "--grpc-port", &ports[1].to_string()]);
    command.args(["--allow-grpc", if *grpc { "true" } else { "false" }, "--allow-metrics", "false"]);
    command.env("LD_LIBRARY_PATH", environment.join("lib/python3.11/site-packages/nvidia_pytriton.libs"));
    Ok(command)
}

fn copy_into(file: &Path, folder: &Path) -> Result<()> {
    let to = folder.join(file.file_name().context("a file has a name")?);
    fs::copy(file, to).with_context(|| format!("`{}` cannot be copied", file.display()))?;
    Ok(())
}

/// Ports that nobody listens on now.
fn free_ports() -> Result<[u16; 3]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // All are held until each is known, so that no two are the same.
    let listeners = [listen()?, listen()?, listen()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Copies the files of one folder into another, which is made.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let files = fs::read_dir(from).with_context(|| format!("`{}` cannot be read", from.display()))?;
    for file in files {
        let file = file?;
        if file.file_type()?.is_file() {
            fs::copy(file.path(), to.join(file.file_name()))?;
        }
    }
    Ok(())
}
