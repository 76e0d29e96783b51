//! Write functions for the Torpor inference runtime.
//!
//! A function is a Wasm component with the code around a model: decode, pre-process, infer, post-process. It takes one of two
//! shapes, or both at once:
//!
//! - [`Predict`]: named tensors in, named tensors out; the host serves it over every inference protocol it speaks.
//! - [`http::Handler`]: any HTTP request, streaming both ways.
//!
//! The smallest useful function asks a model and hands back what it says:
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
//! Every call gets a fresh instance, so keep no state between calls and build no big table at first use: make tables at build
//! time instead. Model weights live on the host and are shared; [`Model::load`] is cheap.

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
