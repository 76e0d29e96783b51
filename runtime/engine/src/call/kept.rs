//! Calls whose whole answers may be kept: looked up before anything is woken, and recorded on their way to who asked first.
//!
//! Nobody waits for an answer that another one is getting: that may stream for long, to a client that reads slowly, and whether
//! it may be kept shows only in its head.

use super::{Answer, Record, RequestBody, ResponseBody, Timing};
use crate::{
    CacheStatus, CallError, Forwarded, Function,
    budget::Id,
    cache::{self, Cache, Found, Key, Stored},
    function::Inner,
    trace,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body::{Body, Frame};
use std::{fmt, sync::Arc, time::Instant};
use torpor_manifest::HttpCache;
use torpor_telemetry::{CacheKind, Outcome};

impl Function {
    /// Answers one request, whose URI must have an authority: from the response cache, where the manifest allows it and there
    /// is an answer that may be given again; else by the function, in whose queue it waits, and for its wake if it is asleep.
    /// Dropping the future, or the body before its end, ends the call. A core module gets the body alone, and its answer is
    /// whole.
    ///
    /// # Errors
    /// What kept the function from sending the head of a response. After that, an error of the body.
    pub async fn http(&self, request: Request<RequestBody>) -> Result<Answer<Response<ResponseBody>>, CallError> {
        let function = self.inner();
        let Some(settings) = function.keeps_answers() else { return self.forward(request, None).await };
        let Some(cache) = &function.engine.cache else {
            return self.forward(request, Some(CacheStatus::forwarded(Forwarded::Bypass))).await;
        };
        let key = cache::of_request(function.id, request.uri());
        let why = match function.look_up(cache, &key, &request) {
            Ok(answer) => return Ok(answer),
            Err(why) => why,
        };
        let status = CacheStatus::forwarded(why);
        if let Some(result) = status.counted() {
            function.metrics.looked_up(CacheKind::Http, result);
        }
        let changes = !request.method().is_safe();
        let headers = recordable(&request, why).then(|| request.headers().clone());
        let mut answer = self.forward(request, Some(status)).await?;
        if changes && (answer.value.status().is_success() || answer.value.status().is_redirection()) {
            // It has changed what is there, and what was kept of it is wrong now.
            cache.remove(&key);
        }
        let limit = usize::try_from(settings.body.as_u64()).unwrap_or(usize::MAX);
        let recording =
            headers.and_then(|headers| Recording::begin(cache, key, function.id, &headers, &answer.value, limit));
        if let Some(recording) = recording {
            answer.timing.cache = Some(CacheStatus::Forwarded { why, stored: true, collapsed: false });
            answer.value = answer.value.map(|body| body.recorded(recording));
        }
        Ok(answer)
    }
}

/// Whether the answer to a request that was looked up in vain may be kept.
fn recordable(request: &Request<RequestBody>, why: Forwarded) -> bool {
    request.method() == http::Method::GET
        && !matches!(why, Forwarded::Bypass | Forwarded::Method)
        && !cache::is_secret(request.headers())
}

impl Inner {
    /// How whole answers are kept, where the manifest wants that.
    pub(crate) fn keeps_answers(&self) -> Option<&HttpCache> {
        self.manifest.trigger.http.as_ref()?.cache.as_ref()
    }

    /// A kept answer to the request, or why there is none.
    fn look_up(
        self: &Arc<Self>,
        cache: &Cache,
        key: &Key,
        request: &Request<RequestBody>,
    ) -> Result<Answer<Response<ResponseBody>>, Forwarded> {
        let (method, headers) = (request.method(), request.headers());
        let conditions = cache::conditions(method, headers, !request.body().is_end_stream())?;
        let arrived = Instant::now();
        let (stored, ttl) = match cache.answer(key, &conditions, headers) {
            Found::Fresh(stored, ttl) => (stored, ttl),
            Found::Nothing(why) => return Err(why),
        };
        let status = CacheStatus::Hit { ttl };
        // Not before, since one that is given up counts, too.
        let mut record = Record::new(self);
        record.arrived = arrived;
        record.marks.admitted(None);
        record.marks.looked_up_whole(status);
        record.marks.answered(None);
        record.outcome = Outcome::Answered;
        self.count_call();
        if let Some(result) = status.counted() {
            self.metrics.looked_up(CacheKind::Http, result);
        }
        let value = stored.answer(method, headers).map(ResponseBody::whole);
        Ok(Answer { value, timing: Timing::of(&record.marks, record.arrived, Some(status)), labels: None })
    }
}

/// An answer that is copied while it is sent, and kept when it was sent whole.
pub(super) struct Recording {
    cache: Arc<Cache>,
    key: Key,
    revision: Id,
    head: Stored,
    body: Vec<u8>,
    /// Bytes that the body may have.
    limit: usize,
    /// Bytes that it will have, where its head says so.
    declared: Option<usize>,
}

impl Recording {
    /// Begins to record an answer, if its head allows it and its body may fit.
    fn begin(
        cache: &Arc<Cache>,
        key: Key,
        revision: Id,
        request: &HeaderMap,
        response: &Response<ResponseBody>,
        limit: usize,
    ) -> Option<Self> {
        let mut parts = Response::new(()).into_parts().0;
        parts.status = response.status();
        parts.headers = response.headers().clone();
        let head = Stored::head(request, &parts, trace::on_the_wall())?;
        let limit = limit.min(cache.room(&head)?);
        let declared = match response.headers().get(header::CONTENT_LENGTH) {
            Some(length) => Some(length.to_str().ok()?.parse().ok()?),
            None => None,
        };
        let fits = declared.is_none_or(|length| length <= limit);
        let cache = Arc::clone(cache);
        fits.then_some(Recording { cache, key, revision, head, body: Vec::new(), limit, declared })
    }

    /// With one frame more; `None` where it has become too long, or has trailers, which are not kept.
    pub(super) fn and(mut self, frame: &Frame<Bytes>) -> Option<Self> {
        let data = frame.data_ref()?;
        if data.len() > self.limit - self.body.len() {
            return None;
        }
        self.body.extend_from_slice(data);
        Some(self)
    }

    /// Whether all is there that the head has promised. Who sends the answer may ask for no more then.
    pub(super) fn is_whole(&self) -> bool {
        self.declared == Some(self.body.len())
    }

    /// Keeps the answer, whose body has ended in good order.
    pub(super) fn keep(self) {
        if self.declared.is_none_or(|length| length == self.body.len()) {
            self.cache.keep_answer(self.key, self.revision, self.head.with_body(self.body));
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("recorded", &self.body.len())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
