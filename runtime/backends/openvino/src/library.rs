//! OpenVINO's C interface: loading it, and owners for what it hands out. Each owner frees its pointer once, when it is dropped.
//!
//! The crate `openvino` has such owners too. They are not used here since its ports are never freed, and each keeps its whole model
//! in memory; its requests cannot be cancelled while they run; and it compiles without properties. See `docs/decisions/`.

use memmap2::Mmap;
use openvino_sys as sys;
use std::{
    ffi::{CStr, CString, c_char, c_void},
    fs::File,
    path::Path,
    ptr::{self, NonNull},
};
use torpor_tensor::Dim;

/// The functions that this crate calls. A library without one of them is another library, or an older one.
const FUNCTIONS: &[&str] = &[
    "ov_available_devices_free",
    "ov_compiled_model_create_infer_request",
    "ov_compiled_model_export_model",
    "ov_compiled_model_free",
    "ov_compiled_model_get_property",
    "ov_compiled_model_input_by_index",
    "ov_compiled_model_inputs_size",
    "ov_compiled_model_output_by_index",
    "ov_compiled_model_outputs_size",
    "ov_core_compile_model_props",
    "ov_core_create",
    "ov_core_free",
    "ov_core_get_available_devices",
    "ov_core_get_property",
    "ov_core_import_model",
    "ov_core_read_model",
    "ov_core_set_properties",
    "ov_free",
    "ov_get_last_err_msg",
    "ov_get_openvino_version",
    "ov_infer_request_cancel",
    "ov_infer_request_free",
    "ov_infer_request_get_output_tensor_by_index",
    "ov_infer_request_infer",
    "ov_infer_request_set_input_tensor_by_index",
    "ov_infer_request_start_async",
    "ov_infer_request_wait",
    "ov_model_const_input_by_index",
    "ov_model_const_output_by_index",
    "ov_model_free",
    "ov_model_inputs_size",
    "ov_model_outputs_size",
    "ov_output_const_port_free",
    "ov_partial_shape_free",
    "ov_port_get_any_name",
    "ov_port_get_element_type",
    "ov_port_get_partial_shape",
    "ov_shape_free",
    "ov_tensor_create_from_host_ptr",
    "ov_tensor_data",
    "ov_tensor_free",
    "ov_tensor_get_element_type",
    "ov_tensor_get_shape",
    "ov_version_free",
];

/// Loads the library at `path`, and says its version, such as `2026.4.1`. The functions of this file may be called after that,
/// and not before. A bare file name is sought by the system's loader.
pub(crate) fn load(path: &Path) -> Result<String, String> {
    // Looked at first, since the bindings keep whatever they have loaded, and panic when they call what it does not have.
    // SAFETY: loading runs the library's initializers, which is what an operator who names it, or installed it, asks for.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| error.to_string())?;
    for &function in FUNCTIONS {
        // SAFETY: the symbol is only looked up, never called or read.
        let found = unsafe { library.get::<*const c_void>(function) };
        if found.is_err() {
            return Err(format!(
                "it is no library of OpenVINO's C interface, or one older than 2026.4: it has no `{function}`"
            ));
        }
    }
    sys::library::load_from(path)?;
    let mut version = sys::ov_version_t { buildNumber: ptr::null(), description: ptr::null() };
    // SAFETY: the out pointer is valid.
    check(unsafe { sys::ov_get_openvino_version(&raw mut version) })?;
    // SAFETY: the library has written a NUL-terminated text, which it owns until it is freed below.
    let build = unsafe { CStr::from_ptr(version.buildNumber) }.to_string_lossy().into_owned();
    // SAFETY: the version was just filled by the library, and is freed once.
    unsafe { sys::ov_version_free(&raw mut version) };
    // `2026.4.1-22982-e213a147257-releases/2026/4`: what follows the first hyphen names the build.
    Ok(build.split('-').next().unwrap_or_default().to_owned())
}

/// Turns a status into a result. The library keeps the text of its last error for the process, so where two threads fail at the same
/// time one of them may tell the other's reason.
fn check(status: sys::ov_status_e) -> Result<(), String> {
    if status == sys::ov_status_e::OK {
        return Ok(());
    }
    // SAFETY: no arguments; the text is a copy that the caller owns.
    let text = unsafe { take_text(sys::ov_get_last_err_msg()) };
    // Messages are indented over several lines, of which the first ones name the library's source files.
    let told = text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    Err(if told.is_empty() { format!("status {status:?}") } else { told })
}

