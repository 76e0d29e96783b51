//! Wakes: asking for memory, opening everything, and letting in those who waited.

use super::{Inner, Told};
use crate::{
    DeployError,
    error::{WakeError, chain},
    warm::Warm,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use torpor_telemetry::Phase;

/// After how long a function for which no request waits lets others pass, while it waits for memory.
const STEP_BACK: Duration = Duration::from_secs(5);

impl Inner {
    /// Has the function wake as soon as there is memory for it. Its state is `Waking`, and its gate is not locked.
    pub(super) fn ask(self: &Arc<Self>) {
        let waits = self.engine.keeper.ask(self);
        if waits && self.gate().is_wished() {
            let function = Arc::clone(self);
            // It has no deadline, so those behind it would wait for as long as those before it are busy.
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(STEP_BACK).await;
                    if !function.engine.keeper.step_back(&function) {
                        return;
                    }
                }
            });
        }
    }

    pub(super) async fn warm_up(self: &Arc<Self>) -> Result<(), DeployError> {
        loop {
            let changed = self.changed.notified();
            let wake = {
                let mut gate = self.gate();
                if gate.wakes > 0 {
                    return Ok(());
                }
                if gate.wake_failures > 0 {
                    return Err(DeployError::Wake(gate.cause.clone().unwrap_or_default()));
                }
                gate.wished = true;
                gate.life.start_wake(Instant::now())
            };
            if wake {
                self.ask();
            }
            changed.await;
        }
    }

    /// Notes whether the wake has to wait for memory.
    pub(crate) fn lacks_memory(&self, lacks: bool) {
        self.gate().lacks_memory = lacks;
    }

    /// Whether a request waits for it.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.gate().life.waiting() > 0
    }

    /// Gives up a wake that has not begun, if nobody wants it any more. The function is cold then.
    pub(crate) fn withdraws(&self) -> bool {
        let mut gate = self.gate();
        let withdraws = !gate.is_wished() && gate.life.withdraw();
        gate.lacks_memory &= !withdraws;
        withdraws
    }

    /// It has left the line without having woken, and whoever waits for a change may look again.
    pub(crate) fn withdrew(&self) {
        self.changed.notify_waiters();
    }

    /// There is memory: the wake begins.
    pub(crate) fn spawn_wake(self: &Arc<Self>) {
        let function = Arc::clone(self);
        tokio::spawn(async move {
            // A task of its own, so that a panic in it is a failed wake and not a function that wakes for ever.
            let Inner { engine, recipe, metrics, .. } = &*function;
            let wake = tokio::spawn(Warm::wake(Arc::clone(engine), Arc::clone(recipe), Arc::clone(metrics)));
            let keeper = &function.engine.keeper;
            match wake.await.unwrap_or(Err(WakeError::Interrupted)) {
                Ok(warm) => match keeper.woke(&function, warm.memory) {
                    Ok(()) => function.woke(warm),
                    Err(too_large) => {
                        let given_back = function.close(Arc::new(warm)).await;
                        let fits = keeper.turned_away(&function, given_back);
                        if fits && function.tries_again() {
                            function.ask();
                        } else {
                            function.wake_failed(&too_large.into());
                        }
                    }
                },
                Err(error) => {
                    keeper.failed(&function);
                    function.wake_failed(&error);
                }
            }
            keeper.advance();
        });
    }

    /// Whether a wake that took more memory than it should have is tried once more, before it fails.
    fn tries_again(&self) -> bool {
        !std::mem::replace(&mut self.gate().tried_again, true)
    }

    fn woke(self: &Arc<Self>, warm: Warm) {
        let timing = warm.timing.clone();
        self.metrics.wakes.inc();
        // Not set to 1: while one revision replaces another, both may be warm.
        self.metrics.warm.inc();
        self.metrics.wake_phase(Phase::Map, timing.map);
        self.metrics.wake_phase(Phase::Link, timing.link);
        self.metrics.wake_phase(Phase::Session, timing.session);
        self.metrics.wake_phase(Phase::Total, timing.total);
        tracing::debug!(function = %self.manifest.name, ?timing, "awake");
        let (told, retired, pinned, wake) = {
            let mut gate = self.gate();
            gate.wakes += 1;
            (gate.wished, gate.tried_again) = (false, false);
            gate.warm = Some(Arc::new(warm));
            gate.life.woke(Instant::now(), timing.total);
            gate.last_wake = Some(timing);
            gate.cause = None;
            (self.admissible(&mut gate), gate.retired, gate.pinned, gate.wakes)
        };
        Told::all(told);
        self.changed.notify_waiters();
        if retired {
            let function = Arc::clone(self);
            tokio::spawn(async move { function.retire().await });
        } else if !pinned {
            tokio::spawn(Arc::clone(self).sleep_when_idle(wake));
        }
    }

    pub(crate) fn wake_failed(self: &Arc<Self>, error: &WakeError) {
        let cause = chain(error);
        self.metrics.wake_failures.inc();
        let (waiters, back_off, retired) = {
            let mut gate = self.gate();
            let back_off = gate.life.wake_failed(Instant::now());
            gate.cause = Some(cause.clone());
            gate.wake_failures += 1;
            (gate.wished, gate.tried_again) = (false, false);
            (std::mem::take(&mut gate.waiters), back_off, gate.retired)
        };
        tracing::warn!(function = %self.manifest.name, cause, ?back_off, "the function did not wake");
        self.turn_away(waiters);
        self.changed.notify_waiters();
        if !retired {
            self.start_later(back_off);
        }
    }
}

impl super::Gate {
    /// Whether the function is to be warm although no request waits.
    fn is_wished(&self) -> bool {
        !self.retired && (self.wished || self.pinned)
    }
}
