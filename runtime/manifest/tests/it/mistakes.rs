//! One file for each kind of mistake, beside the text that people see for it.
//!
//! `mistakes/NAME.toml` is a wrong manifest; `together/NAME/` holds right ones that cannot be on one host. After a change of
//! the texts, `UPDATE_EXPECTED=1 cargo test -p torpor-manifest` writes them anew; read what git shows then.

use crate::variables;
use std::{
    fs,
    path::{Path, PathBuf},
};
use torpor_manifest::{Diagnostic, Diagnostics, MAX_TEXT, Manifest, check_together, parse};

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Whether this run writes expected texts instead of comparing with them.
pub(crate) fn update() -> bool {
    #[expect(clippy::disallowed_methods, reason = "the one switch of these tests")]
    std::env::var_os("UPDATE_EXPECTED").is_some()
}

/// What is in a folder, in order.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

pub(crate) fn manifests(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect()
}

fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Compares what people see with the text in `expected`, and says what is the matter if they differ.
fn differs(diagnostics: &Diagnostics, expected: &Path) -> Option<String> {
    let drawing = diagnostics.render(false);
    if update() {
        fs::write(expected, &drawing).unwrap();
    }
    let wanted = fs::read_to_string(expected).unwrap_or_default();
    (drawing != wanted).then(|| format!("{}\n--- expected\n{wanted}\n--- drawn\n{drawing}", expected.display()))
}

/// What holds for every report, whatever the mistake.
#[track_caller]
fn assert_well_formed(diagnostics: &Diagnostics) {
    let places: Vec<_> = diagnostics.iter().map(|mistake| (&mistake.file, mistake.line, mistake.column)).collect();
    assert!(places.is_sorted(), "not in the order of the text: {places:?}");
    for mistake in diagnostics {
        let Diagnostic { file, line, column, message, label, help, .. } = mistake;
        assert!(!label.is_empty() && !help.is_empty(), "no label or no help: {mistake:?}");
        for text in [message, label, help] {
            assert!(!text.ends_with('.') && !text.contains(char::is_control), "not the style of a message: {text:?}");
        }
        assert!(
            mistake.render(false).contains(&format!("[{file}:{line}:{column}]")),
            "no place in the drawing: {mistake}"
        );
        assert!(mistake.render(true).contains('\u{1b}'), "no colour for a terminal: {mistake:?}");
        assert!(!mistake.render(false).contains('\u{1b}'), "a control character in plain text: {mistake:?}");
    }
}

#[test]
fn each_mistake_of_a_file_is_drawn() {
    let mut different = Vec::new();
    for path in manifests(&folder("mistakes")) {
        let text = fs::read_to_string(&path).unwrap();
        let Err(diagnostics) = parse(file_name(&path), &text, &variables::lookup) else {
            panic!("no mistake in {}", path.display())
        };
        assert_well_formed(&diagnostics);
        different.extend(differs(&diagnostics, &path.with_extension("txt")));
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn each_mistake_between_files_is_drawn() {
    let mut different = Vec::new();
    for case in entries(&folder("together")) {
        let files: Vec<(String, String)> = manifests(&case)
            .iter()
            .map(|path| (file_name(path).to_owned(), fs::read_to_string(path).unwrap()))
            .collect();
        let parsed: Vec<Manifest> =
            files.iter().map(|(file, text)| parse(file, text, &variables::none).unwrap()).collect();
        let all: Vec<(&str, &str, &Manifest)> =
            files.iter().zip(&parsed).map(|((file, text), manifest)| (&**file, &**text, manifest)).collect();
        let Err(diagnostics) = check_together(&all) else { panic!("no mistake in {}", case.display()) };
        assert_well_formed(&diagnostics);
        different.extend(differs(&diagnostics, &case.join("expected.txt")));
        for one in &all {
            assert_eq!(check_together(&[*one]), Ok(()), "{} conflicts with itself", one.0);
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let manifest = "name = \"a\"\nbundle = \"a.torpor\"\ntrigger.inference = {}\n#";
    let largest = format!("{manifest}{}", "x".repeat(MAX_TEXT - manifest.len()));
    parse("largest.toml", &largest, &variables::none).unwrap();
    let diagnostics = parse("too-large.toml", &(largest + "x"), &variables::none).unwrap_err();
    assert_well_formed(&diagnostics);
    let different = differs(&diagnostics, &folder("mistakes").join("too-large.txt"));
    assert_eq!(different, None);
}

#[test]
fn a_flood_of_mistakes_is_cut() {
    let text: String = (0..5000).map(|number| format!("k{number} = 1\n")).collect();
    let diagnostics = parse("flood.toml", &text, &variables::none).unwrap_err();
    assert_well_formed(&diagnostics);
    assert_eq!(diagnostics.len(), 1001);
    assert!(diagnostics.iter().any(|mistake| mistake.message == "there are more than 1000 mistakes"));
}

#[test]
fn a_flood_in_one_text_is_cut() {
    let references: String = (0..100_000).map(|number| format!("${{{number}}}")).collect();
    let diagnostics = parse("flood.toml", &format!("bundle = \"{references}\"\n"), &variables::none).unwrap_err();
    assert_eq!(diagnostics.len(), 1001);
}

#[test]
fn scripts_get_the_same_as_json() {
    let text = "nmae = \"a\"\nbundle = \"a.torpor\"\ntrigger.inference = {}\n";
    let diagnostics = parse("a.toml", text, &variables::none).unwrap_err();
    assert_eq!(
        serde_json::to_value(&diagnostics).unwrap(),
        serde_json::json!([{
            "file": "a.toml",
            "line": 1,
            "column": 1,
            "message": "unknown key `nmae` at the top of the manifest",
            "label": "not a known key",
            "help": "did you mean `name`?",
            "also": [],
        }])
    );
}

#[test]
fn runs_are_merged_in_their_order() {
    let run = |file| parse(file, "", &variables::none).unwrap_err();
    let merged = Diagnostics::merge([run("b.toml"), run("a.toml")]).unwrap();
    assert_eq!(merged.len(), run("a.toml").len() + run("b.toml").len());
    assert_eq!((&*merged.iter().next().unwrap().file, &*merged.iter().last().unwrap().file), ("b.toml", "a.toml"));
    assert_eq!(Diagnostics::merge([]), None);
}
