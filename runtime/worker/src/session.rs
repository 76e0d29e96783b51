//! A model that is open in a worker.

use crate::{
    channel::Packet,
    lane::Lane,
    pool::Pool,
    process::Process,
    wire::{self, Failure, Message},
};
use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};
use torpor_nn::{BackendKind, Cancel, Error, Outputs, Session};
use torpor_tensor::{NamedTensor, Signature};

/// How long a run that was cancelled may take to stop. Then its worker is killed: libraries look for cancellation between two
/// operators, and one that takes longer than this would keep the next caller waiting too.
const GRACE: Duration = Duration::from_secs(2);

/// An input that is longer than this is not written on an async thread. Outputs are read there whatever they are, since that they are
/// long is known only when they are there.
const AT_ONCE: usize = 256 * 1024;

/// A session in a worker. Dropping it ends the worker, which gives all of its memory back.
pub(crate) struct Remote(Arc<Shared>);

/// What a session has in common with its runs that were left.
struct Shared {
    process: Arc<Process>,
    signature: Arc<Signature>,
    backend: BackendKind,
    pool: Arc<Pool>,
    /// Bytes that a message may have.
    most: u64,
    /// The lanes that nobody uses now.
    free: Mutex<Vec<Lane>>,
    freed: Condvar,
}

impl Remote {
    pub(crate) fn new(
        process: Process,
        lanes: Vec<Lane>,
        signature: Signature,
        backend: BackendKind,
        pool: Arc<Pool>,
        most: u64,
    ) -> Self {
        let (process, signature, free) = (Arc::new(process), Arc::new(signature), Mutex::new(lanes));
        Remote(Arc::new(Shared { process, signature, backend, pool, most, free, freed: Condvar::new() }))
    }
}

impl Shared {
    fn free(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lane, and waits for one where all are taken.
    fn take(self: &Arc<Self>) -> Taken {
        let mut free = self.free();
        loop {
            if let Some(lane) = free.pop() {
                return Taken { session: Arc::clone(self), lane: Some(lane) };
            }
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn failed(&self, reason: String) -> Error {
        Error::Run { backend: self.backend, reason }
    }

    /// What to say where the worker no longer answers, or not as it should.
    fn broken(&self, error: &io::Error) -> Error {
        if error.kind() == io::ErrorKind::InvalidData {
            self.process.ends().kill("it did not keep to the protocol, and was killed");
        }
        Error::Ended { backend: self.backend, reason: self.process.end() }
    }

    /// Has the worker begin a run, and gives its number.
    fn send(&self, lane: &mut Lane, message: &Message) -> Result<u64, Failed> {
        if message.length() as u64 > self.most {
            return Err(self.failed("the inputs are larger than the model's `memory`".to_owned()).into());
        }
        let length = lane.region.write(message).map_err(|error| self.failed(error.to_string()))?;
        let run = lane.begin(length);
        lane.channel.send(Packet::Run { run, length })?;
        Ok(run)
    }

    /// Reads the answer to a run, which is there in so many bytes.
    fn read(&self, lane: &Lane, length: u64) -> Result<Vec<NamedTensor>, Failed> {
        let answer = lane.region.read(length, self.most);
        if let Err(error) = lane.region.shrink(length.max(lane.sent)) {
            tracing::warn!(%error, "a worker's region keeps its memory");
        }
        let broken = || Failed::Channel(io::ErrorKind::InvalidData.into());
        let answer = answer.map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => {
                self.failed("the outputs are larger than the model's `memory`".to_owned()).into()
            }
            _ => broken(),
        })?;
        let answer = wire::read_answer(answer).map_err(|_| broken())?;
        let outputs = answer.map_err(|failure| match failure {
            Failure::Input(text) => Error::Input(text),
            Failure::Rejected(reason) => Error::Rejected { backend: self.backend, reason },
            Failure::Failed(reason) => Error::Run { backend: self.backend, reason },
            Failure::Cancelled => Error::Cancelled,
            Failure::Ended(reason) => {
                self.process.ends().kill("after a run that failed no other can succeed, so it was killed");
                Error::Ended { backend: self.backend, reason }
            }
        })?;
        // Shapes stay unchecked: many models declare others than they give, in whichever process they run.
        let declared = self.signature.outputs.iter().map(|spec| (spec.name.as_str(), spec.dtype));
        match declared.eq(outputs.iter().map(|(name, tensor)| (name.as_str(), tensor.dtype()))) {
            true => Ok(outputs),
            false => Err(broken()),
        }
    }

    /// What stops a run that nobody wants any more.
    fn interrupt(&self, lane: &Lane, run: u64) -> impl Fn() + Send + 'static {
        let (process, pool, index) = (Arc::clone(&self.process), Arc::clone(&self.pool), lane.index);
        let answered = Arc::clone(&lane.last);
        move || {
            // A worker that does not even read this is ended below.
            let _ = process.control.send_at_once(Packet::Cancel { lane: index, run });
            let (ends, answered) = (Arc::clone(process.ends()), Arc::clone(&answered));
            pool.keeper().check_later(GRACE, move || {
                let why = "it did not stop when its run was cancelled, and was killed";
                (answered.load(Ordering::Acquire) < run).then_some((ends, why))
            });
        }
    }

