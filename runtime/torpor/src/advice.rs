//! What to do about an error: the `help:` line that stands below it.

use std::{
    fmt,
    io::{self, ErrorKind},
};

/// An error, or the context of one, that knows what to do about it.
#[derive(Debug)]
pub struct Advice {
    what: String,
    help: String,
}

impl Advice {
    /// What is wrong, and what to do.
    pub fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Advice { what: what.into(), help: help.into() }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Advice {}

/// What to do about `error`: what the outermost advice in it says, else what its cause is known to need.
pub fn help(error: &anyhow::Error) -> Option<String> {
    if let Some(advice) = error.downcast_ref::<Advice>() {
        return Some(advice.help.clone());
    }
    if let Some(help) = error.downcast_ref::<torpor_bundle::Error>().and_then(torpor_bundle::Error::help) {
        return Some(help);
    }
    if let Some(error) = error.downcast_ref::<torpor_gateway::Error>() {
        return Some(error.help());
    }
    if error.chain().any(|cause| cause.is::<std::string::FromUtf8Error>()) {
        return Some("save it as UTF-8".to_owned());
    }
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    kind.map(|kind| system(kind).to_owned())
}

/// An error in one line, causes and what to do about it included: for logs, and for what is told of a function.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let help = help(error).map(|help| format!("; {help}")).unwrap_or_default();
    format!("{error:#}{help}")
}

/// What to do about an error of the system.
fn system(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "check the path; one that does not begin with `/` begins at the current folder",
        ErrorKind::PermissionDenied => "check who owns it and its folder, and who may read and write there",
        ErrorKind::IsADirectory => "give a file; this is a folder",
        ErrorKind::NotADirectory => "check the path; a part of it is no folder",
        ErrorKind::AlreadyExists => "choose another name, or move away what is there",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on that disk, then try again",
        ErrorKind::ReadOnlyFilesystem => "choose a place on a disk that can be written to",
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData => "fetch or make the file again",
        _ => "try again; if it stays so, the system's own log may say why",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_outermost_advice_wins() {
        let missing = || io::Error::from(ErrorKind::NotFound);
        let plain = Err::<(), _>(missing()).context("cannot read `x`").unwrap_err();
        assert!(help(&plain).unwrap().starts_with("check the path"));
        let advised =
            Err::<(), _>(missing()).context(Advice::new("no host", "start one")).context("outer").unwrap_err();
        assert_eq!(help(&advised).as_deref(), Some("start one"));
        assert_eq!(format!("{advised:#}"), format!("outer: no host: {}", missing()));
        let bundle = torpor_bundle::Error::Unsigned { path: "x".into() };
        assert_eq!(help(&bundle.into()).as_deref(), Some("sign it with `torpor sign`"));
        assert_eq!(help(&anyhow::anyhow!("no cause")), None);
    }
}
