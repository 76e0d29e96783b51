//! Classification: the largest elements of a tensor, with their labels, in the place of the tensor. Triton's REST and gRPC have it.
//!
//! Source: Triton's `extension_classification.md`. The first dimension of an output with several is the batch, and all others together
//! are its classes. An element is written `value:index:label`, or `value:index` where it has no label.

use half::{bf16, f16};
use std::{cmp::Ordering, fmt::Display, num::NonZeroUsize};
use torpor_tensor::{DType, Shape, Tensor};

/// The `count` largest elements of each row of `output`, the largest first, as a `BYTES` tensor of shape `[rows, count]`, or `[count]`
/// where `output` has one dimension. Where it has fewer elements, all of them. Of equal ones the first comes first; NaN comes last.
///
/// `labels` are those along its last dimension.
///
/// # Errors
/// When elements of its type are not larger or smaller than others.
pub(crate) fn largest(output: &Tensor, count: NonZeroUsize, labels: Option<&[String]>) -> Result<Tensor, String> {
    match output.dtype() {
        DType::U8 => write(output, count, labels, u8::from_le_bytes),
        DType::U16 => write(output, count, labels, u16::from_le_bytes),
        DType::U32 => write(output, count, labels, u32::from_le_bytes),
        DType::U64 => write(output, count, labels, u64::from_le_bytes),
        DType::I8 => write(output, count, labels, i8::from_le_bytes),
        DType::I16 => write(output, count, labels, i16::from_le_bytes),
        DType::I32 => write(output, count, labels, i32::from_le_bytes),
        DType::I64 => write(output, count, labels, i64::from_le_bytes),
        DType::F16 => write(output, count, labels, |bytes| f16::from_le_bytes(bytes).to_f32()),
        DType::Bf16 => write(output, count, labels, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        DType::F32 => write(output, count, labels, f32::from_le_bytes),
        DType::F64 => write(output, count, labels, f64::from_le_bytes),
        dtype @ (DType::Bool | DType::Bytes) => {
            Err(format!("`classification` is for numbers, and its elements are {dtype}"))
        }
    }
}

fn write<T: PartialOrd + Display, const SIZE: usize>(
    output: &Tensor,
    count: NonZeroUsize,
    labels: Option<&[String]>,
    element: impl Fn([u8; SIZE]) -> T,
) -> Result<Tensor, String> {
    let elements = output.data().as_chunks::<SIZE>().0;
    let dims = output.shape().dims();
    let rows = match dims {
        [rows, _, ..] => Some(*rows),
        _ => None,
    };
    // At least one row, so that no division is by zero; a batch of none has no elements either.
    let width = elements.len() / rows.and_then(|rows| usize::try_from(rows).ok()).unwrap_or(1).max(1);
    let count = count.get().min(width);
    // Labels stand along the last dimension, and so begin anew where there are more.
    let last = dims.last().and_then(|last| usize::try_from(*last).ok()).unwrap_or(1).max(1);
    let mut texts = Vec::with_capacity(count.saturating_mul(elements.len().checked_div(width).unwrap_or(0)));
    let mut order: Vec<usize> = Vec::with_capacity(width);
    for row in elements.chunks_exact(width.max(1)) {
        let value = |index: usize| element(row[index]);
        let first = |a: &usize, b: &usize| descending(&value(*a), &value(*b)).then(a.cmp(b));
        order.clear();
        order.extend(0..width);
        if count < width {
            // The others need no order among themselves.
            order.select_nth_unstable_by(count, first);
        }
        order.truncate(count);
        order.sort_unstable_by(first);
        texts.extend(order.iter().map(|&index| match labels.and_then(|labels| labels.get(index % last)) {
            Some(label) => format!("{}:{index}:{label}", value(index)),
            None => format!("{}:{index}", value(index)),
        }));
    }
    let count = count as u64;
    let shape = rows.map_or_else(|| Shape::from([count]), |rows| Shape::from([rows, count]));
    Tensor::from_elements(shape, &texts).map_err(|error| error.to_string())
}

/// Larger ones first, and what cannot be compared last.
fn descending<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    // Only NaN is not equal to itself.
    let is_nan = |value: &T| value.partial_cmp(value).is_none();
    b.partial_cmp(a).unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tensor(shape: &[u64], data: &[f32]) -> Tensor {
        let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        Tensor::new(DType::F32, shape.into(), bytes.into()).unwrap()
    }

    #[track_caller]
    fn check(output: &Tensor, count: usize, labels: Option<&[&str]>, shape: &[u64], expected: &[&str]) {
        let labels = labels.map(|labels| labels.iter().map(|&label| label.to_owned()).collect::<Vec<_>>());
        let found = largest(output, NonZeroUsize::new(count).unwrap(), labels.as_deref()).unwrap();
        let texts = found.bytes_elements().unwrap().map(|text| std::str::from_utf8(text).unwrap());
        assert_eq!(texts.collect::<Vec<_>>(), expected);
        assert_eq!(found.shape().dims(), shape);
    }

    #[test]
    fn the_largest_come_first_with_their_labels() {
        let labels: &[&str] = &["a", "b", "c"];
        check(&tensor(&[3], &[0.25, 0.5, -1.0]), 2, Some(labels), &[2], &["0.5:1:b", "0.25:0:a"]);
        let rows = tensor(&[2, 3], &[1.0, 2.0, 3.0, 3.0, 3.0, f32::NAN]);
        check(&rows, 1, Some(labels), &[2, 1], &["3:2:c", "3:0:a"]);
        check(&rows, 9, None, &[2, 3], &["3:2", "2:1", "1:0", "3:0", "3:1", "NaN:2"]);
        check(&tensor(&[1, 2, 2], &[1.0, 4.0, 3.0, 2.0]), 2, Some(&["a", "b"]), &[1, 2], &["4:1:b", "3:2:a"]);
        check(&tensor(&[2], &[1.0, 2.0]), 1, Some(&["a"]), &[1], &["2:1"]);
    }

    #[test]
    fn scalars_and_empty_tensors_have_classes_too() {
        check(&tensor(&[], &[7.0]), 3, None, &[1], &["7:0"]);
        check(&tensor(&[0], &[]), 3, None, &[0], &[]);
        check(&tensor(&[0, 3], &[]), 3, None, &[0, 0], &[]);
        check(&tensor(&[2, 0], &[]), 3, None, &[2, 0], &[]);
    }

    #[test]
    fn every_number_has_an_order() {
        for dtype in DType::ALL {
            let Some(size) = dtype.size() else { continue };
            let one = Tensor::new(dtype, [2].into(), vec![0; 2 * size].into()).unwrap();
            let found = largest(&one, NonZeroUsize::MIN, None);
            match dtype {
                DType::Bool => assert!(found.unwrap_err().contains("BOOL")),
                _ => assert_eq!(found.unwrap().bytes_elements().unwrap().collect::<Vec<_>>(), [b"0:0"], "{dtype}"),
            }
        }
        let text = Tensor::from_elements([1].into(), &["x"]).unwrap();
        assert!(largest(&text, NonZeroUsize::MIN, None).unwrap_err().contains("BYTES"));
    }

    proptest! {
        #[test]
        fn a_whole_sort_says_the_same(data in prop::collection::vec(any::<i16>(), 0..40), count in 1_usize..50) {
            let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
            let output = Tensor::new(DType::I16, [data.len() as u64].into(), bytes.into()).unwrap();
            let found = largest(&output, NonZeroUsize::new(count).unwrap(), None).unwrap();
            let mut all: Vec<(usize, i16)> = data.into_iter().enumerate().collect();
            all.sort_by_key(|(index, value)| (std::cmp::Reverse(*value), *index));
            let expected: Vec<_> = all.iter().take(count).map(|(index, value)| format!("{value}:{index}")).collect();
            let texts = found.bytes_elements().unwrap().map(|text| String::from_utf8(text.to_vec()).unwrap());
            prop_assert_eq!(texts.collect::<Vec<_>>(), expected);
        }
    }
}
