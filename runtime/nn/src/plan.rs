//! Which tier gives a model's first answer soonest, and when a better one is worth its price: learned once, by trying.
//!
//! The tiers are opened, and run on inputs of zeros where the signature tells enough to make some. A tier that does not open,
//! does not run or answers otherwise than the best one is left out. What is learned depends on the machine as much as on the
//! model, so it is nothing to compare between machines.

use crate::{Backend, Cancel, Error, ModelFiles, OpenOptions, Session, Tier};
use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use torpor_tensor::{DType, Dim, NamedTensor, Shape, Signature, Tensor, TensorSpec};

/// How often each tier is tried; the best time counts, since whatever disturbs a try makes it longer.
const TRIES: usize = 3;
/// Runs of each try after its first one.
const RUNS: usize = 5;
/// When a run on made-up inputs is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The size that stands for open dimensions other than the first: of a sentence, or a side of a small picture.
const OPEN: u64 = 32;
/// Inputs that are larger than this are not made up.
const MAX_INPUT: usize = 64 * 1024 * 1024;
/// By how much runs must be shorter for another tier to be worth opening.
const WORTH: f64 = 0.95;
/// How far tiers may be apart, both as it is and as a part of the value.
const TOLERANCE: f64 = 1e-3;

/// How to open one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The tier that gives the first answer soonest.
    pub first: Tier,
    /// How long its runs take, all together, before the fastest tier is opened beside it and takes its place: as long as opening
    /// that takes, so that whatever comes, no more than as much again is lost. `None` where it would not pay.
    pub upgrade_after: Option<Duration>,
}

/// What was seen of a tier.
struct Tried {
    tier: Tier,
    open: Duration,
    first_run: Duration,
    run: Duration,
    outputs: Vec<NamedTensor>,
}

impl Plan {
    /// Learns how to open `form`, which can be opened in `tiers`, the fastest to run last. Blocks for several times
    /// as long as opening and running the model takes.
    ///
    /// # Errors
    /// What [`Backend::open`] says of the last tier.
    pub fn learn(
        backend: &dyn Backend,
        form: &ModelFiles,
        options: &OpenOptions,
        tiers: &[Tier],
    ) -> Result<Self, Error> {
        let Some((&best, others)) = tiers.split_last() else {
            return Ok(Plan { first: Tier::Original, upgrade_after: None });
        };
        let open = |tier| backend.open(form, &OpenOptions { tier, ..*options });
        let inputs = made_up(&*open(best)?);
        let attempt = |tier| -> Result<Tried, Error> {
            let start = Instant::now();
            let session = open(tier)?;
            let open = start.elapsed();
            let Some(inputs) = &inputs else {
                return Ok(Tried { tier, open, first_run: Duration::ZERO, run: Duration::ZERO, outputs: Vec::new() });
            };
            let (first_run, outputs) = run(&*session, inputs)?;
            let mut fastest = Duration::MAX;
            for _ in 0..RUNS {
                fastest = fastest.min(run(&*session, inputs)?.0);
            }
            Ok(Tried { tier, open, first_run, run: fastest, outputs })
        };
        let mut best = attempt(best)?;
        let mut others: Vec<Tried> = others.iter().filter_map(|&tier| attempt(tier).ok()).collect();
        others.retain(|tried| agree(&tried.outputs, &best.outputs));
        for _ in 1..TRIES {
            for tried in others.iter_mut().chain([&mut best]) {
                let again = attempt(tried.tier)?;
                tried.open = tried.open.min(again.open);
                tried.first_run = tried.first_run.min(again.first_run);
                tried.run = tried.run.min(again.run);
            }
        }
        let answer = |tried: &Tried| tried.open + tried.first_run;
        let quickest = others.iter().min_by_key(|tried| answer(tried)).filter(|tried| answer(tried) < answer(&best));
        let Some(quickest) = quickest else { return Ok(Plan { first: best.tier, upgrade_after: None }) };
        // Without inputs to try nobody knows, and the better tier has its name for a reason.
        let pays = inputs.is_none() || best.run < quickest.run.mul_f64(WORTH);
        Ok(Plan { first: quickest.tier, upgrade_after: pays.then_some(best.open) })
    }
}

/// Inputs of zeros on which the model runs; `None` where its signature does not tell enough, or it refuses them.
fn made_up(session: &dyn Session) -> Option<Vec<NamedTensor>> {
    [OPEN, 1].into_iter().find_map(|open| {
        let inputs = zeros(session.signature(), open)?;
        run(session, &inputs).ok().map(|_| inputs)
    })
}

/// Zeros for every input. The first dimension, which is that of the batch by custom, is 1 where it is open, and the others `open`.
fn zeros(signature: &Signature, open: u64) -> Option<Vec<NamedTensor>> {
    let zero = |spec: &TensorSpec| {
        let size = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Fixed(size) => *size,
            Dim::Named(_) | Dim::Any => {
                if axis == 0 {
                    1
                } else {
                    open
                }
            }
        };
        let shape: Vec<u64> = spec.shape.as_ref()?.iter().enumerate().map(size).collect();
        let shape = Shape::from(shape);
        let bytes = shape.elements()?.checked_mul(spec.dtype.size()?).filter(|bytes| *bytes <= MAX_INPUT)?;
        let tensor = Tensor::new(spec.dtype, shape, vec![0; bytes].into()).ok()?;
        Some((spec.name.clone(), tensor))
    };
    signature.inputs.iter().map(zero).collect()
}

