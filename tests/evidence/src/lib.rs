//! What tests say that they have seen. `cargo xtask test` makes `docs/conformance.md` of it, after a run of all tests.
//!
//! Tests run in processes of their own, in any order, so each appends to a file of its process in one folder. Other runs give no
//! such folder, and then nothing is kept. Only tests depend on this crate.
#![expect(clippy::disallowed_methods, reason = "tests are told by the environment where to put it")]

use serde_json::json;
use std::{env, fs::OpenOptions, io::Write, path::PathBuf, process, thread};

/// Says that a test has seen `cells`, which are a row of the part `part` of the page. Call it when it was seen, which is after the
/// assertion. Rows are sorted by `order`, then by their cells; a row that was seen twice is one row.
///
/// # Panics
/// When it cannot be kept, since the page would then lack it.
pub fn seen<const CELLS: usize>(part: &str, order: usize, cells: [&str; CELLS]) {
    let Some(folder) = env::var_os("TORPOR_TEST_EVIDENCE").map(PathBuf::from) else { return };
    let file = folder.join(process::id().to_string());
    let line = format!("{}\n", json!([part, order, cells.as_slice()]));
    // One call, so that the lines of two threads do not mix.
    let written =
        OpenOptions::new().create(true).append(true).open(&file).and_then(|mut file| file.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| panic!("`{}` cannot be written: {error}", file.display()));
}

/// The name of the test that runs, as a sentence.
///
/// # Panics
/// On a thread that a test has started, which has no name.
pub fn test() -> String {
    let thread = thread::current();
    let name = thread.name().and_then(|name| name.rsplit("::").next()).filter(|name| *name != "main");
    name.expect("the thread of a test has its name").replace('_', " ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_test_knows_its_name() {
        assert_eq!(super::test(), "a test knows its name");
    }
}
