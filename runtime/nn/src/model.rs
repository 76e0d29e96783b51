//! A session with a line before it: the bridge from async code to native runs.

use crate::{
    Armed, Backend, BackendKind, Batching, Cancel, Error, ModelFiles, OpenOptions, Session, Tier,
    batch::{Fit, Gathering, Parcel},
    durations::{Class, Durations, bytes},
    queue::{Place, PushError, Queue, Ticket},
    sizes::Sizes,
};
use arc_swap::ArcSwap;
use std::{
    num::NonZeroU32,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use torpor_tensor::{NamedTensor, Signature};

/// Runs that may wait for one model, beyond those under way. Functions bound their concurrency long before; this bound only
/// makes sure that no queue in the host is endless.
const QUEUE: usize = 4096;
/// The priority of a thread that nobody waits for.
const LOWEST: i32 = 19;

/// An open model. At most `parallel` runs happen at a time: on the model's own threads, in its process where it has one, and those
/// that are known to take less time than the way to a thread and back on their caller's. Dropping it, or better [`Model::close`],
/// ends the threads; the last of them frees the session, so that native memory is never freed on an async thread.
pub struct Model {
    /// Declared before `jobs`, whose drop ends the workers: they outlive this reference.
    runner: Arc<Runner>,
    jobs: Closing,
    workers: Vec<JoinHandle<()>>,
}

/// When to open a model in another tier, which then takes the place of the first without a pause.
pub struct Upgrade {
    /// How long runs have taken by then, all together.
    pub after: Duration,
    /// The tier.
    pub tier: Tier,
    /// Called when it has taken that place, on a thread of its own.
    pub done: Arc<dyn Fn() + Send + Sync>,
}

/// Who asks for a run.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Whose runs these are: those of one flow wait in their order, and flows share the model's time.
    pub flow: u64,
    /// The share of that time, beside a flow of weight 1.
    pub weight: NonZeroU32,
    /// When nobody wants the outputs any more.
    pub deadline: Instant,
}