/// Runs once, and gives up after a while.
fn run(session: &dyn Session, inputs: &[NamedTensor]) -> Result<(Duration, Vec<NamedTensor>), Error> {
    let cancel = Cancel::default();
    thread::scope(|scope| {
        let (ended, end) = mpsc::channel::<()>();
        let watched = cancel.clone();
        scope.spawn(move || {
            if end.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                watched.cancel();
            }
        });
        let start = Instant::now();
        let outputs = session.run(inputs, &cancel);
        let took = start.elapsed();
        drop(ended);
        Ok((took, outputs?))
    })
}

/// Whether two tiers gave the same outputs, as exactly as tiers have to.
fn agree(these: &[NamedTensor], those: &[NamedTensor]) -> bool {
    these.len() == those.len()
        && these.iter().zip(those).all(|((name, this), (other, that))| {
            let alike = name == other && this.dtype() == that.dtype() && this.shape() == that.shape();
            alike && (this.data() == that.data() || near(this, that))
        })
}

fn near(this: &Tensor, that: &Tensor) -> bool {
    let near =
        |(a, b): (f64, f64)| (a - b).abs() <= TOLERANCE * (1.0 + b.abs()) || a == b || (a.is_nan() && b.is_nan());
    let (this_data, that_data) = (this.data(), that.data());
    match this.dtype() {
        DType::F32 => floats::<4>(this_data, |b| f32::from_le_bytes(b).into())
            .zip(floats::<4>(that_data, |b| f32::from_le_bytes(b).into()))
            .all(near),
        DType::F64 => {
            floats::<8>(this_data, f64::from_le_bytes).zip(floats::<8>(that_data, f64::from_le_bytes)).all(near)
        }
        // Halves are coarser than what tiers may be apart.
        DType::F16 | DType::Bf16 => true,
        _ => false,
    }
}

fn floats<const N: usize>(data: &[u8], read: fn([u8; N]) -> f64) -> impl Iterator<Item = f64> {
    data.as_chunks::<N>().0.iter().map(move |bytes| read(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ModelFormat,
        fake::{FakeBackend, FakeModel},
    };

    const TIERS: &[Tier] = &[Tier::Baseline, Tier::Optimized];

    fn learn(model: FakeModel, tiers: &[Tier]) -> Result<Plan, Error> {
        let backend = FakeBackend::new(model);
        Plan::learn(&backend, &ModelFiles::one(ModelFormat::Onnx, "form"), &OpenOptions::default(), tiers)
    }

    /// Opening and running takes so many milliseconds, in the two tiers.
    fn takes(open: [u64; 2], run: [u64; 2]) -> FakeModel {
        FakeModel::echo().that_takes(open.map(Duration::from_millis), run.map(Duration::from_millis))
    }

    #[test]
    fn what_answers_first_is_opened_and_what_runs_faster_follows() {
        let plan = learn(takes([1, 30], [10, 1]), TIERS).unwrap();
        assert_eq!(plan.first, Tier::Baseline);
        assert!(plan.upgrade_after.unwrap() >= Duration::from_millis(30), "{plan:?}");
    }

    #[test]
    fn nothing_follows_where_it_would_not_pay() {
        assert_eq!(learn(takes([1, 30], [5, 5]), TIERS).unwrap(), Plan { first: Tier::Baseline, upgrade_after: None });
        assert_eq!(learn(takes([1, 5], [50, 1]), TIERS).unwrap(), Plan { first: Tier::Optimized, upgrade_after: None });
        assert_eq!(learn(takes([1, 1], [1, 1]), &TIERS[1..]).unwrap().first, Tier::Optimized);
        assert_eq!(learn(FakeModel::echo(), &[]).unwrap().first, Tier::Original);
    }

    #[test]
    fn a_tier_that_answers_otherwise_is_never_taken() {
        let wrong = takes([1, 30], [1, 1]).wrong_at(Tier::Baseline);
        assert_eq!(learn(wrong, TIERS).unwrap().first, Tier::Optimized);
    }

    #[test]
    fn a_model_that_does_not_run_on_zeros_is_judged_by_how_it_opens() {
        let plan =
            learn(FakeModel::rejects().that_takes([1, 30].map(Duration::from_millis), [Duration::ZERO; 2]), TIERS);
        let plan = plan.unwrap();
        assert!(plan.first == Tier::Baseline && plan.upgrade_after.is_some(), "{plan:?}");
    }

    #[test]
    fn a_form_that_does_not_open_is_told() {
        assert!(matches!(learn(FakeModel::unopenable("bad magic"), TIERS), Err(Error::Open { .. })));
    }
}
