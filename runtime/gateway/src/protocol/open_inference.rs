//! The Open Inference Protocol (version 2) over REST.
//!
//! Source: the protocol's `inference_rest.md`, and Triton's extensions of it. Tensor data may be flat or nested as deep as the shape;
//! elements are JSON numbers, booleans or strings. Or they are bytes behind the JSON: see `binary.rs`.

mod binary;
mod describe;
mod direct;
mod elements;
mod parameters;
#[cfg(test)]
mod properties;
mod text;
mod write;

pub(crate) use binary::binary_request;
pub(crate) use describe::{
    BatchStats, Config, InferenceStats, Nothing, Stats, Took, model_config, model_metadata, model_statistics,
};
pub(crate) use write::{Output, infer_response, infer_response_size};

use super::{MAX_RANK, MAX_TENSORS, Malformed, shown};
use binary::Behind;
use parameters::Parameters;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, marker::PhantomData, num::NonZeroUsize};
use torpor_tensor::{DType, NamedTensor, Shape, Signature, Tensor};

/// What a caller asks of a model.
#[derive(Debug, PartialEq)]
pub(crate) struct InferRequest {
    /// Comes back with the response.
    pub(crate) id: Option<String>,
    pub(crate) inputs: Vec<NamedTensor>,
    /// The outputs to give, in this order; `None` for all of them.
    pub(crate) outputs: Option<Vec<String>>,
    /// How to give each of `outputs`; nothing where all are given.
    pub(crate) forms: Vec<Form>,
    /// Whether outputs are given as bytes where all are given.
    pub(crate) binary_output: bool,
}

/// How an output is to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// As bytes behind the JSON.
    pub(crate) binary: bool,
    /// So many of its largest elements, with their labels, in its place.
    pub(crate) classes: Option<NonZeroUsize>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `inputs`")]
struct RawRequest<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Few<RawInput<'a>>,
    #[serde(borrow)]
    outputs: Option<Few<RawOutput<'a>>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an input, which is an object with `name`, `shape`, `datatype` and `data`")]
struct RawInput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    shape: &'a RawValue,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "an output, which is an object with `name`")]
struct RawOutput<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
}

/// An array of no more than [`MAX_TENSORS`], so that a body of very many small objects takes no memory.
struct Few<T>(Vec<T>);

/// Reads the body of an inference request for a model that takes and gives `signature`.
pub(crate) fn infer_request(body: &[u8], signature: &Signature) -> Result<InferRequest, Malformed> {
    direct::request(body, signature).map_or_else(|| in_two_passes(body, signature), Ok)
}

/// Reads a request as [`infer_request`] does where it is unusual. Both say the same of every request.
pub(crate) fn in_two_passes(body: &[u8], signature: &Signature) -> Result<InferRequest, Malformed> {
    any_request(body, Behind::nothing(), signature)
}

/// Reads a request in whatever order it has, or says what is wrong with it. This takes two passes: serde looks for the end of each
/// tensor's data, and then its elements are read.
fn any_request(body: &[u8], mut behind: Behind, signature: &Signature) -> Result<InferRequest, Malformed> {
    let request: RawRequest<'_> = serde_json::from_slice(body)
        .map_err(|error| Malformed(format!("the body is not an inference request in JSON: {error}")))?;
    let parameters = Parameters::read(request.parameters).and_then(|parameters| parameters.binary_output());
    let binary_output = parameters.map_err(|what| Malformed(format!("the request: {what}")))?;
    let (mut inputs, mut last) = (Vec::with_capacity(request.inputs.0.len()), None);
    for input in request.inputs.0 {
        let (name, tensor, is_binary) = tensor(input, &mut behind)?;
        inputs.push((name, tensor));
        last = if is_binary { Some(inputs.len() - 1) } else { last };
    }
    behind.finish(last.map(|index| inputs[index].0.as_str()))?;
    let (outputs, forms) = wanted(request.outputs.map(|outputs| outputs.0), binary_output, signature)?;
    Ok(InferRequest { id: request.id.map(Cow::into_owned), inputs, outputs, forms, binary_output })
}

