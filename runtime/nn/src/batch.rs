//! Joining the inputs of several runs along their first dimension, and giving each its part of the outputs.
//!
//! Nothing is guessed. A model is joined only if every input and output has an open first dimension, runs only if all their
//! other dimensions agree; one of them may differ where the manifest names it with a value to pad with, and then the outputs are
//! cut wherever the model itself gives a dimension the same name. Data lies row by row, so that without padding joining is putting one
//! behind the other, and an output's part is a slice of it.

use crate::{ModelFiles, ModelFormat, onnx};
use bytes::Bytes;
use std::{fs::File, num::NonZeroUsize, time::Duration};
use torpor_tensor::{DType, Dim, NamedTensor, Signature, Tensor, TensorSpec};

/// How much larger a batch may be than what is in it: by padding it may grow by one part of so many.
const WASTE: u64 = 4;

/// How runs of one model may be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Batching {
    /// Rows of the first dimension that one run may have.
    pub max_size: NonZeroUsize,
    /// How long a run may be overtaken by others that fit a batch better.
    pub max_delay: Duration,
    /// The dimension in which runs may differ.
    pub pad: Option<Pad>,
}

/// How inputs are made equally long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pad {
    /// The dimension, counted from 0; at least 1.
    pub axis: usize,
    /// What stands behind an input's own elements.
    pub value: i64,
}

impl Batching {
    /// Checks that runs of a model can be joined in this way, as far as its files tell without a library: those of ONNX models do.
    /// What others declare is known when they are opened, which checks it again.
    ///
    /// # Errors
    /// Which input or output keeps runs from being joined, and why; or that the file cannot be read.
    pub fn check(&self, files: &ModelFiles) -> Result<(), String> {
        if files.format != ModelFormat::Onnx {
            return Ok(());
        }
        let declared = File::open(&files.model).and_then(onnx::declared).map_err(|error| error.to_string())?;
        declared.map_or(Ok(()), |signature| Fit::new(self, &signature).map(drop))
    }
}

/// How the inputs and outputs of one model are joined and divided.
#[derive(Debug)]
pub(crate) struct Fit {
    /// In the order of the signature.
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    axis: Option<usize>,
}

#[derive(Debug)]
struct Input {
    name: String,
    /// One element of the padding, where it is padded.
    padding: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Output {
    /// The dimensions that are as long as the padded one.
    cut: Vec<usize>,
}

/// What decides which runs one can be joined with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parcel {
    /// Its part of the first dimension.
    pub(crate) rows: u64,
    /// Its length in the dimension that is padded; 1 without one.
    length: u64,
    /// All other dimensions of all inputs.
    others: Vec<u64>,
}

/// A batch that is being put together.
#[derive(Debug)]
pub(crate) struct Gathering {
    others: Vec<u64>,
    most: u64,
    pub(crate) rows: u64,
    longest: u64,
    /// Rows by their lengths.
    filled: u64,
}

impl Fit {
    /// # Errors
    /// Which input or output keeps runs of a model with this signature from being joined, and why.
    pub(crate) fn new(batching: &Batching, signature: &Signature) -> Result<Self, String> {
        if signature.inputs.is_empty() || signature.outputs.is_empty() {
            return Err("runs of a model without inputs or outputs cannot be joined".to_owned());
        }
        let mut length = None;
        let inputs = signature.inputs.iter().map(|spec| {
            let padding = batching.pad.map(|pad| padding(spec, pad, &mut length)).transpose()?.flatten();
            open(spec, "input")?;
            Ok(Input { name: spec.name.clone(), padding })
        });
        let inputs = inputs.collect::<Result<Vec<_>, String>>()?;
        if let Some(pad) = batching.pad
            && length.is_none()
        {
            return Err(format!("no input has an open dimension {} that could be padded", pad.axis));
        }
        let outputs = signature.outputs.iter().map(|spec| {
            let dims = open(spec, "output")?;
            let same = |dim: &Dim| matches!((dim, length), (Dim::Named(name), Some(length)) if **name == *length);
            Ok(Output { cut: dims.iter().enumerate().filter(|(_, dim)| same(dim)).map(|(axis, _)| axis).collect() })
        });
        let outputs = outputs.collect::<Result<Vec<_>, String>>()?;
        Ok(Fit { inputs, outputs, axis: batching.pad.map(|pad| pad.axis) })
    }

