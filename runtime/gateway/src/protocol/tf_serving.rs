//! TF Serving's REST interface, and version 1 of KServe's, which is a part of it.
//!
//! Source: `tensorflow_serving/g3doc/api_rest.md`, and KServe's V1 protocol. A function has one signature, `serving_default`. What JSON
//! has no word for is refused here: the tokens `NaN` and `Infinity`, which TF Serving takes, are no JSON.

mod examples;
mod status;

pub(crate) use examples::{classify_response, examples, regress_response};
pub(crate) use status::{metadata, status};

use super::{
    Malformed,
    json::{inputs, outputs, walk},
    shown,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use torpor_tensor::{NamedTensor, Signature};

/// The names under which callers may know the signature of a function.
const SIGNATURES: [&str; 2] = ["serving_default", ""];

/// In which form a request has its tensors, and its answer too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A row for each index of the first dimension: `instances` and `predictions`.
    Rows,
    /// A tensor for each name: `inputs` and `outputs`.
    Columns,
}

/// What a path asks of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Predict,
    Classify,
    Regress,
    /// KServe's, which asks for reasons.
    Explain,
}

/// Splits the last segment of a path, such as `add:predict`, at its colon.
pub(crate) fn verb(segment: &str) -> Result<(&str, Verb), Malformed> {
    let verb = match segment.rsplit_once(':') {
        Some((name, "predict")) => Some((name, Verb::Predict)),
        Some((name, "classify")) => Some((name, Verb::Classify)),
        Some((name, "regress")) => Some((name, Verb::Regress)),
        Some((name, "explain")) => Some((name, Verb::Explain)),
        _ => None,
    };
    verb.ok_or_else(|| {
        let segment = shown(segment);
        Malformed(format!("`{segment}` does not end in what to do: `:predict`, `:classify` or `:regress`"))
    })
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `instances` or `inputs`")]
struct RawRequest<'a> {
    #[serde(borrow)]
    signature_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
}

/// Reads the body of a request to predict.
pub(crate) fn predict_request(body: &[u8], signature: &Signature) -> Result<(Vec<NamedTensor>, Layout), Malformed> {
    direct(body, signature).map_or_else(|| any_request(body, signature), Ok)
}

/// Reads a request in one pass: its tensors are read where they begin. It says nothing of what is wrong, and `None` is no judgement.
fn direct(body: &[u8], signature: &Signature) -> Option<(Vec<NamedTensor>, Layout)> {
    let text = std::str::from_utf8(body).ok()?;
    let again = || Malformed("it must be read again".to_owned());
    let mut read = None;
    let mut name = None;
    let rest = walk::object(text, |key, value| {
        let (inputs, layout, rest) = match key.as_ref() {
            "instances" => {
                let (inputs, rest) = inputs::rows(value, "instances", signature)?;
                (inputs, Layout::Rows, rest)
            }
            "inputs" => {
                let (inputs, rest) = inputs::columns(value, "inputs", signature)?;
                (inputs, Layout::Columns, rest)
            }
            key => {
                if key == "signature_name" && name.replace(value).is_some() {
                    return Err(again());
                }
                return walk::behind(value);
            }
        };
        match read.replace((inputs, layout)) {
            None => Ok(rest),
            Some(_) => Err(again()),
        }
    });
    let rest = rest.ok()?;
    let name: Option<Cow<'_, str>> = match name {
        Some(name) => {
            let end = walk::behind(name).ok()?;
            serde_json::from_str(&name[..name.len() - end.len()]).ok()?
        }
        None => None,
    };
    known(name.as_deref()).ok()?;
    read.filter(|_| walk::begun(rest).is_empty())
}

/// Reads a request as a whole, or says what is wrong with it. This takes two passes: serde looks for the end of the tensors, and then
/// their elements are read.
pub(crate) fn any_request(body: &[u8], signature: &Signature) -> Result<(Vec<NamedTensor>, Layout), Malformed> {
    let request: RawRequest = serde_json::from_slice(body)
        .map_err(|error| Malformed(format!("the body is not a request to predict in JSON: {error}")))?;
    known(request.signature_name.as_deref())?;
    match (request.instances, request.inputs) {
        (Some(rows), None) => Ok((inputs::rows(rows.get(), "instances", signature)?.0, Layout::Rows)),
        (None, Some(columns)) => Ok((inputs::columns(columns.get(), "inputs", signature)?.0, Layout::Columns)),
        (Some(_), Some(_)) => {
            Err(Malformed("the request has both `instances` and `inputs`; send one of them".to_owned()))
        }
        (None, None) => Err(Malformed("the request has neither `instances` nor `inputs`".to_owned())),
    }
}

/// The body of the answer to a request to predict.
///
/// # Errors
/// When JSON cannot carry the tensors. Whether they have rows is asked before: [`has_rows`].
pub(crate) fn predict_response(layout: Layout, outputs: &[NamedTensor]) -> Result<Vec<u8>, serde_json::Error> {
    match layout {
        Layout::Rows => outputs::rows("predictions", outputs),
        Layout::Columns => outputs::columns("outputs", outputs),
    }
}

/// Checks that an answer can be given in the form of its request.
pub(crate) fn has_rows(layout: Layout, outputs: &[NamedTensor]) -> Result<(), Malformed> {
    if layout == Layout::Columns || outputs.len() == 1 {
        return Ok(());
    }
    outputs::count(outputs)
        .map(drop)
        .map_err(|why| Malformed(format!("{why}; send `inputs` in the place of `instances`")))
}

