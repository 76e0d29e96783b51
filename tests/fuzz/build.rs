//! Finds the fuzz targets for the test `corpora`, so that a new one needs no line there: each becomes a module and a test.

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=fuzz_targets");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    let mut modules = String::new();
    for file in files {
        let name = file.file_stem().and_then(|stem| stem.to_str()).ok_or("a target has a plain name")?;
        writeln!(
            modules,
            "#[allow(unused_attributes, reason = \"a target is a program of its own with libFuzzer\")]\n\
             #[path = {file:?}]\nmod {name};\n\
             #[test]\nfn corpus_of_{name}() {{ replay({name:?}, {name}::run); }}"
        )?;
    }
    #[expect(clippy::disallowed_methods, reason = "how Cargo talks to a build script")]
    let out = env::var_os("OUT_DIR").ok_or("Cargo sets it")?;
    fs::write(Path::new(&out).join("targets.rs"), modules)?;
    Ok(())
}