    /// What is to be known of inputs for joining them; `None` where they have to run alone: their first dimensions differ, they are
    /// empty, or hold numbers that are none, which some models spread over a whole batch.
    pub(crate) fn parcel(&self, inputs: &[NamedTensor]) -> Option<Parcel> {
        let (mut rows, mut length, mut others) = (None, None, Vec::new());
        for input in &self.inputs {
            let tensor = find(inputs, &input.name)?;
            let dims = tensor.shape().dims();
            let agrees = |known: &mut Option<u64>, size: u64| *known.get_or_insert(size) == size;
            if !agrees(&mut rows, *dims.first()?) || tensor.elements() == 0 || !is_finite(tensor) {
                return None;
            }
            for (axis, &size) in dims.iter().enumerate().skip(1) {
                if input.padding.is_some() && self.axis == Some(axis) {
                    if !agrees(&mut length, size) {
                        return None;
                    }
                } else {
                    others.push(size);
                }
            }
        }
        Some(Parcel { rows: rows?, length: length.unwrap_or(1), others })
    }

    /// The inputs of a run that does the work of all of these.
    pub(crate) fn join(&self, runs: &[(&[NamedTensor], &Parcel)]) -> Result<Vec<NamedTensor>, torpor_tensor::Error> {
        let rows = runs.iter().map(|(_, parcel)| parcel.rows).sum();
        let longest = runs.iter().map(|(_, parcel)| parcel.length).max().unwrap_or(0);
        let join = |input: &Input| {
            // Parcels are made of runs that have all inputs.
            let tensors = runs.iter().filter_map(|(inputs, parcel)| Some((find(inputs, &input.name)?, parcel.length)));
            let mut joined: Option<(DType, Vec<u64>, Vec<u8>)> = None;
            for (tensor, length) in tensors {
                let (_, _, data) = joined.get_or_insert_with(|| {
                    let size = tensor.data().len() / usize::try_from(tensor.shape().dims()[0]).unwrap_or(1).max(1);
                    let capacity = size.saturating_mul(usize::try_from(rows).unwrap_or(0));
                    (tensor.dtype(), tensor.shape().dims().to_vec(), Vec::with_capacity(capacity))
                });
                match (&input.padding, self.axis) {
                    (Some(padding), Some(axis)) if length < longest => {
                        let inner = inner(tensor.shape().dims(), axis) * padding.len();
                        let chunk = usize::try_from(length).unwrap_or(0) * inner;
                        let missing = usize::try_from(longest - length).unwrap_or(0) * inner / padding.len();
                        for row in tensor.data().chunks_exact(chunk) {
                            data.extend_from_slice(row);
                            data.extend(std::iter::repeat_n(&padding[..], missing).flatten());
                        }
                    }
                    _ => data.extend_from_slice(tensor.data()),
                }
            }
            let (dtype, mut dims, data) = joined.unwrap_or((DType::U8, vec![0], Vec::new()));
            dims[0] = rows;
            if let (Some(_), Some(axis)) = (&input.padding, self.axis) {
                dims[axis] = longest;
            }
            Ok((input.name.clone(), Tensor::new(dtype, dims.into(), data.into())?))
        };
        self.inputs.iter().map(join).collect()
    }

    /// Each run's part of the outputs. `None` where the model gave another number of rows than it was given.
    pub(crate) fn split(&self, outputs: &[NamedTensor], parcels: &[&Parcel]) -> Option<Vec<Vec<NamedTensor>>> {
        let rows: u64 = parcels.iter().map(|parcel| parcel.rows).sum();
        let longest = parcels.iter().map(|parcel| parcel.length).max()?;
        let mut parts = vec![Vec::with_capacity(outputs.len()); parcels.len()];
        for ((name, tensor), Output { cut }) in outputs.iter().zip(&self.outputs) {
            if tensor.shape().dims().first() != Some(&rows) {
                return None;
            }
            let ends = ends_of_rows(tensor, parcels);
            let mut begin = 0;
            for ((part, parcel), end) in parts.iter_mut().zip(parcels).zip(ends) {
                let mut dims = tensor.shape().dims().to_vec();
                dims[0] = parcel.rows;
                let mut data = tensor.data().slice(begin..end);
                begin = end;
                for &axis in cut.iter().filter(|_| parcel.length < longest) {
                    if dims.get(axis) != Some(&longest) {
                        return None;
                    }
                    data = cut_axis(data, &mut dims, axis, parcel.length, tensor.dtype())?;
                }
                part.push((name.clone(), Tensor::new(tensor.dtype(), dims.into(), data).ok()?));
            }
        }
        Some(parts)
    }
}

