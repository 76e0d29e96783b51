//! The host of `wasi:nn`, `torpor:function/tensors` and `torpor:function/models`.
//!
//! Tensors are host resources: a guest that only passes them on never copies them into its memory. A bad call is an error
//! value where the interface has one, else a trap of that one instance; never a panic of the host. A guest reaches only the
//! models that its manifest grants.
#![allow(unreachable_pub, reason = "the generated bindings re-export the resource types, which takes `pub`")]

use crate::{
    bindings::{
        torpor::function::{models, tensors},
        wasi::nn,
    },
    guest::Guest,
    inference::{Refusal, Which, check_kind, cost},
    mean::mean,
};
use torpor_tensor::{DType, Dim, NamedTensor, Shape, Tensor, TensorSpec};
use wasmtime::{Result, bail, component::Resource};

/// A `graph`: a model that the instance may run.
pub struct Graph {
    pub(crate) model: Which,
}

/// A `graph-execution-context`. It keeps no state, since inputs and outputs travel by name.
pub struct Context {
    model: Which,
}

/// An `error`: a code, and a text for the guest.
pub struct GuestError {
    code: nn::errors::ErrorCode,
    text: String,
}

impl Guest {
    fn refuse<T>(&mut self, refusal: Refusal) -> Result<Result<T, Resource<GuestError>>> {
        Ok(Err(self.table.push(GuestError { code: refusal.code, text: refusal.text })?))
    }

    /// Makes a tensor the guest's, within its budget.
    pub(crate) fn push_tensor(&mut self, tensor: Tensor) -> Result<Resource<Tensor>> {
        if let Err(refusal) = self.charge(cost(&tensor)) {
            bail!("{}", refusal.text);
        }
        Ok(self.table.push(tensor)?)
    }

    /// Makes a tensor the guest's, or tells it why not, where the interface has a word for that.
    fn offer(&mut self, tensor: Result<Tensor, torpor_tensor::Error>) -> Result<Result<Resource<Tensor>, String>> {
        let tensor = match tensor {
            Ok(tensor) => tensor,
            Err(error) => return Ok(Err(error.to_string())),
        };
        match self.charge(cost(&tensor)) {
            Ok(()) => Ok(Ok(self.table.push(tensor)?)),
            Err(refusal) => Ok(Err(refusal.text)),
        }
    }

    /// Takes a tensor from the guest.
    pub(crate) fn take_tensor(&mut self, tensor: Resource<Tensor>) -> Result<Tensor> {
        let tensor = self.table.delete(tensor)?;
        self.tensor_budget += cost(&tensor);
        Ok(tensor)
    }

    pub(crate) fn take_tensors(&mut self, tensors: Vec<(String, Resource<Tensor>)>) -> Result<Vec<NamedTensor>> {
        tensors.into_iter().map(|(name, tensor)| Ok((name, self.take_tensor(tensor)?))).collect()
    }

    pub(crate) fn push_tensors(&mut self, tensors: Vec<NamedTensor>) -> Result<Vec<(String, Resource<Tensor>)>> {
        tensors.into_iter().map(|(name, tensor)| Ok((name, self.push_tensor(tensor)?))).collect()
    }
}

impl nn::tensor::Host for Guest {}

impl nn::tensor::HostTensor for Guest {
    fn new(&mut self, dimensions: Vec<u32>, ty: nn::tensor::TensorType, data: Vec<u8>) -> Result<Resource<Tensor>> {
        let shape = Shape::from(dimensions.into_iter().map(u64::from).collect::<Vec<_>>());
        // A WIT constructor cannot give an error value, so a tensor that does not fit is a trap.
        let tensor = Tensor::new(from_wasi_nn(ty), shape, data.into()).map_err(wasmtime::Error::new)?;
        self.push_tensor(tensor)
    }

    fn dimensions(&mut self, tensor: Resource<Tensor>) -> Result<Vec<u32>> {
        let dims = self.table.get(&tensor)?.shape().dims();
        Ok(dims.iter().map(|&dim| u32::try_from(dim)).collect::<Result<_, _>>()?)
    }

    fn ty(&mut self, tensor: Resource<Tensor>) -> Result<nn::tensor::TensorType> {
        let dtype = self.table.get(&tensor)?.dtype();
        match to_wasi_nn(dtype) {
            Some(ty) => Ok(ty),
            None => bail!("`wasi:nn` has no name for {dtype}; ask `torpor:function/tensors` instead"),
        }
    }

