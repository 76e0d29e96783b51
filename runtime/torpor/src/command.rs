//! What each command does.

pub(crate) mod bundle;
pub(crate) mod check;
mod client;
pub(crate) mod doctor;
pub(crate) mod invoke;
pub(crate) mod new;
pub(crate) mod ps;
pub(crate) mod reference;
pub(crate) mod serve;
