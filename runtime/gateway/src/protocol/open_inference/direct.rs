//! The usual form of a request, read in one pass: where the elements of a tensor begin, its shape and datatype are known, so they
//! are read right there. Everything else in a request is serde's.
//!
//! It says nothing of what is wrong, and is not meant to take every request: where it gives up, the request is read again as a whole.

use super::{Few, InferRequest, MAX_RANK, MAX_TENSORS, Parameters, RawOutput, elements, text::spaces, wanted};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use torpor_tensor::{DType, NamedTensor, Shape, Signature};

/// Reads a request whose tensors have their `data` behind `shape` and `datatype`. `None` where something is wrong with it, and
/// where it is unusual.
pub(super) fn request(body: &[u8], signature: &Signature) -> Option<InferRequest> {
    let mut rest = Rest(std::str::from_utf8(body).ok()?);
    let (mut id, mut parameters, mut inputs, mut outputs) = (None, None, None, None);
    rest.object(|rest, key| match key {
        "id" => once(&mut id, rest.value::<Option<String>>()?),
        "parameters" => once(&mut parameters, rest.parameters()?),
        "inputs" => once(&mut inputs, tensors(rest)?),
        "outputs" => once(&mut outputs, rest.value::<Option<Few<RawOutput<'_>>>>()?),
        _ => rest.value::<IgnoredAny>().map(drop),
    })?;
    if !rest.begin().is_empty() {
        return None;
    }
    let binary_output = parameters.unwrap_or_default().binary_output().ok()?;
    let outputs = outputs.flatten().map(|outputs| outputs.0);
    let (outputs, forms) = wanted(outputs, binary_output, signature).ok()?;
    Some(InferRequest { id: id.flatten(), inputs: inputs?, outputs, forms, binary_output })
}

fn tensors(rest: &mut Rest<'_>) -> Option<Vec<NamedTensor>> {
    let mut tensors = Vec::new();
    rest.array(|rest| {
        tensors.push(tensor(rest)?);
        (tensors.len() <= MAX_TENSORS).then_some(())
    })?;
    Some(tensors)
}

fn tensor(rest: &mut Rest<'_>) -> Option<NamedTensor> {
    let (mut name, mut shape, mut dtype, mut parameters, mut tensor) = (None, None, None, None, None);
    rest.object(|rest, key| match key {
        "name" => once(&mut name, rest.value::<String>()?),
        "shape" => once(&mut shape, rest.value::<Vec<u64>>()?),
        "datatype" => once(&mut dtype, rest.value::<&str>()?.parse::<DType>().ok()?),
        // What has its data elsewhere is unusual.
        "parameters" => once(&mut parameters, rest.parameters().filter(Parameters::is_plain)?),
        "data" => {
            let shape = shape.as_ref().filter(|shape| shape.len() <= MAX_RANK)?;
            let (read, behind) = elements::read(dtype?, Shape::from(shape.as_slice()), rest.begin()).ok()?;
            rest.0 = behind;
            once(&mut tensor, read)
        }
        _ => rest.value::<IgnoredAny>().map(drop),
    })?;
    Some((name?, tensor?))
}

/// Fills `place`, which nobody has filled before.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// What is not read yet.
struct Rest<'t>(&'t str);

impl<'t> Rest<'t> {
    /// Passes spaces, and returns all that is left.
    fn begin(&mut self) -> &'t str {
        self.0 = &self.0[self.0.len() - spaces(self.0.as_bytes()).len()..];
        self.0
    }

    /// Passes one character of punctuation, and the spaces before it.
    fn pass(&mut self, character: char) -> Option<()> {
        self.0 = self.begin().strip_prefix(character)?;
        Some(())
    }

    /// Reads a value by serde.
    fn value<T: Deserialize<'t>>(&mut self) -> Option<T> {
        let mut values = serde_json::Deserializer::from_str(self.0).into_iter::<T>();
        let value = values.next()?.ok()?;
        self.0 = &self.0[values.byte_offset()..];
        Some(value)
    }

    fn parameters(&mut self) -> Option<Parameters> {
        Parameters::read(self.value::<Option<&'t RawValue>>()?).ok()
    }

    /// Reads an object, each value of it by `member`, which is told the key.
    fn object(&mut self, mut member: impl FnMut(&mut Self, &str) -> Option<()>) -> Option<()> {
        self.pass('{')?;
        if self.pass('}').is_some() {
            return Some(());
        }
        loop {
            let key = self.value::<&str>()?;
            self.pass(':')?;
            member(self, key)?;
            if self.pass(',').is_none() {
                return self.pass('}');
            }
        }
    }

    /// Reads an array, each value of it by `item`.
    fn array(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.pass('[')?;
        if self.pass(']').is_some() {
            return Some(());
        }
        loop {
            item(self)?;
            if self.pass(',').is_none() {
                return self.pass(']');
            }
        }
    }
}
