//! Whatever is in a file, it is judged: `parse` gives a manifest or a report that can be drawn, and never panics.

use crate::{documentation, variables};
use proptest::{prelude::*, sample::Index};
use torpor_manifest::{check_together, parse};

/// Every key once; mutations of it reach every check.
pub(crate) const FULL: &str = r#"
name = "filetype"
bundle = "${BUNDLES:-../bundles}/filetype.torpor"
trigger.http = { path = "/fn/filetype/*", methods = ["GET", "POST"], priority = "low", cache = { body = "64KiB" } }
trigger.inference = { priority = "high" }

[model.standard]
backend = "onnxruntime"
device = "cpu"
precision = "f32"
threads = 2
parallel = 0x04
isolation = "process"
memory = "512MiB"
batch = { max-size = 16, max-delay = "500us", pad = { axis = 1, value = -1 } }
cache = { ttl = "1h", share = "everybody" }

[model."v3.3"]

[scale]
min = 1
max-concurrency = 1_000
idle-timeout = "1h 30m"
queue = 0

[limits]
memory = "1.5GiB"
deadline = "250ms"
body = "10 MB"

[command]
args = ["--top", "5", ""]

[allow]
load = "8MiB"
bundle-files = "/"
outbound = ["api.example.com", "[::1]:8443"]
env = { LOG = "größer", EMPTY = "" }

[[allow.files]]
host = "data/labels"
guest = "/labels"
"#;

/// Pieces that mean something to the parser, so that mutations get past its first stage.
const PIECES: [&str; 26] = [
    "\"",
    "\"\"\"",
    "'",
    "[",
    "[[",
    "]",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "\r\n",
    "#",
    "-1",
    "0",
    "99999999999999999999",
    "1e400",
    "nan",
    "1979-05-27T07:32:00Z",
    "\\u0000",
    "é\u{202e}",
    "true",
    "${SET}",
    "${UNSET:-",
];

/// Judges a text, and everything that holds for any report of it.
fn judge(text: &str) {
    match parse("any.toml", text, &variables::lookup) {
        Ok(manifest) => {
            let one = ("any.toml", text, &manifest);
            assert_eq!(check_together(&[one]), Ok(()));
            let twice = check_together(&[one, one]).unwrap_err();
            assert!(twice.render(false).contains("any.toml"), "{twice}");
        }
        Err(diagnostics) => {
            let places: Vec<_> = diagnostics.iter().map(|mistake| (mistake.line, mistake.column)).collect();
            assert!(!places.is_empty() && places.is_sorted(), "{places:?}");
            for colour in [false, true] {
                assert!(diagnostics.render(colour).contains(&format!("any.toml:{}:{}", places[0].0, places[0].1)));
            }
            assert!(diagnostics.render(false).chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()));
        }
    }
}

/// `text` with the bytes between two places replaced; the places fall on whole characters.
fn spliced(text: &str, from: Index, length: usize, piece: &str) -> String {
    let from = text.floor_char_boundary(from.index(text.len() + 1));
    let to = text.ceil_char_boundary((from + length).min(text.len()));
    format!("{}{piece}{}", &text[..from], &text[to..])
}

#[test]
fn the_full_manifest_is_right_and_uses_every_key() {
    parse("full.toml", FULL, &variables::lookup).unwrap();
    for line in documentation::keys() {
        let key = line.rsplit('.').next().unwrap();
        assert!(FULL.contains(key), "{line}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    judge(&format!("a = {}", "[".repeat(100_000)));
    judge(&format!("a = {}", "{a=".repeat(100_000)));
    judge(&format!("[{}a]", "a.".repeat(100_000)));
}

proptest! {
    #[test]
    fn any_text(text in any::<String>()) {
        judge(&text);
    }

    #[test]
    fn any_lines(text in "([a-z.\"-]{0,9} ?= ?[\"\\[{]?[a-z0-9/:. -]{0,9}[\"\\]}]?\\r?\\n|\\[[a-z.]{0,12}\\]\\n){0,12}") {
        judge(&text);
    }

    #[test]
    fn a_right_manifest_with_pieces_replaced(
        edits in prop::collection::vec(
            (any::<Index>(), 0_usize..24, prop::sample::select(&PIECES[..])), 1..6,
        ),
    ) {
        let text = edits.into_iter().fold(FULL.to_owned(), |text, (from, length, piece)| spliced(&text, from, length, piece));
        judge(&text);
    }

    #[test]
    fn a_right_manifest_with_lines_moved(order in Just(FULL.lines().collect::<Vec<_>>()).prop_shuffle(), keep in 0_usize..40) {
        judge(&order[..keep.min(order.len())].join("\n"));
    }

    #[test]
    fn a_right_manifest_with_values_exchanged(
        key in any::<Index>(),
        value in prop_oneof![any::<i64>().prop_map(|n| n.to_string()), any::<String>().prop_map(|s| format!("{s:?}"))],
    ) {
        let lines: Vec<&str> = FULL.lines().collect();
        let at = key.index(lines.len());
        let changed = lines[at].split_once('=').map_or(value.clone(), |(key, _)| format!("{key}= {value}"));
        let text: Vec<&str> = lines.iter().enumerate().map(|(index, line)| if index == at { &changed } else { *line }).collect();
        judge(&text.join("\n"));
    }
}
