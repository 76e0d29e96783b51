//! Whatever is written is read again, and whatever else is read is refused.

use super::*;
use proptest::prelude::*;

fn tensor() -> impl Strategy<Value = Tensor> {
    let sized = (0..13_usize, prop::collection::vec(0..5_u64, 0..4)).prop_flat_map(|(place, dims)| {
        let dtype = DType::ALL[place];
        let elements: u64 = dims.iter().product();
        let length = usize::try_from(elements).unwrap() * dtype.size().unwrap();
        let byte = if dtype == DType::Bool { 0..=1_u8 } else { 0..=255 };
        prop::collection::vec(byte, length)
            .prop_map(move |data| Tensor::new(dtype, Shape::from(&dims[..]), data.into()).unwrap())
    });
    let strings = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6)
        .prop_map(|elements| Tensor::from_elements([elements.len() as u64].into(), &elements).unwrap());
    prop_oneof![4 => sized, 1 => strings]
}

fn tensors() -> impl Strategy<Value = Vec<NamedTensor>> {
    prop::collection::vec((".{0,12}", tensor()), 0..5)
}

fn dim() -> impl Strategy<Value = Dim> {
    prop_oneof![
        any::<u64>().prop_map(Dim::Fixed),
        ".{0,8}".prop_map(|name| Dim::Named(name.as_str().into())),
        Just(Dim::Any)
    ]
}

fn specs() -> impl Strategy<Value = Vec<TensorSpec>> {
    let spec = (".{0,12}", 0..14_usize, prop::option::of(prop::collection::vec(dim(), 0..5)));
    let spec = spec.prop_map(|(name, place, shape)| TensorSpec { name, dtype: DType::ALL[place], shape });
    prop::collection::vec(spec, 0..5)
}

fn failure() -> impl Strategy<Value = Failure> {
    let text = "[^\\p{Cc}]{0,40}";
    prop_oneof![
        text.prop_map(Failure::Input),
        text.prop_map(Failure::Rejected),
        text.prop_map(Failure::Failed),
        text.prop_map(Failure::Ended),
        Just(Failure::Cancelled)
    ]
}

/// Whatever is read of the bytes, nothing breaks.
fn read_all(bytes: &Bytes) {
    let _ = (read_order(bytes.clone()), read_inputs(bytes.clone()));
    let _ = (read_answer(bytes.clone()).map(drop), read_opened(bytes.clone()).map(drop), read_optimized(bytes.clone()));
}

proptest! {
    #[test]
    fn tensors_survive(tensors in tensors()) {
        let message = inputs(&tensors);
        prop_assert!(message.parts().all(|(begin, _)| begin % ALIGN == 0));
        let whole = Bytes::from(message.whole());
        prop_assert_eq!(whole.len(), message.length());
        prop_assert_eq!(read_inputs(whole).unwrap(), tensors);
    }

    #[test]
    fn answers_survive(given in prop_oneof![tensors().prop_map(Ok), failure().prop_map(Err)]) {
        prop_assert_eq!(read_answer(answer(&given).whole().into()).unwrap(), given);
    }

    #[test]
    fn signatures_survive(inputs in specs(), outputs in specs(), failed in prop::option::of(failure())) {
        let given = failed.map_or(Ok(Signature { inputs, outputs }), Err);
        prop_assert_eq!(read_opened(opened(&given).whole().into()).unwrap(), given);
    }

    #[test]
    fn forms_survive(place in 0..4_usize, failed in prop::option::of(failure())) {
        let given = failed.map_or(Ok(FORMS[place]), Err);
        prop_assert_eq!(read_optimized(optimized(&given).whole().into()).unwrap(), given);
    }

    #[test]
    fn orders_survive(path in prop::collection::vec(any::<u8>(), 0..40), words in any::<[u8; 4]>(), threads in 1..300_usize, memory: u64) {
        let pick = |word: u8, count: usize| usize::from(word) % count;
        let options = OpenOptions {
            device: DEVICES[pick(words[0], 5)],
            precision: PRECISIONS[pick(words[1], 3)],
            threads: threads.try_into().unwrap(),
            parallel: 3.try_into().unwrap(),
            tier: TIERS[pick(words[3], 3)],
        };
        let (model, weights, format) = (path.clone(), path.clone(), FORMATS[pick(words[2], 3)]);
        let given = Order { model, weights, format, options, memory, out: path };
        prop_assert_eq!(read_order(order(&given).whole().into()).unwrap(), given);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes.into());
    }

    #[test]
    fn a_changed_or_cut_message_is_read_or_refused(tensors in tensors(), at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
        let mut bytes = answer(&Ok(tensors)).whole();
        let index = at.index(bytes.len());
        bytes[index] = to;
        read_all(&bytes.clone().into());
        let length = cut.index(bytes.len());
        bytes.truncate(length);
        prop_assert!(read_answer(bytes.into()).is_err(), "nothing of a message is there for nothing");
    }
}

#[test]
fn a_tensor_that_is_not_there_is_refused() {
    // One tensor of UINT8, of as many elements as its length says, of which the message has none.
    for length in [1_u64, 1 << 40, u64::MAX] {
        let mut message = Message::new();
        message.u8(0);
        message.u32(1);
        message.text("x");
        message.dtype(DType::U8);
        message.u32(1);
        message.u64(length);
        message.u64(length);
        assert!(read_answer(message.finish().whole().into()).is_err());
    }
}

#[test]
fn a_long_list_is_refused_before_it_is_made() {
    let mut message = Message::new();
    message.u8(0);
    message.u32(u32::MAX as usize);
    assert_eq!(read_answer(message.finish().whole().into()), Err(Malformed("a list is too long")));
}

#[test]
fn a_worker_s_text_cannot_forge_lines_of_the_log() {
    let failure = Failure::Failed("one\n2026-01-01 INFO two\u{1b}[0m".to_owned());
    let read = read_answer(answer(&Err(failure)).whole().into()).unwrap().unwrap_err();
    assert_eq!(read, Failure::Failed("one 2026-01-01 INFO two [0m".to_owned()));
}
