//! The worker's side: it loads a library, waits for the one model that it is to have, shuts itself in, opens it, and runs it.

use crate::{
    channel::{Channel, Packet},
    region::Region,
    sandbox::{self, Limits, Places},
    wire::{self, Failure, Order},
};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::{Signal, getpid, kill_process},
};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::ffi::OsStrExt,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};
use torpor_nn::{Backend, Cancel, Error, ModelFiles, ModelFormat, OpenOptions, Session, Tier};
use torpor_tensor::{DType, Tensor};

/// A model that adds two rows of four: opening and running it before there is a real one makes the library get ready what it gets
/// ready only then.
const WARM_UP: &[u8] = include_bytes!("warm_up.onnx");

/// This process was not started by a host.
#[derive(Debug, thiserror::Error)]
#[error("only a host starts this, with a channel as its standard input")]
pub struct NoHost(#[source] io::Error);

/// Serves one model until the host ends this process. `load` loads the library, of which `library` is the file if it has one;
/// `places` are those of the host's files.
///
/// # Errors
/// Where no host started this process. After that it does not return.
pub fn serve(
    load: impl FnOnce() -> Result<Arc<dyn Backend>, String>,
    library: Option<&Path>,
    places: &Places,
) -> Result<(), NoHost> {
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(NoHost)?;
    let control = Channel::of(socket).ok_or_else(|| NoHost(io::ErrorKind::NotConnected.into()))?;
    // What follows closes all other descriptors, the copy above among them.
    drop(control);
    sandbox::begin(places, library).map_err(NoHost)?;
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(NoHost)?;
    let control = Channel::of(socket).ok_or_else(|| NoHost(io::ErrorKind::NotConnected.into()))?;
    // Whatever ends the loop, a host that is gone among it, there is nothing left to do here.
    let _ = Worker { control, lanes: Vec::new(), runs: Vec::new() }.work(load);
    let _ = kill_process(getpid(), Signal::KILL);
    Ok(())
}

/// The worker before and after it has its model. Its thread is the process's first, which reads what the host says of all lanes.
struct Worker {
    control: Channel,
    /// Those whose threads have not begun.
    lanes: Vec<(Channel, Region)>,
    /// What each lane runs, for cancelling it.
    runs: Vec<Arc<Running>>,
}

/// What came of an order.
enum Done {
    Opened(Arc<dyn Session>),
    /// The tiers of the form.
    Optimized(&'static [Tier]),
}

/// The run of a lane.
#[derive(Default)]
struct Running(Mutex<Now>);

#[derive(Default)]
struct Now {
    run: Option<(u64, Cancel)>,
    /// The number of the last run that was cancelled, which may come before the run does.
    cancelled: u64,
}

impl Worker {
    fn work(mut self, load: impl FnOnce() -> Result<Arc<dyn Backend>, String>) -> io::Result<()> {
        let Ok(backend) = load() else { return self.control.send(Packet::Unready) };
        warm_up(&*backend);
        self.control.send(Packet::Ready)?;
        loop {
            let (packet, descriptors) = self.control.recv_with()?;
            match packet {
                Packet::Lane => {
                    let [socket, region] =
                        <[_; 2]>::try_from(descriptors).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                    let channel = Channel::of(socket).ok_or(io::ErrorKind::InvalidData)?;
                    self.lanes.push((channel, Region::of(region)));
                }
                Packet::Order { length } => self.obey(&*backend, length)?,
                Packet::Cancel { lane, run } => self.cancel(lane, run),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Opens or optimizes the model, and begins the lanes' threads.
    fn obey(&mut self, backend: &dyn Backend, length: u64) -> io::Result<()> {
        let Some((_, region)) = self.lanes.first() else { return Err(io::ErrorKind::InvalidData.into()) };
        let order = wire::read_order(region.read(length, u64::MAX)?).map_err(io::Error::other)?;
        let done = caught(|| self.open(backend, &order));
        let answer = match &done {
            Ok(Done::Opened(session)) => wire::opened(&Ok(session.signature().clone())),
            Ok(Done::Optimized(tiers)) => wire::optimized(&Ok(tiers)),
            // What failed looks the same in all answers.
            Err(failure) => wire::opened(&Err(failure.clone())),
        };
        let length = region.write(&answer)?;
        if let Ok(Done::Opened(session)) = done {
            for (index, (channel, region)) in std::mem::take(&mut self.lanes).into_iter().enumerate() {
                let lane = Lane { channel, region, running: Arc::default(), session: Arc::clone(&session) };
                self.runs.push(Arc::clone(&lane.running));
                let name = format!("{}-{index}", backend.kind());
                thread::Builder::new().name(name).spawn(move || lane.work())?;
            }
            sandbox::close_files().map_err(io::Error::other)?;
        }
        self.control.send(Packet::Done { length })
    }

    fn open(&self, backend: &dyn Backend, order: &Order) -> Result<Done, Failure> {
        let path = |bytes: &[u8]| (!bytes.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(bytes)));
        let model = path(&order.model).unwrap_or_default();
        let files = ModelFiles { format: order.format, model, weights: path(&order.weights) };
        let out = path(&order.out);
        let threads = order.options.threads.saturating_mul(order.options.parallel).get();
        let library = backend.library();
        let lanes = self.lanes.len();
        let (model, weights, out) = (&*files.model, files.weights.as_deref(), out.as_deref());
        let limits = Limits { model, weights, out, library, memory: order.memory, lanes, threads };
        sandbox::enter(&limits).map_err(Failure::Failed)?;
        match out {
            None => backend.open(&files, &order.options).map(Done::Opened).map_err(failure),
            Some(out) => backend.optimize(&files, &order.options, out).map(Done::Optimized).map_err(failure),
        }
    }

    fn cancel(&self, lane: u64, run: u64) {
        let lane = usize::try_from(lane).ok().and_then(|lane| self.runs.get(lane));
        let Some(lane) = lane else { return };
        let mut now = lane.now();
        now.cancelled = now.cancelled.max(run);
        let cancel = now.run.as_ref().filter(|(current, _)| *current == run).map(|(_, cancel)| cancel.clone());
        drop(now);
        if let Some(cancel) = cancel {
            cancel.cancel();
        }
    }
}

impl Running {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins, which may have been cancelled already.
    fn begin(&self, run: u64) -> Cancel {
        let cancel = Cancel::default();
        let mut now = self.now();
        if now.cancelled >= run {
            cancel.cancel();
        }
        now.run = Some((run, cancel.clone()));
        cancel
    }
}

/// The worker's end of a lane, on a thread of its own.
struct Lane {
    channel: Channel,
    region: Region,
    running: Arc<Running>,
    session: Arc<dyn Session>,
}

impl Lane {
    /// Runs what comes until the host closes the lane.
    fn work(self) {
        while let Ok(Packet::Run { run, length }) = self.channel.recv() {
            let answered = self.run(run, length).and_then(|length| self.channel.send(Packet::Answer { run, length }));
            // The host finds the lane closed, and ends this process.
            if answered.is_err() {
                break;
            }
        }
    }

    fn run(&self, run: u64, length: u64) -> io::Result<u64> {
        let cancel = self.running.begin(run);
        let answer = wire::read_inputs(self.region.read(length, u64::MAX)?).map_err(io::Error::other)?;
        let answer = caught(|| self.session.run(&answer, &cancel).map_err(failure));
        self.running.now().run = None;
        self.region.write(&wire::answer(&answer))
    }
}

/// A panic in a backend fails what was asked for, as it does in a host.
fn caught<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        Err(Failure::Failed(format!("the backend panicked: {text}")))
    })
}

/// An error without what the host knows anyway.
fn failure(error: Error) -> Failure {
    match error {
        Error::Input(text) => Failure::Input(text),
        Error::Rejected { reason, .. } => Failure::Rejected(reason),
        Error::Cancelled => Failure::Cancelled,
        Error::Ended { reason, .. } => Failure::Ended(reason),
        Error::Open { reason, .. } | Error::Run { reason, .. } => Failure::Failed(reason),
        other => Failure::Failed(other.to_string()),
    }
}

/// Has the library get ready what it gets ready with its first model. What does not work here does not work with a real model either,
/// which then says so.
fn warm_up(backend: &dyn Backend) {
    if backend.opens(ModelFormat::Onnx)
        && let Err(error) = try_warm_up(backend)
    {
        tracing::debug!(%error, "the library is not warmed up");
    }
}

fn try_warm_up(backend: &dyn Backend) -> Result<(), Box<dyn std::error::Error>> {
    let mut file = File::from(memfd_create("torpor-warm-up", MemfdFlags::CLOEXEC)?);
    file.write_all(WARM_UP)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let session = backend.open(&ModelFiles::one(ModelFormat::Onnx, path), &OpenOptions::default())?;
    let row = Tensor::new(DType::F32, [1, 4].into(), vec![0; 16].into())?;
    session.run(&["x", "y"].map(|name| (name.to_owned(), row.clone())), &Cancel::default())?;
    Ok(())
}