    fn data(&mut self, tensor: Resource<Tensor>) -> Result<Vec<u8>> {
        Ok(self.table.get(&tensor)?.data().to_vec())
    }

    fn drop(&mut self, tensor: Resource<Tensor>) -> Result<()> {
        self.take_tensor(tensor)?;
        Ok(())
    }
}

impl nn::errors::Host for Guest {}

impl nn::errors::HostError for Guest {
    fn code(&mut self, error: Resource<GuestError>) -> Result<nn::errors::ErrorCode> {
        Ok(self.table.get(&error)?.code)
    }

    fn data(&mut self, error: Resource<GuestError>) -> Result<String> {
        Ok(self.table.get(&error)?.text.clone())
    }

    fn drop(&mut self, error: Resource<GuestError>) -> Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}

impl nn::graph::Host for Guest {
    async fn load(
        &mut self,
        builder: Vec<Vec<u8>>,
        encoding: nn::graph::GraphEncoding,
        target: nn::graph::ExecutionTarget,
    ) -> Result<Result<Resource<Graph>, Resource<GuestError>>> {
        match load(self, builder, encoding, target).await {
            Ok(model) => Ok(Ok(self.table.push(Graph { model })?)),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn load_by_name(&mut self, name: String) -> Result<Result<Resource<Graph>, Resource<GuestError>>> {
        match self.find(&name) {
            Ok(model) => Ok(Ok(self.table.push(Graph { model })?)),
            Err(refusal) => self.refuse(refusal),
        }
    }
}

async fn load(
    guest: &mut Guest,
    mut parts: Vec<Vec<u8>>,
    encoding: nn::graph::GraphEncoding,
    target: nn::graph::ExecutionTarget,
) -> Result<Which, Refusal> {
    use nn::graph::{ExecutionTarget, GraphEncoding};
    guest.may_load(0)?;
    let onnx = matches!(encoding, GraphEncoding::Onnx | GraphEncoding::Autodetect);
    check_kind(onnx, target == ExecutionTarget::Cpu)?;
    match (parts.pop(), parts.len()) {
        (Some(model), 0) => guest.load(model).await,
        _ => Err(Refusal::argument("an ONNX model is one part")),
    }
}

impl nn::graph::HostGraph for Guest {
    fn init_execution_context(
        &mut self,
        graph: Resource<Graph>,
    ) -> Result<Result<Resource<Context>, Resource<GuestError>>> {
        let model = self.table.get(&graph)?.model.clone();
        Ok(Ok(self.table.push(Context { model })?))
    }

    fn drop(&mut self, graph: Resource<Graph>) -> Result<()> {
        self.table.delete(graph)?;
        Ok(())
    }
}

impl nn::inference::Host for Guest {}

impl nn::inference::HostGraphExecutionContext for Guest {
    async fn compute(
        &mut self,
        context: Resource<Context>,
        inputs: Vec<(String, Resource<Tensor>)>,
    ) -> Result<Result<Vec<(String, Resource<Tensor>)>, Resource<GuestError>>> {
        let model = self.table.get(&context)?.model.clone();
        let inputs = self.take_tensors(inputs)?;
        match self.infer(&model, inputs).await {
            Ok(outputs) => Ok(Ok(self.push_tensors(outputs)?)),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn drop(&mut self, context: Resource<Context>) -> Result<()> {
        self.table.delete(context)?;
        Ok(())
    }
}

impl tensors::Host for Guest {
    fn create(
        &mut self,
        datatype: tensors::Datatype,
        shape: Vec<u64>,
        data: Vec<u8>,
    ) -> Result<Result<Resource<Tensor>, String>> {
        let dtype = from_wit(datatype);
        if dtype == DType::Bytes {
            return Ok(Err("use `create-bytes` for elements of type bytes".to_owned()));
        }
        self.offer(Tensor::new(dtype, shape.into(), data.into()))
    }

    fn create_bytes(&mut self, shape: Vec<u64>, elements: Vec<Vec<u8>>) -> Result<Result<Resource<Tensor>, String>> {
        self.offer(Tensor::from_elements(shape.into(), &elements))
    }

    fn get_datatype(&mut self, tensor: Resource<Tensor>) -> Result<tensors::Datatype> {
        Ok(to_wit(self.table.get(&tensor)?.dtype()))
    }

    fn get_shape(&mut self, tensor: Resource<Tensor>) -> Result<Vec<u64>> {
        Ok(self.table.get(&tensor)?.shape().dims().to_vec())
    }

    fn get_bytes(&mut self, tensor: Resource<Tensor>) -> Result<Result<Vec<Vec<u8>>, String>> {
        let tensor = self.table.get(&tensor)?;
        Ok(tensor
            .bytes_elements()
            .map(|elements| elements.map(<[u8]>::to_vec).collect())
            .map_err(|error| error.to_string()))
    }

    fn mean(&mut self, tensor: Resource<Tensor>, dimension: u32) -> Result<Result<Resource<Tensor>, String>> {
        match mean(self.table.get(&tensor)?, dimension) {
            Ok(tensor) => self.offer(Ok(tensor)),
            Err(text) => Ok(Err(text)),
        }
    }
}

impl models::Host for Guest {
    fn names(&mut self) -> Result<Vec<String>> {
        Ok(self.models.names().map(str::to_owned).collect())
    }

    fn describe(&mut self, name: String) -> Result<Option<models::ModelSpec>> {
        let Some(model) = self.models.position(&name) else { return Ok(None) };
        let signature = self.models.signature(model);
        let specs = |specs: &[TensorSpec]| specs.iter().map(spec_to_wit).collect();
        Ok(Some(models::ModelSpec { inputs: specs(&signature.inputs), outputs: specs(&signature.outputs) }))
    }

    fn labels(&mut self, model: String, output: String) -> Result<Option<Vec<String>>> {
        let Some(model) = self.models.position(&model) else { return Ok(None) };
        Ok(self.models.labels(model, &output).map(<[String]>::to_vec))
    }
}

fn spec_to_wit(spec: &TensorSpec) -> models::TensorSpec {
    let dimension = |dim: &Dim| match dim {
        Dim::Fixed(size) => models::Dimension::Fixed(*size),
        Dim::Named(name) => models::Dimension::Named(name.to_string()),
        Dim::Any => models::Dimension::Any,
    };
    let shape = spec.shape.as_ref().map(|dims| dims.iter().map(dimension).collect());
    models::TensorSpec { name: spec.name.clone(), datatype: to_wit(spec.dtype), shape }
}

fn from_wasi_nn(ty: nn::tensor::TensorType) -> DType {
    use nn::tensor::TensorType;
    match ty {
        TensorType::Fp16 => DType::F16,
        TensorType::Fp32 => DType::F32,
        TensorType::Fp64 => DType::F64,
        TensorType::Bf16 => DType::Bf16,
        TensorType::U8 => DType::U8,
        TensorType::I32 => DType::I32,
        TensorType::I64 => DType::I64,
    }
}

fn to_wasi_nn(dtype: DType) -> Option<nn::tensor::TensorType> {
    use nn::tensor::TensorType;
    Some(match dtype {
        DType::F16 => TensorType::Fp16,
        DType::F32 => TensorType::Fp32,
        DType::F64 => TensorType::Fp64,
        DType::Bf16 => TensorType::Bf16,
        DType::U8 => TensorType::U8,
        DType::I32 => TensorType::I32,
        DType::I64 => TensorType::I64,
        _ => return None,
    })
}

/// The element types as WIT has them, in the order of [`DType::ALL`].
const WIT: [tensors::Datatype; 14] = {
    use tensors::Datatype::{
        Bf16, Bool, Bytes, Fp16, Fp32, Fp64, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64,
    };
    [Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64, Bytes]
};

fn from_wit(datatype: tensors::Datatype) -> DType {
    DType::ALL[datatype as usize]
}

fn to_wit(dtype: DType) -> tensors::Datatype {
    WIT[dtype as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_lists_of_element_types_agree() {
        for (index, dtype) in DType::ALL.into_iter().enumerate() {
            assert_eq!(dtype as usize, index);
            assert_eq!(from_wit(to_wit(dtype)), dtype);
            assert_eq!(format!("{:?}", to_wit(dtype)).rsplit("::").next().unwrap().to_uppercase(), dtype.name());
        }
    }
}
