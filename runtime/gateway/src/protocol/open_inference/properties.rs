//! What holds for all tensors and texts: that what is written is read again, that numbers are the nearest ones, and that a request
//! means the same whichever way it is read.

use super::*;
use half::{bf16, f16};
use proptest::prelude::*;
use serde_json::{Value, json};
use torpor_tensor::Tensor;

/// Any tensor that JSON can say, of two dimensions. Infinities and NaN have no word in it, and `BYTES` must be text.
fn tensor() -> impl Strategy<Value = Tensor> {
    (0..DType::ALL.len(), 0_u64..5, 0_u64..5).prop_flat_map(|(index, rows, columns)| {
        let (dtype, shape) = (DType::ALL[index], Shape::from([rows, columns]));
        let count = shape.elements().unwrap();
        let numbers = prop::collection::vec(any::<u64>(), count);
        let texts = prop::collection::vec(any::<String>(), count);
        (numbers, texts).prop_map(move |(numbers, texts)| match dtype.size() {
            None => Tensor::from_elements(shape.clone(), &texts).unwrap(),
            Some(size) => {
                let element = |bits: &u64| finite(dtype, &bits.to_le_bytes()[..size]);
                let data: Vec<u8> = numbers.iter().flat_map(element).collect();
                Tensor::new(dtype, shape.clone(), data.into()).unwrap()
            }
        })
    })
}

/// One element of `dtype` with these bits, or a near one that is finite.
fn finite(dtype: DType, bits: &[u8]) -> Vec<u8> {
    let mut bits = bits.to_vec();
    let is_finite = match dtype {
        DType::Bool => return vec![bits[0] & 1],
        DType::F16 => f16::from_le_bytes([bits[0], bits[1]]).is_finite(),
        DType::Bf16 => bf16::from_le_bytes([bits[0], bits[1]]).is_finite(),
        DType::F32 => f32::from_le_bytes(bits[..].try_into().unwrap()).is_finite(),
        DType::F64 => f64::from_le_bytes(bits[..].try_into().unwrap()).is_finite(),
        _ => true,
    };
    if !is_finite {
        // The highest bit of the exponent.
        *bits.last_mut().unwrap() ^= 0x40;
    }
    bits
}

/// What our own answer says of a tensor.
fn written(tensor: &Tensor) -> Value {
    let response = infer_response("m", 1, None, &[Output::json("x", tensor)]).unwrap();
    let mut response: Value = serde_json::from_slice(&response).unwrap();
    response["outputs"][0].take()
}