    /// Runs the model, and waits for it.
    fn run(self: &Arc<Self>, inputs: &[NamedTensor], cancel: &Cancel) -> Result<Vec<NamedTensor>, Error> {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let mut taken = self.take();
        let lane = taken.lane();
        let outputs = self.send(lane, &wire::inputs(inputs)).and_then(|run| {
            let length = cancel.interruptible(self.interrupt(lane, run), || lane.wait(run))?;
            self.read(lane, length)
        });
        outputs.map_err(|failed| taken.explain(failed))
    }

    /// Runs the model without a thread that waits.
    async fn begin(&self, lane: &mut Lane, message: &Message, cancel: &Cancel) -> Result<Vec<NamedTensor>, Failed> {
        let run = self.send(lane, message)?;
        let armed = cancel.arm(self.interrupt(lane, run));
        let length = lane.answered(run).await?;
        drop(armed);
        self.read(lane, length)
    }
}

/// Why there are no outputs.
enum Failed {
    /// It is known what to say.
    Said(Error),
    /// The worker no longer answers, or not as it should. What to say is known once its end is.
    Channel(io::Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Said(error)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Failed::Channel(error)
    }
}

impl Session for Remote {
    fn signature(&self) -> &Signature {
        &self.0.signature
    }

    fn run(&self, inputs: &[NamedTensor], cancel: &Cancel) -> Result<Vec<NamedTensor>, Error> {
        self.0.run(inputs, cancel)
    }

    fn start(&self, inputs: &[NamedTensor], cancel: &Cancel) -> Option<Outputs> {
        let (session, cancel) = (Arc::clone(&self.0), cancel.clone());
        if inputs.iter().any(|(_, tensor)| tensor.data().len() > AT_ONCE) {
            let inputs = inputs.to_vec();
            let run = tokio::task::spawn_blocking(move || session.run(&inputs, &cancel));
            return Some(Box::pin(async move { run.await.unwrap_or(Err(Error::Cancelled)) }));
        }
        let message = wire::inputs(inputs);
        Some(Box::pin(async move {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let mut taken = session.take();
            match session.begin(taken.lane(), &message, &cancel).await {
                Ok(outputs) => Ok(outputs),
                Err(failed) => {
                    let explained = tokio::task::spawn_blocking(move || taken.explain(failed));
                    Err(explained.await.unwrap_or(Error::Cancelled))
                }
            }
        }))
    }

    fn process(&self) -> Option<u32> {
        Some(self.0.process.pid())
    }

    fn ended(&self) -> Option<&str> {
        self.0.process.ended()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.0.process.close();
    }
}

/// A lane in use.
struct Taken {
    session: Arc<Shared>,
    /// `None` only while being dropped.
    lane: Option<Lane>,
}

impl Taken {
    fn lane(&mut self) -> &mut Lane {
        self.lane.as_mut().expect("only the drop takes the lane")
    }

    /// What to say of a failure. Waits until the worker's end is known, if it has ended.
    fn explain(self, failed: Failed) -> Error {
        match failed {
            Failed::Said(error) => {
                if matches!(error, Error::Ended { .. }) {
                    let _ = self.session.process.end();
                }
                error
            }
            Failed::Channel(error) => self.session.broken(&error),
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.session.free().extend(self.lane.take());
        self.session.freed.notify_one();
    }
}
