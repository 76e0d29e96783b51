//! The trust policy: whose signatures count, for which functions, until when, and how many are needed.
//!
//! What it makes of a bundle is the business of `judge`. An empty policy trusts nobody.

mod pattern;
mod read;

pub use pattern::Pattern;

use crate::{Digest, Error, text};
use ed25519_dalek::VerifyingKey;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use torpor_manifest::FunctionName;

/// Whose signatures count, for which functions, until when, and how many are needed.
#[derive(Debug, Clone, Default)]
pub struct TrustPolicy {
    keys: Vec<Key>,
    rules: Vec<Rule>,
    revocations: Vec<Revocation>,
    /// What it was read from: its own file, and those of keys.
    files: Vec<PathBuf>,
    /// The moment as of which bundles are judged; `None` for the present.
    moment: Option<SystemTime>,
}

/// One key of a publisher, and what it may sign.
#[derive(Debug, Clone)]
pub struct Key {
    /// The publisher's name. Several keys may have the same, as while one replaces the other.
    pub publisher: String,
    /// The SHA-256 of the public key's DER form, in hexadecimal.
    pub keyid: String,
    /// The functions for which its signatures count.
    pub functions: Vec<Pattern>,
    /// The first moment at which its signatures count.
    pub valid_from: Option<SystemTime>,
    /// The first moment at which its signatures no longer count.
    pub expires: Option<SystemTime>,
    /// Whether its signatures no longer count at all.
    pub revoked: bool,
    pub(crate) key: VerifyingKey,
}

/// How many publishers must have signed what runs as some functions. A rule only ever asks for more: a signature that does not
/// count without it does not count with it.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The functions that it is about.
    pub functions: Vec<Pattern>,
    /// The publishers of whom enough must have signed.
    pub publishers: BTreeSet<String>,
    /// How many of them; from 1 to their number. A publisher counts once, with however many keys it signed.
    pub threshold: usize,
}

/// A time in which all keys of a policy count as they do at each moment of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    since: Option<SystemTime>,
    until: Option<SystemTime>,
}

/// Content that is not used any more, whoever signed it.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// The digest of a bundle, or of a module, model or config in it.
    pub digest: Digest,
    /// Why, for people.
    pub reason: Option<String>,
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
        read::parse(file, text)
    }

    /// The same policy, which judges as it would at `moment`.
    #[must_use]
    pub fn at(self, moment: SystemTime) -> Self {
        TrustPolicy { moment: Some(moment), ..self }
    }

    /// All keys, in the order of the file.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// All rules, in the order of the file.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The files that it was read from: its own, and those of the keys that it names.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Since when and until when all keys count as they do now; no bound where no key begins or ceases to on that side. Outside
    /// of it, which is before it too where a clock was set back, what runs should be judged again.
    pub fn span(&self) -> Span {
        let now = self.now();
        let dates = || self.keys.iter().flat_map(|key| [key.valid_from, key.expires]).flatten();
        Span { since: dates().filter(|date| *date <= now).max(), until: dates().filter(|date| *date > now).min() }
    }

    /// The moment as of which bundles are judged.
    pub(crate) fn now(&self) -> SystemTime {
        self.moment.unwrap_or_else(now)
    }

    /// The key with this id.
    pub(crate) fn key(&self, keyid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.keyid == keyid)
    }

    /// The rules that ask for something before `function` may run.
    pub(crate) fn rules_for(&self, function: &FunctionName) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.functions.iter().any(|pattern| pattern.fits(function)))
    }

    /// Why some content is not used any more.
    pub(crate) fn revocation(&self, digest: Digest) -> Option<&Revocation> {
        self.revocations.iter().find(|revocation| revocation.digest == digest)
    }
}

impl Key {
    /// Whether its signatures count for this function.
    pub fn allows(&self, function: &FunctionName) -> bool {
        self.functions.iter().any(|pattern| pattern.fits(function))
    }
}

impl Span {
    /// Whether the clock is outside of it.
    pub fn is_over(&self) -> bool {
        self.excludes(now())
    }

    pub(crate) fn excludes(&self, now: SystemTime) -> bool {
        self.since.is_some_and(|since| now < since) || self.until.is_some_and(|until| until <= now)
    }
}

#[expect(clippy::disallowed_methods, reason = "the dates of keys are dates on the wall")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// A moment for people, to the second and in UTC.
pub(crate) fn shown(moment: SystemTime) -> String {
    // Later moments than these have no such form, and no policy can name them.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(moment.min(last)).to_string()
}

/// Names for people: each in backticks, the last after `and`.
pub(crate) fn listed<T: std::fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let mut names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match (names.pop(), names.is_empty()) {
        (Some(last), false) => format!("{} and {last}", names.join(", ")),
        (Some(only), true) => only,
        (None, _) => "nobody".to_owned(),
    }
}