impl Caller {
    /// One who is alone, and can wait for long.
    pub fn anybody() -> Self {
        const LONG: Duration = Duration::from_secs(24 * 3600);
        Caller { flow: 0, weight: NonZeroU32::MIN, deadline: Instant::now() + LONG }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    /// The model's outputs, in its order.
    pub outputs: Vec<NamedTensor>,
    /// Rows of the batch that it was part of; 0 where it ran alone.
    pub batch: u64,
    /// How long it waited for its turn.
    pub waited: Duration,
    /// How long the run itself took, of all who were joined in it.
    pub took: Duration,
    /// Whether it stands for the whole run where runs are counted: of those that were joined, only one does.
    pub counts: bool,
}

/// A session, and what is known of its runs. Shared by the model and its workers.
struct Runner {
    opened: ArcSwap<Opened>,
    /// Whether the session is in another process. No other tier takes its place then.
    elsewhere: bool,
    backend: BackendKind,
    signature: Arc<Signature>,
    durations: Durations,
    batches: Option<Batches>,
    upgrading: Option<Upgrading>,
}

/// A session, and how it was opened.
struct Opened {
    session: Arc<dyn Session>,
    tier: Tier,
}

/// How runs are joined.
struct Batches {
    fit: Fit,
    batching: Batching,
    sizes: Sizes,
    /// Runs that were there when the last one began, itself included.
    company: AtomicUsize,
    /// Whether the model gave outputs that could not be divided. It is not joined any more then.
    unfit: AtomicBool,
}

type Open = dyn Fn() -> Result<Arc<dyn Session>, Error> + Send + Sync;

/// An upgrade that is to come, is under way or is done.
struct Upgrading {
    open: Arc<Open>,
    tier: Tier,
    done: Arc<dyn Fn() + Send + Sync>,
    /// Whether its thread can have the lowest priority. Threads that the library starts on it would keep that for good.
    in_background: bool,
    /// Nanoseconds that runs may still take until it begins; past zero once it has.
    left: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Job {
    inputs: Vec<NamedTensor>,
    class: Class,
    /// What it can be joined with, where it can be.
    parcel: Option<Parcel>,
    deadline: Instant,
    asked: Instant,
    cancel: Cancel,
    reply: oneshot::Sender<Result<Ran, Error>>,
}

/// One run: of one job, or of several that were joined.
struct Work {
    jobs: Vec<Job>,
    /// The inputs of all, where there are several.
    joined: Option<Vec<NamedTensor>>,
    cancel: Cancel,
    /// Passes on the cancellations of those that were joined.
    _armed: Vec<Armed>,
    begun: Instant,
}

/// Closes the queue when the model is dropped, or was never finished, so that its workers end.
struct Closing(Arc<Queue<Job>>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Model {
    /// Opens a model on a new thread, which then becomes its first worker. With an `upgrade` it is opened again while it runs, in
    /// the other tier; with `batching` runs that wait are joined.
    ///
    /// # Errors
    /// What [`Backend::open`] says, that no thread could be had, or that runs of this model cannot be joined.
    pub async fn open(
        backend: Arc<dyn Backend>,
        files: ModelFiles,
        options: OpenOptions,
        upgrade: Option<Upgrade>,
        batching: Option<Batching>,
    ) -> Result<Self, Error> {
        let kind = backend.kind();
        let jobs = Closing(Queue::new(QUEUE, options.parallel.get()));
        let (opened, is_open) = oneshot::channel();
        let model = files.to_string();
        let failed = |reason: String| Error::Open { backend: kind, model: model.clone(), reason };

        let first = spawn(kind, 0, {
            let queue = Arc::clone(&jobs.0);
            move || {
                let session = catch_unwind(AssertUnwindSafe(|| backend.open(&files, &options)));
                let session = session.unwrap_or_else(|panic| {
                    let reason = format!("the backend panicked: {}", panic_text(&*panic));
                    Err(Error::Open { backend: kind, model: files.to_string(), reason })
                });
                let runner = session.and_then(|session| {
                    let batches = batching.map(|batching| Batches::new(batching, session.signature())).transpose();
                    let batches = batches.map_err(|reason| Error::Files { model: files.to_string(), reason })?;
                    let upgrading = upgrade.map(|upgrade| Upgrading::new(upgrade, backend, files, options));
                    Ok(Arc::new(Runner::new(kind, Opened { session, tier: options.tier }, batches, upgrading)))
                });
                match runner {
                    Ok(runner) => {
                        // When nobody waits any more the queue is closed too, and the worker ends at once.
                        let _ = opened.send(Ok(Arc::clone(&runner)));
                        if !runner.elsewhere {
                            runner.work(&queue);
                        }
                    }
                    Err(error) => drop(opened.send(Err(error))),
                }
            }
        })
        .map_err(|error| failed(format!("no thread to open it on: {error}")))?;

        let runner = is_open.await.unwrap_or_else(|_| Err(failed("its thread ended without an answer".to_owned())))?;
        let mut workers = vec![first];
        // A session in another process has its threads there.
        let more = if runner.elsewhere { 1 } else { options.parallel.get() };
        for index in 1..more {
            let (runner, queue) = (Arc::clone(&runner), Arc::clone(&jobs.0));
            let worker = spawn(kind, index, move || runner.work(&queue));
            workers.push(worker.map_err(|error| failed(format!("no thread for worker {index}: {error}")))?);
        }
        Ok(Model { runner, jobs, workers })
    }

    /// The inputs and outputs that the model file declares.
    pub fn signature(&self) -> &Arc<Signature> {
        &self.runner.signature
    }

    /// The backend that holds the model.
    pub fn backend(&self) -> BackendKind {
        self.runner.backend
    }

    /// How the session that runs now was opened.
    pub fn tier(&self) -> Tier {
        self.runner.opened.load().tier
    }

    /// The process that holds the model, where it is not this one.
    pub fn process(&self) -> Option<u32> {
        self.runner.opened.load().session.process()
    }

    /// How that process has ended, or why else no run can succeed any more, for the operator; `None` while runs can.
    pub fn ended(&self) -> Option<String> {
        self.runner.opened.load().session.ended().map(str::to_owned)
    }

    /// Runs the model once, by itself or in a batch. Dropping the future cancels the run.
    ///
    /// # Errors
    /// What [`Session::run`] says; [`Error::Overloaded`] when the queue is full, [`Error::Late`] when the run could not end before the
    /// caller's deadline.
    pub async fn run(&self, inputs: Vec<NamedTensor>, caller: Caller) -> Result<Ran, Error> {
        struct CancelOnDrop(Cancel);
        impl Drop for CancelOnDrop {
            fn drop(&mut self) {
                self.0.cancel();
            }
        }

        let runner = &self.runner;
        runner.signature.check_inputs(&inputs).map_err(|mismatch| Error::Input(mismatch.to_string()))?;
        let class = Class::of(&inputs);
        if !runner.elsewhere
            && runner.durations.quick(class)
            && let Some(_place) = self.jobs.0.enter()
        {
            let (outputs, took) = runner.run(&inputs, &Cancel::never());
            let outputs = outputs?;
            return Ok(Ran { outputs, batch: 0, waited: Duration::ZERO, took, counts: true });
        }
        let (reply, answer) = oneshot::channel();
        let cancel = Cancel::default();
        let _cancel = CancelOnDrop(cancel.clone());
        let parcel = runner.batches.as_ref().and_then(|batches| batches.parcel(&inputs));
        let Caller { flow, weight, deadline } = caller;
        let ticket = Ticket { flow, weight, deadline, cost: runner.durations.expected(class) };
        let job = Job { inputs, class, parcel, deadline, asked: Instant::now(), cancel, reply };
        self.jobs.0.push(ticket, job).map_err(|error| match error {
            PushError::Full => Error::Overloaded,
            PushError::Closed => runner.failed("its workers have ended".to_owned()),
        })?;
        if runner.elsewhere
            && let Some((job, place)) = self.jobs.0.try_pop()
        {
            tokio::spawn(Arc::clone(runner).work_elsewhere(Arc::clone(&self.jobs.0), job, place));
        }
        answer.await.unwrap_or_else(|_| Err(runner.failed("its worker ended without an answer".to_owned())))
    }

    /// Ends the workers and frees the session. Blocks until both are done, which includes a run that is under way.
    pub fn close(self) {
        let Model { runner, jobs, workers } = self;
        drop(jobs);
        // A worker catches its panics, so there is nothing to learn from its result.
        workers.into_iter().for_each(|worker| drop(worker.join()));
        // The last run of all may have begun an upgrade.
        let upgrade = runner.upgrading.as_ref().and_then(|upgrading| upgrading.thread().take());
        drop(runner);
        drop(upgrade.map(JoinHandle::join));
    }
}

impl Upgrading {
    fn new(upgrade: Upgrade, backend: Arc<dyn Backend>, files: ModelFiles, options: OpenOptions) -> Self {
        let Upgrade { after, tier, done } = upgrade;
        Upgrading {
            in_background: options.threads.get() == 1,
            open: Arc::new(move || backend.open(&files, &OpenOptions { tier, ..options })),
            tier,
            done,
            // More than zero, which stands for one that has begun.
            left: AtomicU64::new(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX).max(1)),
            thread: Mutex::default(),
        }
    }

    /// Counts a run. True for the one with which the upgrade is to begin.
    fn begins(&self, took: Duration) -> bool {
        if self.left.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let count = |left: u64| (left > 0).then(|| left.saturating_sub(took));
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok_and(|left| left <= took)
    }

    fn thread(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batches {
    fn new(batching: Batching, signature: &Signature) -> Result<Self, String> {
        let fit = Fit::new(&batching, signature)?;
        let (company, unfit) = (AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Batches { fit, batching, sizes: Sizes::new(), company, unfit })
    }

    fn parcel(&self, inputs: &[NamedTensor]) -> Option<Parcel> {
        if self.unfit.load(Ordering::Relaxed) { None } else { self.fit.parcel(inputs) }
    }

    /// Takes those that wait and can be joined with `job` out of the line. Where the manifest allows it, and as many came together
    /// the last time, waits a moment for more.
    fn gather(&self, queue: &Queue<Job>, job: Job, may_wait: bool) -> Vec<Job> {
        let Some(parcel) = &job.parcel else { return vec![job] };
        let most = self.sizes.next(self.batching.max_size.get() as u64);
        let mut gathering = Gathering::new(parcel, most);
        let until = job.asked + self.batching.max_delay;
        let expected = self.company.load(Ordering::Relaxed).min(usize::try_from(most).unwrap_or(usize::MAX));
        if may_wait && expected > 1 && !gathering.is_full() {
            queue.gather(expected - 1, until);
        }
        let joined = queue.join(|other: &Job| match &other.parcel {
            _ if gathering.is_full() => ControlFlow::Break(()),
            Some(parcel) => ControlFlow::Continue(gathering.add(parcel)),
            None => ControlFlow::Continue(false),
        });
        let mut jobs = vec![job];
        jobs.extend(joined);
        self.company.store(jobs.len() + queue.waiting(), Ordering::Relaxed);
        jobs
    }
}

impl Runner {
    fn new(backend: BackendKind, opened: Opened, batches: Option<Batches>, upgrading: Option<Upgrading>) -> Self {
        let signature = Arc::new(opened.session.signature().clone());
        let (elsewhere, durations) = (opened.session.process().is_some(), Durations::new());
        Runner { opened: ArcSwap::from_pointee(opened), elsewhere, backend, signature, durations, batches, upgrading }
    }

    /// Opens the better tier on a thread of its own.
    fn upgrade(self: &Arc<Self>, upgrading: &Upgrading) {
        // The thread holds nothing of a model that is closed meanwhile.
        let (runner, open, done) = (Arc::downgrade(self), Arc::clone(&upgrading.open), Arc::clone(&upgrading.done));
        let (backend, tier, in_background) = (self.backend, upgrading.tier, upgrading.in_background);
        let started = thread::Builder::new().name(format!("{backend}-upgrade")).spawn(move || {
            if in_background {
                // Whoever waits for an answer goes first. Where that is not to be had it is only less polite.
                let _ = rustix::process::setpriority_process(None, LOWEST);
            }
            match catch_unwind(AssertUnwindSafe(|| open())) {
                Ok(Ok(session)) => Runner::swap(&runner, Opened { session, tier }, &*done),
                Ok(Err(error)) => tracing::warn!(%error, "a faster form of a model does not open; it runs on as it is"),
                Err(panic) => {
                    tracing::warn!(panic = panic_text(&*panic), %backend, "a faster form of a model does not open")
                }
            }
        });
        match started {
            Ok(started) => *upgrading.thread() = Some(started),
            Err(error) => tracing::warn!(%error, "no thread to open a faster form of a model on; it runs on as it is"),
        }
    }

    /// Puts another session in the place of the one that runs.
    fn swap(runner: &Weak<Self>, opened: Opened, done: &dyn Fn()) {
        let Some(runner) = runner.upgrade() else { return };
        if opened.session.signature() != &*runner.signature {
            tracing::error!("a faster form of a model has other inputs or outputs, and is not used");
            return;
        }
        let mut old = runner.opened.swap(Arc::new(opened));
        drop(runner);
        done();
        // Whoever still runs on it holds it. It is freed here, since that takes time which no caller's thread has.
        while let Err(held) = Arc::try_unwrap(old) {
            thread::sleep(Duration::from_millis(1));
            old = held;
        }
    }

    /// Runs jobs until the queue is closed.
    fn work(self: &Arc<Self>, queue: &Arc<Queue<Job>>) {
        while let Some((job, place, slept)) = queue.pop() {
            if slept {
                self.durations.learn_way(job.asked.elapsed());
            }
            let mut work = self.begin(queue, job, true);
            let mut place = Some(place);
            while let Some(one) = work.pop() {
                let outputs = self.run(one.inputs(), &one.cancel);
                if work.is_empty() && one.joined.is_none() {
                    // Whoever is answered may ask again at once, and find it free.
                    drop(place.take());
                }
                work.extend(self.end(one, outputs));
            }
        }
    }

    /// Does what waits for a session in another process until nothing does. Nobody waits for it on a thread.
    async fn work_elsewhere(self: Arc<Self>, queue: Arc<Queue<Job>>, job: Job, place: Place<Job>) {
        let mut next = Some((job, place));
        while let Some((job, place)) = next {
            let mut work = self.begin(&queue, job, false);
            let mut place = Some(place);
            while let Some(one) = work.pop() {
                let outputs = self.run_elsewhere(one.inputs(), &one.cancel).await;
                if work.is_empty() && one.joined.is_none() {
                    drop(place.take());
                }
                work.extend(self.end(one, outputs));
            }
            drop(place);
            next = queue.try_pop();
        }
    }

    /// The runs that come of a job whose turn it is. None where nobody wants it any more.
    fn begin(&self, queue: &Queue<Job>, job: Job, may_wait: bool) -> Vec<Work> {
        let mut jobs = match &self.batches {
            Some(batches) => batches.gather(queue, job, may_wait),
            None => vec![job],
        };
        jobs.retain(|job| !job.cancel.is_cancelled());
        // While others wait, a run that would come too late takes from them what would still be in time. With nobody behind it,
        // it is tried: what was expected may be wrong.
        let now = Instant::now();
        let is_late = |job: &mut Job| now + self.durations.expected(job.class) > job.deadline;
        if jobs.len() == 1
            && queue.waiting() > 0
            && let Some(late) = jobs.pop_if(is_late)
        {
            late.answer(Err(Error::Late), Run { rows: 0, begun: now, took: Duration::ZERO, counts: true });
        }
        self.plan(jobs)
    }

    fn plan(&self, jobs: Vec<Job>) -> Vec<Work> {
        if let (Some(batches), 2..) = (&self.batches, jobs.len()) {
            let runs: Vec<_> = jobs.iter().filter_map(|job| Some((&job.inputs[..], job.parcel.as_ref()?))).collect();
            if let Ok(joined) = batches.fit.join(&runs) {
                return vec![Work::joined(jobs, joined)];
            }
        }
        jobs.into_iter().map(Work::alone).collect()
    }

    /// Gives everybody their part of what came of a run. Those whom it does not answer have to run alone.
    fn end(&self, work: Work, outputs: (Result<Vec<NamedTensor>, Error>, Duration)) -> Vec<Work> {
        let (outputs, took) = outputs;
        let rows: u64 = work.jobs.iter().filter_map(|job| Some(job.parcel.as_ref()?.rows)).sum();
        let Work { mut jobs, joined, begun, .. } = work;
        let run = Run { rows, begun, took, counts: true };
        if let (Some(batches), 1.., Ok(_)) = (&self.batches, rows, &outputs) {
            let inputs = joined.as_ref().unwrap_or(&jobs[0].inputs);
            batches.sizes.learn(rows, bytes(inputs), took);
        }
        let (Some(_), Some(batches)) = (joined, &self.batches) else {
            if let Some(job) = jobs.pop() {
                job.answer(outputs, run);
            }
            return Vec::new();
        };
        match outputs {
            Ok(outputs) => {
                let parcels: Vec<_> = jobs.iter().filter_map(|job| job.parcel.as_ref()).collect();
                if let Some(parts) = batches.fit.split(&outputs, &parcels) {
                    for (index, (job, part)) in jobs.into_iter().zip(parts).enumerate() {
                        job.answer(Ok(part), Run { counts: index == 0, ..run });
                    }
                    return Vec::new();
                }
                tracing::error!("a model gives other outputs in a batch than alone; its runs are not joined any more");
                batches.unfit.store(true, Ordering::Relaxed);
            }
            // Nobody is left who could run it, or who would want it.
            Err(error @ (Error::Ended { .. } | Error::Cancelled)) => {
                for job in jobs {
                    job.answer(Err(error.clone()), run);
                }
                return Vec::new();
            }
            // It may be for one of them alone, whom the others shall not pay for.
            Err(_) => {}
        }
        jobs.into_iter().filter(|job| !job.cancel.is_cancelled()).map(Work::alone).collect()
    }

    /// Runs the session on this thread, and tells how long it took.
    fn run(self: &Arc<Self>, inputs: &[NamedTensor], cancel: &Cancel) -> (Result<Vec<NamedTensor>, Error>, Duration) {
        let begun = Instant::now();
        let opened = self.opened.load();
        // A panic in a backend fails this run, not the thread: the next caller must not find the queue unattended.
        let outputs = catch_unwind(AssertUnwindSafe(|| opened.session.run(inputs, cancel)));
        drop(opened);
        let took = begun.elapsed();
        self.durations.learn(Class::of(inputs), took);
        if let Some(upgrading) = &self.upgrading
            && upgrading.begins(took)
        {
            self.upgrade(upgrading);
        }
        let panicked = |panic: Box<dyn std::any::Any + Send>| {
            Err(self.failed(format!("the backend panicked: {}", panic_text(&*panic))))
        };
        (outputs.unwrap_or_else(panicked), took)
    }

    /// Runs a session that is in another process.
    async fn run_elsewhere(
        &self,
        inputs: &[NamedTensor],
        cancel: &Cancel,
    ) -> (Result<Vec<NamedTensor>, Error>, Duration) {
        let begun = Instant::now();
        let session = Arc::clone(&self.opened.load().session);
        let outputs = match session.start(inputs, cancel) {
            Some(outputs) => outputs.await,
            None => Err(self.failed("its process cannot be waited for".to_owned())),
        };
        let took = begun.elapsed();
        self.durations.learn(Class::of(inputs), took);
        (outputs, took)
    }

    fn failed(&self, reason: String) -> Error {
        Error::Run { backend: self.backend, reason }
    }
}

/// What those who are answered are told of the run.
#[derive(Debug, Clone, Copy)]
struct Run {
    rows: u64,
    begun: Instant,
    took: Duration,
    counts: bool,
}

impl Job {
    fn answer(self, outputs: Result<Vec<NamedTensor>, Error>, run: Run) {
        let Run { rows: batch, begun, took, counts } = run;
        let waited = begun.saturating_duration_since(self.asked);
        // The receiver is gone when the caller hung up meanwhile; the answer is of no use to anybody then.
        let _ = self.reply.send(outputs.map(|outputs| Ran { outputs, batch, waited, took, counts }));
    }
}

impl Work {
    fn alone(job: Job) -> Self {
        let cancel = job.cancel.clone();
        Work { jobs: vec![job], joined: None, cancel, _armed: Vec::new(), begun: Instant::now() }
    }

    /// A run that is cancelled once nobody wants it any more.
    fn joined(jobs: Vec<Job>, inputs: Vec<NamedTensor>) -> Self {
        let cancel = Cancel::default();
        let left = Arc::new(AtomicUsize::new(jobs.len()));
        let arm = |job: &Job| {
            let (cancel, left, first) = (cancel.clone(), Arc::clone(&left), AtomicBool::new(true));
            job.cancel.arm(move || {
                // One that is cancelled twice counts once.
                if first.swap(false, Ordering::Relaxed) && left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    cancel.cancel();
                }
            })
        };
        let armed = jobs.iter().map(arm).collect();
        Work { jobs, joined: Some(inputs), cancel, _armed: armed, begun: Instant::now() }
    }

    fn inputs(&self) -> &[NamedTensor] {
        match (&self.joined, self.jobs.first()) {
            (Some(inputs), _) => inputs,
            (None, Some(job)) => &job.inputs,
            (None, None) => &[],
        }
    }
}

fn spawn(backend: BackendKind, index: usize, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("{backend}-{index}")).spawn(body)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ModelFormat,
        fake::{FakeBackend, FakeModel},
    };
    use bytes::Bytes;
    use std::{num::NonZeroUsize, sync::atomic::Ordering};
    use torpor_tensor::{DType, Tensor};

