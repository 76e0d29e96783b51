//! A backend that computes nothing, so that workers and cancellation can be tested without a model file.

use crate::{Backend, BackendKind, Cancel, Error, ModelFiles, ModelFormat, OpenOptions, Outputs, Session, Tier};
use std::{
    sync::{
        Arc, Barrier, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};
use torpor_tensor::{DType, Dim, NamedTensor, Signature, TensorSpec};

/// What the one model of a [`FakeBackend`] does: it takes and gives `x`, UINT8 of any one dimension.
#[derive(Clone)]
pub(crate) struct FakeModel {
    behaviour: Behaviour,
    /// How long opening and running take at least, in the baseline tier and in all others.
    open: [Duration; 2],
    run: [Duration; 2],
    /// The tier in which it answers otherwise.
    wrong: Option<Tier>,
    seen: Cancel,
    last_thread: Arc<Mutex<Option<ThreadId>>>,
}

#[derive(Clone)]
enum Behaviour {
    Echo,
    Panic,
    Rejects,
    Refuses(u8),
    Unopenable(&'static str),
    Rendezvous(Arc<Barrier>),
    UntilCancelled,
    Elsewhere(Arc<AtomicUsize>),
}

impl FakeModel {
    fn new(behaviour: Behaviour) -> Self {
        let (open, run) = ([Duration::ZERO; 2], [Duration::ZERO; 2]);
        FakeModel { behaviour, open, run, wrong: None, seen: Cancel::default(), last_thread: Arc::default() }
    }

    /// Takes its time to be opened and to run: in the baseline tier, and in the others.
    pub(crate) fn that_takes(self, open: [Duration; 2], run: [Duration; 2]) -> Self {
        FakeModel { open, run, ..self }
    }

    /// Answers otherwise in this tier.
    pub(crate) fn wrong_at(self, tier: Tier) -> Self {
        FakeModel { wrong: Some(tier), ..self }
    }

    /// Takes no input.
    pub(crate) fn rejects() -> Self {
        Self::new(Behaviour::Rejects)
    }

    /// Takes no input that has this value in it, and returns all others.
    pub(crate) fn refuses(value: u8) -> Self {
        Self::new(Behaviour::Refuses(value))
    }

    /// Returns its input.
    pub(crate) fn echo() -> Self {
        Self::new(Behaviour::Echo)
    }

    /// Panics in every run.
    pub(crate) fn panic() -> Self {
        Self::new(Behaviour::Panic)
    }

    /// Cannot be opened.
    pub(crate) fn unopenable(reason: &'static str) -> Self {
        Self::new(Behaviour::Unopenable(reason))
    }

    /// Returns its input once `runs` runs are under way at the same time.
    pub(crate) fn rendezvous(runs: usize) -> Self {
        Self::new(Behaviour::Rendezvous(Arc::new(Barrier::new(runs))))
    }

    /// Returns only when cancelled.
    pub(crate) fn until_cancelled() -> Self {
        Self::new(Behaviour::UntilCancelled)
    }

    /// Returns its input, as from another process. Counts in `begun` how often it was begun there.
    pub(crate) fn elsewhere(begun: &Arc<AtomicUsize>) -> Self {
        Self::new(Behaviour::Elsewhere(Arc::clone(begun)))
    }

    /// Turns cancelled when a run of this model has been.
    pub(crate) fn cancelled(&self) -> Cancel {
        self.seen.clone()
    }

    /// The thread of the run that began last.
    pub(crate) fn last_thread(&self) -> Arc<Mutex<Option<ThreadId>>> {
        Arc::clone(&self.last_thread)
    }
}

/// A backend with one model, which every path opens.
pub(crate) struct FakeBackend(FakeModel);

impl FakeBackend {
    /// A backend whose every file is `model`.
    pub(crate) fn new(model: FakeModel) -> Self {
        FakeBackend(model)
    }
}

impl Backend for FakeBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Fake
    }

    fn version(&self) -> &str {
        "0"
    }

    fn opens(&self, _format: ModelFormat) -> bool {
        true
    }

    fn open(&self, files: &ModelFiles, options: &OpenOptions) -> Result<Arc<dyn Session>, Error> {
        if let Behaviour::Unopenable(reason) = self.0.behaviour {
            let (model, reason) = (files.to_string(), reason.to_owned());
            return Err(Error::Open { backend: BackendKind::Fake, model, reason });
        }
        thread::sleep(self.0.open[usize::from(options.tier != Tier::Baseline)]);
        let x = TensorSpec { name: "x".into(), dtype: DType::U8, shape: Some(vec![Dim::Any]) };
        let signature = Signature { inputs: vec![x.clone()], outputs: vec![x] };
        Ok(Arc::new(FakeSession { model: self.0.clone(), tier: options.tier, signature }))
    }
}

#[derive(Clone)]
struct FakeSession {
    model: FakeModel,
    tier: Tier,
    signature: Signature,
}

impl Session for FakeSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[NamedTensor], cancel: &Cancel) -> Result<Vec<NamedTensor>, Error> {
        let thread = Some(thread::current().id());
        *self.model.last_thread.lock().unwrap_or_else(PoisonError::into_inner) = thread;
        match &self.model.behaviour {
            Behaviour::Echo | Behaviour::Unopenable(_) | Behaviour::Elsewhere(_) => {}
            Behaviour::Panic => panic!("on purpose"),
            Behaviour::Refuses(value) if inputs.iter().all(|(_, tensor)| !tensor.data().contains(value)) => {}
            Behaviour::Rejects | Behaviour::Refuses(_) => {
                return Err(Error::Rejected { backend: BackendKind::Fake, reason: "on principle".to_owned() });
            }
            Behaviour::Rendezvous(barrier) => drop(barrier.wait()),
            Behaviour::UntilCancelled => {
                let (stop, stopped) = std::sync::mpsc::sync_channel(1);
                cancel.interruptible(
                    move || {
                        // A second interruption finds the place taken, which is as good.
                        let _ = stop.try_send(());
                    },
                    || stopped.recv().map_err(|_| Error::Cancelled),
                )?;
                self.model.seen.cancel();
                return Err(Error::Cancelled);
            }
        }
        thread::sleep(self.model.run[usize::from(self.tier != Tier::Baseline)]);
        if self.model.wrong == Some(self.tier) {
            return Ok(Vec::new());
        }
        Ok(inputs.to_vec())
    }

    fn start(&self, inputs: &[NamedTensor], cancel: &Cancel) -> Option<Outputs> {
        let Behaviour::Elsewhere(begun) = &self.model.behaviour else { return None };
        begun.fetch_add(1, Ordering::SeqCst);
        let (session, inputs, cancel) = (self.clone(), inputs.to_vec(), cancel.clone());
        Some(Box::pin(async move { session.run(&inputs, &cancel) }))
    }

    fn process(&self) -> Option<u32> {
        matches!(self.model.behaviour, Behaviour::Elsewhere(_)).then_some(1)
    }
}
