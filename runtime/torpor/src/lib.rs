//! The Torpor host: library and command line.
