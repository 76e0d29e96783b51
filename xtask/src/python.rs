//! Python environments in the cache, in which tests look at Torpor from outside. pip does the fetching and checks the hashes. Called by
//! `suite` alone: nobody needs them to serve.

use crate::{console, run, setup, stamp::Stamp, tree::cache};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf, process::Command};

/// An environment.
pub(crate) struct Environment {
    /// Its folder in the cache.
    name: &'static str,
    /// What it is for.
    what: &'static str,
    /// Where its list of libraries stands.
    list: &'static str,
    /// The list, as pip reads it.
    requirements: &'static str,
}

/// Libraries with which tests check bundles.
pub(crate) const BUNDLES: Environment = Environment {
    name: "python",
    what: "Python libraries to check bundles with",
    list: "xtask/python.txt",
    requirements: include_str!("../python.txt"),
};

/// Clients with which tests call a host.
pub(crate) const CLIENTS: Environment = Environment {
    name: "clients",
    what: "Python clients to call a host with",
    list: "tests/clients/requirements.txt",
    requirements: include_str!("../../tests/clients/requirements.txt"),
};

impl Environment {
    /// Makes the environment unless it is there, and says where its programs are.
    pub(crate) fn ready(&self) -> Result<PathBuf> {
        let cache = cache()?;
        let _lock = setup::lock(&cache)?;
        let environment = cache.join(self.name);
        let python = environment.join("bin/python3");
        let stamp = Stamp::new(cache.join("stamps").join(self.name)).file(&python).fact(self.requirements);
        if stamp.holds() {
            return Ok(environment.join("bin"));
        }
        console::step("fetch", self.what);
        if environment.exists() {
            // Of an older list, or half made.
            fs::remove_dir_all(&environment).with_context(|| format!("`{}` is in the way", environment.display()))?;
        }
        run::output(Command::new("python3").args(["-m", "venv"]).arg(&environment))
            .context("Python 3 cannot make a virtual environment (on Debian: `apt-get install python3-venv`)")?;
        let requirements = cache.join("stamps").join(self.name).with_extension("txt");
        crate::stamp::replace(&requirements, self.requirements.as_bytes())?;
        let mut install = Command::new(&python);
        install
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"])
            // What is not imported need not be compiled; there are hundreds of megabytes of it.
            .args(["--no-compile", "--disable-pip-version-check", "--no-input", "--requirement"])
            .arg(&requirements);
        run::output(&mut install).with_context(|| format!("the libraries of `{}` cannot be installed", self.list))?;
        stamp.set()?;
        Ok(environment.join("bin"))
    }
}
