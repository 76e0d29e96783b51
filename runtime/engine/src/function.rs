//! A deployed function: the mechanism around the state machine of `lifecycle.rs`.
//!
//! Whoever wants to run asks for a [`Lease`], which keeps the function warm. Wakes and sleeps run as tasks of their own, so a
//! caller that hangs up stops neither. The lock is held for moments only: never across an await, and never while something
//! is sent or dropped that could take it again.

use crate::{
    CallError, DeployError, FunctionStatus, ModelStatus, State,
    engine::Shared,
    error::{WakeError, chain},
    guest::Capabilities,
    lifecycle::{AfterEnd, AfterSleep, Arrival, Lifecycle, Policy},
    warm::{Recipe, WakeTiming, Warm},
};
use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Notify, oneshot};
use torpor_bundle::{Bundle, Verified};
use torpor_manifest::Manifest;
use torpor_telemetry::{FunctionMetrics, Outcome, Phase};
use torpor_tensor::Signature;

/// What a caller whom the queue has no room for is told to wait. A place gets free within one request's time, which nobody
/// knows; the header counts whole seconds, of which this is the least.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A deployed function. Cheap to clone; all clones are the same function.
#[derive(Clone)]
pub struct Function {
    inner: Arc<Inner>,
}

/// Lives as long as the function.
pub(crate) struct Inner {
    pub(crate) engine: Arc<Shared>,
    pub(crate) manifest: Manifest,
    pub(crate) capabilities: Arc<Capabilities>,
    pub(crate) metrics: FunctionMetrics,
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
    /// As many as the state machine counts as waiting, in the order of their arrival.
    waiters: VecDeque<Waiter>,
    next_waiter: u64,
    retired: bool,
    last_wake: Option<WakeTiming>,
    cause: Option<String>,
    // Counted here and not read from the metrics, which go on when another revision takes the function's name.
    wakes: u64,
    wake_failures: u64,
    sleeps: u64,
    model_ends: u64,
    calls: u64,
    last_call: Option<SystemTime>,
}

/// What is left to do, without the lock, after the processes of a function's models were found to have ended.
struct Remains {
    warm: Arc<Warm>,
    cause: String,
    after: AfterEnd,
    /// Who is to be told that the function cannot start.
    waiters: VecDeque<Waiter>,
}

struct Waiter {
    id: u64,
    /// Whether it found the function asleep, so that it is told how long the wake took.
    asleep: bool,
    admit: oneshot::Sender<Result<Lease, CallError>>,
}

