//! From text to token ids, as the model's own tokenizer does it: BERT's normalizer, uncased, and WordPiece.
//!
//! The text is taken a character at a time and no further than the model reads, so a long one costs no more than a short one.

#[path = "characters.rs"]
mod characters;
#[path = "vocabulary.rs"]
mod vocabulary;

use characters::{Characters, Part};
use std::sync::LazyLock;
use vocabulary::Vocabulary;

/// How many tokens the model reads of one text, first and last included.
pub(crate) const MAX_TOKENS: usize = 256;

/// A word of more characters is unknown as a whole.
const MAX_WORD: usize = 100;

const UNKNOWN: i64 = 100;
const FIRST: i64 = 101;
const LAST: i64 = 102;

/// Tokens that a text may spell out.
const SPECIAL: [(&str, i64); 5] =
    [("[PAD]", 0), ("[UNK]", UNKNOWN), ("[CLS]", FIRST), ("[SEP]", LAST), ("[MASK]", 103)];

/// Made when the module is packed.
pub(crate) static TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer { characters: Characters::new(), vocabulary: Vocabulary::new() });

/// What texts are looked up in.
pub(crate) struct Tokenizer {
    characters: Characters,
    vocabulary: Vocabulary,
}

impl Tokenizer {
    /// The token ids of a text: at most `MAX_TOKENS`, and two for an empty one.
    pub(crate) fn encode(&self, text: &str) -> Vec<i64> {
        let mut tokens = Tokens { tokenizer: self, ids: vec![FIRST] };
        let mut rest = text;
        while let Some((at, spelled, id)) = next_special(rest) {
            tokens.push_text(&rest[..at]);
            if tokens.is_full() {
                break;
            }
            tokens.ids.push(id);
            rest = &rest[at + spelled.len()..];
        }
        tokens.push_text(rest);
        tokens.ids.truncate(MAX_TOKENS - 1);
        tokens.ids.push(LAST);
        tokens.ids
    }
}

fn next_special(text: &str) -> Option<(usize, &'static str, i64)> {
    text.match_indices('[').find_map(|(at, _)| {
        let (spelled, id) = SPECIAL.into_iter().find(|(spelled, _)| text[at..].starts_with(spelled))?;
        Some((at, spelled, id))
    })
}

struct Tokens<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<i64>,
}

impl Tokens<'_> {
    /// Whether there are as many as the model reads; the last one is still to come.
    fn is_full(&self) -> bool {
        self.ids.len() >= MAX_TOKENS - 1
    }

    fn push_text(&mut self, text: &str) {
        let mut word = Word::default();
        if self.is_full() {
            return;
        }
        self.tokenizer.characters.normalize(text, |c, part| {
            match part {
                Part::Dropped => {}
                Part::Letter => word.push(c),
                Part::Space => self.push_word(&mut word),
                Part::Alone => {
                    self.push_word(&mut word);
                    word.push(c);
                    self.push_word(&mut word);
                }
            }
            !self.is_full()
        });
        if !self.is_full() {
            self.push_word(&mut word);
        }
    }

    /// Adds the pieces of a word, each the longest that the vocabulary has, or one `UNKNOWN` where they do not cover it.
    fn push_word(&mut self, word: &mut Word) {
        if word.chars > 0 {
            let before = self.ids.len();
            if word.chars > MAX_WORD || self.push_pieces(word.text.as_bytes()).is_none() {
                self.ids.truncate(before);
                self.ids.push(UNKNOWN);
            }
        }
        word.text.clear();
        word.chars = 0;
    }

    fn push_pieces(&mut self, word: &[u8]) -> Option<()> {
        let (mut rest, mut continues) = (word, false);
        while !rest.is_empty() {
            let (id, length) = self.tokenizer.vocabulary.longest(rest, continues)?;
            self.ids.push(id);
            (rest, continues) = (&rest[length..], true);
        }
        Some(())
    }
}

/// A word on its way. One that is too long stops growing.
#[derive(Default)]
struct Word {
    text: String,
    chars: usize,
}

impl Word {
    fn push(&mut self, c: char) {
        if self.chars <= MAX_WORD {
            self.text.push(c);
            self.chars += 1;
        }
    }
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
