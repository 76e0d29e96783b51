//! The parts of a form (RFC 7578) that is whole in memory. No content is copied.

use crate::protocol::{Malformed, media::MediaType};
use memchr::memmem::Finder;

/// Parts of one form.
const MAX_PARTS: usize = 256;
/// Bytes of the head of a part.
const MAX_HEAD: usize = 8 * 1024;

/// One field of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'b> {
    pub(super) name: String,
    pub(super) content: &'b [u8],
}

/// The parts of the form in `body`, in their order.
pub(super) fn parts<'b>(body: &'b [u8], boundary: &str) -> Result<Vec<Part<'b>>, Malformed> {
    let malformed = |what: &str| Malformed(format!("the form is broken: {what}"));
    if boundary.is_empty() || boundary.len() > 70 {
        return Err(malformed("its boundary must have 1 to 70 characters"));
    }
    let delimiter = format!("\r\n--{boundary}");
    let finder = Finder::new(delimiter.as_bytes());
    // The first delimiter may stand at the very beginning.
    let mut rest = match body.strip_prefix(&delimiter.as_bytes()[2..]) {
        Some(rest) => rest,
        None => {
            let at = finder.find(body).ok_or_else(|| malformed("it does not have its boundary"))?;
            &body[at + delimiter.len()..]
        }
    };
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        if parts.len() == MAX_PARTS {
            return Err(malformed(&format!("it has more than {MAX_PARTS} parts")));
        }
        let begin = spaces(rest).strip_prefix(b"\r\n").ok_or_else(|| malformed("a boundary has no end"))?;
        let within = &begin[..begin.len().min(MAX_HEAD)];
        // A part without headers begins with the empty line.
        let (head, content) = match begin.strip_prefix(b"\r\n") {
            Some(content) => (&b""[..], content),
            None => {
                let end = memchr::memmem::find(within, b"\r\n\r\n");
                let end = end.ok_or_else(|| malformed("the head of a part has no end, or is too long"))?;
                (&begin[..end], &begin[end + 4..])
            }
        };
        let name = name(head).ok_or_else(|| malformed("a part has no name"))?;
        let end = finder.find(content).ok_or_else(|| malformed("a part has no end"))?;
        parts.push(Part { name, content: &content[..end] });
        rest = &content[end + delimiter.len()..];
    }
}

/// The name that the head of a part says.
fn name(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let disposition = MediaType::parse(disposition);
    Some(disposition.parameter("name").filter(|_| disposition.essence == "form-data")?.to_owned())
}

/// `text` without what a transport may have put behind a boundary.
fn spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "Content-Disposition: form-data; name=\"a\"\r\nContent-Type: x/y\r\n\r\n";

    #[test]
    fn contents_are_between_boundaries() {
        let body = format!("before\r\n--b \r\n{HEAD}1\r\n--\r\n\r\n--b\r\n{HEAD}\r\n--b--after");
        let found = parts(body.as_bytes(), "b").unwrap();
        assert_eq!(found.iter().map(|part| part.content).collect::<Vec<_>>(), [&b"1\r\n--\r\n"[..], b""]);
        assert_eq!(found[0].name, "a");
        assert_eq!(parts(b"--b--", "b"), Ok(vec![]));
    }

    #[track_caller]
    fn broken(body: &str, expected: &str) {
        assert_eq!(parts(body.as_bytes(), "b").unwrap_err().to_string(), format!("the form is broken: {expected}"));
    }

    #[test]
    fn a_broken_form_says_where() {
        broken("", "it does not have its boundary");
        broken("--bx", "a boundary has no end");
        broken("--b\r\nno head", "the head of a part has no end, or is too long");
        broken("--b\r\n\r\nx\r\n--b--", "a part has no name");
        broken("--b\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--b--", "a part has no name");
        broken(&format!("--b\r\n{HEAD}x"), "a part has no end");
        broken(&format!("--b{}", format!("\r\n{HEAD}x\r\n--b").repeat(300)), "it has more than 256 parts");
        assert!(parts(b"--b--", "").is_err());
    }

    proptest! {
        #[test]
        fn any_content_comes_back(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4)) {
            let mut body = Vec::new();
            for content in &contents {
                body.extend_from_slice(format!("--boundary-0\r\n{HEAD}").as_bytes());
                body.extend_from_slice(content);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"--boundary-0--\r\n");
            let found = parts(&body, "boundary-0").unwrap();
            prop_assert_eq!(found.iter().map(|part| part.content.to_vec()).collect::<Vec<_>>(), contents);
        }

        #[test]
        fn no_body_makes_it_panic(body in "[-b\r\n:a ]{0,60}") {
            let _ = parts(body.as_bytes(), "b");
        }
    }
}
