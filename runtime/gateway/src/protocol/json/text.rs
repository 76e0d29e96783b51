//! The letters of JSON, for what is read without serde: spaces and strings. Texts are UTF-8 already.

/// `text` without the white space at its beginning.
pub(in crate::protocol) fn spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = text {
        text = rest;
    }
    text
}

/// Appends the characters of a string to `bytes`, escapes resolved, and returns what follows it. `text` begins behind the
/// opening quote. `None` where it is no string: without an end, with a control character, with an escape that means nothing.
pub(in crate::protocol) fn string<'t>(mut text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
    loop {
        let (plain, special) = text.split_at(plain(text));
        bytes.extend_from_slice(plain);
        match special {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'u', rest @ ..] => {
                let (character, rest) = unicode(rest)?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                text = rest;
            }
            [b'\\', escape, rest @ ..] => {
                bytes.push(match escape {
                    b'"' | b'\\' | b'/' => *escape,
                    b'b' => 0x08,
                    b'f' => 0x0c,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    _ => return None,
                });
                text = rest;
            }
            _ => return None,
        }
    }
}

/// The character of an escape, whose digits are next. One beyond the basic plane takes two escapes.
fn unicode(text: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = hexadecimal(text)?;
    if !(0xd800..0xdc00).contains(&first) {
        // The second half of a pair is no character on its own.
        return Some((char::from_u32(first)?, rest));
    }
    let (second, rest) = hexadecimal(rest.strip_prefix(b"\\u")?)?;
    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    Some((char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + low)?, rest))
}

fn hexadecimal(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let value = digits.iter().try_fold(0, |value, &digit| Some(value * 16 + char::from(digit).to_digit(16)?))?;
    Some((value, rest))
}

/// How many bytes there are before the first that ends or interrupts a string: a quote, a backslash, a control character.
pub(super) fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES * 0x80;
    // The highest bit of each byte below `limit`. A byte above the lowest such one may be marked in error; none below it is.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let mut length = 0;
    while let Some(chunk) = text[length..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let marked = below(word, 0x20) | below(quote, 1) | below(backslash, 1);
        if marked != 0 {
            return length + (marked.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    length + text[length..].iter().position(special).unwrap_or(text.len() - length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let mut bytes = Vec::new();
        let rest = string(text.as_bytes(), &mut bytes);
        assert_eq!(rest.map(|_| String::from_utf8(bytes).unwrap()).as_deref(), expected, "{text}");
    }

    #[test]
    fn a_string_ends_at_its_quote() {
        check(r#"a","#, Some("a"));
        check(r#"""#, Some(""));
        check(r#"0123456789 abcdef é ü"x"#, Some("0123456789 abcdef é ü"));
        check("abc", None);
        check("abc\\", None);
        check("a\nb\"", None);
    }

    #[test]
    fn escapes_are_resolved() {
        check(r#"\"\\\/\b\f\n\r\t""#, Some("\"\\/\u{8}\u{c}\n\r\t"));
        check(r#"\u00e9\u20AC\uD83D\ude00""#, Some("é€😀"));
        check(r#"\u0000""#, Some("\0"));
    }

    #[test]
    fn halves_of_pairs_are_no_characters() {
        for text in [r#"\ud83d""#, r#"\ud83dx""#, r#"\ud83d\n""#, r#"\ud83d\ud83d""#, r#"\ud83dA""#, r#"\ude00""#] {
            check(text, None);
        }
        for text in [r#"\x""#, r#"\u12""#, r#"\u+123""#, r#"\u12g4""#] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn strings_are_what_serde_says(text in r#"["\\a-fu0-9dD\n é€😀]{0,24}"#) {
            let text = text + "\"";
            let mut bytes = Vec::new();
            let ours = string(text.as_bytes(), &mut bytes).map(|rest| rest.len());
            let quoted = format!("\"{text}");
            let mut theirs = serde_json::Deserializer::from_str(&quoted).into_iter::<String>();
            match theirs.next() {
                Some(Ok(value)) => {
                    prop_assert_eq!(String::from_utf8(bytes).unwrap(), value);
                    prop_assert_eq!(ours, Some(quoted.len() - theirs.byte_offset()));
                }
                _ => prop_assert_eq!(ours, None),
            }
        }

        #[test]
        fn plain_stops_where_a_byte_by_byte_search_does(text in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), 0x80_u8..], 0..40)) {
            let expected = text.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
            prop_assert_eq!(plain(&text), expected.unwrap_or(text.len()));
        }
    }
}
