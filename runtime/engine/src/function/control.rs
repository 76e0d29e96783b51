//! Loading and unloading: a function that stays warm although its manifest does not say so, or lets nobody in until it is loaded again.
//!
//! Neither outlives the function: another revision is as its manifest says.

use super::{Function, Inner, PATIENCE};
use crate::{DeployError, State};
use std::{pin::pin, sync::Arc, time::Instant};

impl Function {
    /// Whether it lets nobody in, since it was unloaded.
    pub fn is_unloaded(&self) -> bool {
        self.inner.gate().unloaded
    }

    /// Wakes the function, and keeps it warm from now on, as `min = 1` does. Returns when it is warm. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`DeployError::Wake`] with the cause when the wake does not succeed, and [`DeployError::NoMemory`] when others hold the memory.
    /// The function is then as before, but no longer unloaded.
    pub async fn load(&self) -> Result<(), DeployError> {
        let inner = &self.inner;
        {
            let mut gate = inner.gate();
            gate.unloaded = false;
            gate.pinned = true;
            gate.life.keep_warm(true);
        }
        inner.engine.keeper.pin(inner, true);
        let mut awake = pin!(inner.wake_now());
        let loaded = loop {
            match tokio::time::timeout(PATIENCE, awake.as_mut()).await {
                Ok(awake) => break awake,
                Err(_) if inner.gate().lacks_memory => break Err(DeployError::NoMemory),
                Err(_) => {}
            }
        };
        if loaded.is_err() {
            inner.as_the_manifest_says();
        }
        loaded
    }

    /// Lets nobody in any more, and puts the function to sleep once the requests that run or wait now have ended, whatever its manifest
    /// says. Returns when it sleeps. Must be called within a tokio runtime.
    pub async fn unload(&self) {
        let inner = &self.inner;
        {
            let mut gate = inner.gate();
            gate.unloaded = true;
            gate.pinned = false;
            gate.wished = false;
            gate.life.keep_warm(false);
        }
        inner.engine.keeper.pin(inner, false);
        // A task of its own, since nothing else puts the function to sleep if whoever asked for it hangs up.
        let function = Arc::clone(inner);
        let sleep = tokio::spawn(async move {
            // Somebody may load it meanwhile.
            function.sleep_while(|gate| gate.unloaded).await;
            function.forget_answers().await;
        });
        if sleep.await.is_err() {
            tracing::error!(function = %inner.manifest.name, "unloading did not go well");
        }
    }
}

impl Inner {
    /// Waits until the function is warm. Wakes it if it is not, and tries once where it failed before.
    async fn wake_now(self: &Arc<Self>) -> Result<(), DeployError> {
        let failures = self.gate().wake_failures;
        loop {
            let changed = self.changed.notified();
            let wake = {
                let mut gate = self.gate();
                if gate.life.state() == State::Warm {
                    return Ok(());
                }
                if gate.wake_failures > failures {
                    return Err(DeployError::Wake(gate.cause.clone().unwrap_or_default()));
                }
                gate.life.start_wake(Instant::now())
            };
            if wake {
                self.ask();
            }
            changed.await;
        }
    }

    fn as_the_manifest_says(&self) {
        let pin = self.manifest.scale.min > 0;
        {
            let mut gate = self.gate();
            gate.pinned = pin;
            gate.life.keep_warm(pin);
        }
        self.engine.keeper.pin(self, pin);
    }
}
