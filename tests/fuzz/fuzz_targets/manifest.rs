//! Any text is a manifest, or has mistakes that can be drawn. Variables with a name of even length are set.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let variables = |name: &str| name.len().is_multiple_of(2).then(|| name.into());
    if let Err(mistakes) = torpor_manifest::parse("manifest.toml", text, &variables) {
        assert!(!mistakes.render(false).is_empty());
    }
});
