//! From text to a checked [`Manifest`]: reads every table, keeps going after a mistake, and knows the ranges.

use crate::{
    Allow, BackendChoice, ByteSize, Command, Diagnostics, EnvValue, FileGrant, HostPort, HttpCache, HttpTrigger,
    InferenceTrigger, Isolation, Limits, Manifest, Method, ModelGrant, ModelName, Priority, Scale, Triggers,
    choice::Choice,
    environment::Lookup,
    manifest::{HTTP_CACHE, LIMITS, MODEL, SCALE},
    schema::{ALLOW, COMMAND, ENV, FILES, MODELS, Settings, TRIGGER, TRIGGER_HTTP, TRIGGER_INFERENCE},
    section::{Report, Section, Texts, choice, parsed},
    source::Source,
    suggest::{listed, shown},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::PathBuf,
};
use toml::de::{DeTable, DeValue};

/// The longest text that is read as a manifest, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// What the parser calls a key that is there twice. Its first value is kept, so the rest of the file can still be judged.
const DUPLICATE: &str = "duplicate key";

/// Reads the text of the manifest `file`, which is only a name here. `variables` says what the environment variables hold that the
/// text names; it is asked for no others.
///
/// # Errors
/// Every mistake of the text. One that is no TOML is reported alone, since nothing after it can be trusted.
pub fn parse(file: &str, text: &str, variables: &Lookup<'_>) -> Result<Manifest, Diagnostics> {
    let source = Source::new(file, text);
    let mut report = Report::new(&source, variables);
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
    let scale = root.table(report, "scale", &SCALE).map(|table| Scale::read(report, &table)).unwrap_or_default();
    let limits = root.table(report, "limits", &LIMITS).map(|table| Limits::read(report, &table)).unwrap_or_default();
    let command = root.table(report, "command", &COMMAND).map(|table| command(report, &table)).unwrap_or_default();
    let allow = root.table(report, "allow", &ALLOW).map(|table| allow(report, &table)).unwrap_or_default();
    Some(Manifest { name: name?, bundle: bundle?, trigger, models, scale, limits, command, allow })
}

fn bundle(report: &mut Report<'_>, root: &Section<'_>) -> Option<PathBuf> {
    let (text, span) = root.string(report, "bundle")?;
    if let Some((scheme, _)) = text.split_once("://") {
        let message = match scheme {
            "oci" => "pulling bundles from registries is not supported by this version".to_owned(),
            _ => format!("`bundle` must be a file, but `{}` is a URL", shown(&text)),
        };
        let help = "write the path of a file that `torpor pack` wrote, relative to this manifest";
        report.mistake(&span, message, "not a file", help);
        return None;
    }
    path(report, "bundle", &text, &span)
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
    let inference = table.table(report, "inference", &TRIGGER_INFERENCE);
    let inference = inference.map(|table| InferenceTrigger { priority: priority(report, &table) });
    Triggers { http, inference }
}

fn priority(report: &mut Report<'_>, table: &Section<'_>) -> Priority {
    table.word(report, "priority").unwrap_or_default()
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
    let priority = priority(report, table);
    let cache = table.table(report, "cache", &HTTP_CACHE).map(|table| HttpCache::read(report, &table));
    Some(HttpTrigger { path: path?, methods, priority, cache })
}

fn models(report: &mut Report<'_>, root: &Section<'_>) -> BTreeMap<ModelName, ModelGrant> {
    let mut models = BTreeMap::new();
    let Some(table) = root.table(report, "model", &MODELS) else { return models };
    for (key, value) in table.entries() {
        let name = parsed::<ModelName>(report, key.get_ref(), &key.span());
        let Some(section) = Section::of(report, &MODEL, table.full(key.get_ref()), value) else { continue };
        let grant = ModelGrant::read(report, &section);
        of_backend(report, &section, "device", &grant, grant.device, grant.backend.devices());
        of_backend(report, &section, "precision", &grant, grant.precision, grant.backend.precisions());
        if grant.backend == BackendChoice::Tract && grant.threads > 1 {
            let message = format!("`{}` has no effect with the backend `tract`", section.full("threads"));
            let help = "tract runs a model on one thread: leave `threads` out, and set `parallel` for more runs at the same time";
            report.mistake(&section.place("threads"), message, "more than one thread", help);
        }
        if grant.isolation == Isolation::Host && section.has("memory") {
            let message =
                format!("`{}` has no effect where the model runs in the host's process", section.full("memory"));
            let help = "write `isolation = \"process\"` beside it, or leave it out";
            report.mistake(&section.place("memory"), message, "no process that it could bound", help);
        }
        if let Some(name) = name {
            models.insert(name, grant);
        }
    }
    models
}

