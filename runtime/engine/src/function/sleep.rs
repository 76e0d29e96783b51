//! Sleeps: after the idle time-out, for another function's memory, or for good.

use super::{Gate, Inner};
use crate::{State, lifecycle::AfterSleep, memory, warm::Warm};
use std::{pin::pin, sync::Arc, time::Instant};
use torpor_telemetry::SleepCause;

impl Inner {
    /// Sleeps as soon as nobody runs, and returns when it has.
    pub(super) async fn retire(self: &Arc<Self>) {
        self.sleep_while(|_| true).await;
    }

    /// Sleeps as soon as nobody runs, and returns when it has, or when that is not `wanted` any more.
    pub(super) async fn sleep_while(self: &Arc<Self>, wanted: impl Fn(&Gate) -> bool) {
        // A wake for which there was no memory yet, and for which nobody waits, does not begin.
        self.engine.keeper.given_up(self);
        loop {
            let changed = self.changed.notified();
            let warm = {
                let mut gate = self.gate();
                match gate.life.state() {
                    State::Cold | State::Failed => return,
                    _ if !wanted(&gate) => return,
                    _ => gate.life.retire().then(|| gate.warm.take()).flatten(),
                }
            };
            match warm {
                Some(warm) => {
                    self.engine.keeper.sleeps(self);
                    self.sleep(warm, SleepCause::Retired).await;
                }
                None => changed.await,
            }
        }
    }

    /// The one timer of a warm function, after its wake with this number. It ends with the sleep, so a cold function has none; `retire`
    /// does its work from then on.
    pub(super) async fn sleep_when_idle(self: Arc<Self>, wake: u64) {
        let mut retiring = pin!(self.retiring.notified());
        if self.gate().retired {
            return;
        }
        loop {
            let now = Instant::now();
            // While somebody runs, the earliest that it could be idle for long enough is a whole time-out away.
            let next = {
                let gate = self.gate();
                // It was loaded meanwhile; unloading it needs no timer.
                if gate.pinned && gate.wakes == wake {
                    return;
                }
                gate.life.sleep_at().unwrap_or(now + self.manifest.scale.idle_timeout)
            };
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = &mut retiring => return,
            }
            let warm = {
                let mut gate = self.gate();
                match gate.life.state() {
                    // Its models ended, and it was woken again meanwhile: it has another timer.
                    _ if gate.wakes != wake => return,
                    State::Warm if gate.life.try_sleep(Instant::now()) => gate.warm.take(),
                    State::Warm => None,
                    // Another one was quicker.
                    _ => return,
                }
            };
            if let Some(warm) = warm {
                self.engine.keeper.sleeps(&self);
                return self.sleep(warm, SleepCause::Idle).await;
            }
        }
    }

    /// Since when it has nothing to do; `None` while it has, or is not warm.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.gate().life.idle_since()
    }

    /// Begins to sleep, since another function needs the memory. False if it is not idle any more.
    pub(crate) fn evict(self: &Arc<Self>) -> bool {
        let warm = {
            let mut gate = self.gate();
            gate.life.evict().then(|| gate.warm.take()).flatten()
        };
        let Some(warm) = warm else { return false };
        let function = Arc::clone(self);
        tokio::spawn(async move { function.sleep(warm, SleepCause::Budget).await });
        true
    }

    /// Gives everything back. The state is `Sleeping`, so nobody runs and nobody else holds `warm`.
    async fn sleep(self: &Arc<Self>, warm: Arc<Warm>, cause: SleepCause) {
        let given_back = self.close(warm).await;
        self.metrics.slept(cause);
        self.metrics.warm.dec();
        tracing::debug!(function = %self.manifest.name, cause = cause.as_str(), "asleep");
        // While the state is still `Sleeping`, so that nobody asks for a wake of what counts yet.
        self.engine.keeper.slept(self, given_back);
        let after = {
            let mut gate = self.gate();
            gate.sleeps += 1;
            gate.evictions += u64::from(cause == SleepCause::Budget);
            gate.last_sleep = Some(cause);
            gate.life.slept(Instant::now())
        };
        if after == AfterSleep::Wake {
            self.ask();
        }
        self.changed.notify_waiters();
    }

    /// Drops code and models, and returns by how much the process shrank meanwhile, with what the models' own processes had, in bytes.
    pub(super) async fn close(&self, warm: Arc<Warm>) -> Option<u64> {
        let cache = self.engine.cache.clone();
        let closed = tokio::task::spawn_blocking(move || {
            // A quiet moment; what it frees is not the function's.
            cache.inspect(|cache| cache.tidy());
            let before = memory::anonymous();
            let elsewhere = warm.models.elsewhere();
            match Arc::into_inner(warm) {
                Some(warm) => warm.close(),
                None => tracing::error!("a request still holds a function that goes to sleep"),
            }
            Some(before?.saturating_sub(memory::anonymous()?) + elsewhere)
        });
        closed.await.unwrap_or_else(|_| {
            tracing::error!(function = %self.manifest.name, "giving the function's memory back did not go well");
            None
        })
    }
}
