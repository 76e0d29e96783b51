//! Snapshots: a module's initializer runs once, when the module is packed, and the memory that it leaves becomes what each
//! instance starts with.
//!
//! Runs on the author's machine, in a sandbox that has nothing: no clock, no randomness, no file, no model. So the same module
//! makes the same snapshot everywhere. How long an initializer may run is counted in steps of its code, not in time, for the same
//! reason. Knows no bundle; `torpor pack` calls it, and a host never does.

mod state;

use crate::guest::MAX_TABLE_ELEMENTS;
use futures::FutureExt;
use state::{ComponentState, ModuleState};
use wasmparser::{ComponentExternalKind, ExternalKind, Payload};
use wasmtime::{
    Config, Engine, ExternType, Module, ResourceLimiter, Store, Trap,
    component::{Component, LinkerInstance, ResourceType, types::ComponentItem},
};
use wasmtime_wizer::Wizer;

/// The export that is run: the name by which tools for such snapshots know it. `guest/wit` has it as a world.
pub(crate) const INITIALIZER: &str = "wizer-initialize";

/// Steps that an initializer may take; a second or a few of computing.
const STEPS: u64 = 4_000_000_000;

/// Bytes of memory that a snapshot may have: what an instance may have where the manifest says nothing of it. A host keeps an image of
/// so much for copy-on-write.
pub(crate) const MAX_MEMORY: usize = 64 * 1024 * 1024;

/// Why a module's initializer makes no snapshot. For the module's author.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The initializer has parameters or results.
    #[error("its `{INITIALIZER}` takes or gives something")]
    Type,
    /// It called something that it imports.
    #[error("its initializer called `{name}` of `{interface}`, and what that answers differs from host to host")]
    Import {
        /// Where the import is from.
        interface: String,
        /// What was called.
        name: String,
    },
    /// It trapped.
    #[error("its initializer trapped: {0}")]
    Trap(String),
    /// It did not return within the steps that it may take.
    #[error("its initializer did not return within {STEPS} steps")]
    Endless,
    /// It took more memory than a snapshot may have.
    #[error("its initializer took more than {} MiB of memory", MAX_MEMORY / (1024 * 1024))]
    Memory,
    /// The module is not valid, or does what cannot be kept in a snapshot.
    #[error("no snapshot can be made of it: {0}")]
    Unfit(String),
}

impl SnapshotError {
    /// What the author can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            SnapshotError::Type => {
                "export it as a function without parameters and results, which leaves what it made in memory"
            }
            SnapshotError::Import { .. } => {
                "an initializer only computes: leave files, clocks, random numbers, models and requests to the calls"
            }
            SnapshotError::Trap(_) => "test the initializer natively, where a panic has a text",
            SnapshotError::Endless => "look for a loop without an end, or make the tables in `build.rs`",
            SnapshotError::Memory => "build smaller tables, and free what only building them takes",
            SnapshotError::Unfit(_) => "leave the initializer out, or build the module without what is named",
        }
    }
}

/// The two kinds of module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Component,
    Core,
}

/// What the module `wasm` is after its initializer has run; `None` where it exports none, and so stays what it is. The same
/// module gives the same snapshot. Blocks for as long as compiling the module takes, and running its initializer.
///
/// # Errors
/// Why the initializer makes no snapshot; see [`SnapshotError`].
pub fn snapshot(wasm: &[u8]) -> Result<Option<Vec<u8>>, SnapshotError> {
    let Some(kind) = initializable(wasm) else { return Ok(None) };
    let engine = engine().map_err(|error| unfit(&error))?;
    // What does not start would be found by the first request. That is late: some libraries refuse to be set up twice, for one.
    let snapshot = match kind {
        Kind::Component => {
            let snapshot = component(&engine, wasm)?;
            start_component(&engine, &snapshot).map(drop).map_err(|error| unstartable(&error))?;
            snapshot
        }
        Kind::Core => {
            let snapshot = core(&engine, wasm)?;
            start_core(&engine, &snapshot).map(drop).map_err(|error| unstartable(&error))?;
            snapshot
        }
    };
    Ok(Some(snapshot))
}

