//! A session with worker threads of its own: the bridge from async code to blocking native runs.

use crate::{
    Backend, BackendKind, Cancel, Error, ModelFormat, OpenOptions, Session,
    queue::{PushError, Queue},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
};
use tokio::sync::oneshot;
use torpor_tensor::{NamedTensor, Signature};

/// Runs that may wait for one model, beyond those under way. Functions bound their concurrency long before; this bound only
/// makes sure that no queue in the host is endless.
const QUEUE: usize = 4096;

/// An open model. Runs happen on its own threads, `parallel` at a time. Dropping it, or better [`Model::close`], ends the
/// threads; the last of them frees the session, so that native memory is never freed on an async thread.
pub struct Model {
    signature: Arc<Signature>,
    backend: BackendKind,
    jobs: Closing,
    workers: Vec<JoinHandle<()>>,
}

struct Job {
    inputs: Vec<NamedTensor>,
    cancel: Cancel,
    reply: oneshot::Sender<Result<Vec<NamedTensor>, Error>>,
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
        let jobs = Closing(Arc::new(Queue::new(QUEUE)));
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
                        // When nobody waits any more the queue is closed too, and the worker ends at once.
                        let _ = opened.send(Ok(Arc::clone(&session)));
                        work(kind, &*session, &queue);
                    }
                    Err(error) => drop(opened.send(Err(error))),
                }
            }
        })
        .map_err(|error| failed(format!("no thread to open it on: {error}")))?;

        let session = is_open.await.unwrap_or_else(|_| Err(failed("its thread ended without an answer".to_owned())))?;
        let signature = Arc::new(session.signature().clone());
        let mut workers = vec![first];
        for index in 1..options.parallel.get() {
            let (session, queue) = (Arc::clone(&session), Arc::clone(&jobs.0));
            let worker = spawn(kind, index, move || work(kind, &*session, &queue));
            workers.push(worker.map_err(|error| failed(format!("no thread for worker {index}: {error}")))?);
        }
        Ok(Model { signature, backend: kind, jobs, workers })
    }

    /// The inputs and outputs that the model file declares.
    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// The backend that holds the model.
    pub fn backend(&self) -> BackendKind {
        self.backend
    }

    /// Runs the model once on a worker. Dropping the future cancels the run.
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

        self.signature.check_inputs(&inputs).map_err(|mismatch| Error::Input(mismatch.to_string()))?;
        let (reply, answer) = oneshot::channel();
        let cancel = Cancel::default();
        let _cancel = CancelOnDrop(cancel.clone());
        self.jobs.0.push(Job { inputs, cancel, reply }).map_err(|error| match error {
            PushError::Full => Error::Overloaded,
            PushError::Closed => self.failed("its workers have ended".to_owned()),
        })?;
        answer.await.unwrap_or_else(|_| Err(self.failed("its worker ended without an answer".to_owned())))
    }

    /// Ends the workers and frees the session. Blocks until both are done, which includes a run that is under way.
    pub fn close(self) {
        let Model { jobs, workers, .. } = self;
        drop(jobs);
        for worker in workers {
            // A worker catches its panics, so there is nothing to learn from its result.
            let _ = worker.join();
        }
    }

    fn failed(&self, reason: String) -> Error {
        Error::Run { backend: self.backend, reason }
    }
}

fn spawn(backend: BackendKind, index: usize, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("{backend}-{index}")).spawn(body)
}

fn work(backend: BackendKind, session: &dyn Session, queue: &Queue<Job>) {
    while let Some(Job { inputs, cancel, reply }) = queue.pop() {
        if cancel.is_cancelled() {
            continue;
        }
        // A panic in a backend fails this run, not the worker: the next caller must not find the queue unattended.
        let answer = catch_unwind(AssertUnwindSafe(|| session.run(&inputs, &cancel)));
        let answer = answer.unwrap_or_else(|panic| {
            Err(Error::Run { backend, reason: format!("the backend panicked: {}", panic_text(&*panic)) })
        });
        // The receiver is gone when the caller hung up meanwhile; the answer is of no use to anybody then.
        let _ = reply.send(answer);
    }
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
    use std::{num::NonZeroUsize, time::Duration};
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
