//! Compiles `proto/`: the messages, and the descriptors that server reflection gives. The compiler is protox, so that no `protoc` has
//! to be installed.

use prost_build::Config;
use std::{env, error::Error, fs, path::Path};

const FILES: [&str; 3] = ["inference.proto", "tensorflow_serving.proto", "health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut compiler = protox::Compiler::new([&folder])?;
    compiler.include_imports(true).open_files(FILES)?;
    #[expect(clippy::disallowed_methods, reason = "how Cargo talks to a build script")]
    let out = env::var_os("OUT_DIR").ok_or("Cargo sets it")?;
    fs::write(Path::new(&out).join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    Config::new().bytes(["."]).btree_map(["."]).include_file("proto.rs").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
