//! Write functions for the Torpor inference runtime.
//!
//! A function is a Wasm component with the code around a model: decode, pre-process, infer, post-process. It takes one of two
//! shapes, or both at once:
//!
//! - [`Predict`]: named tensors in, named tensors out; the host serves it over every inference protocol it speaks.
//! - [`http::Handler`]: any HTTP request, streaming both ways.
//!
//! # A first function
//!
//! The smallest useful one asks a model and hands back what it says:
//!
//! ```no_run
//! use torpor_guest::{Inputs, Model, Outputs, Predict, PredictError, Tensor};
//!
//! struct Double;
//!
//! impl Predict for Double {
//!     fn predict(mut inputs: Inputs) -> Result<Outputs, PredictError> {
//!         let x = inputs.take("x")?.to_vec::<f32>()?;
//!         let doubled: Vec<f32> = x.iter().map(|x| x * 2.0).collect();
//!         let y = Tensor::new(&[doubled.len()], &doubled)?;
//!         Ok(Model::load("classifier")?.run([("input", y)])?)
//!     }
//! }
//!
//! torpor_guest::export_predict!(Double);
//! # fn main() {}
//! ```
//!
//! It is built as a `cdylib` for `wasm32-unknown-unknown`, and `torpor pack` makes a component and a bundle of it.
//! `torpor new NAME` makes a whole project, with the commands to build, sign and run it.
//!
//! # Tensors
//!
//! A [`Tensor`] is a handle: its elements stay on the host. Passing it to a model or out as an answer copies nothing;
//! [`Tensor::to_vec`] and its siblings copy the elements into the function's memory, [`Tensor::new`] out of it. Elements are in
//! row-major order, and a shape is the size of each dimension, the outermost first; `&[]` is that of a scalar. Every element type
//! of the Open Inference Protocol is there ([`Datatype`]): Rust's numbers and `bool`, [`struct@f16`] and [`bf16`] by [`Element`], and
//! byte strings or texts of any length by [`Tensor::bytes`].
//!
//! ```no_run
//! # use torpor_guest::{Datatype, Result, Tensor};
//! # fn example() -> Result<()> {
//! let image = Tensor::new(&[1, 3, 2, 2], &[0.5_f32; 12])?;
//! assert_eq!((image.datatype(), image.shape()), (Datatype::Fp32, vec![1, 3, 2, 2]));
//! let labels = Tensor::bytes(&[2], &["cat", "kitten"])?;
//! assert_eq!(labels.to_strings()?, ["cat", "kitten"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Models
//!
//! A function loads models by the names that its manifest grants. A model's weights live on the host and are shared by all
//! instances, so [`Model::load`] is cheap. One function may ask several models in turn:
//!
//! ```no_run
//! # use torpor_guest::{Inputs, Model, Outputs, Predict, PredictError};
//! # struct Read;
//! # impl Predict for Read {
//! fn predict(mut inputs: Inputs) -> Result<Outputs, PredictError> {
//!     let mut found = Model::load("detect")?.run([("image", inputs.take("image")?)])?;
//!     let read = Model::load("recognize")?.run([("boxes", found.take("boxes")?)])?;
//!     Ok(read)
//! }
//! # }
//! ```
//!
//! # Errors
//!
//! Whose fault it was decides what the caller sees. [`PredictError::InvalidInput`] and [`http::Error`] reach the caller, so they
//! name the input and say what was expected. [`PredictError::Failed`] and [`http::Error::internal`] go to the operator's log, and
//! the caller gets a bare 500. An [`Error`] of this crate turns into the latter by `?`; where it is the caller's, say so:
//!
//! ```no_run
//! # use torpor_guest::{Error, Inputs, Model, ModelErrorKind, Outputs, PredictError};
//! # fn example(inputs: Inputs) -> Result<Outputs, PredictError> {
//! Model::load("model")?.run(inputs).map_err(|error| match error {
//!     Error::Model { kind: ModelErrorKind::InvalidInput, text, .. } => PredictError::InvalidInput(text),
//!     error => error.into(),
//! })
//! # }
//! ```
//!
//! A panic is a trap: the instance ends, and the caller gets a bare 500.
//!
//! # What costs what
//!
//! Every call gets a fresh instance, which takes some 20 µs. So there is no state between calls, and what an instance computes at
//! first use it computes for every call: have tables made when the module is packed, by [`export_initializer!`]. The allocator
//! begins with an arena of 256 KiB in the memory that the module starts with; growing beyond it makes the host change mappings.
//!
//! # Without a host
//!
//! On other targets than Wasm the crate compiles, so that `cargo test` can test what needs no host natively. Whatever asks for a
//! tensor or a model panics there.
//!
//! # Features
//!
//! `allocator`, on by default, makes this crate's allocator the module's. Turn it off to bring another one.

