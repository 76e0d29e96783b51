//! What differs between two revisions of a function, for `torpor diff` and `torpor deploy`. Pure.

use crate::records::Kept;
use std::collections::BTreeMap;
use toml::{Table, Value};
use torpor_gateway::Change;

/// The differences, sorted by their keys. `before` is `None` for a function's first revision.
pub(crate) fn changes(before: Option<&Kept>, after: &Kept) -> Vec<Change> {
    let from = before.map(facts).unwrap_or_default();
    let mut to = facts(after);
    let mut changes = Vec::new();
    for (key, from) in from {
        let to = to.remove(&key);
        if to.as_ref() != Some(&from) {
            changes.push(Change { key, from: Some(from), to });
        }
    }
    changes.extend(to.into_iter().map(|(key, to)| Change { key, from: None, to: Some(to) }));
    changes.sort_by(|left, right| left.key.cmp(&right.key));
    changes
}

/// What can differ: the keys of the manifest, and in brackets what is not in its text.
fn facts(revision: &Kept) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    // It was parsed before it was deployed.
    let table: Table = revision.text.parse().unwrap_or_default();
    flatten("", &table, &mut facts);
    let folder = revision.file.parent().map(|folder| folder.display().to_string());
    facts.insert("(bundle digest)".to_owned(), revision.digest.to_string());
    facts.insert("(bundle with signatures)".to_owned(), revision.index.to_string());
    facts.insert("(folder)".to_owned(), folder.unwrap_or_default());
    facts
}

fn flatten(prefix: &str, table: &Table, facts: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            // An empty table says something too, such as `[trigger.inference]`.
            Value::Table(table) if !table.is_empty() => flatten(&format!("{key}."), table, facts),
            value => drop(facts.insert(key, value.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::By;
    use torpor_bundle::Digest;

    fn kept(text: &str, bundle: &[u8]) -> Kept {
        let digest = Digest::of(bundle);
        let blobs = [digest].into();
        Kept {
            number: 1,
            deployed: 0,
            by: By::Deploy,
            file: "/m/a.toml".into(),
            text: text.into(),
            digest,
            index: digest,
            blobs,
        }
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = kept("name = \"a\"\n[trigger.inference]\n[scale]\nmin = 0\nqueue = 4\n", b"1");
        assert_eq!(changes(Some(&before), &before), []);
        let after =
            kept("# a note\nname = 'a'\nscale = { min = 1 }\ntrigger.inference = {}\nlimits.body = \"1KiB\"", b"1");
        let changes: Vec<_> = changes(Some(&before), &after).into_iter().map(|c| (c.key, c.from, c.to)).collect();
        let change = |key: &str, from: Option<&str>, to: Option<&str>| {
            (key.to_owned(), from.map(str::to_owned), to.map(str::to_owned))
        };
        let expected = [
            change("limits.body", None, Some("\"1KiB\"")),
            change("scale.min", Some("0"), Some("1")),
            change("scale.queue", Some("4"), None),
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn another_bundle_under_the_same_name_is_a_difference() {
        let changes = changes(Some(&kept("", b"1")), &kept("", b"2"));
        let keys: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(keys, ["(bundle digest)", "(bundle with signatures)"]);
    }
}
