//! ONNX Runtime as a backend, found at run time.