impl Gathering {
    /// Begins with one run. There is room for up to `most` rows.
    pub(crate) fn new(first: &Parcel, most: u64) -> Self {
        let Parcel { rows, length, others } = first.clone();
        Gathering { others, most, rows, longest: length, filled: rows * length }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows >= self.most
    }

    /// Adds a run if it fits.
    pub(crate) fn add(&mut self, parcel: &Parcel) -> bool {
        let rows = self.rows.saturating_add(parcel.rows);
        let longest = self.longest.max(parcel.length);
        let filled = self.filled.saturating_add(parcel.rows.saturating_mul(parcel.length));
        let whole = rows.saturating_mul(longest);
        let fits = rows <= self.most && self.others == parcel.others && whole - filled <= filled / WASTE;
        if fits {
            (self.rows, self.longest, self.filled) = (rows, longest, filled);
        }
        fits
    }
}

/// The dimensions of an input or output whose first one is open.
fn open<'a>(spec: &'a TensorSpec, kind: &str) -> Result<&'a [Dim], String> {
    let name = &spec.name;
    match spec.shape.as_deref() {
        None => Err(format!("the {kind} `{name}` does not declare a shape, so runs cannot be joined")),
        Some([]) => Err(format!("the {kind} `{name}` is a single number, so runs cannot be joined")),
        Some([Dim::Fixed(size), ..]) => Err(format!(
            "the {kind} `{name}` has the fixed size {size} in its first dimension, so runs cannot be joined"
        )),
        Some(dims) => Ok(dims),
    }
}

/// One element of the padding of an input, if its dimension is open. All inputs that have it must give it the same name.
fn padding<'a>(spec: &'a TensorSpec, pad: Pad, length: &mut Option<&'a str>) -> Result<Option<Vec<u8>>, String> {
    let (name, axis) = (&spec.name, pad.axis);
    let named = match spec.shape.as_deref().and_then(|dims| dims.get(axis)) {
        None | Some(Dim::Fixed(_)) => return Ok(None),
        Some(Dim::Any) => {
            return Err(format!(
                "the input `{name}` gives its dimension {axis} no name, so nobody knows which outputs to cut to their lengths"
            ));
        }
        Some(Dim::Named(named)) => &**named,
    };
    let known = *length.get_or_insert(named);
    if known != named {
        return Err(format!(
            "the input `{name}` calls its dimension {axis} `{named}`, and another one calls it `{known}`"
        ));
    }
    let element = element(spec.dtype, pad.value);
    element
        .map(Some)
        .ok_or_else(|| format!("the input `{name}` is {}, which cannot be padded with {}", spec.dtype, pad.value))
}

/// A number as an element of this type; `None` where it cannot be one.
#[expect(clippy::cast_precision_loss, reason = "a padding beyond 2^24 is near enough")]
fn element(dtype: DType, value: i64) -> Option<Vec<u8>> {
    Some(match dtype {
        DType::U8 => u8::try_from(value).ok()?.to_le_bytes().to_vec(),
        DType::U16 => u16::try_from(value).ok()?.to_le_bytes().to_vec(),
        DType::U32 => u32::try_from(value).ok()?.to_le_bytes().to_vec(),
        DType::U64 => u64::try_from(value).ok()?.to_le_bytes().to_vec(),
        DType::I8 => i8::try_from(value).ok()?.to_le_bytes().to_vec(),
        DType::I16 => i16::try_from(value).ok()?.to_le_bytes().to_vec(),
        DType::I32 => i32::try_from(value).ok()?.to_le_bytes().to_vec(),
        DType::I64 => value.to_le_bytes().to_vec(),
        DType::F32 => (value as f32).to_le_bytes().to_vec(),
        DType::F64 => (value as f64).to_le_bytes().to_vec(),
        DType::Bool if value == 0 || value == 1 => vec![u8::from(value == 1)],
        DType::F16 | DType::Bf16 if value == 0 => vec![0, 0],
        DType::Bool | DType::F16 | DType::Bf16 | DType::Bytes => return None,
    })
}

