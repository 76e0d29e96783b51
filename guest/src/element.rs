//! Rust types that are elements of tensors, and the names of element types.

use crate::{Datatype, bf16, f16};
use bytemuck::{CheckedBitPattern, NoUninit};
use std::fmt;

/// A Rust type that is an element of a tensor: `bool`, the integers from 8 to 64 bits, [`struct@f16`], [`bf16`], `f32` and `f64`.
///
/// `BYTES` tensors have functions of their own, as their elements have no fixed size: [`Tensor::bytes`](crate::Tensor::bytes).
/// No other crate can make a type an element.
pub trait Element: NoUninit + CheckedBitPattern + sealed::Sealed {
    /// The element type that it stands for.
    const DATATYPE: Datatype;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($rust:ty => $datatype:ident),* $(,)?) => {
        $(
            impl sealed::Sealed for $rust {}
            impl Element for $rust {
                const DATATYPE: Datatype = Datatype::$datatype;
            }
        )*
    };
}

elements! {
    bool => Bool,
    u8 => Uint8,
    u16 => Uint16,
    u32 => Uint32,
    u64 => Uint64,
    i8 => Int8,
    i16 => Int16,
    i32 => Int32,
    i64 => Int64,
    f16 => Fp16,
    bf16 => Bf16,
    f32 => Fp32,
    f64 => Fp64,
}

impl Datatype {
    /// Its name in the Open Inference Protocol.
    pub fn name(self) -> &'static str {
        match self {
            Datatype::Bool => "BOOL",
            Datatype::Uint8 => "UINT8",
            Datatype::Uint16 => "UINT16",
            Datatype::Uint32 => "UINT32",
            Datatype::Uint64 => "UINT64",
            Datatype::Int8 => "INT8",
            Datatype::Int16 => "INT16",
            Datatype::Int32 => "INT32",
            Datatype::Int64 => "INT64",
            Datatype::Fp16 => "FP16",
            Datatype::Bf16 => "BF16",
            Datatype::Fp32 => "FP32",
            Datatype::Fp64 => "FP64",
            Datatype::Bytes => "BYTES",
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
