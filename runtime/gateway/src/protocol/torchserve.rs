//! TorchServe's inference interface over REST.
//!
//! Source: `docs/inference_api.md` and `docs/management_api.md` of pytorch/serve. There a handler makes what it likes of a body. Here a
//! function says what it takes: one with a single input of `BYTES` gets the body as it is, or the part `data` of a form; all others get
//! JSON. A body is one example: where a function wants one more dimension, that counts examples, and its answer is that of the one.

mod form;

use super::{
    Malformed,
    json::{Binary, Data, inputs, outputs::Members},
    media::MediaType,
};
use serde_json::{Value, json, value::RawValue};
use torpor_tensor::{DType, NamedTensor, Shape, Signature, Tensor, TensorSpec};

/// Names of a part, or of a member of an object, that stand for the only input.
const UNNAMED: [&str; 2] = ["data", "body"];

/// What a body asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct Prediction {
    pub(crate) inputs: Vec<NamedTensor>,
    /// Whether the first dimension was added here, so that the answer must not have it.
    pub(crate) one: bool,
}

/// An answer in the form that its content has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

/// Reads the body of a request to predict.
pub(crate) fn predict_request(media: &MediaType, body: &[u8], signature: &Signature) -> Result<Prediction, Malformed> {
    let specs = &signature.inputs;
    let tensors = match (media.essence.as_str(), &specs[..]) {
        ("multipart/form-data", _) => form(media, body, specs)?,
        (_, [spec]) if spec.dtype == DType::Bytes && !media.is_json() => vec![(spec.name.clone(), raw(spec, body)?)],
        _ => json(body, signature)?,
    };
    let specs = tensors.iter().map(|(name, _)| specs.iter().find(|spec| spec.name == *name));
    let lacks = |((_, tensor), spec): (&NamedTensor, Option<&TensorSpec>)| {
        spec.and_then(|spec| spec.shape.as_ref()).is_some_and(|dims| dims.len() == tensor.shape().rank() + 1)
    };
    let one = !tensors.is_empty() && tensors.iter().zip(specs).all(lacks);
    let inputs = if one { tensors.into_iter().map(example).collect::<Result<_, _>>()? } else { tensors };
    Ok(Prediction { inputs, one })
}

/// The tensor with a first dimension of size 1.
fn example((name, tensor): NamedTensor) -> Result<NamedTensor, Malformed> {
    let dims = [&[1], tensor.shape().dims()].concat();
    let tensor = Tensor::new(tensor.dtype(), Shape::from(dims), tensor.data().clone());
    Ok((name, tensor.map_err(|error| Malformed(error.to_string()))?))
}

/// One element of `BYTES`.
fn raw(spec: &TensorSpec, body: &[u8]) -> Result<Tensor, Malformed> {
    let tensor = Tensor::from_elements(Shape::default(), &[body]);
    tensor.map_err(|error| Malformed(format!("input `{}`: {error}", spec.name)))
}

/// Reads an object of inputs, or the values of the only one. `data` and `body` stand for the only one, too.
fn json(body: &[u8], signature: &Signature) -> Result<Vec<NamedTensor>, Malformed> {
    let text: &RawValue = serde_json::from_slice(body).map_err(|error| {
        let expected = inputs::names(&signature.inputs);
        Malformed(format!("the body is no JSON, as the inputs {expected} want it: {error}"))
    })?;
    let text = text.get();
    if let [spec] = &signature.inputs[..]
        && let Some(values) = unnamed(text, spec)
    {
        return Ok(vec![(spec.name.clone(), inputs::value(spec, values)?.0)]);
    }
    Ok(inputs::columns(text, "body", signature)?.0)
}

/// The values in an object whose only member stands for the only input.
fn unnamed<'t>(text: &'t str, spec: &TensorSpec) -> Option<&'t str> {
    let name = UNNAMED.into_iter().filter(|name| *name != spec.name).find(|name| {
        let inside = text.strip_prefix('{').map(super::json::walk::begun);
        inside.and_then(|inside| inside.strip_prefix('"')?.strip_prefix(name)?.strip_prefix('"')).is_some()
    })?;
    let (mut values, mut members) = (None, 0);
    super::json::walk::object(text, |key, value| {
        members += 1;
        values = (key == name).then_some(value);
        super::json::walk::behind(value)
    })
    .ok()?;
    values.filter(|_| members == 1)
}

