//! wasmtime: the precompiled store, the wasi-nn host, instances and the life cycle of functions.
