//! What `Content-Type` says of a body.

/// A media type: what kind of content it is, and what else is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaType {
    /// Such as `text/csv`, in lower case; empty where nothing was said.
    pub(crate) essence: String,
    /// Names in lower case, and values.
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Reads the value of a `Content-Type` header. What is none of them is an essence that nobody knows.
    pub(crate) fn parse(text: &str) -> Self {
        let (essence, mut rest) = text.split_once(';').unwrap_or((text, ""));
        let mut parameters = Vec::new();
        while let Some((name, value)) = rest.split_once('=') {
            let value = value.trim_start();
            let (value, behind) = match value.strip_prefix('"') {
                Some(quoted) => unquoted(quoted),
                None => {
                    let (value, behind) = value.split_once(';').unwrap_or((value, ""));
                    (value.trim_end().to_owned(), behind)
                }
            };
            parameters.push((name.trim_matches([' ', '\t', ';']).to_ascii_lowercase(), value));
            rest = behind;
        }
        MediaType { essence: essence.trim().to_ascii_lowercase(), parameters }
    }

    /// The value of a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is JSON, or something that is written in it.
    pub(crate) fn is_json(&self) -> bool {
        self.essence == "application/json" || self.essence.ends_with("+json")
    }
}

/// The text of a quoted string, whose first quote is read, and what follows it.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            character => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_media_type_has_an_essence_and_parameters() {
        let media = MediaType::parse("Multipart/Form-Data; Boundary=\"a;\\\"b\" ; charset = utf-8");
        assert_eq!(media.essence, "multipart/form-data");
        assert_eq!((media.parameter("boundary"), media.parameter("charset")), (Some("a;\"b"), Some("utf-8")));
        assert_eq!(MediaType::parse("text/csv;header=absent").parameter("header"), Some("absent"));
        assert_eq!(MediaType::parse(""), MediaType { essence: String::new(), parameters: vec![] });
        assert!(MediaType::parse("application/vnd.api+json; a").is_json());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z/;= \"\\\\é]{0,30}") {
            let _ = MediaType::parse(&text);
        }
    }
}
