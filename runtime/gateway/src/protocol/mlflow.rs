//! MLflow's scoring protocol (version 2), which is also what SageMaker's containers with MLflow models speak: tables and tensors to the
//! inputs of a function by its signature.
//!
//! Source: `mlflow/pyfunc/scoring_server`. `instances` and `inputs` are TF Serving's; what tables become is in `frame`.

mod csv;
mod frame;

use super::{
    Malformed,
    json::{
        inputs,
        outputs::{self, document},
        walk,
    },
    media::MediaType,
    shown,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use torpor_tensor::{NamedTensor, Shape, Signature, Tensor, TensorSpec};

/// The key of an answer.
const PREDICTIONS: &str = "predictions";

/// In which form an answer has its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A row for each row of a table, where the outputs have as many.
    Rows,
    /// A tensor for each name.
    Columns,
}

/// Why a body is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It has a type that nobody reads.
    MediaType(String),
    Malformed(Malformed),
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Refused::Malformed(malformed)
    }
}

/// Reads the body of an invocation. Who says nothing of its type sends JSON.
pub(crate) fn invocation(
    media: &MediaType,
    body: &[u8],
    signature: &Signature,
) -> Result<(Vec<NamedTensor>, Layout), Refused> {
    if media.parameter("charset").is_some_and(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        return Err(Refused::MediaType("bodies are read as UTF-8 alone; send no other `charset`".to_owned()));
    }
    match media.essence.as_str() {
        "text/csv" => {
            let header = match media.parameter("header").map(str::to_ascii_lowercase).as_deref() {
                None | Some("present") => true,
                Some("absent") => false,
                Some(_) => {
                    let text = "the parameter `header` of `text/csv` is `present` or `absent`";
                    return Err(Refused::MediaType(text.to_owned()));
                }
            };
            Ok((csv::read(body, header, signature)?, Layout::Rows))
        }
        "" | "application/json" => Ok(json(body, signature)?),
        other => {
            let text = format!("`{}` is not read here; send `application/json` or `text/csv`", shown(other));
            Err(Refused::MediaType(text))
        }
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object with one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`")]
struct RawRequest<'a> {
    #[serde(borrow)]
    dataframe_split: Option<frame::Split<'a>>,
    #[serde(borrow)]
    dataframe_records: Option<&'a RawValue>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

fn json(body: &[u8], signature: &Signature) -> Result<(Vec<NamedTensor>, Layout), Malformed> {
    let request: RawRequest = serde_json::from_slice(body)
        .map_err(|error| Malformed(format!("the body is no request to score in JSON: {error}")))?;
    let params = request.params.map_or(Ok(Vec::new()), |params| params_of(params.get(), signature))?;
    // What is a parameter is no column.
    let is_param = |spec: &&TensorSpec| params.iter().any(|(name, _)| *name == spec.name);
    let specs = signature.inputs.iter().filter(|spec| !is_param(spec)).cloned().collect();
    let signature = Signature { inputs: specs, outputs: Vec::new() };
    let (mut inputs, layout) = match request {
        RawRequest { dataframe_split: Some(table), dataframe_records: None, instances: None, inputs: None, .. } => {
            (frame::split(&table, &signature)?, Layout::Rows)
        }
        RawRequest { dataframe_split: None, dataframe_records: Some(table), instances: None, inputs: None, .. } => {
            (frame::records(table.get(), &signature)?, Layout::Rows)
        }
        RawRequest { dataframe_split: None, dataframe_records: None, instances: Some(rows), inputs: None, .. } => {
            (inputs::rows(rows.get(), "instances", &signature)?.0, Layout::Rows)
        }
        RawRequest {
            dataframe_split: None, dataframe_records: None, instances: None, inputs: Some(columns), ..
        } => (inputs::columns(columns.get(), "inputs", &signature)?.0, Layout::Columns),
        _ => {
            let text =
                "the body must have exactly one of `dataframe_split`, `dataframe_records`, `instances`, `inputs`";
            return Err(Malformed(text.to_owned()));
        }
    };
    inputs.extend(params);
    Ok((inputs, layout))
}

/// Parameters are inputs that are said once for all rows: each gives the input of its name one value.
fn params_of(text: &str, signature: &Signature) -> Result<Vec<NamedTensor>, Malformed> {
    if !text.starts_with('{') {
        return Err(Malformed("`params` must be an object".to_owned()));
    }
    let mut params: Vec<NamedTensor> = Vec::new();
    walk::object(text, |name, text| {
        let Some(spec) = signature.inputs.iter().find(|spec| spec.name == name) else {
            let (name, expected) = (shown(&name), inputs::names(&signature.inputs));
            return Err(Malformed(format!("`params`: the function has no input `{name}`; expected one of {expected}")));
        };
        if params.iter().any(|(known, _)| *known == spec.name) {
            return Err(Malformed(format!("`params` has `{name}` twice")));
        }
        let (tensor, rest) = inputs::value(spec, text)?;
        params.push((spec.name.clone(), alone(tensor, spec)));
        Ok(rest)
    })?;
    Ok(params)
}

/// One element in as many dimensions as the input has.
fn alone(tensor: Tensor, spec: &TensorSpec) -> Tensor {
    match &spec.shape {
        Some(dims) if tensor.shape().rank() == 0 => {
            let shape = Shape::from(vec![1; dims.len()]);
            Tensor::new(tensor.dtype(), shape, tensor.data().clone()).unwrap_or(tensor)
        }
        _ => tensor,
    }
}

/// The body of the answer to an invocation.
///
/// # Errors
/// When JSON cannot carry the tensors.
pub(crate) fn predictions(layout: Layout, outputs: &[NamedTensor]) -> Result<Vec<u8>, serde_json::Error> {
    match (layout, outputs) {
        // A function without outputs would be one.
        (_, []) => document(PREDICTIONS, &(), outputs),
        (Layout::Rows, outputs) if outputs.len() > 1 && outputs::count(outputs).is_ok() => {
            outputs::rows(PREDICTIONS, outputs)
        }
        _ => outputs::columns(PREDICTIONS, outputs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use torpor_tensor::{DType, Dim};

    fn spec(name: &str, dtype: DType, rank: usize) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: Some(vec![Dim::Any; rank]) }
    }

    fn signature() -> Signature {
        Signature {
            inputs: vec![spec("x", DType::F32, 1), spec("name", DType::Bytes, 1), spec("k", DType::I64, 1)],
            outputs: vec![],
        }
    }

    fn read(content_type: &str, body: &[u8]) -> Result<(Vec<NamedTensor>, Layout), String> {
        invocation(&MediaType::parse(content_type), body, &signature()).map_err(|refused| match refused {
            Refused::MediaType(text) => format!("415: {text}"),
            Refused::Malformed(malformed) => malformed.to_string(),
        })
    }

    #[test]
    fn all_forms_say_the_same() {
        let csv = read("text/csv", b"k,x,name\n1,0.5,a\n2,1,b\n").unwrap();
        assert_eq!(csv.0[0].1.data(), &[0.5_f32, 1.0].map(f32::to_le_bytes).concat());
        for body in [
            r#"{"dataframe_split":{"index":[0,1],"columns":["k","x","name"],"data":[[1,0.5,"a"],[2,1,"b"]]}}"#,
            r#"{"dataframe_records":[{"x":0.5,"k":1,"name":"a"},{"k":2,"name":"b","x":1.0}]}"#,
            r#"{"instances":[{"x":0.5,"k":1,"name":"a"},{"k":2,"name":"b","x":1.0}],"params":null}"#,
        ] {
            assert_eq!(read("application/json; charset=UTF-8", body.as_bytes()).as_ref(), Ok(&csv), "{body}");
        }
        let (columns, layout) = read("", br#"{"inputs":{"x":[0.5,1],"name":["a","b"],"k":[1,2]}}"#).unwrap();
        assert_eq!((columns, layout), (csv.0, Layout::Columns));
    }

    #[test]
    fn params_are_inputs_that_are_said_once() {
        let body = br#"{"dataframe_split":{"columns":["x","name"],"data":[[1,"a"]]},"params":{"k":3}}"#;
        let (inputs, _) = read("application/json", body).unwrap();
        assert_eq!(
            (inputs[2].0.as_str(), inputs[2].1.shape().dims(), &inputs[2].1.data()[..]),
            ("k", &[1][..], &3_i64.to_le_bytes()[..])
        );
        let check = |params: &str, expected: &str| {
            let error = read("", format!(r#"{{"inputs":{{}},"params":{params}}}"#).as_bytes()).unwrap_err();
            assert_eq!(error, expected);
        };
        check("7", "`params` must be an object");
        check(r#"{"t":1}"#, "`params`: the function has no input `t`; expected one of `x`, `name`, `k`");
        check(r#"{"k":1,"k":1}"#, "`params` has `k` twice");
        check(r#"{"k":1.5}"#, "input `k`: it is 1.5, which is no INT64");
    }

    #[test]
    fn what_is_not_read_is_told() {
        let check = |content_type: &str, body: &str, expected: &str| {
            let error = read(content_type, body.as_bytes()).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        };
        check("image/png", "", "415: `image/png` is not read here; send `application/json` or `text/csv`");
        check("text/csv; charset=latin1", "", "415: bodies are read as UTF-8 alone");
        check("text/csv; header=maybe", "", "415: the parameter `header`");
        let one = "the body must have exactly one of `dataframe_split`";
        check("", "{}", one);
        check("", r#"{"inputs":{},"instances":[]}"#, one);
        check("", "[]", "the body is no request to score in JSON: invalid length 0, expected an object with one of");
        check("", r#"{"inputs":{"x":[NaN]}}"#, "the body is no request to score in JSON: expected value");
    }

    #[test]
    fn tables_have_rows_and_tensors_have_names() {
        let tensor = |length: usize| Tensor::new(DType::U8, [length as u64].into(), vec![7; length].into()).unwrap();
        let text = |layout, outputs: &[NamedTensor]| String::from_utf8(predictions(layout, outputs).unwrap()).unwrap();
        let one = [("a".to_owned(), tensor(2))];
        let two = [("a".to_owned(), tensor(1)), ("b".to_owned(), tensor(1))];
        let uneven = [("a".to_owned(), tensor(1)), ("b".to_owned(), tensor(2))];
        assert_eq!(text(Layout::Rows, &one), r#"{"predictions":[7,7]}"#);
        assert_eq!(text(Layout::Rows, &two), r#"{"predictions":[{"a":7,"b":7}]}"#);
        assert_eq!(text(Layout::Columns, &two), r#"{"predictions":{"a":[7],"b":[7]}}"#);
        assert_eq!(text(Layout::Rows, &uneven), r#"{"predictions":{"a":[7],"b":[7,7]}}"#);
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(
            content_type in prop_oneof![Just(""), Just("text/csv"), Just("text/csv; header=absent")],
            body in prop_oneof![prop::collection::vec(any::<u8>(), 0..100), r#"[,\n"xk\[\]0-9]{0,40}"#.prop_map(String::into_bytes)],
        ) {
            let _ = read(content_type, &body);
        }

        #[test]
        fn no_table_makes_it_panic(
            key in prop_oneof![Just("dataframe_split"), Just("dataframe_records"), Just("params")],
            value in r#"(\{"columns":)?[\[\]\{\}:,0-9a-z.\-"xk]{0,40}(,"data":[\[\]\{\}:,0-9"]{0,20}\})?"#,
        ) {
            let _ = read("", format!("{{\"{key}\":{value}}}").as_bytes());
        }
    }
}
