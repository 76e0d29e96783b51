//! A deployed function: the mechanism around the state machine of `lifecycle.rs`.
//!
//! Whoever wants to run asks for a [`Lease`], which keeps the function warm. Wakes and sleeps run as tasks of their own, so a
//! caller that hangs up stops neither. The lock is held for moments only: never across an await, and never while something
//! is sent or dropped that could take it again. What a wake does is in `wake`, what a sleep does in `sleep`, what comes of models
//! whose processes end on their own in `end`, and how callers load and unload it in `control`.

mod control;
mod end;
mod sleep;
mod wake;

use crate::{
    CallError, DeployError, FunctionStatus, ModelStatus, State,
    budget::Id,
    cache::Owner,
    engine::Shared,
    guest::Capabilities,
    lifecycle::{Arrival, Lifecycle, Policy, Turn},
    statistics::{Runs, Statistics},
    trace::{self, Trace, Traces},
    warm::{Recipe, WakeTiming, Warm},
};
use std::{
    collections::VecDeque,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Notify, oneshot};
use torpor_bundle::{Bundle, Verified};
use torpor_manifest::Manifest;
use torpor_telemetry::{FunctionMetrics, Outcome, Phase, SleepCause};
use torpor_tensor::Signature;

/// What a caller is told to wait who is turned away while nobody knows for how long that will be so.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a function may take to wake before it is deployed, where it has to wait for memory.
const PATIENCE: Duration = Duration::from_secs(30);

/// A deployed function. Cheap to clone; all clones are the same function.
#[derive(Clone)]
pub struct Function {
    inner: Arc<Inner>,
}

/// Lives as long as the function.
pub(crate) struct Inner {
    pub(crate) id: Id,
    pub(crate) engine: Arc<Shared>,
    pub(crate) manifest: Manifest,
    pub(crate) capabilities: Arc<Capabilities>,
    pub(crate) metrics: Arc<FunctionMetrics>,
    pub(crate) signature: Arc<Signature>,
    recipe: Arc<Recipe>,
    version: String,
    digest: String,
    publishers: Vec<String>,
    gate: Mutex<Gate>,
    /// Told whenever `retire` or `warm_up` may have to look again.
    changed: Notify,
    /// Told when the function is retired, so that its timer does not hold on to it.
    retiring: Notify,
}

/// What requests, wakes and sleeps change.
struct Gate {
    life: Lifecycle,
    /// There while the state is `Warm`.
    warm: Option<Arc<Warm>>,
    /// As many as the state machine counts as waiting, the earliest deadline first, and then in the order of their arrival.
    waiters: VecDeque<Waiter>,
    next_waiter: u64,
    retired: bool,
    /// Whether it stays warm, as its manifest says or because it was loaded.
    pinned: bool,
    /// Whether it was unloaded, so that nobody is let in.
    unloaded: bool,
    /// Whether it is to be warm although no request waits.
    wished: bool,
    /// Whether its wake has to wait until there is memory.
    lacks_memory: bool,
    /// Whether the wake that is under way is the second try.
    tried_again: bool,
    last_wake: Option<WakeTiming>,
    traces: Traces,
    statistics: Statistics,
    cause: Option<String>,
    // Counted here and not read from the metrics, which go on when another revision takes the function's name.
    wakes: u64,
    wake_failures: u64,
    sleeps: u64,
    evictions: u64,
    last_sleep: Option<SleepCause>,
    model_ends: u64,
    calls: u64,
    last_call: Option<SystemTime>,
}

struct Waiter {
    place: Place,
    /// Whether it found the function asleep, so that it is told how long the wake took.
    asleep: bool,
    admit: oneshot::Sender<Result<Lease, CallError>>,
}

/// The place of one that waits in the line: by its deadline, and then by its number.
type Place = (Instant, u64);

/// The right to run one request. Keeps the function warm; its place is free again when it is dropped.
pub(crate) struct Lease {
    pub(crate) function: Arc<Inner>,
    /// The parts of the wake that the request had to wait for.
    pub(crate) wake: Option<WakeTiming>,
    /// `None` only while being dropped.
    warm: Option<Arc<Warm>>,
    /// Whether the request ran to its end, whatever that was, and was not given up.
    pub(crate) ended: bool,
}