#[cfg(all(feature = "allocator", target_family = "wasm", not(target_feature = "atomics")))]
mod allocator;
#[doc(hidden)]
#[allow(unsafe_code, unused_qualifications, clippy::all, reason = "generated; what it needs depends on the target")]
pub mod bindings;
mod element;
mod error;
pub mod http;
mod model;
mod predict;
mod tensor;
mod tensors;

pub use crate::{
    bindings::predict::torpor::function::{
        models::{Dimension, ModelSpec, TensorSpec},
        tensors::Datatype,
    },
    element::Element,
    error::{Error, ModelErrorKind, Result},
    model::Model,
    predict::{Predict, PredictError, PredictExport},
    tensor::Tensor,
    tensors::{Inputs, Outputs},
};
pub use half::{bf16, f16};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Makes a type that is [`Predict`] the function that this module exports.
///
/// ```no_run
/// # use torpor_guest::{Inputs, Outputs, Predict, PredictError};
/// struct Echo;
///
/// impl Predict for Echo {
///     fn predict(inputs: Inputs) -> Result<Outputs, PredictError> {
///         Ok(inputs.into_iter().collect())
///     }
/// }
///
/// torpor_guest::export_predict!(Echo);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_predict {
    ($function:ty) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "the entry points of a component are foreign functions")]
        const _: () = {
            type Component = $crate::PredictExport<$function>;
    $crate::bindings::predict::export!(Component with_types_in $crate::bindings::predict);
        };
        // Elsewhere, as in native tests, the names of the entry points are no names for a linker.
        #[cfg(not(target_family = "wasm"))]
        const _: fn($crate::Inputs) -> Result<$crate::Outputs, $crate::PredictError> =
            <$function as $crate::Predict>::predict;
    };
}

/// Has tables made when the module is packed, so that no call has to make them.
///
/// Each is a `static` of [`LazyLock`](std::sync::LazyLock). `torpor pack` makes them, and packs the module with the memory in which
/// they then are; an instance starts with that memory and copies only what it writes to. They are made by computing alone:
/// whoever asks the host for something meanwhile, be it the time or a random number, is refused by `torpor pack`. A module
/// that something else packs makes them at first use, as it would without this.
///
/// ```no_run
/// use std::{collections::BTreeMap, sync::LazyLock};
///
/// static LABELS: LazyLock<BTreeMap<&str, usize>> = LazyLock::new(|| ["cat", "kitten"].into_iter().zip(0..).collect());
///
/// torpor_guest::export_initializer!(LABELS);
/// # fn main() {}
/// ```
///
/// Calls then find as much free memory as without an initializer: the 256 KiB of the allocator's arena.
#[macro_export]
macro_rules! export_initializer {
    ($($table:path),+ $(,)?) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "the entry points of a component are foreign functions")]
        const _: () = {
            struct Initializer;

            impl $crate::bindings::initializer::Guest for Initializer {
                fn wizer_initialize() {
                    $(::std::sync::LazyLock::force(&$table);)+
                    $crate::initialized();
                }
            }

            $crate::bindings::initializer::export!(Initializer with_types_in $crate::bindings::initializer);
        };
        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || {
            $(::std::sync::LazyLock::force(&$table);)+
        };
    };
}

/// Called at the end of an initializer. Where the allocator is another one, how it gets memory is its own business.
#[doc(hidden)]
pub fn initialized() {
    #[cfg(all(feature = "allocator", target_family = "wasm", not(target_feature = "atomics")))]
    allocator::replenish();
}

/// Makes a type that is [`http::Handler`] the HTTP function that this module exports.
///
/// ```no_run
/// use torpor_guest::http::{self, Request, Response};
///
/// struct Hello;
///
/// impl http::Handler for Hello {
///     fn handle(request: Request) -> Result<Response, http::Error> {
///         Ok(Response::text(format!("hello from {}\n", request.path())))
///     }
/// }
///
/// torpor_guest::export_http!(Hello);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_http {
    ($function:ty) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "the entry points of a component are foreign functions")]
        const _: () = {
            type Component = $crate::http::HandlerExport<$function>;
    $crate::bindings::http::export!(Component with_types_in $crate::bindings::http);
        };
        #[cfg(not(target_family = "wasm"))]
        const _: fn($crate::http::Request) -> Result<$crate::http::Response, $crate::http::Error> =
            <$function as $crate::http::Handler>::handle;
    };
}
