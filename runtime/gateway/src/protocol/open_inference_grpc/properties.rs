//! What holds for all tensors: that generated code and this one read and write the same, and that nothing which comes in is trusted.

use super::{
    super::{
        arbitrary::{numbers, tensor, tensor_of, whole},
        proto::inference::{
            InferTensorContents, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
            model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
            model_metadata_response::TensorMetadata,
        },
    },
    *,
};
use proptest::prelude::*;
use torpor_tensor::{Dim, TensorSpec};

const LIMIT: usize = 1 << 20;

fn signature() -> Signature {
    let spec = |name: &str, shape| TensorSpec { name: name.into(), dtype: DType::F32, shape };
    Signature {
        inputs: vec![spec("x", Some(vec![Dim::Any, Dim::Named("n".into()), Dim::Fixed(4)])), spec("w", None)],
        outputs: vec![spec("y", Some(vec![])), spec("z", None)],
    }
}

fn head(tensor: &Tensor) -> InferInputTensor {
    InferInputTensor {
        name: "x".into(),
        datatype: tensor.dtype().name().into(),
        shape: tensor.shape().dims().iter().map(|&size| size.cast_signed()).collect(),
        ..Default::default()
    }
}

/// A request with its tensors in their `contents`.
fn typed(tensor: &Tensor) -> ModelInferRequest {
    let dtype = tensor.dtype();
    let whole = || numbers(tensor, |bytes| whole(dtype, bytes));
    let mut contents = InferTensorContents::default();
    match dtype {
        DType::Bool => contents.bool_contents = whole().into_iter().map(|number| number != 0).collect(),
        DType::I8 | DType::I16 | DType::I32 => {
            contents.int_contents = whole().into_iter().map(|number| number.try_into().unwrap()).collect()
        }
        DType::U8 | DType::U16 | DType::U32 => {
            contents.uint_contents = whole().into_iter().map(|number| number.try_into().unwrap()).collect()
        }
        DType::I64 => contents.int64_contents = whole(),
        DType::U64 => contents.uint64_contents = whole().into_iter().map(i64::cast_unsigned).collect(),
        DType::F32 => contents.fp32_contents = numbers(tensor, |bytes| f32::from_le_bytes(bytes.try_into().unwrap())),
        DType::F64 => contents.fp64_contents = numbers(tensor, |bytes| f64::from_le_bytes(bytes.try_into().unwrap())),
        DType::Bytes => {
            contents.bytes_contents = tensor.bytes_elements().unwrap().map(Bytes::copy_from_slice).collect();
        }
        DType::F16 | DType::Bf16 => {}
    }
    let input = InferInputTensor { contents: Some(contents), ..head(tensor) };
    ModelInferRequest { inputs: vec![input], ..raw(&[]) }
}

/// A request with its tensors raw.
fn raw(tensors: &[Tensor]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".into(),
        model_version: "7".into(),
        id: "the id".into(),
        inputs: tensors.iter().map(head).collect(),
        raw_input_contents: tensors.iter().map(|tensor| tensor.data().clone()).collect(),
        ..Default::default()
    }
}

fn read(request: &ModelInferRequest) -> Result<Vec<NamedTensor>, Malformed> {
    let request = InferRequest::read(&request.encode_to_vec().into())?;
    assert_eq!((request.model.as_str(), request.version.as_deref(), request.id.as_str()), ("m", Some("7"), "the id"));
    request.tensors(&signature(), LIMIT).map(|wanted| wanted.inputs)
}

/// What `edit` makes of a right request is refused with a text that has all of `words`.
#[track_caller]
fn refused(edit: impl FnOnce(&mut ModelInferRequest), words: &[&str]) {
    let tensor = Tensor::new(DType::F32, [2].into(), Bytes::from_static(&[0; 8])).unwrap();
    let mut request = raw(&[tensor]);
    edit(&mut request);
    let error = read(&request).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is missing in: {error}");
    }
}

/// As [`refused`], of a request whose one input has `contents`.
#[track_caller]
fn refused_contents(datatype: &str, shape: &[i64], contents: InferTensorContents, words: &[&str]) {
    let edit = |request: &mut ModelInferRequest| {
        request.raw_input_contents.clear();
        request.inputs[0].datatype = datatype.into();
        request.inputs[0].shape = shape.to_vec();
        request.inputs[0].contents = Some(contents);
    };
    refused(edit, &[words, &["input `x`"]].concat());
}

