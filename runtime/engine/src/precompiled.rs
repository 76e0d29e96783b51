//! The store of compiled modules. A module is compiled once, when it is deployed; a wake only maps it.
#![allow(unsafe_code, reason = "loading compiled code is unsafe by nature; it is authenticated just before")]

use crate::{
    derived::{Derived, io_at},
    error::DeployError,
};
use std::{
    collections::HashSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
};
use torpor_bundle::{Blob, Digest};
use wasmtime::{Engine, component::Component};

/// Lives as long as the engine.
pub(crate) struct Precompiled {
    files: Derived,
    /// Tells apart the code of different wasmtime versions, settings and processors.
    compatibility: u64,
}

impl Precompiled {
    pub(crate) fn new(files: Derived, engine: &Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Precompiled { files, compatibility: hasher.finish() }
    }

    /// Makes sure that the compiled form of `module` is there.
    pub(crate) fn prepare(&self, engine: &Engine, module: &Blob) -> Result<(), DeployError> {
        match self.files.authentic(&self.name(module.digest)) {
            Some(_) => Ok(()),
            None => self.compile(engine, module),
        }
    }

    /// Maps the compiled form of `module`, and compiles it where it is missing or damaged.
    pub(crate) fn load(&self, engine: &Engine, module: &Blob) -> Result<Component, DeployError> {
        if let Some(component) = self.map(engine, module) {
            return Ok(component);
        }
        tracing::warn!(module = %module.digest, "the compiled module is missing, damaged or foreign, and is compiled anew");
        self.compile(engine, module)?;
        let component = self.map(engine, module);
        component.ok_or_else(|| DeployError::Compile("its compiled form cannot be read back".to_owned()))
    }

    fn map(&self, engine: &Engine, module: &Blob) -> Option<Component> {
        let path = self.files.authentic(&self.name(module.digest))?;
        // SAFETY: the file is what `compile` wrote: its keyed hash was checked, the key is readable by this user only, and the
        // file has not changed since. Replacing it between that look and the mapping takes the same rights as replacing this
        // program.
        unsafe { Component::deserialize_file(engine, &path) }
            .inspect_err(|error| tracing::debug!(%error, path = %path.display(), "the compiled module does not load"))
            .ok()
    }

    fn compile(&self, engine: &Engine, module: &Blob) -> Result<(), DeployError> {
        module.check()?;
        let wasm = fs::read(&module.path).map_err(io_at("read", &module.path))?;
        let code = engine.precompile_component(&wasm).map_err(|error| DeployError::Compile(format!("{error:#}")))?;
        self.files.make(&self.name(module.digest), |path| Ok(fs::write(path, code).map_err(io_at("write", path))?))
    }

    /// Removes the compiled forms of modules that `keep` does not name, and those that this host cannot load.
    pub(crate) fn collect(&self, keep: &HashSet<Digest>) -> usize {
        let names: HashSet<_> = keep.iter().map(|digest| self.name(*digest)).collect();
        self.files.collect(|name| names.contains(name))
    }

    fn name(&self, module: Digest) -> String {
        format!("{}-{:016x}.cwasm", module.hex(), self.compatibility)
    }
}
