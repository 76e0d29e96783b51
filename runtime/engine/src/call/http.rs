//! Calls of `wasi:http/incoming-handler`: a request in, a response out, both streaming.
//!
//! The guest runs as a task of its own, because it goes on while its response is on the way to the client. The task holds the
//! lease, so a function whose response still streams is not idle. A client that hangs up ends the task; a client that has got
//! the whole response does not, so a guest may finish its work, within the deadline.

use super::{Answer, Record, Timing, instance::instance, kept::Recording, was_tried};
use crate::{CacheStatus, CallError, Function, function::Lease};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{
    Error as HttpError, WasiBody, WasiHttpView,
    p2::bindings::http::types::{ErrorCode, Scheme},
};

/// The body of a request. An error in it is what the guest finds when it reads that far.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

type Head = Result<http::Response<WasiBody>, ErrorCode>;

impl Function {
    /// Has the function answer one request. `cache` says why the response cache does not, where it was asked.
    pub(super) async fn forward(
        &self,
        request: http::Request<RequestBody>,
        cache: Option<CacheStatus>,
    ) -> Result<Answer<http::Response<ResponseBody>>, CallError> {
        let function = self.inner();
        if function.is_command() {
            return self.command(request.into_body()).await;
        }
        let mut record = Record::new(function);
        if let Some(status) = cache {
            record.marks.looked_up_whole(status);
        }
        let deadline = record.deadline();
        let lease = tokio::time::timeout_at(deadline.into(), function.acquire(deadline, &record.lacked_memory)).await;
        let lease = lease.unwrap_or_else(|_| Err(record.late()));
        let mut lease = lease.inspect_err(|error| record.note::<()>(&Err(error.clone())))?;

        record.marks.admitted(lease.wake.clone());
        let (arrived, marks) = (record.arrived, record.marks.clone());
        let first_run = Arc::clone(lease.warm().models.first_run());
        let (sender, receiver) = oneshot::channel();
        let broken = Arc::new(AtomicBool::new(false));
        let ending = Ending { broken: Some(Arc::clone(&broken)) };
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let result = tokio::time::timeout_at(deadline.into(), run(&lease, &record, request, sender, ending)).await;
            lease.ended = result.as_ref().is_ok_and(was_tried);
            let result = result.unwrap_or_else(|_| Err(lease.function.late())).map_err(|error| lease.explained(error));
            // It may have ended before anybody got to see the head of its response.
            if result.is_ok() {
                record.marks.answered(lease.first_run());
            }
            record.note(&result);
            result
        }));
        match receiver.await {
            Ok(Ok(response)) => {
                marks.answered(first_run.get().copied());
                let timing = Timing::of(&marks, arrived, cache);
                let value = response.map(|body| ResponseBody { body, broken, task: Some(task), recording: None });
                Ok(Answer { value, timing, labels: None })
            }
            Ok(Err(code)) => Err(function.failed(&format!("it answered with the error {code:?}"))),
            // The guest has ended without a response; its task knows why.
            Err(_) => match task.await {
                Ok(Err(error)) => Err(error),
                Ok(Ok(())) => Err(function.failed("it ended without a response")),
                Err(error) => Err(function.failed(&error.to_string())),
            },
        }
    }
}

async fn run(
    lease: &Lease,
    record: &Record,
    request: http::Request<RequestBody>,
    response: oneshot::Sender<Head>,
    ending: Ending,
) -> Result<(), CallError> {
    let function = &lease.function;
    let trapped = |error: wasmtime::Error| function.failed(&format!("{error:#}"));
    let Some(code) = &lease.warm().code.http else { return Err(function.failed("it has no http trigger")) };
    let mut instance = instance(lease, record, function.http_caller(record.deadline())).await.map_err(trapped)?;
    // After the instance, so that it is dropped before: the body's end and the reason for it come in this order.
    let ending = ending;
    let store = &mut instance.store;
    let guest = code.instantiate_async(&mut *store).await.map_err(trapped)?;
    record.marks.ready();
    let request = request.map(|body| body.map_err(|error| HttpError::InternalError(Some(error.to_string()))));
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, request).map_err(trapped)?;
    let response = store.data_mut().http().new_response_outparam(response).map_err(trapped)?;
    let handled = guest.wasi_http_incoming_handler().call_handle(&mut *store, request, response).await;
    let is_late = store.data().is_late;
    handled.map_err(|error| if is_late { function.too_busy() } else { trapped(error) })?;
    ending.orderly();
    Ok(())
}

/// Tells the response's body that the guest ended before its time. Without it the end of the instance would look like the end
/// of the body, and a client would take a response that a trap or the deadline cut short for a whole one.
struct Ending {
    /// `None` once the guest has ended in good order.
    broken: Option<Arc<AtomicBool>>,
}

impl Ending {
    fn orderly(mut self) {
        self.broken = None;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(broken) = &self.broken {
            broken.store(true, Ordering::Release);
        }
    }
}

/// The body of a response, which the guest is still producing.
#[derive(Debug)]
pub struct ResponseBody {
    body: WasiBody,
    /// Set before the body ends if the guest did not end in good order.
    broken: Arc<AtomicBool>,
    /// `None` once the body has ended, from when on the guest may finish unwatched.
    task: Option<AbortOnDropHandle<Result<(), CallError>>>,
    /// There while the response is to be kept.
    recording: Option<Recording>,
}

/// The guest ended before its response was complete: a trap, or its deadline.
#[derive(Debug, thiserror::Error)]
#[error("the response of the function is incomplete")]
pub struct Incomplete;

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Incomplete;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Incomplete>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() && self.broken.load(Ordering::Acquire) {
            self.recording = None;
            return Poll::Ready(Some(Err(Incomplete)));
        }
        let ends = frame.is_none() || self.is_end_stream();
        if let Some(recording) = self.recording.take() {
            let recording = match &frame {
                None => Some(recording),
                Some(Ok(frame)) => recording.and(frame),
                Some(Err(_)) => None,
            };
            match recording {
                Some(recording) if ends || recording.is_whole() => recording.keep(),
                recording => self.recording = recording,
            }
        }
        if ends {
            self.let_finish();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|_| Incomplete)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.broken.load(Ordering::Acquire)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl ResponseBody {
    /// A body that is there already.
    pub(super) fn whole(bytes: Bytes) -> Self {
        let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
        ResponseBody { body, broken: Arc::default(), task: None, recording: None }
    }

    /// The same body, of which a copy is made on its way.
    pub(super) fn recorded(mut self, recording: Recording) -> Self {
        match self.is_end_stream() {
            true => recording.keep(),
            false => self.recording = Some(recording),
        }
        self
    }

    /// Lets the guest go on although nobody reads from it any more.
    fn let_finish(&mut self) {
        if let Some(task) = self.task.take() {
            drop(task.detach());
        }
    }
}