/// Whether the word under `key` is one that the backend may have. Whether this host's has it shows when it is deployed.
fn of_backend<T: Choice + PartialEq>(
    report: &mut Report<'_>,
    section: &Section<'_>,
    key: &str,
    grant: &ModelGrant,
    choice: T,
    possible: &[T],
) {
    if !possible.contains(&choice) {
        let (full, word, backend) = (section.full(key), choice.word(), grant.backend);
        report.mistake(
            &section.place(key),
            format!("`{full}` cannot be `{word}` where `backend` is `{backend}`"),
            "not with this backend",
            format!("write one of {}, or choose another backend", listed(possible.iter().map(|choice| choice.word()))),
        );
    }
}

fn command(report: &mut Report<'_>, table: &Section<'_>) -> Command {
    let mut args = Vec::new();
    for (text, span) in table.strings(report, "args").unwrap_or_default().0 {
        if text.contains('\0') {
            let message = format!("an argument in `{}` holds a NUL character", table.full("args"));
            report.mistake(&span, message, "not possible in an argument", "leave the NUL out");
        }
        args.push(text.into_owned());
    }
    Command { args }
}

fn allow(report: &mut Report<'_>, table: &Section<'_>) -> Allow {
    let outbound =
        table.strings(report, "outbound").map_or_else(Vec::new, |(items, _)| unique(report, items, parsed::<HostPort>));
    for host in &outbound {
        let covers =
            |other: &&HostPort| *other != host && host.port().is_some_and(|port| other.allows(host.host(), port));
        if let Some(other) = outbound.iter().find(covers) {
            let message = format!("`{other}` grants `{host}` already");
            let help = format!(
                "without a port, 80 and 443 are granted: leave out `{other}` for the one port, or else `{host}`"
            );
            report.mistake(&table.place("outbound"), message, "two grants for one port", help);
        }
    }
    let env = table.table(report, "env", &ENV).map(|table| env(report, &table)).unwrap_or_default();
    let load = table.size(report, "load", ByteSize::bytes(1)..=ByteSize::gib(1));
    let files = files(report, table);
    let bundle_files = bundle_files(report, table, &files);
    Allow { outbound, env, files, bundle_files, load }
}

fn env(report: &mut Report<'_>, table: &Section<'_>) -> BTreeMap<String, EnvValue> {
    let mut variables = BTreeMap::new();
    for (key, value) in table.entries() {
        let name = key.get_ref();
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = format!("`{}` is not the name of an environment variable", shown(name));
            report.mistake(&key.span(), message, "empty, or holds `=` or NUL", "write a name such as `LOG_LEVEL`");
        }
        match value.get_ref() {
            DeValue::String(text) => {
                let Some(text) = report.expanded(text, &value.span()) else { continue };
                if text.contains('\0') {
                    let message = format!("the value of `{}` holds a NUL character", table.full(name));
                    report.mistake(&value.span(), message, "not possible in an environment", "leave the NUL out");
                }
                variables.insert(name.to_string(), EnvValue::new(text.into_owned()));
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
        let host = host.and_then(|(text, span)| path(report, &section.full("host"), &text, &span));
        let guest = section.string(report, "guest");
        let Some((guest, span)) = section.required(report, "guest", guest) else { continue };
        if let Some(label) = guest_fault(&guest) {
            let message = format!("`{}` is not a place for a folder in the module", shown(&guest));
            report.mistake(&span, message, label, "write an absolute path without `.` and `..`, such as `/labels`");
        } else if !guests.insert(guest.clone()) {
            let message = format!("two folders are at `{}`", shown(&guest));
            report.mistake(&span, message, "the second one", "give each folder a path of its own");
        } else if let Some(host) = host {
            grants.push(FileGrant { host, guest: guest.into_owned() });
        }
    }
    grants
}

fn bundle_files(report: &mut Report<'_>, table: &Section<'_>, files: &[FileGrant]) -> Option<String> {
    let (guest, span) = table.string(report, "bundle-files")?;
    if let Some(label) = guest_fault(&guest) {
        let message = format!("`{}` is not a place for a folder in the module", shown(&guest));
        report.mistake(&span, message, label, "write an absolute path without `.` and `..`, such as `/`");
        return None;
    }
    if files.iter().any(|grant| grant.guest == guest) {
        let message = format!("two folders are at `{}`", shown(&guest));
        report.mistake(&span, message, "`files` has one there, too", "give each folder a path of its own");
    }
    Some(guest.into_owned())
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
    items: Texts<'_>,
    read: impl Fn(&mut Report<'_>, &str, &Range<usize>) -> Option<T>,
) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let mut values = Vec::new();
    for (text, span) in items {
        let Some(value) = read(report, &text, &span) else { continue };
        if seen.insert(value.clone()) {
            values.push(value);
        } else {
            report.mistake(&span, format!("`{}` is there twice", shown(&text)), "the second one", "leave one out");
        }
    }
    values
}
