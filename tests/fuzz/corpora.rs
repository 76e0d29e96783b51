//! Runs every file of `corpus/NAME` through the fuzz target NAME, on the stable toolchain and without libFuzzer: the seeds, and whatever
//! once broke a target. The targets themselves are what `cargo xtask fuzz` runs.

// The targets ask libFuzzer for the macro below.
extern crate self as libfuzzer_sys;

use std::{fs, panic::catch_unwind, path::Path};

include!(concat!(env!("OUT_DIR"), "/targets.rs"));

/// In the place of libFuzzer's macro: makes the target a function.
macro_rules! fuzz_target {
    (|$input:ident: $type:ty| $body:expr) => {
        pub(crate) fn run(bytes: &[u8]) {
            let $input = <$type as crate::Input>::of(bytes);
            $body
        }
    };
}
pub(crate) use fuzz_target;

/// What a target takes, made of a file as libFuzzer makes it.
trait Input<'a> {
    fn of(bytes: &'a [u8]) -> Self;
}

impl<'a> Input<'a> for &'a [u8] {
    fn of(bytes: &'a [u8]) -> Self {
        bytes
    }
}

impl<'a> Input<'a> for &'a str {
    fn of(bytes: &'a [u8]) -> Self {
        bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }
}

fn replay(target: &str, run: fn(&[u8])) {
    let program =
        format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"\nrequired-features = [\"libfuzzer\"]\n");
    assert!(include_str!("Cargo.toml").contains(&program), "tests/fuzz/Cargo.toml needs a `[[bin]]` with\n{program}");

    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let files = fs::read_dir(&corpus).map(|entries| entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>());
    let files = files.unwrap_or_default();
    assert!(!files.is_empty(), "there is no seed in `{}`: add some right and some wrong inputs", corpus.display());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        assert!(catch_unwind(|| run(&bytes)).is_ok(), "`{}` breaks the target; see above", file.display());
    }
}
