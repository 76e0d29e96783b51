//! Values of which there are only a few. `section` reads them; the engine and the gateway match on them.

use std::fmt;

/// A closed set of written words.
pub(crate) trait Choice: Copy + 'static {
    /// Every value, in the order in which a help text names them.
    const ALL: &'static [Self];

    /// Their words, in the same order.
    const WORDS: &'static [&'static str];

    /// The word for it.
    fn word(self) -> &'static str;

    /// What to say about a word that is understood but is none of them.
    fn hint(given: &str) -> Option<&'static str>;
}

/// Gives an enum its words, and the function that knows hints.
macro_rules! choice {
    ($type:ident { $($variant:ident => $word:literal),+ } $hint:expr) => {
        impl $type {
            /// The word that a manifest has for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($type::$variant => $word),+
                }
            }
        }

        impl Choice for $type {
            const ALL: &'static [Self] = &[$($type::$variant),+];
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn word(self) -> &'static str {
                self.as_str()
            }

            fn hint(given: &str) -> Option<&'static str> {
                $hint(given)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

/// The library that runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BackendChoice {
    /// The best one that this host has.
    #[default]
    Auto,
    /// ONNX Runtime, found at run time.
    OnnxRuntime,
    /// OpenVINO, found at run time.
    OpenVino,
    /// tract, in pure Rust and always there.
    Tract,
}
choice!(BackendChoice {
    Auto => "auto", OnnxRuntime => "onnxruntime", OpenVino => "openvino", Tract => "tract"
} no_hint);

impl BackendChoice {
    /// The devices that it may have, on one host or another.
    pub(crate) const fn devices(self) -> &'static [Device] {
        match self {
            BackendChoice::Auto => Device::ALL,
            BackendChoice::OnnxRuntime => &[Device::Cpu, Device::Cuda, Device::TensorRt],
            BackendChoice::OpenVino => &[Device::Cpu, Device::Gpu, Device::Npu],
            BackendChoice::Tract => &[Device::Cpu],
        }
    }

    /// The precisions that it may compute in.
    pub(crate) const fn precisions(self) -> &'static [Precision] {
        match self {
            BackendChoice::Auto | BackendChoice::OpenVino => Precision::ALL,
            BackendChoice::OnnxRuntime | BackendChoice::Tract => &[Precision::F32],
        }
    }
}

/// The device that a model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by ONNX Runtime's CUDA provider.
    Cuda,
    /// An NVIDIA GPU, by ONNX Runtime's TensorRT provider.
    TensorRt,
    /// An Intel GPU, by OpenVINO.
    Gpu,
    /// An Intel NPU, by OpenVINO.
    Npu,
}
choice!(Device { Cpu => "cpu", Cuda => "cuda", TensorRt => "tensorrt", Gpu => "gpu", Npu => "npu" } no_hint);

/// What a library may compute a model's 32-bit floating-point numbers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// As the model says.
    #[default]
    F32,
    /// BF16: the range of 32 bits, with 8 bits of precision.
    Bf16,
    /// FP16: a range up to 65504, with 11 bits of precision.
    F16,
}
choice!(Precision { F32 => "f32", Bf16 => "bf16", F16 => "f16" } no_hint);

/// Where a model is opened and run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// In the host's own process.
    #[default]
    Host,
    /// In a process of its own.
    Process,
}
choice!(Isolation { Host => "host", Process => "process" } no_hint);

/// Which requests get more of a model's time than others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Priority {
    /// Four times as much.
    High,
    /// As much as others.
    #[default]
    Normal,
    /// A quarter.
    Low,
}
choice!(Priority { High => "high", Normal => "normal", Low => "low" } no_hint);

/// An HTTP method that a route may be limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is the method of its name")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
}
choice!(Method {
    Get => "GET", Head => "HEAD", Post => "POST", Put => "PUT", Delete => "DELETE", Patch => "PATCH", Options => "OPTIONS"
} no_hint);

fn no_hint(_given: &str) -> Option<&'static str> {
    None
}
