//! Messages as bytes: what host and worker tell each other, laid out for shared memory.
//!
//! Pure, and the host's half of it is the one parser that a hostile worker reaches: it is given a private copy of the bytes, so
//! what was checked cannot change afterwards, and any bytes are a message or are refused. A message is a head and the tensors'
//! elements behind it, each at a multiple of [`ALIGN`], so that a library may read them where they are.

use bytes::Bytes;
use torpor_nn::{Device, ModelFormat, OpenOptions, Precision, Tier};
use torpor_tensor::{DType, Dim, NamedTensor, Shape, Signature, Tensor, TensorSpec};

/// Where elements begin: at multiples of a processor's cache line, which is more than any element type needs.
const ALIGN: usize = 64;
/// The most inputs or outputs, and the most dimensions, that a message may have. ONNX has no limit; no model comes near.
const MAX_TENSORS: usize = 4096;
const MAX_RANK: usize = 255;
/// The longest name of a tensor or dimension, or text of an error, in bytes.
const MAX_TEXT: usize = 16 * 1024;

/// The bytes are no message. Says what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// What a worker is to open, or to optimize.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// The file that is the model or describes it, or the folder of its optimized form.
    pub(crate) model: Vec<u8>,
    /// The file of its weights; empty where it has none.
    pub(crate) weights: Vec<u8>,
    pub(crate) format: ModelFormat,
    pub(crate) options: OpenOptions,
    /// Bytes of memory that the model may take, beside what the library had taken before.
    pub(crate) memory: u64,
    /// The folder to write the optimized form into; empty where the model is to be opened.
    pub(crate) out: Vec<u8>,
}

/// How a run or an opening went wrong, in the worker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    Input(String),
    Rejected(String),
    Failed(String),
    Cancelled,
    /// A run after which no other one succeeds.
    Ended(String),
}

/// A message to be written.
#[derive(Debug, Default)]
pub(crate) struct Message {
    head: Vec<u8>,
    data: Vec<Bytes>,
}

impl Message {
    fn new() -> Self {
        // The head's own length goes first, once it is known.
        Message { head: vec![0; 4], data: Vec::new() }
    }

    fn finish(mut self) -> Self {
        // No head is as long as this number can say: what it holds has been bounded by whoever made it.
        let length = u32::try_from(self.head.len()).unwrap_or(u32::MAX);
        self.head[..4].copy_from_slice(&length.to_le_bytes());
        self
    }

    /// The parts, each with where it goes.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut at = self.head.len();
        let data = self.data.iter().map(move |data| {
            let begin = at.next_multiple_of(ALIGN);
            at = begin + data.len();
            (begin, &data[..])
        });
        std::iter::once((0, &self.head[..])).chain(data)
    }

    /// The length of the whole.
    pub(crate) fn length(&self) -> usize {
        self.parts().last().map_or(0, |(begin, part)| begin + part.len())
    }

    /// All parts in one piece.
    pub(crate) fn whole(&self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.length());
        for (begin, part) in self.parts() {
            whole.resize(begin, 0);
            whole.extend_from_slice(part);
        }
        whole
    }

    fn u8(&mut self, number: u8) {
        self.head.push(number);
    }

    fn u32(&mut self, number: usize) {
        self.head.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.head.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len());
        self.head.extend_from_slice(bytes);
    }

    /// A text, cut where it is longer than its reader takes.
    fn text(&mut self, text: &str) {
        let end = text.floor_char_boundary(MAX_TEXT);
        self.bytes(&text.as_bytes()[..end]);
    }

    fn dtype(&mut self, dtype: DType) {
        self.u8(place(&DType::ALL, &dtype));
    }

    fn tensors(&mut self, tensors: &[NamedTensor]) {
        self.u32(tensors.len());
        for (name, tensor) in tensors {
            self.text(name);
            self.dtype(tensor.dtype());
            self.u32(tensor.shape().rank());
            tensor.shape().dims().iter().for_each(|&dim| self.u64(dim));
            self.u64(tensor.data().len() as u64);
            self.data.push(tensor.data().clone());
        }
    }

    fn specs(&mut self, specs: &[TensorSpec]) {
        self.u32(specs.len());
        for TensorSpec { name, dtype, shape } in specs {
            self.text(name);
            self.dtype(*dtype);
            self.u8(u8::from(shape.is_some()));
            let Some(dims) = shape else { continue };
            self.u32(dims.len());
            for dim in dims {
                match dim {
                    Dim::Fixed(size) => {
                        self.u8(0);
                        self.u64(*size);
                    }
                    Dim::Named(name) => {
                        self.u8(1);
                        self.text(name);
                    }
                    Dim::Any => self.u8(2),
                }
            }
        }
    }

    fn failure(&mut self, failure: &Failure) {
        let (kind, text) = match failure {
            Failure::Input(text) => (1, text.as_str()),
            Failure::Rejected(text) => (2, text.as_str()),
            Failure::Failed(text) => (3, text.as_str()),
            Failure::Cancelled => (4, ""),
            Failure::Ended(text) => (5, text.as_str()),
        };
        self.u8(kind);
        self.text(text);
    }
}