/// The answer's own text of the elements. Reading it as a `Value` would round numbers.
fn text(tensor: &Tensor) -> String {
    let response = infer_response("m", 1, None, &[Output::json("x", tensor)]).unwrap();
    let (_, text) = std::str::from_utf8(&response).unwrap().split_once(r#""data":"#).unwrap();
    text.strip_suffix("}]}").unwrap().to_owned()
}

/// The elements of a flat array of scalars, each as it is written.
fn split(array: &str) -> Vec<&str> {
    let raw: Vec<&RawValue> = serde_json::from_str(array).unwrap();
    raw.into_iter().map(RawValue::get).collect()
}

/// The bytes of one element.
fn element(dtype: DType, text: &str) -> Option<Vec<u8>> {
    let (tensor, rest) =
        elements::read(dtype, Shape::from([1]), &format!("[{text}] ")).map(|(t, r)| (t, r.to_owned())).ok()?;
    assert_eq!(rest, " ");
    Some(tensor.data().to_vec())
}

/// A request with the members of its one input in the order that `order` says, and `space` wherever there may be some.
fn request(tensor: &Tensor, data: &str, order: usize, space: &str) -> String {
    let (dims, datatype) = (tensor.shape().dims(), tensor.dtype());
    let mut members = vec![
        format!(r#""name"{space}:{space}"x""#),
        format!(r#""shape":{space}{dims:?}"#),
        format!(r#""datatype":"{datatype}"{space}"#),
        format!(r#""data"{space}:{space}{data}{space}"#),
        r#""parameters":{"a":1}"#.to_owned(),
    ];
    let mut ordered = Vec::new();
    let mut order = order;
    while !members.is_empty() {
        ordered.push(members.remove(order % members.len()));
        order /= 3;
    }
    let input = ordered.join(&format!("{space},{space}"));
    format!(r#"{space}{{"id":"7",{space}"inputs"{space}:[{space}{{{input}}}{space}],"other":null}}{space}"#)
}

fn nested(tensor: &Tensor, flat: &str, space: &str) -> String {
    let (elements, columns) = (split(flat), usize::try_from(tensor.shape().dims()[1]).unwrap());
    let rows = (0..usize::try_from(tensor.shape().dims()[0]).unwrap()).map(|row| {
        let row = elements[row * columns..(row + 1) * columns].join(&format!(",{space}"));
        format!("{space}[{space}{row}{space}]")
    });
    format!("[{}{space}]", rows.collect::<Vec<_>>().join(","))
}

#[test]
fn arrays_of_any_depth_are_refused_and_not_followed() {
    let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
    for shape in ["[1]".to_owned(), format!("{:?}", [1; MAX_RANK])] {
        let body = format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"FP32","data":{deep}}}]}}"#);
        let error = infer_request(body.as_bytes(), &Signature::default()).unwrap_err();
        assert_eq!(error.to_string(), "input `x`: element 0 is an array, which is no FP32");
    }
    let body = format!(r#"{{"inputs":[],"parameters":{deep}}}"#);
    let error = infer_request(body.as_bytes(), &Signature::default()).unwrap_err();
    assert!(error.to_string().starts_with("the request: `parameters` must be an object"), "{error}");
    let body = format!(r#"{{"inputs":[],"other":{deep}}}"#);
    infer_request(body.as_bytes(), &Signature::default()).unwrap();
}

#[test]
fn a_usual_request_takes_one_pass() {
    let tensor = Tensor::new(DType::U8, [1, 2].into(), vec![1, 2].into()).unwrap();
    let direct = |order| direct::request(request(&tensor, "[[1,2]]", order, " ").as_bytes(), &Signature::default());
    assert_eq!(direct(0).unwrap().inputs, [("x".to_owned(), tensor.clone())]);
    // `data` comes first here, so nobody knows what it is.
    assert_eq!(direct(3), None);
}

#[test]
fn elements_lie_where_backends_can_read_them() {
    for count in [1, 3, 100, 100_000_u64] {
        let data = vec!["0.5"; usize::try_from(count).unwrap()].join(",");
        let data = format!("[{data}]");
        let (tensor, _) = elements::read(DType::F64, Shape::from([count]), &data).unwrap();
        assert!(tensor.data().as_ptr().cast::<f64>().is_aligned());
    }
}

#[test]
fn what_comes_twice_is_refused() {
    for twice in [r#""name":"x""#, r#""shape":[1]"#, r#""datatype":"INT8""#, r#""data":[1]"#] {
        let body =
            format!(r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"INT8","data":[1],{twice}}}],"outputs":null}}"#);
        let error = infer_request(body.as_bytes(), &Signature::default()).unwrap_err().to_string();
        assert!(error.contains("duplicate field"), "{error}");
    }
    let error = infer_request(br#"{"inputs":[],"inputs":[]}"#, &Signature::default()).unwrap_err().to_string();
    assert!(error.contains("duplicate field `inputs`"), "{error}");
}

