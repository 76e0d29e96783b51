//! Counts the words of a text: a stand-in for what your function does.

use serde::Serialize;
use torpor_guest::http::{self, Request, Response};

/// Longer texts are answered with 413. The host has a limit of its own, `limits.body` in the manifest.
const LONGEST: usize = 256 * 1024;

#[derive(Serialize)]
struct Counts {
    lines: usize,
    words: usize,
    characters: usize,
}

struct Words;

impl http::Handler for Words {
    fn handle(request: Request) -> Result<Response, http::Error> {
        let body = request.into_body().read_to_limit(LONGEST)?;
        let Ok(text) = std::str::from_utf8(&body) else {
            return Err(http::Error::bad_request("expected a text in UTF-8"));
        };
        Ok(Response::json(&count(text)))
    }
}

torpor_guest::export_http!(Words);

fn count(text: &str) -> Counts {
    Counts {
        lines: text.lines().count(),
        words: text.split_whitespace().count(),
        characters: text.chars().count(),
    }
}

// What needs no host is tested natively, by `cargo test`.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_stands_between_spaces() {
        let counts = count("to wake\nat once");
        assert_eq!((counts.lines, counts.words, counts.characters), (2, 4, 15));
        assert_eq!(count("").words, 0);
    }
}
