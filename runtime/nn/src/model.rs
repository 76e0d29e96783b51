//! A session with worker threads of its own: the bridge from async code to blocking native runs.

use crate::{
    Backend, BackendKind, Begun, Cancel, Error, ModelFormat, OpenOptions, Rest, Session,
    queue::{PushError, Queue},
    quick::{Class, Quick},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use torpor_tensor::{NamedTensor, Signature};

/// Runs that may wait for one model, beyond those under way. Functions bound their concurrency long before; this bound only
/// makes sure that no queue in the host is endless.
const QUEUE: usize = 4096;

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

/// A session, and what is known of its runs. Shared by the model and its workers.
struct Runner {
    session: Arc<dyn Session>,
    backend: BackendKind,
    signature: Arc<Signature>,
    quick: Quick,
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
    /// Opens the model at `path` on a new thread, which then becomes its first worker.
    ///
    /// # Errors
    /// What [`Backend::open`] says, or that no thread could be had.
    pub async fn open(
        backend: Arc<dyn Backend>,
        path: PathBuf,
        format: ModelFormat,
        options: OpenOptions,
    ) -> Result<Self, Error> {
        let kind = backend.kind();
        let jobs = Closing(Arc::new(Queue::new(QUEUE, options.parallel.get())));
        let (opened, is_open) = oneshot::channel();
        let model = path.display().to_string();
        let failed = |reason: String| Error::Open { backend: kind, model: model.clone(), reason };

        let first = spawn(kind, 0, {
            let queue = Arc::clone(&jobs.0);
            move || {
                let session = catch_unwind(AssertUnwindSafe(|| backend.open(&path, format, &options)));
                let session = session.unwrap_or_else(|panic| {
                    let reason = format!("the backend panicked: {}", panic_text(&*panic));
                    Err(Error::Open { backend: kind, model: path.display().to_string(), reason })
                });
                match session {
                    Ok(session) => {
                        let runner = Arc::new(Runner::new(kind, session));
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

    /// The process that holds the model, where it is not this one.
    pub fn process(&self) -> Option<u32> {
        self.runner.session.process()
    }

    /// How that process has ended, for the operator; `None` while it has not. No run can succeed any more then.
    pub fn ended(&self) -> Option<&str> {
        self.runner.session.ended()
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
        drop(runner);
        drop(jobs);
        for worker in workers {
            // A worker catches its panics, so there is nothing to learn from its result.
            let _ = worker.join();
        }
    }
}

impl Runner {
    fn new(backend: BackendKind, session: Arc<dyn Session>) -> Self {
        let signature = Arc::new(session.signature().clone());
        let quick = if session.process().is_some() { Quick::elsewhere() } else { Quick::new() };
        Runner { session, backend, signature, quick }
    }

    /// Runs jobs until the queue is closed.
    fn work(&self, queue: &Queue<Job>) {
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

    fn run(&self, work: Work, class: Class, cancel: &Cancel) -> Result<Vec<NamedTensor>, Error> {
        let start = Instant::now();
        // A panic in a backend fails this run, not the thread: the next caller must not find the queue unattended.
        let answer = catch_unwind(AssertUnwindSafe(|| match work {
            Work::Run(inputs) => self.session.run(&inputs, cancel),
            Work::Finish(finish) => finish(cancel),
        }));
        self.quick.learn(class, start.elapsed());
        answer.unwrap_or_else(|panic| Err(self.failed(format!("the backend panicked: {}", panic_text(&*panic)))))
    }

    /// Does a run that is expected to be quick on the thread of its caller, or begins it there where it can be left.
    fn run_here(&self, inputs: Vec<NamedTensor>, class: Class) -> Begun {
        let start = Instant::now();
        match self.session.begin(&inputs, PATIENCE) {
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
    std::thread::Builder::new().name(format!("{backend}-{index}")).spawn(body)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeBackend, FakeModel};
    use bytes::Bytes;
    use std::{num::NonZeroUsize, sync::atomic::Ordering};
    use torpor_tensor::{DType, Tensor};

    fn input(value: u8) -> Vec<NamedTensor> {
        vec![("x".into(), Tensor::new(DType::U8, [1].into(), Bytes::copy_from_slice(&[value])).unwrap())]
    }

    async fn open(model: FakeModel, parallel: usize) -> Result<Model, Error> {
        let options = OpenOptions { parallel: NonZeroUsize::new(parallel).unwrap(), ..OpenOptions::default() };
        Model::open(Arc::new(FakeBackend::new(model)), PathBuf::from("fake"), ModelFormat::Onnx, options).await
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
        let here = std::thread::current().id();
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
            assert_ne!(*last_thread.lock().unwrap(), Some(std::thread::current().id()));
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
}
