//! Rust's view of the WIT contract in `wit/`, generated. Module authors use what the rest of this crate makes of it.
//!
//! One module a world, so that a function gets the imports of only those worlds that it exports: `wit-component` drops an
//! import that nothing calls.

/// The world of a function of named tensors.
pub mod predict {
    wit_bindgen::generate!({
        path: "wit",
        world: "torpor:function/predict-function",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
    });
}

/// The world of a module that is initialized when it is packed.
pub mod initializer {
    wit_bindgen::generate!({
        path: "wit",
        world: "torpor:function/initialized-function",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
    });
}

/// The world of a function of HTTP requests.
pub mod http {
    wit_bindgen::generate!({
        path: "wit",
        world: "torpor:function/http-function",
        with: {
            "wasi:nn/tensor@0.2.0-rc-2024-10-28": crate::bindings::predict::wasi::nn::tensor,
            "wasi:nn/graph@0.2.0-rc-2024-10-28": crate::bindings::predict::wasi::nn::graph,
            "wasi:nn/inference@0.2.0-rc-2024-10-28": crate::bindings::predict::wasi::nn::inference,
            "wasi:nn/errors@0.2.0-rc-2024-10-28": crate::bindings::predict::wasi::nn::errors,
            "torpor:function/tensors@0.1.0": crate::bindings::predict::torpor::function::tensors,
            "torpor:function/models@0.1.0": crate::bindings::predict::torpor::function::models,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
    });
}
