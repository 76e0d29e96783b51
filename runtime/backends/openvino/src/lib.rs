//! OpenVINO behind [`torpor_nn::Backend`].
//!
//! The library is found at run time, so that one host binary serves with or without it. All goes through its C interface:
//! `library.rs` owns what it hands out, `value.rs` shows it our memory, `session.rs` runs. No other file here is unsafe.
//!
//! A run is interrupted between two operators; a loop is one operator.

#![allow(unsafe_code, reason = "the C interface of OpenVINO; every block says why it holds")]

mod library;
mod session;
mod value;

use library::{Compiled, Core};
use session::OvSession;
use std::{
    collections::HashMap,
    env::consts::{DLL_PREFIX, DLL_SUFFIX},
    ffi::{CStr, CString},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tempfile::TempDir;
use torpor_nn::{Backend, BackendKind, Device, Error, ModelFiles, ModelFormat, OpenOptions, Precision, Session, Tier};
use torpor_tensor::Signature;

/// The file of an optimized form: the model as it is ready for the processor.
const FORM: &str = "compiled";

/// The library's word for the processor.
const PROCESSOR: &CStr = c"CPU";
/// What a device says it computes well with.
const CAPABILITIES: &CStr = c"OPTIMIZATION_CAPABILITIES";

/// OpenVINO, loaded. One per process, since the library keeps global state.
pub struct OpenVino {
    core: Core,
    /// A core for each way to open forms that was asked for, since importing takes a core's properties and none of its own. None
    /// is ever changed, so that models can be imported at the same time. There are few ways, and a core takes next to nothing.
    importers: Mutex<HashMap<Vec<Property>, Arc<Core>>>,
    version: String,
    path: PathBuf,
}

/// OpenVINO could not be loaded. The text lists every place that was tried.
#[derive(Debug, thiserror::Error)]
#[error(
    "{tried}; get it with `pip download --no-deps openvino` and unpack the wheel, or from your distribution, and name the folder with \
     `--openvino DIR`"
)]
pub struct NotFound {
    tried: String,
}

impl OpenVino {
    /// Loads the first library of `candidates` that works: files, folders that have the library in them, or in `openvino/libs` as an
    /// unpacked wheel does, and bare file names, which the system's loader seeks.
    ///
    /// # Errors
    /// When none works; the text says what was wrong with each.
    pub fn load(candidates: &[PathBuf]) -> Result<Self, NotFound> {
        let mut tried = Vec::new();
        for candidate in candidates {
            match located(candidate).and_then(|path| Self::load_one(&path)) {
                Ok(backend) => return Ok(backend),
                Err(reason) => tried.push(format!("`{}`: {reason}", candidate.display())),
            }
        }
        let tried = if tried.is_empty() { "no path to try".to_owned() } else { format!("tried {}", tried.join("; ")) };
        Err(NotFound { tried })
    }

    fn load_one(path: &Path) -> Result<Self, String> {
        let version = library::load(path)?;
        Ok(OpenVino { core: Core::new()?, importers: Mutex::default(), version, path: path.to_owned() })
    }
}

/// The library that `candidate` means.
fn located(candidate: &Path) -> Result<PathBuf, String> {
    if candidate.is_dir() {
        let name = format!("{DLL_PREFIX}openvino_c");
        let below = candidate.join("openvino").join("libs");
        let found = [candidate, below.as_path()].into_iter().find_map(|folder| newest(folder, &name));
        return found
            .ok_or_else(|| format!("the folder has no `{name}{DLL_SUFFIX}`, and neither has `openvino/libs` in it"));
    }
    // A bare name is for the system's loader; anything with a folder in it must be there.
    if candidate.components().count() > 1 && !candidate.is_file() {
        return Err("no such file or folder".to_owned());
    }
    Ok(candidate.to_owned())
}

/// The library `name` of `folder`, whose file may carry its version behind its name, as in `libopenvino_c.so.2641`.
fn newest(folder: &Path, name: &str) -> Option<PathBuf> {
    let suffix = DLL_SUFFIX.trim_start_matches('.');
    let is_it = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let rest = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        rest.is_some_and(|rest| rest.split('.').any(|part| part == suffix))
    };
    fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(is_it).max()
}

