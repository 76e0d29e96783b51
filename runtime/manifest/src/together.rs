//! What is wrong only between manifests, such as a function name or an HTTP path that two of them want, or beside what they name.

use crate::{
    Diagnostics, HttpTrigger, Manifest,
    diagnostic::{Diagnostic, Place},
    source::Source,
};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// A manifest with the file name and the text that `parse` has made it of.
type Read<'a> = (&'a str, &'a str, &'a Manifest);

/// Checks manifests that are to run on one host against each other. Each stands with the file name and the text that `parse`
/// has made it of; the text serves only to show the places of a conflict.
///
/// Two HTTP paths conflict when some request would match both, whatever its method.
///
/// # Errors
/// Each manifest's conflict with the first one before it that wants the same, pointing at both.
pub fn check_together(manifests: &[(&str, &str, &Manifest)]) -> Result<(), Diagnostics> {
    let mut all = Vec::new();
    for (index, later) in manifests.iter().enumerate() {
        let mut mistakes = Vec::new();
        let earlier = &manifests[..index];
        if let Some(first) = earlier.iter().find(|first| first.2.name == later.2.name) {
            let message = format!("two functions are named `{}`", later.2.name);
            mistakes.push(conflict(first, later, &["name"], message, "give each function a name of its own"));
        }
        let wants_the_same = |first: &&Read<'_>| {
            http(first.2).zip(http(later.2)).is_some_and(|(first, later)| first.path.overlaps(&later.path))
        };
        if let Some(first) = earlier.iter().find(wants_the_same) {
            let message = format!("functions `{}` and `{}` want the same requests", first.2.name, later.2.name);
            let help = "give each function a path that no other one matches";
            mistakes.push(conflict(first, later, &["trigger", "http", "path"], message, help));
        }
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        all.append(&mut mistakes);
    }
    if all.is_empty() { Ok(()) } else { Err(Diagnostics::new(all)) }
}

/// A mistake in a manifest that only shows beside what it names: at the value of `keys` in `text`, of which `parse` has made it. What
/// is wrong and what to write instead reads like the messages of `parse`.
pub fn mistake(file: &str, text: &str, keys: &[&str], message: String, help: &str) -> Diagnostics {
    let place = Place::new(&Source::new(file, text), &span_of(text, keys), String::new());
    Diagnostics::new(vec![Diagnostic::new(place, message, help.to_owned())])
}

fn http(manifest: &Manifest) -> Option<&HttpTrigger> {
    manifest.trigger.http.as_ref()
}

fn conflict(first: &Read<'_>, later: &Read<'_>, keys: &[&str], message: String, help: &str) -> Diagnostic {
    let place = |(file, text, _): &Read<'_>, label: &str| {
        Place::new(&Source::new(file, text), &span_of(text, keys), label.to_owned())
    };
    Diagnostic::new(place(later, "wanted again"), message, help.to_owned()).with_also(place(first, "first wanted here"))
}

/// Where the value at `keys` stands; the beginning of a text that is not the manifest's.
fn span_of(text: &str, keys: &[&str]) -> Range<usize> {
    let (document, _) = DeTable::parse_recoverable(text);
    let mut table = document.get_ref();
    let mut span = 0..0;
    for key in keys {
        let Some(value) = table.get(*key) else { break };
        span = value.span();
        let DeValue::Table(below) = value.get_ref() else { break };
        table = below;
    }
    span
}
