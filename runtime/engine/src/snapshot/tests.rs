//! Core modules of a few bytes, put together here; components with real initializers are packed and served by the tests of the
//! whole. Those run on a host, these only make snapshots.

use super::*;

/// A section of a module; nothing here is longer than what one byte can count.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 128, "a length of one byte");
    [&[id, length], content].concat()
}

fn name(name: &str) -> Vec<u8> {
    [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat()
}

/// A module with a memory of a page and a mutable global, whose initializer is `code`. It may call function 0, which it imports.
fn module(code: &[u8]) -> Vec<u8> {
    named(INITIALIZER, code)
}

fn named(export: &str, code: &[u8]) -> Vec<u8> {
    let body = [&[u8::try_from(code.len()).unwrap() + 2, 0], code, &[0x0b]].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        // A type of function, from nothing to nothing.
        section(1, &[1, 0x60, 0, 0]),
        section(2, &[&[1][..], &name("wasi_snapshot_preview1"), &name("sched_yield"), &[0, 0]].concat()),
        section(3, &[1, 0]),
        section(5, &[1, 0, 1]),
        section(6, &[1, 0x7f, 1, 0x41, 5, 0x0b]),
        section(7, &[&[2][..], &name(export), &[0, 1], &name("memory"), &[2, 0]].concat()),
        section(10, &[&[1][..], &body].concat()),
    ]
    .concat()
}

/// `i32.store` of 42 at address 1024, and `global.set` of 7.
const WORK: &[u8] = &[0x41, 0x80, 0x08, 0x41, 42, 0x36, 2, 0, 0x41, 7, 0x24, 0];

#[track_caller]
fn refused(code: &[u8], expected: &str) {
    let error = snapshot(&module(code)).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert!(!error.help().is_empty());
}

#[test]
fn what_an_initializer_leaves_is_what_an_instance_starts_with() {
    let snapshot = snapshot(&module(WORK)).unwrap().unwrap();
    let engine = Engine::default();
    let module = Module::new(&engine, &snapshot).unwrap();
    let mut linker = wasmtime::Linker::new(&engine);
    linker.func_wrap("wasi_snapshot_preview1", "sched_yield", || {}).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    assert_eq!(memory.data(&store)[1024..1032], [42, 0, 0, 0, 0, 0, 0, 0]);
    assert!(!snapshot.windows(9).any(|bytes| bytes == b"__wizer_m"), "what reads the state is left in the module");
}

#[test]
fn the_same_module_makes_the_same_snapshot() {
    let once = snapshot(&module(WORK)).unwrap();
    assert_eq!(once, snapshot(&module(WORK)).unwrap());
}

#[test]
fn a_module_without_an_initializer_stays_what_it_is() {
    for module in [&named("initialize", WORK), b"\0asm\x01\0\0\0".as_slice(), b"\0asm\x0d\0\x01\0", b"no module", b""] {
        assert!(snapshot(module).unwrap().is_none());
    }
}

#[test]
fn an_initializer_only_computes() {
    // `call 0`.
    refused(&[0x10, 0], "called `sched_yield` of `wasi_snapshot_preview1`");
    // `unreachable`.
    refused(&[0], "its initializer trapped: wasm `unreachable` instruction executed");
    // `memory.grow` by 1,024 pages, so that there is one more than may be.
    refused(&[0x41, 0x80, 0x08, 0x40, 0, 0x1a], "more than 64 MiB of memory");
    // `loop`, `br 0`.
    refused(&[0x03, 0x40, 0x0c, 0, 0x0b], "did not return within");
}

/// As [`module`], with an `_initialize` that sets the global to 7, and an initializer that traps unless it is 7.
#[test]
fn libraries_are_set_up_before() {
    let set_up = [0x41, 7, 0x24, 0];
    // `global.get`, `i32.const 7`, `i32.ne`, `if unreachable end`.
    let code = [0x23, 0, 0x41, 7, 0x47, 0x04, 0x40, 0, 0x0b];
    assert!(matches!(snapshot(&module(&code)), Err(SnapshotError::Trap(_))));
    let body = |code: &[u8]| [&[u8::try_from(code.len()).unwrap() + 2, 0], code, &[0x0b]].concat();
    let names = [&[2][..], &name("_initialize"), &[0, 1], &name(INITIALIZER), &[0, 2]].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        section(2, &[&[1][..], &name("wasi_snapshot_preview1"), &name("sched_yield"), &[0, 0]].concat()),
        section(3, &[2, 0, 0]),
        section(6, &[1, 0x7f, 1, 0x41, 5, 0x0b]),
        section(7, &names),
        section(10, &[&[2][..], &body(&set_up), &body(&code)].concat()),
    ];
    assert!(snapshot(&module.concat()).unwrap().is_some());
}

#[test]
fn an_initializer_takes_and_gives_nothing() {
    // The type of a function from nothing to `i32`, and `i32.const 1`.
    let mut module = module(&[0x41, 1]);
    let at = module.windows(4).position(|bytes| bytes == [1, 0x60, 0, 0]).unwrap();
    module.splice(at - 1..at + 4, [5, 1, 0x60, 0, 1, 0x7f]);
    assert!(matches!(snapshot(&module), Err(SnapshotError::Type)), "{:?}", snapshot(&module).err());
}

#[test]
fn an_initializer_may_take_what_memory_there_may_be() {
    // `memory.grow` by 1,023 pages, so that there are 1,024.
    assert!(snapshot(&module(&[0x41, 0xff, 0x07, 0x40, 0, 0x1a])).unwrap().is_some());
}
