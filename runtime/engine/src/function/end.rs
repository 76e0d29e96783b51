//! Models whose worker processes end on their own: the function is warm no longer, and wakes again where it is wanted.

use super::{Function, Gate, Inner, Waiter};
use crate::{lifecycle::AfterEnd, warm::Warm};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// What is left to do, without the lock, after the processes of a function's models were found to have ended.
pub(super) struct Remains {
    warm: Arc<Warm>,
    cause: String,
}

impl Inner {
    /// Whether the processes of a warm function's models have ended; then the function is warm no longer. The caller deals with what
    /// remains after it has let go of the lock. Until then the state is `Sleeping`.
    pub(super) fn models_ended(&self, gate: &mut Gate) -> Option<Remains> {
        let cause = gate.warm.as_ref()?.models.ended()?;
        let warm = gate.warm.take()?;
        gate.cause = Some(cause.clone());
        gate.model_ends += 1;
        gate.life.models_are_gone();
        Some(Remains { warm, cause })
    }

    /// Deals with what [`Inner::models_ended`] found.
    pub(super) fn bury(self: &Arc<Self>, Remains { warm, cause }: Remains) {
        self.metrics.model_ends.inc();
        self.metrics.warm.dec();
        // Requests that run hold on to it, and the last of them lets it go.
        tokio::task::spawn_blocking(move || Arc::into_inner(warm).map(Warm::close));
        // While the state is still `Sleeping`, so that nobody asks for a wake of what counts yet. Most of it was the processes', and
        // is free already; how much that was is not measured here.
        self.engine.keeper.sleeps(self);
        self.engine.keeper.slept(self, None);
        let (after, waiters) = {
            let mut gate = self.gate();
            let after = gate.life.models_ended(Instant::now());
            let waiters = match after {
                AfterEnd::BackOff(_) => std::mem::take(&mut gate.waiters),
                AfterEnd::Rest | AfterEnd::Wake => VecDeque::new(),
            };
            (after, waiters)
        };
        tracing::warn!(function = %self.manifest.name, cause, ?after, "the function is warm no longer");
        match after {
            AfterEnd::Rest => {}
            AfterEnd::Wake => self.ask(),
            AfterEnd::BackOff(back_off) => {
                self.turn_away(waiters);
                self.start_later(back_off);
            }
        }
        self.changed.notify_waiters();
    }

    /// Tells those who waited that the function cannot start.
    pub(super) fn turn_away(&self, waiters: VecDeque<Waiter>) {
        for waiter in waiters {
            self.metrics.queued.dec();
            // Whoever hung up meanwhile needs no answer.
            let _ = waiter.admit.send(Err(self.unavailable()));
        }
    }

    /// Wakes a function that is to stay warm, once the back-off is over.
    pub(super) fn start_later(self: &Arc<Self>, back_off: Duration) {
        if !self.gate().pinned {
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
}
