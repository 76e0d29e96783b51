//! Tensors as OpenVINO holds them, for every element of numbers that both sides have.
//!
//! Its C interface takes strings but does not give them back, so a model that takes or gives strings is refused when it is opened.

use crate::library::Value;
use bytes::Bytes;
use openvino_sys::ov_element_type_e as Element;
use torpor_tensor::{DType, Shape, Tensor};

/// A tensor of ours, shown to the library.
pub(crate) struct Input<'a> {
    pub(crate) value: Value,
    /// A copy of the elements, where the tensor's own were not aligned as the library reads them.
    _aligned: Option<Vec<u64>>,
    _tensor: std::marker::PhantomData<&'a Tensor>,
}

impl<'a> Input<'a> {
    /// Shows `tensor` to the library, without a copy where its memory is aligned.
    pub(crate) fn borrow(tensor: &'a Tensor) -> Result<Self, String> {
        let (dtype, data) = (tensor.dtype(), tensor.data());
        let element = element(dtype).ok_or_else(|| format!("OpenVINO takes no tensors of {dtype}"))?;
        let dims = tensor.shape().dims().iter().map(|&dim| i64::try_from(dim));
        let mut dims: Vec<i64> =
            dims.collect::<Result<_, _>>().map_err(|_| format!("the shape {} is too large", tensor.shape()))?;
        let aligned = (!data.as_ptr().addr().is_multiple_of(dtype.size().unwrap_or(1))).then(|| aligned_copy(data));
        let start = aligned.as_ref().map_or(data.as_ptr().cast(), |copy| copy.as_ptr().cast());
        // SAFETY: `start` is aligned for the element type and followed by the bytes of the whole tensor, which live as long as this
        // value does: borrowed for 'a, or owned by it. The library only reads inputs.
        let value = unsafe { Value::over(element, &mut dims, start) }?;
        Ok(Input { value, _aligned: aligned, _tensor: std::marker::PhantomData })
    }
}

/// Copies an output out of the library's memory.
pub(crate) fn to_tensor(value: &Value) -> Result<Tensor, String> {
    let element = value.element()?;
    let dtype = dtype(element).ok_or_else(|| format!("the model gave elements of type {element}"))?;
    let shape = Shape::from(value.dims()?);
    let length = shape.elements().and_then(|elements| elements.checked_mul(dtype.size()?));
    let length = length.ok_or_else(|| format!("the shape {shape} is too large"))?;
    // SAFETY: every type that `dtype` knows is one of numbers, and a tensor holds as many of them as its shape says.
    let bytes = unsafe { value.bytes(length) }?;
    let data = match dtype {
        // The library says true by any number but zero.
        DType::Bool => bytes.iter().map(|&byte| u8::from(byte != 0)).collect(),
        _ => Bytes::copy_from_slice(bytes),
    };
    Tensor::new(dtype, shape, data).map_err(|error| error.to_string())
}

/// What is in `tensor` that OpenVINO would silently change: it computes with integers of 32 bits where a model has more, and with
/// floating-point numbers of 32 bits where it has 64. Values beyond them would wrap around, or end at the largest one.
pub(crate) fn beyond(tensor: &Tensor) -> Option<&'static str> {
    fn any<const N: usize>(tensor: &Tensor, beyond: impl Fn([u8; N]) -> bool) -> bool {
        let (elements, _) = tensor.data().as_chunks::<N>();
        elements.iter().any(|&element| beyond(element))
    }
    match tensor.dtype() {
        DType::U32 if any(tensor, |element| i32::try_from(u32::from_le_bytes(element)).is_err()) => Some("INT32"),
        DType::U64 if any(tensor, |element| i32::try_from(u64::from_le_bytes(element)).is_err()) => Some("INT32"),
        DType::I64 if any(tensor, |element| i32::try_from(i64::from_le_bytes(element)).is_err()) => Some("INT32"),
        DType::F64 if any(tensor, |element| f64::from_le_bytes(element).abs() > f64::from(f32::MAX)) => Some("FP32"),
        _ => None,
    }
}

fn aligned_copy(data: &[u8]) -> Vec<u64> {
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    };
    data.chunks(8).map(word).collect()
}

/// `None` for strings.
fn element(dtype: DType) -> Option<Element> {
    Some(match dtype {
        DType::Bool => Element::OV_BOOLEAN,
        DType::U8 => Element::U8,
        DType::U16 => Element::U16,
        DType::U32 => Element::U32,
        DType::U64 => Element::U64,
        DType::I8 => Element::I8,
        DType::I16 => Element::I16,
        DType::I32 => Element::I32,
        DType::I64 => Element::I64,
        DType::F16 => Element::F16,
        DType::Bf16 => Element::BF16,
        DType::F32 => Element::F32,
        DType::F64 => Element::F64,
        DType::Bytes => return None,
    })
}

/// `None` for strings, and for types that the Open Inference Protocol does not have.
pub(crate) fn dtype(number: u32) -> Option<DType> {
    DType::ALL.into_iter().find(|&dtype| element(dtype).is_some_and(|element| element as u32 == number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor<const N: usize>(dtype: DType, elements: &[[u8; N]]) -> Tensor {
        let data = Bytes::copy_from_slice(elements.as_flattened());
        Tensor::new(dtype, [elements.len() as u64].into(), data).unwrap()
    }

    #[test]
    fn what_32_bits_do_not_hold_is_beyond() {
        let i64s = |values: [i64; 2]| tensor(DType::I64, &values.map(i64::to_le_bytes));
        assert_eq!(beyond(&i64s([i64::from(i32::MIN), i64::from(i32::MAX)])), None);
        assert_eq!(beyond(&i64s([0, i64::from(i32::MAX) + 1])), Some("INT32"));
        assert_eq!(beyond(&tensor(DType::U64, &[(1_u64 << 31).to_le_bytes()])), Some("INT32"));
        assert_eq!(beyond(&tensor(DType::U32, &[u32::MAX.to_le_bytes()])), Some("INT32"));
        let f64s = |values: [f64; 2]| tensor(DType::F64, &values.map(f64::to_le_bytes));
        assert_eq!(beyond(&f64s([f64::from(f32::MAX), f64::NAN])), None);
        assert_eq!(beyond(&f64s([1e39, 0.0])), Some("FP32"));
        assert_eq!(beyond(&f64s([0.0, f64::NEG_INFINITY])), Some("FP32"));
        assert_eq!(beyond(&tensor(DType::F32, &[f32::MAX.to_le_bytes()])), None);
    }
}