#[test]
fn what_is_wrong_is_named() {
    refused(|request| request.raw_input_contents[0].truncate(7), &["`x`", "8 bytes", "7"]);
    refused(|request| request.raw_input_contents.push(Bytes::new()), &["1 inputs", "2 tensors", "raw_input_contents"]);
    refused(|request| request.inputs[0].datatype = "FLOAT".into(), &["`x`", "`FLOAT`", "FP32, FP64, BYTES"]);
    refused(|request| request.inputs[0].datatype.clear(), &["`x`", "``", "BOOL"]);
    refused(|request| request.inputs[0].shape = vec![-2], &["`x`", "`shape`", "-2"]);
    refused(|request| request.inputs[0].shape = vec![i64::MAX, i64::MAX], &["`x`"]);
    refused(|request| request.inputs[0].shape = vec![1; 33], &["`x`", "32 dimensions"]);
    let contents = Some(InferTensorContents { fp32_contents: vec![1.0, 2.0], ..Default::default() });
    refused(|request| request.inputs[0].contents = contents, &["`x`", "`contents`", "`raw_input_contents`"]);
    let output = |name: &str| InferRequestedOutputTensor { name: name.into(), ..Default::default() };
    refused(|request| request.outputs.push(output("v")), &["`v`", "`y`, `z`"]);
    refused(|request| request.outputs = vec![output("y"), output("y")], &["`y`", "twice"]);
    refused(|request| request.inputs = vec![request.inputs[0].clone(); 257], &["256 inputs"]);
    let parameter = || InferParameter { parameter_choice: Some(ParameterChoice::StringParam("r".into())) };
    let shared = || [("shared_memory_region".to_owned(), parameter())].into();
    refused(|request| request.inputs[0].parameters = shared(), &["`x`", "shared memory"]);
    refused(
        |request| request.outputs = vec![InferRequestedOutputTensor { parameters: shared(), ..output("y") }],
        &["`y`", "shared memory"],
    );
    for datatype in ["BYTES", "BOOL"] {
        let edit = |request: &mut ModelInferRequest| {
            request.inputs[0].datatype = datatype.into();
            request.raw_input_contents[0] = Bytes::from_static(&[9, 0]);
        };
        refused(edit, &["`x`"]);
    }
}

#[test]
fn classes_are_asked_for_by_their_number() {
    let asked = |choice| {
        let parameters = [("classification".to_owned(), InferParameter { parameter_choice: Some(choice) })];
        let output = InferRequestedOutputTensor { name: "y".into(), parameters: parameters.into() };
        let request = ModelInferRequest { outputs: vec![output], ..raw(&[]) };
        InferRequest::read(&request.encode_to_vec().into()).map(|request| request.forms[0].classes)
    };
    assert_eq!(asked(ParameterChoice::Int64Param(3)).unwrap(), NonZeroUsize::new(3));
    assert_eq!(asked(ParameterChoice::Uint64Param(1)).unwrap(), NonZeroUsize::new(1));
    assert_eq!(asked(ParameterChoice::Int64Param(0)).unwrap(), None);
    for wrong in [ParameterChoice::Int64Param(-1), ParameterChoice::StringParam("3".into())] {
        assert!(asked(wrong).unwrap_err().to_string().contains("output `y`: its parameter `classification`"));
    }
}

#[test]
fn the_place_of_the_data_is_told_by_the_beginning() {
    let tensor = Tensor::new(DType::U8, [100].into(), vec![3; 100].into()).unwrap();
    let message = raw(&[tensor]).encode_to_vec();
    let offset = InferRequest::data_offset(&message);
    assert_eq!(message[offset..], [3; 100]);
    assert_eq!(InferRequest::data_offset(&message[..offset + 1]), offset);
    assert_eq!(InferRequest::data_offset(&message[..offset - 2]), 0);
}

#[test]
fn contents_that_do_not_fit_are_named() {
    let ints = |numbers: &[i32]| InferTensorContents { int_contents: numbers.to_vec(), ..Default::default() };
    let uints = |numbers: &[u32]| InferTensorContents { uint_contents: numbers.to_vec(), ..Default::default() };
    refused_contents("INT8", &[2], ints(&[1, -129]), &["element 1 is -129, which is no INT8"]);
    refused_contents("INT16", &[1], ints(&[32768]), &["element 0 is 32768, which is no INT16"]);
    refused_contents("UINT8", &[2], uints(&[1, 256]), &["element 1 is 256, which is no UINT8"]);
    refused_contents("UINT16", &[1], uints(&[65536]), &["element 0 is 65536, which is no UINT16"]);
    refused_contents("INT32", &[3], ints(&[1, 2]), &["[3]", "3 elements", "2 in `int_contents`"]);
    refused_contents("INT32", &[1], ints(&[1, 2]), &["1 elements", "2"]);
    refused_contents("INT32", &[1 << 62, 4], ints(&[1]), &["too many elements"]);
    refused_contents("INT32", &[1 << 40], ints(&[1]), &["1099511627776 elements"]);
    refused_contents("FP32", &[1], ints(&[1]), &["FP32", "`fp32_contents`", "`int_contents`"]);
    refused_contents("FP16", &[1], ints(&[1]), &["FP16", "`raw_input_contents`"]);
    refused_contents("BF16", &[1], ints(&[1]), &["BF16", "`raw_input_contents`"]);
    refused_contents("BYTES", &[2], Default::default(), &["2 elements", "0 in `bytes_contents`"]);
}

