//! Tests of the crate from outside, all in one binary.

mod any_text; // whatever is in a file, it is judged and not fallen over
mod documentation; // docs/manifest.md says what is so
mod mistakes; // one file for each kind of mistake, with the drawing that people get
mod schema; // the JSON Schema is the one that is checked in
mod variables; // what the environment may give, and where it never shows