/// The right to run one request. Keeps the function warm; its place is free again when it is dropped.
pub(crate) struct Lease {
    pub(crate) function: Arc<Inner>,
    /// The parts of the wake that the request had to wait for.
    pub(crate) wake: Option<WakeTiming>,
    /// `None` only while being dropped.
    warm: Option<Arc<Warm>>,
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
            last_wake: None,
            cause: None,
            wakes: 0,
            wake_failures: 0,
            sleeps: 0,
            model_ends: 0,
            calls: 0,
            last_call: None,
        };
        let inner = Inner {
            engine,
            manifest,
            capabilities: Arc::new(capabilities),
            metrics,
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

    /// The version that its bundle declares.
    pub fn version(&self) -> &str {
        &self.inner.version
    }

    /// Whether the next call would be let in: a function at zero is ready, one that failed to wake lately is not.
    pub fn is_ready(&self) -> bool {
        self.inner.gate().life.is_ready(Instant::now())
    }

    /// Counts a call that arrived at `arrived` and that a protocol refused for its caller's fault.
    pub fn count_refused(&self, arrived: Instant) {
        self.inner.metrics.ended(Outcome::Refused, arrived.elapsed());
    }

    /// Wakes the function without a request if its manifest says that it stays warm. Must be called within a tokio runtime.
    pub fn start(&self) {
        if self.inner.manifest.scale.min > 0 && self.inner.gate().life.start_wake() {
            self.inner.spawn_wake();
        }
    }

    /// Wakes the function without a request, and waits until it has been warm. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`DeployError::Wake`] with the cause when the wake does not succeed.
    pub async fn warm_up(&self) -> Result<(), DeployError> {
        let inner = &self.inner;
        loop {
            let changed = inner.changed.notified();
            {
                let mut gate = inner.gate();
                if gate.wakes > 0 {
                    return Ok(());
                }
                if gate.wake_failures > 0 {
                    return Err(DeployError::Wake(gate.cause.clone().unwrap_or_default()));
                }
                if gate.life.start_wake() {
                    inner.spawn_wake();
                }
            }
            changed.await;
        }
    }

    /// How it is doing.
    pub fn status(&self) -> FunctionStatus {
        let inner = &self.inner;
        let gate = inner.gate();
        let warm = gate.warm.as_deref();
        let models = inner.recipe.models().iter().map(|model| ModelStatus {
            name: model.name.to_string(),
            backend: model.backend.kind().name(),
            backend_version: model.backend.version().to_owned(),
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
            active: gate.life.active(),
            queued: gate.life.waiting(),
            calls: gate.calls,
            last_call: gate.last_call,
            wakes: gate.wakes,
            wake_failures: gate.wake_failures,
            sleeps: gate.sleeps,
            model_ends: gate.model_ends,
            last_wake: gate.last_wake,
            cause: gate.cause.clone(),
            ..FunctionStatus::at_rest(&inner.manifest)
        }
    }

    /// Puts the function to sleep, once the requests that run or wait now have ended. Whoever found it before it was replaced
    /// and calls it only now is served all the same; it then sleeps as soon as nobody runs, whatever its manifest says.
    pub async fn retire(&self) {
        self.inner.gate().retired = true;
        self.inner.retiring.notify_waiters();
        self.inner.retire().await;
    }
}

impl Inner {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing in a locked section panics half-way through a change.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its module is a program, which reads and writes bytes and knows nothing of HTTP.
    pub(crate) fn is_command(&self) -> bool {
        self.recipe.is_command()
    }

    /// Waits until the function is warm and has a place. Wakes it if it is asleep. Dropping the future gives up.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Result<Lease, CallError> {
        let (id, admitted) = {
            let mut gate = self.gate();
            if let Some(remains) = self.models_ended(&mut gate) {
                drop(gate);
                self.bury(remains);
                gate = self.gate();
            }
            let asleep = gate.life.state() != State::Warm;
            match gate.life.arrive(Instant::now()) {
                Arrival::Run => return Ok(self.lease(&mut gate, None)),
                Arrival::Full => {
                    return Err(CallError::QueueFull {
                        function: self.manifest.name.clone(),
                        retry_after: RETRY_AFTER,
                    });
                }
                Arrival::Failed => return Err(self.unavailable()),
                Arrival::Wait => self.enqueue(&mut gate, asleep),
                Arrival::WaitAndWake => {
                    self.spawn_wake();
                    self.enqueue(&mut gate, asleep)
                }
            }
        };
        let _waiting = Waiting { function: self, id };
        admitted.await.unwrap_or_else(|_| Err(self.unavailable()))
    }

    fn enqueue(&self, gate: &mut Gate, asleep: bool) -> (u64, oneshot::Receiver<Result<Lease, CallError>>) {
        let id = gate.next_waiter;
        gate.next_waiter += 1;
        let (admit, admitted) = oneshot::channel();
        gate.waiters.push_back(Waiter { id, asleep, admit });
        self.metrics.queued.inc();
        (id, admitted)
    }

    fn unavailable(&self) -> CallError {
        CallError::Unavailable { function: self.manifest.name.clone() }
    }

    fn lease(self: &Arc<Self>, gate: &mut Gate, wake: Option<WakeTiming>) -> Lease {
        self.metrics.active.inc();
        Lease { function: Arc::clone(self), wake, warm: gate.warm.clone() }
    }

    /// Whether the processes of a warm function's models have ended; then the function is warm no longer. The caller deals with what
    /// remains after it has let go of the lock.
    fn models_ended(&self, gate: &mut Gate) -> Option<Remains> {
        let cause = gate.warm.as_ref()?.models.ended()?;
        let warm = gate.warm.take()?;
        gate.cause = Some(cause.clone());
        gate.model_ends += 1;
        let after = gate.life.models_ended(Instant::now());
        let waiters = match after {
            AfterEnd::BackOff(_) => std::mem::take(&mut gate.waiters),
            AfterEnd::Rest | AfterEnd::Wake => VecDeque::new(),
        };
        Some(Remains { warm, cause, after, waiters })
    }

    /// Deals with what [`Inner::models_ended`] found.
    fn bury(self: &Arc<Self>, Remains { warm, cause, after, waiters }: Remains) {
        self.metrics.model_ends.inc();
        self.metrics.warm.dec();
        tracing::warn!(function = %self.manifest.name, cause, ?after, "the function is warm no longer");
        // Requests that run hold on to it, and the last of them lets it go.
        tokio::task::spawn_blocking(move || Arc::into_inner(warm).map(Warm::close));
        match after {
            AfterEnd::Rest => {}
            AfterEnd::Wake => self.spawn_wake(),
            AfterEnd::BackOff(back_off) => {
                self.turn_away(waiters);
                self.start_later(back_off);
            }
        }
        self.changed.notify_waiters();
    }

    /// Takes from the queue everybody who may run now. The caller hands out the leases after it has let go of the lock, since
    /// a lease whose receiver is gone is dropped at once, and that takes the lock.
    fn admissible(self: &Arc<Self>, gate: &mut Gate) -> Vec<(Waiter, Lease)> {
        let mut admitted = Vec::new();
        while gate.life.admit() {
            let Some(waiter) = gate.waiters.pop_front() else { break };
            self.metrics.queued.dec();
            let wake = if waiter.asleep { gate.last_wake } else { None };
            let lease = self.lease(gate, wake);
            admitted.push((waiter, lease));
        }
        admitted
    }

    fn spawn_wake(self: &Arc<Self>) {
        let function = Arc::clone(self);
        tokio::spawn(async move {
            // A task of its own, so that a panic in it is a failed wake and not a function that wakes for ever.
            let wake = tokio::spawn(Warm::wake(Arc::clone(&function.engine), Arc::clone(&function.recipe)));
            match wake.await.unwrap_or(Err(WakeError::Interrupted)) {
                Ok(warm) => function.woke(warm),
                Err(error) => function.wake_failed(&error),
            }
        });
    }

    /// Sleeps as soon as nobody runs, and returns when it has.
    async fn retire(self: &Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            let warm = {
                let mut gate = self.gate();
                match gate.life.state() {
                    State::Cold | State::Failed => return,
                    _ => gate.life.retire().then(|| gate.warm.take()).flatten(),
                }
            };
            match warm {
                Some(warm) => self.sleep(warm).await,
                None => changed.await,
            }
        }
    }

    fn woke(self: &Arc<Self>, warm: Warm) {
        let timing = warm.timing;
        self.metrics.wakes.inc();
        // Not set to 1: while one revision replaces another, both may be warm.
        self.metrics.warm.inc();
        self.metrics.wake_phase(Phase::Map, timing.map);
        self.metrics.wake_phase(Phase::Link, timing.link);
        self.metrics.wake_phase(Phase::Session, timing.session);
        self.metrics.wake_phase(Phase::Total, timing.total);
        tracing::debug!(function = %self.manifest.name, ?timing, "awake");
        let (admitted, retired, wake) = {
            let mut gate = self.gate();
            gate.wakes += 1;
            gate.warm = Some(Arc::new(warm));
            gate.last_wake = Some(timing);
            gate.cause = None;
            gate.life.woke(Instant::now());
            (self.admissible(&mut gate), gate.retired, gate.wakes)
        };
        hand_out(admitted);
        self.changed.notify_waiters();
        if retired {
            let function = Arc::clone(self);
            tokio::spawn(async move { function.retire().await });
        } else if self.manifest.scale.min == 0 {
            tokio::spawn(Arc::clone(self).sleep_when_idle(wake));
        }
    }

    fn wake_failed(self: &Arc<Self>, error: &WakeError) {
        let cause = chain(error);
        self.metrics.wake_failures.inc();
        let (waiters, back_off, retired) = {
            let mut gate = self.gate();
            let back_off = gate.life.wake_failed(Instant::now());
            gate.cause = Some(cause.clone());
            gate.wake_failures += 1;
            (std::mem::take(&mut gate.waiters), back_off, gate.retired)
        };
        tracing::warn!(function = %self.manifest.name, cause, ?back_off, "the function did not wake");
        self.turn_away(waiters);
        self.changed.notify_waiters();
        if !retired {
            self.start_later(back_off);
        }
    }

    /// Tells those who waited that the function cannot start.
    fn turn_away(&self, waiters: VecDeque<Waiter>) {
        for waiter in waiters {
            self.metrics.queued.dec();
            // Whoever hung up meanwhile needs no answer.
            let _ = waiter.admit.send(Err(self.unavailable()));
        }
    }

    /// Wakes a function that is to stay warm, once the back-off is over.
    fn start_later(self: &Arc<Self>, back_off: Duration) {
        if self.manifest.scale.min == 0 {
            return;
        }
        let function = Function { inner: Arc::clone(self) };
        tokio::spawn(async move {
            tokio::time::sleep(back_off).await;
            if !function.inner.gate().retired {
                function.start();
            }
        });
    }

    /// The one timer of a warm function. It ends with the sleep, so a cold function has none; `retire` does its work from then on.
    async fn sleep_when_idle(self: Arc<Self>, wake: u64) {
        let mut retiring = pin!(self.retiring.notified());
        if self.gate().retired {
            return;
        }
        loop {
            let now = Instant::now();
            // While somebody runs, the earliest that it could be idle for long enough is a whole time-out away.
            let next = self.gate().life.sleep_at().unwrap_or(now + self.manifest.scale.idle_timeout);
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = &mut retiring => return,
            }
            let warm = {
                let mut gate = self.gate();
                match gate.life.state() {
                    // It was woken again meanwhile, and has another timer.
                    _ if gate.wakes != wake => return,
                    State::Warm if gate.life.try_sleep(Instant::now()) => gate.warm.take(),
                    State::Warm => None,
                    // `retire` was quicker.
                    _ => return,
                }
            };
            if let Some(warm) = warm {
                return self.sleep(warm).await;
            }
        }
    }

    /// Gives everything back. The state is `Sleeping`, so nobody runs and nobody else holds `warm`.
    async fn sleep(self: &Arc<Self>, warm: Arc<Warm>) {
        let closed = tokio::task::spawn_blocking(move || match Arc::into_inner(warm) {
            Some(warm) => warm.close(),
            None => tracing::error!("a request still holds a function that goes to sleep"),
        });
        if closed.await.is_err() {
            tracing::error!(function = %self.manifest.name, "giving the function's memory back did not go well");
        }
        self.metrics.sleeps.inc();
        self.metrics.warm.dec();
        tracing::debug!(function = %self.manifest.name, "asleep");
        let after = {
            let mut gate = self.gate();
            gate.sleeps += 1;
            gate.life.slept()
        };
        if after == AfterSleep::Wake {
            self.spawn_wake();
        }
        self.changed.notify_waiters();
    }
}