/// Copies a text, and frees the library's.
///
/// # Safety
/// `text` is null, or a NUL-terminated text that the library handed over.
unsafe fn take_text(text: *const c_char) -> Option<String> {
    let text = NonNull::new(text.cast_mut())?;
    // SAFETY: as the caller says.
    let copy = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned();
    // SAFETY: the caller gives the text away.
    unsafe { sys::ov_free(text.as_ptr()) };
    Some(copy)
}

/// How models are made ready for a device: keys, each of which takes a text, and the texts.
pub(crate) type Properties = [(&'static CStr, CString)];

/// What the library takes for `properties`, which must stay alive.
fn pointers(properties: &Properties) -> Vec<sys::ov_property_t> {
    let property =
        |(key, value): &(&CStr, CString)| sys::ov_property_t { key: key.as_ptr(), value: value.as_ptr().cast() };
    properties.iter().map(property).collect()
}

/// An owner of one kind of pointer.
macro_rules! owner {
    ($(#[doc = $doc:literal])+ $name:ident, $raw:ident, $free:ident) => {
        $(#[doc = $doc])+
        pub(crate) struct $name(NonNull<sys::$raw>);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the library handed the pointer over to this owner, which frees it here and nowhere else.
                unsafe { sys::$free(self.0.as_ptr()) };
            }
        }

        impl $name {
            /// Takes over what `make` writes to the pointer that it is given.
            ///
            /// # Safety
            /// Where `make` gives `OK`, it has written a valid pointer that nobody else frees.
            unsafe fn made(make: impl FnOnce(*mut *mut sys::$raw) -> sys::ov_status_e) -> Result<Self, String> {
                let mut pointer = ptr::null_mut();
                check(make(&raw mut pointer))?;
                NonNull::new(pointer).map(Self).ok_or_else(|| "the library made nothing".to_owned())
            }
        }
    };
}

owner! {
    /// The library's state: its plugins, and how they do what they are not told more about.
    Core, ov_core_t, ov_core_free
}
owner! {
    /// A model as it was read. Needed to compile it, and not after that.
    Model, ov_model_t, ov_model_free
}
owner! {
    /// What [`Compiled`] owns.
    Ready, ov_compiled_model_t, ov_compiled_model_free
}
owner! {
    /// A place for one run at a time, with the memory that the run needs.
    Request, ov_infer_request_t, ov_infer_request_free
}
owner! {
    /// A tensor, of which the library may have made the memory.
    Value, ov_tensor_t, ov_tensor_free
}
owner! {
    /// An input or output of a model.
    Port, ov_output_const_port_t, ov_output_const_port_free
}

/// A model that is ready for one device. Requests of it must be freed before it.
pub(crate) struct Compiled {
    ready: Ready,
    /// The file that it was imported from, whose weights it uses where they lie. Declared last, so that it is unmapped last.
    _form: Option<Mmap>,
}

// SAFETY: `ov::Core` is documented as safe to use from several threads at the same time.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}
// SAFETY: a compiled model belongs to no thread. It is not `Sync`: `OvSession` calls it under a lock.
unsafe impl Send for Ready {}
// SAFETY: a request belongs to no thread.
unsafe impl Send for Request {}
// SAFETY: the one call that happens beside others is `cancel`, which the library documents as safe from another thread while a run
// is under way. All others are made by the one thread that has taken the request from the session's pool.
unsafe impl Sync for Request {}

impl Core {
    pub(crate) fn new() -> Result<Self, String> {
        // SAFETY: the library writes a pointer that it hands over.
        unsafe { Self::made(|core| sys::ov_core_create(core)) }
    }

    /// Reads a model, and its weights where they are in a file of their own.
    pub(crate) fn read(&self, model: &CStr, weights: Option<&CStr>) -> Result<Model, String> {
        let weights = weights.map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: the core and the texts are alive, and no weights are a null pointer; the library writes a pointer that it hands over.
        unsafe { Model::made(|made| sys::ov_core_read_model(self.0.as_ptr(), model.as_ptr(), weights, made)) }
    }

    /// Makes `model` ready for `device`.
    pub(crate) fn compile(&self, model: &Model, device: &CStr, properties: &Properties) -> Result<Compiled, String> {
        let properties = pointers(properties);
        // SAFETY: core, model, texts and properties are alive, and there are as many properties as said; the library writes a
        // pointer that it hands over.
        let ready = unsafe {
            Ready::made(|made| {
                let (count, properties) = (properties.len(), properties.as_ptr());
                sys::ov_core_compile_model_props(
                    self.0.as_ptr(),
                    model.0.as_ptr(),
                    device.as_ptr(),
                    count,
                    properties,
                    made,
                )
            })
        }?;
        Ok(Compiled { ready, _form: None })
    }

    /// Sets how `device` does what it is not told more about. Nothing else may use this core meanwhile.
    pub(crate) fn set(&self, device: &CStr, properties: &Properties) -> Result<(), String> {
        let properties = pointers(properties);
        let (count, properties) = (properties.len(), properties.as_ptr());
        // SAFETY: core, texts and properties are alive, and there are as many properties as said.
        check(unsafe { sys::ov_core_set_properties(self.0.as_ptr(), device.as_ptr(), count, properties) })
    }

    /// A model from the file that [`Compiled::export`] wrote for `device`. It gets the properties that this core has for the device.
    pub(crate) fn import(&self, form: &File, device: &CStr) -> Result<Compiled, String> {
        // SAFETY: whoever may change the file is the host's own user, who must replace files by renaming and never in place.
        let form = unsafe { Mmap::map(form) }.map_err(|error| format!("cannot map its compiled form: {error}"))?;
        let (content, size) = (form.as_ptr().cast(), form.len());
        // SAFETY: the core and the text are alive, and the content, which has as many bytes as said, is so until the model is freed,
        // for the library does not copy the weights; it writes a pointer that it hands over.
        let ready = unsafe {
            Ready::made(|made| sys::ov_core_import_model(self.0.as_ptr(), content, size, device.as_ptr(), made))
        }?;
        Ok(Compiled { ready, _form: Some(form) })
    }

    /// The devices whose plugins are here and work, such as `CPU`, or `GPU.0` where there are several.
    pub(crate) fn devices(&self) -> Result<Vec<String>, String> {
        let mut found = sys::ov_available_devices_t { devices: ptr::null_mut(), size: 0 };
        // SAFETY: the core is alive, and the out pointer is valid.
        check(unsafe { sys::ov_core_get_available_devices(self.0.as_ptr(), &raw mut found) })?;
        // SAFETY: the library has written as many NUL-terminated texts as it says.
        let name = |index| unsafe { CStr::from_ptr(*found.devices.add(index)) }.to_string_lossy().into_owned();
        let names = (0..found.size).map(name).collect();
        // SAFETY: the list was just filled by the library, and is freed once.
        unsafe { sys::ov_available_devices_free(&raw mut found) };
        Ok(names)
    }

    /// What a device says of itself under `key`.
    pub(crate) fn property(&self, device: &CStr, key: &CStr) -> Result<String, String> {
        let mut text = ptr::null_mut();
        // SAFETY: the core and the texts are alive, and the out pointer is valid.
        check(unsafe { sys::ov_core_get_property(self.0.as_ptr(), device.as_ptr(), key.as_ptr(), &raw mut text) })?;
        // SAFETY: the library has handed over a text, or written nothing.
        Ok(unsafe { take_text(text) }.unwrap_or_default())
    }
}

/// What a model takes and gives, in its order.
pub(crate) struct Ports {
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
}

/// All ports of one side of a model.
///
/// # Safety
/// Where `count` gives `OK`, it has written how many there are. Where `make` gives `OK` for an index below that, it has written
/// a valid pointer that nobody else frees.
unsafe fn side(
    count: impl FnOnce(*mut usize) -> sys::ov_status_e,
    make: impl Fn(usize, *mut *mut sys::ov_output_const_port_t) -> sys::ov_status_e,
) -> Result<Vec<Port>, String> {
    let mut length = 0;
    check(count(&raw mut length))?;
    // SAFETY: as the caller says.
    (0..length).map(|index| unsafe { Port::made(|made| make(index, made)) }).collect()
}

impl Model {
    pub(crate) fn ports(&self) -> Result<Ports, String> {
        let model = self.0.as_ptr();
        // SAFETY: the model is alive, and so are the out pointers; the library writes pointers that it hands over.
        unsafe {
            Ok(Ports {
                inputs: side(
                    |count| sys::ov_model_inputs_size(model, count),
                    |index, made| sys::ov_model_const_input_by_index(model, index, made),
                )?,
                outputs: side(
                    |count| sys::ov_model_outputs_size(model, count),
                    |index, made| sys::ov_model_const_output_by_index(model, index, made),
                )?,
            })
        }
    }
}

impl Port {
    /// One of its names; `None` for one that has none.
    pub(crate) fn name(&self) -> Option<String> {
        let mut name = ptr::null_mut();
        // SAFETY: the port is alive, and the out pointer is valid.
        check(unsafe { sys::ov_port_get_any_name(self.0.as_ptr(), &raw mut name) }).ok()?;
        // SAFETY: the library has handed over a text, or written nothing.
        unsafe { take_text(name) }
    }

    /// Its element type, in the library's numbers.
    pub(crate) fn element(&self) -> Result<u32, String> {
        let mut element = 0_u32;
        // A number and not the enum, which a newer library may know more variants of.
        // SAFETY: the port is alive, and the enum that the library writes has the representation of `u32`.
        check(unsafe { sys::ov_port_get_element_type(self.0.as_ptr(), (&raw mut element).cast()) })?;
        Ok(element)
    }

    /// The size of each dimension; `None` where even the rank may vary.
    pub(crate) fn dims(&self) -> Result<Option<Vec<Dim>>, String> {
        let any = sys::ov_dimension_t { min: 0, max: 0 };
        let mut shape = sys::ov_partial_shape_t { rank: any, dims: ptr::null_mut() };
        // SAFETY: the port is alive, and the out pointer is valid.
        check(unsafe { sys::ov_port_get_partial_shape(self.0.as_ptr(), &raw mut shape) })?;
        let rank = (shape.rank.min == shape.rank.max).then(|| usize::try_from(shape.rank.max).ok()).flatten();
        let dim = |index| {
            // SAFETY: a shape whose rank is known has that many dimensions.
            let sys::ov_dimension_t { min, max } = unsafe { *shape.dims.add(index) };
            u64::try_from(min).ok().filter(|_| min == max).map_or(Dim::Any, Dim::Fixed)
        };
        let dims = rank.map(|rank| (0..rank).map(dim).collect());
        // SAFETY: the shape was just filled by the library, and is freed once.
        unsafe { sys::ov_partial_shape_free(&raw mut shape) };
        Ok(dims)
    }
}

impl Compiled {
    pub(crate) fn ports(&self) -> Result<Ports, String> {
        let compiled = self.ready.0.as_ptr();
        // SAFETY: the compiled model is alive, and so are the out pointers; the library writes pointers that it hands over.
        unsafe {
            Ok(Ports {
                inputs: side(
                    |count| sys::ov_compiled_model_inputs_size(compiled, count),
                    |index, made| sys::ov_compiled_model_input_by_index(compiled, index, made),
                )?,
                outputs: side(
                    |count| sys::ov_compiled_model_outputs_size(compiled, count),
                    |index, made| sys::ov_compiled_model_output_by_index(compiled, index, made),
                )?,
            })
        }
    }

    /// Writes the model, as it is ready for its device, to the file at `path`.
    pub(crate) fn export(&self, path: &CStr) -> Result<(), String> {
        // SAFETY: the compiled model and the text are alive.
        check(unsafe { sys::ov_compiled_model_export_model(self.ready.0.as_ptr(), path.as_ptr()) })
    }

    /// What it has under `key`, whoever set it.
    pub(crate) fn property(&self, key: &CStr) -> Result<String, String> {
        let mut text = ptr::null_mut();
        // SAFETY: the compiled model and the text are alive, and the out pointer is valid.
        check(unsafe { sys::ov_compiled_model_get_property(self.ready.0.as_ptr(), key.as_ptr(), &raw mut text) })?;
        // SAFETY: the library has handed over a text, or written nothing.
        Ok(unsafe { take_text(text) }.unwrap_or_default())
    }

    pub(crate) fn request(&self) -> Result<Request, String> {
        // SAFETY: the compiled model is alive; the library writes a pointer that it hands over.
        unsafe { Request::made(|made| sys::ov_compiled_model_create_infer_request(self.ready.0.as_ptr(), made)) }
    }
}

impl Request {
    /// Sets an input.
    ///
    /// # Safety
    /// The memory of `value` lives until the run that comes next has ended. No run may begin after that before the input is set anew.
    pub(crate) unsafe fn set_input(&self, index: usize, value: &Value) -> Result<(), String> {
        // SAFETY: request and tensor are alive.
        check(unsafe { sys::ov_infer_request_set_input_tensor_by_index(self.0.as_ptr(), index, value.0.as_ptr()) })
    }

    /// An output of the run that has ended, until the next one begins.
    pub(crate) fn output(&self, index: usize) -> Result<Value, String> {
        // SAFETY: the request is alive; the library writes a pointer that it hands over.
        unsafe { Value::made(|made| sys::ov_infer_request_get_output_tensor_by_index(self.0.as_ptr(), index, made)) }
    }

    /// Runs on this thread and the library's. Nothing can stop it.
    pub(crate) fn infer(&self) -> Result<(), String> {
        // SAFETY: the request is alive.
        check(unsafe { sys::ov_infer_request_infer(self.0.as_ptr()) })
    }

    /// Starts a run on the library's threads.
    pub(crate) fn start(&self) -> Result<(), String> {
        // SAFETY: the request is alive.
        check(unsafe { sys::ov_infer_request_start_async(self.0.as_ptr()) })
    }

    /// Waits for the end of the run.
    pub(crate) fn wait(&self) -> Result<(), String> {
        // SAFETY: the request is alive.
        check(unsafe { sys::ov_infer_request_wait(self.0.as_ptr()) })
    }

    /// Stops the run at its next operator; does nothing where none is under way. Any thread may call it.
    pub(crate) fn cancel(&self) {
        // It can fail only for a request that is not there.
        // SAFETY: the request is alive.
        let _ = check(unsafe { sys::ov_infer_request_cancel(self.0.as_ptr()) });
    }
}

impl Value {
    /// A tensor over memory of this process.
    ///
    /// # Safety
    /// `start` is aligned for the elements, followed by as many bytes as the shape says, and alive for as long as the tensor is read.
    /// Nothing is written to it.
    pub(crate) unsafe fn over(
        element: sys::ov_element_type_e,
        dims: &mut [i64],
        start: *const c_void,
    ) -> Result<Self, String> {
        let rank = i64::try_from(dims.len()).map_err(|_| "a shape of too many dimensions")?;
        // The library copies the shape. It is never freed by `ov_shape_free`, since its memory is not the library's.
        let shape = sys::ov_shape_t { rank, dims: dims.as_mut_ptr() };
        // SAFETY: as the caller says; the library writes a pointer that it hands over.
        unsafe { Self::made(|made| sys::ov_tensor_create_from_host_ptr(element, shape, start.cast_mut(), made)) }
    }

    /// Its element type, in the library's numbers.
    pub(crate) fn element(&self) -> Result<u32, String> {
        let mut element = 0_u32;
        // SAFETY: the tensor is alive, and the enum that the library writes has the representation of `u32`.
        check(unsafe { sys::ov_tensor_get_element_type(self.0.as_ptr(), (&raw mut element).cast()) })?;
        Ok(element)
    }

    pub(crate) fn dims(&self) -> Result<Vec<u64>, String> {
        let mut shape = sys::ov_shape_t { rank: 0, dims: ptr::null_mut() };
        // SAFETY: the tensor is alive, and the out pointer is valid.
        let status = unsafe { sys::ov_tensor_get_shape(self.0.as_ptr(), &raw mut shape) };
        // It refuses to write a shape without dimensions, and has nothing else to refuse two valid pointers for.
        if status == sys::ov_status_e::INVALID_C_PARAM {
            return Ok(Vec::new());
        }
        check(status)?;
        let rank = usize::try_from(shape.rank).unwrap_or(0);
        // SAFETY: the library has written as many dimensions as the rank says.
        let dims = (0..rank).map(|index| u64::try_from(unsafe { *shape.dims.add(index) })).collect::<Result<_, _>>();
        // SAFETY: the shape was just filled by the library, and is freed once.
        check(unsafe { sys::ov_shape_free(&raw mut shape) })?;
        dims.map_err(|_| "the model gave a negative dimension".to_owned())
    }

    /// Its elements: `length` bytes of them.
    ///
    /// # Safety
    /// The tensor holds numbers, and as many bytes of them.
    pub(crate) unsafe fn bytes(&self, length: usize) -> Result<&[u8], String> {
        if length == 0 {
            return Ok(&[]);
        }
        let mut data = ptr::null_mut::<c_void>();
        // SAFETY: the tensor is alive, and the out pointer is valid.
        check(unsafe { sys::ov_tensor_data(self.0.as_ptr(), &raw mut data) })?;
        let data = NonNull::new(data).ok_or("the model gave a tensor without memory")?;
        // SAFETY: as the caller says; the memory belongs to the tensor, which this borrows.
        Ok(unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), length) })
    }
}
