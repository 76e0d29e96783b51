//! The store of compiled modules: `compiled/` in the state directory.
//!
//! Compiled code is native code: whoever can change it runs anything in this process. So each file has beside it a keyed hash
//! whose key only this host has (`keys/host.key`), and a file whose hash does not fit is compiled anew. A module is compiled
//! once, when it is deployed; a wake only maps it.
#![allow(unsafe_code, reason = "loading compiled code is unsafe by nature; it is authenticated just before")]

use crate::error::{DeployError, Error};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::{Path, PathBuf},
};
use torpor_bundle::Blob;
use wasmtime::{Engine, component::Component};

/// Lives as long as the engine.
pub(crate) struct Precompiled {
    folder: PathBuf,
    key: [u8; blake3::KEY_LEN],
    /// Tells apart the code of different wasmtime versions, settings and processors.
    compatibility: u64,
}

impl Precompiled {
    /// Opens the store in `state`, and makes the host's key where there is none.
    pub(crate) fn open(state: &Path, engine: &Engine) -> Result<Self, Error> {
        let folder = state.join("compiled");
        fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        let key = host_key(&state.join("keys"))?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Precompiled { folder, key, compatibility: hasher.finish() })
    }

    /// Makes sure that the compiled form of `module` is there.
    pub(crate) fn prepare(&self, engine: &Engine, module: &Blob) -> Result<(), DeployError> {
        if self.authentic(module).is_none() {
            self.compile(engine, module)?;
        }
        Ok(())
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
        let path = self.authentic(module)?;
        // SAFETY: the file is what `compile` wrote: its keyed hash was checked just now, the key is readable by this user
        // only, and so is the folder. Replacing the file between the check and the mapping takes the same rights as
        // replacing this program.
        unsafe { Component::deserialize_file(engine, &path) }
            .inspect_err(|error| tracing::debug!(%error, path = %path.display(), "the compiled module does not load"))
            .ok()
    }

    /// The path of the compiled form, if it is there and was made by this host.
    fn authentic(&self, module: &Blob) -> Option<PathBuf> {
        let path = self.path(module);
        let code = fs::read(&path).ok()?;
        let expected: [u8; blake3::OUT_LEN] = fs::read(tag_path(&path)).ok()?.try_into().ok()?;
        // `blake3::Hash` compares in constant time.
        (self.tag(&path, &code) == blake3::Hash::from_bytes(expected)).then_some(path)
    }

    fn compile(&self, engine: &Engine, module: &Blob) -> Result<(), DeployError> {
        module.check()?;
        let wasm = fs::read(&module.path).map_err(io("read", &module.path))?;
        let code = engine.precompile_component(&wasm).map_err(|error| DeployError::Compile(format!("{error:#}")))?;
        let path = self.path(module);
        // The hash goes first: a crash between the two leaves a hash without its file, which is as good as nothing.
        write_whole(&tag_path(&path), self.tag(&path, &code).as_bytes())?;
        write_whole(&path, &code)?;
        Ok(())
    }

    fn path(&self, module: &Blob) -> PathBuf {
        self.folder.join(format!("{}-{:016x}.cwasm", module.digest.hex(), self.compatibility))
    }

    /// The hash covers the file's name too, so that one module's code cannot stand in for another's.
    fn tag(&self, path: &Path, code: &[u8]) -> blake3::Hash {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        blake3::Hasher::new_keyed(&self.key).update(&name.len().to_le_bytes()).update(name).update(code).finalize()
    }
}

fn tag_path(path: &Path) -> PathBuf {
    path.with_extension("tag")
}

fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |source| Error::Io { action, path: path.to_owned(), source }
}

/// Writes a file such that a crash leaves the old one or the new one.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = private(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().map_err(io("write", path))
}

/// A new file that only this user can read.
fn private(path: &Path) -> std::io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn host_key(folder: &Path) -> Result<[u8; blake3::KEY_LEN], Error> {
    fs::create_dir_all(folder).map_err(io("create", folder))?;
    let path = folder.join("host.key");
    match fs::read(&path) {
        Ok(key) => {
            if let Ok(key) = <[u8; blake3::KEY_LEN]>::try_from(key) {
                return Ok(key);
            }
            // Nothing is lost with the key but compiled code, which is made again.
            tracing::warn!(path = %path.display(), "the host's key is damaged, and a new one is made");
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::Io { action: "read", path, source }),
    }
    let mut key = [0; blake3::KEY_LEN];
    let random = Path::new("/dev/urandom");
    fs::File::open(random)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut key))
        .map_err(io("read", random))?;
    write_whole(&path, &key)?;
    Ok(key)
}
