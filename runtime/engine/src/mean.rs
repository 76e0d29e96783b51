//! The mean over one dimension of a tensor, for guests that would otherwise copy all of it to get that.

use half::{bf16, f16};
use std::ops::{Add, AddAssign};
use torpor_tensor::{DType, Shape, Tensor};

/// Rows that are summed up at the precision of the elements. The sums of such blocks are summed up at double precision, so that a
/// long dimension costs no digits.
const BLOCK: usize = 256;

/// The mean of `tensor` over the dimension of this number, which the result does not have: FP64 of FP64 elements, FP32 of FP32, FP16
/// and BF16 elements.
///
/// # Errors
/// When the elements are of another type, and when the dimension is not there or has no elements. The text is for the guest.
pub(crate) fn mean(tensor: &Tensor, dimension: u32) -> Result<Tensor, String> {
    let (dtype, dims) = (tensor.dtype(), tensor.shape().dims());
    let dimension = dimension as usize;
    let Some(&length) = dims.get(dimension) else {
        return Err(format!("a tensor of shape {} has no dimension {dimension}", tensor.shape()));
    };
    if length == 0 {
        return Err(format!("dimension {dimension} of the shape {} has no elements to take a mean of", tensor.shape()));
    }
    let shape = Shape::from([&dims[..dimension], &dims[dimension + 1..]].concat());
    let too_many = || format!("the shape {} has too many elements", tensor.shape());
    let row = Shape::from(&dims[dimension + 1..]).elements().ok_or_else(too_many)?;
    let length = usize::try_from(length).map_err(|_| too_many())?;
    let over = Over { data: tensor.data(), length, row };
    let (dtype, data) = match dtype {
        DType::F16 => (DType::F32, over.singles(|bytes| f16::from_le_bytes(bytes).to_f32())),
        DType::Bf16 => (DType::F32, over.singles(|bytes| bf16::from_le_bytes(bytes).to_f32())),
        DType::F32 => (DType::F32, over.singles(f32::from_le_bytes)),
        DType::F64 => (DType::F64, over.means(f64::from_le_bytes, f64::to_le_bytes)),
        _ => return Err(format!("the mean of {dtype} elements is not computed; expected FP64, FP32, FP16 or BF16")),
    };
    Tensor::new(dtype, shape, data.into()).map_err(|error| error.to_string())
}

/// What a mean is taken over.
struct Over<'a> {
    data: &'a [u8],
    /// Rows of which there is one mean.
    length: usize,
    /// Elements of a row.
    row: usize,
}

impl Over<'_> {
    fn singles<const SIZE: usize>(&self, read: impl Fn([u8; SIZE]) -> f32) -> Vec<u8> {
        #[expect(clippy::cast_possible_truncation, reason = "a mean of numbers of single precision fits it")]
        self.means(read, |mean| (mean as f32).to_le_bytes())
    }

    /// The bytes of all means, one after another.
    fn means<T, const SIZE: usize, const OUT: usize>(
        &self,
        read: impl Fn([u8; SIZE]) -> T,
        write: impl Fn(f64) -> [u8; OUT],
    ) -> Vec<u8>
    where
        T: Copy + Default + Add<Output = T> + AddAssign + Into<f64>,
    {
        let size = self.row * SIZE;
        if size == 0 {
            return Vec::new();
        }
        #[expect(clippy::cast_precision_loss, reason = "no memory has room for so many elements")]
        let length = self.length as f64;
        let mut means = Vec::with_capacity(self.data.len() / self.length / SIZE * OUT);
        let (mut total, mut sum) = (vec![0_f64; self.row], vec![T::default(); self.row]);
        for rows in self.data.chunks_exact(self.length * size) {
            total.fill(0.0);
            for block in rows.chunks(BLOCK * size) {
                sum.fill(T::default());
                add(&mut sum, block, &read);
                total.iter_mut().zip(&sum).for_each(|(total, sum)| *total += (*sum).into());
            }
            means.extend(total.iter().flat_map(|total| write(total / length)));
        }
        means
    }
}

