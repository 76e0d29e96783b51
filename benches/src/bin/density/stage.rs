//! What is on disk beside the bundles: as many manifests as are wanted.

use anyhow::Result;
use std::path::PathBuf;
use torpor_benches::stage::{ADD, FILETYPE_RAW, Stage, Way};

/// Every how manieth function is a real model; the others add.
const REAL: usize = 10;

pub(crate) fn is_add(index: usize) -> bool {
    index % REAL != REAL - 1
}

pub(crate) fn name(index: usize) -> String {
    format!("f{index:05}")
}

/// A folder with the manifests of so many functions.
pub(crate) fn manifests(stage: &Stage, functions: usize, idle_timeout: &str) -> Result<PathBuf> {
    let folder = stage.path(&format!("manifests-{functions}-{idle_timeout}"));
    for index in 0..functions {
        let workload = if is_add(index) { &ADD } else { &FILETYPE_RAW };
        let way = Way { name: &name(index), idle_timeout, ..Way::default() };
        stage.manifest_in(&folder, workload, &way)?;
    }
    Ok(folder)
}
