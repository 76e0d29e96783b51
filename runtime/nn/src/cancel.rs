//! Stopping a native run from outside: a deadline passed, or the caller hung up.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// A request to stop, shared by the one who waits and the one who runs. Cheap to clone.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    cancelled: AtomicBool,
    /// Interrupts the run that is under way. Held by the running thread for the length of the run only.
    interrupt: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Cancel {
    /// Asks the run to stop. Does nothing when it has ended already.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        if let Some(interrupt) = &*self.0.interrupt.lock().unwrap_or_else(PoisonError::into_inner) {
            interrupt();
        }
    }

    /// Whether the run should stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Runs `body` such that `interrupt` is called if cancellation comes meanwhile, or came before.
    pub fn interruptible<T>(&self, interrupt: impl Fn() + Send + 'static, body: impl FnOnce() -> T) -> T {
        struct Clear<'a>(&'a Cancel);
        impl Drop for Clear<'_> {
            fn drop(&mut self) {
                *self.0.0.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }

        *self.0.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(interrupt));
        let _clear = Clear(self);
        // A cancellation between the caller's last look and the line above has found no interrupt to call.
        if self.is_cancelled() {
            self.cancel();
        }
        body()
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
