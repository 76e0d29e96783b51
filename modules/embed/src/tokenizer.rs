//! From text to token ids, as the model's own tokenizer does it: BERT's normalizer, uncased, and WordPiece.
//!
//! The text is taken a character at a time and no further than the model reads, so a long one costs no more than a short one.

use fst::raw::{Fst, Node, Output};
use unicode_categories::UnicodeCategories as _;
use unicode_normalization::UnicodeNormalization as _;

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

/// Made by `build.rs` from `vocab.txt`.
static VOCABULARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vocab.fst"));

type Vocabulary = Fst<&'static [u8]>;

/// The vocabulary, ready to look words up.
pub(crate) struct Tokenizer(Vocabulary);

impl Tokenizer {
    pub(crate) fn new() -> Self {
        Tokenizer(Fst::new(VOCABULARY).expect("build.rs made a sound map"))
    }

    /// The token ids of a text: at most `MAX_TOKENS`, and two for an empty one.
    pub(crate) fn encode(&self, text: &str) -> Vec<i64> {
        let mut tokens = Tokens { vocabulary: &self.0, ids: vec![FIRST] };
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
    vocabulary: &'a Vocabulary,
    ids: Vec<i64>,
}

impl Tokens<'_> {
    /// Whether there are as many as the model reads; the last one is still to come.
    fn is_full(&self) -> bool {
        self.ids.len() >= MAX_TOKENS - 1
    }

    fn push_text(&mut self, text: &str) {
        let mut word = Word::default();
        for c in normalized(text) {
            if self.is_full() {
                return;
            }
            if c.is_whitespace() {
                self.push_word(&mut word);
            } else if c.is_ascii_punctuation() || c.is_punctuation() {
                self.push_word(&mut word);
                word.push(c);
                self.push_word(&mut word);
            } else {
                word.push(c);
            }
        }
        self.push_word(&mut word);
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
        let vocabulary = self.vocabulary;
        let first = Prefix { node: vocabulary.root(), id: Output::zero() };
        // Pieces that continue a word hang behind this marker.
        let other = b"##".iter().try_fold(first, |prefix, &byte| prefix.then(vocabulary, byte))?;
        let (mut rest, mut start) = (word, first);
        while !rest.is_empty() {
            let (id, length) = start.longest(vocabulary, rest)?;
            self.ids.push(id);
            (rest, start) = (&rest[length..], other);
        }
        Some(())
    }
}

/// How far into the vocabulary some bytes lead, and what of an id they have gathered.
#[derive(Clone, Copy)]
struct Prefix<'a> {
    node: Node<'a>,
    id: Output,
}

impl<'a> Prefix<'a> {
    fn then(self, vocabulary: &'a Vocabulary, byte: u8) -> Option<Self> {
        let transition = self.node.transition(self.node.find_input(byte)?);
        Some(Prefix { node: vocabulary.node(transition.addr), id: self.id.cat(transition.out) })
    }

    /// The longest piece from here that `text` begins with: its id and length.
    fn longest(self, vocabulary: &'a Vocabulary, text: &[u8]) -> Option<(i64, usize)> {
        let (mut prefix, mut longest) = (self, None);
        for (index, &byte) in text.iter().enumerate() {
            let Some(next) = prefix.then(vocabulary, byte) else { break };
            prefix = next;
            if prefix.node.is_final() {
                longest = Some((prefix.id.cat(prefix.node.final_output()).value(), index + 1));
            }
        }
        let (id, length) = longest?;
        Some((i64::try_from(id).ok()?, length))
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

/// Without control characters, Chinese characters set apart, without accents, in lower case.
fn normalized(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars()
        .filter(|&c| matches!(c, '\t' | '\n' | '\r') || !(c == '\u{fffd}' || c.is_other()))
        .flat_map(|c| {
            let around = is_chinese(c).then_some(' ');
            around.into_iter().chain([c]).chain(around)
        })
        .nfd()
        .filter(|c| !c.is_mark_nonspacing())
        .flat_map(char::to_lowercase)
}

/// The blocks that BERT takes for Chinese.
fn is_chinese(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
