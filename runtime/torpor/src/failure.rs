//! Why a command did not do what was asked, and the exit code for it.

use std::process::ExitCode;
use torpor_manifest::Diagnostics;

/// 1: the thing asked about is not so. 2: wrong use.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The thing asked about is not so: a bundle is not trusted, a manifest has mistakes, a call failed.
    NotSo(anyhow::Error),
    /// The same, and the result that was written says why.
    Told,
    /// The command cannot be carried out as it was given: a file is missing, an address is taken.
    WrongUse(anyhow::Error),
}

impl Failure {
    /// What is still to be said.
    pub(crate) fn error(&self) -> Option<&anyhow::Error> {
        match self {
            Failure::NotSo(error) | Failure::WrongUse(error) => Some(error),
            Failure::Told => None,
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Failure::NotSo(_) | Failure::Told => ExitCode::from(1),
            Failure::WrongUse(_) => ExitCode::from(2),
        }
    }
}

/// Sorts an error by what it is about.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let refused = error.downcast_ref::<torpor_bundle::Error>().is_some_and(torpor_bundle::Error::is_refusal);
        match refused || error.is::<Diagnostics>() {
            true => Failure::NotSo(error),
            false => Failure::WrongUse(error),
        }
    }
}

impl From<torpor_bundle::Error> for Failure {
    fn from(error: torpor_bundle::Error) -> Self {
        anyhow::Error::from(error).into()
    }
}