    fn input(value: u8) -> Vec<NamedTensor> {
        vec![("x".into(), Tensor::new(DType::U8, [1].into(), Bytes::copy_from_slice(&[value])).unwrap())]
    }

    async fn run(model: &Model, value: u8) -> Result<Vec<NamedTensor>, Error> {
        model.run(input(value), Caller::anybody()).await.map(|ran| ran.outputs)
    }

    fn data(outputs: &[NamedTensor]) -> &[u8] {
        outputs[0].1.data()
    }

    async fn open(model: FakeModel, parallel: usize) -> Result<Model, Error> {
        let options = OpenOptions { parallel: NonZeroUsize::new(parallel).unwrap(), ..OpenOptions::default() };
        let backend = Arc::new(FakeBackend::new(model));
        Model::open(backend, ModelFiles::one(ModelFormat::Onnx, "fake"), options, None, None).await
    }

    #[tokio::test]
    async fn a_run_answers() {
        let model = open(FakeModel::echo(), 1).await.unwrap();
        assert_eq!(data(&run(&model, 7).await.unwrap()), [7]);
    }

    #[tokio::test]
    async fn a_wrong_input_never_reaches_the_backend() {
        let model = open(FakeModel::panic(), 1).await.unwrap();
        assert!(
            matches!(model.run(vec![], Caller::anybody()).await, Err(Error::Input(text)) if text.contains("`x` is missing"))
        );
    }

