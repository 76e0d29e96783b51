//! What the benchmarks share: what they measure, on what, the native side of it, and how results are shown.

pub mod frame;
pub mod host;
pub mod load;
pub mod machine;
pub mod native;
pub mod peer;
pub mod probe;
pub mod served;
pub mod stage;
pub mod statistics;
mod svg;