#[test]
fn elements_are_not_many_times_their_message() {
    let contents = InferTensorContents { uint64_contents: vec![1; LIMIT / 8 + 1], ..Default::default() };
    let count = i64::try_from(contents.uint64_contents.len()).unwrap();
    assert!(contents.encoded_len() < LIMIT / 4);
    refused_contents("UINT64", &[count], contents, &["1048584 bytes", "1048576"]);
}

#[test]
fn a_raw_tensor_is_a_part_of_its_message() {
    let tensor = Tensor::new(DType::U8, [100].into(), vec![3; 100].into()).unwrap();
    let message = Bytes::from(raw(std::slice::from_ref(&tensor)).encode_to_vec());
    let tensors = InferRequest::read(&message).unwrap().tensors(&signature(), LIMIT).unwrap().inputs;
    assert_eq!(tensors[0].1, tensor);
    assert!(message.as_ptr_range().contains(&tensors[0].1.data().as_ptr()));
}

#[test]
fn a_failed_request_is_told_by_its_id() {
    let mut request = raw(&[]);
    request.inputs.push(InferInputTensor { datatype: "no such".into(), ..Default::default() });
    let message = request.encode_to_vec();
    assert!(InferRequest::read(&message.clone().into()).is_err());
    assert_eq!(InferRequest::id_of(&message), "the id");
    let error = ModelStreamInferResponse::decode(stream_error("why", "the id").into_bytes()).unwrap();
    assert_eq!((error.error_message.as_str(), error.infer_response.unwrap().id.as_str()), ("why", "the id"));
}

#[test]
fn metadata_has_every_shape() {
    let metadata = model_metadata("m", 3, &signature());
    assert_eq!((metadata.name.as_str(), metadata.versions), ("m", vec!["3".to_owned()]));
    let shapes = |tensors: &[TensorMetadata]| tensors.iter().map(|tensor| tensor.shape.clone()).collect::<Vec<_>>();
    assert_eq!(shapes(&metadata.inputs), [vec![-1, -1, 4], vec![-1]]);
    assert_eq!(shapes(&metadata.outputs), [vec![], vec![-1]]);
}

proptest! {
    #[test]
    fn contents_are_read_as_generated_code_writes_them(tensor in tensor()) {
        let read = read(&typed(&tensor));
        match tensor.dtype() {
            DType::F16 | DType::Bf16 if tensor.elements() > 0 => prop_assert!(read.is_err()),
            _ => prop_assert_eq!(read.unwrap(), [("x".to_owned(), tensor)]),
        }
    }

    #[test]
    fn raw_tensors_are_read_as_generated_code_writes_them(tensors in prop::collection::vec(tensor(), 0..4)) {
        let expected: Vec<_> = tensors.iter().map(|tensor| ("x".to_owned(), tensor.clone())).collect();
        prop_assert_eq!(read(&raw(&tensors)).unwrap(), expected);
    }

    #[test]
    fn answers_are_read_by_generated_code(tensors in prop::collection::vec(tensor(), 0..4), id in "[a-z]{0,9}") {
        let outputs: Vec<_> = tensors.into_iter().enumerate().map(|(index, tensor)| (index.to_string(), tensor)).collect();
        let answer = ModelInferResponse::decode(infer_response("m", 5, &id, &outputs).into_bytes()).unwrap();
        prop_assert_eq!((answer.model_name.as_str(), answer.model_version.as_str(), &answer.id), ("m", "5", &id));
        let read = answer.outputs.iter().zip(&answer.raw_output_contents).map(|(output, raw)| {
            let dims: Vec<_> = output.shape.iter().map(|&size| size.cast_unsigned()).collect();
            (output.name.clone(), Tensor::new(output.datatype.parse().unwrap(), dims.into(), raw.clone()).unwrap())
        });
        prop_assert_eq!(read.collect::<Vec<_>>(), outputs.clone());
        let stream = stream_response(infer_response("m", 5, &id, &outputs)).into_bytes();
        let stream = ModelStreamInferResponse::decode(stream).unwrap();
        prop_assert_eq!(&stream.error_message, "");
        let mut streamed = stream.infer_response.unwrap();
        let last = streamed.parameters.remove("triton_final_response").unwrap();
        prop_assert_eq!(last.parameter_choice, Some(ParameterChoice::BoolParam(true)));
        prop_assert_eq!(streamed, answer);
    }

    #[test]
    fn nothing_that_is_changed_makes_it_panic(
        tensor in tensor_of(DType::Bytes),
        raw_one in tensor(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for request in [typed(&tensor), typed(&raw_one), raw(&[tensor, raw_one])] {
            let mut message = request.encode_to_vec();
            for (index, with) in &changes {
                *index.get_mut(&mut message) = *with;
            }
            message.truncate(cut.index(message.len()) + 1);
            if let Ok(request) = InferRequest::read(&message.into()) {
                let _ = request.work();
                let _ = request.tensors(&signature(), LIMIT);
            }
        }
    }
}
