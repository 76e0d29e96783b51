//! How far long work on a bundle has come. Nearly all of its time goes into reading and hashing, so it is counted in bytes.

use std::io::{self, Write};

/// Is told how far work has come.
pub trait Progress {
    /// How many bytes will be read; told once, before the first.
    fn expect(&self, bytes: u64);

    /// So many bytes more were read.
    fn advance(&self, bytes: u64);
}

/// Nobody wants to know.
impl Progress for () {
    fn expect(&self, _: u64) {}

    fn advance(&self, _: u64) {}
}

/// A writer that tells how much went through it.
pub(crate) struct Counted<'a, W>(pub(crate) W, pub(crate) &'a dyn Progress);

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.advance(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