/// Reads a form: each part is an input. One of `BYTES` is the part as it is; all others are JSON.
fn form(media: &MediaType, body: &[u8], specs: &[TensorSpec]) -> Result<Vec<NamedTensor>, Malformed> {
    let Some(boundary) = media.parameter("boundary") else {
        return Err(Malformed("the content type of the form has no `boundary`".to_owned()));
    };
    let mut tensors: Vec<NamedTensor> = Vec::new();
    for part in form::parts(body, boundary)? {
        let spec = match specs {
            [spec] if UNNAMED.contains(&part.name.as_str()) => spec,
            specs => inputs::named(specs, &part.name)?,
        };
        if tensors.iter().any(|(name, _)| *name == spec.name) {
            return Err(Malformed(format!("input `{}` is given twice", spec.name)));
        }
        let tensor = if spec.dtype == DType::Bytes {
            raw(spec, part.content)?
        } else {
            let text: &RawValue = serde_json::from_slice(part.content)
                .map_err(|error| Malformed(format!("input `{}`: the part is no JSON: {error}", spec.name)))?;
            inputs::value(spec, text.get())?.0
        };
        tensors.push((spec.name.clone(), tensor));
    }
    Ok(tensors)
}

/// The answer to a request to predict: one text or one string of bytes as it is, and JSON else.
///
/// # Errors
/// When JSON cannot carry the tensors.
pub(crate) fn predict_response(one: bool, outputs: &[NamedTensor]) -> Result<Answer, serde_json::Error> {
    if let [(_, tensor)] = outputs
        && tensor.dtype() == DType::Bytes
        && tensor.elements() == 1
        && (one || tensor.shape().rank() == 0)
    {
        let element = tensor.bytes_elements().ok().and_then(|mut elements| elements.next()).unwrap_or_default();
        let text = std::str::from_utf8(element).is_ok();
        let content_type = if text { "text/plain; charset=utf-8" } else { "application/octet-stream" };
        return Ok(Answer { content_type, body: element.to_vec() });
    }
    let one = one && outputs.iter().all(|(_, tensor)| tensor.shape().dims().first() == Some(&1));
    let data = |tensor| match one {
        true => Data::rows(tensor, Binary::WhereNeeded).unwrap_or_else(|| Data::nested(tensor, Binary::WhereNeeded)),
        false => Data::nested(tensor, Binary::WhereNeeded),
    };
    let mut body = Vec::with_capacity(super::json::size(outputs));
    match outputs {
        [(_, tensor)] => serde_json::to_writer(&mut body, &data(tensor))?,
        outputs => {
            let members = outputs.iter().map(|(name, tensor)| (name.as_str(), data(tensor)));
            serde_json::to_writer(&mut body, &Members(members.collect()))?;
        }
    }
    Ok(Answer { content_type: "application/json", body })
}

/// A model as the management interface lists it. `url` names its content.
pub(crate) fn listed(name: &str, url: &str) -> Value {
    json!({ "modelName": name, "modelUrl": url })
}

/// What the management interface tells of a version of a model.
pub(crate) struct Description<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: u64,
    pub(crate) url: &'a str,
    /// Whether it stays warm.
    pub(crate) kept: bool,
    /// Requests that may run at the same time.
    pub(crate) most: usize,
    pub(crate) is_warm: bool,
}

