//! `docs/manifest.md` says what is so: its examples are read, and its tables of keys are compared with what `parse` does. The
//! tables are made of the schema, so this also proves that the schema's defaults and bounds are the parser's.

use crate::variables::none;
use torpor_manifest::{Manifest, parse};

const PAGE: &str = include_str!("../../../../docs/manifest.md");

/// The rows of the tables of keys: key, type, default, bounds, meaning.
fn rows() -> impl Iterator<Item = [&'static str; 5]> {
    let tables = PAGE.split("<!-- keys: ").skip(1).filter_map(|rest| rest.split("<!-- end -->").next());
    tables.flat_map(str::lines).filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        cells.try_into().unwrap_or_else(|_| panic!("not five cells: {line}"))
    })
}

/// What stands in backticks, if a cell is nothing else.
fn code(cell: &'static str) -> Option<&'static str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

/// Every key that the page describes.
pub(crate) fn keys() -> impl Iterator<Item = &'static str> {
    rows().map(|row| code(row[0]).unwrap())
}

/// A page's code blocks of this kind, without their fences.
pub(crate) fn blocks<'a>(page: &'a str, kind: &str) -> Vec<&'a str> {
    let fence = format!("\n```{kind}\n");
    page.split(&fence).skip(1).map(|rest| &rest[..rest.find("```").unwrap()]).collect()
}

#[track_caller]
fn right(text: &str) -> Manifest {
    parse("manifest.toml", text, &none).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A manifest with this line (or these) besides what each one must have.
fn with(lines: &str) -> String {
    let trigger = if lines.contains("trigger.") { "" } else { "trigger.inference = {}\n" };
    format!("name = \"example\"\nbundle = \"example.torpor\"\n{trigger}{lines}\n")
}

/// The page's examples, each as a whole manifest.
pub(crate) fn examples() -> Vec<String> {
    // A part of a manifest begins with a header.
    let whole = |block: &str| if block.starts_with('[') { with(block) } else { block.to_owned() };
    blocks(PAGE, "toml").into_iter().map(whole).collect()
}

#[test]
fn every_example_is_right() {
    let examples = examples();
    assert!(examples.len() >= 9, "only {} examples were found", examples.len());
    examples.iter().for_each(|example| drop(right(example)));
}

#[test]
fn the_mistakes_are_shown_as_they_are() {
    let [wrong] = blocks(PAGE, "toml wrong")[..] else { panic!("one wrong example is expected") };
    let [shown] = blocks(PAGE, "text")[..] else { panic!("one drawing is expected") };
    assert_eq!(parse("manifest.toml", wrong, &none).unwrap_err().render(false), shown);
}

/// What a key has an effect with, where it has none alone.
fn beside(key: &str) -> &'static str {
    match key {
        "model.NAME.memory" => "model.m.isolation = \"process\"",
        "trigger.http.priority" | "trigger.http.cache.body" => "trigger.http.path = \"/fn\"",
        _ => "",
    }
}

/// The table of a key whose defaults are there only where it is.
fn table(key: &str) -> String {
    let (table, _) = key.rsplit_once('.').unwrap();
    format!("{} = {{}}", table.replace("NAME", "m"))
}

#[test]
fn every_default_is_the_default() {
    let mut compared = 0;
    for [key, _, default, ..] in rows() {
        let (Some(key), Some(default)) = (code(key), code(default)) else { continue };
        // A model's keys have defaults only where there is a model, and a trigger's where that is.
        let bare = match beside(key) {
            "" if key.starts_with("model.") || key.starts_with("trigger.") => table(key),
            beside if key.starts_with("trigger.http.cache.") => format!("{beside}\n{}", table(key)),
            beside => beside.to_owned(),
        };
        let line = format!("{}\n{} = {default}", beside(key), key.replace("NAME", "m"));
        assert_eq!(right(&with(&line)), right(&with(&bare)), "{line}");
        compared += 1;
    }
    assert!(compared >= 15, "only {compared} defaults were found");
}

#[test]
fn every_bound_is_the_bound() {
    let mut compared = 0;
    for [key, kind, _, bounds, _] in rows() {
        let Some((least, most)) = bounds.split_once(" to ") else { continue };
        let quote = match kind {
            "integer" => "",
            "duration" | "size" => "\"",
            _ => continue,
        };
        let (key, beside) = (code(key).unwrap().replace("NAME", "m"), beside(code(key).unwrap()));
        let line = |value: &str| with(&format!("{beside}\n{key} = {quote}{value}{quote}"));
        right(&line(least));
        right(&line(most));
        // The message names the same bounds.
        let beyond = match kind {
            "duration" => "1000000000000years",
            "size" => "99999999999EiB",
            _ => "99999999999999999999999",
        };
        let message = &parse("manifest.toml", &line(beyond), &none).unwrap_err().into_iter().next().unwrap().message;
        assert!(message.contains(&format!("must be from {least} to {most}, but")), "{message}");
        compared += 1;
    }
    assert!(compared >= 8, "only {compared} bounds were found");
}