/// What kind of module has an initializer. One that cannot be read has none; that it is broken is for others to say.
fn initializable(wasm: &[u8]) -> Option<Kind> {
    let mut depth = 0;
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentExportSection(exports) if depth == 1 => {
                let is = |kind, name: &str| kind == ComponentExternalKind::Func && name == INITIALIZER;
                if exports.into_iter().flatten().any(|export| is(export.kind, export.name.name)) {
                    return Some(Kind::Component);
                }
            }
            Payload::ExportSection(exports) if depth == 1 => {
                let is = |kind, name: &str| kind == ExternalKind::Func && name == INITIALIZER;
                if exports.into_iter().flatten().any(|export| is(export.kind, export.name)) {
                    return Some(Kind::Core);
                }
            }
            _ => {}
        }
    }
    None
}

/// An engine on which the same code leaves the same memory on every processor.
fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config.consume_fuel(true).cranelift_nan_canonicalization(true).relaxed_simd_deterministic(true);
    Engine::new(&config)
}

fn component(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    let wizer = wizer();
    let (context, instrumented) = wizer.instrument_component(wasm).map_err(|error| unfit(&error))?;
    let ComponentState { mut store, instance } = start_component(engine, &instrumented)?;
    let initialize = instance.get_typed_func::<(), ()>(&mut store, INITIALIZER).map_err(|_| SnapshotError::Type)?;
    initialize.call(&mut store, ()).map_err(|error| failed(&error))?;
    lift(&mut store).map_err(|error| unfit(&error))?;
    ready(wizer.snapshot_component(&context, &mut ComponentState { store, instance }))
}

fn core(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    let wizer = wizer();
    let (context, instrumented) = wizer.instrument(wasm).map_err(|error| unfit(&error))?;
    let ModuleState { mut store, instance } = start_core(engine, &instrumented)?;
    // Some libraries are set up there. The snapshot has that behind it, and exports it no more.
    if let Ok(set_up) = instance.get_typed_func::<(), ()>(&mut store, "_initialize") {
        set_up.call(&mut store, ()).map_err(|error| failed(&error))?;
    }
    let initialize = instance.get_typed_func::<(), ()>(&mut store, INITIALIZER).map_err(|_| SnapshotError::Type)?;
    initialize.call(&mut store, ()).map_err(|error| failed(&error))?;
    lift(&mut store).map_err(|error| unfit(&error))?;
    ready(wizer.snapshot(&context, &mut ModuleState { store, instance }))
}

/// An instance of a component that can call nothing.
fn start_component(engine: &Engine, wasm: &[u8]) -> Result<ComponentState, SnapshotError> {
    let component = Component::new(engine, wasm).map_err(|error| unfit(&error))?;
    let mut linker = wasmtime::component::Linker::new(engine);
    let ty = component.component_type();
    for (name, import) in ty.imports(engine) {
        refuse(&mut linker.root(), engine, "the world", name, &import.ty).map_err(|error| unfit(&error))?;
    }
    let mut store = store(engine).map_err(|error| unfit(&error))?;
    let instance = linker.instantiate(&mut store, &component).map_err(|error| failed(&error))?;
    Ok(ComponentState { store, instance })
}

/// An instance of a core module that can call nothing.
fn start_core(engine: &Engine, wasm: &[u8]) -> Result<ModuleState, SnapshotError> {
    let module = Module::new(engine, wasm).map_err(|error| unfit(&error))?;
    let mut linker = wasmtime::Linker::new(engine);
    for import in module.imports() {
        let ExternType::Func(ty) = import.ty() else { continue };
        let called = Called { interface: import.module().to_owned(), name: import.name().to_owned() };
        let refused = move |_: wasmtime::Caller<'_, Bounds>, _: &[_], _: &mut [_]| Err(called.clone().into());
        linker.func_new(import.module(), import.name(), ty, refused).map_err(|error| unfit(&error))?;
    }
    let mut store = store(engine).map_err(|error| unfit(&error))?;
    let instance = linker.instantiate(&mut store, &module).map_err(|error| failed(&error))?;
    Ok(ModuleState { store, instance })
}

