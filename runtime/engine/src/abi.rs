//! The arguments of `wasi_ephemeral_nn`, read from a guest's memory: pure functions over its bytes.
//!
//! Everything here comes from the guest, so nothing is taken for granted: a pointer may be anywhere, and a length may be any.
//! No function panics or copies more than the memory holds; fuzz targets and property tests see to that.

use crate::inference::Refusal;
use torpor_tensor::{DType, Shape};

/// Dimensions of a tensor. Libraries know far fewer.
const MAX_RANK: u32 = 64;

/// A `tensor` record: its element type, shape and data, which need not fit each other yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawTensor<'a> {
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    pub(crate) data: &'a [u8],
}

/// So many bytes at a pointer.
pub(crate) fn bytes(memory: &[u8], pointer: u32, length: u32) -> Result<&[u8], Refusal> {
    let rest = usize::try_from(pointer).ok().and_then(|start| memory.get(start..));
    let bytes = rest.zip(usize::try_from(length).ok()).and_then(|(rest, length)| rest.get(..length));
    bytes.ok_or_else(|| Refusal::argument(format!("{length} bytes at {pointer} are not all within the memory")))
}

/// Text at a pointer.
pub(crate) fn text(memory: &[u8], pointer: u32, length: u32) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes(memory, pointer, length)?).map_err(|_| Refusal::argument("the text is not UTF-8"))
}

/// A `tensor` record at a pointer: two lists with the element type between them.
pub(crate) fn tensor(memory: &[u8], pointer: u32) -> Result<RawTensor<'_>, Refusal> {
    let record = bytes(memory, pointer, 20)?;
    let (dimensions, rank) = (word(record, 0), word(record, 4));
    if rank > MAX_RANK {
        return Err(Refusal::argument(format!("a tensor has at most {MAX_RANK} dimensions, but this one has {rank}")));
    }
    let dimensions = bytes(memory, dimensions, rank * 4)?;
    let shape: Vec<u64> = (0..dimensions.len()).step_by(4).map(|at| u64::from(word(dimensions, at))).collect();
    let dtype = dtype(record[8])?;
    let data = bytes(memory, word(record, 12), word(record, 16))?;
    Ok(RawTensor { dtype, shape: shape.into(), data })
}

/// The one part of a model that comes in one file: a list of one list of bytes.
pub(crate) fn single_part(memory: &[u8], pointer: u32, count: u32) -> Result<&[u8], Refusal> {
    if count != 1 {
        return Err(Refusal::argument(format!("an ONNX model is one part, not {count}")));
    }
    let part = bytes(memory, pointer, 8)?;
    bytes(memory, word(part, 0), word(part, 4))
}

/// Puts bytes where the guest wants them.
pub(crate) fn write(memory: &mut [u8], pointer: u32, data: &[u8]) -> Result<(), Refusal> {
    let start = usize::try_from(pointer).ok();
    let place = start.and_then(|start| memory.get_mut(start..)).and_then(|rest| rest.get_mut(..data.len()));
    let Some(place) = place else {
        return Err(Refusal::argument(format!("{} bytes at {pointer} are not all within the memory", data.len())));
    };
    place.copy_from_slice(data);
    Ok(())
}

/// A little-endian number at an offset that is known to be there.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |value, &byte| (value << 8) | u32::from(byte))
}

fn dtype(tag: u8) -> Result<DType, Refusal> {
    Ok(match tag {
        0 => DType::F16,
        1 => DType::F32,
        2 => DType::F64,
        3 => DType::U8,
        4 => DType::I32,
        5 => DType::I64,
        _ => return Err(Refusal::argument(format!("there is no tensor type {tag}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A memory with a tensor record at 4, dimensions at 24 and data at 32.
    fn memory(type_tag: u8, dimensions: (u32, u32), data: (u32, u32)) -> Vec<u8> {
        let mut memory = vec![0; 4];
        for word in [dimensions.0, dimensions.1, u32::from(type_tag), data.0, data.1, 2, 3] {
            memory.extend(word.to_le_bytes());
        }
        memory.extend([7; 24]);
        memory
    }

    #[test]
    fn a_tensor_is_read_as_it_is_laid_out() {
        let memory = memory(1, (24, 2), (32, 24));
        let tensor = tensor(&memory, 4).unwrap();
        assert_eq!(tensor, RawTensor { dtype: DType::F32, shape: [2, 3].into(), data: &[7; 24] });
        assert!(matches!(super::tensor(&memory, 37), Err(refusal) if refusal.text.contains("not all within")));
    }

    #[test]
    fn what_lies_beyond_the_memory_is_refused() {
        for (dimensions, data) in [
            ((24, 2), (33, 24)),
            ((24, 2), (32, u32::MAX)),
            ((24, 2), (u32::MAX, u32::MAX)),
            ((56, 1), (32, 24)),
            ((u32::MAX, 64), (32, 24)),
            ((24, u32::MAX), (32, 24)),
        ] {
            assert!(tensor(&memory(1, dimensions, data), 4).is_err(), "{dimensions:?} {data:?}");
        }
        assert!(tensor(&memory(6, (24, 2), (32, 24)), 4).unwrap_err().text.contains("tensor type 6"));
    }

    #[test]
    fn a_model_is_one_part() {
        let memory = [4_u32.to_le_bytes(), 2_u32.to_le_bytes()].concat();
        assert_eq!(single_part(&memory, 0, 1).unwrap(), [2, 0]);
        for count in [0, 2, u32::MAX] {
            assert!(single_part(&memory, 0, count).is_err());
        }
        assert!(single_part(&memory, 1, 1).is_err());
    }

    #[test]
    fn nothing_is_written_beyond_the_memory() {
        let mut memory = vec![0; 8];
        write(&mut memory, 6, &[1, 2]).unwrap();
        for pointer in [7, 8, 9, u32::MAX] {
            assert!(write(&mut memory, pointer, &[3, 4]).is_err());
        }
        assert_eq!(memory, [0, 0, 0, 0, 0, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn any_memory_is_read_without_a_panic(
            memory in prop::collection::vec(any::<u8>(), 0..80), pointer in 0_u32..90, length in any::<u32>(),
        ) {
            if let Ok(tensor) = tensor(&memory, pointer) {
                prop_assert!(tensor.shape.rank() <= 64 && tensor.data.len() <= memory.len());
            }
            let _ = text(&memory, pointer, length % 100);
            let _ = single_part(&memory, pointer, length % 2);
            prop_assert!(bytes(&memory, u32::MAX - pointer, length | 1).is_err());
        }
    }
}