/// Adds all rows of `block` to `sum`: four at a time, so that the sum is read and written a quarter as often.
fn add<T: Copy + Add<Output = T> + AddAssign, const SIZE: usize>(
    sum: &mut [T],
    block: &[u8],
    read: &impl Fn([u8; SIZE]) -> T,
) {
    let size = sum.len() * SIZE;
    let elements = |row| <[u8]>::as_chunks::<SIZE>(row).0;
    let mut fours = block.chunks_exact(4 * size);
    for four in &mut fours {
        let (one, three) = four.split_at(size);
        let (two, rest) = three.split_at(size);
        let (three, four) = rest.split_at(size);
        let rows = elements(one).iter().zip(elements(two)).zip(elements(three).iter().zip(elements(four)));
        for (sum, ((one, two), (three, four))) in sum.iter_mut().zip(rows) {
            *sum += (read(*one) + read(*two)) + (read(*three) + read(*four));
        }
    }
    for row in fours.remainder().chunks_exact(size) {
        sum.iter_mut().zip(elements(row)).for_each(|(sum, element)| *sum += read(*element));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn singles(shape: &[u64], values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(DType::F32, shape.into(), data.into()).unwrap()
    }

    #[track_caller]
    fn check(shape: &[u64], dimension: u32, expected_shape: &[u64], expected: &[f32]) {
        let count = Shape::from(shape).elements().unwrap();
        let values: Vec<f32> = (0_u16..).map(f32::from).take(count).collect();
        assert_eq!(mean(&singles(shape, &values), dimension).unwrap(), singles(expected_shape, expected));
    }

    #[test]
    fn each_dimension_has_its_mean() {
        check(&[2, 3, 2], 0, &[3, 2], &[3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        check(&[2, 3, 2], 1, &[2, 2], &[2.0, 3.0, 8.0, 9.0]);
        check(&[2, 3, 2], 2, &[2, 3], &[0.5, 2.5, 4.5, 6.5, 8.5, 10.5]);
        check(&[5], 0, &[], &[2.0]);
        check(&[2, 3, 0], 1, &[2, 0], &[]);
        check(&[0, 3], 1, &[0], &[]);
    }

    #[test]
    fn every_floating_point_type_has_one() {
        let of = |dtype, data: Vec<u8>| mean(&Tensor::new(dtype, [2].into(), data.into()).unwrap(), 0).unwrap();
        assert_eq!(of(DType::F16, [1.0, 2.0].map(|x| f16::from_f32(x).to_le_bytes()).concat()), singles(&[], &[1.5]));
        assert_eq!(of(DType::Bf16, [1.0, 2.0].map(|x| bf16::from_f32(x).to_le_bytes()).concat()), singles(&[], &[1.5]));
        let double = of(DType::F64, [1_f64, 2.0].map(f64::to_le_bytes).concat());
        assert_eq!((double.dtype(), &double.data()[..]), (DType::F64, &1.5_f64.to_le_bytes()[..]));
    }

    #[test]
    fn what_has_no_mean_is_told() {
        let refused = |tensor: &Tensor, dimension| mean(tensor, dimension).unwrap_err();
        assert_eq!(refused(&singles(&[1, 1], &[0.0]), 2), "a tensor of shape [1, 1] has no dimension 2");
        assert_eq!(refused(&singles(&[], &[0.0]), 0), "a tensor of shape [] has no dimension 0");
        let empty = refused(&singles(&[2, 0], &[]), 1);
        assert_eq!(empty, "dimension 1 of the shape [2, 0] has no elements to take a mean of");
        let whole = Tensor::new(DType::I8, [1].into(), vec![1].into()).unwrap();
        assert_eq!(refused(&whole, 0), "the mean of INT8 elements is not computed; expected FP64, FP32, FP16 or BF16");
    }

    #[test]
    fn a_long_dimension_costs_no_digits() {
        let tensor = singles(&[1 << 22], &vec![0.1; 1 << 22]);
        let mean = mean(&tensor, 0).unwrap();
        let mean = f32::from_le_bytes(mean.data()[..].try_into().unwrap());
        assert!((mean - 0.1).abs() < 1e-6, "{mean}");
    }

    proptest! {
        #[test]
        fn it_is_what_a_loop_gives(
            (shape, values) in prop::collection::vec(1_u64..7, 1..4).prop_flat_map(|shape| {
                let count = Shape::from(shape.as_slice()).elements().unwrap();
                (Just(shape), prop::collection::vec(-100_f32..100.0, count))
            }),
            dimension in 0_usize..3,
        ) {
            let dimension = dimension.min(shape.len() - 1);
            let length = usize::try_from(shape[dimension]).unwrap();
            let row: usize = Shape::from(&shape[dimension + 1..]).elements().unwrap();
            let tensor = mean(&singles(&shape, &values), u32::try_from(dimension).unwrap()).unwrap();
            let means = tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            for (index, mean) in means.enumerate() {
                let (outer, inner) = (index / row, index % row);
                let sum: f64 = (0..length).map(|at| f64::from(values[(outer * length + at) * row + inner])).sum();
                let expected = sum / length as f64;
                prop_assert!((f64::from(mean) - expected).abs() < 1e-4, "{mean} is not {expected}");
            }
        }
    }
}