const FORMATS: [ModelFormat; 3] = [ModelFormat::Onnx, ModelFormat::OpenVinoIr, ModelFormat::TfLite];
const DEVICES: [Device; 5] = [Device::Cpu, Device::Cuda, Device::TensorRt, Device::Gpu, Device::Npu];
const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::F16];
const TIERS: [Tier; 3] = [Tier::Original, Tier::Baseline, Tier::Optimized];
/// The tiers that an optimized form may have, the fastest to run last; none where there is no such form.
const FORMS: [&[Tier]; 4] = [&[], &[Tier::Baseline], &[Tier::Optimized], &[Tier::Baseline, Tier::Optimized]];

/// Where a word stands among all of its kind; a number that its reader refuses where it is not among them.
fn place<T: PartialEq>(all: &[T], word: &T) -> u8 {
    all.iter().position(|known| known == word).and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}

pub(crate) fn order(order: &Order) -> Message {
    let mut message = Message::new();
    message.bytes(&order.model);
    message.bytes(&order.weights);
    message.u8(place(&FORMATS, &order.format));
    message.u8(place(&DEVICES, &order.options.device));
    message.u8(place(&PRECISIONS, &order.options.precision));
    message.u32(order.options.threads.get());
    message.u32(order.options.parallel.get());
    message.u8(place(&TIERS, &order.options.tier));
    message.u64(order.memory);
    message.bytes(&order.out);
    message.finish()
}

pub(crate) fn inputs(tensors: &[NamedTensor]) -> Message {
    let mut message = Message::new();
    message.tensors(tensors);
    message.finish()
}

/// What a run gave.
pub(crate) fn answer(answer: &Result<Vec<NamedTensor>, Failure>) -> Message {
    let mut message = Message::new();
    match answer {
        Ok(tensors) => {
            message.u8(0);
            message.tensors(tensors);
        }
        Err(failure) => message.failure(failure),
    }
    message.finish()
}

/// What opening a model gave.
pub(crate) fn opened(answer: &Result<Signature, Failure>) -> Message {
    let mut message = Message::new();
    match answer {
        Ok(signature) => {
            message.u8(0);
            message.specs(&signature.inputs);
            message.specs(&signature.outputs);
        }
        Err(failure) => message.failure(failure),
    }
    message.finish()
}

/// The tiers of what optimizing a model gave.
pub(crate) fn optimized(answer: &Result<&'static [Tier], Failure>) -> Message {
    let mut message = Message::new();
    match answer {
        Ok(tiers) => {
            message.u8(0);
            message.u8(place(&FORMS, tiers));
        }
        Err(failure) => message.failure(failure),
    }
    message.finish()
}

/// Reads a head, and finds the elements behind it.
struct Reader {
    bytes: Bytes,
    at: usize,
    /// The length of the head.
    head: usize,
    /// Where the elements end that have been read so far.
    data: usize,
}

