//! Generates clients of gRPC from the gateway's own `.proto` files, so that the tests see them as users' programs do.

use std::{error::Error, path::Path};

const FILES: [&str; 3] = ["inference.proto", "tensorflow_serving.proto", "health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/gateway/proto");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut compiler = protox::Compiler::new([&folder])?;
    compiler.include_imports(true).open_files(FILES)?;
    let clients = tonic_prost_build::configure().build_server(false).build_transport(false);
    clients.include_file("proto.rs").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
