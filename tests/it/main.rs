//! Integration tests: they start the program that users run, and talk to it over sockets as callers and operators do.
//!
//! `cargo xtask test` makes ready what they need and says where it is; see `fixture/assets.rs`.

mod fixture;

mod backends; // what the host runs models with, and what it says of what is missing
mod binary; // tensors as bytes, classes, and encoded bodies
mod budget; // functions that make room for each other
mod cache; // what is kept of answers, for whom, and for how long
mod cli; // every command with right and wrong use
mod clock; // a clock on the wall that jumps while functions wake, run, rest and have failed
mod commands; // core modules: programs with WASI preview 1 and `wasi_ephemeral_nn`
mod completions; // what shells and readers of manual pages are told
mod contract; // every function that a component may import in order to infer
mod crash; // kill -9 at any moment, and state directories in a bad way
mod deploy; // deploying on a running host, and what a kill leaves of it
mod drain; // SIGTERM while requests run
mod edge; // rude, broken and too many clients
mod embed; // the module `embed` against its reference
mod faults; // caches that cannot be written, libraries and models that change or go
mod files; // files that a bundle brings for its module
mod filetype; // the module `filetype` against its reference
mod golden; // what each command writes, whole
mod grpc; // the services of gRPC: tensors, streams, limits and what goes wrong
mod http; // functions of plain HTTP requests, and what a guest may do
mod inference; // the Open Inference Protocol: what it answers, and how it refuses
mod isolation; // models in worker processes, and what becomes of requests when those end
mod json; // `--json` has the fields that docs/cli.md says
mod labels; // what a model's outputs stand for
mod lifecycle; // cold, waking, warm and back; queues, failures, nothing that grows
mod metrics; // `/metrics` is OpenMetrics, right, and closed to callers
mod misuse; // what a guest does wrong with models and tensors, and that only it is hurt
mod overload; // more requests, connections and bad callers than a host can bear
mod project; // what `torpor new` makes builds, packs, signs, serves and answers
mod readme; // the README's commands do what it says
mod repository; // what models do, and who loads and unloads them
mod schema; // somebody else's validator reads the JSON Schema of manifests
mod snapshot; // modules that are initialized when they are packed
mod terminal; // colour and progress, for people alone
mod tools; // other people's tools check bundles, as docs/bundles.md says
mod trace; // where the time of calls went, as the host remembers it
mod trust; // signatures, the trust policy, and bytes that were tampered with
