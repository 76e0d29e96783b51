//! Reads the globals and memories of an instance whose initializer has run. What is read was put there by the same library that
//! asks for it, so that nothing of it can be missing.

use super::Bounds;
use wasmparser::ValType;
use wasmtime::{
    Store, Val,
    component::{self, ComponentNamedList, Lift, WasmList},
};
use wasmtime_wizer::{ComponentInstanceState, InstanceState, SnapshotVal};

const THERE: &str = "the instrumented module exports it";

/// The state of a component, which accessors that were added to it give.
pub(super) struct ComponentState {
    pub(super) store: Store<Bounds>,
    pub(super) instance: component::Instance,
}

impl ComponentState {
    fn call<R>(&mut self, instance: &str, name: &str) -> R
    where
        R: 'static,
        (R,): Lift + ComponentNamedList,
    {
        let Self { store, instance: component } = self;
        let (_, instance) = component.get_export(&mut *store, None, instance).expect(THERE);
        let (_, index) = component.get_export(&mut *store, Some(&instance), name).expect(THERE);
        let accessor = component.get_typed_func::<(), (R,)>(&mut *store, index).expect(THERE);
        accessor.call(&mut *store, ()).expect("it only reads").0
    }
}

impl ComponentInstanceState for ComponentState {
    async fn call_func_ret_list_u8(&mut self, instance: &str, func: &str, contents: impl FnOnce(&[u8]) + Send) {
        let list: WasmList<u8> = self.call(instance, func);
        contents(list.as_le_slice(&self.store));
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        self.call(instance, func)
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        self.call(instance, func)
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        self.call::<f32>(instance, func).to_bits()
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        self.call::<f64>(instance, func).to_bits()
    }
}

/// The state of a core module, which it exports.
pub(super) struct ModuleState {
    pub(super) store: Store<Bounds>,
    pub(super) instance: wasmtime::Instance,
}

impl InstanceState for ModuleState {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut self.store, name).expect(THERE);
        match global.get(&mut self.store) {
            Val::I32(value) => SnapshotVal::I32(value),
            Val::I64(value) => SnapshotVal::I64(value),
            Val::F32(bits) => SnapshotVal::F32(bits),
            Val::F64(bits) => SnapshotVal::F64(bits),
            Val::V128(value) => SnapshotVal::V128(value.as_u128()),
            _ => unreachable!("globals that hold references are refused before"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut self.store, name).expect(THERE);
        contents(memory.data(&self.store));
    }
}
