//! Under which key something is kept: a hash of everything that the answer depends on, and of who may have it.
//!
//! What is hashed is written such that no two different things are written alike: each text and each list stands behind its
//! length. So two keys are the same only if what they stand for is, and a function that does not know the name under which
//! others share their entries has no way to theirs.

use crate::budget::Id;
use http::Uri;
use torpor_bundle::Digest;
use torpor_manifest::{FunctionName, ShareName};
use torpor_nn::{BackendKind, OpenOptions};
use torpor_tensor::NamedTensor;

/// Where an entry is. Equal only for equal content, as far as anybody knows of BLAKE3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

/// What a model's outputs depend on beside its inputs, and who may have them.
#[derive(Debug, Clone)]
pub(crate) struct Identity(blake3::Hasher);

/// Things that have keys never share one.
const MODEL: &str = "torpor: outputs of a model, 1";
const REQUEST: &str = "torpor: an answer to an HTTP request, 1";

impl Identity {
    /// Of a model, with its weights, that runs on a version of `backend`. Who shares outputs names them; else they are the
    /// function's own.
    pub(crate) fn new(
        function: &FunctionName,
        share: Option<&ShareName>,
        model: (Digest, Option<Digest>),
        (backend, version): (BackendKind, &str),
        options: &OpenOptions,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
        };
        text(MODEL, &mut put);
        // The two kinds of names never meet, whatever they are.
        match share {
            None => pair("function", function.as_str(), &mut put),
            Some(share) => pair("share", share.as_str(), &mut put),
        }
        pair("model", &model.0.hex(), &mut put);
        pair("weights", &model.1.map(|weights| weights.hex()).unwrap_or_default(), &mut put);
        // Libraries and their versions differ in the last digits, and so do devices and precisions.
        pair(backend.name(), version, &mut put);
        pair(options.device.name(), options.precision.name(), &mut put);
        Identity(hasher)
    }

    /// The key of what the model gives for `inputs`, in whatever order they are.
    pub(crate) fn key(&self, inputs: &[NamedTensor]) -> Key {
        let mut hasher = self.0.clone();
        write(inputs, &mut |bytes| {
            hasher.update(bytes);
        });
        Key(hasher.finalize().into())
    }
}

/// The key of all answers to requests for `uri` that one revision of a function gave.
pub(crate) fn of_request(revision: Id, uri: &Uri) -> Key {
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
    };
    text(REQUEST, &mut put);
    put(&revision.to_le_bytes());
    text(&uri.to_string(), &mut put);
    Key(hasher.finalize().into())
}

/// Writes tensors in the order of their names.
fn write(inputs: &[NamedTensor], put: &mut impl FnMut(&[u8])) {
    let mut inputs: Vec<&NamedTensor> = inputs.iter().collect();
    inputs.sort_by(|(one, _), (other, _)| one.cmp(other));
    number(inputs.len(), put);
    for (name, tensor) in inputs {
        pair(name, tensor.dtype().name(), put);
        let dims = tensor.shape().dims();
        number(dims.len(), put);
        dims.iter().for_each(|dim| put(&dim.to_le_bytes()));
        number(tensor.data().len(), put);
        put(tensor.data());
    }
}

fn pair(one: &str, other: &str, put: &mut impl FnMut(&[u8])) {
    text(one, put);
    text(other, put);
}

fn text(text: &str, put: &mut impl FnMut(&[u8])) {
    number(text.len(), put);
    put(text.as_bytes());
}

fn number(number: usize, put: &mut impl FnMut(&[u8])) {
    put(&(number as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use torpor_tensor::{DType, Shape, Tensor};

    fn material(inputs: &[NamedTensor]) -> Vec<u8> {
        let mut material = Vec::new();
        write(inputs, &mut |bytes| material.extend_from_slice(bytes));
        material
    }

    /// Small enough for two of them to be alike, or alike but for where something ends, again and again.
    fn tensor() -> impl Strategy<Value = Tensor> {
        let dtype = prop::sample::select(vec![DType::U8, DType::I8, DType::U16, DType::Bytes]);
        (dtype, prop::collection::vec(0_u64..3, 0..3)).prop_flat_map(|(dtype, dims)| {
            let elements = usize::try_from(dims.iter().product::<u64>()).unwrap();
            let element = prop::collection::vec(0_u8..2, 0..3);
            prop::collection::vec(element, elements).prop_map(move |elements| {
                let shape = Shape::from(dims.clone());
                match dtype.size() {
                    None => Tensor::from_elements(shape, &elements).unwrap(),
                    Some(size) => {
                        let first = elements.iter().map(|element| element.first().copied().unwrap_or_default());
                        let data: Vec<u8> = first.flat_map(|byte| vec![byte; size]).collect();
                        Tensor::new(dtype, shape, data.into()).unwrap()
                    }
                }
            })
        })
    }

    fn inputs() -> impl Strategy<Value = Vec<NamedTensor>> {
        let named = prop::collection::btree_map("[ab]{0,2}", tensor(), 0..3);
        named.prop_map(|inputs| inputs.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_differs_is_written_otherwise(one in inputs(), other in inputs()) {
            prop_assert_eq!(material(&one) == material(&other), one == other);
        }

        #[test]
        fn no_inputs_begin_as_others_do(one in inputs(), other in inputs()) {
            let (one, other) = (material(&one), material(&other));
            prop_assert!(one == other || !one.starts_with(&other));
        }

        #[test]
        fn their_order_does_not_matter(inputs in inputs()) {
            let reversed: Vec<_> = inputs.iter().rev().cloned().collect();
            prop_assert_eq!(material(&inputs), material(&reversed));
        }
    }

    #[test]
    fn requests_of_other_revisions_and_hosts_have_other_keys() {
        let key = |revision, uri: &str| of_request(revision, &uri.parse().unwrap());
        let one = key(1, "http://a/b?c");
        assert_eq!(one, key(1, "http://a/b?c"));
        for other in [key(2, "http://a/b?c"), key(1, "http://ab/?c"), key(1, "http://a/b"), key(1, "http://a:80/b?c")] {
            assert_ne!(one, other);
        }
    }
}
