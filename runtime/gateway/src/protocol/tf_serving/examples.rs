//! `:classify` and `:regress`: examples, each an object of features, to classes with scores, or to numbers.
//!
//! TensorFlow's models get examples in one message, and take them apart themselves. A function has an input for each feature, and its
//! outputs have to be what the answer is made of.

use super::known;
use crate::protocol::{
    Malformed,
    json::{
        Binary, Data,
        inputs::{Table, fitted, names},
        outputs::{self, Repeat},
        walk::{array, behind, object},
    },
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use torpor_tensor::{DType, NamedTensor, Signature, Tensor};

/// Outputs of `BYTES` by these names are classes, where there are several.
const CLASSES: [&str; 4] = ["classes", "class", "labels", "label"];

#[derive(Deserialize)]
#[serde(expecting = "an object with `examples`")]
struct RawRequest<'a> {
    #[serde(borrow)]
    signature_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    examples: &'a RawValue,
}

/// Reads the body of a request to classify or to regress. The name of the signature says nothing that the path does not.
pub(crate) fn examples(body: &[u8], signature: &Signature) -> Result<Vec<NamedTensor>, Malformed> {
    let request: RawRequest = serde_json::from_slice(body)
        .map_err(|error| Malformed(format!("the body has no examples in JSON: {error}")))?;
    let name = request.signature_name.as_deref();
    known(name.filter(|name| !["tensorflow/serving/classify", "tensorflow/serving/regress"].contains(name)))?;
    if !request.examples.get().starts_with('[') {
        return Err(Malformed("`examples` must be an array".to_owned()));
    }
    let specs = &signature.inputs;
    let mut common: Vec<(usize, &str)> = Vec::new();
    if let Some(context) = request.context {
        if !context.get().starts_with('{') {
            return Err(Malformed("`context` must be an object".to_owned()));
        }
        object(context.get(), |name, text| {
            let Some(index) = specs.iter().position(|spec| spec.name == name) else {
                let (name, expected) = (crate::protocol::shown(&name), names(specs));
                return Err(Malformed(format!("`context`: there is no input `{name}`; expected {expected}")));
            };
            if common.iter().any(|(known, _)| *known == index) {
                return Err(Malformed(format!("`context` has the input `{name}` twice")));
            }
            common.push((index, text));
            behind(text)
        })?;
    }
    // What all examples have in common is read for each of them; it must not make much of little.
    let repeated = request.context.map_or(0, |context| context.get().len());
    let mut left = 2 * body.len() + 64 * 1024;
    let mut table = Table::new(specs);
    array(request.examples.get(), |example| {
        left = left
            .checked_sub(repeated)
            .ok_or_else(|| Malformed("`context` is too large for so many examples".to_owned()))?;
        table.row(example, "examples", &common)
    })?;
    let inputs = table.finish()?;
    Ok(inputs.into_iter().zip(specs).map(|((name, tensor), spec)| (name, fitted(tensor, spec))).collect())
}

/// The body of the answer to a request to classify: for each example pairs of a class and its score. A class has the name that another
/// output gives it, or that `labels` of this output has, or its number.
///
/// # Errors
/// When the outputs are no classes.
pub(crate) fn classify_response<'l>(
    outputs: &[NamedTensor],
    labels: impl Fn(&str) -> Option<&'l [String]>,
) -> Result<Vec<u8>, Malformed> {
    let no = || {
        let text = "the function does not classify: it has no output of floats, one or a row of them for each example";
        Malformed(text.to_owned())
    };
    let float = |dtype| matches!(dtype, DType::F16 | DType::Bf16 | DType::F32 | DType::F64);
    let mut scores = outputs.iter().filter(|(_, tensor)| float(tensor.dtype()));
    let (Some((name, scores)), None) = (scores.next(), scores.next()) else { return Err(no()) };
    let labels = labels(name).unwrap_or_default();
    let (rows, width) = match *scores.shape().dims() {
        [rows] => (rows, 1),
        [rows, width] => (rows, width),
        _ => return Err(no()),
    };
    let texts = || outputs.iter().filter(|(_, tensor)| tensor.dtype() == DType::Bytes);
    let classes = match texts().count() {
        0 => None,
        1 => texts().next(),
        _ => Some(texts().find(|(name, _)| CLASSES.contains(&name.as_str())).ok_or_else(|| {
            Malformed("the function does not classify: several of its outputs could be the classes".to_owned())
        })?),
    };
    let classes = classes.map(|(_, tensor)| tensor);
    if classes.is_some_and(|classes| classes.shape() != scores.shape()) {
        return Err(Malformed("the function does not classify: it has not one class for each score".to_owned()));
    }
    let (Ok(rows), Ok(width)) = (usize::try_from(rows), usize::try_from(width)) else { return Err(no()) };
    let score = Data::each(scores, Binary::Refused);
    let class = classes.map(|classes| Data::each(classes, Binary::WhereNeeded));
    let named = |index: usize| labels.get(index).map_or(Class::Number(index), |label| Class::Label(label));
    let pair = |index: usize| (class.as_ref().map_or_else(|| named(index), Class::Name), &score);
    outputs::document("results", &Repeat(rows, |_| Repeat(width, pair)), outputs).map_err(|_| no())
}

