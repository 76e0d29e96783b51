//! Rust's view of the WIT contract in `guest/wit`. Generated; the host side of it is in `wasi_nn.rs`.

wasmtime::component::bindgen!({
    path: "../../guest/wit",
    world: "torpor:function/predict-function",
    imports: {
        "wasi:nn/graph@0.2.0-rc-2024-10-28.load": async | trappable,
        "wasi:nn/inference@0.2.0-rc-2024-10-28.[method]graph-execution-context.compute": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "wasi:nn/tensor@0.2.0-rc-2024-10-28.tensor": torpor_tensor::Tensor,
        "wasi:nn/graph@0.2.0-rc-2024-10-28.graph": crate::wasi_nn::Graph,
        "wasi:nn/inference@0.2.0-rc-2024-10-28.graph-execution-context": crate::wasi_nn::Context,
        "wasi:nn/errors@0.2.0-rc-2024-10-28.error": crate::wasi_nn::GuestError,
    },
    require_store_data_send: true,
});
