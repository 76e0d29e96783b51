//! The HTTP path that a function serves: which requests it means, and whether two functions would want the same one.

use crate::{Error, schema::Text};
use std::{fmt, str::FromStr};

/// How many bytes a path may have.
const MAX: usize = 256;

/// A path of literal segments (`/fn/filetype`), or one that ends with `/*` and means everything below it (`/fn/*`).
///
/// It is never `/` nor `/v2`, nor below `/v2`: those belong to the host and to the inference protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutePath(String);

impl RoutePath {
    pub(crate) const TEXT: Text = Text { noun: "route", pattern: "^(/[A-Za-z0-9._~!$&'()+,;=:@-]+)+(/\\*)?$" };

    /// The path as written, with its `/*` if it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For a path that ends with `/*`, what stands before it. It has no slash at its end.
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix("/*")
    }

    /// Whether a request for `path` (without its query) is for this route. `/a/*` means `/a/` and `/a/b/c`, but not `/a`.
    pub fn matches(&self, path: &str) -> bool {
        match self.prefix() {
            Some(prefix) => path.strip_prefix(prefix).is_some_and(|below| below.starts_with('/')),
            None => path == self.0,
        }
    }

    /// Whether some request would match both.
    pub fn overlaps(&self, other: &RoutePath) -> bool {
        // Of two overlapping routes the wider one matches the other's text, since `*` is a segment like any other to it.
        self.0 == other.0
            || (self.prefix().is_some() && self.matches(&other.0))
            || (other.prefix().is_some() && other.matches(&self.0))
    }
}

impl fmt::Display for RoutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for RoutePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match fault(text) {
            None => Ok(RoutePath(text.to_owned())),
            Some(why) => {
                let help = "write literal segments, such as `/fn/filetype`, or `/fn/filetype/*` for everything below";
                Err(Error::new("a path that a function can serve", text, why, help))
            }
        }
    }
}

fn fault(text: &str) -> Option<String> {
    let Some(segments) = text.strip_prefix('/') else { return Some("it must begin with `/`".into()) };
    if segments.is_empty() || segments == "*" {
        return Some("the root belongs to the host".into());
    }
    if text.len() > MAX {
        return Some(format!("it is longer than {MAX} bytes"));
    }
    if segments == "v2" || segments.starts_with("v2/") {
        return Some("`/v2` belongs to the inference protocol, which `[trigger.inference]` turns on".into());
    }
    let segments = segments.strip_suffix("/*").unwrap_or(segments);
    segments.split('/').find_map(|segment| match segment {
        "" => Some("it has an empty segment".to_owned()),
        "." | ".." => Some(format!("a client would resolve `{segment}` before it asks")),
        _ if segment.contains('*') => Some("`*` may stand only at the end, as a segment of its own".to_owned()),
        // Anything else would have to be escaped in a request, so it could never be written literally.
        _ => segment
            .chars()
            .find(|&c| !(c.is_ascii_alphanumeric() || "-._~!$&'()+,;=:@".contains(c)))
            .map(|c| format!("`{}` cannot stand in a path segment", crate::suggest::shown(c.encode_utf8(&mut [0; 4])))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refused(text: &str, why: &str) {
        assert_eq!(RoutePath::from_str(text).unwrap_err().why(), why);
    }

    fn route(text: &str) -> RoutePath {
        text.parse().unwrap()
    }

    #[test]
    fn each_fault_is_told() {
        refused("", "it must begin with `/`");
        refused("fn", "it must begin with `/`");
        refused("/", "the root belongs to the host");
        refused("/*", "the root belongs to the host");
        refused("/v2/models/x", "`/v2` belongs to the inference protocol, which `[trigger.inference]` turns on");
        refused("/v2/*", "`/v2` belongs to the inference protocol, which `[trigger.inference]` turns on");
        refused("/a//b", "it has an empty segment");
        refused("/a/", "it has an empty segment");
        refused("/a/../b", "a client would resolve `..` before it asks");
        refused("/a/*/b", "`*` may stand only at the end, as a segment of its own");
        refused("/a*", "`*` may stand only at the end, as a segment of its own");
        refused("/{id}", "`{` cannot stand in a path segment");
        refused("/a?b=c", "`?` cannot stand in a path segment");
        refused("/a%20b", "`%` cannot stand in a path segment");
        refused(&format!("/{}", "a".repeat(256)), "it is longer than 256 bytes");
    }

    #[test]
    fn neighbours_of_the_reserved_paths_are_free() {
        for text in ["/v2x", "/v22/a", "/V2", "/fn/v2", "/fn/*", "/a:b@c"] {
            assert_eq!(route(text).as_str(), text);
        }
    }

    #[test]
    fn matching() {
        assert!(route("/a").matches("/a"));
        assert!(!route("/a").matches("/a/"));
        assert!(route("/a/*").matches("/a/b/c"));
        assert!(route("/a/*").matches("/a/"));
        assert!(!route("/a/*").matches("/a"));
        assert!(!route("/a/*").matches("/ab/c"));
    }

    #[test]
    fn overlap() {
        let check = |left, right, expected| {
            assert_eq!(route(left).overlaps(&route(right)), expected, "{left} {right}");
            assert_eq!(route(right).overlaps(&route(left)), expected, "{right} {left}");
        };
        check("/a", "/a", true);
        check("/a", "/b", false);
        check("/a/*", "/a", false);
        check("/a/*", "/a/b", true);
        check("/a/*", "/a/b/*", true);
        check("/a/*", "/ab/*", false);
    }

    proptest! {
        #[test]
        fn what_both_match_overlaps(left in "(/[ab]){1,3}(/\\*)?", right in "(/[ab]){1,3}(/\\*)?", path in "(/[ab]){1,4}/?") {
            let (left, right) = (route(&left), route(&right));
            if left.matches(&path) && right.matches(&path) {
                prop_assert!(left.overlaps(&right));
            }
        }

        #[test]
        fn any_text_is_judged(text in any::<String>()) {
            let _ = text.parse::<RoutePath>();
        }
    }
}