impl Function {
    pub(crate) fn new(
        engine: Arc<Shared>,
        manifest: Manifest,
        bundle: &Verified<Bundle>,
        recipe: Arc<Recipe>,
        capabilities: Capabilities,
        metrics: FunctionMetrics,
    ) -> Self {
        let policy = Policy {
            keep_warm: manifest.scale.min > 0,
            idle_timeout: manifest.scale.idle_timeout,
            max_concurrency: manifest.scale.max_concurrency,
            queue: manifest.scale.queue,
        };
        let gate = Gate {
            life: Lifecycle::new(policy, Instant::now()),
            warm: None,
            waiters: VecDeque::new(),
            next_waiter: 0,
            retired: false,
            pinned: policy.keep_warm,
            unloaded: false,
            wished: false,
            lacks_memory: false,
            tried_again: false,
            last_wake: None,
            traces: Traces::default(),
            statistics: Statistics::default(),
            cause: None,
            wakes: 0,
            wake_failures: 0,
            sleeps: 0,
            evictions: 0,
            last_sleep: None,
            model_ends: 0,
            calls: 0,
            last_call: None,
        };
        let inner = Inner {
            id: engine.keeper.id(),
            engine,
            manifest,
            capabilities: Arc::new(capabilities),
            metrics: Arc::new(metrics),
            signature: Arc::new(bundle.config.signature.clone().unwrap_or_default()),
            recipe,
            version: bundle.config.version.clone(),
            digest: bundle.manifest_digest.to_string(),
            publishers: bundle.publishers.clone(),
            gate: Mutex::new(gate),
            changed: Notify::new(),
            retiring: Notify::new(),
        };
        Function { inner: Arc::new(inner) }
    }

    /// Whether both are the same function, and not only of one name.
    pub fn is(&self, other: &Function) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The manifest it was deployed with.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// The inputs and outputs that its bundle declares; empty for a function that only serves HTTP.
    pub fn signature(&self) -> &Arc<Signature> {
        &self.inner.signature
    }

    /// Whose signatures made its bundle runnable, by name.
    pub fn publishers(&self) -> &[String] {
        &self.inner.publishers
    }

    /// The version that its bundle declares.
    pub fn version(&self) -> &str {
        &self.inner.version
    }

    /// Whether the next call would be let in: a function at zero is ready, one that failed to wake lately or was unloaded is not.
    pub fn is_ready(&self) -> bool {
        let gate = self.inner.gate();
        !gate.unloaded && gate.life.is_ready(Instant::now())
    }

    /// What its calls for tensors came to since it was deployed.
    pub fn statistics(&self) -> Statistics {
        self.inner.gate().statistics.clone()
    }

    /// Counts a call that arrived at `arrived` and that a protocol refused for its caller's fault.
    pub fn count_refused(&self, arrived: Instant) {
        self.inner.metrics.ended(Outcome::Refused, arrived.elapsed());
    }

    /// Wakes the function without a request if it stays warm. Must be called within a tokio runtime.
    pub fn start(&self) {
        let starts = {
            let mut gate = self.inner.gate();
            gate.pinned && gate.life.start_wake(Instant::now())
        };
        if starts {
            self.inner.ask();
        }
    }

    /// Wakes the function without a request, and waits until it has been warm. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`DeployError::Wake`] with the cause when the wake does not succeed.
    pub async fn warm_up(&self) -> Result<(), DeployError> {
        let inner = &self.inner;
        let mut awake = pin!(inner.warm_up());
        loop {
            match tokio::time::timeout(PATIENCE, awake.as_mut()).await {
                Ok(awake) => return awake,
                Err(_) if inner.gate().lacks_memory => return Err(DeployError::NoMemory),
                Err(_) => {}
            }
        }
    }

    /// How it is doing.
    pub fn status(&self) -> FunctionStatus {
        let inner = &self.inner;
        // Asked before the gate is locked, as everywhere.
        let budgeted = inner.engine.keeper.counted(inner.id);
        let gate = inner.gate();
        let warm = gate.warm.as_deref();
        // Recipes and open models have the same order.
        let models = inner.recipe.models().iter().enumerate().map(|(index, model)| ModelStatus {
            name: model.name.to_string(),
            backend: model.backend.kind().name(),
            backend_version: model.backend.version().to_owned(),
            tier: warm.map(|warm| warm.models.tier(index).name()),
            isolation: model.isolation.as_str(),
            process: warm.and_then(|warm| warm.models.process(model.name.as_str())),
        });
        FunctionStatus {
            state: gate.life.state(),
            version: Some(inner.version.clone()),
            digest: Some(inner.digest.clone()),
            publishers: inner.publishers.clone(),
            models: models.collect(),
            sessions: warm.map_or(0, |_| inner.recipe.models().len()),
            memory: warm.and_then(|warm| warm.memory),
            budgeted,
            lacks_memory: gate.lacks_memory,
            active: gate.life.active(),
            queued: gate.life.waiting(),
            calls: gate.calls,
            last_call: gate.last_call,
            wakes: gate.wakes,
            wake_failures: gate.wake_failures,
            sleeps: gate.sleeps,
            evictions: gate.evictions,
            last_sleep: gate.last_sleep.map(SleepCause::as_str),
            model_ends: gate.model_ends,
            last_wake: gate.last_wake.clone(),
            cause: gate.cause.clone(),
            ..FunctionStatus::at_rest(&inner.manifest)
        }
    }