fn wizer() -> Wizer {
    let mut wizer = Wizer::new();
    // What lifts the export in a component refers to it, so it has to stay.
    wizer.init_func(INITIALIZER).keep_init_func(true);
    wizer
}

/// Reading the state of an instance waits for nothing.
fn ready(snapshot: impl Future<Output = wasmtime::Result<Vec<u8>>>) -> Result<Vec<u8>, SnapshotError> {
    let snapshot = snapshot.now_or_never().unwrap_or_else(|| Err(wasmtime::Error::msg("its state cannot be read")));
    snapshot.map_err(|error| unfit(&error))
}

/// Defines an import of a component such that calling it ends the initializer.
fn refuse(
    linker: &mut LinkerInstance<'_, Bounds>,
    engine: &Engine,
    interface: &str,
    name: &str,
    import: &ComponentItem,
) -> wasmtime::Result<()> {
    match import {
        ComponentItem::ComponentFunc(_) => {
            let called = Called { interface: interface.to_owned(), name: name.to_owned() };
            linker.func_new(name, move |_, _, _, _| Err(called.clone().into()))
        }
        ComponentItem::ComponentInstance(instance) => {
            let mut inner = linker.instance(name)?;
            for (item, export) in instance.exports(engine) {
                refuse(&mut inner, engine, name, item, &export.ty)?;
            }
            Ok(())
        }
        // There are none of any resource, since nothing that could make one can be called.
        ComponentItem::Resource(_) => linker.resource(name, ResourceType::host::<()>(), |_, _| Ok(())),
        _ => Ok(()),
    }
}

/// An import was called.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{name}` of `{interface}` was called")]
struct Called {
    interface: String,
    name: String,
}

/// More memory was asked for than there may be.
#[derive(Debug, thiserror::Error)]
#[error("too much memory")]
struct TooMuch;

/// What the initializer may take. Lifted when it has run, since reading its memory takes a page of it.
struct Bounds {
    memory: usize,
    lifted: bool,
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) && !self.lifted {
            return Ok(false);
        }
        self.memory = self.memory.saturating_add(desired.saturating_sub(current));
        match self.lifted || self.memory <= MAX_MEMORY {
            true => Ok(true),
            false => Err(TooMuch.into()),
        }
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }
}

fn store(engine: &Engine) -> wasmtime::Result<Store<Bounds>> {
    let mut store = Store::new(engine, Bounds { memory: 0, lifted: false });
    store.limiter(|bounds| bounds);
    store.set_fuel(STEPS)?;
    Ok(store)
}

fn lift(store: &mut Store<Bounds>) -> wasmtime::Result<()> {
    store.data_mut().lifted = true;
    store.set_fuel(u64::MAX)
}

/// Why the initializer did not return.
fn failed(error: &wasmtime::Error) -> SnapshotError {
    if let Some(Called { interface, name }) = error.downcast_ref() {
        return SnapshotError::Import { interface: interface.clone(), name: name.clone() };
    }
    if error.is::<TooMuch>() {
        return SnapshotError::Memory;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => SnapshotError::Endless,
        Some(trap) => SnapshotError::Trap(trap.to_string().trim_start_matches("wasm trap: ").to_owned()),
        None => unfit(error),
    }
}

fn unstartable(error: &SnapshotError) -> SnapshotError {
    SnapshotError::Unfit(format!("an instance that begins with it does not start: {error}"))
}

fn unfit(error: &wasmtime::Error) -> SnapshotError {
    SnapshotError::Unfit(format!("{error:#}"))
}

#[cfg(test)]
#[path = "snapshot/tests.rs"]
mod tests;
