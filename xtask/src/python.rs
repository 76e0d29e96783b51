//! A Python environment in the cache with the libraries of `xtask/python.txt`, with which tests check bundles from outside. pip does
//! the fetching and checks the hashes. Called by `suite` alone: nobody needs it to serve.

use crate::{console, run, setup, stamp::Stamp, tree::cache};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf, process::Command};

/// The libraries, as pip reads them.
const REQUIREMENTS: &str = include_str!("../python.txt");

/// Makes the environment unless it is there, and says where its programs are.
pub(crate) fn ready() -> Result<PathBuf> {
    let cache = cache()?;
    let _lock = setup::lock(&cache)?;
    let environment = cache.join("python");
    let python = environment.join("bin/python3");
    let stamp = Stamp::new(cache.join("stamps").join("python")).file(&python).fact(REQUIREMENTS);
    if stamp.holds() {
        return Ok(environment.join("bin"));
    }
    console::step("fetch", "Python libraries to check bundles with");
    if environment.exists() {
        // Of an older list, or half made.
        fs::remove_dir_all(&environment).with_context(|| format!("`{}` is in the way", environment.display()))?;
    }
    run::output(Command::new("python3").args(["-m", "venv"]).arg(&environment))
        .context("Python 3 cannot make a virtual environment (on Debian: `apt-get install python3-venv`)")?;
    let requirements = cache.join("stamps").join("python.txt");
    crate::stamp::replace(&requirements, REQUIREMENTS.as_bytes())?;
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"])
        .args(["--disable-pip-version-check", "--no-input", "--requirement"])
        .arg(&requirements);
    run::output(&mut install).context("the libraries of `xtask/python.txt` cannot be installed")?;
    stamp.set()?;
    Ok(environment.join("bin"))
}