/// Checks that a function has the signature of this name.
fn known(name: Option<&str>) -> Result<(), Malformed> {
    match name {
        Some(name) if !SIGNATURES.contains(&name) => {
            let name = shown(name);
            Err(Malformed(format!("there is no signature `{name}`; a function has `serving_default` alone")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use torpor_tensor::{DType, Dim, Shape, Tensor, TensorSpec};

    fn signature() -> Signature {
        let spec = |name: &str, dtype| TensorSpec { name: name.into(), dtype, shape: None };
        Signature { inputs: vec![spec("x", DType::I32), spec("t", DType::Bytes)], outputs: vec![spec("y", DType::I32)] }
    }

    #[track_caller]
    fn refused(body: &str, expected: &str) {
        assert_eq!(predict_request(body.as_bytes(), &signature()).unwrap_err().to_string(), expected);
    }

    #[test]
    fn paths_say_what_to_do() {
        assert_eq!(verb("add:predict"), Ok(("add", Verb::Predict)));
        assert_eq!(verb("1:regress"), Ok(("1", Verb::Regress)));
        for segment in ["add", "add:", "add:Predict", "predict", "add:predict:"] {
            assert!(verb(segment).is_err(), "{segment}");
        }
    }

    #[test]
    fn a_request_has_one_form() {
        let body = br#"{"instances":[{"x":1,"t":"a"}],"signature_name":"serving_default","more":[1]}"#;
        assert_eq!(predict_request(body, &signature()).unwrap().1, Layout::Rows);
        let body = br#"{"inputs":{"x":[1],"t":["a"]},"signature_name":""}"#;
        let (inputs, layout) = predict_request(body, &signature()).unwrap();
        assert_eq!((inputs.len(), layout), (2, Layout::Columns));
        refused(r#"{"instances":[],"inputs":{}}"#, "the request has both `instances` and `inputs`; send one of them");
        refused("{}", "the request has neither `instances` nor `inputs`");
        refused(
            r#"{"instances":[],"signature_name":"other"}"#,
            "there is no signature `other`; a function has `serving_default` alone",
        );
        let at = "the body is not a request to predict in JSON";
        refused(
            "7",
            &format!(
                "{at}: invalid type: integer `7`, expected an object with `instances` or `inputs` at line 1 column 1"
            ),
        );
        refused(r#"{"inputs":{},"inputs":{}}"#, &format!("{at}: duplicate field `inputs` at line 1 column 21"));
        refused(r#"{"inputs":{"x":[NaN]}}"#, &format!("{at}: expected value at line 1 column 17"));
    }

    #[test]
    fn a_deep_array_is_refused() {
        let spec = TensorSpec { name: "x".into(), dtype: DType::I32, shape: Some(vec![Dim::Any]) };
        let signature = Signature { inputs: vec![spec], outputs: vec![] };
        for key in ["instances", "inputs"] {
            let deep = format!("{{\"{key}\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
            let error = predict_request(deep.as_bytes(), &signature).unwrap_err().to_string();
            assert_eq!(error, "input `x`: its arrays nest more than 32 deep");
        }
    }

    #[test]
    fn several_outputs_have_rows_or_are_asked_for_as_columns() {
        let tensor = |length: u64| {
            let data = vec![0; usize::try_from(length).unwrap()];
            Tensor::new(DType::U8, Shape::from([length]), data.into()).unwrap()
        };
        let outputs = [("a".to_owned(), tensor(2)), ("b".to_owned(), tensor(3))];
        assert!(
            has_rows(Layout::Rows, &outputs)
                .unwrap_err()
                .to_string()
                .ends_with("send `inputs` in the place of `instances`")
        );
        assert_eq!(has_rows(Layout::Columns, &outputs), Ok(()));
        assert_eq!(has_rows(Layout::Rows, &outputs[..1]), Ok(()));
        assert_eq!(predict_response(Layout::Rows, &outputs[..1]).unwrap(), br#"{"predictions":[0,0]}"#);
    }

    proptest! {
        #[test]
        fn both_ways_of_reading_agree(
            at in any::<prop::sample::Index>(),
            with in r#"[\[\]\{\}:,"\\0-9a-z.\- ]{0,2}"#,
            name in prop_oneof![Just(r#""serving_default""#), Just("null"), Just("7"), Just(r#""other""#)],
        ) {
            let mut body = format!(
                r#"{{"instances":[{{"x":1,"t":"a"}},{{"t":{{"b64":"YQ=="}},"x":-2}}],"signature_name":{name},"more":[{{}}]}}"#
            );
            let at = at.index(body.len());
            body.replace_range(at..=at, &with);
            if let Some(direct) = direct(body.as_bytes(), &signature()) {
                prop_assert_eq!(any_request(body.as_bytes(), &signature()).unwrap(), direct);
            }
        }

        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = predict_request(&body, &signature());
        }

        #[test]
        fn no_values_make_it_panic(
            key in prop_oneof![Just("instances"), Just("inputs"), Just("examples")],
            values in r#"[\[\]\{\}:,0-9a-z.\-"+ xt]{0,60}"#,
        ) {
            let body = format!("{{\"{key}\":{values}}}");
            if let Some(direct) = direct(body.as_bytes(), &signature()) {
                prop_assert_eq!(any_request(body.as_bytes(), &signature()).unwrap(), direct);
            }
            let _ = examples(body.as_bytes(), &signature());
        }
    }
}