/// The body of the answer to a request to regress: a number for each example.
///
/// # Errors
/// When the outputs are not one number for each example.
pub(crate) fn regress_response(outputs: &[NamedTensor]) -> Result<Vec<u8>, Malformed> {
    let no =
        || Malformed("the function does not regress: it has not one output with a number for each example".to_owned());
    let number = |tensor: &Tensor| !matches!(tensor.dtype(), DType::Bool | DType::Bytes);
    match outputs {
        [(_, tensor)] if number(tensor) && matches!(tensor.shape().dims(), [_] | [_, 1]) => {
            outputs::document("results", &Data::flat(tensor), outputs).map_err(|_| no())
        }
        _ => Err(no()),
    }
}

/// How a class is called.
enum Class<'a> {
    Name(&'a Data<'a>),
    Label(&'a str),
    Number(usize),
}

impl Serialize for Class<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Class::Name(name) => name.serialize(serializer),
            Class::Label(label) => serializer.serialize_str(label),
            Class::Number(number) => serializer.collect_str(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use torpor_tensor::{Dim, Shape, TensorSpec};

    fn signature() -> Signature {
        let spec =
            |name: &str, rank| TensorSpec { name: name.into(), dtype: DType::F32, shape: Some(vec![Dim::Any; rank]) };
        Signature { inputs: vec![spec("x", 1), spec("y", 2)], outputs: vec![] }
    }

    fn read(body: &str) -> Result<Vec<NamedTensor>, String> {
        examples(body.as_bytes(), &signature()).map_err(|malformed| malformed.to_string())
    }

    fn floats(name: &str, dims: &[u64], numbers: &[f32]) -> NamedTensor {
        let data: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        (name.to_owned(), Tensor::new(DType::F32, Shape::from(dims), data.into()).unwrap())
    }

    #[test]
    fn features_are_inputs() {
        let inputs = read(
            r#"{"context":{"y":[7]},"examples":[{"x":1},{"x":2}],"signature_name":"tensorflow/serving/classify"}"#,
        );
        assert_eq!(inputs.unwrap(), [floats("x", &[2], &[1.0, 2.0]), floats("y", &[2, 1], &[7.0, 7.0])]);
        // A feature is a list of one value, or the value.
        let inputs = read(r#"{"examples":[{"x":[1],"y":5}]}"#);
        assert_eq!(inputs.unwrap(), [floats("x", &[1], &[1.0]), floats("y", &[1, 1], &[5.0])]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let check = |body: &str, expected: &str| assert_eq!(read(body).unwrap_err(), expected);
        check(r#"{"context":{"z":1},"examples":[]}"#, "`context`: there is no input `z`; expected `x`, `y`");
        check(r#"{"context":{"x":1,"x":1},"examples":[]}"#, "`context` has the input `x` twice");
        check(r#"{"context":{"x":1},"examples":[{"x":1,"y":1}]}"#, "row 0 of `examples` has the input `x` twice");
        check(r#"{"examples":[{"x":1}]}"#, "row 0 of `examples` has no `y`");
        check(r#"{"examples":7}"#, "`examples` must be an array");
        check(r#"{"context":7,"examples":[]}"#, "`context` must be an object");
        let many = vec!["{}"; 10_000].join(",");
        let list = vec!["1"; 10_000].join(",");
        let body = format!(r#"{{"context":{{"x":1,"y":[{list}]}},"examples":[{many}]}}"#);
        check(&body, "`context` is too large for so many examples");
    }

    #[test]
    fn classes_have_names_or_numbers() {
        let none = |_: &str| None;
        let text = |outputs: &[NamedTensor]| String::from_utf8(classify_response(outputs, none).unwrap()).unwrap();
        let scores = floats("score", &[2, 2], &[0.5, 0.25, 1.0, 0.0]);
        assert_eq!(
            text(std::slice::from_ref(&scores)),
            r#"{"results":[[["0",0.5],["1",0.25]],[["0",1.0],["1",0.0]]]}"#
        );
        let labels = ["cat".to_owned()];
        let labels = |output: &str| (output == "score").then_some(&labels[..]);
        let labelled = String::from_utf8(classify_response(&[scores], labels).unwrap()).unwrap();
        assert_eq!(labelled, r#"{"results":[[["cat",0.5],["1",0.25]],[["cat",1.0],["1",0.0]]]}"#);
        let label = |name: &str| (name.to_owned(), Tensor::from_elements([2].into(), &["a", "b"]).unwrap());
        let scores = || floats("score", &[2], &[0.5, 0.25]);
        let expected = r#"{"results":[[["a",0.5]],[["b",0.25]]]}"#;
        assert_eq!(text(&[scores(), label("anything")]), expected);
        assert_eq!(text(&[label("label"), label("mime_type"), scores()]), expected);
        for outputs in [
            vec![label("label")],
            vec![scores(), scores()],
            vec![floats("score", &[], &[1.0])],
            vec![scores(), label("one"), label("two")],
            vec![floats("score", &[1], &[1.0]), label("label")],
        ] {
            let error = classify_response(&outputs, none).unwrap_err().to_string();
            assert!(error.starts_with("the function does not classify"), "{error}");
        }
    }

    #[test]
    fn a_regression_is_a_number_for_each_example() {
        for dims in [&[2][..], &[2, 1]] {
            let body = regress_response(&[floats("y", dims, &[1.5, 2.0])]).unwrap();
            assert_eq!(body, br#"{"results":[1.5,2.0]}"#);
        }
        assert!(regress_response(&[floats("y", &[1, 2], &[1.5, 2.0])]).is_err());
        assert!(regress_response(&[]).is_err());
    }
}
