//! The trust policy: which publisher's signature makes a bundle loadable as which function.
//!
//! It is read once, when the host starts. Deciding does no I/O; an empty policy trusts nobody.

use crate::{
    Error, archive,
    dsse::Statement,
    key,
    layout::Layout,
    text::{self, Text},
};
use ed25519_dalek::VerifyingKey;
use serde::Deserialize;
use std::path::Path;
use toml::Spanned;
use torpor_manifest::FunctionName;

/// Whose signatures count, and for which functions.
#[derive(Debug, Clone, Default)]
pub struct TrustPolicy {
    publishers: Vec<Publisher>,
}

/// One publisher's key, and what it may sign.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// The publisher's name. Several keys may have the same, as while one replaces the other.
    pub name: String,
    /// The SHA-256 of the public key's DER form, in hexadecimal.
    pub keyid: String,
    /// Patterns of function names, in which `*` stands for any text.
    pub functions: Vec<String>,
    /// Whether signatures with this key no longer count.
    pub revoked: bool,
    key: VerifyingKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    publisher: Vec<RawPublisher>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPublisher {
    name: Spanned<String>,
    key: Spanned<String>,
    functions: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    revoked: bool,
}

impl TrustPolicy {
    /// Reads a policy and the keys that it names.
    ///
    /// # Errors
    /// [`Error::Text`] with the place of the first mistake, and [`Error::Io`] when a file cannot be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        TrustPolicy::parse(path, &text::read(path)?)
    }

    /// Reads a policy from its text. Key files are looked for beside `file`, which itself is not read.
    ///
    /// # Errors
    /// As [`TrustPolicy::read`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, Error> {
        let text = Text { file, text };
        let mut publishers: Vec<Publisher> = Vec::new();
        for raw in text.parse::<Raw>()?.publisher {
            let publisher = publisher(&text, &raw)?;
            // Else a revoked key could still count under its second name.
            if let Some(first) = publishers.iter().find(|first| first.keyid == publisher.keyid) {
                let message = format!("this is the key of `{}` above; give each key one `[[publisher]]`", first.name);
                return Err(text.mistake(raw.key.span(), message));
            }
            publishers.push(publisher);
        }
        Ok(TrustPolicy { publishers })
    }

    /// All publishers, in the order of the file.
    pub fn publishers(&self) -> impl Iterator<Item = &Publisher> {
        self.publishers.iter()
    }

    /// The publisher whose key has this id.
    pub(crate) fn publisher(&self, keyid: &str) -> Option<&Publisher> {
        self.publishers.iter().find(|publisher| publisher.keyid == keyid)
    }

    /// The publisher whose signature makes the bundle loadable as `function`, and what the signature states. Without a function
    /// the publisher need not be allowed any. A false signature in the name of a known key spoils the whole bundle.
    pub(crate) fn judge(
        &self,
        layout: &Layout,
        function: Option<&FunctionName>,
    ) -> Result<(&Publisher, Statement), Error> {
        let mut trusted = None;
        let mut refusal = None;
        for attached in &layout.signatures {
            let Some(publisher) = self.publisher(attached.envelope.keyid()) else { continue };
            let statement = publisher.verify(layout, attached.envelope.verify(&publisher.key))?;
            let path = || layout.archive.path().to_owned();
            match function {
                _ if publisher.revoked => {
                    refusal.get_or_insert_with(|| Error::Revoked { path: path(), publisher: publisher.name.clone() });
                }
                Some(function) if !publisher.allows(function) => {
                    let functions = publisher.functions.iter().map(|pattern| format!("`{pattern}`"));
                    refusal.get_or_insert_with(|| Error::NotAllowed {
                        path: path(),
                        publisher: publisher.name.clone(),
                        functions: functions.collect::<Vec<_>>().join(", "),
                        function: function.clone(),
                    });
                }
                _ => drop(trusted.get_or_insert((publisher, statement))),
            }
        }
        trusted.ok_or_else(|| refusal.unwrap_or_else(|| unknown(layout)))
    }
}

/// The refusal of a bundle that no known key has signed.
fn unknown(layout: &Layout) -> Error {
    let path = layout.archive.path().to_owned();
    if layout.signatures.is_empty() {
        return Error::Unsigned { path };
    }
    let keys: Vec<_> = layout.signatures.iter().map(|attached| format!("`{}`", attached.envelope.keyid())).collect();
    Error::Untrusted { path, keys: keys.join(", ") }
}

