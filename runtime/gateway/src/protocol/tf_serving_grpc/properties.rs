//! What holds for all tensors: that generated code and this one read and write the same, and that nothing which comes in is trusted.

use super::{
    super::{
        arbitrary::{numbers, tensor, whole},
        proto::tensorflow::{
            TensorProto,
            serving::{PredictRequest as Generated, PredictResponse},
        },
    },
    *,
};
use proptest::prelude::*;

const LIMIT: usize = 1 << 16;

fn signature() -> Signature {
    let spec = |name: &str, shape| TensorSpec { name: name.into(), dtype: DType::F32, shape };
    Signature {
        inputs: vec![spec("x", Some(vec![torpor_tensor::Dim::Any, torpor_tensor::Dim::Fixed(4)]))],
        outputs: vec![spec("y", None)],
    }
}

fn head(dtype: DType, dims: &[u64]) -> TensorProto {
    let dim = dims.iter().map(|&size| Dim { size: size.cast_signed(), name: String::new() }).collect();
    TensorProto {
        dtype: kind_of(dtype).data_type.into(),
        tensor_shape: Some(TensorShapeProto { dim, unknown_rank: false }),
        ..Default::default()
    }
}

/// A tensor with its elements in `tensor_content`; only strings are not.
fn content(tensor: &Tensor) -> TensorProto {
    match tensor.dtype() {
        DType::Bytes => values(tensor),
        dtype => TensorProto { tensor_content: tensor.data().clone(), ..head(dtype, tensor.shape().dims()) },
    }
}

/// A tensor with its elements in the field of their type.
fn values(tensor: &Tensor) -> TensorProto {
    let dtype = tensor.dtype();
    let whole = || numbers(tensor, |bytes| whole(dtype, bytes));
    let narrow = || whole().into_iter().map(|number| number.try_into().unwrap()).collect();
    let mut message = head(dtype, tensor.shape().dims());
    match dtype {
        DType::Bool => message.bool_val = whole().into_iter().map(|number| number != 0).collect(),
        DType::I8 | DType::I16 | DType::I32 | DType::U8 | DType::U16 => message.int_val = narrow(),
        DType::F16 | DType::Bf16 => message.half_val = narrow(),
        DType::U32 => message.uint32_val = whole().into_iter().map(|number| number.try_into().unwrap()).collect(),
        DType::I64 => message.int64_val = whole(),
        DType::U64 => message.uint64_val = whole().into_iter().map(i64::cast_unsigned).collect(),
        DType::F32 => message.float_val = numbers(tensor, |bytes| f32::from_le_bytes(bytes.try_into().unwrap())),
        DType::F64 => message.double_val = numbers(tensor, |bytes| f64::from_le_bytes(bytes.try_into().unwrap())),
        DType::Bytes => message.string_val = tensor.bytes_elements().unwrap().map(Bytes::copy_from_slice).collect(),
    }
    message
}

fn request(tensor: TensorProto) -> Generated {
    let version_choice = Some(VersionChoice::Version(7));
    Generated {
        model_spec: Some(ModelSpec { name: "m".into(), version_choice, ..Default::default() }),
        inputs: [("x".to_owned(), tensor)].into(),
        ..Default::default()
    }
}

fn read(request: &Generated) -> Result<Tensor, Malformed> {
    let request = PredictRequest::read(&request.encode_to_vec().into())?;
    assert_eq!(request.target, Target { model: "m".into(), version: Some("7".into()) });
    let (mut tensors, _) = request.tensors(&signature(), LIMIT)?;
    assert_eq!(tensors.len(), 1);
    Ok(tensors.remove(0).1)
}

#[track_caller]
fn refused(tensor: TensorProto, words: &[&str]) {
    refused_request(request(tensor), &[words, &["input `x`"]].concat());
}

#[track_caller]
fn refused_request(request: Generated, words: &[&str]) {
    let error = read(&request).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is missing in: {error}");
    }
}

#[test]
fn the_last_element_stands_for_the_rest() {
    let floats = TensorProto { float_val: vec![1.0, 2.0], ..head(DType::F32, &[2, 2]) };
    assert_eq!(read(&request(floats)).unwrap().data(), &[1_f32, 2.0, 2.0, 2.0].map(f32::to_le_bytes).concat());
    let ints = TensorProto { int_val: vec![-5], ..head(DType::I16, &[3]) };
    assert_eq!(read(&request(ints)).unwrap().data(), &[-5_i16; 3].map(i16::to_le_bytes).concat());
    let texts = TensorProto { string_val: vec!["ab".into()], ..head(DType::Bytes, &[2]) };
    assert_eq!(read(&request(texts)).unwrap().bytes_elements().unwrap().collect::<Vec<_>>(), [b"ab"; 2]);
}

