//! Any text is a manifest, or has mistakes that can be drawn.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(mistakes) = torpor_manifest::parse("manifest.toml", text) {
        assert!(!mistakes.render(false).is_empty());
    }
});
