//! What one element of each element type looks like in JSON, and its bytes.

use super::text::{plain, spaces, string};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use half::{bf16, f16};

/// The usual alphabet; what fills up the last group may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What an element of one datatype looks like in JSON.
pub(super) trait Element {
    /// Appends the element at the beginning of `text` to `bytes`, and returns what follows it; `None` where there is none of
    /// this type, or one that is out of its range. What follows may still belong to it: the caller looks for its end.
    fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]>;
}

/// An element of a `BOOL` tensor.
pub(super) struct Bool;

impl Element for Bool {
    fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
        if let Some(rest) = text.strip_prefix(b"true") {
            bytes.push(1);
            return Some(rest);
        }
        let rest = text.strip_prefix(b"false")?;
        bytes.push(0);
        Some(rest)
    }
}

/// The digits of a whole number as JSON has them.
fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    let mut length = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.checked_mul(10)?.checked_add(digit.into())?;
        length += 1;
    }
    // No digits are no number, and JSON has no zeros in front of one.
    if length == 0 || (length > 1 && text[0] == b'0') {
        return None;
    }
    Some((value, &text[length..]))
}

/// Whole numbers: nothing with a point or an exponent, and no `-0`, which is a number of floating point.
macro_rules! whole_numbers {
    (unsigned: $($unsigned:ty),+; signed: $($signed:ty),+) => {
        $(impl Element for $unsigned {
            fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
                let (value, rest) = digits(text)?;
                bytes.extend_from_slice(&<$unsigned>::try_from(value).ok()?.to_le_bytes());
                Some(rest)
            }
        })+
        $(impl Element for $signed {
            fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
                let (value, rest) = match text.strip_prefix(b"-") {
                    None => {
                        let (value, rest) = digits(text)?;
                        (<$signed>::try_from(value).ok()?, rest)
                    }
                    Some(text) => match digits(text)? {
                        (0, _) => return None,
                        (value, rest) => (<$signed>::try_from(0_i64.checked_sub_unsigned(value)?).ok()?, rest),
                    },
                };
                bytes.extend_from_slice(&value.to_le_bytes());
                Some(rest)
            }
        })+
    };
}

whole_numbers!(unsigned: u8, u16, u32, u64; signed: i8, i16, i32, i64);

/// The nearest floating-point number to a JSON number. `None` where it is too large for any; JSON has no infinity.
fn float<F: fast_float2::FastFloat>(text: &[u8], is_finite: impl Fn(F) -> bool) -> Option<(F, &[u8])> {
    // The library reads what JSON does not have: `inf`, `+1`, `.5`, `5.` and `05`.
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole == 0 || (whole > 1 && digits[0] == b'0') {
        return None;
    }
    if let [b'.', behind @ ..] = &digits[whole..]
        && !behind.first().is_some_and(u8::is_ascii_digit)
    {
        return None;
    }
    let (value, length) = fast_float2::parse_partial::<F, _>(text).ok()?;
    is_finite(value).then(|| (value, &text[length..]))
}

impl Element for f64 {
    fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
        let (value, rest) = float(text, f64::is_finite)?;
        bytes.extend_from_slice(&value.to_le_bytes());
        Some(rest)
    }
}

impl Element for f32 {
    fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
        let (value, rest) = float(text, f32::is_finite)?;
        bytes.extend_from_slice(&value.to_le_bytes());
        Some(rest)
    }
}

/// The formats with 16 bits, which are rounded from the nearest double.
macro_rules! halves {
    ($($half:ty),+) => {
        $(impl Element for $half {
            fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
                let (value, rest) = float(text, f64::is_finite)?;
                let value = <$half>::from_f64(value);
                value.is_finite().then(|| bytes.extend_from_slice(&value.to_le_bytes()))?;
                Some(rest)
            }
        })+
    };
}

halves!(f16, bf16);

/// An element of a `BYTES` tensor.
pub(super) struct Text;

impl Element for Text {
    fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
        let inside = text.strip_prefix(b"\"")?;
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        let rest = string(inside, bytes)?;
        let length = u32::try_from(bytes.len() - start - 4).ok()?;
        bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        Some(rest)
    }
}

/// An element of a `BYTES` tensor that may come as `{"b64": "…"}`, too.
pub(super) struct Blob;

impl Element for Blob {
    fn read<'t>(text: &'t [u8], bytes: &mut Vec<u8>) -> Option<&'t [u8]> {
        let Some(inside) = text.strip_prefix(b"{") else { return Text::read(text, bytes) };
        let value = spaces(spaces(inside).strip_prefix(b"\"b64\"")?).strip_prefix(b":")?;
        let value = spaces(value).strip_prefix(b"\"")?;
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        let length = plain(value);
        let rest = if value.get(length) == Some(&b'"') {
            BASE64.decode_vec(&value[..length], bytes).ok()?;
            &value[length + 1..]
        } else {
            // Some writers escape each slash.
            let mut escaped = Vec::new();
            let rest = string(value, &mut escaped)?;
            BASE64.decode_vec(&escaped, bytes).ok()?;
            rest
        };
        let length = u32::try_from(bytes.len() - start - 4).ok()?;
        bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        spaces(rest).strip_prefix(b"}")
    }
}