fn hand_out(admitted: Vec<(Waiter, Lease)>) {
    for (waiter, lease) in admitted {
        // A lease that comes back was for somebody who hung up: dropping it lets the next one in.
        drop(waiter.admit.send(Ok(lease)));
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
        // First, so that a function without leases is held by nobody but itself.
        self.warm = None;
        let function = &self.function;
        function.metrics.active.dec();
        let (remains, admitted, idle) = {
            let mut gate = function.gate();
            gate.life.finish(Instant::now());
            gate.calls += 1;
            gate.last_call = Some(SystemTime::now());
            let remains = function.models_ended(&mut gate);
            (remains, function.admissible(&mut gate), gate.life.active() == 0)
        };
        hand_out(admitted);
        if let Some(remains) = remains {
            function.bury(remains);
        }
        if idle {
            function.changed.notify_waiters();
        }
    }
}

/// Held while a request waits; takes it out of the queue when it gives up.
struct Waiting<'a> {
    function: &'a Inner,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut gate = self.function.gate();
        // Whoever was let in is no longer in the queue; if nobody took the lease, it was dropped with the channel.
        if let Ok(index) = gate.waiters.binary_search_by_key(&self.id, |waiter| waiter.id) {
            let waiter = gate.waiters.remove(index);
            gate.life.give_up(Instant::now());
            drop(gate);
            drop(waiter);
            self.function.metrics.queued.dec();
        }
    }
}
