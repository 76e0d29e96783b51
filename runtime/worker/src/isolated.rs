//! A backend whose models are in workers: what the host's `nn` sees in the place of the library.

use crate::{
    channel::Packet,
    keeper::Handle,
    lane::Lane,
    pool::{Pool, anchored},
    process::{Process, Program},
    sandbox::Confinement,
    session::Remote,
    wire::{self, Failure, Malformed, Order},
};
use bytes::Bytes;
use std::{
    collections::HashMap,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tempfile::TempDir;
use torpor_nn::{Backend, BackendKind, Error, Isolation, ModelFiles, ModelFormat, OpenOptions, Session, Tier};

/// How long opening or optimizing a model may take. A model that takes longer is one that will not do at all.
const OPENED: Duration = Duration::from_secs(600);

/// Gives models workers. One per host; it costs nothing until a function asks for it.
#[derive(Debug)]
pub struct Workers {
    program: Program,
    /// What is in use. Nothing here keeps a worker alive.
    pools: Mutex<HashMap<BackendKind, Weak<Pool>>>,
    keeper: Mutex<Weak<Handle>>,
}

impl Workers {
    /// Workers that are processes of `program`.
    pub fn new(program: Program) -> Self {
        Workers { program, pools: Mutex::default(), keeper: Mutex::default() }
    }

    fn pool(&self, backend: &dyn Backend) -> io::Result<Arc<Pool>> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&backend.kind()).and_then(Weak::upgrade) {
            return Ok(pool);
        }
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = match keeper.upgrade() {
            Some(handle) => handle,
            None => {
                let handle = Arc::new(Handle::start()?);
                if let Some(lacks) = Confinement::of_this_machine().lacks() {
                    tracing::warn!("models in worker processes are less confined than they could be: {lacks}");
                }
                *keeper = Arc::downgrade(&handle);
                handle
            }
        };
        let pool = Pool::new(handle, self.program.clone(), backend);
        pools.insert(backend.kind(), Arc::downgrade(&pool));
        Ok(pool)
    }
}

impl Isolation for Workers {
    fn isolate(&self, backend: &Arc<dyn Backend>, memory: u64) -> Result<Arc<dyn Backend>, String> {
        let pool = self.pool(&**backend).map_err(|error| format!("no worker process can be kept: {error}"))?;
        pool.refill();
        Ok(Arc::new(Isolated { backend: Arc::clone(backend), pool, memory }))
    }
}

/// A backend for one model of a function, which is opened in a process of its own.
struct Isolated {
    /// The same library in this process: it knows what it can do, and opens nothing.
    backend: Arc<dyn Backend>,
    pool: Arc<Pool>,
    memory: u64,
}

impl Isolated {
    /// Has a worker open or optimize a model, and gives the worker with what it answered, which `read` reads.
    fn order<T>(
        &self,
        files: &ModelFiles,
        options: &OpenOptions,
        out: Option<&Path>,
        read: impl FnOnce(Bytes) -> Result<Result<T, Failure>, Malformed>,
    ) -> io::Result<(Process, Vec<Lane>, Result<T, Failure>)> {
        let named = Named::new(&files.model, files.format)?;
        let process = self.pool.take()?;
        let lanes =
            (0..options.parallel.get()).map(|index| Lane::new(&process, index)).collect::<io::Result<Vec<_>>>()?;
        let absolute = |path: &Path| std::path::absolute(path).map(|path| path.as_os_str().as_bytes().to_vec());
        let order = Order {
            model: absolute(&named.path)?,
            weights: files.weights.as_deref().map(absolute).transpose()?.unwrap_or_default(),
            format: files.format,
            options: *options,
            memory: self.memory,
            out: out.map(absolute).transpose()?.unwrap_or_default(),
        };
        // There is one lane at least.
        let Some(lane) = lanes.first() else { return Err(io::ErrorKind::InvalidInput.into()) };
        let length = lane.region.write(&wire::order(&order))?;
        let ended = |error: io::Error| match error.kind() {
            io::ErrorKind::TimedOut => io::Error::other("its worker process took too long"),
            io::ErrorKind::InvalidData => io::Error::other("its worker process said something unexpected"),
            _ => io::Error::other(format!("its worker process ended meanwhile: {}", process.end())),
        };
        process.control.send(Packet::Order { length }).map_err(ended)?;
        let Packet::Done { length } = process.control.recv_within(OPENED).map_err(ended)? else {
            return Err(io::Error::other("its worker process said something unexpected"));
        };
        let answer = lane.region.read(length, self.memory)?;
        let answer = read(answer).map_err(io::Error::other)?;
        Ok((process, lanes, answer))
    }

    fn failed(&self, files: &ModelFiles, reason: String) -> Error {
        Error::Open { backend: self.kind(), model: files.to_string(), reason }
    }
}

impl Backend for Isolated {
    fn kind(&self) -> BackendKind {
        self.backend.kind()
    }

    fn version(&self) -> &str {
        self.backend.version()
    }

    fn library(&self) -> Option<&Path> {
        self.pool.library()
    }

    fn devices(&self) -> Vec<String> {
        self.backend.devices()
    }

    fn accepts(&self, options: &OpenOptions) -> Result<(), String> {
        self.backend.accepts(options)
    }

    fn opens(&self, format: ModelFormat) -> bool {
        self.backend.opens(format)
    }

    fn open(&self, files: &ModelFiles, options: &OpenOptions) -> Result<Arc<dyn Session>, Error> {
        let ordered = self.order(files, options, None, wire::read_opened);
        // Only now, so that starting it takes nothing from the wake.
        self.pool.refill();
        let (process, lanes, answer) = ordered.map_err(|error| self.failed(files, error.to_string()))?;
        let signature = answer.map_err(|failure| self.failed(files, text(failure)))?;
        Ok(Arc::new(Remote::new(process, lanes, signature, self.kind(), Arc::clone(&self.pool), self.memory)))
    }

    fn optimize(&self, files: &ModelFiles, options: &OpenOptions, folder: &Path) -> Result<&'static [Tier], Error> {
        let ordered = self.order(files, options, Some(folder), wire::read_optimized);
        self.pool.refill();
        let (_, _, answer) = ordered.map_err(|error| self.failed(files, error.to_string()))?;
        answer.map_err(|failure| self.failed(files, text(failure)))
    }
}

fn text(failure: Failure) -> String {
    match failure {
        Failure::Input(text) | Failure::Rejected(text) | Failure::Failed(text) | Failure::Ended(text) => text,
        Failure::Cancelled => "it was cancelled".to_owned(),
    }
}

/// A model's file under a name that every library takes.
struct Named {
    path: PathBuf,
    /// The folder of the other name, which goes with it.
    _folder: Option<TempDir>,
}

impl Named {
    /// A worker can make no file, so a name that a library needs is made here. TensorFlow Lite's files are known by their ends alone.
    fn new(path: &Path, format: ModelFormat) -> io::Result<Self> {
        let path = anchored(path);
        if format != ModelFormat::TfLite {
            return Ok(Named { path, _folder: None });
        }
        let folder = TempDir::with_prefix("torpor-model-")?;
        let name = folder.path().join("model").with_extension(format.extension());
        std::os::unix::fs::symlink(std::path::absolute(path)?, &name)?;
        Ok(Named { path: name, _folder: Some(folder) })
    }
}