    #[tokio::test]
    async fn a_model_that_does_not_open_says_why() {
        let error = open(FakeModel::unopenable("bad magic"), 1).await.err().unwrap();
        assert!(matches!(error, Error::Open { reason, .. } if reason == "bad magic"));
    }

    #[tokio::test]
    async fn a_panic_fails_one_run_only() {
        let model = open(FakeModel::panic(), 1).await.unwrap();
        for _ in 0..2 {
            let error = run(&model, 1).await.unwrap_err();
            assert!(matches!(error, Error::Run { reason, .. } if reason.contains("on purpose")));
        }
    }

    #[tokio::test]
    async fn runs_happen_in_parallel() {
        // The fake run returns only when two callers are inside it.
        let model = open(FakeModel::rendezvous(2), 2).await.unwrap();
        let (a, b) = tokio::join!(run(&model, 1), run(&model, 2));
        assert_eq!((data(&a.unwrap()), data(&b.unwrap())), (&[1][..], &[2][..]));
    }

    #[tokio::test]
    async fn a_model_that_proves_quick_runs_where_it_is_called() {
        let fake = FakeModel::echo();
        let last_thread = fake.last_thread();
        let model = open(fake, 1).await.unwrap();
        let here = thread::current().id();
        let ran_here = async || {
            run(&model, 1).await.unwrap();
            *last_thread.lock().unwrap() == Some(here)
        };
        assert!(!ran_here().await, "nothing is known of the model before its first run");
        // A busy machine may make a quick run look slow, so how many it takes is not for this test to say.
        while !ran_here().await {}
    }

