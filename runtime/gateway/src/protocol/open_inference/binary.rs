//! The binary tensor data extension: tensors as bytes behind the JSON of a request or an answer, one after the other, each as long
//! as its `binary_data_size` says.
//!
//! Source: Triton's `extension_binary_data.md`. The bytes of a tensor are a part of the body that came from the socket, and are
//! not copied here. Where they lie in memory is up to whoever read the body; a backend copies those that are not aligned for it.

use super::{InferRequest, MAX_RANK, Malformed, any_request, shown};
use bytes::Bytes;
use torpor_tensor::{DType, Dim, Shape, Signature, Tensor, TensorSpec};

/// The bytes behind the JSON of a request, as far as they are no input's yet.
pub(super) struct Behind {
    /// `None` where no header says how long the JSON is, so that the whole body is.
    rest: Option<Bytes>,
}

impl Behind {
    pub(super) fn nothing() -> Self {
        Behind { rest: None }
    }

    /// Takes the next bytes, for an input that says that so many are its data.
    pub(super) fn take(&mut self, size: usize) -> Result<Bytes, String> {
        let Some(rest) = &mut self.rest else {
            return Err("its `binary_data_size` means nothing without the header `inference-header-content-length`, \
                        which says how long the JSON before the data is"
                .to_owned());
        };
        match rest.len() {
            left if left < size => {
                Err(format!("its `binary_data_size` is {size}, but there are only {left} bytes left in the body"))
            }
            _ => Ok(rest.split_to(size)),
        }
    }

    /// Checks that every byte was some input's. `last` is the input that took the last ones.
    pub(super) fn finish(self, last: Option<&str>) -> Result<(), Malformed> {
        match (self.rest.map_or(0, |rest| rest.len()), last) {
            (0, _) => Ok(()),
            (left, Some(last)) => Err(Malformed(format!(
                "input `{}`: {left} bytes follow its data, and no other input's `binary_data_size` counts them",
                shown(last)
            ))),
            (left, None) => {
                Err(Malformed(format!("{left} bytes follow the JSON, but no input has a `binary_data_size`")))
            }
        }
    }
}

/// Reads a request whose JSON is `head` bytes long, as a header says, and whose binary tensors follow it.
pub(crate) fn binary_request(body: &Bytes, head: usize, signature: &Signature) -> Result<InferRequest, Malformed> {
    if head > body.len() {
        return Err(Malformed(format!(
            "`inference-header-content-length` is {head}, but the body has only {} bytes",
            body.len()
        )));
    }
    if head == 0 {
        return raw_request(body, signature);
    }
    any_request(&body[..head], Behind { rest: Some(body.slice(head..)) }, signature)
}

/// Reads a request that has no JSON at all: the data of the only input of a function, which comes to be called by what it takes.
/// Its shape is the declared one, of which one dimension may be free. A `BYTES` input is one element, without its length.
fn raw_request(body: &Bytes, signature: &Signature) -> Result<InferRequest, Malformed> {
    let [spec] = signature.inputs.as_slice() else {
        let count = signature.inputs.len();
        return Err(Malformed(format!(
            "a request without JSON is for a model with one input, and this one has {count}"
        )));
    };
    let malformed = |what: String| Malformed(format!("input `{}`: {what}", spec.name));
    let tensor = match spec.dtype {
        DType::Bytes => {
            let shape = raw_shape(spec, Some(1)).map_err(malformed)?;
            // Its length has to stand before it, so this is the one tensor that is copied.
            Tensor::from_elements(shape, &[body])
        }
        dtype => {
            let elements = dtype.size().map(|size| body.len() / size);
            Tensor::new(dtype, raw_shape(spec, elements).map_err(malformed)?, body.clone())
        }
    };
    let tensor = tensor.map_err(|error| malformed(error.to_string()))?;
    Ok(InferRequest {
        id: None,
        inputs: vec![(spec.name.clone(), tensor)],
        outputs: None,
        forms: Vec::new(),
        binary_output: true,
    })
}

