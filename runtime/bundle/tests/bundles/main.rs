//! Bundles through the crate's public face: packed, signed, verified, and tampered with in every way that a file allows.

mod fixture;
mod keys; // Pairs of keys, and openssl's opinion of them.
mod packing; // What goes in, and that the same goes out.
mod policies; // Rules, dates and revocations.
mod storing; // The content store: damage, repair, the check before use.
mod tampering; // Every byte, every length, garbage.
mod trusting; // Which signatures count for whom.
