//! The tables of keys in `docs/manifest.md`, made of `schema`. What stands between `<!-- keys: NAMES -->` and `<!-- end -->` is
//! written by the test below when `UPDATE_EXPECTED` is set, and compared with the page otherwise; the rest of the page is prose.

use crate::schema::{Key, Keys, Kind, Presence, ROOT, Table};
use std::{fmt::Write as _, fs, path::Path};

const HEAD: &str = "| key | type | default | bounds | meaning |\n|---|---|---|---|---|\n";

/// The table of the keys of these names at the top, and of all below them.
fn keys(names: &str) -> String {
    let mut rows = HEAD.to_owned();
    for name in names.split_whitespace() {
        let key = ROOT.keys().iter().find(|key| key.name == name);
        row(&mut rows, "", key.unwrap_or_else(|| panic!("no key is named `{name}`")));
    }
    rows
}

fn row(rows: &mut String, path: &str, key: &Key) {
    let full = format!("{path}{}", key.name);
    let default = match key.presence {
        Presence::Required { .. } if path.is_empty() => "required".to_owned(),
        Presence::Required { .. } => "required in it".to_owned(),
        Presence::Optional { without, .. } => without.to_owned(),
        Presence::Default(written) => format!("`{}`", written()),
    };
    let (noun, bounds) = (noun(&key.kind), key.shown_bounds());
    for cell in [&format!("`{full}`"), noun, &default, &bounds, key.meaning] {
        rows.push_str("| ");
        if !cell.is_empty() {
            write!(rows, "{cell} ").unwrap();
        }
    }
    rows.push_str("|\n");
    below(rows, &full, &key.kind);
}

fn below(rows: &mut String, path: &str, kind: &Kind) {
    match kind {
        Kind::Table(Table { keys: Keys::Fixed(keys), .. }) => {
            keys.iter().for_each(|key| row(rows, &format!("{path}."), key));
        }
        Kind::Table(Table { keys: Keys::Free { values, .. }, .. }) => below(rows, &format!("{path}.NAME"), values),
        Kind::List { items, .. } => below(rows, path, items),
        Kind::Text(_) | Kind::Word(_) | Kind::Integer(_) | Kind::Duration(_) | Kind::Size(_) => {}
    }
}

/// The type as an operator calls it.
fn noun(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text(text) => text.noun,
        Kind::Word(_) => "word",
        Kind::Integer(_) => "integer",
        Kind::Duration(_) => "duration",
        Kind::Size(_) => "size",
        Kind::List { items: Kind::Table(_), .. } => "array of tables",
        Kind::List { .. } => "array of strings",
        Kind::Table(Table { keys: Keys::Free { values: Kind::Text(_), .. }, .. }) => "table of strings",
        Kind::Table(_) => "table",
    }
}

/// `page` with its tables as they should be, and the names that have one.
fn written(page: &str) -> (String, Vec<&str>) {
    const BEGIN: &str = "<!-- keys: ";
    const END: &str = "<!-- end -->";
    let mut parts = page.split(BEGIN);
    let mut whole = parts.next().unwrap_or_default().to_owned();
    let mut names = Vec::new();
    for part in parts {
        let (section, rest) = part.split_once(" -->\n").expect("the mark has an end");
        let (_, rest) = rest.split_once(END).unwrap_or_else(|| panic!("no `{END}` follows `{BEGIN}{section}`"));
        write!(whole, "{BEGIN}{section} -->\n{}{END}{rest}", keys(section)).unwrap();
        names.extend(section.split_whitespace());
    }
    (whole, names)
}

#[test]
fn the_page_has_the_keys_as_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manifest.md");
    let page = fs::read_to_string(&path).unwrap();
    let (expected, names) = written(&page);
    assert_eq!(names, ROOT.names().collect::<Vec<_>>(), "each key of the top has its place on the page, in order");
    #[expect(clippy::disallowed_methods, reason = "the one switch of this test, read where it acts")]
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    if update {
        fs::write(&path, &expected).unwrap();
    } else {
        assert_eq!(page, expected, "docs/manifest.md is stale: run this test with `UPDATE_EXPECTED=1`");
    }
}
