//! Stopping a native run from outside: a deadline passed, or the caller hung up.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// A request to stop, shared by the one who waits and the one who runs. Cheap to clone.
#[derive(Clone)]
pub struct Cancel(Option<Arc<Inner>>);

#[derive(Default)]
struct Inner {
    cancelled: AtomicBool,
    /// Interrupts the run that is under way. Held by the running thread for the length of the run only.
    interrupt: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Default for Cancel {
    fn default() -> Self {
        Cancel(Some(Arc::default()))
    }
}

impl Inner {
    fn interrupt(&self) -> MutexGuard<'_, Option<Box<dyn Fn() + Send>>> {
        self.interrupt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cancel {
    /// For a run that nobody can stop, because the one who would is busy running it.
    pub const fn never() -> Self {
        Cancel(None)
    }

    /// Whether this is [`Cancel::never`], so that there is no need to prepare for being stopped.
    pub const fn is_never(&self) -> bool {
        self.0.is_none()
    }

    /// Asks the run to stop. Does nothing when it has ended already.
    pub fn cancel(&self) {
        let Some(inner) = &self.0 else { return };
        inner.cancelled.store(true, Ordering::SeqCst);
        if let Some(interrupt) = &*inner.interrupt() {
            interrupt();
        }
    }

    /// Whether the run should stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.cancelled.load(Ordering::SeqCst))
    }

    /// Runs `body` such that `interrupt` is called if cancellation comes meanwhile, or came before.
    pub fn interruptible<T>(&self, interrupt: impl Fn() + Send + 'static, body: impl FnOnce() -> T) -> T {
        let _armed = self.arm(interrupt);
        body()
    }

    /// Has `interrupt` called if cancellation comes before what is returned is dropped, or came before this.
    pub fn arm(&self, interrupt: impl Fn() + Send + 'static) -> Armed {
        if let Some(inner) = &self.0 {
            *inner.interrupt() = Some(Box::new(interrupt));
            // A cancellation between the caller's last look and the line above has found no interrupt to call.
            if self.is_cancelled() {
                self.cancel();
            }
        }
        Armed(self.clone())
    }
}

/// While it lives, a cancellation interrupts what its maker does.
#[must_use]
pub struct Armed(Cancel);

impl Drop for Armed {
    fn drop(&mut self) {
        if let Some(inner) = &self.0.0 {
            *inner.interrupt() = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_is_called_during_its_run_only() {
        let (cancel, calls) = (Cancel::default(), Arc::new(Mutex::new(0)));
        let count = |calls: &Arc<Mutex<i32>>| {
            let calls = Arc::clone(calls);
            move || *calls.lock().unwrap() += 1
        };
        cancel.interruptible(count(&calls), || ());
        cancel.cancel();
        assert_eq!(*calls.lock().unwrap(), 0);
        cancel.interruptible(count(&calls), || ());
        assert_eq!(*calls.lock().unwrap(), 1, "a cancellation that came before the run must stop it too");
    }
}
