//! From text to a checked [`Manifest`]: reads every table, keeps going after a mistake, and knows the ranges.

use crate::{
    Allow, BackendChoice, ByteSize, Diagnostics, FileGrant, HostPort, HttpTrigger, InferenceTrigger, Limits, Manifest,
    Method, ModelGrant, ModelName, Scale, Triggers,
    choice::Choice,
    schema::{ALLOW, ENV, FILES, LIMITS, MODEL, MODELS, SCALE, TRIGGER, TRIGGER_HTTP, TRIGGER_INFERENCE},
    section::{Report, Section, choice, parsed},
    source::Source,
    suggest::{listed, shown},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::PathBuf,
    time::Duration,
};
use toml::de::{DeTable, DeValue};

/// The longest text that is read as a manifest, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// What the parser calls a key that is there twice. Its first value is kept, so the rest of the file can still be judged.
const DUPLICATE: &str = "duplicate key";

/// Reads the text of the manifest `file`, which is only a name here.
///
/// # Errors
/// Every mistake of the text. One that is no TOML is reported alone, since nothing after it can be trusted.
pub fn parse(file: &str, text: &str) -> Result<Manifest, Diagnostics> {
    let source = Source::new(file, text);
    let mut report = Report::new(&source);
    let manifest = document(&mut report, text).and_then(|document| manifest(&mut report, &document));
    report.finish(manifest)
}

fn document<'a>(report: &mut Report<'_>, text: &'a str) -> Option<DeTable<'a>> {
    if text.len() > MAX_TEXT {
        let message = format!("the file has {} bytes, and a manifest has at most {MAX_TEXT}", text.len());
        report.mistake(&(0..0), message, "not read", "give the manifest's own file; is this a bundle or a model?");
        return None;
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    let span = |error: &toml::de::Error| error.span().unwrap_or(text.len()..text.len());
    if let Some(error) = errors.iter().find(|error| error.message() != DUPLICATE) {
        report.mistake(
            &span(error),
            format!("this is not TOML: {}", error.message()),
            "the parser stopped here",
            "texts stand in quotes, and each `key = value` and each `[header]` has a line of its own; see https://toml.io",
        );
        return None;
    }
    for error in &errors {
        let span = span(error);
        let key = text.get(span.clone()).unwrap_or_default();
        let help = "keep one of the two; a table's keys all stand below one header";
        report.mistake(&span, format!("the key or table `{}` is there twice", shown(key)), "the second one", help);
    }
    Some(document.into_inner())
}

fn manifest(report: &mut Report<'_>, document: &DeTable<'_>) -> Option<Manifest> {
    let root = Section::root(report, document);
    let name = root.parsed(report, "name");
    let name = root.required(report, "name", name);
    let bundle = bundle(report, &root);
    let bundle = root.required(report, "bundle", bundle);
    let trigger = triggers(report, &root);
    let models = models(report, &root);
    let scale = root.table(report, "scale", &SCALE).map(|table| scale(report, &table)).unwrap_or_default();
    let limits = root.table(report, "limits", &LIMITS).map(|table| limits(report, &table)).unwrap_or_default();
    let allow = root.table(report, "allow", &ALLOW).map(|table| allow(report, &table)).unwrap_or_default();
    Some(Manifest { name: name?, bundle: bundle?, trigger, models, scale, limits, allow })
}

fn bundle(report: &mut Report<'_>, root: &Section<'_>) -> Option<PathBuf> {
    let (text, span) = root.string(report, "bundle")?;
    if let Some((scheme, _)) = text.split_once("://") {
        let message = match scheme {
            "oci" => "pulling bundles from registries is not supported by this version".to_owned(),
            _ => format!("`bundle` must be a file, but `{}` is a URL", shown(text)),
        };
        let help = "write the path of a file that `torpor pack` wrote, relative to this manifest";
        report.mistake(&span, message, "not a file", help);
        return None;
    }
    path(report, "bundle", text, &span)
}

/// A path of this host, as written.
fn path(report: &mut Report<'_>, full: &str, text: &str, span: &Range<usize>) -> Option<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        let label = if text.is_empty() { "empty" } else { "it holds a NUL character" };
        report.mistake(span, format!("`{full}` is not a path"), label, "write a path, relative to this manifest");
        return None;
    }
    Some(PathBuf::from(text))
}

