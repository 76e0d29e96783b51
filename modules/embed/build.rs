//! Turns the vocabulary into a finite-state map from pieces to token ids, which the module reads in place: an instance lives
//! for one call, and has no time to build a table.

use std::{collections::BTreeMap, env, error::Error, fs, path::Path};

#[expect(clippy::disallowed_methods, reason = "cargo says by a variable where a build script writes")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=vocab.txt");
    let vocabulary = fs::read_to_string("vocab.txt")?;
    let ids: BTreeMap<&str, u64> = vocabulary.lines().zip(0..).collect();
    let map = fst::Map::from_iter(ids)?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("vocab.fst"), map.as_fst().as_bytes())?;
    Ok(())
}