    /// Where the time of its last calls went, oldest first.
    pub fn traces(&self) -> Vec<Trace> {
        self.inner.gate().traces.all()
    }

    /// Puts the function to sleep, once the requests that run or wait now have ended. Whoever found it before it was replaced
    /// and calls it only now is served all the same; it then sleeps as soon as nobody runs, whatever its manifest says.
    pub async fn retire(&self) {
        self.inner.gate().retired = true;
        self.inner.retiring.notify_waiters();
        self.inner.engine.keeper.pin(&self.inner, false);
        self.inner.retire().await;
        self.inner.engine.keeper.forget(&self.inner);
        self.inner.forget_answers().await;
    }
}

impl Inner {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing in a locked section panics half-way through a change.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call that is answered without a lease.
    pub(crate) fn count_call(&self) {
        let mut gate = self.gate();
        gate.calls += 1;
        gate.last_call = Some(trace::on_the_wall());
    }

    /// Drops the whole answers that are kept of it: another revision may answer otherwise.
    async fn forget_answers(&self) {
        let Some(cache) = self.engine.cache.clone().filter(|_| self.keeps_answers().is_some()) else { return };
        let id = self.id;
        let forget = move || cache.forget(|owner| *owner == Owner::Revision(id));
        if tokio::task::spawn_blocking(forget).await.is_err() {
            tracing::error!(function = %self.manifest.name, "dropping what was kept of its answers did not go well");
        }
    }

    /// Remembers a call that has ended; one for tensors with how it did and what its models ran.
    pub(crate) fn remember(&self, trace: Trace, counted: Option<(Outcome, Runs)>) {
        let mut gate = self.gate();
        if let Some((outcome, runs)) = counted {
            gate.statistics.count(&trace, outcome, runs);
        }
        gate.traces.add(trace);
    }

    /// Whether its module is a program, which reads and writes bytes and knows nothing of HTTP.
    pub(crate) fn is_command(&self) -> bool {
        self.recipe.is_command()
    }

    /// Bytes of what it needs to wake.
    pub(crate) fn files(&self) -> u64 {
        self.recipe.size()
    }

    /// Whether its manifest keeps it warm, or its having been loaded does.
    pub(crate) fn is_pinned(&self) -> bool {
        let gate = self.gate();
        gate.pinned && !gate.retired
    }

    /// Waits until the function is warm and has a place, for a request that is to be answered until `deadline`. Wakes it if it is
    /// asleep. Dropping the future gives up, and notes in `lacked_memory` whether it was for want of memory that nothing came of it.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        deadline: Instant,
        lacked_memory: &AtomicBool,
    ) -> Result<Lease, CallError> {
        let (wake, (place, admitted)) = {
            let mut gate = self.gate();
            if let Some(remains) = self.models_ended(&mut gate) {
                drop(gate);
                self.bury(remains);
                gate = self.gate();
            }
            if gate.unloaded {
                return Err(CallError::Unloaded { function: self.manifest.name.clone() });
            }
            let asleep = gate.life.state() != State::Warm;
            let now = Instant::now();
            match gate.life.arrive(now, deadline) {
                Arrival::Run => return Ok(self.lease(&mut gate, None)),
                Arrival::Full => {
                    let retry_after = gate.life.until_served(now).unwrap_or(RETRY_AFTER);
                    return Err(CallError::QueueFull { function: self.manifest.name.clone(), retry_after });
                }
                Arrival::Late(by) => return Err(self.overloaded(by)),
                Arrival::Failed => return Err(self.unavailable()),
                Arrival::Wait => (false, self.enqueue(&mut gate, deadline, asleep)),
                Arrival::WaitAndWake => (true, self.enqueue(&mut gate, deadline, asleep)),
            }
        };
        let _waiting = Waiting { function: self, place, lacked_memory };
        if wake {
            self.ask();
        }
        admitted.await.unwrap_or_else(|_| Err(self.unavailable()))
    }

    fn enqueue(
        &self,
        gate: &mut Gate,
        deadline: Instant,
        asleep: bool,
    ) -> (Place, oneshot::Receiver<Result<Lease, CallError>>) {
        let place = (deadline, gate.next_waiter);
        gate.next_waiter += 1;
        let (admit, admitted) = oneshot::channel();
        // Nearly always the last place: requests have one deadline, counted from their arrival.
        let index = gate.waiters.partition_point(|waiter| waiter.place < place);
        gate.waiters.insert(index, Waiter { place, asleep, admit });
        self.metrics.queued.inc();
        (place, admitted)
    }

    /// What a caller is told who could not be answered in time, by so much.
    pub(crate) fn overloaded(&self, by: Duration) -> CallError {
        CallError::Overloaded { function: self.manifest.name.clone(), retry_after: by }
    }

    /// What a caller is told for whom a model was too busy to be in time.
    pub(crate) fn too_busy(&self) -> CallError {
        self.overloaded(self.gate().life.until_served(Instant::now()).unwrap_or(RETRY_AFTER))
    }

    /// What a caller is told who waited until its deadline for a wake that waited for memory.
    pub(crate) fn no_memory(&self) -> CallError {
        CallError::NoMemory { function: self.manifest.name.clone(), retry_after: RETRY_AFTER }
    }

    fn unavailable(&self) -> CallError {
        CallError::Unavailable { function: self.manifest.name.clone() }
    }

    fn lease(self: &Arc<Self>, gate: &mut Gate, wake: Option<WakeTiming>) -> Lease {
        self.metrics.active.inc();
        Lease { function: Arc::clone(self), wake, warm: gate.warm.clone(), ended: false }
    }

    /// Takes from the queue everybody who may run now, and those who would come too late. The caller tells them after it has let
    /// go of the lock, since a lease whose receiver is gone is dropped at once, and that takes the lock.
    fn admissible(self: &Arc<Self>, gate: &mut Gate) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(waiter) = gate.waiters.front() {
            let (deadline, _) = waiter.place;
            let turn = gate.life.admit(Instant::now(), deadline);
            let Some(waiter) = (if turn == Turn::Nobody { None } else { gate.waiters.pop_front() }) else { break };
            self.metrics.queued.dec();
            let what = match turn {
                Turn::Late(by) => Err(self.overloaded(by)),
                _ => {
                    let wake = gate.last_wake.clone().filter(|_| waiter.asleep);
                    Ok(self.lease(gate, wake))
                }
            };
            told.push(Told { waiter, what });
        }
        told
    }
}

