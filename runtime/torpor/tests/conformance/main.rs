//! What every backend must do alike: the same cases run on ONNX Runtime, OpenVINO and tract, through the traits that the host uses.
//!
//! `cargo xtask test` says where libraries and models are; see `fixture.rs`.

mod fixture;

mod failures; // what is damaged, unsupported or cancelled is an error value, and harms no later run
mod options; // device, precision, threads
mod real; // real models agree
mod tensors; // element types, shapes, several inputs and outputs
mod two_files; // models whose weights are in a file of their own