fn find<'a>(tensors: &'a [NamedTensor], name: &str) -> Option<&'a Tensor> {
    tensors.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor)
}

/// Whether all floating-point numbers are numbers.
fn is_finite(tensor: &Tensor) -> bool {
    // All bits of the exponent are set in infinities and in what is not a number, and in nothing else.
    fn none<const N: usize>(data: &[u8], exponent: u64) -> bool {
        let (elements, _) = data.as_chunks::<N>();
        elements.iter().all(|element| {
            let mut bytes = [0; 8];
            bytes[..N].copy_from_slice(element);
            u64::from_le_bytes(bytes) & exponent != exponent
        })
    }
    let data = tensor.data();
    match tensor.dtype() {
        DType::F16 => none::<2>(data, 0x7c00),
        DType::Bf16 => none::<2>(data, 0x7f80),
        DType::F32 => none::<4>(data, 0x7f80_0000),
        DType::F64 => none::<8>(data, 0x7ff0_0000_0000_0000),
        _ => true,
    }
}

/// Elements behind each step of a dimension.
fn inner(dims: &[u64], axis: usize) -> usize {
    dims.iter().skip(axis + 1).map(|&size| usize::try_from(size).unwrap_or(0)).product()
}

/// Where each run's rows end in an output's data.
fn ends_of_rows(tensor: &Tensor, parcels: &[&Parcel]) -> Vec<usize> {
    let per_row = inner(tensor.shape().dims(), 0);
    let mut element = 0;
    let elements = parcels.iter().map(|parcel| {
        element += usize::try_from(parcel.rows).unwrap_or(0) * per_row;
        element
    });
    match (tensor.dtype().size(), tensor.bytes_elements()) {
        (Some(size), _) => elements.map(|element| element * size).collect(),
        (None, Ok(texts)) => {
            // Each element stands behind its length, which takes four bytes.
            let offsets = std::iter::once(0).chain(texts.scan(0, |end, text| {
                *end += 4 + text.len();
                Some(*end)
            }));
            let offsets: Vec<_> = offsets.collect();
            elements.map(|element| offsets.get(element).copied().unwrap_or(tensor.data().len())).collect()
        }
        (None, Err(_)) => elements.collect(),
    }
}

