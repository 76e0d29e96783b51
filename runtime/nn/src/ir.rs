//! A look into the description of an OpenVINO IR before the library gets to see it: whether it is one, whether its weights are
//! where it says, and whether it refers to any other file.
//!
//! It is XML, which can refer to files in two ways: by what a document type declares, and by the note `__weights_path`, which the
//! library keeps in a network to find its weights again. Neither is in what OpenVINO writes for others to read, so either is
//! refused. Only the nesting of elements is read here, in the spelling that OpenVINO writes.

use std::borrow::Cow;

/// How deep elements may be nested: a network in a layer of a network takes four levels.
const MAX_DEPTH: usize = 256;

/// The note with which a network says where its weights are.
const ELSEWHERE: &str = "__weights_path";

/// Why a network is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The bytes are not the XML that OpenVINO writes.
    #[error("it is not the XML of an OpenVINO IR")]
    Malformed,
    /// The root is another one, or of another version.
    #[error("it is no OpenVINO IR of version 10 or 11")]
    OtherRoot,
    /// It declares a document type, or holds an instruction to a reader.
    #[error("it declares a document type, or instructs its reader, which may lead to other files")]
    Declares,
    /// It says that its weights are in another file.
    #[error("it says itself which file has its weights (`__weights_path`)")]
    Elsewhere,
    /// Elements are nested beyond reason.
    #[error("it nests its elements too deep")]
    TooDeep,
    /// Its weights end before a constant of it.
    #[error(
        "its constant `{layer}` ends at byte {end} of weights that have {size}, so they are cut short or another model's"
    )]
    Weights {
        /// The constant.
        layer: String,
        /// Where it ends.
        end: u64,
        /// How long the weights are.
        size: u64,
    },
}

/// An element whose end is yet to come.
struct Open<'a> {
    name: &'a str,
    /// Its name as a layer, if it is a constant.
    constant: Option<String>,
}

/// Checks that a description refers to no file, and only to what is in `weights` bytes of weights.
///
/// # Errors
/// When it does not, or when that cannot be told.
pub fn check(description: &[u8], weights: u64) -> Result<(), Refused> {
    let text = std::str::from_utf8(description).map_err(|_| Refused::Malformed)?;
    if text.contains('\0') {
        return Err(Refused::Malformed);
    }
    let mut rest = text.trim_start_matches('\u{feff}');
    if let Some(declaration) = rest.strip_prefix("<?xml ") {
        rest = declaration.split_once("?>").ok_or(Refused::Malformed)?.1;
    }
    let mut open = Vec::<Open<'_>>::new();
    let mut roots = 0;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.split_once("-->").ok_or(Refused::Malformed)?.1;
        } else if rest.starts_with("<!") || rest.starts_with("<?") {
            return Err(Refused::Declares);
        } else if let Some(end) = rest.strip_prefix("</") {
            let (name, after) = end.split_once('>').ok_or(Refused::Malformed)?;
            if open.pop().is_none_or(|element| element.name != name.trim_end()) {
                return Err(Refused::Malformed);
            }
            rest = after;
        } else {
            let element = Element::read(&mut rest)?;
            if open.is_empty() {
                roots += 1;
                let version = element.attribute("version");
                if roots > 1 || element.name != "net" || !matches!(version, Some("10" | "11")) {
                    return Err(Refused::OtherRoot);
                }
            }
            element.check(open.last(), weights)?;
            if !element.closed {
                if open.len() == MAX_DEPTH {
                    return Err(Refused::TooDeep);
                }
                open.push(Open { name: element.name, constant: element.constant() });
            }
        }
    }
    if roots == 0 || !open.is_empty() { Err(Refused::Malformed) } else { Ok(()) }
}

/// The tag that begins an element.
struct Element<'a> {
    name: &'a str,
    attributes: Vec<(&'a str, Cow<'a, str>)>,
    /// It has no content, and no tag of its own that ends it.
    closed: bool,
}

