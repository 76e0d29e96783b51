//! One call, from the request's arrival to the end of its answer: deadline, lease, instance, outcome.

mod command;
mod http;
mod instance;
mod kept;
mod predict;

pub use self::http::{Incomplete, RequestBody, ResponseBody};

use crate::{
    CacheStatus, CallError, Labels, WakeTiming,
    function::{Inner, Lease},
    trace::Marks,
};
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use torpor_manifest::Priority;
use torpor_nn::Caller;
use torpor_telemetry::Outcome;

/// An answer, and where its time went.
#[derive(Debug)]
pub struct Answer<T> {
    /// What the function answered.
    pub value: T,
    /// Where the time went.
    pub timing: Timing,
    /// What stands along the last dimension of the outputs of the function's models; `None` of an HTTP request, and where no output
    /// has labels.
    pub labels: Option<Arc<Labels>>,
}

/// Where a call's time went.
#[derive(Debug, Clone)]
pub struct Timing {
    /// From arrival until the call was let in, a wake included.
    pub queue: Duration,
    /// The wake that the call waited for; `None` when the function was warm.
    pub wake: Option<WakeTiming>,
    /// From being let in until the instance was there.
    pub instantiate: Duration,
    /// From being let in until the answer, an instance included; for HTTP, until the head of the response.
    pub run: Duration,
    /// What the response cache did for it: for its models, or for an HTTP request as a whole. `None` where it was not asked to.
    pub cache: Option<CacheStatus>,
}

/// Counts a call when it ends. A call whose future is dropped half-way was abandoned by its caller.
struct Record {
    function: Arc<Inner>,
    arrived: Instant,
    outcome: Outcome,
    /// Whether the call waited in vain for memory.
    lacked_memory: AtomicBool,
    /// Whether it is a call for tensors, which the function's statistics count.
    for_tensors: bool,
    marks: Marks,
}

impl Record {
    fn new(function: &Arc<Inner>) -> Self {
        Record {
            function: Arc::clone(function),
            arrived: Instant::now(),
            outcome: Outcome::Abandoned,
            lacked_memory: AtomicBool::new(false),
            for_tensors: false,
            marks: Marks::default(),
        }
    }

    /// Its deadline has passed.
    fn late(&self) -> CallError {
        match self.lacked_memory.load(Ordering::Relaxed) {
            true => self.function.no_memory(),
            false => self.function.late(),
        }
    }

    fn deadline(&self) -> Instant {
        self.arrived + self.function.manifest.limits.deadline
    }

    /// Notes how the call ended.
    fn note<T>(&mut self, result: &Result<T, CallError>) {
        self.outcome = match result {
            Ok(_) => Outcome::Answered,
            Err(CallError::InvalidInput(_) | CallError::Unloaded { .. }) => Outcome::Refused,
            Err(CallError::QueueFull { .. } | CallError::NoMemory { .. }) => Outcome::Shed,
            Err(CallError::Overloaded { .. }) => Outcome::Overloaded,
            Err(CallError::Deadline { .. }) => Outcome::Late,
            Err(CallError::Unavailable { .. } | CallError::ModelEnded { .. } | CallError::Failed { .. }) => {
                Outcome::Failed
            }
        };
    }
}

/// Whether a call that ended by itself was tried: a model may have had no time for it.
fn was_tried<T>(result: &Result<T, CallError>) -> bool {
    !matches!(result, Err(CallError::Overloaded { .. }))
}

impl Drop for Record {
    fn drop(&mut self) {
        self.function.metrics.ended(self.outcome, self.arrived.elapsed());
        let trace = self.marks.trace(self.arrived, self.outcome.as_str());
        self.function.remember(trace, self.for_tensors.then(|| (self.outcome, self.marks.runs())));
    }
}

impl Timing {
    /// Of a call that was answered just now.
    fn of(marks: &Marks, arrived: Instant, cache: Option<CacheStatus>) -> Self {
        let admitted = marks.admission().unwrap_or(arrived);
        Timing {
            queue: admitted.saturating_duration_since(arrived),
            wake: marks.wake(),
            instantiate: marks.instantiate().unwrap_or_default(),
            run: admitted.elapsed(),
            cache,
        }
    }
}

impl Lease {
    /// How long the first run of a model took, where the call had to wait for the wake before it.
    fn first_run(&self) -> Option<Duration> {
        self.wake.as_ref().and(self.warm().models.first_run().get().copied())
    }
}

impl Inner {
    /// Whose requests those of the trigger for tensors are, until `deadline`.
    fn inference_caller(&self, deadline: Instant) -> Caller {
        self.caller(self.manifest.trigger.inference.as_ref().map(|trigger| trigger.priority), deadline)
    }

    /// Whose requests those of the trigger for HTTP are.
    fn http_caller(&self, deadline: Instant) -> Caller {
        self.caller(self.manifest.trigger.http.as_ref().map(|trigger| trigger.priority), deadline)
    }

    /// How requests stand in line for models. Each priority has a flow of its own.
    fn caller(&self, priority: Option<Priority>, deadline: Instant) -> Caller {
        let (class, weight) = match priority.unwrap_or_default() {
            Priority::High => (0, const { NonZeroU32::new(16).unwrap() }),
            Priority::Normal => (1, const { NonZeroU32::new(4).unwrap() }),
            Priority::Low => (2, NonZeroU32::MIN),
        };
        Caller { flow: self.id * 3 + class, weight, deadline }
    }

    fn late(&self) -> CallError {
        CallError::Deadline { function: self.manifest.name.clone() }
    }

    /// A call failed for no fault of its caller. The operator is told why, the caller is not.
    fn failed(&self, why: &str) -> CallError {
        tracing::warn!(function = %self.manifest.name, why, "a call failed");
        CallError::Failed { function: self.manifest.name.clone() }
    }
}
