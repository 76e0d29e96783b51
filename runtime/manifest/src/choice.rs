//! Values of which there are only a few. `section` reads them; the engine and the gateway match on them.

use std::fmt;

/// A closed set of written words.
pub(crate) trait Choice: Copy + 'static {
    /// Every value, in the order in which a help text names them.
    const ALL: &'static [Self];

    /// The word for it.
    fn word(self) -> &'static str;

    /// What to say about a word that is understood but is none of them.
    fn hint(_given: &str) -> Option<&'static str> {
        None
    }
}

/// The library that runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BackendChoice {
    /// The best one that this host has.
    #[default]
    Auto,
    /// ONNX Runtime, found at run time.
    OnnxRuntime,
    /// tract, in pure Rust and always there.
    Tract,
}

impl BackendChoice {
    /// The word that a manifest has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            BackendChoice::Auto => "auto",
            BackendChoice::OnnxRuntime => "onnxruntime",
            BackendChoice::Tract => "tract",
        }
    }
}

impl Choice for BackendChoice {
    const ALL: &'static [Self] = &[BackendChoice::Auto, BackendChoice::OnnxRuntime, BackendChoice::Tract];

    fn word(self) -> &'static str {
        self.as_str()
    }

    fn hint(given: &str) -> Option<&'static str> {
        given
            .eq_ignore_ascii_case("openvino")
            .then_some("this version has no `openvino` backend yet; write `auto`, `onnxruntime` or `tract`")
    }
}

/// The device that a model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
}

impl Device {
    /// The word that a manifest has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
        }
    }
}

impl Choice for Device {
    const ALL: &'static [Self] = &[Device::Cpu];

    fn word(self) -> &'static str {
        self.as_str()
    }

    fn hint(given: &str) -> Option<&'static str> {
        (!given.eq_ignore_ascii_case("cpu")).then_some("this version runs models on the processor only; write `cpu`")
    }
}

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

impl Method {
    /// The method as it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Patch => "PATCH",
            Method::Options => "OPTIONS",
        }
    }
}

impl Choice for Method {
    const ALL: &'static [Self] = &[
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Patch,
        Method::Options,
    ];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