fn triggers(report: &mut Report<'_>, root: &Section<'_>) -> Triggers {
    let table = root.table(report, "trigger", &TRIGGER);
    // A trigger that was written but is wrong, or that only its spelling hides, has been noted already.
    let none = match &table {
        Some(table) => table.is_empty(),
        None => !root.has("trigger") && !root.meant("trigger"),
    };
    if none {
        let span = table.as_ref().map_or(0..0, |table| table.span().clone());
        report.mistake(
            &span,
            "the function has no trigger, so nothing could call it",
            "neither `[trigger.http]` nor `[trigger.inference]`",
            "add `[trigger.inference]`, or `[trigger.http]` with a `path`",
        );
    }
    let Some(table) = table else { return Triggers::default() };
    let http = table.table(report, "http", &TRIGGER_HTTP).and_then(|table| http(report, &table));
    let inference = table.table(report, "inference", &TRIGGER_INFERENCE).map(|_| InferenceTrigger {});
    Triggers { http, inference }
}

fn http(report: &mut Report<'_>, table: &Section<'_>) -> Option<HttpTrigger> {
    let path = table.parsed(report, "path");
    let path = table.required(report, "path", path);
    let methods = match table.strings(report, "methods") {
        None => Vec::new(),
        Some((items, span)) => {
            if items.is_empty() {
                let help = "leave `methods` out to allow any method";
                report.mistake(&span, "no method is allowed, so nothing could call it", "an empty list", help);
            }
            let full = table.full("methods");
            unique(report, items, |report, text, span| choice::<Method>(report, &full, text, span))
        }
    };
    Some(HttpTrigger { path: path?, methods })
}

fn models(report: &mut Report<'_>, root: &Section<'_>) -> BTreeMap<ModelName, ModelGrant> {
    let mut models = BTreeMap::new();
    let Some(table) = root.table(report, "model", &MODELS) else { return models };
    for (key, value) in table.entries() {
        let name = parsed::<ModelName>(report, key.get_ref(), &key.span());
        let Some(section) = Section::of(report, &MODEL, table.full(key.get_ref()), value) else { continue };
        let default = ModelGrant::default();
        let backend: BackendChoice = section.choice(report, "backend").unwrap_or(default.backend);
        let grant = ModelGrant {
            backend,
            device: of_backend(report, &section, "device", backend, backend.devices()).unwrap_or(default.device),
            precision: of_backend(report, &section, "precision", backend, backend.precisions())
                .unwrap_or(default.precision),
            threads: section.integer(report, "threads", 1..=256).unwrap_or(default.threads),
            parallel: section.integer(report, "parallel", 1..=256).unwrap_or(default.parallel),
        };
        if let Some(name) = name {
            models.insert(name, grant);
        }
    }
    models
}

/// The word under `key`, which must be one that the backend may have. Whether this host's has it shows when it is deployed.
fn of_backend<T: Choice + PartialEq>(
    report: &mut Report<'_>,
    section: &Section<'_>,
    key: &str,
    backend: BackendChoice,
    possible: &[T],
) -> Option<T> {
    let (word, span) = section.string(report, key)?;
    let full = section.full(key);
    let choice: T = choice(report, &full, word, &span)?;
    if !possible.contains(&choice) {
        report.mistake(
            &span,
            format!("`{full}` cannot be `{word}` where `backend` is `{backend}`"),
            "not with this backend",
            format!("write one of {}, or choose another backend", listed(possible.iter().map(|choice| choice.word()))),
        );
    }
    Some(choice)
}

fn scale(report: &mut Report<'_>, table: &Section<'_>) -> Scale {
    let default = Scale::default();
    let idle = Duration::from_millis(10)..=Duration::from_secs(30 * 24 * 3600);
    Scale {
        min: table.integer(report, "min", 0..=1).unwrap_or(default.min),
        max_concurrency: table.integer(report, "max-concurrency", 1..=4096).unwrap_or(default.max_concurrency),
        idle_timeout: table.duration(report, "idle-timeout", idle).unwrap_or(default.idle_timeout),
        queue: table.integer(report, "queue", 0..=65536).unwrap_or(default.queue),
    }
}

