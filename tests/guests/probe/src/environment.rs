//! The variables that the host grants. A function in Rust for this target has none of its own, so the interface of WASI is bound
//! here, as other languages' toolchains do.
#![allow(unsafe_code, reason = "wit-bindgen generates it")]

wit_bindgen::generate!({
    inline: "package probe:environment;
             world environment { import wasi:cli/environment@0.2.12; }",
    path: "../../../guest/wit",
    world: "probe:environment/environment",
    generate_all,
});

/// One a line, as `NAME=value`.
pub(crate) fn lines() -> String {
    let variables = wasi::cli::environment::get_environment();
    variables.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}
