//! The model's vocabulary: from pieces of words to token ids.

/// A piece a line; the number of the line is its id.
static PIECES: &str = include_str!("../vocab.txt");

/// How a piece begins that continues a word.
const CONTINUES: &str = "##";

/// No piece is longer, in bytes.
const LONGEST: usize = 32;

/// More than twice as many as there are pieces, so that looking for one ends soon.
const SLOTS: usize = 1 << 16;

/// A hash table over the pieces.
pub(crate) struct Vocabulary {
    /// The upper half of a piece's hash and, in the lower half, its id and one; 0 for nobody. A piece is in the first free place
    /// from that which the lower half of its hash names.
    slots: Box<[u32]>,
    /// Where each piece begins in [`PIECES`], and where one behind the last would begin.
    starts: Box<[u32]>,
}

impl Vocabulary {
    pub(crate) fn new() -> Self {
        let mut slots = vec![0_u32; SLOTS].into_boxed_slice();
        let mut starts = Vec::with_capacity(SLOTS / 2);
        let mut start = 0_u32;
        for line in PIECES.lines() {
            starts.push(start);
            start += u32::try_from(line.len()).expect("a line is short") + 1;
            let (piece, continues) = split(line);
            assert!(piece.len() <= LONGEST && starts.len() < SLOTS / 2, "the vocabulary is another one");
            let hash = piece.bytes().fold(seed(continues), step);
            let mut at = place(hash);
            while slots[at] != 0 {
                at = (at + 1) % SLOTS;
            }
            slots[at] = hash & UPPER | u32::try_from(starts.len()).expect("it is less than a slot holds");
        }
        starts.push(start);
        Vocabulary { slots, starts: starts.into_boxed_slice() }
    }

    /// The longest piece that `word` begins with, or goes on with if it `continues` one: its id and length.
    pub(crate) fn longest(&self, word: &[u8], continues: bool) -> Option<(i64, usize)> {
        let mut hashes = [0; LONGEST];
        let mut hash = seed(continues);
        for (kept, &byte) in hashes.iter_mut().zip(word) {
            hash = step(hash, byte);
            *kept = hash;
        }
        let longest = word.len().min(LONGEST);
        (1..=longest)
            .rev()
            .find_map(|length| Some((self.find(hashes[length - 1], &word[..length], continues)?, length)))
    }

    fn find(&self, hash: u32, piece: &[u8], continues: bool) -> Option<i64> {
        let mut at = place(hash);
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            let id = (slot & !UPPER) - 1;
            if slot & UPPER == hash & UPPER && self.piece(id) == (piece, continues) {
                return Some(id.into());
            }
            at = (at + 1) % SLOTS;
        }
    }

    fn piece(&self, id: u32) -> (&'static [u8], bool) {
        let [start, next] = [id, id + 1].map(|id| self.starts[id as usize] as usize);
        let (piece, continues) = split(&PIECES[start..next - 1]);
        (piece.as_bytes(), continues)
    }
}

/// The part of a hash that a slot keeps.
const UPPER: u32 = 0xFFFF_0000;

/// A piece as it stands in a word, and whether it continues one.
fn split(line: &str) -> (&str, bool) {
    match line.strip_prefix(CONTINUES) {
        Some(piece) if !piece.is_empty() => (piece, true),
        _ => (line, false),
    }
}

/// The hash of nothing.
fn seed(continues: bool) -> u32 {
    if continues { 0x9e37_79b9 } else { 0x811c_9dc5 }
}

/// The hash of what `hash` is of, and `byte` behind it.
fn step(hash: u32, byte: u8) -> u32 {
    let mixed = (hash ^ u32::from(byte)).wrapping_mul(0x85eb_ca6b);
    mixed ^ mixed >> 15
}

fn place(hash: u32) -> usize {
    (hash & !UPPER) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_found() {
        let vocabulary = Vocabulary::new();
        assert_eq!(PIECES.lines().count(), 30_522);
        for (id, line) in PIECES.lines().enumerate() {
            let (piece, continues) = split(line);
            let found = vocabulary.find(piece.bytes().fold(seed(continues), step), piece.as_bytes(), continues);
            assert_eq!(found, Some(id as i64), "{line}");
        }
    }

    #[test]
    fn the_longest_piece_wins() {
        let vocabulary = Vocabulary::new();
        let id = |piece: &str| PIECES.lines().position(|line| line == piece).map(|id| id as i64);
        assert_eq!(vocabulary.longest(b"kittens", false).map(|(id, _)| Some(id)), Some(id("kitten")));
        assert_eq!(vocabulary.longest(b"s", true).map(|(id, length)| (Some(id), length)), Some((id("##s"), 1)));
        assert_eq!(vocabulary.longest("\u{16a0}".as_bytes(), false), None);
        assert_eq!(vocabulary.longest(b"", false), None);
    }
}
