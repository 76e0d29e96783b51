//! As `layout`, but each header gets its right checksum first, so that names, sizes and kinds of entries are looked at.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Write;
use torpor_bundle::{Error, inspect};

/// Where a header has its entry's length, and its checksum: octal digits.
const LENGTH: std::ops::Range<usize> = 124..135;
const CHECKSUM: std::ops::Range<usize> = 148..156;

fuzz_target!(|file: &[u8]| {
    let mut file = file.to_vec();
    let mut offset = 0_usize;
    while let Some(header) = file.get_mut(offset..).and_then(|rest| rest.first_chunk_mut::<512>()) {
        if *header != [0; 512] {
            header[CHECKSUM].fill(b' ');
            let sum: u32 = header.iter().copied().map(u32::from).sum();
            header[CHECKSUM].copy_from_slice(format!("{sum:07o}\0").as_bytes());
        }
        let digits = std::str::from_utf8(&header[LENGTH]).unwrap_or_default();
        let length = usize::from_str_radix(digits, 8).unwrap_or(0);
        offset += 512 + length.next_multiple_of(512);
    }
    let mut bundle = tempfile::NamedTempFile::new().unwrap();
    bundle.write_all(&file).unwrap();
    match inspect(bundle.path()) {
        Ok(_) | Err(Error::Damaged { .. }) => {}
        Err(error) => panic!("{error}"),
    }
});
