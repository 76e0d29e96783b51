//! The JSON Schema of manifests, made of `schema`, for editors and for whoever checks manifests without this program.
//!
//! It takes whatever `parse` takes. The other way round it cannot: bounds of durations and sizes, conflicts between keys and whatever
//! an environment variable holds are beyond it, so `torpor check` has the last word.

use crate::{
    environment,
    schema::{Key, Keys, Kind, Presence, ROOT, Table, Text},
};
use serde::{Serialize, Serializer};

/// The dialect that editors know best.
const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// What begins a right duration, up to its first unit.
const DURATION: &str = r"^\s*[0-9][0-9\s]*(\.[0-9\s]+)?[A-Za-zµ]";

/// A size: a number, and a unit that counts bytes.
const SIZE: &str = r"^[0-9.]+\s*([KMGTPEkmgtpe][Ii]?[Bb]?|[Bb])$";

/// The schema as indented JSON with a final newline; `torpor schema` prints it, and `docs/manifest.schema.json` is it.
pub fn json_schema() -> String {
    let root = Schema {
        dialect: Some(DIALECT),
        title: Some("Torpor deployment manifest"),
        description: Some("What an operator wants of one function; docs/manifest.md describes every key.".to_owned()),
        ..table(&ROOT)
    };
    serde_json::to_string_pretty(&root).expect("all of its maps have texts as keys") + "\n"
}

/// A schema, or a part of one. Its fields are in the order in which people read them.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Schema {
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<serde_json::Value>,
    #[serde(rename = "enum", skip_serializing_if = "Option::is_none")]
    words: Option<&'static [&'static str]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum: Option<i128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum: Option<i128>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    any_of: Vec<Schema>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Box<Schema>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_items: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_items: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_properties: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    property_names: Option<Box<Schema>>,
    #[serde(serialize_with = "as_map", skip_serializing_if = "Vec::is_empty")]
    properties: Vec<(&'static str, Schema)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_properties: Option<Additional>,
}

/// What keys without a schema of their own may hold.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Additional {
    Allowed(bool),
    Each(Box<Schema>),
}

/// Pairs as a map in their order.
fn as_map<S: Serializer>(pairs: &[(&'static str, Schema)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

fn table(table: &Table) -> Schema {
    let object = Schema { kind: Some("object"), ..Schema::default() };
    match &table.keys {
        Keys::Fixed(keys) => Schema {
            required: keys
                .iter()
                .filter(|key| matches!(key.presence, Presence::Required { .. }))
                .map(|key| key.name)
                .collect(),
            properties: keys.iter().map(|key| (key.name, property(key))).collect(),
            additional_properties: Some(Additional::Allowed(false)),
            ..object
        },
        Keys::Free { names, values } => Schema {
            property_names: Some(Box::new(Schema { pattern: Some(names.pattern.to_owned()), ..Schema::default() })),
            additional_properties: Some(Additional::Each(Box::new(kind(values)))),
            ..object
        },
    }
}

fn property(key: &Key) -> Schema {
    let default = match key.presence {
        // Numbers and plain texts are written alike in TOML and in JSON.
        Presence::Default(written) => serde_json::from_str(&written()).ok(),
        Presence::Required { .. } | Presence::Optional { .. } => None,
    };
    // The schema itself tells what words and numbers there are, and a default that is a value.
    let told = matches!(key.kind, Kind::Word(_) | Kind::Integer(_));
    let bounds = Some(key.shown_bounds()).filter(|bounds| !told && !bounds.is_empty());
    let without = match key.presence {
        Presence::Optional { without, .. } => Some(format!("default: {without}")),
        Presence::Required { .. } | Presence::Default(_) => None,
    };
    let notes = bounds.into_iter().chain(without).collect::<Vec<_>>().join("; ");
    let notes = if notes.is_empty() { notes } else { format!(" ({notes})") };
    let required_table = matches!((&key.kind, &key.presence), (Kind::Table(_), Presence::Required { .. }));
    Schema {
        description: Some(format!("{}{notes}", key.meaning)),
        default,
        // A table without which nothing works has to say something.
        min_properties: required_table.then_some(1),
        ..kind(&key.kind)
    }
}

fn kind(kind: &Kind) -> Schema {
    match kind {
        Kind::Text(Text { noun, pattern }) => Schema { title: Some(noun), ..text(pattern) },
        // The words stand alone, so that editors offer them.
        Kind::Word(words) => Schema {
            any_of: vec![
                Schema { words: Some(words), ..Schema::default() },
                Schema { kind: Some("string"), pattern: Some(environment::PATTERN.to_owned()), ..Schema::default() },
            ],
            ..Schema::default()
        },
        Kind::Integer(range) => Schema {
            kind: Some("integer"),
            minimum: Some(*range.start()),
            maximum: Some(*range.end()),
            ..Schema::default()
        },
        Kind::Duration(_) => Schema { title: Some("duration"), ..text(DURATION) },
        Kind::Size(_) => Schema { title: Some("size"), ..text(SIZE) },
        Kind::List { items, empty, repeats } => Schema {
            kind: Some("array"),
            items: Some(Box::new(self::kind(items))),
            min_items: (!empty).then_some(1),
            unique_items: (!repeats).then_some(true),
            ..Schema::default()
        },
        Kind::Table(below) => table(below),
    }
}

/// A text that is right as written, or that has a variable in it.
fn text(pattern: &str) -> Schema {
    let pattern = format!("{pattern}|{}", environment::PATTERN);
    Schema { kind: Some("string"), pattern: Some(pattern), ..Schema::default() }
}
