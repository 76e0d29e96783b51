//! Fuzzing: every target of `tests/fuzz`, found by what `cargo metadata` says of the package. libFuzzer is linked into each, and the
//! compiler's own pass measures coverage, so neither cargo-fuzz nor a nightly toolchain is needed; a C++ compiler is.
//!
//! What a run finds stays in `target/fuzz` and is where the next run begins. Inputs that break a target belong into `tests/fuzz/corpus`,
//! which the tests replay.

use crate::{console, run, tree::Tree};
use anyhow::{Context, Result, bail, ensure};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const PACKAGE: &str = "torpor-fuzz";

/// What makes the compiler tell libFuzzer which way an input went. Our crates' assertions are on, too.
const FLAGS: &str = "--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Runs the targets of these names, or all, each for so many seconds. Fails if an input broke one.
pub(crate) fn fuzz(tree: &Tree, seconds: u32, names: &[String]) -> Result<()> {
    let targets = picked(targets(tree)?, names)?;
    let programs = build(tree, &targets)?;
    let mut broken = Vec::new();
    for target in &targets {
        console::step("fuzz", format_args!("{target} for {seconds} s"));
        let found = folder(tree, "corpus", target)?;
        let broke = folder(tree, "broken", target)?;
        let seeds = seeds(tree, target);
        let mut fuzzer = run::tied(programs.join(target));
        fuzzer
            .arg(format!("-max_total_time={seconds}"))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-verbosity=0", "-print_funcs=0", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", broke.display()))
            .arg(&found)
            .args(seeds.is_dir().then_some(&seeds));
        let status = fuzzer.status().with_context(|| format!("`{}` could not be started", run::shown(&fuzzer)))?;
        if !status.success() {
            broken.push(format!("{target}: {}", tree.short(&broke).display()));
        }
    }
    if !broken.is_empty() {
        bail!(
            "inputs broke targets; they are in these folders:\n  {}\ncorrect the parser, and put the input into `tests/fuzz/corpus/TARGET`",
            broken.join("\n  ")
        );
    }
    console::step("done", format_args!("no input broke any of {} targets", targets.len()));
    Ok(())
}

/// The targets that the package has.
fn targets(tree: &Tree) -> Result<Vec<String>> {
    let packages = tree.metadata.workspace_packages();
    let package = packages
        .iter()
        .find(|package| package.name.as_str() == PACKAGE)
        .context("there is no package of fuzz targets")?;
    let targets = package.targets.iter().filter(|target| target.is_bin());
    Ok(targets.map(|target| target.name.clone()).collect())
}

/// Those of `names`, in their order; all if there are none.
fn picked(targets: Vec<String>, names: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = names.iter().find(|name| !targets.contains(name)) {
        bail!("there is no fuzz target `{unknown}`; there are {}", targets.join(", "));
    }
    Ok(if names.is_empty() { targets } else { names.to_vec() })
}

/// Builds the targets, apart from everything else, since all that they depend on is built with these flags. The answer is their folder.
fn build(tree: &Tree, targets: &[String]) -> Result<PathBuf> {
    let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    ensure!(
        run::quiet(Command::new(&compiler).arg("--version")),
        "libFuzzer needs a C++ compiler, and there is no `{}`: install g++ or clang, or name one in `CXX`",
        compiler.display()
    );
    let machine = machine()?;
    console::step("build", "fuzz targets; for the first time this takes some minutes");
    let output = tree.target.join("fuzz");
    let mut cargo = run::tied_cargo();
    cargo.current_dir(&tree.root).env("RUSTFLAGS", FLAGS);
    cargo.args(["build", "--release", "--package", PACKAGE, "--features", "libfuzzer", "--target", &machine]);
    // With a target named, the flags are not for build scripts and macros, which have no libFuzzer.
    cargo.arg("--target-dir").arg(&output);
    cargo.args(targets.iter().flat_map(|target| ["--bin", target.as_str()]));
    run::run(&mut cargo)?;
    Ok(output.join(machine).join("release"))
}

/// This machine, as Rust calls it.
fn machine() -> Result<String> {
    let said = run::output(Command::new("rustc").arg("-vV"))?;
    let machine = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(machine.context("`rustc -vV` does not say for which machine it builds")?.to_owned())
}

/// The folder for what runs of a target leave behind.
fn folder(tree: &Tree, kind: &str, target: &str) -> Result<PathBuf> {
    let folder = tree.target.join("fuzz").join(kind).join(target);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    Ok(folder)
}

fn seeds(tree: &Tree, target: &str) -> PathBuf {
    tree.root.join(Path::new("tests/fuzz/corpus")).join(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_found_and_has_seeds() {
        let tree = Tree::find().unwrap();
        let targets = targets(&tree).unwrap();
        let files = fs::read_dir(tree.root.join("tests/fuzz/fuzz_targets")).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        names.sort();
        let stems = names.iter().map(|path| path.file_stem().unwrap().to_str().unwrap());
        assert!(stems.eq(&targets), "{targets:?} {names:?}");
        assert!(targets.iter().all(|target| seeds(&tree, target).is_dir()), "{targets:?}");
    }

    #[test]
    fn targets_are_picked_by_name() {
        let all = || vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(picked(all(), &[]).unwrap(), ["a", "b"]);
        assert_eq!(picked(all(), &["b".to_owned()]).unwrap(), ["b"]);
        assert!(picked(all(), &["c".to_owned()]).unwrap_err().to_string().contains("there are a, b"));
    }
}
