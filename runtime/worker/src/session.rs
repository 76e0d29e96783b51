//! A model that is open in a worker.

use crate::{
    channel::Packet,
    lane::Lane,
    pool::Pool,
    process::Process,
    wire::{self, Failure},
};
use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};
use torpor_nn::{BackendKind, Begun, Cancel, Error, Session};
use torpor_tensor::{NamedTensor, Signature};

/// How long a run that was cancelled may take to stop. Then its worker is killed: libraries look for cancellation between two
/// operators, and one that takes longer than this would keep the next caller waiting too.
const GRACE: Duration = Duration::from_secs(2);

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
    fn send(&self, lane: &mut Lane, inputs: &[NamedTensor]) -> Result<u64, Error> {
        let message = wire::inputs(inputs);
        if message.length() as u64 > self.most {
            return Err(self.failed("the inputs are larger than the model's `memory`".to_owned()));
        }
        let length = lane.region.write(&message).map_err(|error| self.failed(error.to_string()))?;
        let run = lane.begin(length);
        lane.channel.send(Packet::Run { run, length }).map_err(|error| self.broken(&error))?;
        Ok(run)
    }

    /// Reads the answer to a run, which is there in so many bytes.
    fn read(&self, lane: &Lane, length: io::Result<u64>) -> Result<Vec<NamedTensor>, Error> {
        let length = length.map_err(|error| self.broken(&error))?;
        let answer = lane.region.read(length, self.most);
        if let Err(error) = lane.region.shrink(length.max(lane.sent)) {
            tracing::warn!(%error, "a worker's region keeps its memory");
        }
        let answer = answer.map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => self.failed("the outputs are larger than the model's `memory`".to_owned()),
            _ => self.broken(&io::ErrorKind::InvalidData.into()),
        })?;
        let answer = wire::read_answer(answer).map_err(|_| self.broken(&io::ErrorKind::InvalidData.into()))?;
        let outputs = answer.map_err(|failure| match failure {
            Failure::Input(text) => Error::Input(text),
            Failure::Rejected(reason) => Error::Rejected { backend: self.backend, reason },
            Failure::Failed(reason) => Error::Run { backend: self.backend, reason },
            Failure::Cancelled => Error::Cancelled,
        })?;
        // Shapes stay unchecked: many models declare others than they give, in whichever process they run.
        let declared = self.signature.outputs.iter().map(|spec| (spec.name.as_str(), spec.dtype));
        match declared.eq(outputs.iter().map(|(name, tensor)| (name.as_str(), tensor.dtype()))) {
            true => Ok(outputs),
            false => Err(self.broken(&io::ErrorKind::InvalidData.into())),
        }
    }

    /// Waits for an answer that somebody may not want any more.
    fn wait(&self, lane: &Lane, run: u64, cancel: &Cancel) -> io::Result<u64> {
        let (process, pool, index) = (Arc::clone(&self.process), Arc::clone(&self.pool), lane.index);
        let answered = Arc::clone(&lane.answered);
        let interrupt = move || {
            // A worker that does not even read this is ended below.
            let _ = process.control.send_at_once(Packet::Cancel { lane: index, run });
            let (ends, answered) = (Arc::clone(process.ends()), Arc::clone(&answered));
            pool.keeper().check_later(GRACE, move || {
                let why = "it did not stop when its run was cancelled, and was killed";
                (answered.load(Ordering::Acquire) < run).then_some((ends, why))
            });
        };
        cancel.interruptible(interrupt, || lane.wait(run))
    }
}

impl Session for Remote {
    fn signature(&self) -> &Signature {
        &self.0.signature
    }

    fn run(&self, inputs: &[NamedTensor], cancel: &Cancel) -> Result<Vec<NamedTensor>, Error> {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let mut taken = self.0.take();
        let run = self.0.send(taken.lane(), inputs)?;
        taken.finish(run, cancel)
    }

    fn begin(&self, inputs: &[NamedTensor], patience: Duration) -> Option<Begun> {
        let mut taken = self.0.take();
        let run = match self.0.send(taken.lane(), inputs) {
            Ok(run) => run,
            Err(error) => return Some(Begun::Done(Err(error))),
        };
        let lane = taken.lane();
        Some(match lane.wait_within(run, patience) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Begun::Pending(Box::new(move |cancel| taken.finish(run, cancel)))
            }
            length => Begun::Done(self.0.read(lane, length)),
        })
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

    /// Waits for the answer to a run that has begun.
    fn finish(mut self, run: u64, cancel: &Cancel) -> Result<Vec<NamedTensor>, Error> {
        let session = Arc::clone(&self.session);
        let lane = self.lane();
        let length = session.wait(lane, run, cancel);
        session.read(lane, length)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.session.free().extend(self.lane.take());
        self.session.freed.notify_one();
    }
}
