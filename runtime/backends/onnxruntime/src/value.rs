//! Tensors as ONNX Runtime holds them, for every element type that both sides have.

use bytes::Bytes;
use ort::sys::{ONNXTensorElementDataType as Element, OrtMemoryInfo, OrtStatusPtr, OrtValue};
use std::{
    ffi::{c_char, c_void},
    marker::PhantomData,
    ptr::{self, NonNull},
    sync::OnceLock,
};
use torpor_tensor::{DType, Shape, Tensor};

/// An `OrtValue`. One that was made by [`Value::borrow`] reads the tensor's own memory and cannot outlive it.
pub(crate) struct Value<'a> {
    pointer: NonNull<OrtValue>,
    /// A copy of the elements, where the tensor's own were not aligned as ONNX Runtime reads them.
    _aligned: Option<Vec<u64>>,
    _tensor: PhantomData<&'a Tensor>,
}

impl Drop for Value<'_> {
    fn drop(&mut self) {
        // SAFETY: the pointer is a value that this struct owns, and this is its only release.
        unsafe { (ort::api().ReleaseValue)(self.pointer.as_ptr()) };
    }
}

impl<'a> Value<'a> {
    /// Shows `tensor` to ONNX Runtime, without a copy where its memory is aligned. Strings are copied.
    pub(crate) fn borrow(tensor: &'a Tensor) -> Result<Self, String> {
        let too_large = |_| format!("the shape {} is too large", tensor.shape());
        let shape = tensor.shape().dims().iter().map(|&dim| i64::try_from(dim));
        let shape: Vec<i64> = shape.collect::<Result<_, _>>().map_err(too_large)?;
        match tensor.dtype().size() {
            None => Self::strings(tensor, &shape),
            Some(size) => Self::numbers(tensor, &shape, size),
        }
    }

    fn numbers(tensor: &'a Tensor, shape: &[i64], size: usize) -> Result<Self, String> {
        let data = tensor.data();
        let aligned = (!data.as_ptr().addr().is_multiple_of(size)).then(|| aligned_copy(data));
        let start = aligned.as_ref().map_or(data.as_ptr().cast::<c_void>(), |copy| copy.as_ptr().cast());
        let mut value = ptr::null_mut();
        // SAFETY: `start` is aligned for the element type and followed by `data.len()` readable bytes, which live as long as
        // `Value` does (borrowed for 'a, or owned by it). Inputs are only read, so the cast to a mutable pointer is never used
        // to write. `shape` has as many entries as its length says.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                cpu_memory()?,
                start.cast_mut(),
                data.len(),
                shape.as_ptr(),
                shape.len(),
                dtype_to_ort(tensor.dtype()),
                &raw mut value,
            )
        };
        check(status)?;
        Self::made(value, aligned)
    }

    fn strings(tensor: &Tensor, shape: &[i64]) -> Result<Self, String> {
        let mut allocator = ptr::null_mut();
        let mut value = ptr::null_mut();
        // SAFETY: the default allocator is a static of the library. The out pointers are valid, and `shape` has as many entries
        // as its length says.
        let status = unsafe {
            check((ort::api().GetAllocatorWithDefaultOptions)(&raw mut allocator))?;
            let string = Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;
            (ort::api().CreateTensorAsOrtValue)(allocator, shape.as_ptr(), shape.len(), string, &raw mut value)
        };
        check(status)?;
        let value = Self::made(value, None)?;
        let elements = tensor.bytes_elements().map_err(|error| error.to_string())?;
        for (index, element) in elements.enumerate() {
            let mut buffer: *mut c_char = ptr::null_mut();
            // SAFETY: the value was just made with as many string elements as the tensor has; the out pointer is valid.
            let status = unsafe {
                let resize = ort::api().GetResizedStringTensorElementBuffer;
                resize(value.pointer.as_ptr(), index, element.len(), &raw mut buffer)
            };
            check(status)?;
            // SAFETY: the buffer is the element's own, was just made this long, and cannot overlap the tensor's memory.
            unsafe { ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast::<u8>(), element.len()) };
        }
        Ok(value)
    }

    fn made(value: *mut OrtValue, aligned: Option<Vec<u64>>) -> Result<Self, String> {
        let pointer = NonNull::new(value).ok_or("ONNX Runtime made no value")?;
        Ok(Value { pointer, _aligned: aligned, _tensor: PhantomData })
    }

    /// Takes over a value that ONNX Runtime made.
    ///
    /// # Safety
    /// `value` is null, or a valid value that nobody else releases.
    pub(crate) unsafe fn own(value: *mut OrtValue) -> Option<Value<'static>> {
        NonNull::new(value).map(|pointer| Value { pointer, _aligned: None, _tensor: PhantomData })
    }

    pub(crate) fn as_ptr(&self) -> *const OrtValue {
        self.pointer.as_ptr()
    }

    fn type_and_shape(&self) -> Result<(Element, Shape), String> {
        struct Info(*mut ort::sys::OrtTensorTypeAndShapeInfo);
        impl Drop for Info {
            fn drop(&mut self) {
                // SAFETY: made by `GetTensorTypeAndShape` and owned by this struct.
                unsafe { (ort::api().ReleaseTensorTypeAndShapeInfo)(self.0) };
            }
        }

        let api = ort::api();
        let mut is_tensor = 0;
        let mut info = Info(ptr::null_mut());
        let mut element = Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        let mut rank = 0;
        // SAFETY: the value is alive, every out pointer is valid, and `info` is used only after it was made.
        unsafe {
            check((api.IsTensor)(self.pointer.as_ptr(), &raw mut is_tensor))?;
            if is_tensor == 0 {
                return Err("the model gave something that is no tensor".to_owned());
            }
            check((api.GetTensorTypeAndShape)(self.pointer.as_ptr(), &raw mut info.0))?;
            check((api.GetTensorElementType)(info.0, &raw mut element))?;
            check((api.GetDimensionsCount)(info.0, &raw mut rank))?;
        }
        let mut dims = vec![0_i64; rank];
        // SAFETY: `dims` has room for `rank` entries.
        check(unsafe { (api.GetDimensions)(info.0, dims.as_mut_ptr(), rank) })?;
        let dims: Result<Vec<u64>, _> = dims.into_iter().map(u64::try_from).collect();
        Ok((element, dims.map_err(|_| "the model gave a negative dimension".to_owned())?.into()))
    }

    fn strings_to_tensor(&self, shape: Shape, elements: usize) -> Result<Tensor, String> {
        let api = ort::api();
        let mut length = 0;
        // SAFETY: the value is a tensor of strings; the out pointer is valid.
        check(unsafe { (api.GetStringTensorDataLength)(self.as_ptr(), &raw mut length) })?;
        let mut text = vec![0_u8; length];
        let mut offsets = vec![0_usize; elements];
        // SAFETY: `text` has room for all characters, `offsets` for one entry an element.
        let status = unsafe {
            let start = text.as_mut_ptr().cast();
            (api.GetStringTensorContent)(self.as_ptr(), start, length, offsets.as_mut_ptr(), elements)
        };
        check(status)?;
        let ends = offsets.iter().skip(1).copied().chain([length]);
        let strings: Option<Vec<&[u8]>> = offsets.iter().zip(ends).map(|(&start, end)| text.get(start..end)).collect();
        let strings = strings.ok_or("the model gave strings with wrong offsets")?;
        Tensor::from_elements(shape, &strings).map_err(|error| error.to_string())
    }
}