    #[tokio::test]
    async fn a_model_in_another_process_has_no_thread_of_its_own() {
        let begun = Arc::default();
        let fake = FakeModel::elsewhere(&begun);
        let last_thread = fake.last_thread();
        let model = open(fake, 2).await.unwrap();
        for _ in 0..3 {
            assert_eq!(data(&run(&model, 7).await.unwrap()), [7]);
            assert_eq!(*last_thread.lock().unwrap(), Some(thread::current().id()));
        }
        assert_eq!(begun.load(Ordering::SeqCst), 3);
        tokio::task::spawn_blocking(move || model.close()).await.unwrap();
    }

    #[tokio::test]
    async fn dropping_the_future_cancels_the_run() {
        let fake = FakeModel::until_cancelled();
        let cancelled = fake.cancelled();
        let model = open(fake, 1).await.unwrap();
        let hung_up = tokio::time::timeout(Duration::from_millis(20), run(&model, 1)).await;
        assert!(hung_up.is_err());
        // Closing waits for the run, which ends only because it was cancelled.
        tokio::task::spawn_blocking(move || model.close()).await.unwrap();
        assert!(cancelled.is_cancelled());
    }

    /// Opens `model` as a plan with two tiers says.
    async fn open_in_tiers(model: FakeModel, done: &Arc<AtomicU64>) -> Model {
        let options = OpenOptions { tier: Tier::Baseline, ..OpenOptions::default() };
        let done = Arc::clone(done);
        let done = Arc::new(move || {
            done.fetch_add(1, Ordering::Relaxed);
        });
        let upgrade = Upgrade { after: Duration::from_millis(2), tier: Tier::Optimized, done };
        let backend = Arc::new(FakeBackend::new(model));
        Model::open(backend, ModelFiles::one(ModelFormat::Onnx, "fake"), options, Some(upgrade), None).await.unwrap()
    }

