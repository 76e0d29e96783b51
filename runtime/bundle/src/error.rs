//! Why a bundle could not be made, read, signed or trusted. For operators and module authors; no caller ever sees these.

use crate::Digest;
use std::{io, path::PathBuf};
use torpor_manifest::FunctionName;

/// Why a bundle could not be made, read, signed or trusted. [`Error::is_refusal`] tells the two kinds apart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A mistake in a `bundle.toml` or a trust policy.
    #[error("{file}:{line}:{column}: {message}", file = .file.display())]
    Text {
        /// The file as it was given.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong, and what to write instead.
        message: String,
    },
    /// What was given to be packed does not make a bundle.
    #[error("cannot pack `{path}`: {why}")]
    Pack {
        /// The file or folder that is at fault.
        path: PathBuf,
        /// Why not.
        why: String,
        /// What to do.
        help: String,
    },
    /// A file holds no key that can be used.
    #[error("`{path}` holds no Ed25519 {kind} key in PEM: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// `private` or `public`.
        kind: &'static str,
        /// What the parser said.
        why: String,
    },
    /// A key would have overwritten a file.
    #[error("`{path}` exists already, and keys are never overwritten")]
    KeyExists {
        /// The file.
        path: PathBuf,
    },
    /// The file is no bundle, or it is not as it was packed.
    #[error("`{path}` is not a whole bundle: {why}")]
    Damaged {
        /// The bundle.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody has signed the bundle.
    #[error("`{path}` is not signed")]
    Unsigned {
        /// The bundle.
        path: PathBuf,
    },
    /// Only keys that the policy does not know have signed the bundle.
    #[error("`{path}` is signed only by keys that the trust policy does not know ({keys})")]
    Untrusted {
        /// The bundle.
        path: PathBuf,
        /// The ids of those keys.
        keys: String,
    },
    /// The key that signed the bundle was revoked.
    #[error("`{path}` is signed with a key of `{publisher}` that the trust policy revokes")]
    Revoked {
        /// The bundle.
        path: PathBuf,
        /// The publisher.
        publisher: String,
    },
    /// The key that signed the bundle is past its date.
    #[error("`{path}` is signed with a key of `{publisher}` that expired at {expires}")]
    Expired {
        /// The bundle.
        path: PathBuf,
        /// The publisher.
        publisher: String,
        /// Since when, for people.
        expires: String,
    },
    /// The key that signed the bundle does not count yet.
    #[error("`{path}` is signed with a key of `{publisher}` that is not valid until {from}")]
    NotYetValid {
        /// The bundle.
        path: PathBuf,
        /// The publisher.
        publisher: String,
        /// From when on, for people.
        from: String,
    },
    /// The policy revokes the bundle, or something in it.
    #[error("`{path}` holds `{digest}`, which the trust policy revokes: {reason}")]
    RevokedContent {
        /// The bundle.
        path: PathBuf,
        /// The digest of the bundle, or of the part of it that is revoked.
        digest: Digest,
        /// What the policy gives as the reason.
        reason: String,
    },
    /// Fewer publishers have signed than a rule asks for.
    #[error(
        "`{path}` is not signed by enough publishers to run as `{function}`: the trust policy asks for {threshold} of \
         {publishers}, but counts {counted}: {each}"
    )]
    Threshold {
        /// The bundle.
        path: PathBuf,
        /// What it was to run as.
        function: FunctionName,
        /// How many publishers are needed.
        threshold: usize,
        /// Of whom, for people.
        publishers: String,
        /// How many of them have signed so that it counts.
        counted: usize,
        /// What each of them did, for people.
        each: String,
    },
    /// The publisher may not provide this function.
    #[error("`{path}` is signed by `{publisher}`, whom the trust policy allows only {functions}, not `{function}`")]
    NotAllowed {
        /// The bundle.
        path: PathBuf,
        /// The publisher.
        publisher: String,
        /// What it may provide, for people.
        functions: String,
        /// What it was to provide.
        function: FunctionName,
    },
    /// A signature in the name of a known publisher is not that publisher's signature of this bundle.
    #[error("`{path}` has a false signature in the name of `{publisher}`: {why}")]
    FalseSignature {
        /// The bundle.
        path: PathBuf,
        /// The publisher whose key is named.
        publisher: String,
        /// What does not fit.
        why: String,
    },
    /// A file of the content store is not what it was when it was verified.
    #[error("blob `{digest}` is damaged: {why}; redeploy the function to restore it")]
    Blob {
        /// The digest that the file should have.
        digest: Digest,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// What to do about it; `None` where the system's own words have to do ([`Error::Io`]), or the text says it ([`Error::Blob`],
    /// which no command meets).
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Error::Io { .. } | Error::Blob { .. } => return None,
            Error::Text { .. } => "correct the file there; `docs/bundles.md` says what it may hold",
            Error::Pack { help, .. } => help.as_str(),
            Error::Key { .. } => {
                "`torpor keygen` makes a pair: `.key.pem` is the private one, `.pub.pem` the public one"
            }
            Error::KeyExists { .. } => "choose another name, or move the file away",
            Error::Damaged { .. } => "pack or fetch it again",
            Error::Unsigned { .. } => "sign it with `torpor sign`",
            Error::Untrusted { .. } => "add its publisher to the trust policy if you trust it",
            Error::Revoked { .. } => "ask its publisher for one signed with a new key",
            Error::Expired { .. } => "ask for one signed with its new key, or correct `expires` in the trust policy",
            Error::NotYetValid { .. } => "check this machine's clock, or correct `valid-from` in the trust policy",
            Error::RevokedContent { .. } => "use another version",
            Error::Threshold { .. } => "have another of them add its signature with `torpor sign`",
            Error::NotAllowed { .. } => "add a pattern to the publisher's `functions` if it should be allowed",
            Error::FalseSignature { .. } => "do not use it, and fetch it again from where you trust it",
        };
        Some(help.to_owned())
    }

    /// Whether the thing asked about is not so (damaged, unsigned, not trusted), rather than that it could not be found out.
    pub fn is_refusal(&self) -> bool {
        match self {
            Error::Damaged { .. }
            | Error::Unsigned { .. }
            | Error::Untrusted { .. }
            | Error::Revoked { .. }
            | Error::Expired { .. }
            | Error::NotYetValid { .. }
            | Error::RevokedContent { .. }
            | Error::Threshold { .. }
            | Error::NotAllowed { .. }
            | Error::FalseSignature { .. }
            | Error::Blob { .. } => true,
            Error::Io { .. }
            | Error::Text { .. }
            | Error::Pack { .. }
            | Error::Key { .. }
            | Error::KeyExists { .. } => false,
        }
    }
}

/// Says what was tried with `path`, for `map_err`.
pub(crate) fn io_at<'a>(action: &'static str, path: impl Into<PathBuf> + 'a) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { action, path: path.into(), source }
}
