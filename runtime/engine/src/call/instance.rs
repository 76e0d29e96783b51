//! A fresh sandboxed instance for one call.

use super::Record;
use crate::{function::Lease, guest::Guest, ticker::Running};
use tokio::sync::SemaphorePermit;
use torpor_nn::Caller;
use wasmtime::{Store, UpdateDeadline};

/// A store with its place in the pool. Dropping it ends the instance, whatever it was doing.
pub(super) struct Instance<'a> {
    pub(super) store: Store<Guest>,
    _running: Running,
    /// Declared last: the place is free only after the store is gone.
    _place: SemaphorePermit<'a>,
}

/// Waits for a place, and takes it. Models run for `caller`, and the call is the one of `record`.
pub(super) async fn instance<'a>(lease: &'a Lease, record: &Record, caller: Caller) -> wasmtime::Result<Instance<'a>> {
    let engine = &lease.function.engine;
    let place = engine.places.acquire().await?;
    let guest = Guest::new(&lease.function.capabilities, &lease.warm().models, caller, record.marks.clone());
    let mut store = Store::new(&engine.wasmtime, guest);
    store.limiter(|guest| &mut guest.limiter);
    // A guest that computes for long yields at every tick, so its deadline can end it and its neighbours get their turn.
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
    store.set_epoch_deadline(1);
    Ok(Instance { store, _running: engine.ticker.running(), _place: place })
}