impl Value<'static> {
    /// The value as a tensor, whose elements stay where ONNX Runtime has put them. Strings are copied.
    pub(crate) fn into_tensor(self) -> Result<Tensor, String> {
        let (element, shape) = self.type_and_shape()?;
        let dtype = dtype_from_ort(element).ok_or_else(|| format!("the model gave elements of type {element:?}"))?;
        let elements = shape.elements().ok_or_else(|| format!("the shape {shape} is too large"))?;
        let data = match dtype.size() {
            Some(_) if elements == 0 => Bytes::new(),
            Some(size) => {
                let mut data = ptr::null_mut();
                // SAFETY: the value is a tensor of numbers; the out pointer is valid.
                check(unsafe { (ort::api().GetTensorMutableData)(self.pointer.as_ptr(), &raw mut data) })?;
                let start = NonNull::new(data.cast::<u8>()).ok_or("ONNX Runtime made a value without elements")?;
                let length = elements.checked_mul(size).ok_or_else(|| format!("the shape {shape} is too large"))?;
                Bytes::from_owner(Elements { _value: self, start, length })
            }
            None => return self.strings_to_tensor(shape, elements),
        };
        Tensor::new(dtype, shape, data).map_err(|error| error.to_string())
    }
}

/// The elements of a value that ONNX Runtime made. The value is released when nobody reads them any more, on whatever thread that is;
/// it holds on to the allocator that its memory came from, so it may outlive its session.
struct Elements {
    _value: Value<'static>,
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: nobody writes the elements once the run that made the value has ended, and a value may be released on any thread.
unsafe impl Send for Elements {}
// SAFETY: as above.
unsafe impl Sync for Elements {}

impl AsRef<[u8]> for Elements {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: ONNX Runtime keeps the elements of a tensor on the processor in one block of this size, which lives as long as the
        // value.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

fn aligned_copy(data: &[u8]) -> Vec<u64> {
    data.chunks(8)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        })
        .collect()
}

/// Turns a status into a result, and frees it.
pub(crate) fn result(status: OrtStatusPtr) -> Result<(), ort::Error> {
    // SAFETY: every caller passes the status that an API function just returned, and passes it once.
    unsafe { ort::Error::result_from_status(status) }
}

fn check(status: OrtStatusPtr) -> Result<(), String> {
    result(status).map_err(|error| error.to_string())
}

/// The description of ordinary memory, made once for the process.
fn cpu_memory() -> Result<*const OrtMemoryInfo, String> {
    struct Shared(*const OrtMemoryInfo);
    // SAFETY: the description is never written or freed after it is made.
    unsafe impl Send for Shared {}
    // SAFETY: as above.
    unsafe impl Sync for Shared {}
    static MEMORY: OnceLock<Shared> = OnceLock::new();

    if let Some(shared) = MEMORY.get() {
        return Ok(shared.0);
    }
    let mut info = ptr::null_mut();
    // SAFETY: the out pointer is valid.
    let status = unsafe {
        let (kind, memory) = (ort::sys::OrtAllocatorType::OrtDeviceAllocator, ort::sys::OrtMemType::OrtMemTypeDefault);
        (ort::api().CreateCpuMemoryInfo)(kind, memory, &raw mut info)
    };
    check(status)?;
    // Two threads may race here; the loser's description stays allocated, once, and is a few bytes.
    Ok(MEMORY.get_or_init(|| Shared(info)).0)
}

fn dtype_to_ort(dtype: DType) -> Element {
    match dtype {
        DType::Bool => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        DType::U8 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        DType::U16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        DType::U32 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        DType::U64 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        DType::I8 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        DType::I16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
        DType::I32 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        DType::I64 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        DType::F16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        DType::Bf16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        DType::F32 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        DType::F64 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        DType::Bytes => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
    }
}

/// `None` for element types that the Open Inference Protocol does not have.
pub(crate) fn dtype_from_ort(element: Element) -> Option<DType> {
    DType::ALL.into_iter().find(|&dtype| dtype_to_ort(dtype) == element)
}
