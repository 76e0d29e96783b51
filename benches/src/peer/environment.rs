//! Python environments, one for each folder of `benches/peers` with requirements. pip does the fetching and checks the hashes.
//! They stay where they are made, until the requirements change.

use crate::stage::repository;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The Python that the requirements are for. PyTriton needs the distribution's own, with whose library its programs are linked.
const PYTHONS: [&str; 2] = ["/usr/bin/python3.11", "python3.11"];
/// What was installed, once all of it was.
const INSTALLED: &str = "installed.txt";

/// The environment `name` in `folder`. Makes it, unless it is there.
///
/// # Errors
/// When it cannot be installed.
#[expect(clippy::print_stderr, reason = "it takes a while, and a command talks to the one who typed it")]
pub fn ready(folder: &Path, name: &str) -> Result<PathBuf> {
    let environment = folder.join(name);
    fs::create_dir_all(folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
    // Another run may be at it.
    let lock = File::create(folder.join(".lock"))?;
    lock.lock()?;
    let requirements = repository().join("benches/peers").join(name).join("requirements.txt");
    let wanted = fs::read(&requirements).with_context(|| format!("`{}` cannot be read", requirements.display()))?;
    if fs::read(environment.join(INSTALLED)).is_ok_and(|installed| installed == wanted) {
        return Ok(environment);
    }
    eprintln!("installing {name}");
    if environment.exists() {
        fs::remove_dir_all(&environment).with_context(|| format!("`{}` is in the way", environment.display()))?;
    }
    run(Command::new(python()?).args(["-m", "venv"]).arg(&environment))?;
    let mut install = Command::new(environment.join("bin/python3"));
    install.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]);
    install.args(["--disable-pip-version-check", "--no-input", "--requirement"]).arg(&requirements);
    run(&mut install)?;
    fs::write(environment.join(INSTALLED), wanted)?;
    Ok(environment)
}

fn python() -> Result<&'static str> {
    let works = |python: &&str| {
        let status = Command::new(python).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let Some(python) = PYTHONS.into_iter().find(works) else {
        bail!("Python 3.11 was not found (sought: `{}`)", PYTHONS.join("`, `"))
    };
    Ok(python)
}

/// Runs a command to its end. Where it fails, its last complaint is the reason.
fn run(command: &mut Command) -> Result<()> {
    let output =
        command.output().with_context(|| format!("{} could not be started", command.get_program().display()))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let complaint = stderr.lines().chain(stdout.lines()).rfind(|line| line.contains("ERROR"));
    ensure!(
        output.status.success(),
        "it cannot be installed ({}): {}",
        output.status,
        complaint.unwrap_or("there was no complaint")
    );
    Ok(())
}