#[test]
fn what_is_wrong_is_named() {
    let floats = |numbers: &[f32], dims| TensorProto { float_val: numbers.to_vec(), ..head(DType::F32, dims) };
    refused(floats(&[1.0, 2.0], &[1]), &["1 elements", "2 in `float_val`"]);
    refused(floats(&[], &[1]), &["1 elements", "none in `float_val`"]);
    refused(floats(&[1.0], &[1 << 40]), &["bytes", "limit of 65536"]);
    refused(floats(&[1.0], &[1 << 62, 8]), &["too many elements"]);
    refused(floats(&[1.0], &[u64::MAX]), &["-1", "negative"]);
    refused(floats(&[1.0], &[1; 33]), &["32 dimensions"]);
    refused(TensorProto { double_val: vec![1.0], ..head(DType::F32, &[1]) }, &["none in `float_val`"]);
    refused(TensorProto { int_val: vec![256], ..head(DType::U8, &[1]) }, &["element 0 is 256, which is no UINT8"]);
    refused(TensorProto { int_val: vec![-129], ..head(DType::I8, &[1]) }, &["element 0 is -129, which is no INT8"]);
    refused(TensorProto { half_val: vec![1 << 16], ..head(DType::F16, &[1]) }, &["65536", "FP16"]);
    refused(TensorProto { string_val: vec![vec![0; 100].into()], ..head(DType::Bytes, &[1000]) }, &["limit"]);
    refused(TensorProto { tensor_content: vec![0; 3].into(), ..head(DType::F32, &[1]) }, &["4 bytes", "3"]);
    refused(TensorProto { tensor_content: vec![0; 3].into(), ..head(DType::Bytes, &[1]) }, &["`string_val`"]);
    refused(TensorProto { dtype: 8, ..head(DType::F32, &[1]) }, &["DT_COMPLEX64", "DT_FLOAT"]);
    refused(TensorProto { dtype: 99, ..head(DType::F32, &[1]) }, &["99"]);
    let unknown = TensorShapeProto { unknown_rank: true, dim: vec![] };
    refused(TensorProto { tensor_shape: Some(unknown), ..head(DType::F32, &[]) }, &["rank"]);

    let right = || request(floats(&[1.0], &[1]));
    refused_request(Generated { model_spec: None, ..right() }, &["model_spec"]);
    refused_request(Generated { output_filter: vec!["v".into()], ..right() }, &["`v`", "`y`"]);
    refused_request(Generated { output_filter: vec!["y".into(); 2], ..right() }, &["`y`", "twice"]);
    let mut other = right();
    other.model_spec.as_mut().unwrap().signature_name = "other".into();
    refused_request(other, &["`m`", "`other`", "`serving_default`"]);
}

#[test]
fn a_label_is_a_version() {
    let spec = |version_choice, signature_name: &str| ModelSpec {
        name: "m".into(),
        version_choice,
        signature_name: signature_name.into(),
    };
    let version = |spec| target(Some(spec)).unwrap().version;
    assert_eq!(version(spec(Some(VersionChoice::VersionLabel("1.2.3".into())), SIGNATURE)).as_deref(), Some("1.2.3"));
    assert_eq!(version(spec(None, "")), None);
    assert_eq!(version(spec(Some(VersionChoice::Version(0)), "")), None);
}

#[test]
fn the_signature_is_packed_as_clients_unpack_it() {
    let metadata = model_metadata("m", 3, &signature(), &[SIGNATURES.to_owned()]).unwrap();
    let any = &metadata.metadata[SIGNATURES];
    assert_eq!(any.type_url, "type.googleapis.com/tensorflow.serving.SignatureDefMap");
    let map = SignatureDefMap::decode(any.value.as_slice()).unwrap();
    let definition = &map.signature_def[SIGNATURE];
    let shape = definition.inputs["x"].tensor_shape.as_ref().unwrap();
    assert_eq!(shape.dim.iter().map(|dim| dim.size).collect::<Vec<_>>(), [-1, 4]);
    assert!(definition.outputs["y"].tensor_shape.as_ref().unwrap().unknown_rank);
    for fields in [vec![], vec!["no such".to_owned()]] {
        assert!(model_metadata("m", 3, &signature(), &fields).unwrap_err().to_string().contains("`signature_def`"));
    }
}

proptest! {
    #[test]
    fn tensors_are_read_as_generated_code_writes_them(tensor in tensor()) {
        prop_assert_eq!(&read(&request(content(&tensor))).unwrap(), &tensor);
        prop_assert_eq!(&read(&request(values(&tensor))).unwrap(), &tensor);
    }

    #[test]
    fn answers_are_read_by_generated_code(tensors in prop::collection::vec(tensor(), 0..4)) {
        let outputs: Vec<_> = tensors.into_iter().enumerate().map(|(index, tensor)| (index.to_string(), tensor)).collect();
        let message = predict_response("m", 5, &outputs).into_bytes();
        let answer = PredictResponse::decode(message.clone()).unwrap();
        let spec = answer.model_spec.unwrap();
        prop_assert_eq!((spec.name.as_str(), spec.version_choice), ("m", Some(VersionChoice::Version(5))));
        prop_assert_eq!(answer.outputs.len(), outputs.len());
        for (name, expected) in outputs {
            let read = &answer.outputs[&name];
            // NaN is unlike itself, but has its bits.
            prop_assert_eq!(read.encode_to_vec(), values(&expected).encode_to_vec());
        }
    }

    #[test]
    fn nothing_that_is_changed_makes_it_panic(
        tensor in tensor(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for tensor in [content(&tensor), values(&tensor)] {
            let mut message = request(tensor).encode_to_vec();
            for (index, with) in &changes {
                *index.get_mut(&mut message) = *with;
            }
            message.truncate(cut.index(message.len()) + 1);
            if let Ok(request) = PredictRequest::read(&message.into()) {
                let _ = request.tensors(&signature(), LIMIT);
            }
        }
    }
}
