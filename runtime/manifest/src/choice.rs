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
    /// tract, in pure Rust and always there.
    Tract,
}
choice!(BackendChoice { Auto => "auto", OnnxRuntime => "onnxruntime", Tract => "tract" } backend_hint);

fn backend_hint(given: &str) -> Option<&'static str> {
    let help = "this version has no `openvino` backend yet; write `auto`, `onnxruntime` or `tract`";
    given.eq_ignore_ascii_case("openvino").then_some(help)
}

/// The device that a model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
}
choice!(Device { Cpu => "cpu" } device_hint);

fn device_hint(given: &str) -> Option<&'static str> {
    (!given.eq_ignore_ascii_case("cpu")).then_some("this version runs models on the processor only; write `cpu`")
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
choice!(Method {
    Get => "GET", Head => "HEAD", Post => "POST", Put => "PUT", Delete => "DELETE", Patch => "PATCH", Options => "OPTIONS"
} no_hint);

fn no_hint(_given: &str) -> Option<&'static str> {
    None
}
