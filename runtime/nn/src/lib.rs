//! Backends and sessions behind one trait, the model registry and session workers.
