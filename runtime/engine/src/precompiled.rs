//! The store of compiled modules. A module is compiled once, when it is deployed; a wake only maps it. Where the store cannot be
//! written each wake compiles.
#![allow(unsafe_code, reason = "loading compiled code is unsafe by nature; it is authenticated just before")]

use crate::{
    derived::{Derived, Looks, io_at},
    error::DeployError,
};
use std::{
    collections::HashSet,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::Read,
};
use torpor_bundle::{Blob, Digest};
use wasmtime::{Engine, Module, component::Component};

/// The two kinds of module. Their bytes tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Component,
    Core,
}

/// A module that is mapped.
pub(crate) enum Mapped {
    Component(Component),
    Core(Module),
}

impl Kind {
    /// What the module in `blob` is. Whether it is valid is for the compiler to say.
    pub(crate) fn of(blob: &Blob) -> Result<Self, DeployError> {
        let mut preamble = Vec::new();
        let file = File::open(&blob.path).map_err(io_at("read", &blob.path))?;
        file.take(8).read_to_end(&mut preamble).map_err(io_at("read", &blob.path))?;
        // After the magic number comes a version, and then the layer: 0 for a core module, 1 for a component.
        Ok(if preamble.get(6..) == Some(&[0, 0]) { Kind::Core } else { Kind::Component })
    }
}

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
    pub(crate) fn prepare(&self, engine: &Engine, module: &Blob, kind: Kind) -> Result<(), DeployError> {
        match self.files.authentic(&self.name(module.digest)) {
            Some(_) => Ok(()),
            None => self.compile(engine, module, kind).map(drop),
        }
    }

    /// Maps the compiled form of `module`, and compiles it where it is missing or damaged.
    pub(crate) fn load(&self, engine: &Engine, module: &Blob, kind: Kind) -> Result<Mapped, DeployError> {
        if let Some(mapped) = self.map(engine, module, kind) {
            return Ok(mapped);
        }
        // Where nothing can be kept that was said, and every wake comes here.
        if !self.files.is_failing() {
            tracing::warn!(module = %module.digest, "the compiled module is missing, damaged or foreign, and is compiled anew");
        }
        let code = self.compile(engine, module, kind)?;
        if let Some(mapped) = self.map(engine, module, kind) {
            return Ok(mapped);
        }
        // SAFETY: this is what the compiler has just given, and nobody else had it in hand.
        let loaded = unsafe {
            match kind {
                Kind::Component => Component::deserialize(engine, &code).map(Mapped::Component),
                Kind::Core => Module::deserialize(engine, &code).map(Mapped::Core),
            }
        };
        loaded.map_err(|error| DeployError::Compile(format!("its compiled form does not load: {error:#}")))
    }

    /// How the compiled form of `module` looks, if it is there and is what this host made.
    pub(crate) fn looks(&self, module: &Blob) -> Option<Looks> {
        self.files.authentic_looks(&self.name(module.digest))
    }

    fn map(&self, engine: &Engine, module: &Blob, kind: Kind) -> Option<Mapped> {
        let path = self.files.authentic(&self.name(module.digest))?;
        // SAFETY: the file is what `compile` wrote: its keyed hash was checked, the key is readable by this user only, and the
        // file has not changed since. Replacing it between that look and the mapping takes the same rights as replacing this
        // program.
        let mapped = unsafe {
            match kind {
                Kind::Component => Component::deserialize_file(engine, &path).map(Mapped::Component),
                Kind::Core => Module::deserialize_file(engine, &path).map(Mapped::Core),
            }
        };
        mapped
            .inspect_err(|error| tracing::debug!(%error, path = %path.display(), "the compiled module does not load"))
            .ok()
    }

    /// Compiles `module` and keeps the code, which it returns. Where it cannot be kept the next wake compiles again.
    fn compile(&self, engine: &Engine, module: &Blob, kind: Kind) -> Result<Vec<u8>, DeployError> {
        module.check()?;
        let wasm = fs::read(&module.path).map_err(io_at("read", &module.path))?;
        let code = match kind {
            Kind::Component => engine.precompile_component(&wasm),
            Kind::Core => engine.precompile_module(&wasm),
        };
        let code = code.map_err(|error| DeployError::Compile(format!("{error:#}")))?;
        let kept =
            self.files.make(&self.name(module.digest), |path| fs::write(path, &code).map_err(io_at("write", path)));
        if let Err(error) = kept {
            self.files.failed(&error);
        }
        Ok(code)
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
