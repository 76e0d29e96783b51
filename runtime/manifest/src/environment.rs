//! `${NAME}` in a manifest's texts. Whoever calls `parse` says what a variable holds, since this crate reads no environment.

use crate::suggest::shown;
use std::{borrow::Cow, collections::BTreeSet, ffi::OsString};

/// What the environment variable of a name holds; `None` if it is not set.
pub type Lookup<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// A regular expression that every text with a variable matches, for texts that would otherwise have to look right as written.
pub(crate) const PATTERN: &str = r"\$\{";

/// A reference that has no value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault<'a> {
    /// It, as it is written.
    pub(crate) written: &'a str,
    pub(crate) message: String,
    pub(crate) label: &'static str,
    pub(crate) help: String,
}

/// `text` with what its variables hold, or everything that is wrong with them.
///
/// `${NAME}` is a variable; `${NAME:-default}` has the default when the variable is not set or empty, as in a shell; `$${` is
/// `${`. Any other `$` is itself. What a variable holds is not expanded again.
pub(crate) fn expand<'a>(text: &'a str, lookup: &Lookup<'_>) -> Result<Cow<'a, str>, Vec<Fault<'a>>> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let (mut expanded, mut faults) = (String::with_capacity(text.len()), Vec::new());
    let mut told = BTreeSet::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let here = &rest[dollar..];
        if let Some(after) = here.strip_prefix("$${") {
            expanded.push_str("${");
            rest = after;
        } else if here.starts_with("${") {
            let end = here.find('}').map_or(here.len(), |brace| brace + 1);
            match value(&here[..end], lookup) {
                Ok(value) => expanded.push_str(&value),
                // The same mistake twice in one value is one thing to correct.
                Err(fault) => faults.extend(told.insert(fault.written).then_some(fault)),
            }
            rest = &here[end..];
        } else {
            expanded.push('$');
            rest = &here[1..];
        }
    }
    expanded.push_str(rest);
    if faults.is_empty() { Ok(Cow::Owned(expanded)) } else { Err(faults) }
}

/// What the reference `written`, which begins with `${`, stands for.
fn value<'a>(written: &'a str, lookup: &Lookup<'_>) -> Result<Cow<'a, str>, Fault<'a>> {
    let fault = |message, label, help| Fault { written, message, label, help };
    let Some(inner) = written[2..].strip_suffix('}') else {
        let message = format!("`{}` has no end", shown(written));
        return Err(fault(
            message,
            "no `}` follows",
            "write `${NAME}`, or `$${` for the characters `${` themselves".into(),
        ));
    };
    let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
    if !is_name(name) {
        let message = format!("`{}` names no environment variable", shown(written));
        let help = "write `${NAME}` or `${NAME:-default}`, or `$${` for the characters `${` themselves";
        return Err(fault(message, "a name is letters, digits and `_`, and begins with no digit", help.into()));
    }
    let held = match lookup(name).map(OsString::into_string).transpose() {
        Ok(held) => held,
        // What it holds is not shown: it may be a secret.
        Err(_) => {
            let message = format!("what the environment variable `{}` holds is no UTF-8 text", shown(name));
            return Err(fault(message, "it cannot be a part of a text", format!("set `{}` to a text", shown(name))));
        }
    };
    match (held.filter(|held| default.is_none() || !held.is_empty()), default) {
        (Some(held), _) => Ok(Cow::Owned(held)),
        (None, Some(default)) => Ok(Cow::Borrowed(default)),
        (None, None) => {
            let name = shown(name);
            let help =
                format!("set `{name}` where `torpor` is started, or write a default, as in `${{{name}:-value}}`");
            Err(fault(format!("the environment variable `{name}` is not set"), "no value and no default", help))
        }
    }
}

/// Whether a shell could have a variable of this name.
fn is_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `A` is set, `EMPTY` is empty, `LOOP` looks like a reference, and nothing else is set.
    fn lookup(name: &str) -> Option<OsString> {
        match name {
            "A" => Some("held".into()),
            "EMPTY" => Some("".into()),
            "LOOP" => Some("${A}".into()),
            #[cfg(unix)]
            "BYTES" => Some(std::os::unix::ffi::OsStringExt::from_vec(vec![0xff])),
            _ => None,
        }
    }

    #[track_caller]
    fn becomes(text: &str, expected: &str) {
        assert_eq!(expand(text, &lookup).unwrap(), expected, "{text}");
    }

    #[track_caller]
    fn refused(text: &str, messages: &[&str]) {
        let faults = expand(text, &lookup).unwrap_err();
        assert_eq!(faults.iter().map(|fault| &*fault.message).collect::<Vec<_>>(), messages, "{text}");
    }

    #[test]
    fn variables_are_put_in() {
        becomes("${A}", "held");
        becomes("a/${A}/b${A}", "a/held/bheld");
        becomes("[${EMPTY}]", "[]");
        becomes("${LOOP}", "${A}");
    }

    #[test]
    fn a_default_stands_in_for_what_is_not_set_or_empty() {
        becomes("${A:-other}", "held");
        becomes("${B:-other}", "other");
        becomes("${EMPTY:-other}", "other");
        becomes("${B:-}", "");
        becomes("${B:-a:-b ${}", "a:-b ${");
    }

    #[test]
    fn other_dollars_are_themselves() {
        for text in ["$", "$A", "$$", "a$", "$(A)", "}", "$ {A}"] {
            becomes(text, text);
        }
        becomes("$${A}", "${A}");
        becomes("$$${A}", "$${A}");
        becomes("$${${A}}", "${held}");
    }

    #[test]
    fn each_fault_is_told_once() {
        refused("${B}", &["the environment variable `B` is not set"]);
        refused(
            "${B}${C}${B}",
            &["the environment variable `B` is not set", "the environment variable `C` is not set"],
        );
        refused("a ${A", &["`${A` has no end"]);
        refused("${}", &["`${}` names no environment variable"]);
        refused("${1st}", &["`${1st}` names no environment variable"]);
        refused("${A-b}", &["`${A-b}` names no environment variable"]);
        refused("${ A }", &["`${ A }` names no environment variable"]);
        #[cfg(unix)]
        refused("${BYTES:-x}", &["what the environment variable `BYTES` holds is no UTF-8 text"]);
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in "[${}A:é-]{0,24}") {
            match expand(&text, &lookup) {
                Ok(expanded) => {
                    let changed = expanded != text;
                    let may_change = text.contains("${");
                    prop_assert!(!changed || may_change);
                }
                Err(faults) => {
                    let all_there = faults.iter().all(|fault| text.contains(fault.written));
                    prop_assert!(all_there && !faults.is_empty());
                }
            }
        }

        #[test]
        fn an_escaped_text_is_itself(text in "[a${}é]{0,24}") {
            // A dollar before an escape would be taken for a part of it.
            let misread = text.contains("$${");
            prop_assume!(!misread);
            becomes(&text.replace("${", "$${"), &text);
        }
    }
}
