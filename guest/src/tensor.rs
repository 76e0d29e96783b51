//! A tensor: a handle to elements that stay on the host until a function asks for them.

use crate::{
    Datatype, Element, Error, Result,
    bindings::predict::{torpor::function::tensors, wasi::nn},
};
use bytemuck::checked::{self, CheckedCastError};

/// A tensor that the host holds.
///
/// Passing one on (to a model, or as an output) copies nothing; the readers copy its elements into the function's memory.
#[derive(Debug)]
pub struct Tensor(pub(crate) nn::tensor::Tensor);

// Elements cross the boundary as the bytes they are made of.
const _: () = assert!(cfg!(target_endian = "little"), "tensors are little-endian, and so is every Wasm target");

impl Tensor {
    /// Makes a tensor from its elements in row-major order. An empty shape makes a scalar.
    ///
    /// ```no_run
    /// # use torpor_guest::Tensor;
    /// let matrix = Tensor::new(&[2, 3], &[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
    /// # Ok::<(), torpor_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Create`] when the number of elements is not what the shape says.
    pub fn new<T: Element>(shape: &[usize], elements: &[T]) -> Result<Self> {
        Self::from_raw(T::DATATYPE, shape, bytemuck::cast_slice(elements))
    }

    /// Makes a tensor of any element type but `BYTES` from the bytes that its elements are made of: row-major, little-endian.
    ///
    /// # Errors
    /// [`Error::Create`] when the number of bytes is not what shape and element type say.
    pub fn from_raw(datatype: Datatype, shape: &[usize], data: &[u8]) -> Result<Self> {
        tensors::create(datatype, &wide(shape), data).map(Tensor).map_err(Error::Create)
    }

    /// Makes a `BYTES` tensor, whose elements are byte strings or texts, in row-major order.
    ///
    /// ```no_run
    /// # use torpor_guest::Tensor;
    /// let labels = Tensor::bytes(&[2], &["cat", "kitten"])?;
    /// # Ok::<(), torpor_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Create`] when the number of elements is not what the shape says.
    pub fn bytes<E: AsRef<[u8]>>(shape: &[usize], elements: &[E]) -> Result<Self> {
        let elements: Vec<Vec<u8>> = elements.iter().map(|element| element.as_ref().to_vec()).collect();
        tensors::create_bytes(&wide(shape), &elements).map(Tensor).map_err(Error::Create)
    }

    /// The element type.
    pub fn datatype(&self) -> Datatype {
        tensors::get_datatype(&self.0)
    }

    /// The size of each dimension; empty for a scalar.
    pub fn shape(&self) -> Vec<u64> {
        tensors::get_shape(&self.0)
    }

    /// A copy of the elements, in row-major order.
    ///
    /// # Errors
    /// [`Error::Datatype`] when the tensor holds another element type, [`Error::Element`] for a `BOOL` that is neither 0 nor 1.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.expect(T::DATATYPE)?;
        read(&self.0.data())
    }

    /// A copy of the bytes that the elements are made of, row-major, little-endian; of a `BYTES` tensor the host's own form,
    /// so read that by [`Tensor::to_byte_strings`].
    pub fn to_raw(&self) -> Vec<u8> {
        self.0.data()
    }

    /// The mean over one dimension, which the result does not have. The host computes it where the elements lie; a model's large output
    /// need not be copied for it.
    ///
    /// ```no_run
    /// # use torpor_guest::Tensor;
    /// # fn example(hidden: &Tensor) -> torpor_guest::Result<()> {
    /// let sentence: Vec<f32> = hidden.mean(1)?.to_vec()?; // [texts, tokens, features] to [texts, features]
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Create`] when the elements are no floating-point numbers, and when the dimension is not there or has no elements.
    pub fn mean(&self, dimension: usize) -> Result<Self> {
        let dimension = u32::try_from(dimension).unwrap_or(u32::MAX);
        tensors::mean(&self.0, dimension).map(Tensor).map_err(Error::Create)
    }

    /// A copy of the elements of a `BYTES` tensor, in row-major order.
    ///
    /// # Errors
    /// [`Error::Datatype`] when the tensor holds another element type.
    pub fn to_byte_strings(&self) -> Result<Vec<Vec<u8>>> {
        self.expect(Datatype::Bytes)?;
        // The host refuses only what was just ruled out.
        tensors::get_bytes(&self.0).map_err(Error::Create)
    }

    /// A copy of the elements of a `BYTES` tensor that holds text, in row-major order.
    ///
    /// # Errors
    /// [`Error::Datatype`] when the tensor holds another element type, [`Error::Utf8`] when an element is not UTF-8.
    pub fn to_strings(&self) -> Result<Vec<String>> {
        let elements = self.to_byte_strings()?;
        let text = |(index, element)| String::from_utf8(element).map_err(|_| Error::Utf8 { index });
        elements.into_iter().enumerate().map(text).collect()
    }

    fn expect(&self, expected: Datatype) -> Result<()> {
        let actual = self.datatype();
        if actual == expected { Ok(()) } else { Err(Error::Datatype { expected, actual }) }
    }
}

fn wide(shape: &[usize]) -> Vec<u64> {
    shape.iter().map(|&dim| dim as u64).collect()
}

/// The elements that `data` is made of. It is copied at once where it is aligned, as an allocator's memory is.
fn read<T: Element>(data: &[u8]) -> Result<Vec<T>> {
    if let Ok(elements) = checked::try_cast_slice(data) {
        return Ok(elements.to_vec());
    }
    let element = |(index, bytes)| {
        checked::try_pod_read_unaligned(bytes)
            .map_err(|_: CheckedCastError| Error::Element { index, datatype: T::DATATYPE })
    };
    data.chunks(size_of::<T>()).enumerate().map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_at_any_alignment() {
        let bytes: Vec<u8> = [0_u8].into_iter().chain([1.5_f32, -2.0].into_iter().flat_map(f32::to_le_bytes)).collect();
        assert_eq!(read::<f32>(&bytes[1..]).unwrap(), [1.5, -2.0]);
        assert_eq!(read::<f32>(bytemuck::cast_slice(&[1.5_f32, -2.0])).unwrap(), [1.5, -2.0]);
    }

    #[test]
    fn a_bool_is_zero_or_one() {
        assert_eq!(read::<bool>(&[0, 1, 1]).unwrap(), [false, true, true]);
        let error = read::<bool>(&[0, 1, 2]).unwrap_err();
        assert_eq!(error.to_string(), "element 2 of the tensor is no valid BOOL");
    }

    #[test]
    fn half_an_element_is_refused() {
        assert!(matches!(read::<u32>(&[0; 6]), Err(Error::Element { index: 1, .. })));
    }
}
