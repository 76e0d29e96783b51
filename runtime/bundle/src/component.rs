//! From the core module that a compiler writes to the component that a host runs.
//!
//! Bindings leave a description of their interfaces in the core module, in custom sections named `component-type…`. So
//! `cargo build --target wasm32-unknown-unknown` and `torpor pack` are all that an author needs. Does no I/O; the same core
//! module makes the same component.

use wit_component::{ComponentEncoder, metadata};

/// How a core module begins: Wasm's magic word, version 1, layer 0. A component is layer 1.
pub(crate) const CORE: &[u8; 8] = b"\0asm\x01\0\0\0";

/// The component that `core` makes; `None` where it describes no interfaces, so that it is not meant to be one.
///
/// # Errors
/// Why it makes none: it is broken, or it imports what its own description does not name.
pub(crate) fn of(core: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let (described, _) = metadata::decode(core).map_err(|error| format!("it is no valid Wasm: {error:#}"))?;
    if described.is_none() {
        return Ok(None);
    }
    let component = ComponentEncoder::default().validate(true).module(core).and_then(|mut encoder| encoder.encode());
    component.map(Some).map_err(|error| format!("it makes no component: {error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_a_description_stays_what_it_is() {
        assert_eq!(of(CORE), Ok(None));
        // A custom section `name` of nothing else.
        let named = [CORE.as_slice(), &[0, 5, 4], b"name"].concat();
        assert_eq!(of(&named), Ok(None));
    }

    #[test]
    fn a_broken_module_says_so() {
        let error = of(&[CORE.as_slice(), &[1, 200, 1]].concat()).unwrap_err();
        assert!(error.starts_with("it is no valid Wasm: "), "{error}");
        let section = [CORE.as_slice(), &[0, 16, 14], b"component-type", b"?"].concat();
        assert!(of(&section).is_err());
    }
}
