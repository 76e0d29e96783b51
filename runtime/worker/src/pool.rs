//! Workers that stand ready: one for each backend in use, with the library loaded, so that a wake need not wait for that.

use crate::{
    channel::Packet,
    keeper::Handle,
    process::{Process, Program},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use torpor_nn::Backend;

/// How long a worker may take to load its library.
const LOADED: Duration = Duration::from_secs(60);

/// The workers of one backend that have no model yet. Lives as long as a deployed function has models in workers of this backend.
#[derive(Debug)]
pub(crate) struct Pool {
    keeper: Arc<Handle>,
    program: Program,
    backend: torpor_nn::BackendKind,
    library: Option<PathBuf>,
    /// The one that is ready, or on its way to it.
    spare: Mutex<Option<Process>>,
}

impl Pool {
    pub(crate) fn new(keeper: Arc<Handle>, program: Program, backend: &dyn Backend) -> Arc<Self> {
        let library = backend.library().map(anchored);
        Arc::new(Pool { keeper, program, backend: backend.kind(), library, spare: Mutex::default() })
    }

    pub(crate) fn keeper(&self) -> &Handle {
        &self.keeper
    }

    /// The library that the workers load.
    pub(crate) fn library(&self) -> Option<&Path> {
        self.library.as_deref()
    }

    /// A worker whose library is loaded: the one that stands ready, or else a new one.
    pub(crate) fn take(self: &Arc<Self>) -> io::Result<Process> {
        let spare = self.spare().take().filter(|spare| spare.ended().is_none());
        if let Some(spare) = spare
            && ready(&spare).is_ok()
        {
            return Ok(spare);
        }
        let pool = Arc::clone(self);
        let process = self
            .keeper
            .ask(move |keeper| Process::start(keeper, &pool.program, pool.backend, pool.library.as_deref()))?;
        ready(&process)?;
        Ok(process)
    }

    /// Has a worker made ready, unless there is one. Does not wait for it.
    pub(crate) fn refill(self: &Arc<Self>) {
        let pool = Arc::downgrade(self);
        self.keeper.later(move |keeper| {
            let Some(pool) = pool.upgrade() else { return };
            if pool.spare().as_ref().is_some_and(|spare| spare.ended().is_none()) {
                return;
            }
            match Process::start(keeper, &pool.program, pool.backend, pool.library.as_deref()) {
                Ok(process) => *pool.spare() = Some(process),
                Err(error) => tracing::warn!(backend = %pool.backend, %error, "no worker can be made ready"),
            }
        });
    }

    fn spare(&self) -> MutexGuard<'_, Option<Process>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the library is loaded.
fn ready(process: &Process) -> io::Result<()> {
    match process.control.recv_within(LOADED) {
        Ok(Packet::Ready) => Ok(()),
        Ok(Packet::Unready) => Err(io::Error::other("the worker process could not load the library")),
        Ok(_) => Err(io::Error::other("the worker process said something unexpected")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(io::Error::other(format!("the worker process ended before it was ready: {}", process.end())))
        }
        Err(error) => Err(error),
    }
}

/// A path that means the same in every folder; a bare file name, which the system's loader seeks, stays one.
pub(crate) fn anchored(path: &Path) -> PathBuf {
    match path.components().count() {
        0 | 1 => path.to_owned(),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    }
}
