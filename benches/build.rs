//! Generates the messages of gRPC, and the service that the native server fills in, from the gateway's own `.proto` file.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/gateway/proto");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut compiler = protox::Compiler::new([&folder])?;
    compiler.include_imports(true).open_files(["inference.proto"])?;
    // What the native server has no answer to, it says so of.
    let server = tonic_prost_build::configure().build_client(false).generate_default_stubs(true).bytes(".");
    server.include_file("proto.rs").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
