//! What each command does.

pub(crate) mod bundle;
pub(crate) mod check;
mod client;
pub(crate) mod doctor;
pub(crate) mod invoke;
pub(crate) mod ps;
pub(crate) mod serve;