/// The tensor, and whether its data is from behind the JSON.
fn tensor(input: RawInput<'_>, behind: &mut Behind) -> Result<(String, Tensor, bool), Malformed> {
    let RawInput { name, shape, datatype, parameters, data } = input;
    let malformed = |what: String| Malformed(format!("input `{}`: {what}", shown(&name)));
    let Ok(dtype) = datatype.parse::<DType>() else {
        let known = DType::ALL.map(DType::name).join(", ");
        return Err(malformed(format!("there is no datatype `{}`; expected one of {known}", shown(&datatype))));
    };
    let shape: Vec<u64> = serde_json::from_str(shape.get())
        .map_err(|_| malformed("its `shape` must be an array of whole numbers, none of them negative".to_owned()))?;
    if shape.len() > MAX_RANK {
        return Err(malformed(format!("its shape has {} dimensions; at most {MAX_RANK} are read", shape.len())));
    }
    let parameters = Parameters::read(parameters).map_err(malformed)?;
    if parameters.is_elsewhere() {
        return Err(malformed("shared memory is not offered; send the data with the request".to_owned()));
    }
    let size = parameters.size().map_err(malformed)?;
    let tensor = match (data, size) {
        (Some(data), None) => elements::read(dtype, Shape::from(shape), data.get()).map(|(tensor, _)| tensor),
        (None, Some(size)) => behind
            .take(size)
            .and_then(|data| Tensor::new(dtype, Shape::from(shape), data).map_err(|error| error.to_string())),
        (Some(_), Some(_)) => Err("it has both `data` and a `binary_data_size`".to_owned()),
        (None, None) => Err("it has no `data`, and no `binary_data_size` in its `parameters` either".to_owned()),
    };
    let tensor = tensor.map_err(malformed)?;
    Ok((name.into_owned(), tensor, size.is_some()))
}