/// The library's word for a device; `None` for one that is not OpenVINO's.
fn device_name(device: Device) -> Option<&'static CStr> {
    match device {
        Device::Cpu => Some(PROCESSOR),
        Device::Gpu => Some(c"GPU"),
        Device::Npu => Some(c"NPU"),
        Device::Cuda | Device::TensorRt => None,
    }
}

/// A key of the library, and its value.
type Property = (&'static CStr, CString);

/// How a model is compiled. Nothing is left to the library's own taste: on some processors it would compute in BF16.
fn properties(options: &OpenOptions) -> Result<Vec<Property>, String> {
    let text = |text: String| CString::new(text).map_err(|error| error.to_string());
    let mut properties = vec![
        (c"INFERENCE_PRECISION_HINT", text(options.precision.to_string())?),
        (c"NUM_STREAMS", text(options.parallel.to_string())?),
    ];
    if options.device == Device::Cpu {
        let threads = options.threads.saturating_mul(options.parallel);
        properties.push((c"INFERENCE_NUM_THREADS", text(threads.to_string())?));
        // Functions share the processors, and pinned threads of two of them would share one of them.
        properties.push((c"ENABLE_CPU_PINNING", text("NO".to_owned())?));
    }
    Ok(properties)
}

impl Backend for OpenVino {
    fn kind(&self) -> BackendKind {
        BackendKind::OpenVino
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn library(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn devices(&self) -> Vec<String> {
        let failed = |error: &String| tracing::warn!(error, "OpenVINO does not tell its devices");
        self.core.devices().inspect_err(failed).unwrap_or_default()
    }

    fn accepts(&self, options: &OpenOptions) -> Result<(), String> {
        let OpenOptions { device, precision, .. } = *options;
        let Some(name) = device_name(device) else {
            let help = "write `device = \"cpu\"`, or `backend = \"onnxruntime\"`";
            return Err(format!("it has no device `{device}`; {help}"));
        };
        // Plugins are loaded when they are asked, which a host that only wants the usual should not pay for.
        if device != Device::Cpu {
            let devices = self.core.devices()?;
            let wanted = name.to_string_lossy();
            if !devices.iter().any(|here| here.split('.').next() == Some(&*wanted)) {
                return Err(format!(
                    "`device = \"{device}\"` needs the device {wanted} with its driver and its plugin beside `{}`, which has {} only",
                    self.path.display(),
                    devices.join(", "),
                ));
            }
        }
        let capability = match precision {
            Precision::F32 => return Ok(()),
            Precision::Bf16 => "BF16",
            Precision::F16 => "FP16",
        };
        let capabilities = self.core.property(name, CAPABILITIES)?;
        if !capabilities.split_whitespace().any(|known| known == capability) {
            return Err(format!(
                "the device `{device}` does not compute in {precision} (it has {capabilities}); write `precision = \"f32\"`"
            ));
        }
        Ok(())
    }

    fn opens(&self, format: ModelFormat) -> bool {
        matches!(format, ModelFormat::Onnx | ModelFormat::OpenVinoIr | ModelFormat::TfLite)
    }

    fn open(&self, files: &ModelFiles, options: &OpenOptions) -> Result<Arc<dyn Session>, Error> {
        let open = || {
            let (signature, compiled) = match options.tier {
                Tier::Original => self.compile(files, options, &properties(options)?)?,
                Tier::Baseline | Tier::Optimized => self.import(&files.model.join(FORM), options)?,
            };
            OvSession::new(signature, compiled)
        };
        Ok(Arc::new(open().map_err(|reason| failed(files, reason))?))
    }

    fn optimize(&self, files: &ModelFiles, options: &OpenOptions, folder: &Path) -> Result<&'static [Tier], Error> {
        // What other devices export was never tried.
        if options.device != Device::Cpu {
            return Ok(&[]);
        }
        let optimize = || {
            let path = folder.join(FORM);
            let properties = properties(options)?;
            // A form has its weights in it. The other mode leaves those of some formats where they were, in a file that may be gone.
            let whole = [&properties[..], &[(c"CACHE_MODE", c"OPTIMIZE_SPEED".to_owned())]].concat();
            let (signature, compiled) = self.compile(files, options, &whole)?;
            compiled.export(&text(&path)?)?;
            let has = held(&compiled, &properties)?;
            // Not kept beside the other, which takes as much memory again.
            drop(compiled);
            // The call that imports is not told the properties, so what it does is looked at: a host must not compute in BF16 unasked.
            let (imported, compiled) = self.import(&path, options)?;
            match imported == signature && held(&compiled, &properties)? == has {
                true => Ok(()),
                false => Err("its compiled form is not opened as the model itself is".to_owned()),
            }
        };
        optimize().map_err(|reason| failed(files, reason))?;
        Ok(&[Tier::Optimized])
    }
}

impl OpenVino {
    /// Reads a model and makes it ready.
    fn compile(
        &self,
        files: &ModelFiles,
        options: &OpenOptions,
        properties: &[Property],
    ) -> Result<(Signature, Compiled), String> {
        let device = device_name(options.device).ok_or_else(|| format!("it has no device `{}`", options.device))?;
        // Kept until the model is compiled, which may read on.
        let named = Named::new(&files.model, files.format)?;
        let weights = files.weights.as_deref().map(text).transpose()?;
        let model = self.core.read(&text(&named.path)?, weights.as_deref())?;
        let signature = session::signature(&model.ports()?)?;
        Ok((signature, self.core.compile(&model, device, properties)?))
    }

    /// Opens the compiled model that [`Backend::optimize`] wrote to the file at `path`.
    fn import(&self, path: &Path, options: &OpenOptions) -> Result<(Signature, Compiled), String> {
        let form = fs::File::open(path).map_err(|error| format!("cannot open `{}`: {error}", path.display()))?;
        let compiled = self.importer(&properties(options)?)?.import(&form, PROCESSOR)?;
        Ok((session::signature(&compiled.ports()?)?, compiled))
    }

    /// The core that imports models for the processor with these properties.
    fn importer(&self, properties: &[Property]) -> Result<Arc<Core>, String> {
        let mut importers = self.importers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(core) = importers.get(properties) {
            return Ok(Arc::clone(core));
        }
        let core = Arc::new(Core::new()?);
        core.set(PROCESSOR, properties)?;
        importers.insert(properties.to_vec(), Arc::clone(&core));
        Ok(core)
    }
}

/// What a compiled model has of these properties, in the library's words, which need not be those that it was given.
fn held(compiled: &Compiled, properties: &[Property]) -> Result<Vec<String>, String> {
    properties.iter().map(|(key, _)| compiled.property(key)).collect()
}

fn failed(files: &ModelFiles, reason: String) -> Error {
    Error::Open { backend: BackendKind::OpenVino, model: files.to_string(), reason }
}

/// A model's file under a name that the library takes.
struct Named {
    path: PathBuf,
    /// The folder of the other name, which goes with it.
    _folder: Option<TempDir>,
}

impl Named {
    /// TensorFlow Lite's files are known to the library by the end of their names alone, and the content store names files by their
    /// digests, so such a file gets a second name.
    fn new(path: &Path, format: ModelFormat) -> Result<Self, String> {
        // A name that is right already may be all that a process without the right to make files has.
        let ending = path.extension().is_some_and(|ending| ending == format.extension());
        if format != ModelFormat::TfLite || ending {
            return Ok(Named { path: path.to_owned(), _folder: None });
        }
        let link = || -> io::Result<Self> {
            let folder = TempDir::with_prefix("torpor-model-")?;
            let name = folder.path().join("model").with_extension(format.extension());
            std::os::unix::fs::symlink(std::path::absolute(path)?, &name)?;
            Ok(Named { path: name, _folder: Some(folder) })
        };
        link().map_err(|error| format!("it cannot be given a name that ends in `.{}`: {error}", format.extension()))
    }
}

fn text(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| "its path holds a NUL character".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn not_found(candidates: &[PathBuf], words: &[&str]) {
        let error = OpenVino::load(candidates).err().expect("nothing is there").to_string();
        for word in words.iter().chain(&["pip download", "--openvino DIR"]) {
            assert!(error.contains(word), "`{word}` in {error}");
        }
    }

    #[test]
    fn a_missing_library_says_what_was_sought_where() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        not_found(&[], &["no path to try"]);
        not_found(
            &[folder.join("gone.so"), folder.to_owned()],
            &["gone.so", "no such file", "the folder has no", "openvino/libs"],
        );
        not_found(&[folder.join("Cargo.toml")], &["Cargo.toml"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_library_is_refused_and_never_called() {
        // Every process on Linux has the C library.
        not_found(&[PathBuf::from("libc.so.6")], &["libc.so.6", "it is no library of OpenVINO", "`ov_"]);
    }
}
