//! Memory that host and worker share, of which either may write any part at any time.
//!
//! The host reads and writes it as a file and never maps it: what it has read is its own copy, which nobody changes any more, and
//! a worker that cuts the file short costs it an error value, not a signal.

use crate::wire::Message;
use bytes::Bytes;
use rustix::{
    buffer::spare_capacity,
    fs::{MemfdFlags, fstat, ftruncate, memfd_create},
    io::{pread, retry_on_intr},
};
use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
};

/// A message up to this length is put together before it is written: one call of the system, for a small copy.
const SMALL: usize = 64 * 1024;
/// What a region keeps between runs, so that the next large run need not get its pages anew.
const KEPT: u64 = 4 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Region(File);

impl Region {
    pub(crate) fn new() -> io::Result<Self> {
        let file = memfd_create("torpor-tensors", MemfdFlags::CLOEXEC)?;
        Ok(Region(file.into()))
    }

    /// The region that a descriptor from the host is.
    pub(crate) fn of(descriptor: OwnedFd) -> Self {
        Region(descriptor.into())
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Writes a message, and returns its length.
    pub(crate) fn write(&self, message: &Message) -> io::Result<u64> {
        let length = message.length();
        if length <= SMALL {
            self.0.write_all_at(&message.whole(), 0)?;
        } else {
            for (begin, part) in message.parts() {
                self.0.write_all_at(part, begin as u64)?;
            }
        }
        Ok(length as u64)
    }

    /// A copy of the first `length` bytes, if that is at most `most` and they are there.
    pub(crate) fn read(&self, length: u64, most: u64) -> io::Result<Bytes> {
        if length > most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the message is larger than it may be"));
        }
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // A great length is no reason to take memory for it, since it costs its writer nothing to claim.
        if length > SMALL && u64::try_from(fstat(&self.0)?.st_size).unwrap_or(0) < length as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = bytes.len() as u64;
            // The vector may have room for more than was asked for; what comes in there is cut off below.
            let read = retry_on_intr(|| pread(&self.0, spare_capacity(&mut bytes), at))?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        bytes.truncate(length);
        Ok(bytes.into())
    }

    /// Gives back what a large message took, which was this long.
    pub(crate) fn shrink(&self, length: u64) -> io::Result<()> {
        if length > KEPT { Ok(ftruncate(&self.0, KEPT)?) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;
    use torpor_tensor::{DType, Tensor};

    fn message(elements: usize) -> Message {
        let data = Bytes::from(vec![7; elements]);
        wire::inputs(&[("x".to_owned(), Tensor::new(DType::U8, [elements as u64].into(), data).unwrap())])
    }

    #[test]
    fn small_and_large_messages_are_read_as_they_were_written() {
        let region = Region::new().unwrap();
        for elements in [0, 1, 1000, SMALL, 3 * SMALL + 1] {
            let message = message(elements);
            let length = region.write(&message).unwrap();
            assert_eq!(region.read(length, length).unwrap(), message.whole());
        }
    }

    #[test]
    fn a_claimed_length_is_not_believed() {
        let region = Region::new().unwrap();
        let length = region.write(&message(100)).unwrap();
        assert_eq!(region.read(length + 1, u64::MAX).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(region.read(u64::MAX, u64::MAX).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(region.read(length, length - 1).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_large_run_leaves_little_behind() {
        let region = Region::new().unwrap();
        let large = usize::try_from(KEPT).unwrap() * 2;
        let length = region.write(&message(large)).unwrap();
        region.shrink(length).unwrap();
        assert_eq!(region.0.metadata().unwrap().len(), KEPT);
        let length = region.write(&message(10)).unwrap();
        region.shrink(length).unwrap();
        assert_eq!(region.read(length, u64::MAX).unwrap(), message(10).whole());
    }
}
