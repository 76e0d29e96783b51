//! A look into the bytes of an ONNX model before a library gets to see them: whether it keeps its weights in other files, and what
//! inputs and outputs it declares.
//!
//! Libraries open whatever path a model names for its external data. That is right for a model that an operator deployed, and
//! wrong for one that a guest made up. Only the nesting of messages is read here, by the field numbers of `onnx.proto`, and
//! what is not surely harmless is refused.

mod declared;

pub use declared::declared;

/// How deep graphs may be nested in attributes. Each level takes a few frames of the stack.
const MAX_DEPTH: usize = 64;

/// Why a model is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A tensor's data is said to be in another file.
    #[error("the model keeps data in other files")]
    ExternalData,
    /// The bytes are no protocol buffer.
    #[error("the bytes are no ONNX model")]
    Malformed,
    /// Graphs are nested beyond reason.
    #[error("the model nests its graphs too deep")]
    TooDeep,
}

/// The messages of `onnx.proto` that have tensors somewhere below them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
}

impl Message {
    /// The message in a field, where it is one of interest.
    fn field(self, number: u32) -> Option<Message> {
        Some(match (self, number) {
            (Message::Model, 7) | (Message::Training, 1 | 2) | (Message::Attribute, 6 | 11) => Message::Graph,
            (Message::Model, 20) => Message::Training,
            (Message::Model, 25) => Message::Function,
            (Message::Graph, 1) | (Message::Function, 7) => Message::Node,
            (Message::Node, 5) | (Message::Function, 11) => Message::Attribute,
            (Message::Graph, 15) | (Message::Attribute, 22 | 23) => Message::SparseTensor,
            (Message::Graph, 5) | (Message::Attribute, 5 | 10) | (Message::SparseTensor, 1 | 2) => Message::Tensor,
            _ => return None,
        })
    }

    /// Whether the field says that a tensor's data is elsewhere: `external_data`, or a `data_location` that is not the default.
    fn is_elsewhere(self, number: u32, varint: Option<u64>) -> bool {
        self == Message::Tensor && (number == 13 || (number == 14 && varint != Some(0)))
    }
}

/// Checks that an ONNX model refers to no file beside itself.
///
/// # Errors
/// When it does, or when that cannot be told.
pub fn check_self_contained(model: &[u8]) -> Result<(), Refused> {
    check(Message::Model, model, MAX_DEPTH)
}

fn check(message: Message, mut rest: &[u8], depth: usize) -> Result<(), Refused> {
    let depth = depth.checked_sub(1).ok_or(Refused::TooDeep)?;
    while !rest.is_empty() {
        let tag = u32::try_from(varint(&mut rest)?).map_err(|_| Refused::Malformed)?;
        let (number, mut value) = (tag >> 3, None);
        match tag & 7 {
            0 => value = Some(varint(&mut rest)?),
            1 => drop(take(&mut rest, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).map_err(|_| Refused::Malformed)?;
                let content = take(&mut rest, length)?;
                if let Some(inner) = message.field(number) {
                    check(inner, content, depth)?;
                }
            }
            5 => drop(take(&mut rest, 4)?),
            // Groups have been out of use since before ONNX.
            _ => return Err(Refused::Malformed),
        }
        if message.is_elsewhere(number, value) {
            return Err(Refused::ExternalData);
        }
    }
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Refused> {
    let (taken, after) = rest.split_at_checked(length).ok_or(Refused::Malformed)?;
    *rest = after;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Refused> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        // The tenth byte has room for one bit. Readers differ in what they make of more, so there is no more.
        if shift == 63 && byte > 1 {
            return Err(Refused::Malformed);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Refused::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A field that holds a message or bytes.
    fn nested(number: u8, content: &[u8]) -> Vec<u8> {
        // One byte holds tags of fields up to 15; the others take two.
        let tag = if number < 16 { vec![(number << 3) | 2] } else { vec![(number << 3) | 0x82, number >> 4] };
        [&tag, &[u8::try_from(content.len()).expect("a short message")][..], content].concat()
    }

    const EXTERNAL: [u8; 2] = [14 << 3, 1];

    #[test]
    fn models_of_the_tests_are_self_contained() {
        for model in [
            &include_bytes!("../../../tests/models/add.onnx")[..],
            &include_bytes!("../../../tests/models/slow.onnx")[..],
            &include_bytes!("../../../tests/models/types.onnx")[..],
        ] {
            assert_eq!(check_self_contained(model), Ok(()));
        }
    }

    #[test]
    fn external_data_is_found_wherever_it_is() {
        let tensors = [nested(13, b"location"), EXTERNAL.to_vec()];
        for tensor in tensors {
            let paths: [&[u8]; 8] = [
                &[5, 7],
                &[1, 15, 7],
                &[2, 15, 7],
                &[5, 5, 1, 7],
                &[10, 5, 1, 7],
                &[5, 5, 1, 6, 5, 1, 7],
                &[1, 22, 5, 7, 25],
                &[5, 1, 20],
            ];
            for path in paths {
                let model = path.iter().fold(tensor.clone(), |content, &number| nested(number, &content));
                assert_eq!(check_self_contained(&model), Err(Refused::ExternalData), "{path:?}");
            }
        }
    }

    #[test]
    fn what_says_that_data_is_here_is_taken() {
        let tensor = [14 << 3, 0];
        assert_eq!(check_self_contained(&nested(7, &nested(5, &tensor))), Ok(()));
        // The same bytes in a field that is no tensor mean nothing.
        assert_eq!(check_self_contained(&nested(7, &nested(2, &EXTERNAL))), Ok(()));
    }

    #[test]
    fn what_is_no_protocol_buffer_is_refused() {
        for bytes in [&b"\x0b"[..], b"\x3a\x05", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x0d\x00"] {
            assert_eq!(check_self_contained(bytes), Err(Refused::Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn endless_nesting_is_refused() {
        // Lengths of two bytes, since the whole is longer than 127.
        let mut model = Vec::new();
        for _ in 0..60 {
            for number in [6_u8, 5, 1] {
                let length = model.len();
                let length = [u8::try_from(length & 0x7f).unwrap() | 0x80, u8::try_from(length >> 7).unwrap()];
                model = [&[(number << 3) | 2][..], &length, &model].concat();
            }
        }
        let length = [u8::try_from(model.len() & 0x7f).unwrap() | 0x80, u8::try_from(model.len() >> 7).unwrap()];
        model = [&[(7 << 3) | 2][..], &length, &model].concat();
        assert_eq!(check_self_contained(&model), Err(Refused::TooDeep));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check_self_contained(&bytes);
        }

        #[test]
        fn a_damaged_model_is_judged(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut model = include_bytes!("../../../tests/models/types.onnx").to_vec();
            let at = at.index(model.len());
            model[at] = byte;
            let _ = check_self_contained(&model);
        }
    }
}
