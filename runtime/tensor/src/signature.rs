//! What a model or a function takes and gives: names, element types and shapes.

use crate::{DType, NamedTensor, Shape};
use std::{fmt, sync::Arc};

/// One dimension of a declared shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Exactly this size.
    Fixed(u64),
    /// Any size, but the same one wherever the name stands among the inputs.
    Named(Arc<str>),
    /// Any size.
    Any,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(size) => size.fmt(f),
            Dim::Named(name) => f.write_str(name),
            Dim::Any => f.write_str("-1"),
        }
    }
}

/// A named input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// The size of each dimension; `None` where even the rank may vary.
    pub shape: Option<Vec<Dim>>,
}

impl TensorSpec {
    /// Whether `shape` is as declared. Named dimensions are bound in `bound` when they are first seen.
    fn accepts<'a>(&'a self, shape: &Shape, bound: &mut Vec<(&'a str, u64)>) -> bool {
        let Some(dims) = &self.shape else { return true };
        dims.len() == shape.rank()
            && dims.iter().zip(shape.dims()).all(|(declared, &actual)| match declared {
                Dim::Fixed(size) => *size == actual,
                Dim::Any => true,
                Dim::Named(name) => match bound.iter().find(|(known, _)| **known == **name) {
                    Some((_, size)) => *size == actual,
                    None => {
                        bound.push((name, actual));
                        true
                    }
                },
            })
    }

    fn shape_text(&self) -> String {
        match &self.shape {
            None => "any shape".to_owned(),
            Some(dims) => format!("shape [{}]", dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// All inputs and outputs of a model or a function.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// What it takes.
    pub inputs: Vec<TensorSpec>,
    /// What it gives.
    pub outputs: Vec<TensorSpec>,
}

/// How given inputs differ from a signature. The text is made for callers: it names the tensor and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(String);

impl Signature {
    /// Checks that `inputs` are exactly the declared ones, with the declared element types and shapes, in any order.
    ///
    /// # Errors
    /// The first difference found.
    pub fn check_inputs(&self, inputs: &[NamedTensor]) -> Result<(), Mismatch> {
        check("input", &self.inputs, inputs)
    }

    /// Checks that `outputs` are exactly the declared ones; see [`Signature::check_inputs`].
    ///
    /// # Errors
    /// The first difference found.
    pub fn check_outputs(&self, outputs: &[NamedTensor]) -> Result<(), Mismatch> {
        check("output", &self.outputs, outputs)
    }
}

fn check(kind: &str, specs: &[TensorSpec], tensors: &[NamedTensor]) -> Result<(), Mismatch> {
    let mut seen = vec![false; specs.len()];
    let mut bound = Vec::new();
    for (name, tensor) in tensors {
        let Some(index) = specs.iter().position(|spec| spec.name == *name) else {
            let name: String = name.chars().take(64).collect();
            let known = specs.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", ");
            return Err(Mismatch(format!("there is no {kind} `{name}`; expected {known}")));
        };
        let spec = &specs[index];
        if std::mem::replace(&mut seen[index], true) {
            return Err(Mismatch(format!("{kind} `{name}` is given twice")));
        }
        if spec.dtype != tensor.dtype() {
            let (expected, actual) = (spec.dtype, tensor.dtype());
            return Err(Mismatch(format!("{kind} `{name}` must have datatype {expected}, but it has {actual}")));
        }
        if !spec.accepts(tensor.shape(), &mut bound) {
            let (expected, actual) = (spec.shape_text(), tensor.shape());
            let known =
                bound.iter().map(|(name, size)| format!(" with {name} = {size}")).collect::<Vec<_>>().join(" and");
            return Err(Mismatch(format!("{kind} `{name}` must have {expected}{known}, but it has {actual}")));
        }
    }
    match seen.iter().position(|seen| !seen) {
        Some(missing) => {
            let spec = &specs[missing];
            let (name, dtype, shape) = (&spec.name, spec.dtype, spec.shape_text());
            Err(Mismatch(format!("{kind} `{name}` is missing; expected {dtype} of {shape}")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use bytes::Bytes;

    #[track_caller]
    fn check(inputs: &[(&str, Tensor)], expected: &str) {
        let signature = Signature {
            inputs: vec![
                TensorSpec { name: "a".into(), dtype: DType::F32, shape: Some(vec![Dim::Any, Dim::Fixed(2)]) },
                TensorSpec { name: "b".into(), dtype: DType::U8, shape: None },
            ],
            outputs: vec![],
        };
        let found = signature.check_inputs(&named(inputs));
        assert_eq!(found.map_or_else(|mismatch| mismatch.to_string(), |()| "fits".into()), expected);
    }

    #[test]
    fn a_named_dimension_has_one_size() {
        let dim = || vec![Dim::Named("n".into()), Dim::Fixed(2)];
        let spec = |name: &str| TensorSpec { name: name.into(), dtype: DType::U8, shape: Some(dim()) };
        let signature = Signature { inputs: vec![spec("a"), spec("b")], outputs: vec![] };
        let check = |a: u64, b: u64| {
            let inputs = [("a", zeros(DType::U8, &[a, 2])), ("b", zeros(DType::U8, &[b, 2]))];
            signature.check_inputs(&named(&inputs))
        };
        assert_eq!(check(3, 3), Ok(()));
        let expected = "input `b` must have shape [n, 2] with n = 3, but it has [4, 2]";
        assert_eq!(check(3, 4).unwrap_err().to_string(), expected);
    }

    fn named(tensors: &[(&str, Tensor)]) -> Vec<NamedTensor> {
        tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect()
    }

    fn zeros(dtype: DType, shape: &[u64]) -> Tensor {
        let shape = Shape::from(shape);
        let length = shape.elements().unwrap() * dtype.size().unwrap();
        Tensor::new(dtype, shape, Bytes::from(vec![0; length])).unwrap()
    }

    #[test]
    fn any_order_fits() {
        check(&[("b", zeros(DType::U8, &[])), ("a", zeros(DType::F32, &[9, 2]))], "fits");
    }

    #[test]
    fn each_difference_is_named() {
        let b = || ("b", zeros(DType::U8, &[]));
        check(&[b()], "input `a` is missing; expected FP32 of shape [-1, 2]");
        check(&[b(), ("c", zeros(DType::U8, &[]))], "there is no input `c`; expected `a`, `b`");
        check(&[b(), b()], "input `b` is given twice");
        check(&[("a", zeros(DType::F64, &[1, 2]))], "input `a` must have datatype FP32, but it has FP64");
        check(&[("a", zeros(DType::F32, &[1, 3]))], "input `a` must have shape [-1, 2], but it has [1, 3]");
    }
}