/// The first `length` steps of a dimension. `None` for texts, whose elements have lengths of their own.
fn cut_axis(data: Bytes, dims: &mut [u64], axis: usize, length: u64, dtype: DType) -> Option<Bytes> {
    let step = inner(dims, axis) * dtype.size()?;
    let whole = usize::try_from(dims[axis]).ok()? * step;
    let kept = usize::try_from(length).ok()? * step;
    dims[axis] = length;
    // One piece is a slice; several have to be put together anew.
    if data.len() == whole {
        return Some(data.slice(..kept));
    }
    let pieces = data.len().checked_div(whole)?;
    let mut cut = Vec::with_capacity(pieces * kept);
    for piece in data.chunks_exact(whole) {
        cut.extend_from_slice(&piece[..kept]);
    }
    Some(cut.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(name: &str, dtype: DType, dims: &[&str]) -> TensorSpec {
        let dim = |dim: &&str| match (dim.parse(), *dim) {
            (Ok(size), _) => Dim::Fixed(size),
            (_, "?") => Dim::Any,
            (_, name) => Dim::Named(name.into()),
        };
        TensorSpec { name: name.into(), dtype, shape: Some(dims.iter().map(dim).collect()) }
    }

    fn batching(pad: Option<Pad>) -> Batching {
        Batching { max_size: NonZeroUsize::new(32).unwrap(), max_delay: Duration::from_millis(1), pad }
    }

    fn signature(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Signature {
        Signature { inputs, outputs }
    }

    /// Of a model that gives its two inputs back, one of which has a length of its own.
    fn ragged() -> (Batching, Signature) {
        let ids = spec("ids", DType::I32, &["batch", "length"]);
        let image = spec("image", DType::U8, &["?", "2", "2"]);
        let hidden = spec("hidden", DType::I32, &["batch", "length", "3"]);
        (
            batching(Some(Pad { axis: 1, value: 0 })),
            signature(vec![ids, image.clone()], vec![hidden, image, spec("text", DType::Bytes, &["batch"])]),
        )
    }

    #[track_caller]
    fn unfit(pad: Option<Pad>, inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>, expected: &str) {
        assert_eq!(Fit::new(&batching(pad), &signature(inputs, outputs)).unwrap_err(), expected);
    }

    #[test]
    fn what_cannot_be_joined_is_named() {
        let good = || spec("x", DType::F32, &["n", "4"]);
        let fixed = "has the fixed size 1 in its first dimension, so runs cannot be joined";
        unfit(None, vec![good(), spec("y", DType::F32, &["1", "4"])], vec![good()], &format!("the input `y` {fixed}"));
        unfit(None, vec![good()], vec![spec("z", DType::F32, &["1"])], &format!("the output `z` {fixed}"));
        let scalar = "the input `y` is a single number, so runs cannot be joined";
        unfit(None, vec![spec("y", DType::F32, &[])], vec![good()], scalar);
        let shapeless = TensorSpec { name: "y".into(), dtype: DType::F32, shape: None };
        let unknown = "the input `y` does not declare a shape, so runs cannot be joined";
        unfit(None, vec![shapeless], vec![good()], unknown);
        let pad = Some(Pad { axis: 1, value: 0 });
        unfit(pad, vec![good()], vec![good()], "no input has an open dimension 1 that could be padded");
        let nameless =
            "the input `x` gives its dimension 1 no name, so nobody knows which outputs to cut to their lengths";
        unfit(pad, vec![spec("x", DType::F32, &["n", "?"])], vec![good()], nameless);
        let text = "the input `x` is BYTES, which cannot be padded with 0";
        unfit(pad, vec![spec("x", DType::Bytes, &["n", "m"])], vec![good()], text);
        let range = "the input `x` is UINT8, which cannot be padded with -1";
        unfit(Some(Pad { axis: 1, value: -1 }), vec![spec("x", DType::U8, &["n", "m"])], vec![good()], range);
        let two = vec![spec("x", DType::U8, &["n", "m"]), spec("y", DType::U8, &["n", "k"])];
        let names = "the input `y` calls its dimension 1 `k`, and another one calls it `m`";
        unfit(pad, two, vec![good()], names);
    }

    #[test]
    fn what_is_no_number_runs_alone() {
        let (batching, signature) =
            (batching(None), signature(vec![spec("x", DType::F32, &["?"])], vec![spec("x", DType::F32, &["?"])]));
        let fit = Fit::new(&batching, &signature).unwrap();
        let parcel = |values: &[f32]| {
            let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let tensor = Tensor::new(DType::F32, [values.len() as u64].into(), data.into()).unwrap();
            fit.parcel(&[("x".into(), tensor)])
        };
        assert!(parcel(&[1.0, f32::MAX, f32::MIN_POSITIVE]).is_some());
        assert!(parcel(&[1.0, f32::NAN]).is_none() && parcel(&[f32::NEG_INFINITY]).is_none() && parcel(&[]).is_none());
    }

    #[test]
    fn padding_wastes_little() {
        let parcel = |length| Parcel { rows: 1, length, others: vec![] };
        let mut gathering = Gathering::new(&parcel(10), 4);
        assert!(!gathering.add(&parcel(30)), "a third of it would be padding");
        assert!(gathering.add(&parcel(12)) && gathering.add(&parcel(9)));
        assert!(!gathering.add(&Parcel { rows: 1, length: 10, others: vec![7] }), "of another shape");
        assert!(!gathering.is_full() && gathering.add(&parcel(12)) && gathering.is_full());
        assert!(!gathering.add(&parcel(12)), "there is no room");
    }

    /// The inputs of a run of so many rows of this length, and what the model makes of them, which depends on nothing else.
    fn run(rows: u8, length: u8, salt: u8) -> (Vec<NamedTensor>, Vec<NamedTensor>) {
        let (rows64, length64) = (u64::from(rows), u64::from(length));
        let ids: Vec<i32> =
            (0..i32::from(rows) * i32::from(length)).map(|id| id + i32::from(salt) * 1000 + 1).collect();
        let bytes = |ids: &[i32]| Bytes::from(ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>());
        let image = Bytes::from((0..rows * 4).map(|pixel| pixel.wrapping_add(salt)).collect::<Vec<_>>());
        let image = Tensor::new(DType::U8, [rows64, 2, 2].into(), image).unwrap();
        let texts: Vec<String> = (0..rows).map(|row| "t".repeat(usize::from(row + salt % 7))).collect();
        let hidden: Vec<i32> = ids.iter().flat_map(|id| [*id, -id, 2 * id]).collect();
        let ids = Tensor::new(DType::I32, [rows64, length64].into(), bytes(&ids)).unwrap();
        let hidden = Tensor::new(DType::I32, [rows64, length64, 3].into(), bytes(&hidden)).unwrap();
        let texts = Tensor::from_elements([rows64].into(), &texts).unwrap();
        (
            vec![("image".into(), image.clone()), ("ids".into(), ids)],
            vec![("hidden".into(), hidden), ("image".into(), image), ("text".into(), texts)],
        )
    }

    /// What the model makes of a batch: of each id three numbers, the image as it is, and the texts that the runs expect.
    fn model(inputs: &[NamedTensor], texts: &[Vec<u8>]) -> Vec<NamedTensor> {
        let ids = find(inputs, "ids").unwrap();
        let (ids_of, _) = ids.data().as_chunks::<4>();
        let hidden: Vec<u8> = ids_of
            .iter()
            .flat_map(|id| {
                let id = i32::from_le_bytes(*id);
                [id, -id, 2 * id].map(i32::to_le_bytes).concat()
            })
            .collect();
        let [rows, length] = *ids.shape().dims() else { panic!("{:?}", ids.shape()) };
        let hidden = Tensor::new(DType::I32, [rows, length, 3].into(), hidden.into()).unwrap();
        let texts = Tensor::from_elements([rows].into(), texts).unwrap();
        vec![
            ("hidden".into(), hidden),
            ("image".into(), find(inputs, "image").unwrap().clone()),
            ("text".into(), texts),
        ]
    }

    proptest! {
        /// Each run gets what it would have got alone, whatever it was joined with.
        #[test]
        fn a_batch_answers_as_its_runs(runs in prop::collection::vec((1_u8..5, 1_u8..9), 1..6)) {
            let (batching, signature) = ragged();
            let fit = Fit::new(&batching, &signature).unwrap();
            let runs: Vec<_> = runs.iter().zip(0..).map(|(&(rows, length), salt)| run(rows, length, salt)).collect();
            let parcels: Vec<_> = runs.iter().map(|(inputs, _)| fit.parcel(inputs).unwrap()).collect();
            let joined: Vec<_> = runs.iter().zip(&parcels).map(|((inputs, _), parcel)| (&inputs[..], parcel)).collect();
            let inputs = fit.join(&joined).unwrap();
            prop_assert_eq!(signature.check_inputs(&inputs), Ok(()));
            let texts: Vec<Vec<u8>> = runs
                .iter()
                .flat_map(|(_, outputs)| outputs[2].1.bytes_elements().unwrap().map(<[u8]>::to_vec).collect::<Vec<_>>())
                .collect();
            let outputs = model(&inputs, &texts);
            let parts = fit.split(&outputs, &parcels.iter().collect::<Vec<_>>()).unwrap();
            for (part, (_, expected)) in parts.iter().zip(&runs) {
                prop_assert_eq!(part, expected);
            }
        }
    }

    #[test]
    fn a_model_that_gives_other_rows_is_not_divided() {
        let (batching, signature) = ragged();
        let fit = Fit::new(&batching, &signature).unwrap();
        let (inputs, outputs) = run(2, 3, 0);
        let parcel = fit.parcel(&inputs).unwrap();
        assert!(fit.split(&outputs, &[&parcel, &parcel]).is_none());
    }
}