    #[tokio::test]
    async fn a_better_tier_takes_the_place_of_the_first_while_it_runs() {
        let takes = [Duration::from_millis(1), Duration::ZERO];
        let done = Arc::default();
        let model = open_in_tiers(FakeModel::echo().that_takes([Duration::ZERO; 2], takes), &done).await;
        assert_eq!(model.tier(), Tier::Baseline);
        while model.tier() == Tier::Baseline {
            assert_eq!(data(&run(&model, 7).await.unwrap()), [7]);
        }
        assert_eq!(model.tier(), Tier::Optimized);
        assert_eq!(data(&run(&model, 8).await.unwrap()), [8]);
        tokio::task::spawn_blocking(move || model.close()).await.unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 1, "whoever wants to know is told once");
    }

    #[tokio::test]
    async fn a_model_that_is_closed_while_a_better_tier_opens_frees_both() {
        let open = [Duration::ZERO, Duration::from_millis(50)];
        let fake = FakeModel::echo().that_takes(open, [Duration::from_millis(3); 2]);
        let sessions = fake.last_thread();
        let model = open_in_tiers(fake, &Arc::default()).await;
        run(&model, 1).await.unwrap();
        tokio::task::spawn_blocking(move || model.close()).await.unwrap();
        // Each session, and the backend, holds one beside the one here.
        assert_eq!(Arc::strong_count(&sessions), 1);
    }