impl Description<'_> {
    /// The body. A warm function is one worker that is ready; requests are told apart by the backend, so there is no batch here.
    pub(crate) fn body(&self) -> Value {
        let worker = json!({ "id": "1", "status": "READY", "gpu": false });
        json!([{
            "modelName": self.name,
            "modelVersion": self.version.to_string(),
            "modelUrl": self.url,
            "runtime": "wasm",
            "minWorkers": u8::from(self.kept),
            "maxWorkers": self.most,
            "batchSize": 1,
            "maxBatchDelay": 0,
            "loadedAtStartup": self.kept,
            "workers": if self.is_warm { vec![worker] } else { Vec::new() },
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use torpor_tensor::Dim;

    fn spec(name: &str, dtype: DType, rank: usize) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: Some(vec![Dim::Any; rank]) }
    }

    fn bytes() -> Signature {
        Signature { inputs: vec![spec("content", DType::Bytes, 1)], outputs: vec![] }
    }

    fn numbers() -> Signature {
        Signature { inputs: vec![spec("x", DType::I32, 2), spec("y", DType::I32, 2)], outputs: vec![] }
    }

    fn read(content_type: &str, body: &[u8], signature: &Signature) -> Result<Prediction, String> {
        predict_request(&MediaType::parse(content_type), body, signature).map_err(|malformed| malformed.to_string())
    }

    fn texts(elements: &[&[u8]]) -> Vec<NamedTensor> {
        vec![("content".to_owned(), Tensor::from_elements([elements.len() as u64].into(), elements).unwrap())]
    }

    #[test]
    fn a_body_is_the_only_input() {
        for content_type in ["", "image/png", "application/x-www-form-urlencoded"] {
            let read = read(content_type, b"\xff\0", &bytes()).unwrap();
            assert_eq!(read, Prediction { inputs: texts(&[b"\xff\0"]), one: true });
        }
        let json = "application/json";
        for body in [
            r#""hi""#,
            r#"{"content":"hi"}"#,
            r#"{"data":"hi"}"#,
            r#"{ "body" : {"b64":"aGk="} }"#,
            r#"{"b64":"aGk="}"#,
        ] {
            assert_eq!(
                read(json, body.as_bytes(), &bytes()),
                Ok(Prediction { inputs: texts(&[b"hi"]), one: true }),
                "{body}"
            );
        }
        for body in [r#"["a","b"]"#, r#"{"content":["a","b"]}"#, r#"{"data":["a","b"]}"#] {
            assert_eq!(
                read(json, body.as_bytes(), &bytes()),
                Ok(Prediction { inputs: texts(&[b"a", b"b"]), one: false })
            );
        }
    }

    #[test]
    fn inputs_are_members_or_parts() {
        let body = br#"{"x":[1,2],"y":[3,4]}"#;
        let by_json = read("application/json", body, &numbers()).unwrap();
        assert!(by_json.one);
        assert_eq!(by_json.inputs[1].1.shape().dims(), [1, 2]);
        // Who sends no type, as curl does with `-T`, means JSON where nothing else can be.
        assert_eq!(read("", body, &numbers()).as_ref(), Ok(&by_json));
        let form = "--b\r\ncontent-disposition: form-data; name=\"x\"\r\n\r\n[1,2]\r\n--b\r\n\
                    Content-Disposition: form-data; name=y\r\n\r\n[3,4]\r\n--b--\r\n";
        assert_eq!(read("multipart/form-data; boundary=b", form.as_bytes(), &numbers()).as_ref(), Ok(&by_json));
        let body = br#"{"x":[[1,2]],"y":[[3,4]]}"#;
        assert_eq!(read("application/json", body, &numbers()).unwrap(), Prediction { one: false, ..by_json });
    }

    #[test]
    fn a_part_is_the_only_input() {
        let form = b"--b\r\nContent-Disposition: form-data; name=\"data\"; filename=\"a\"\r\n\r\n\xff\r\n--b--";
        let read = read("multipart/form-data; boundary=b", form, &bytes()).unwrap();
        assert_eq!(read, Prediction { inputs: texts(&[b"\xff"]), one: true });
    }

    #[test]
    fn what_is_wrong_is_told() {
        let check = |content_type, body: &[u8], signature: &Signature, expected: &str| {
            let error = read(content_type, body, signature).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        };
        let form = "multipart/form-data; boundary=b";
        check("multipart/form-data", b"", &bytes(), "the content type of the form has no `boundary`");
        let part = |name: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n7\r\n");
        check(form, format!("{}--b--", part("q")).as_bytes(), &numbers(), "there is no input `q`; expected `x`, `y`");
        check(form, format!("{0}{0}--b--", part("x")).as_bytes(), &numbers(), "input `x` is given twice");
        check("", b"\xff", &numbers(), "the body is no JSON, as the inputs `x`, `y` want it");
        check("application/json", b"[1]", &numbers(), "`body` must be an object with the values of each");
        check("application/json", br#"{"x":"a"}"#, &numbers(), "input `x`: it is a string, which is no INT32");
        check("application/json", br#"{"data":1}"#, &numbers(), "there is no input `data`; expected `x`, `y`");
        check("application/json", "[".repeat(200_000).as_bytes(), &bytes(), "the body is no JSON");
    }

    #[test]
    fn one_example_has_one_answer() {
        let tensor = |dims: &[u64]| {
            let shape = Shape::from(dims);
            Tensor::new(DType::U8, shape.clone(), vec![7; shape.elements().unwrap()].into()).unwrap()
        };
        let text = |one, outputs: &[NamedTensor]| {
            let Answer { content_type, body } = predict_response(one, outputs).unwrap();
            (content_type, String::from_utf8_lossy(&body).into_owned())
        };
        let json = |text: &str| ("application/json", text.to_owned());
        assert_eq!(text(true, &[("a".into(), tensor(&[1, 2]))]), json("[7,7]"));
        assert_eq!(text(false, &[("a".into(), tensor(&[1, 2]))]), json("[[7,7]]"));
        let two = [("a".into(), tensor(&[1])), ("b".into(), tensor(&[1, 1]))];
        assert_eq!(text(true, &two), json(r#"{"a":7,"b":[7]}"#));
        let two = [("a".into(), tensor(&[1])), ("b".into(), tensor(&[2]))];
        assert_eq!(text(true, &two), json(r#"{"a":[7],"b":[7,7]}"#));
        assert_eq!(text(true, &texts(&[b"hi"])), ("text/plain; charset=utf-8", "hi".to_owned()));
        assert_eq!(text(true, &texts(&[b"\xff"])).0, "application/octet-stream");
        assert_eq!(text(false, &texts(&[b"hi"])), json(r#"["hi"]"#));
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(
            content_type in prop_oneof![Just(""), Just("application/json"), Just("multipart/form-data; boundary=b")],
            body in prop_oneof![prop::collection::vec(any::<u8>(), 0..100), r#"[\[\]\{\}:,0-9.\-"xyb]{0,40}"#.prop_map(String::into_bytes)],
        ) {
            let _ = read(content_type, &body, &bytes());
            let _ = read(content_type, &body, &numbers());
        }
    }
}