/// The names of the outputs that are asked for, and the form of each. `binary` is what the request says of all.
fn wanted(
    outputs: Option<Vec<RawOutput<'_>>>,
    binary: bool,
    signature: &Signature,
) -> Result<(Option<Vec<String>>, Vec<Form>), Malformed> {
    // Who lists none wants all of them, as with Triton.
    let Some(outputs) = outputs.filter(|outputs| !outputs.is_empty()) else { return Ok((None, Vec::new())) };
    let (mut names, mut forms) = (Vec::<String>::new(), Vec::new());
    for RawOutput { name, parameters } in outputs {
        if !signature.outputs.iter().any(|spec| spec.name == name) {
            let known = signature.outputs.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", ");
            return Err(Malformed(format!("there is no output `{}`; expected {known}", shown(&name))));
        }
        if names.iter().any(|known| *known == name) {
            return Err(Malformed(format!("output `{name}` is asked for twice")));
        }
        let form = Parameters::read(parameters).and_then(|parameters| {
            if parameters.is_elsewhere() {
                return Err("shared memory is not offered; take the data from the answer".to_owned());
            }
            Ok(Form { binary: parameters.binary()?.unwrap_or(binary), classes: parameters.classes()? })
        });
        forms.push(form.map_err(|what| Malformed(format!("output `{name}`: {what}")))?);
        names.push(name.into_owned());
    }
    Ok((Some(names), forms))
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Array<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Few<T>, A::Error> {
                let mut few = Vec::new();
                while let Some(next) = array.next_element()? {
                    if few.len() == MAX_TENSORS {
                        return Err(A::Error::custom(format_args!(
                            "there are more than {MAX_TENSORS}, which is the most that are read"
                        )));
                    }
                    few.push(next);
                }
                Ok(Few(few))
            }
        }

        deserializer.deserialize_seq(Array(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use torpor_tensor::{Dim, TensorSpec};

    fn signature() -> Signature {
        let spec = |name: &str, dtype| TensorSpec { name: name.into(), dtype, shape: Some(vec![Dim::Any]) };
        Signature { inputs: vec![spec("x", DType::F32)], outputs: vec![spec("y", DType::F32), spec("z", DType::Bytes)] }
    }

    fn parse(body: &str) -> Result<InferRequest, Malformed> {
        infer_request(body.as_bytes(), &signature())
    }

    #[track_caller]
    fn data(datatype: &str, shape: &str, data: &str) -> Vec<u8> {
        let body = format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#);
        parse(&body).unwrap().inputs[0].1.data().to_vec()
    }

    #[track_caller]
    fn refused(body: &str, expected: &str) {
        assert_eq!(parse(body).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_no_object_is_told_without_a_type_of_ours() {
        let at = "the body is not an inference request in JSON";
        let request = "expected an object with `inputs` at line 1 column";
        refused("[]", &format!("{at}: invalid length 0, {request} 2"));
        refused("5", &format!("{at}: invalid type: integer `5`, {request} 1"));
        let input = "an input, which is an object with `name`, `shape`, `datatype` and `data`";
        refused(r#"{"inputs":[5]}"#, &format!("{at}: invalid type: integer `5`, expected {input} at line 1 column 12"));
        let output = "an output, which is an object with `name`";
        let body = r#"{"inputs":[],"outputs":["y"]}"#;
        refused(body, &format!("{at}: invalid type: string \"y\", expected {output} at line 1 column 27"));
    }

    #[track_caller]
    fn bad_data(datatype: &str, shape: &str, data: &str, expected: &str) {
        let body = format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#);
        refused(&body, &format!("input `x`: {expected}"));
    }

    #[test]
    fn flat_and_nested_data_are_the_same() {
        let flat = data("INT32", "[2,2]", "[1,2,3,-4]");
        assert_eq!(flat, data("INT32", "[2,2]", "[[1,2],[3,-4]]"));
        assert_eq!(flat, [1_i32, 2, 3, -4].map(i32::to_le_bytes).concat());
    }

    #[test]
    fn every_datatype_is_read() {
        assert_eq!(data("BOOL", "[2]", "[true,false]"), [1, 0]);
        assert_eq!(data("UINT8", "[1]", "[255]"), [255]);
        assert_eq!(data("UINT16", "[1]", "[65535]"), [255, 255]);
        assert_eq!(data("UINT32", "[1]", "[4294967295]"), [255; 4]);
        assert_eq!(data("UINT64", "[1]", "[18446744073709551615]"), [255; 8]);
        assert_eq!(data("INT8", "[1]", "[-128]"), [0x80]);
        assert_eq!(data("INT16", "[1]", "[-2]"), [0xfe, 0xff]);
        assert_eq!(data("INT64", "[1]", "[-9223372036854775808]"), i64::MIN.to_le_bytes());
        assert_eq!(data("FP16", "[1]", "[1.5]"), [0, 0x3e]);
        assert_eq!(data("BF16", "[1]", "[1]"), [0x80, 0x3f]);
        assert_eq!(data("FP32", "[2]", "[0.1,-0]"), [0.1_f32.to_le_bytes(), (-0.0_f32).to_le_bytes()].concat());
        assert_eq!(data("FP64", "[1]", "[1e300]"), 1e300_f64.to_le_bytes());
        assert_eq!(data("BYTES", "[2]", r#"["é",""]"#), [2, 0, 0, 0, 0xc3, 0xa9, 0, 0, 0, 0]);
    }

    #[test]
    fn scalars_and_empty_tensors_are_read() {
        assert_eq!(data("FP32", "[]", "[1]"), 1_f32.to_le_bytes());
        assert!(data("FP32", "[0]", "[]").is_empty());
        assert!(data("FP32", "[2,0]", "[[],[]]").is_empty());
    }

    #[test]
    fn elements_that_do_not_fit_are_named() {
        bad_data("UINT8", "[2]", "[1,256]", "element 1 is 256, which is no UINT8");
        bad_data("INT32", "[1]", "[1.5]", "element 0 is 1.5, which is no INT32");
        bad_data("INT32", "[1]", r#"["1"]"#, "element 0 is a string, which is no INT32");
        bad_data("FP32", "[1]", "[1e39]", "element 0 is 1e39, which is no FP32");
        bad_data("FP64", "[1]", "[1e999]", "element 0 is 1e999, which is no FP64");
        bad_data("INT64", "[1]", "[9223372036854775808]", "element 0 is 9223372036854775808, which is no INT64");
        bad_data("UINT64", "[2]", "[0, 18446744073709551616]", "element 1 is 18446744073709551616, which is no UINT64");
        bad_data("UINT8", "[1]", "[-1]", "element 0 is -1, which is no UINT8");
        bad_data("INT8", "[1]", "[-0]", "element 0 is -0, which is no INT8");
        bad_data("INT8", "[1]", "[1e1]", "element 0 is 1e1, which is no INT8");
        bad_data("FP32", "[1]", "[true]", "element 0 is true, which is no FP32");
        bad_data("FP32", "[1]", "[{\"x\":[]}]", "element 0 is an object, which is no FP32");
        bad_data("FP16", "[1]", "[70000]", "element 0 is 70000, which is no FP16");
        bad_data("BOOL", "[1]", "[1]", "element 0 is 1, which is no BOOL");
        bad_data("BYTES", "[1]", "[null]", "element 0 is null, which is no BYTES");
        bad_data("BYTES", "[1]", r#"["\ud800"]"#, "element 0 is a string with half of a character, which is no BYTES");
        let long = format!("element 0 is {}…, which is no INT32", "1".repeat(40));
        bad_data("INT32", "[1]", &format!("[{}]", "1".repeat(100_000)), &long);
    }

    #[test]
    fn data_must_fit_the_shape() {
        bad_data("FP32", "[3]", "[1,2]", "the shape [3] asks for 3 elements, but there are 2");
        bad_data("FP32", "[1]", "[1,2]", "the shape [1] asks for 1 elements, but there are more");
        bad_data(
            "FP32",
            "[2,2]",
            "[[1,2,3],[4]]",
            "a row of dimension 1 must have 2 elements, as the shape [2, 2] says",
        );
        bad_data("FP32", "[2,1]", "[[1],2]", "element 1 is 2 where an array of dimension 1 belongs");
        bad_data("FP32", "[2]", "[[1],[2]]", "element 0 is an array, which is no FP32");
        bad_data("FP32", "[1]", "1", "its `data` must be an array");
        bad_data("FP32", "[4294967296,4294967296]", "[1]", "the shape [4294967296, 4294967296] has too many elements");
    }

    #[test]
    fn a_wrong_shape_names_its_tensor() {
        for shape in ["[-1]", "[1.5]", "3", "[\"1\"]"] {
            bad_data("FP32", shape, "[1]", "its `shape` must be an array of whole numbers, none of them negative");
        }
    }

    #[test]
    fn a_wrong_request_says_where() {
        refused("{", "the body is not an inference request in JSON: EOF while parsing an object at line 1 column 1");
        refused("{}", "the body is not an inference request in JSON: missing field `inputs` at line 1 column 2");
        let body = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FLOAT","data":[1]}]}"#;
        assert!(
            parse(body)
                .unwrap_err()
                .to_string()
                .starts_with("input `x`: there is no datatype `FLOAT`; expected one of BOOL,")
        );
        let body = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}"#;
        assert!(parse(body).unwrap_err().to_string().starts_with("input `x`: its `binary_data_size` means nothing"));
        let body = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32"}]}"#;
        assert!(parse(body).unwrap_err().to_string().starts_with("input `x`: it has no `data`"));
        refused(r#"{"inputs":[],"outputs":[{"name":"w"}]}"#, "there is no output `w`; expected `y`, `z`");
        refused(r#"{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}"#, "output `y` is asked for twice");
    }

    #[test]
    fn wanted_outputs_keep_their_order() {
        let request = parse(r#"{"id":"7","inputs":[],"outputs":[{"name":"z"},{"name":"y"}]}"#).unwrap();
        assert_eq!((request.id.as_deref(), request.outputs), (Some("7"), Some(vec!["z".into(), "y".into()])));
    }

    #[test]
    fn parameters_say_how_outputs_are_given() {
        let body = r#"{"parameters":{"binary_data_output":true,"priority":1},"inputs":[],"outputs":[
            {"name":"z","parameters":{"binary_data":false}},{"name":"y","parameters":{"classification":2}}]}"#;
        let request = parse(body).unwrap();
        let classes = NonZeroUsize::new(2);
        assert_eq!(request.forms, [Form { binary: false, classes: None }, Form { binary: true, classes }]);
        assert!(parse(r#"{"parameters":{"binary_data_output":true},"inputs":[]}"#).unwrap().binary_output);
        let what = "`parameters` must be an object whose values are booleans, numbers or strings";
        refused(r#"{"parameters":[],"inputs":[]}"#, &format!("the request: {what}"));
        refused(r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"a":[]}}]}"#, &format!("output `y`: {what}"));
        let wrong = "output `y`: its parameter `classification` must be a whole number that is not negative";
        refused(r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":-1}}]}"#, wrong);
        let input = r#"{"name":"x","shape":[1],"datatype":"INT8","data":[1],"parameters":{"a":{}}}"#;
        refused(&format!(r#"{{"inputs":[{input}]}}"#), &format!("input `x`: {what}"));
    }

    #[test]
    fn many_tensors_and_deep_ones_are_refused() {
        let input = r#"{"name":"x","shape":[],"datatype":"INT8","data":[1]}"#;
        let many = format!(r#"{{"inputs":[{}]}}"#, vec![input; MAX_TENSORS + 1].join(","));
        assert!(parse(&many).unwrap_err().to_string().contains("more than 256"));
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        for body in [
            format!(r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"INT8","data":{deep}}}]}}"#),
            format!(r#"{{"inputs":[{{"name":"x","shape":{deep},"datatype":"INT8","data":[1]}}]}}"#),
            format!(r#"{{"inputs":{deep}}}"#),
            format!(r#"{{"inputs":[],"parameters":{{"x":{deep}}}}}"#),
            deep,
        ] {
            parse(&body).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = infer_request(&body, &signature());
        }

        #[test]
        fn no_data_makes_it_panic(
            data in r#"[\[\],0-9a-z.\-"+ ]{0,40}"#,
            shape in prop::collection::vec(0_u64..4, 0..4),
            dtype in 0..DType::ALL.len(),
        ) {
            let datatype = DType::ALL[dtype].name();
            let body = format!(r#"{{"inputs":[{{"name":"x","shape":{shape:?},"datatype":"{datatype}","data":{data}}}]}}"#);
            let _ = parse(&body);
        }
    }
}
