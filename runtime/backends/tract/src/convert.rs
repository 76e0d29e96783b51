//! Tensors and signatures, from Torpor's types to tract's and back.

use half::f16;
use torpor_tensor::{DType, Dim, Shape, Signature, Tensor, TensorSpec};
use tract_onnx::{
    prelude::{DatumType, Graph, InferenceFact, InferenceModelExt, Tensor as TractTensor, TractResult},
    tract_core::internal::{anyhow, bail},
    tract_hir::infer::{Factoid, InferenceOp},
};

/// What the model declares. An output whose shape tract does not know is of any shape.
pub(crate) fn signature(model: &Graph<InferenceFact, Box<dyn InferenceOp>>) -> TractResult<Signature> {
    let mut signature = Signature::default();
    for &outlet in model.input_outlets()? {
        let name = model.node(outlet.node).name.clone();
        let fact = model.outlet_fact(outlet)?;
        let datum = fact.datum_type.concretize().ok_or_else(|| anyhow!("input `{name}` declares no element type"))?;
        let dtype = dtype(datum).ok_or_else(|| anyhow!("input `{name}` has unsupported elements of type {datum:?}"))?;
        signature.inputs.push(TensorSpec { name, dtype, shape: dims(fact) });
    }
    // Output types are known only after inference over the whole graph, which must not spoil the model that is run.
    let mut analysed = model.clone();
    let _ = analysed.analyse(true);
    for &outlet in model.output_outlets()? {
        let name = model.outlet_label(outlet).unwrap_or(&model.node(outlet.node).name).to_owned();
        let fact = analysed.outlet_fact(outlet)?;
        let dtype = fact.datum_type.concretize().and_then(dtype).unwrap_or(DType::F32);
        signature.outputs.push(TensorSpec { name, dtype, shape: dims(fact) });
    }
    Ok(signature)
}

fn dims(fact: &InferenceFact) -> Option<Vec<Dim>> {
    if fact.shape.is_open() {
        return None;
    }
    let dim = |dim: &tract_onnx::tract_hir::infer::DimFact| match dim.concretize() {
        None => Dim::Any,
        Some(dim) => match dim.to_i64() {
            Ok(size) => u64::try_from(size).map_or(Dim::Any, Dim::Fixed),
            Err(_) => Dim::Named(dim.to_string().into()),
        },
    };
    Some(fact.shape.dims().map(dim).collect())
}

fn dtype(datum: DatumType) -> Option<DType> {
    Some(match datum {
        DatumType::Bool => DType::Bool,
        DatumType::U8 => DType::U8,
        DatumType::U16 => DType::U16,
        DatumType::U32 => DType::U32,
        DatumType::U64 => DType::U64,
        DatumType::I8 => DType::I8,
        DatumType::I16 => DType::I16,
        DatumType::I32 => DType::I32,
        DatumType::I64 => DType::I64,
        DatumType::F16 => DType::F16,
        DatumType::F32 => DType::F32,
        DatumType::F64 => DType::F64,
        DatumType::String => DType::Bytes,
        _ => return None,
    })
}

/// Copies a tensor into tract's memory.
pub(crate) fn to_tract(tensor: &Tensor) -> TractResult<TractTensor> {
    let shape: Vec<usize> = tensor.shape().dims().iter().map(|&dim| usize::try_from(dim)).collect::<Result<_, _>>()?;
    macro_rules! numbers {
        ($type:ty) => {{
            let (elements, _) = tensor.data().as_chunks();
            let elements: Vec<$type> = elements.iter().map(|&bytes| <$type>::from_le_bytes(bytes)).collect();
            TractTensor::from_shape(&shape, &elements)
        }};
    }
    match tensor.dtype() {
        DType::Bool => {
            let elements: Vec<bool> = tensor.data().iter().map(|&byte| byte != 0).collect();
            TractTensor::from_shape(&shape, &elements)
        }
        DType::U8 => numbers!(u8),
        DType::U16 => numbers!(u16),
        DType::U32 => numbers!(u32),
        DType::U64 => numbers!(u64),
        DType::I8 => numbers!(i8),
        DType::I16 => numbers!(i16),
        DType::I32 => numbers!(i32),
        DType::I64 => numbers!(i64),
        DType::F16 => numbers!(f16),
        DType::F32 => numbers!(f32),
        DType::F64 => numbers!(f64),
        DType::Bf16 | DType::Bytes => bail!("tract has no tensors of {}", tensor.dtype()),
    }
}

/// Copies a tensor out of tract's memory.
pub(crate) fn from_tract(tensor: &TractTensor) -> TractResult<Tensor> {
    let datum = tensor.datum_type();
    let dtype = dtype(datum).ok_or_else(|| anyhow!("the model gave elements of type {datum:?}"))?;
    let shape: Vec<u64> = tensor.shape().iter().map(|&dim| u64::try_from(dim)).collect::<Result<_, _>>()?;
    let view = tensor.try_as_plain_ram()?;
    macro_rules! numbers {
        ($type:ty) => {
            view.as_slice::<$type>()?.iter().flat_map(|element| element.to_le_bytes()).collect()
        };
    }
    let data: Vec<u8> = match dtype {
        DType::Bool => view.as_slice::<bool>()?.iter().map(|&element| u8::from(element)).collect(),
        DType::U8 => numbers!(u8),
        DType::U16 => numbers!(u16),
        DType::U32 => numbers!(u32),
        DType::U64 => numbers!(u64),
        DType::I8 => numbers!(i8),
        DType::I16 => numbers!(i16),
        DType::I32 => numbers!(i32),
        DType::I64 => numbers!(i64),
        DType::F16 => numbers!(f16),
        DType::F32 => numbers!(f32),
        DType::F64 => numbers!(f64),
        DType::Bf16 | DType::Bytes => bail!("tract gave a tensor of {dtype}"),
    };
    Ok(Tensor::new(dtype, Shape::from(shape), data.into())?)
}
