//! Tensors as they travel through the host: from a protocol, through a guest, into a backend and back.
//!
//! This crate is a leaf. It does no arithmetic on elements and knows no protocol, engine or backend; it only guarantees that a
//! [`Tensor`] is consistent: its data is exactly as long as its shape and element type say. Nothing here blocks, and cloning
//! a tensor copies no element.

mod dtype;
mod shape;
mod signature;
mod tensor;

pub use dtype::DType;
pub use shape::Shape;
pub use signature::{Dim, Mismatch, Signature, TensorSpec};
pub use tensor::{NamedTensor, Tensor};

/// Why bytes do not make a tensor. The texts name sizes and types only, so they may be shown to callers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The number of elements or bytes exceeds what an address can count.
    #[error("the shape {shape} has too many elements")]
    TooManyElements {
        /// The offending shape.
        shape: Shape,
    },
    /// The data has another length than shape and element type ask for.
    #[error("{dtype} data of shape {shape} must be {expected} bytes long, but it is {actual}")]
    DataLength {
        /// Element type asked for.
        dtype: DType,
        /// Shape asked for.
        shape: Shape,
        /// Length that would fit, in bytes.
        expected: usize,
        /// Length that was given, in bytes.
        actual: usize,
    },
    /// The number of `BYTES` elements differs from the number that the shape asks for.
    #[error("the shape {shape} asks for {expected} elements, but there are {actual}")]
    ElementCount {
        /// Shape asked for.
        shape: Shape,
        /// Number of elements that would fit.
        expected: usize,
        /// Number of elements that were given.
        actual: usize,
    },
    /// `BYTES` data whose length prefixes run past its end.
    #[error("BYTES data is cut short: element {index} runs past the end")]
    Truncated {
        /// Index of the element, in row-major order.
        index: usize,
    },
    /// One `BYTES` element is longer than its 32-bit length prefix can say.
    #[error("a BYTES element is longer than 4 GiB")]
    ElementTooLong,
    /// An operation on `BYTES` elements was asked of a tensor of another element type.
    #[error("expected BYTES elements, but they are {0}")]
    NotBytes(DType),
    /// A `BOOL` element that is neither 0 nor 1.
    #[error("BOOL element {index} is neither 0 nor 1")]
    NotBool {
        /// Index of the element, in row-major order.
        index: usize,
    },
}
