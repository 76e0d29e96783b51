//! Objects and arrays, one value after another. Whoever calls this has had serde look at the whole text, so it is valid JSON; a text
//! that is not is refused all the same.

use super::text::{spaces, string};
use crate::protocol::Malformed;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Reads the object at the beginning of `text`: each value by `member`, which is told the key and all that follows it, and returns
/// what is behind the value. Returns what is behind the object.
pub(in crate::protocol) fn object<'t>(
    text: &'t str,
    mut member: impl FnMut(Cow<'t, str>, &'t str) -> Result<&'t str, Malformed>,
) -> Result<&'t str, Malformed> {
    let mut rest = after(text, '{').ok_or_else(broken)?;
    if let Some(rest) = after(rest, '}') {
        return Ok(rest);
    }
    loop {
        let (key, behind) = key(rest).ok_or_else(broken)?;
        rest = member(key, begun(after(behind, ':').ok_or_else(broken)?))?;
        match after(rest, ',') {
            Some(behind) => rest = behind,
            None => return after(rest, '}').ok_or_else(broken),
        }
    }
}

/// Reads the array at the beginning of `text`, each value of it by `item`; see [`object`].
pub(in crate::protocol) fn array<'t>(
    text: &'t str,
    mut item: impl FnMut(&'t str) -> Result<&'t str, Malformed>,
) -> Result<&'t str, Malformed> {
    let mut rest = after(text, '[').ok_or_else(broken)?;
    if let Some(rest) = after(rest, ']') {
        return Ok(rest);
    }
    loop {
        rest = item(begun(rest))?;
        match after(rest, ',') {
            Some(behind) => rest = behind,
            None => return after(rest, ']').ok_or_else(broken),
        }
    }
}

/// `text` without the white space at its beginning.
pub(in crate::protocol) fn begun(text: &str) -> &str {
    &text[text.len() - spaces(text.as_bytes()).len()..]
}

/// What is behind the value at the beginning of `text`.
pub(in crate::protocol) fn behind(text: &str) -> Result<&str, Malformed> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    match values.next() {
        Some(Ok(_)) => Ok(&text[values.byte_offset()..]),
        _ => Err(broken()),
    }
}

/// What follows `character`, where that is next.
fn after(text: &str, character: char) -> Option<&str> {
    begun(text).strip_prefix(character)
}

/// The string that is next, and what follows it.
fn key(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let inside = after(text, '"')?;
    let plain = super::text::plain(inside.as_bytes());
    if inside.as_bytes().get(plain) == Some(&b'"') {
        return Some((inside[..plain].into(), &inside[plain + 1..]));
    }
    let mut bytes = Vec::new();
    let rest = string(inside.as_bytes(), &mut bytes)?.len();
    Some((String::from_utf8(bytes).ok()?.into(), &inside[inside.len() - rest..]))
}

fn broken() -> Malformed {
    Malformed("the body is no JSON".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes a number.
    fn number(text: &str) -> Result<&str, Malformed> {
        Ok(text.trim_start_matches(|c: char| c.is_ascii_digit()))
    }

    fn keys(text: &str) -> Result<(Vec<String>, String), Malformed> {
        let mut keys = Vec::new();
        let rest = object(text, |key, value| {
            keys.push(key.into_owned());
            number(value)
        })?;
        Ok((keys, rest.to_owned()))
    }

    #[test]
    fn objects_are_walked_in_order() {
        let (found, rest) = keys(r#" { "a" : 1 , "b\u0063" :2, "é":3 } ,"#).unwrap();
        assert_eq!((found.join(" "), rest.as_str()), ("a bc é".to_owned(), " ,"));
        assert_eq!(keys("{}").unwrap().0, Vec::<String>::new());
        for text in ["", "[", "{", "{1:2}", r#"{"a"}"#, r#"{"a":1"#, r#"{"a":1,}"#, r#"{"a":x}"#, r#"{"\ud800":1}"#] {
            assert!(keys(text).is_err(), "{text}");
        }
    }

    #[test]
    fn arrays_are_walked_in_order() {
        let count = |text: &str| {
            let mut count = 0;
            array(text, |item| {
                count += 1;
                number(item)
            })
            .map(|_| count)
        };
        assert_eq!((count("[]"), count(" [ 1, 2 ,3 ]")), (Ok(0), Ok(3)));
        for text in ["", "{", "[1", "[1 2]", "[1,x]"] {
            assert!(count(text).is_err(), "{text}");
        }
    }
}