/// The declared shape with its free dimension such that there are so many elements.
fn raw_shape(spec: &TensorSpec, elements: Option<usize>) -> Result<Shape, String> {
    let dims = spec.shape.as_deref().unwrap_or(&[Dim::Any]);
    let free = dims.iter().filter(|dim| !matches!(dim, Dim::Fixed(_))).count();
    if free > 1 || dims.len() > MAX_RANK {
        return Err("more than one dimension of its shape is free, so the request must say it, in JSON".to_owned());
    }
    let fixed = dims.iter().try_fold(1_u64, |product, dim| match dim {
        Dim::Fixed(size) => product.checked_mul(*size),
        Dim::Named(_) | Dim::Any => Some(product),
    });
    let elements = elements.and_then(|elements| u64::try_from(elements).ok()).unwrap_or_default();
    // Where this leaves a rest the length of the data does not fit, which is found when the tensor is made.
    let size = fixed.and_then(|fixed| elements.checked_div(fixed)).unwrap_or_default();
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(size) => *size,
        Dim::Named(_) | Dim::Any => size,
    };
    Ok(dims.iter().map(dim).collect::<Vec<_>>().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(name: &str, dtype: DType, shape: &[Dim]) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: Some(shape.to_vec()) }
    }

    fn read(json: &str, binary: &[u8]) -> Result<InferRequest, String> {
        let body = Bytes::from([json.as_bytes(), binary].concat());
        binary_request(&body, json.len(), &Signature::default()).map_err(|error| error.to_string())
    }

    fn input(name: &str, dtype: &str, shape: &str, size: &str) -> String {
        let parameters = format!(r#""parameters":{{"binary_data_size":{size}}}"#);
        format!(r#"{{"name":"{name}","shape":{shape},"datatype":"{dtype}",{parameters}}}"#)
    }

    #[track_caller]
    fn refused(inputs: &str, binary: &[u8], expected: &str) {
        assert_eq!(read(&format!(r#"{{"inputs":[{inputs}]}}"#), binary).unwrap_err(), expected);
    }

    #[test]
    fn tensors_are_parts_of_the_body() {
        let json = format!(
            r#"{{"inputs":[{},{{"name":"j","shape":[1],"datatype":"INT8","data":[7]}},{}]}}"#,
            input("x", "FP32", "[2]", "8"),
            input("s", "BYTES", "[1]", "6")
        );
        let body = Bytes::from([json.as_bytes(), &[0, 0, 128, 63, 0, 0, 0, 64], b"\x02\0\0\0\xff\xfe"].concat());
        let inputs = binary_request(&body, json.len(), &Signature::default()).unwrap().inputs;
        let names: Vec<_> = inputs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x", "j", "s"]);
        assert_eq!(inputs[0].1.data().as_ptr(), body[json.len()..].as_ptr());
        assert_eq!(inputs[1].1.data()[..], [7]);
        assert_eq!(inputs[2].1.bytes_elements().unwrap().collect::<Vec<_>>(), [b"\xff\xfe"]);
    }

    #[test]
    fn sizes_must_add_up() {
        let x = input("x", "FP32", "[2]", "8");
        refused(&x, &[0; 4], "input `x`: its `binary_data_size` is 8, but there are only 4 bytes left in the body");
        refused(&x, &[0; 9], "input `x`: 1 bytes follow its data, and no other input's `binary_data_size` counts them");
        let short = "input `x`: FP32 data of shape [2] must be 8 bytes long, but it is 4";
        refused(&input("x", "FP32", "[2]", "4"), &[0; 4], short);
        let huge =
            "input `x`: its `binary_data_size` is 18446744073709551615, but there are only 8 bytes left in the body";
        refused(&input("x", "FP32", "[2]", "18446744073709551615"), &[0; 8], huge);
        let wrong = "input `x`: its parameter `binary_data_size` must be a whole number that is not negative";
        refused(&input("x", "FP32", "[2]", "-8"), &[0; 8], wrong);
        refused("", &[0; 3], "3 bytes follow the JSON, but no input has a `binary_data_size`");
        let second = format!("{x},{}", input("y", "INT64", "[1]", "8"));
        refused(
            &second,
            &[0; 15],
            "input `y`: its `binary_data_size` is 8, but there are only 7 bytes left in the body",
        );
    }

    #[test]
    fn data_must_be_what_its_type_says() {
        let bytes = |size: usize| input("s", "BYTES", "[1]", &size.to_string());
        refused(&bytes(6), b"\x03\0\0\0ab", "input `s`: BYTES data is cut short: element 0 runs past the end");
        refused(&bytes(3), b"\x03\0\0", "input `s`: BYTES data is cut short: element 0 runs past the end");
        refused(&bytes(9), b"\x00\0\0\0\x01\0\0\0x", "input `s`: the shape [1] asks for 1 elements, but there are 2");
        refused(&bytes(0), b"", "input `s`: the shape [1] asks for 1 elements, but there are 0");
        refused(&input("b", "BOOL", "[2]", "2"), &[1, 2], "input `b`: BOOL element 1 is neither 0 nor 1");
    }

    #[test]
    fn data_comes_in_one_way_only() {
        let parameters = r#""parameters":{"binary_data_size":1}"#;
        let both = format!(r#"{{"name":"x","shape":[1],"datatype":"INT8",{parameters},"data":[1]}}"#);
        refused(&both, &[1], "input `x`: it has both `data` and a `binary_data_size`");
        let shared = r#"{"name":"x","shape":[1],"datatype":"INT8","parameters":{"shared_memory_region":"r"}}"#;
        refused(shared, &[], "input `x`: shared memory is not offered; send the data with the request");
        let json = format!(r#"{{"inputs":[{}]}}"#, input("x", "INT8", "[1]", "1"));
        let error = super::super::infer_request(json.as_bytes(), &Signature::default()).unwrap_err().to_string();
        assert!(error.starts_with("input `x`: its `binary_data_size` means nothing without the header"), "{error}");
    }

    #[test]
    fn a_head_longer_than_the_body_is_refused() {
        let error = binary_request(&Bytes::from_static(b"{}"), 3, &Signature::default()).unwrap_err().to_string();
        assert_eq!(error, "`inference-header-content-length` is 3, but the body has only 2 bytes");
    }

    #[test]
    fn the_only_input_may_come_alone() {
        let raw = |spec: TensorSpec, body: &'static [u8]| {
            let signature = Signature { inputs: vec![spec], outputs: vec![] };
            let request =
                binary_request(&Bytes::from_static(body), 0, &signature).map_err(|error| error.to_string())?;
            assert!(request.binary_output);
            let (name, tensor) = request.inputs.into_iter().next().unwrap();
            assert_eq!(name, "x");
            Ok::<_, String>((tensor.shape().dims().to_vec(), tensor.data().to_vec()))
        };
        let image = spec("x", DType::Bytes, &[Dim::Fixed(1), Dim::Any]);
        assert_eq!(raw(image, b"\xffabc"), Ok((vec![1, 1], b"\x04\0\0\0\xffabc".to_vec())));
        let rows = spec("x", DType::U16, &[Dim::Any, Dim::Fixed(2)]);
        assert_eq!(raw(rows.clone(), &[0; 8]), Ok((vec![2, 2], vec![0; 8])));
        let error = raw(rows, &[0; 6]).unwrap_err();
        assert_eq!(error, "input `x`: UINT16 data of shape [1, 2] must be 4 bytes long, but it is 6");
        assert!(
            raw(spec("x", DType::U8, &[Dim::Any, Dim::Any]), b"").unwrap_err().starts_with("input `x`: more than one")
        );
        assert!(raw(spec("x", DType::U8, &[Dim::Fixed(0), Dim::Any]), b"x").is_err());
        let error = binary_request(&Bytes::new(), 0, &Signature::default()).unwrap_err().to_string();
        assert_eq!(error, "a request without JSON is for a model with one input, and this one has 0");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            size in 0_u64..20, shape in prop::collection::vec(0_u64..4, 0..3), dtype in 0..DType::ALL.len(),
            binary in prop::collection::vec(any::<u8>(), 0..20), cut in 0_usize..200,
        ) {
            let json = format!(r#"{{"inputs":[{}]}}"#, input("x", DType::ALL[dtype].name(), &format!("{shape:?}"), &size.to_string()));
            if let Ok(request) = read(&json, &binary) {
                prop_assert_eq!(request.inputs[0].1.data(), &binary);
            }
            let body = Bytes::from([json.as_bytes(), &binary].concat());
            let _ = binary_request(&body, cut, &Signature::default());
        }
    }
}
