//! A session with worker threads of its own: the bridge from async code to blocking native runs.

use crate::{
    Backend, BackendKind, Begun, Cancel, Error, ModelFiles, OpenOptions, Rest, Session, Tier,
    queue::{PushError, Queue},
    quick::{Class, Quick},
};
use arc_swap::ArcSwap;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
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

/// How long a run that was expected to be quick may keep its caller's thread, where it can be left.
const PATIENCE: Duration = Duration::from_micros(200);

/// An open model. At most `parallel` runs happen at a time, on the model's own threads; only those that are known to take less
/// time than the way there and back happen on their caller's thread. Dropping it, or better [`Model::close`], ends the threads;
/// the last of them frees the session, so that native memory is never freed on an async thread.
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

/// A session, and what is known of its runs. Shared by the model and its workers.
struct Runner {
    opened: ArcSwap<Opened>,
    backend: BackendKind,
    signature: Arc<Signature>,
    quick: Quick,
    upgrading: Option<Upgrading>,
}

/// A session, and how it was opened.
struct Opened {
    session: Arc<dyn Session>,
    tier: Tier,
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
    work: Work,
    class: Class,
    cancel: Cancel,
    reply: oneshot::Sender<Result<Vec<NamedTensor>, Error>>,
}

/// What a worker has to do for a caller.
enum Work {
    /// The whole run.
    Run(Vec<NamedTensor>),
    /// What is left of one that began where it was called, and was not as quick as expected.
    Finish(Rest),
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
    /// the other tier.
    ///
    /// # Errors
    /// What [`Backend::open`] says, or that no thread could be had.
    pub async fn open(
        backend: Arc<dyn Backend>,
        files: ModelFiles,
        options: OpenOptions,
        upgrade: Option<Upgrade>,
    ) -> Result<Self, Error> {
        let kind = backend.kind();
        let jobs = Closing(Arc::new(Queue::new(QUEUE, options.parallel.get())));
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
                match session {
                    Ok(session) => {
                        let upgrading = upgrade.map(|upgrade| Upgrading::new(upgrade, backend, files, options));
                        let runner = Arc::new(Runner::new(kind, Opened { session, tier: options.tier }, upgrading));
                        // When nobody waits any more the queue is closed too, and the worker ends at once.
                        let _ = opened.send(Ok(Arc::clone(&runner)));
                        runner.work(&queue);
                    }
                    Err(error) => drop(opened.send(Err(error))),
                }
            }
        })
        .map_err(|error| failed(format!("no thread to open it on: {error}")))?;

        let runner = is_open.await.unwrap_or_else(|_| Err(failed("its thread ended without an answer".to_owned())))?;
        let mut workers = vec![first];
        for index in 1..options.parallel.get() {
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

    /// How that process has ended, for the operator; `None` while it has not. No run can succeed any more then.
    pub fn ended(&self) -> Option<String> {
        self.runner.opened.load().session.ended().map(str::to_owned)
    }

    /// Runs the model once. Dropping the future cancels the run.
    ///
    /// # Errors
    /// What [`Session::run`] says; [`Error::Overloaded`] when the queue is full.
    pub async fn run(&self, inputs: Vec<NamedTensor>) -> Result<Vec<NamedTensor>, Error> {
        struct CancelOnDrop(Cancel);
        impl Drop for CancelOnDrop {
            fn drop(&mut self) {
                self.0.cancel();
            }
        }

        let runner = &self.runner;
        runner.signature.check_inputs(&inputs).map_err(|mismatch| Error::Input(mismatch.to_string()))?;
        let class = Class::of(&inputs);
        let (reply, answer) = oneshot::channel();
        let cancel = Cancel::default();
        let _cancel = CancelOnDrop(cancel.clone());
        let ended = |_: oneshot::error::RecvError| Err(runner.failed("its worker ended without an answer".to_owned()));
        if runner.quick.expected(class)
            && let Some(place) = self.jobs.0.enter()
        {
            return match runner.run_here(inputs, class) {
                Begun::Done(answer) => answer,
                Begun::Pending(finish) => {
                    let work = Work::Finish(finish);
                    self.jobs.0.hand_on(place, Job { work, class, cancel, reply });
                    answer.await.unwrap_or_else(ended)
                }
            };
        }
        let work = Work::Run(inputs);
        self.jobs.0.push(Job { work, class, cancel, reply }).map_err(|error| match error {
            PushError::Full => Error::Overloaded,
            PushError::Closed => runner.failed("its workers have ended".to_owned()),
        })?;
        answer.await.unwrap_or_else(ended)
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

impl Runner {
    fn new(backend: BackendKind, opened: Opened, upgrading: Option<Upgrading>) -> Self {
        let signature = Arc::new(opened.session.signature().clone());
        let quick = if opened.session.process().is_some() { Quick::elsewhere() } else { Quick::new() };
        Runner { opened: ArcSwap::from_pointee(opened), backend, signature, quick, upgrading }
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
    fn work(self: &Arc<Self>, queue: &Queue<Job>) {
        while let Some((Job { work, class, cancel, reply }, place)) = queue.pop() {
            // What has begun already is ended all the same, since its session waits for its end.
            if cancel.is_cancelled() && matches!(work, Work::Run(_)) {
                continue;
            }
            let answer = self.run(work, class, &cancel);
            drop(place);
            // The receiver is gone when the caller hung up meanwhile; the answer is of no use to anybody then.
            let _ = reply.send(answer);
        }
    }

    fn run(self: &Arc<Self>, work: Work, class: Class, cancel: &Cancel) -> Result<Vec<NamedTensor>, Error> {
        let start = Instant::now();
        let opened = self.opened.load();
        // A panic in a backend fails this run, not the thread: the next caller must not find the queue unattended.
        let answer = catch_unwind(AssertUnwindSafe(|| match work {
            Work::Run(inputs) => opened.session.run(&inputs, cancel),
            Work::Finish(finish) => finish(cancel),
        }));
        drop(opened);
        let took = start.elapsed();
        self.quick.learn(class, took);
        if let Some(upgrading) = &self.upgrading
            && upgrading.begins(took)
        {
            self.upgrade(upgrading);
        }
        answer.unwrap_or_else(|panic| Err(self.failed(format!("the backend panicked: {}", panic_text(&*panic)))))
    }

    /// Does a run that is expected to be quick on the thread of its caller, or begins it there where it can be left.
    fn run_here(self: &Arc<Self>, inputs: Vec<NamedTensor>, class: Class) -> Begun {
        let start = Instant::now();
        // What has begun ends on the session it began on, which it holds by itself.
        let begun = self.opened.load().session.begin(&inputs, PATIENCE);
        match begun {
            None => Begun::Done(self.run(Work::Run(inputs), class, &Cancel::never())),
            Some(begun) => {
                self.quick.learn(class, start.elapsed());
                begun
            }
        }
    }

    fn failed(&self, reason: String) -> Error {
        Error::Run { backend: self.backend, reason }
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

    async fn open(model: FakeModel, parallel: usize) -> Result<Model, Error> {
        let options = OpenOptions { parallel: NonZeroUsize::new(parallel).unwrap(), ..OpenOptions::default() };
        Model::open(Arc::new(FakeBackend::new(model)), ModelFiles::one(ModelFormat::Onnx, "fake"), options, None).await
    }

    #[tokio::test]
    async fn a_run_answers() {
        let model = open(FakeModel::echo(), 1).await.unwrap();
        assert_eq!(model.run(input(7)).await.unwrap()[0].1.data()[..], [7]);
    }

    #[tokio::test]
    async fn a_wrong_input_never_reaches_the_backend() {
        let model = open(FakeModel::panic(), 1).await.unwrap();
        assert!(matches!(model.run(vec![]).await, Err(Error::Input(text)) if text.contains("`x` is missing")));
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
            let error = model.run(input(1)).await.unwrap_err();
            assert!(matches!(error, Error::Run { reason, .. } if reason.contains("on purpose")));
        }
    }

    #[tokio::test]
    async fn runs_happen_in_parallel() {
        // The fake run returns only when two callers are inside it.
        let model = open(FakeModel::rendezvous(2), 2).await.unwrap();
        let (a, b) = tokio::join!(model.run(input(1)), model.run(input(2)));
        assert_eq!((a.unwrap()[0].1.data()[0], b.unwrap()[0].1.data()[0]), (1, 2));
    }

    #[tokio::test]
    async fn a_model_that_proves_quick_runs_where_it_is_called() {
        let fake = FakeModel::echo();
        let last_thread = fake.last_thread();
        let model = open(fake, 1).await.unwrap();
        let here = thread::current().id();
        let ran_here = async || {
            model.run(input(1)).await.unwrap();
            *last_thread.lock().unwrap() == Some(here)
        };
        assert!(!ran_here().await, "nothing is known of the model before its first run");
        // A busy machine may make a quick run look slow, so how many it takes is not for this test to say.
        while !ran_here().await {}
    }

    #[tokio::test]
    async fn a_run_that_was_left_ends_on_a_thread_of_the_model() {
        let begun = Arc::default();
        let fake = FakeModel::left(&begun);
        let last_thread = fake.last_thread();
        let model = open(fake, 1).await.unwrap();
        // A busy machine may make a quick run look slow, so how many it takes is not for this test to say.
        while begun.load(Ordering::SeqCst) < 3 {
            assert_eq!(model.run(input(7)).await.unwrap()[0].1.data()[..], [7]);
            assert_ne!(*last_thread.lock().unwrap(), Some(thread::current().id()));
        }
        tokio::task::spawn_blocking(move || model.close()).await.unwrap();
    }

    #[tokio::test]
    async fn dropping_the_future_cancels_the_run() {
        let fake = FakeModel::until_cancelled();
        let cancelled = fake.cancelled();
        let model = open(fake, 1).await.unwrap();
        let hung_up = tokio::time::timeout(Duration::from_millis(20), model.run(input(1))).await;
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
        Model::open(backend, ModelFiles::one(ModelFormat::Onnx, "fake"), options, Some(upgrade)).await.unwrap()
    }

    #[tokio::test]
    async fn a_better_tier_takes_the_place_of_the_first_while_it_runs() {
        let run = [Duration::from_millis(1), Duration::ZERO];
        let done = Arc::default();
        let model = open_in_tiers(FakeModel::echo().that_takes([Duration::ZERO; 2], run), &done).await;
        assert_eq!(model.tier(), Tier::Baseline);
        while model.tier() == Tier::Baseline {
            assert_eq!(model.run(input(7)).await.unwrap()[0].1.data()[..], [7]);
        }
        assert_eq!(model.tier(), Tier::Optimized);
        assert_eq!(model.run(input(8)).await.unwrap()[0].1.data()[..], [8]);
        tokio::task::spawn_blocking(move || model.close()).await.unwrap();
        assert_eq!(done.load(Ordering::Relaxed), 1, "whoever wants to know is told once");
    }

    #[tokio::test]
    async fn a_model_that_is_closed_while_a_better_tier_opens_frees_both() {
        let open = [Duration::ZERO, Duration::from_millis(50)];
        let fake = FakeModel::echo().that_takes(open, [Duration::from_millis(3); 2]);
        let sessions = fake.last_thread();
        let model = open_in_tiers(fake, &Arc::default()).await;
        model.run(input(1)).await.unwrap();
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
}
