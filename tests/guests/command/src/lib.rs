//! A core module that does what the first line of its input says, good or bad. It speaks WASI preview 1 and `wasi_ephemeral_nn`
//! as no toolchain would: any number may be a pointer. There is nothing of it on other machines.
#![allow(unsafe_code, reason = "its imports and its entry point are written by hand")]
#![allow(clippy::cast_possible_truncation, reason = "a pointer has 32 bits here")]

#[cfg(target_family = "wasm")]
mod host;
#[cfg(target_family = "wasm")]
mod program;
#[cfg(target_family = "wasm")]
mod script;