    #[test]
    fn an_upgrade_begins_once() {
        let backend = Arc::new(FakeBackend::new(FakeModel::echo()));
        let upgrade = Upgrade { after: Duration::from_micros(10), tier: Tier::Optimized, done: Arc::new(|| {}) };
        let files = ModelFiles::one(ModelFormat::Onnx, "fake");
        let upgrading = Upgrading::new(upgrade, backend, files, OpenOptions::default());
        let begins: Vec<_> = [4, 4, 4, 4].map(|took| upgrading.begins(Duration::from_micros(took))).into();
        assert_eq!(begins, [false, false, true, false]);
    }

    /// A model whose runs are joined, up to four rows in one.
    async fn open_in_batches(fake: FakeModel) -> Arc<Model> {
        let max_size = NonZeroUsize::new(4).unwrap();
        let batching = Batching { max_size, max_delay: Duration::ZERO, pad: None };
        let backend = Arc::new(FakeBackend::new(fake));
        let files = ModelFiles::one(ModelFormat::Onnx, "fake");
        Arc::new(Model::open(backend, files, OpenOptions::default(), None, Some(batching)).await.unwrap())
    }

    /// Asks for runs on these inputs, which wait for one that is under way.
    async fn together(model: &Arc<Model>, values: &[u8]) -> Vec<Result<Ran, Error>> {
        let runs = values.iter().map(|&value| {
            let model = Arc::clone(model);
            tokio::spawn(async move { model.run(input(value), Caller::anybody()).await })
        });
        let mut answers = Vec::new();
        for run in runs.collect::<Vec<_>>() {
            answers.push(run.await.unwrap());
        }
        answers
    }

