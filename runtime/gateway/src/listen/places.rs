//! The places for connections, and who has to go when all are taken and others want in.
//!
//! A connection may be open without a request for as long as it likes, while there are places. When there are none, those go that have been
//! silent for longest. Whoever's request is being answered stays, and so does whoever was heard of lately: else connections
//! would push each other out on a host that has too few places for its callers.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use hyper::service::Service;
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::timeout,
};

/// How long a connection has to be silent before it has to go for another.
const SILENT: Duration = Duration::from_secs(1);
/// How often somebody who wants in looks whether anybody may go.
const LOOK: Duration = Duration::from_millis(50);
/// One of so many places is made free at once, since to find out who has been silent for longest means to look at all.
const AT_ONCE: usize = 64;

/// All places of a listener.
pub(super) struct Places {
    free: Arc<Semaphore>,
    limit: usize,
    taken: Mutex<Taken>,
    start: Instant,
}

#[derive(Default)]
struct Taken {
    seats: HashMap<u64, Ear>,
    next: u64,
}

/// What is known of a connection.
struct Seat {
    /// Requests that are being answered.
    busy: AtomicUsize,
    /// When it was last heard of, in milliseconds since `start`.
    heard: AtomicU64,
    /// When the listener began.
    start: Instant,
    /// What serves it, and ends when it has to go.
    task: OnceLock<AbortHandle>,
}

/// A place that is taken. Free again when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    ear: Ear,
    _permit: OwnedSemaphorePermit,
}

/// Notes what becomes of a connection.
#[derive(Clone)]
pub(super) struct Ear(Arc<Seat>);

impl Places {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        // More than a semaphore counts are as good as no limit.
        let free = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        Arc::new(Places { free, limit, taken: Mutex::default(), start: Instant::now() })
    }

    /// Takes a place for a connection that is there. Waits until there is one, and has others go for it.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            self.make_room();
            if let Ok(Ok(permit)) = timeout(LOOK, Arc::clone(&self.free).acquire_owned()).await {
                break permit;
            }
        };
        let seat = Seat {
            busy: AtomicUsize::new(0),
            heard: AtomicU64::new(milliseconds(self.start)),
            start: self.start,
            task: OnceLock::new(),
        };
        let ear = Ear(Arc::new(seat));
        let mut taken = self.taken();
        let number = taken.next;
        taken.next += 1;
        taken.seats.insert(number, ear.clone());
        drop(taken);
        Place { places: Arc::clone(self), number, ear, _permit: permit }
    }

    /// Has those go that have been silent for longest, if any have been for long enough.
    fn make_room(&self) {
        let enough = u64::try_from(SILENT.as_millis()).unwrap_or(u64::MAX);
        let Some(before) = milliseconds(self.start).checked_sub(enough) else { return };
        let taken = self.taken();
        let heard = |ear: &&Ear| ear.0.heard.load(Ordering::Relaxed);
        let may_go = |ear: &&Ear| ear.0.busy.load(Ordering::Relaxed) == 0 && heard(ear) <= before;
        let mut silent: Vec<_> = taken.seats.values().filter(may_go).collect();
        let count = (self.limit / AT_ONCE).max(1).min(silent.len());
        if let Some(last) = count.checked_sub(1) {
            silent.select_nth_unstable_by_key(last, heard);
        }
        silent[..count].iter().filter_map(|ear| ear.0.task.get()).for_each(AbortHandle::abort);
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing in a locked section panics half-way through a change.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(super) fn ear(&self) -> Ear {
        self.ear.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().seats.remove(&self.number);
    }
}

impl Ear {
    /// What serves the connection, and may be ended with it.
    pub(super) fn listens_to(&self, task: AbortHandle) {
        // Told once, by whoever made the task.
        let _ = self.0.task.set(task);
    }

    /// Its client has taken something, or wants something.
    pub(super) fn hears(&self) {
        self.0.heard.store(milliseconds(self.0.start), Ordering::Relaxed);
    }

    fn work(&self) -> Work {
        self.hears();
        self.0.busy.fetch_add(1, Ordering::Relaxed);
        Work(self.clone())
    }
}

/// What a request has with it: a way for its handler to say that the connection is busy.
#[derive(Clone)]
pub(crate) struct Connection(Ear);

impl Connection {
    /// The connection is busy until what this gives is dropped.
    pub(crate) fn work(&self) -> Work {
        self.0.work()
    }
}

/// What a response has with it whose handler itself says when the connection is busy, since it lasts for as long as its client likes,
/// and mostly waits for that.
#[derive(Clone)]
pub(crate) struct Lasting;

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Held while a request is answered.
pub(crate) struct Work(Ear);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.hears();
        self.0.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A service that tells for how long it is busy.
#[derive(Clone)]
pub(super) struct Heard<S> {
    service: S,
    ear: Ear,
}

impl<S> Heard<S> {
    pub(super) fn new(service: S, ear: Ear) -> Self {
        Heard { service, ear }
    }
}

impl<B, S: Service<Request<B>, Response = Response>> Service<Request<B>> for Heard<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn call(&self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(Connection(self.ear.clone()));
        Answering { work: Some(self.ear.work()), answer: self.service.call(request) }
    }
}

pin_project_lite::pin_project! {
    /// A request that is being answered.
    pub(super) struct Answering<F> {
        work: Option<Work>,
        #[pin]
        answer: F,
    }
}

impl<F: Future<Output = Result<Response, E>>, E> Future for Answering<F> {
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(context));
        let Some(work) = this.work.take() else { return Poll::Ready(answer) };
        Poll::Ready(answer.map(|response| match response.body().size_hint().exact() {
            // It is all there. The rest is for its client to take.
            Some(_) => response,
            None if response.extensions().get::<Lasting>().is_some() => response,
            None => response.map(|body| Body::new(Streaming { body, _work: work })),
        }))
    }
}

/// The body of an answer that is still being made.
struct Streaming {
    body: Body,
    _work: Work,
}

impl http_body::Body for Streaming {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
