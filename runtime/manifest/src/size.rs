//! Sizes in bytes, written as people write them: `64MiB`.

use crate::{Error, suggest::shown};
use std::{fmt, str::FromStr};

/// A number of bytes. Written with a binary (`KiB`, `MiB`, `GiB`) or decimal (`kB`, `MB`, `GB`) unit, or `B`; shown with a
/// binary unit, rounded to one decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// This many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        ByteSize(bytes)
    }

    /// This many KiB.
    pub const fn kib(kib: u64) -> Self {
        ByteSize(bytesize::ByteSize::kib(kib).0)
    }

    /// This many MiB.
    pub const fn mib(mib: u64) -> Self {
        ByteSize(bytesize::ByteSize::mib(mib).0)
    }

    /// This many GiB.
    pub const fn gib(gib: u64) -> Self {
        ByteSize(bytesize::ByteSize::gib(gib).0)
    }

    /// The number of bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// With the largest binary unit of which it is a whole number: nothing is rounded.
    pub(crate) fn exact(self) -> String {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let whole = units.into_iter().find(|(_, bytes)| self.0 != 0 && self.0.is_multiple_of(*bytes));
        let (unit, bytes) = whole.unwrap_or(("B", 1));
        format!("{}{unit}", self.0 / bytes)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&bytesize::ByteSize(self.0).display().iec().to_string())
    }
}

impl FromStr for ByteSize {
    type Err = Error;

    /// A number too large for 64 bits counts as the largest, so that a range check refuses it with a fitting text.
    fn from_str(text: &str) -> Result<Self, Error> {
        let error = |why: &str, help: String| Error::new("a size", text, why, help);
        // The library takes a number without a unit for bytes, but whoever forgot the unit rarely meant those.
        if text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            // A long number counts bytes, a short one hardly does.
            let unit = if text.len() > 4 { "B" } else { "MiB" };
            let help = format!("write, for example, `{}{unit}`", shown(text));
            return Err(error("it has no unit", help));
        }
        text.parse::<bytesize::ByteSize>().map(|size| ByteSize(size.0)).map_err(|_| {
            let help = "write, for example, `512KiB`, `64MiB` or `1GiB`".to_owned();
            error("a size is a number and a unit", help)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_understood() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1 KiB", 1024),
            ("1kB", 1000),
            ("7B", 7),
            ("64MB", 64_000_000),
            ("1.5KiB", 1536),
            ("99999999999EiB", u64::MAX),
            ("99999999999999999999999B", u64::MAX),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().as_u64(), bytes, "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1MiB",
            "500",
            "99999999999999999999999",
            "1.5",
            "64 potatoes",
            "64 mebi",
            "1.2.3MiB",
            "NaN",
            "inf",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn shown_with_binary_units() {
        assert_eq!(ByteSize::mib(64).to_string(), "64.0 MiB");
        assert_eq!(format!("{:>10}", ByteSize::bytes(5)), "       5 B");
    }

    #[test]
    fn exact_with_the_largest_fitting_unit() {
        let exact =
            [ByteSize::mib(64), ByteSize::kib(1536), ByteSize::bytes(1025), ByteSize::bytes(0)].map(ByteSize::exact);
        assert_eq!(exact, ["64MiB", "1536KiB", "1025B", "0B"]);
    }

    proptest! {
        #[test]
        fn whole_binary_sizes_round_trip(number in 1_u64..1000, power in 0_u32..4) {
            let size = ByteSize::bytes(number << (10 * power));
            prop_assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
            prop_assert_eq!(size.exact().parse::<ByteSize>().unwrap(), size);
        }

        #[test]
        fn any_text_is_judged(text in any::<String>()) {
            let _ = text.parse::<ByteSize>();
        }
    }
}
