//! Any tensor, for the tests of protocols that carry bytes as they are.

use proptest::prelude::*;
use torpor_tensor::{DType, Shape, Tensor};

/// Any tensor of `dtype`, with up to three dimensions. Floats are any bits, so that infinities and NaN are among them.
pub(super) fn tensor_of(dtype: DType) -> impl Strategy<Value = Tensor> {
    prop::collection::vec(0_u64..5, 0..4).prop_flat_map(move |dims| {
        let shape = Shape::from(dims);
        let count = shape.elements().unwrap();
        let bytes = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), count);
        let numbers = prop::collection::vec((any::<u64>(), 0_u32..64), count);
        (numbers, bytes).prop_map(move |(numbers, bytes)| match dtype.size() {
            None => Tensor::from_elements(shape.clone(), &bytes).unwrap(),
            Some(size) => {
                let element = |&(bits, shift): &(u64, u32)| match dtype {
                    DType::Bool => vec![u8::from(bits & 1 != 0)],
                    // Small ones, and those below zero, have other lengths in messages.
                    _ => ((bits.cast_signed() >> shift).to_le_bytes()[..size]).to_vec(),
                };
                let data: Vec<u8> = numbers.iter().flat_map(element).collect();
                Tensor::new(dtype, shape.clone(), data.into()).unwrap()
            }
        })
    })
}

/// Any tensor of any type.
pub(super) fn tensor() -> impl Strategy<Value = Tensor> {
    (0..DType::ALL.len()).prop_flat_map(|index| tensor_of(DType::ALL[index]))
}

/// The elements of a tensor as numbers, of whatever type they are, with the bits that they have there.
pub(super) fn numbers<T>(tensor: &Tensor, number: impl Fn(&[u8]) -> T) -> Vec<T> {
    tensor.data().chunks(tensor.dtype().size().unwrap()).map(number).collect()
}

/// A whole number of any type, with its sign.
pub(super) fn whole(dtype: DType, bytes: &[u8]) -> i64 {
    let signed = matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    let fill = if signed && bytes.last().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
    let mut all = [fill; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(all)
}
