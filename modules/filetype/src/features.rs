//! What the model sees of a content: some bytes of its beginning and of its end, with white space around them skipped.

use crate::content_types::{BEGIN, BLOCK, END, MIN_SIZE, PADDING};

/// How many numbers the model takes for one content.
pub(crate) const FEATURES: usize = BEGIN + END;

/// The two ends of a content, kept while the rest of it goes by.
#[derive(Default)]
pub(crate) struct Ends {
    /// At most `BLOCK` bytes.
    head: Vec<u8>,
    /// Ends with the content's last `BLOCK` bytes, or with all there were.
    tail: Vec<u8>,
}

/// What there is to say about a content before the model is asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Features {
    /// It has no byte.
    Empty,
    /// It has too few bytes for the model; they are text, or not.
    Few { text: bool },
    /// What the model takes.
    Tokens(Vec<i32>),
}

impl Ends {
    pub(crate) fn of(content: &[u8]) -> Self {
        let mut ends = Ends::default();
        ends.push(content);
        ends
    }

    /// Goes on with the next bytes of the content.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.head.extend_from_slice(&bytes[..bytes.len().min(BLOCK - self.head.len())]);
        self.tail.extend_from_slice(last(bytes, BLOCK));
        // Cut now and then rather than at each of many small chunks.
        if self.tail.len() > 4 * BLOCK {
            self.tail.drain(..self.tail.len() - BLOCK);
        }
    }

    pub(crate) fn features(&self) -> Features {
        if self.head.is_empty() {
            return Features::Empty;
        }
        let begin = trim_start(&self.head);
        if begin.len() < MIN_SIZE {
            return Features::Few { text: std::str::from_utf8(&self.head).is_ok() };
        }
        let begin = &begin[..begin.len().min(BEGIN)];
        let end = last(trim_end(last(&self.tail, BLOCK)), END);
        let mut tokens = vec![PADDING; FEATURES];
        for (token, &byte) in tokens.iter_mut().zip(begin) {
            *token = byte.into();
        }
        for (token, &byte) in tokens.iter_mut().rev().zip(end.iter().rev()) {
            *token = byte.into();
        }
        Features::Tokens(tokens)
    }
}

fn last(bytes: &[u8], count: usize) -> &[u8] {
    &bytes[bytes.len().saturating_sub(count)..]
}

/// White space as Python's `bytes.strip` has it, which counts the vertical tab.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_space(byte)).unwrap_or(bytes.len());
    &bytes[start..]
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| !is_space(byte)).map_or(0, |index| index + 1);
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_any_size_give_what_the_whole_gives() {
        let content: Vec<u8> = (0..50_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for length in [0, 1, 7, 8, 9, BEGIN, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 3, content.len()] {
            let whole = Ends::of(&content[..length]).features();
            for size in [1, 3, 1000, BLOCK, 20_000] {
                let mut ends = Ends::default();
                content[..length].chunks(size).for_each(|chunk| ends.push(chunk));
                assert_eq!(ends.features(), whole, "{length} bytes in chunks of {size}");
                assert!(ends.head.len() <= BLOCK && ends.tail.len() <= 5 * BLOCK);
            }
        }
    }
}
