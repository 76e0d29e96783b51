//! JSON as the protocols have it in common: arrays of elements to tensors and back. Nothing here makes a tree of values, so what a
//! request takes is its text and its tensors.

mod element;
pub(super) mod elements;
pub(super) mod inputs;
pub(super) mod outputs;
pub(super) mod text;
pub(super) mod values;
pub(super) mod walk;
mod write;

pub(super) use write::{Binary, Data};
pub(crate) use write::{size, size_of};
