//! From the text of a trust policy to a checked one, with the place of the first mistake. Reads the key files that it names.

use super::{Key, Pattern, Revocation, Rule, TrustPolicy};
use crate::{Digest, Error, archive, config, key, text, text::Text};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use toml::{
    Spanned,
    value::{Datetime, Offset},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    publisher: Vec<RawKey>,
    #[serde(default)]
    rule: Vec<RawRule>,
    #[serde(default)]
    revoked: Vec<RawRevocation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawKey {
    name: Spanned<String>,
    key: Spanned<String>,
    functions: Spanned<Vec<Spanned<String>>>,
    valid_from: Option<Spanned<Datetime>>,
    expires: Option<Spanned<Datetime>>,
    #[serde(default)]
    revoked: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    functions: Spanned<Vec<Spanned<String>>>,
    publishers: Vec<Spanned<String>>,
    threshold: Spanned<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRevocation {
    digest: Spanned<String>,
    reason: Option<Spanned<String>>,
}

/// Reads a policy from its text. `file` is its name, and key files are looked for beside it.
pub(super) fn parse(file: &Path, text: &str) -> Result<TrustPolicy, Error> {
    let text = Text { file, text };
    let raw = text.parse::<Raw>()?;
    let mut policy = TrustPolicy { files: vec![file.to_owned()], ..TrustPolicy::default() };
    for raw in raw.publisher {
        let key = publisher(&text, &raw, &mut policy.files)?;
        // Else a revoked key could still count under its second name.
        if let Some(first) = policy.key(&key.keyid) {
            let message = format!("this is the key of `{}` above; give each key one `[[publisher]]`", first.publisher);
            return Err(text.mistake(raw.key.span(), message));
        }
        policy.keys.push(key);
    }
    for raw in &raw.rule {
        policy.rules.push(rule(&text, raw, &policy.keys)?);
    }
    for raw in raw.revoked {
        let revocation = revocation(&text, &raw)?;
        if policy.revocations.iter().any(|first| first.digest == revocation.digest) {
            return Err(text.mistake(raw.digest.span(), "this digest is revoked above already; remove one of the two"));
        }
        policy.revocations.push(revocation);
    }
    Ok(policy)
}

fn publisher(text: &Text<'_>, raw: &RawKey, files: &mut Vec<PathBuf>) -> Result<Key, Error> {
    let name = raw.name.get_ref();
    config::line(name).map_err(|why| text.mistake(raw.name.span(), why))?;
    let pem = if raw.key.get_ref().contains("-----BEGIN") {
        raw.key.get_ref().clone()
    } else {
        let path = archive::folder_of(text.file).join(raw.key.get_ref());
        let pem = text::read(&path).map_err(|error| {
            let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let message = format!(
                "{error}: {why}; `key` is the path of a public key, relative to this file, or the PEM text itself"
            );
            text.mistake(raw.key.span(), message)
        })?;
        files.push(path);
        pem
    };
    let key = key::public(&pem).map_err(|why| {
        let message =
            format!("this is no Ed25519 public key in PEM: {why}; give the `.pub.pem` file of `torpor keygen`");
        text.mistake(raw.key.span(), message)
    })?;
    let functions = patterns(text, &raw.functions, "this publisher may provide no function")?;
    let valid_from = raw.valid_from.as_ref().map(|at| moment(text, at)).transpose()?;
    let expires = raw.expires.as_ref().map(|at| moment(text, at)).transpose()?;
    if let (Some(from), Some(until), Some(raw)) = (valid_from, expires, &raw.expires)
        && until <= from
    {
        let message = "this is not after `valid-from`, so the key never counts; correct one of the two";
        return Err(text.mistake(raw.span(), message));
    }
    let publisher = name.clone();
    Ok(Key { publisher, keyid: key::keyid(&key), functions, valid_from, expires, revoked: raw.revoked, key })
}

fn rule(text: &Text<'_>, raw: &RawRule, keys: &[Key]) -> Result<Rule, Error> {
    let mut publishers = BTreeSet::new();
    for name in &raw.publishers {
        if !keys.iter().any(|key| key.publisher == *name.get_ref()) {
            let message = format!("no `[[publisher]]` has the name `{}`; add one, or correct the name", name.get_ref());
            return Err(text.mistake(name.span(), message));
        }
        if !publishers.insert(name.get_ref().clone()) {
            let message =
                "this publisher is named twice, but counts once however often it signs; remove one of the two";
            return Err(text.mistake(name.span(), message));
        }
    }
    let threshold = *raw.threshold.get_ref();
    if threshold == 0 || threshold > publishers.len() {
        let message =
            format!("`threshold` is a number from 1 to {}, which is how many `publishers` there are", publishers.len());
        return Err(text.mistake(raw.threshold.span(), message));
    }
    Ok(Rule { functions: patterns(text, &raw.functions, "this rule is for no function")?, publishers, threshold })
}

fn revocation(text: &Text<'_>, raw: &RawRevocation) -> Result<Revocation, Error> {
    let digest: Result<Digest, _> = raw.digest.get_ref().parse();
    let digest = digest.map_err(|error| {
        text.mistake(raw.digest.span(), format!("{error}; `torpor inspect` shows those of a bundle and its parts"))
    })?;
    if let Some(reason) = &raw.reason {
        config::line(reason.get_ref()).map_err(|why| text.mistake(reason.span(), why))?;
    }
    Ok(Revocation { digest, reason: raw.reason.as_ref().map(|reason| reason.get_ref().clone()) })
}

fn patterns(text: &Text<'_>, raw: &Spanned<Vec<Spanned<String>>>, none: &str) -> Result<Vec<Pattern>, Error> {
    if raw.get_ref().is_empty() {
        let message = format!("{none}; write `functions = [\"*\"]` for all, or names");
        return Err(text.mistake(raw.span(), message));
    }
    let pattern = |raw: &Spanned<String>| {
        let message = "a pattern is a function name of `a`-`z`, `0`-`9` and `-`, in which `*` stands for any text";
        Pattern::new(raw.get_ref()).ok_or_else(|| text.mistake(raw.span(), message))
    };
    raw.get_ref().iter().map(pattern).collect()
}

/// A moment: a date, which begins at midnight in UTC, or a date and time with its offset.
fn moment(text: &Text<'_>, raw: &Spanned<Datetime>) -> Result<SystemTime, Error> {
    let found = || -> Option<SystemTime> {
        let Datetime { date, time, offset } = raw.get_ref();
        let date = date.as_ref()?;
        let (hour, minute, second, offset) = match (time, offset) {
            (None, _) => (0, 0, 0, 0),
            (Some(time), Some(Offset::Z)) => (time.hour, time.minute, time.second.unwrap_or(0), 0),
            (Some(time), Some(Offset::Custom { minutes })) => {
                (time.hour, time.minute, time.second.unwrap_or(0), *minutes)
            }
            (Some(_), None) => return None,
        };
        let utc = format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", date.year, date.month, date.day);
        let local = humantime::parse_rfc3339(&utc).ok()?;
        let ahead = Duration::from_secs(u64::from(offset.unsigned_abs()) * 60);
        if offset < 0 { local.checked_add(ahead) } else { local.checked_sub(ahead) }
    };
    let message = "a moment is a date from 1970 on, such as `2030-01-31`, which begins at midnight in UTC, or a date and time \
                   with its offset, such as `2030-01-31T12:00:00Z`";
    found().ok_or_else(|| text.mistake(raw.span(), message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\\n-----END PUBLIC KEY-----\\n";

    fn policy(text: &str) -> Result<TrustPolicy, Error> {
        parse(Path::new("trust.toml"), &text.replace("KEY", KEY))
    }

    const GOOD: &str = r#"[[publisher]]
name = "acme"
key = "KEY"
functions = ["*", "vision-*"]
valid-from = 2026-01-01
expires = 2027-01-01T00:00:00+02:00

[[rule]]
functions = ["vision-*"]
publishers = ["acme"]
threshold = 1

[[revoked]]
digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
reason = "it is empty"
"#;

    #[test]
    fn a_policy_is_read() {
        let read = policy(GOOD).unwrap();
        let key = &read.keys[0];
        assert_eq!((key.publisher.as_str(), key.revoked), ("acme", false));
        // The key of RFC 8410, section 10.1.
        assert_eq!(key.keyid, "a1e9156054e04fac899ae9f275132cdc07a5dbc4ea2c2ad3a1ffc6e0d253681f");
        let at = |moment| humantime::parse_rfc3339(moment).unwrap();
        assert_eq!(key.valid_from, Some(at("2026-01-01T00:00:00Z")));
        assert_eq!(key.expires, Some(at("2026-12-31T22:00:00Z")));
        assert_eq!((read.rules[0].threshold, read.rules[0].publishers.len()), (1, 1));
        assert_eq!(read.revocation(Digest::of(b"")).unwrap().reason.as_deref(), Some("it is empty"));
        assert!(read.revocation(Digest::of(b"other")).is_none());
        assert_eq!(parse(Path::new("trust.toml"), "").unwrap().keys.len(), 0);
        // What a policy looked like before there were dates and rules.
        assert!(policy("[[publisher]]\nname = \"a\"\nkey = \"KEY\"\nfunctions = [\"*\"]\nrevoked = true\n").is_ok());
    }

    #[track_caller]
    fn mistake(from: &str, to: &str, expected: &str) {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD);
        let found = policy(&text).unwrap_err().to_string();
        assert!(found.starts_with(expected), "{found}");
    }

    #[test]
    fn each_mistake_has_its_place() {
        mistake("\"acme\"", "\"\"", "trust.toml:2:8: a text must be");
        mistake("name", "nam", "trust.toml:2:1: unknown field `nam`, expected one of `name`");
        mistake("KEY", "none.pem", "trust.toml:3:7: cannot read `./none.pem`: ");
        mistake("KEY", "-----BEGIN", "trust.toml:3:7: this is no Ed25519 public key in PEM");
        mistake("\"vision-*\"", "\"Vision\"", "trust.toml:4:19: a pattern is");
        mistake("[\"*\", \"vision-*\"]", "[]", "trust.toml:4:13: this publisher may provide no function");
        mistake("functions", "revoked = 1\nfunctions", "trust.toml:4:11: invalid type");
        let twice = policy(&format!("{GOOD}{GOOD}")).unwrap_err().to_string();
        assert!(twice.starts_with("trust.toml:18:7: this is the key of `acme` above"), "{twice}");
    }

    #[test]
    fn each_mistake_about_time_has_its_place() {
        mistake("2026-01-01", "2026-01-01T10:00:00", "trust.toml:5:14: a moment is a date");
        mistake("2026-01-01", "10:00:00", "trust.toml:5:14: a moment is a date");
        mistake("2026-01-01", "1969-12-31", "trust.toml:5:14: a moment is a date");
        mistake("2026-01-01", "2026-02-30", "trust.toml:5:");
        mistake("2026-01-01", "\"2026-01-01\"", "trust.toml:5:14: ");
        mistake("2026-01-01", "2026-12-31T22:00:00Z", "trust.toml:6:11: this is not after `valid-from`");
    }

    #[test]
    fn each_mistake_in_a_rule_or_a_revocation_has_its_place() {
        mistake("[\"vision-*\"]\n", "[]\n", "trust.toml:9:13: this rule is for no function");
        mistake("[\"vision-*\"]\n", "[\"Vision\"]\n", "trust.toml:9:14: a pattern is");
        mistake("[\"acme\"]", "[\"acme\", \"audit\"]", "trust.toml:10:23: no `[[publisher]]` has the name `audit`");
        mistake("[\"acme\"]", "[\"acme\", \"acme\"]", "trust.toml:10:23: this publisher is named twice");
        mistake("threshold = 1", "threshold = 0", "trust.toml:11:13: `threshold` is a number from 1 to 1");
        mistake("threshold = 1", "threshold = 2", "trust.toml:11:13: `threshold` is a number from 1 to 1");
        mistake("threshold = 1", "threshold = -1", "trust.toml:11:13: ");
        mistake("threshold = 1", "", "trust.toml:8:1: missing field `threshold`");
        mistake("sha256:e3b0", "sha256:E3b0", "trust.toml:14:10: a digest is `sha256:`");
        mistake("it is empty", "\\u001b", "trust.toml:15:10: a text must be");
        let revoked = &GOOD[GOOD.find("[[revoked]]").unwrap()..];
        let twice = policy(&format!("{GOOD}{revoked}")).unwrap_err().to_string();
        assert!(twice.starts_with("trust.toml:17:10: this digest is revoked above already"), "{twice}");
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in any::<String>(), at in 0..GOOD.len(), with in "[\"=\\[\\]{}.a-z0-9\\n:-]{0,4}") {
            let _ = policy(&text);
            let mut changed = GOOD.to_owned();
            changed.replace_range(at..=at, &with);
            let _ = policy(&changed);
        }
    }
    #[test]
    fn dates_divide_time_into_spans() {
        let at = |moment| humantime::parse_rfc3339(moment).unwrap();
        let read = policy(GOOD).unwrap();
        let moments = ["2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-12-31T21:59:59Z", "2026-12-31T22:00:00Z"];
        let spans = moments.map(|moment| read.clone().at(at(moment)).span());
        for (span, inside) in spans.into_iter().zip([[0, 0], [1, 2], [1, 2], [3, 3]]) {
            // Forwards and back.
            let excluded: Vec<_> = (0..4).filter(|other| span.excludes(at(moments[*other]))).collect();
            let outside: Vec<_> = (0..4).filter(|other| !(inside[0]..=inside[1]).contains(other)).collect();
            assert_eq!(excluded, outside, "{span:?}");
        }
        assert!(!TrustPolicy::default().span().is_over(), "without a date there is one span");
        assert_eq!(read.files(), [Path::new("trust.toml")], "the key is in the text");
    }
}
