//! Why one written value is not what it should be. The value types give it; `section` turns it into a diagnostic.

use crate::suggest;

/// A written value that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {kind}: {why}")]
pub struct Error {
    kind: &'static str,
    given: String,
    why: String,
    help: String,
}

impl Error {
    /// `kind` is a noun with its article; `why` and `help` are clauses without a final period.
    pub(crate) fn new(kind: &'static str, given: &str, why: impl Into<String>, help: impl Into<String>) -> Self {
        Error { kind, given: suggest::shown(given), why: why.into(), help: help.into() }
    }

    /// What was written and what it should have been, without the reason.
    pub fn what(&self) -> String {
        format!("`{}` is not {}", self.given, self.kind)
    }

    /// The reason alone.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What to write instead.
    pub fn help(&self) -> &str {
        &self.help
    }
}
