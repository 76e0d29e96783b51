//! A tensor: element type, shape and data that fit each other.

use crate::{DType, Error, Shape};
use bytes::Bytes;

/// A tensor under the name that a model or a function gives it.
pub type NamedTensor = (String, Tensor);

/// An immutable tensor. Cloning shares the data.
///
/// The data is row-major and little-endian. `BYTES` elements are stored one after another, each behind its length as a 32-bit
/// little-endian number, which is also their binary form in the Open Inference Protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: Bytes,
}

impl Tensor {
    /// Makes a tensor of `data`, which must fit `dtype` and `shape` exactly. Elements are not copied.
    ///
    /// # Errors
    /// When the length does not fit, the shape overflows, `BYTES` data is not framed, or a `BOOL` is neither 0 nor 1.
    pub fn new(dtype: DType, shape: Shape, data: Bytes) -> Result<Self, Error> {
        let Some(elements) = shape.elements() else { return Err(Error::TooManyElements { shape }) };
        match dtype.size() {
            Some(size) => {
                let Some(expected) = elements.checked_mul(size) else { return Err(Error::TooManyElements { shape }) };
                if data.len() != expected {
                    return Err(Error::DataLength { dtype, shape, expected, actual: data.len() });
                }
            }
            None => {
                let mut actual = 0;
                for element in (BytesElements { rest: &data, index: 0 }) {
                    element?;
                    actual += 1;
                }
                if actual != elements {
                    return Err(Error::ElementCount { shape, expected: elements, actual });
                }
            }
        }
        if dtype == DType::Bool
            && let Some(index) = data.iter().position(|&byte| byte > 1)
        {
            return Err(Error::NotBool { index });
        }
        Ok(Tensor { dtype, shape, data })
    }

    /// Makes a `BYTES` tensor of `elements`, in row-major order.
    ///
    /// # Errors
    /// When their number does not fit `shape`, or one is longer than 4 GiB.
    pub fn from_elements<E: AsRef<[u8]>>(shape: Shape, elements: &[E]) -> Result<Self, Error> {
        let Some(expected) = shape.elements() else { return Err(Error::TooManyElements { shape }) };
        if elements.len() != expected {
            return Err(Error::ElementCount { shape, expected, actual: elements.len() });
        }
        let mut data = Vec::with_capacity(elements.iter().map(|element| 4 + element.as_ref().len()).sum());
        for element in elements {
            let element = element.as_ref();
            let length = u32::try_from(element.len()).map_err(|_| Error::ElementTooLong)?;
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(element);
        }
        Ok(Tensor { dtype: DType::Bytes, shape, data: data.into() })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The size of each dimension.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The elements as bytes; see [`Tensor`] for their layout.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The same tensor with a copy of its data, which keeps no larger buffer alive of which that may be a part.
    pub fn detached(&self) -> Self {
        Tensor { dtype: self.dtype, shape: self.shape.clone(), data: Bytes::copy_from_slice(&self.data) }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        // The constructor has checked that the product fits.
        self.shape.elements().unwrap_or(0)
    }

    /// The elements of a `BYTES` tensor, in row-major order.
    ///
    /// # Errors
    /// When the element type is another.
    pub fn bytes_elements(&self) -> Result<impl Iterator<Item = &[u8]>, Error> {
        if self.dtype != DType::Bytes {
            return Err(Error::NotBytes(self.dtype));
        }
        // The constructor has walked the framing once, so no element can fail here.
        Ok(BytesElements { rest: &self.data, index: 0 }.map_while(Result::ok))
    }
}

/// Walks length-prefixed elements without copying them.
struct BytesElements<'a> {
    rest: &'a [u8],
    index: usize,
}

impl<'a> Iterator for BytesElements<'a> {
    type Item = Result<&'a [u8], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let split = self.rest.split_first_chunk::<4>().and_then(|(prefix, rest)| {
            let length = usize::try_from(u32::from_le_bytes(*prefix)).ok()?;
            rest.split_at_checked(length)
        });
        match split {
            Some((element, rest)) => {
                self.rest = rest;
                Some(Ok(element))
            }
            None => {
                self.rest = &[];
                Some(Err(Error::Truncated { index }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn data_must_fit_the_shape() {
        let error = Tensor::new(DType::F32, [2, 3].into(), Bytes::from_static(&[0; 23])).unwrap_err();
        assert_eq!(error.to_string(), "FP32 data of shape [2, 3] must be 24 bytes long, but it is 23");
    }

    #[test]
    fn an_overflowing_shape_is_refused() {
        let shape = Shape::from([u64::MAX, 2]);
        assert!(matches!(Tensor::new(DType::U8, shape, Bytes::new()), Err(Error::TooManyElements { .. })));
        let shape = Shape::from([u64::MAX / 4]);
        assert!(matches!(Tensor::new(DType::F64, shape, Bytes::new()), Err(Error::TooManyElements { .. })));
    }

    #[test]
    fn empty_and_scalar_tensors_are_tensors() {
        assert_eq!(Tensor::new(DType::F64, [0, u64::MAX, u64::MAX].into(), Bytes::new()).unwrap().elements(), 0);
        assert_eq!(Tensor::new(DType::I64, Shape::default(), Bytes::from_static(&[7; 8])).unwrap().elements(), 1);
    }

    #[test]
    fn a_detached_tensor_lives_elsewhere() {
        let part = Bytes::from(vec![7; 100]).slice(10..18);
        let tensor = Tensor::new(DType::U8, [8].into(), part).unwrap();
        let detached = tensor.detached();
        assert_eq!(detached, tensor);
        assert_ne!(detached.data().as_ptr(), tensor.data().as_ptr());
    }

    #[test]
    fn a_bool_is_zero_or_one() {
        let error = Tensor::new(DType::Bool, [3].into(), Bytes::from_static(&[0, 1, 2])).unwrap_err();
        assert_eq!(error, Error::NotBool { index: 2 });
    }

    proptest! {
        #[test]
        fn bytes_elements_survive_framing(elements in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let shape = Shape::from([elements.len() as u64]);
            let tensor = Tensor::from_elements(shape.clone(), &elements).unwrap();
            let again = Tensor::new(DType::Bytes, shape, tensor.data().clone()).unwrap();
            prop_assert_eq!(again.bytes_elements().unwrap().map(<[u8]>::to_vec).collect::<Vec<_>>(), elements);
        }

        #[test]
        fn framing_never_panics(data in prop::collection::vec(any::<u8>(), 0..200), count in 0_u64..20) {
            let _ = Tensor::new(DType::Bytes, [count].into(), data.into());
        }
    }
}