    /// Lets the model learn that larger batches pay.
    async fn taught(model: &Arc<Model>) {
        while model.runner.batches.as_ref().unwrap().sizes.next(4) < 4 {
            together(model, &[1; 9]).await;
        }
    }

    #[tokio::test]
    async fn runs_that_wait_are_joined_and_each_gets_its_own() {
        let model =
            open_in_batches(FakeModel::echo().that_takes([Duration::ZERO; 2], [Duration::from_millis(5); 2])).await;
        taught(&model).await;
        let answers = together(&model, &[1, 2, 3, 4, 5, 6]).await;
        let batches = answers.iter().map(|ran| ran.as_ref().unwrap().batch);
        assert!(batches.clone().max().unwrap() > 1 && batches.clone().max().unwrap() <= 4, "{answers:?}");
        for (value, answer) in (1..).zip(answers) {
            assert_eq!(data(&answer.unwrap().outputs), [value]);
        }
    }

    #[tokio::test]
    async fn one_that_the_model_refuses_fails_alone() {
        let slow = [Duration::from_millis(5); 2];
        let model = open_in_batches(FakeModel::refuses(13).that_takes([Duration::ZERO; 2], slow)).await;
        taught(&model).await;
        let answers = together(&model, &[1, 2, 13, 4, 5]).await;
        for (value, answer) in [1, 2, 13, 4, 5].into_iter().zip(answers) {
            match value {
                13 => assert!(matches!(answer, Err(Error::Rejected { .. })), "{answer:?}"),
                _ => assert_eq!(data(&answer.unwrap().outputs), [value]),
            }
        }
    }

    #[tokio::test]
    async fn one_that_is_given_up_leaves_its_batch() {
        let slow = [Duration::from_millis(20); 2];
        let model = open_in_batches(FakeModel::echo().that_takes([Duration::ZERO; 2], slow)).await;
        taught(&model).await;
        let others = {
            let model = Arc::clone(&model);
            tokio::spawn(async move { together(&model, &[1, 2, 3, 4]).await })
        };
        let given_up = tokio::time::timeout(Duration::from_millis(10), run(&model, 9)).await;
        assert!(given_up.is_err());
        for (value, answer) in (1..).zip(others.await.unwrap()) {
            assert_eq!(data(&answer.unwrap().outputs), [value]);
        }
    }

    #[tokio::test]
    async fn a_run_that_would_come_too_late_is_shed_while_others_wait() {
        let slow = [Duration::from_millis(20); 2];
        let model = Arc::new(open(FakeModel::echo().that_takes([Duration::ZERO; 2], slow), 1).await.unwrap());
        run(&model, 1).await.unwrap();
        // Nobody is behind it: it is tried although there is too little time.
        let soon = || Caller { deadline: Instant::now() + Duration::from_millis(10), ..Caller::anybody() };
        assert!(model.run(input(1), soon()).await.is_ok());
        let busy = {
            let model = Arc::clone(&model);
            tokio::spawn(async move { together(&model, &[1, 2]).await })
        };
        tokio::task::yield_now().await;
        let late = Caller { flow: 1, ..soon() };
        let (late, _) = tokio::join!(model.run(input(9), late), async { together(&model, &[3, 4, 5]).await });
        assert!(matches!(late, Err(Error::Late)), "{late:?}");
        assert!(busy.await.unwrap().iter().all(Result::is_ok));
    }
}
