//! What the tokenizer makes of a character: BERT's normalizer, uncased. The characters that texts are made of have a table.

use unicode_categories::UnicodeCategories as _;
use unicode_normalization::UnicodeNormalization as _;

/// What becomes of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Nothing.
    Dropped,
    /// It ends a word.
    Space,
    /// It is a word of its own.
    Alone,
    /// It is part of a word.
    Letter,
}

/// The normal form of each character of the basic plane.
pub(crate) struct Characters(Box<[Entry]>);

#[derive(Clone, Copy)]
struct Entry {
    form: u16,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Is(Part),
    /// More than one character comes of it, or its neighbours matter.
    Complex,
}

impl Characters {
    pub(crate) fn new() -> Self {
        let entry = |c: u16| char::from_u32(c.into()).and_then(simple);
        let complex = Entry { form: 0, kind: Kind::Complex };
        Characters((0..=u16::MAX).map(|c| entry(c).unwrap_or(complex)).collect())
    }

    /// Gives `take` each character that comes of `text`, with the part that it has, until it says that it has enough.
    pub(crate) fn normalize(&self, text: &str, mut take: impl FnMut(char, Part) -> bool) {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some((form, part)) = self.simple(first) {
                // What follows does not change what a character is, unless it is put in another order; then it is complex.
                if !take(form, part) {
                    return;
                }
                rest = &rest[first.len_utf8()..];
                continue;
            }
            // Up to the next character that nothing passes.
            let end = rest.find(|c: char| c.is_ascii()).unwrap_or(rest.len());
            for c in normalized(&rest[..end]) {
                if !take(c, part(c)) {
                    return;
                }
            }
            rest = &rest[end..];
        }
    }

    fn simple(&self, c: char) -> Option<(char, Part)> {
        let Entry { form, kind: Kind::Is(part) } = *self.0.get(c as usize)? else { return None };
        Some((char::from_u32(form.into())?, part))
    }
}

/// The entry of a character of which at most one other comes, and that stays where it is among its neighbours.
fn simple(c: char) -> Option<Entry> {
    let text = c.encode_utf8(&mut [0; 4]).to_owned();
    if text.nfd().any(|c| unicode_normalization::char::canonical_combining_class(c) != 0 && !c.is_mark_nonspacing()) {
        return None;
    }
    let chinese = is_chinese(c);
    let mut forms = normalized(&text).filter(|&c| !(chinese && c == ' '));
    let (first, second) = (forms.next(), forms.next());
    match (first, second) {
        (None, _) => Some(Entry { form: 0, kind: Kind::Is(Part::Dropped) }),
        (Some(form), None) => {
            let part = if chinese { Part::Alone } else { part(form) };
            Some(Entry { form: u16::try_from(u32::from(form)).ok()?, kind: Kind::Is(part) })
        }
        (Some(_), Some(_)) => None,
    }
}

/// The part of a character that is in its normal form.
fn part(c: char) -> Part {
    if c.is_whitespace() {
        Part::Space
    } else if c.is_ascii_punctuation() || c.is_punctuation() {
        Part::Alone
    } else {
        Part::Letter
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
mod tests {
    use super::*;

    /// What comes of a text without the table.
    fn expected(text: &str) -> Vec<(char, Part)> {
        normalized(text).map(|c| (c, part(c))).collect()
    }

    /// Chinese characters are words of their own, be it by spaces around them or by their part.
    fn words(parts: &[(char, Part)]) -> Vec<String> {
        let mut words = vec![String::new()];
        for (c, part) in parts {
            match part {
                Part::Dropped => {}
                Part::Space => words.push(String::new()),
                Part::Alone => words.extend([c.to_string(), String::new()]),
                Part::Letter => words.last_mut().unwrap().push(*c),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[track_caller]
    fn check(characters: &Characters, text: &str) {
        let mut found = Vec::new();
        characters.normalize(text, |c, part| {
            found.push((c, part));
            true
        });
        assert_eq!(words(&found), words(&expected(text)), "{text:?}");
    }

    #[test]
    fn each_character_is_what_it_is_without_the_table() {
        let characters = Characters::new();
        for c in (0..=0x1_ffff).filter_map(char::from_u32) {
            check(&characters, &format!("a{c}b"));
        }
    }

    #[test]
    fn what_stands_beside_a_character_changes_nothing() {
        let characters = Characters::new();
        // A letter, marks of several classes and kinds, Hangul with its parts, and signs that move.
        let odd = [
            "e",
            "\u{301}",
            "\u{323}",
            "\u{302e}",
            "\u{1d165}",
            "한",
            "\u{1100}",
            "\u{1161}",
            "你",
            "\u{f900}",
            "İ",
            "ß",
            "!",
            " ",
        ];
        for one in odd {
            for two in odd {
                for three in odd {
                    check(&characters, &[one, two, three].concat());
                }
            }
        }
    }
}