#[test]
fn what_json_does_not_have_is_no_number() {
    for text in
        ["inf", "-inf", "nan", "NaN", "Infinity", "+1", ".5", "5.", "5.e1", "05", "-", "-.5", "1e", "1e+", "1f", ""]
    {
        for dtype in DType::ALL {
            assert_eq!(element(dtype, text), None, "{text} is read as {dtype}");
        }
    }
    for text in ["0", "-0", "-0.0", "0.5", "5e1", "5E+1", "5e-1", "123.456"] {
        assert!(element(DType::F64, text).is_some(), "{text} is not read");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(tensor in tensor(), order in 0_usize..243, space in "[ \n\t\r]{0,2}") {
        let flat = text(&tensor);
        for data in [nested(&tensor, &flat, &space), flat] {
            let read = infer_request(request(&tensor, &data, order, &space).as_bytes(), &Signature::default()).unwrap();
            prop_assert_eq!(read.id.as_deref(), Some("7"));
            prop_assert_eq!(&read.inputs, &[("x".to_owned(), tensor.clone())]);
        }
    }

    #[test]
    fn json_and_bytes_say_the_same(tensors in prop::collection::vec((tensor(), any::<bool>()), 0..5)) {
        // Out as bytes or as JSON, and in again as what came out, whichever it was.
        let outputs: Vec<_> = tensors.iter().enumerate().map(|(index, (tensor, binary))| Output {
            name: format!("t{index}"), tensor: tensor.clone(), binary: *binary,
        }).collect();
        let head = infer_response("m", 1, Some("7"), &outputs).unwrap();
        let answer: Value = serde_json::from_slice(&head).unwrap();
        let mut body: Vec<u8> = String::from_utf8(head).unwrap().replacen("\"outputs\"", "\"inputs\"", 1).into_bytes();
        let length = body.len();
        for output in outputs.iter().filter(|output| output.binary) {
            body.extend_from_slice(output.tensor.data());
        }
        for (output, told) in outputs.iter().zip(answer["outputs"].as_array().unwrap()) {
            let size = if output.binary { json!(output.tensor.data().len()) } else { Value::Null };
            prop_assert_eq!(&told["parameters"]["binary_data_size"], &size);
            prop_assert_eq!(told.get("data").is_some(), !output.binary);
        }
        let read = binary_request(&body.into(), length, &Signature::default()).unwrap();
        prop_assert_eq!(read.id.as_deref(), Some("7"));
        let expected: Vec<_> = outputs.iter().map(|output| (output.name.clone(), output.tensor.clone())).collect();
        prop_assert_eq!(read.inputs, expected);
    }

    #[test]
    fn answers_are_json(tensor in tensor()) {
        let output = written(&tensor);
        prop_assert_eq!(&output["datatype"], tensor.dtype().name());
        prop_assert_eq!(&output["shape"], &json!(tensor.shape().dims()));
        prop_assert_eq!(output["data"].as_array().unwrap().len(), tensor.elements());
    }

    #[test]
    fn numbers_are_the_nearest(text in r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?") {
        let (double, single): (f64, f32) = (text.parse().unwrap(), text.parse().unwrap());
        prop_assert_eq!(element(DType::F64, &text), double.is_finite().then(|| double.to_le_bytes().to_vec()));
        prop_assert_eq!(element(DType::F32, &text), single.is_finite().then(|| single.to_le_bytes().to_vec()));
    }

    #[test]
    fn whole_numbers_are_those_of_rust(text in "-?[0-9]{1,22}") {
        let canonical = text.trim_start_matches('-').trim_start_matches('0').len() == text.trim_start_matches('-').len();
        let expected = if canonical || text == "0" { text.parse::<i64>().ok() } else { None };
        prop_assert_eq!(element(DType::I64, &text), expected.map(|value| value.to_le_bytes().to_vec()));
    }

    #[test]
    fn both_ways_of_reading_agree(
        tensor in tensor(),
        order in 0_usize..243,
        changes in prop::collection::vec((any::<prop::sample::Index>(), r#"[\[\]{}:,"\\0-9eE.\- a-z]"#), 0..3),
    ) {
        let mut body = request(&tensor, &text(&tensor), order, "");
        for (index, with) in changes {
            let at = index.index(body.len());
            if body.is_char_boundary(at) && body.is_char_boundary(at + 1) {
                body.replace_range(at..=at, &with);
            }
        }
        if let Some(direct) = direct::request(body.as_bytes(), &Signature::default()) {
            prop_assert_eq!(in_two_passes(body.as_bytes(), &Signature::default()).unwrap(), direct);
        }
    }
}
