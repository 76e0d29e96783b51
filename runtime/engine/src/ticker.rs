//! Ticks wasmtime's epoch, so that a guest that never returns still yields to its neighbours.
//!
//! The ticks come from a thread of the operating system, because a guest that spins may hold up every timer of the async
//! runtime. The thread sleeps for good while no guest runs: an idle host does not wake its processor.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};
use wasmtime::EngineWeak;

/// How long a guest may run before it yields. Long enough to cost nothing, short enough for a spinning guest's neighbours.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a running guest after which the thread sleeps for good.
const IDLE_TICKS: u32 = 50;

/// Lives as long as the engine; dropping it ends the thread.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    /// Guests that run or are suspended in a call. Each holds a [`Running`].
    running: AtomicUsize,
    parked: AtomicBool,
}

/// Held while a guest runs.
pub(crate) struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ticker {
    pub(crate) fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { running: AtomicUsize::new(0), parked: AtomicBool::new(false) });
        let weak = Arc::downgrade(&shared);
        let thread = thread::Builder::new().name("torpor-epoch".to_owned()).spawn(move || tick(&engine, &weak))?;
        Ok(Ticker { shared, thread: thread.thread().clone() })
    }

    /// Keeps the ticks coming for as long as the returned guard lives.
    pub(crate) fn running(&self) -> Running {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(Arc::clone(&self.shared))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.thread.unpark();
    }
}

fn tick(engine: &EngineWeak, weak: &Weak<Shared>) {
    let mut idle = 0;
    loop {
        thread::sleep(TICK);
        let (Some(engine), Some(shared)) = (engine.upgrade(), weak.upgrade()) else { return };
        if shared.running.load(Ordering::SeqCst) > 0 {
            engine.increment_epoch();
            idle = 0;
            continue;
        }
        idle += 1;
        if idle < IDLE_TICKS {
            continue;
        }
        shared.parked.store(true, Ordering::SeqCst);
        // A guest that started between the look above and the store has not unparked us, so look again before parking.
        let nobody = shared.running.load(Ordering::SeqCst) == 0;
        drop((engine, shared));
        if nobody {
            thread::park();
        }
        let Some(shared) = weak.upgrade() else { return };
        shared.parked.store(false, Ordering::SeqCst);
        idle = 0;
    }
}