impl Reader {
    fn new(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader { head: bytes.len(), at: 0, data: 0, bytes };
        let head = reader.u32()?;
        if head > reader.bytes.len() || head < 4 {
            return Err(Malformed("the head is longer than the message"));
        }
        (reader.head, reader.data) = (head, head);
        Ok(reader)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Malformed> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.head);
        let end = end.ok_or(Malformed("the message ends too early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<usize, Malformed> {
        let number = self.take(4)?.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        usize::try_from(number).map_err(|_| Malformed("a number is too large"))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(self.take(8)?.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    fn count(&mut self, most: usize) -> Result<usize, Malformed> {
        let count = self.u32()?;
        if count > most { Err(Malformed("a list is too long")) } else { Ok(count) }
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        let length = self.count(MAX_TEXT)?;
        Ok(self.take(length)?.to_vec())
    }

    fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    fn word<T: Copy>(&mut self, all: &[T]) -> Result<T, Malformed> {
        all.get(usize::from(self.u8()?)).copied().ok_or(Malformed("there is no such word"))
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        self.word(&[false, true])
    }

    fn tensors(&mut self) -> Result<Vec<NamedTensor>, Malformed> {
        let count = self.count(MAX_TENSORS)?;
        (0..count).map(|_| self.tensor()).collect()
    }

    fn tensor(&mut self) -> Result<NamedTensor, Malformed> {
        let name = self.text()?;
        let dtype = self.word(&DType::ALL)?;
        let rank = self.count(MAX_RANK)?;
        let dims = (0..rank).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        let length = usize::try_from(self.u64()?).map_err(|_| Malformed("a tensor is too large"))?;
        let begin = self.data.checked_next_multiple_of(ALIGN);
        let range = begin.and_then(|begin| Some(begin..begin.checked_add(length)?));
        let range = range.filter(|range| range.end <= self.bytes.len());
        let range = range.ok_or(Malformed("a tensor's elements are not there"))?;
        self.data = range.end;
        let data = self.bytes.slice(range);
        let tensor = Tensor::new(dtype, Shape::from(&dims[..]), data);
        Ok((name, tensor.map_err(|_| Malformed("a tensor's elements do not fit its shape"))?))
    }

    fn specs(&mut self) -> Result<Vec<TensorSpec>, Malformed> {
        let count = self.count(MAX_TENSORS)?;
        (0..count).map(|_| self.spec()).collect()
    }

    fn spec(&mut self) -> Result<TensorSpec, Malformed> {
        let name = self.text()?;
        let dtype = self.word(&DType::ALL)?;
        let shape = match self.flag()? {
            false => None,
            true => {
                let rank = self.count(MAX_RANK)?;
                Some((0..rank).map(|_| self.dim()).collect::<Result<_, _>>()?)
            }
        };
        Ok(TensorSpec { name, dtype, shape })
    }

    fn dim(&mut self) -> Result<Dim, Malformed> {
        Ok(match self.u8()? {
            0 => Dim::Fixed(self.u64()?),
            1 => Dim::Named(self.text()?.into()),
            2 => Dim::Any,
            _ => return Err(Malformed("there is no such dimension")),
        })
    }

    /// The failure of this kind; `None` for what is none.
    fn failure(&mut self) -> Result<Option<Failure>, Malformed> {
        let kind = self.u8()?;
        if kind == 0 {
            return Ok(None);
        }
        // It goes to the log, so it must not look like lines of it.
        let text = self.text()?.replace(char::is_control, " ");
        Ok(Some(match kind {
            1 => Failure::Input(text),
            2 => Failure::Rejected(text),
            3 => Failure::Failed(text),
            4 => Failure::Cancelled,
            5 => Failure::Ended(text),
            _ => return Err(Malformed("there is no such failure")),
        }))
    }

    /// That nothing is left over.
    fn end<T>(self, value: T) -> Result<T, Malformed> {
        match self.at == self.head && self.data == self.bytes.len() {
            true => Ok(value),
            false => Err(Malformed("the message is longer than it says")),
        }
    }
}

pub(crate) fn read_order(bytes: Bytes) -> Result<Order, Malformed> {
    let mut reader = Reader::new(bytes)?;
    let (model, weights) = (reader.bytes()?, reader.bytes()?);
    let format = reader.word(&FORMATS)?;
    let (device, precision) = (reader.word(&DEVICES)?, reader.word(&PRECISIONS)?);
    let mut positive = || reader.u32()?.try_into().map_err(|_| Malformed("a number is zero"));
    let (threads, parallel) = (positive()?, positive()?);
    let options = OpenOptions { device, precision, threads, parallel, tier: reader.word(&TIERS)? };
    let (memory, out) = (reader.u64()?, reader.bytes()?);
    reader.end(Order { model, weights, format, options, memory, out })
}

pub(crate) fn read_inputs(bytes: Bytes) -> Result<Vec<NamedTensor>, Malformed> {
    let mut reader = Reader::new(bytes)?;
    let tensors = reader.tensors()?;
    reader.end(tensors)
}

pub(crate) fn read_answer(bytes: Bytes) -> Result<Result<Vec<NamedTensor>, Failure>, Malformed> {
    let mut reader = Reader::new(bytes)?;
    let answer = match reader.failure()? {
        Some(failure) => Err(failure),
        None => Ok(reader.tensors()?),
    };
    reader.end(answer)
}

pub(crate) fn read_opened(bytes: Bytes) -> Result<Result<Signature, Failure>, Malformed> {
    let mut reader = Reader::new(bytes)?;
    let answer = match reader.failure()? {
        Some(failure) => Err(failure),
        None => Ok(Signature { inputs: reader.specs()?, outputs: reader.specs()? }),
    };
    reader.end(answer)
}

pub(crate) fn read_optimized(bytes: Bytes) -> Result<Result<&'static [Tier], Failure>, Malformed> {
    let mut reader = Reader::new(bytes)?;
    let answer = match reader.failure()? {
        Some(failure) => Err(failure),
        None => Ok(reader.word(&FORMS)?),
    };
    reader.end(answer)
}

#[cfg(test)]
mod tests;