impl<'a> Element<'a> {
    /// Reads the tag that `rest` begins with, and takes it off.
    fn read(rest: &mut &'a str) -> Result<Self, Refused> {
        let inside = &rest[1..];
        let end = inside.find(|c: char| c.is_ascii_whitespace() || "/>".contains(c)).ok_or(Refused::Malformed)?;
        let (name, mut inside) = inside.split_at(end);
        if name.is_empty() {
            return Err(Refused::Malformed);
        }
        let mut attributes = Vec::new();
        loop {
            inside = inside.trim_ascii_start();
            for (end, closed) in [("/>", true), (">", false)] {
                if let Some(after) = inside.strip_prefix(end) {
                    *rest = after;
                    return Ok(Element { name, attributes, closed });
                }
            }
            let (attribute, value) = inside.split_once('=').ok_or(Refused::Malformed)?;
            let value = value.trim_ascii_start();
            let quote = value.chars().next().filter(|quote| "\"'".contains(*quote)).ok_or(Refused::Malformed)?;
            let (value, after) = value[1..].split_once(quote).ok_or(Refused::Malformed)?;
            let attribute = attribute.trim_ascii_end();
            if attribute.is_empty() || attribute.contains(['<', '>', '"', '\'']) || value.contains('<') {
                return Err(Refused::Malformed);
            }
            attributes.push((attribute, plain(value)));
            inside = after;
        }
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(attribute, _)| *attribute == name).map(|(_, value)| value.as_ref())
    }

    /// Its name, if it is a layer that holds a constant.
    fn constant(&self) -> Option<String> {
        let constant = self.name == "layer" && self.attribute("type") == Some("Const");
        constant.then(|| self.attribute("name").unwrap_or_default().to_owned())
    }

    fn check(&self, parent: Option<&Open<'_>>, weights: u64) -> Result<(), Refused> {
        let texts = self.attributes.iter().flat_map(|(name, value)| [*name, value.as_ref()]);
        if std::iter::once(self.name).chain(texts).any(|text| text.contains(ELSEWHERE)) {
            return Err(Refused::Elsewhere);
        }
        let Some(layer) = parent.and_then(|parent| parent.constant.as_ref()).filter(|_| self.name == "data") else {
            return Ok(());
        };
        let number = |name| self.attribute(name).and_then(|number| number.parse::<u64>().ok());
        let place = number("offset").zip(number("size")).and_then(|(offset, size)| offset.checked_add(size));
        match place.ok_or(Refused::Malformed)? {
            end if end > weights => Err(Refused::Weights { layer: layer.clone(), end, size: weights }),
            _ => Ok(()),
        }
    }
}

/// An attribute's value with the characters that references stand for. Others than XML's own are left as they are.
fn plain(value: &str) -> Cow<'_, str> {
    if !value.contains('&') {
        return Cow::Borrowed(value);
    }
    let mut plain = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        match after.split_once(';').and_then(|(reference, after)| Some((character(reference)?, after))) {
            Some((character, after)) => {
                plain.push(character);
                rest = after;
            }
            None => {
                plain.push('&');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

fn character(reference: &str) -> Option<char> {
    match reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = reference.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REAL: &str = include_str!("../../../tests/models/species.xml");
    const WEIGHTS: u64 = include_bytes!("../../../tests/models/species.bin").len() as u64;

    #[track_caller]
    fn check_changed(from: &str, to: &str, expected: Refused) {
        let changed = REAL.replacen(from, to, 1);
        assert_ne!(changed, REAL, "`{from}` is not there");
        assert_eq!(check(changed.as_bytes(), WEIGHTS), Err(expected));
    }

    #[test]
    fn what_openvino_writes_is_taken() {
        assert_eq!(check(REAL.as_bytes(), WEIGHTS), Ok(()));
        assert_eq!(check(REAL.replacen("<net", "<!-- a comment <x> --><net", 1).as_bytes(), WEIGHTS), Ok(()));
    }

    #[test]
    fn weights_that_end_too_early_are_told() {
        let error = check(REAL.as_bytes(), WEIGHTS - 1).unwrap_err();
        assert!(
            matches!(&error, Refused::Weights { end, size, .. } if *end == WEIGHTS && *size == WEIGHTS - 1),
            "{error}"
        );
        check_changed("offset=\"0\"", "offset=\"18446744073709551615\"", Refused::Malformed);
    }

    #[test]
    fn a_reference_to_another_file_is_found_however_it_is_spelt() {
        check_changed(
            "<rt_info",
            "<rt_info><__weights_path value=\"/etc/passwd\" /></rt_info><rt_info",
            Refused::Elsewhere,
        );
        check_changed(
            "<rt_info",
            "<rt_info><info name=\"&#95;_weights&#x5f;path\" /></rt_info><rt_info",
            Refused::Elsewhere,
        );
        check_changed("<net", "<!DOCTYPE net [<!ENTITY x SYSTEM \"/etc/passwd\">]><net", Refused::Declares);
        check_changed("<net", "<?xml-stylesheet href=\"x\"?><net", Refused::Declares);
        check_changed("<layers>", "<layers><![CDATA[x]]>", Refused::Declares);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        check_changed("version=\"11\"", "version=\"7\"", Refused::OtherRoot);
        check_changed("<net ", "<nut ", Refused::OtherRoot);
        check_changed("</net>", "</net><net version=\"11\"/>", Refused::OtherRoot);
        check_changed("</net>", "", Refused::Malformed);
        check_changed("</layers>", "</layer>", Refused::Malformed);
        for bytes in [&b""[..], b"\x08\x07", b"<", b"<net", b"\xff\xfe<\0n\0e\0t\0"] {
            assert_eq!(check(bytes, 0), Err(Refused::Malformed), "{bytes:?}");
        }
        let deep = format!("<net version=\"11\">{}", "<layers>".repeat(1_000_000));
        assert_eq!(check(deep.as_bytes(), 0), Err(Refused::TooDeep));
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in any::<String>(), at in any::<prop::sample::Index>(), with in "[<>&/=\"!?a-z0-9 ]{0,6}") {
            let _ = check(text.as_bytes(), 0);
            let mut changed = REAL.as_bytes().to_vec();
            let at = at.index(changed.len());
            changed.splice(at..=at, with.bytes());
            let _ = check(&changed, WEIGHTS);
        }
    }
}