impl Publisher {
    /// Whether it may provide this function.
    pub fn allows(&self, function: &FunctionName) -> bool {
        self.functions.iter().any(|pattern| matches(pattern.as_bytes(), function.as_str().as_bytes()))
    }

    fn verify(&self, layout: &Layout, statement: Result<Statement, String>) -> Result<Statement, Error> {
        statement.and_then(|statement| statement.is_about(layout.manifest.digest).map(|()| statement)).map_err(|why| {
            Error::FalseSignature { path: layout.archive.path().to_owned(), publisher: self.name.clone(), why }
        })
    }
}

fn publisher(text: &Text<'_>, raw: &RawPublisher) -> Result<Publisher, Error> {
    let name = raw.name.get_ref();
    crate::config::line(name).map_err(|why| text.mistake(raw.name.span(), why))?;
    let pem = if raw.key.get_ref().contains("-----BEGIN") {
        raw.key.get_ref().clone()
    } else {
        let path = archive::folder_of(text.file).join(raw.key.get_ref());
        text::read(&path).map_err(|error| {
            let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let message = format!(
                "{error}: {why}; `key` is the path of a public key, relative to this file, or the PEM text itself"
            );
            text.mistake(raw.key.span(), message)
        })?
    };
    let key = key::public(&pem).map_err(|why| {
        let message =
            format!("this is no Ed25519 public key in PEM: {why}; give the `.pub.pem` file of `torpor keygen`");
        text.mistake(raw.key.span(), message)
    })?;
    let keyid = key::keyid(&key);
    if raw.functions.get_ref().is_empty() {
        let message = "this publisher may provide no function; write `functions = [\"*\"]` for all, or names";
        return Err(text.mistake(raw.functions.span(), message));
    }
    let functions = raw.functions.get_ref().iter().map(|pattern| {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '*';
        if pattern.get_ref().is_empty() || pattern.get_ref().len() > 128 || !pattern.get_ref().chars().all(good) {
            let message = "a pattern is a function name of `a`-`z`, `0`-`9` and `-`, in which `*` stands for any text";
            return Err(text.mistake(pattern.span(), message));
        }
        Ok(pattern.get_ref().clone())
    });
    Ok(Publisher {
        name: name.clone(),
        keyid,
        functions: functions.collect::<Result<_, _>>()?,
        revoked: raw.revoked,
        key,
    })
}

/// Whether `pattern`, in which `*` stands for any text, fits the whole of `text`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // The last star seen, and the place up to which it has been taken to stand for text.
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, t) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&rest| rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\\n-----END PUBLIC KEY-----\\n";

    fn policy(text: &str) -> Result<TrustPolicy, Error> {
        TrustPolicy::parse(Path::new("trust.toml"), &text.replace("KEY", KEY))
    }

    const GOOD: &str = "[[publisher]]\nname = \"acme\"\nkey = \"KEY\"\nfunctions = [\"*\", \"vision-*\"]\n";

    #[test]
    fn a_policy_with_a_key_in_its_text_is_read() {
        let policy = policy(GOOD).unwrap();
        let publisher = policy.publishers().next().unwrap();
        assert_eq!((publisher.name.as_str(), publisher.revoked), ("acme", false));
        // The key of RFC 8410, section 10.1.
        assert_eq!(publisher.keyid, "a1e9156054e04fac899ae9f275132cdc07a5dbc4ea2c2ad3a1ffc6e0d253681f");
        assert_eq!(TrustPolicy::parse(Path::new("trust.toml"), "").unwrap().publishers().count(), 0);
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
        assert!(twice.starts_with("trust.toml:7:7: this is the key of `acme` above"), "{twice}");
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "a", true),
            ("vision-*", "vision-", true),
            ("vision-*", "vision-cat", true),
            ("vision-*", "vision", false),
            ("*-cat", "vision-cat", true),
            ("*-cat", "vision-cat-2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("a", "ab", false),
            ("ab", "a", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    /// The definition of a star, slow and plain.
    fn plain(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| plain(rest, &text[taken..])),
            Some((first, rest)) => text.first() == Some(first) && plain(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(pattern in "[ab*]{0,7}", text in "[ab]{0,9}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), plain(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_text_is_judged(text in any::<String>(), at in 0..GOOD.len(), with in "[\"=\\[\\]{}.a-z0-9\\n-]{0,4}") {
            let _ = policy(&text);
            let mut changed = GOOD.to_owned();
            changed.replace_range(at..=at, &with);
            let _ = policy(&changed);
        }
    }
}