/// What one who waited is told.
struct Told {
    waiter: Waiter,
    what: Result<Lease, CallError>,
}

impl Told {
    fn all(told: Vec<Told>) {
        for Told { waiter, what } in told {
            // A lease that comes back was for somebody who hung up: dropping it lets the next one in.
            drop(waiter.admit.send(what));
        }
    }
}

impl Gate {
    /// Notes how long the first run since the wake took, and gives it the first time that it is told.
    fn ran(&mut self, first_run: Option<Duration>) -> Option<Duration> {
        let wake = self.last_wake.as_mut().filter(|wake| wake.first_run.is_none())?;
        wake.first_run = first_run;
        first_run
    }
}

impl Lease {
    pub(crate) fn warm(&self) -> &Warm {
        // Only `drop` takes it.
        self.warm.as_deref().expect("a lease holds its function until it is dropped")
    }

    /// What a caller is told of a call that failed with `error`: that it failed because the process of a model ended, if it did.
    pub(crate) fn explained(&self, error: CallError) -> CallError {
        match error {
            CallError::Failed { function } if self.warm().models.ended().is_some() => {
                CallError::ModelEnded { function }
            }
            error => error,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let first_run = self.warm.as_ref().and_then(|warm| warm.models.first_run().get().copied());
        // First, so that a function without leases is held by nobody but itself.
        self.warm = None;
        let function = &self.function;
        function.metrics.active.dec();
        let (remains, told, idle, news) = {
            let mut gate = function.gate();
            gate.life.finish(self.ended, Instant::now());
            gate.calls += 1;
            gate.last_call = Some(trace::on_the_wall());
            let news = gate.ran(first_run);
            let remains = function.models_ended(&mut gate);
            (remains, function.admissible(&mut gate), gate.life.active() == 0, news)
        };
        Told::all(told);
        if let Some(took) = news {
            function.metrics.wake_phase(Phase::FirstRun, took);
        }
        if let Some(remains) = remains {
            function.bury(remains);
        }
        if idle {
            function.changed.notify_waiters();
            function.engine.keeper.got_idle();
        }
    }
}

/// Held while a request waits; takes it out of the queue when it gives up.
struct Waiting<'a> {
    function: &'a Arc<Inner>,
    place: Place,
    lacked_memory: &'a AtomicBool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut gate = self.function.gate();
        // Whoever was let in is no longer in the queue; if nobody took the lease, it was dropped with the channel.
        if let Ok(index) = gate.waiters.binary_search_by_key(&self.place, |waiter| waiter.place) {
            let waiter = gate.waiters.remove(index);
            gate.life.give_up(Instant::now());
            let (lacks_memory, alone) = (gate.lacks_memory, gate.life.waiting() == 0);
            drop(gate);
            drop(waiter);
            self.function.metrics.queued.dec();
            self.lacked_memory.store(lacks_memory, Ordering::Relaxed);
            if alone {
                self.function.engine.keeper.given_up(self.function);
            }
        }
    }
}