fn limits(report: &mut Report<'_>, table: &Section<'_>) -> Limits {
    let default = Limits::default();
    let deadline = Duration::from_millis(1)..=Duration::from_secs(3600);
    Limits {
        memory: table.size(report, "memory", ByteSize::mib(1)..=ByteSize::gib(4)).unwrap_or(default.memory),
        deadline: table.duration(report, "deadline", deadline).unwrap_or(default.deadline),
        body: table.size(report, "body", ByteSize::bytes(1)..=ByteSize::gib(1)).unwrap_or(default.body),
    }
}

fn allow(report: &mut Report<'_>, table: &Section<'_>) -> Allow {
    let outbound =
        table.strings(report, "outbound").map_or_else(Vec::new, |(items, _)| unique(report, items, parsed::<HostPort>));
    let env = table.table(report, "env", &ENV).map(|table| env(report, &table)).unwrap_or_default();
    Allow { outbound, env, files: files(report, table) }
}

fn env(report: &mut Report<'_>, table: &Section<'_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (key, value) in table.entries() {
        let name = key.get_ref();
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = format!("`{}` is not the name of an environment variable", shown(name));
            report.mistake(&key.span(), message, "empty, or holds `=` or NUL", "write a name such as `LOG_LEVEL`");
        }
        match value.get_ref() {
            DeValue::String(text) if text.contains('\0') => {
                let message = format!("the value of `{}` holds a NUL character", table.full(name));
                report.mistake(&value.span(), message, "not possible in an environment", "leave the NUL out");
            }
            DeValue::String(text) => {
                variables.insert(name.to_string(), text.to_string());
            }
            _ => report.wrong_type(&table.full(name), value, "a string", &table.example(name)),
        }
    }
    variables
}

fn files(report: &mut Report<'_>, table: &Section<'_>) -> Vec<FileGrant> {
    let full = table.full("files");
    let mut guests = BTreeSet::new();
    let mut grants = Vec::new();
    let Some((items, _)) = table.array(report, "files") else { return grants };
    for (index, value) in items.iter().enumerate() {
        let Some(section) = Section::of(report, &FILES, format!("{full}[{index}]"), value) else { continue };
        let host = section.string(report, "host");
        let host = section.required(report, "host", host);
        let host = host.and_then(|(text, span)| path(report, &section.full("host"), text, &span));
        let guest = section.string(report, "guest");
        let Some((guest, span)) = section.required(report, "guest", guest) else { continue };
        if let Some(label) = guest_fault(guest) {
            let message = format!("`{}` is not a place for a folder in the module", shown(guest));
            report.mistake(&span, message, label, "write an absolute path without `.` and `..`, such as `/labels`");
        } else if !guests.insert(guest) {
            let message = format!("two folders are at `{}`", shown(guest));
            report.mistake(&span, message, "the second one", "give each folder a path of its own");
        } else if let Some(host) = host {
            grants.push(FileGrant { host, guest: guest.to_owned() });
        }
    }
    grants
}

fn guest_fault(path: &str) -> Option<&'static str> {
    let Some(segments) = path.strip_prefix('/') else { return Some("it must begin with `/`") };
    if path.contains('\0') {
        return Some("it holds a NUL character");
    }
    if segments.is_empty() {
        return None;
    }
    segments.split('/').any(|segment| matches!(segment, "" | "." | "..")).then_some("a segment is empty, `.` or `..`")
}

/// What `read` makes of the items; a second one of the same value is a mistake.
fn unique<T: Ord + Clone>(
    report: &mut Report<'_>,
    items: Vec<(&str, Range<usize>)>,
    read: impl Fn(&mut Report<'_>, &str, &Range<usize>) -> Option<T>,
) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let mut values = Vec::new();
    for (text, span) in items {
        let Some(value) = read(report, text, &span) else { continue };
        if seen.insert(value.clone()) {
            values.push(value);
        } else {
            report.mistake(&span, format!("`{}` is there twice", shown(text)), "the second one", "leave one out");
        }
    }
    values
}
