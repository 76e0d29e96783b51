//! Integration tests: they start the program that users run, and talk to it over sockets as callers and operators do.
//!
//! `cargo xtask test` makes ready what they need and says where it is; see `fixture/assets.rs`.

mod fixture;

mod inference; // the Open Inference Protocol: what it answers, and how it refuses
mod lifecycle; // cold, waking, warm and back; queues, failures, nothing that grows
