//! What a trust policy makes of a bundle's signatures: which of them count, and whether they are enough. Does no I/O, and reads
//! nothing of the bundle but envelopes and digests.
//!
//! A signature counts for a function if it is genuine, its key is known, not revoked and within its dates, and the key may sign
//! for that function. One that counts is needed, and every rule about the function must have its threshold met. Signatures say
//! nothing of when they were made, so a key's dates are compared with the time at which the bundle is judged.

use crate::{
    Digest, Error,
    dsse::Statement,
    layout::{Attached, Layout},
    policy::{Key, Rule, TrustPolicy, listed, shown},
};
use std::{collections::BTreeSet, time::SystemTime};
use torpor_manifest::FunctionName;

/// A genuine signature with a key that the policy knows.
pub(crate) struct Signer<'a> {
    pub(crate) key: &'a Key,
    pub(crate) statement: Statement,
    pub(crate) standing: Standing,
}

/// Whether a genuine signature counts, or why it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    Counts,
    Revoked,
    NotYet(SystemTime),
    Expired(SystemTime),
    /// The key may not sign for this function.
    NotAllowed(FunctionName),
}

/// Checks that `policy` lets the bundle run as `function`, and gives the signatures that count; there is at least one. Without
/// a function it is asked whether the bundle might run as some function: no pattern and no rule is looked at.
pub(crate) fn judge<'a>(
    policy: &'a TrustPolicy,
    layout: &Layout,
    function: Option<&FunctionName>,
) -> Result<Vec<Signer<'a>>, Error> {
    unrevoked(policy, layout, layout.manifest.digest)?;
    let mut signers = Vec::new();
    for attached in &layout.signatures {
        let Some(key) = policy.key(attached.envelope.keyid()) else { continue };
        signers.push(signer(policy, layout, attached, key, function)?);
    }
    if signers.is_empty() {
        return Err(unknown(layout));
    }
    if let Some(function) = function {
        for rule in policy.rules_for(function) {
            met(layout, function, rule, &signers)?;
        }
    }
    let refusal = signers.iter().find_map(|signer| refusal(layout, signer));
    signers.retain(|signer| signer.standing == Standing::Counts);
    match (signers.is_empty(), refusal) {
        (true, Some(refusal)) => Err(refusal),
        _ => Ok(signers),
    }
}

/// The publishers whose signatures count, by name.
pub(crate) fn publishers<'a>(signers: &[Signer<'a>]) -> BTreeSet<&'a str> {
    let counting = signers.iter().filter(|signer| signer.standing == Standing::Counts);
    counting.map(|signer| signer.key.publisher.as_str()).collect()
}

/// Checks that the policy does not revoke some content.
pub(crate) fn unrevoked(policy: &TrustPolicy, layout: &Layout, digest: Digest) -> Result<(), Error> {
    let Some(revocation) = policy.revocation(digest) else { return Ok(()) };
    let reason = revocation.reason.clone().unwrap_or_else(|| "no reason is given".to_owned());
    Err(Error::RevokedContent { path: layout.archive.path().to_owned(), digest, reason })
}

/// What a signature is worth. A false one in the name of a known key spoils the whole bundle.
pub(crate) fn signer<'a>(
    policy: &TrustPolicy,
    layout: &Layout,
    attached: &Attached,
    key: &'a Key,
    function: Option<&FunctionName>,
) -> Result<Signer<'a>, Error> {
    let statement = attached.envelope.verify(&key.key).and_then(|statement| {
        statement.is_about(layout.manifest.digest)?;
        Ok(statement)
    });
    let statement = statement.map_err(|why| Error::FalseSignature {
        path: layout.archive.path().to_owned(),
        publisher: key.publisher.clone(),
        why,
    })?;
    Ok(Signer { key, statement, standing: standing(key, policy.now(), function) })
}

/// What signatures with `key` are worth at the moment `now`.
fn standing(key: &Key, now: SystemTime, function: Option<&FunctionName>) -> Standing {
    match (key.valid_from, key.expires, function) {
        _ if key.revoked => Standing::Revoked,
        (_, Some(expires), _) if now >= expires => Standing::Expired(expires),
        (Some(from), _, _) if now < from => Standing::NotYet(from),
        (_, _, Some(function)) if !key.allows(function) => Standing::NotAllowed(function.clone()),
        _ => Standing::Counts,
    }
}

impl Signer<'_> {
    /// Why this signature does not count, for people; `None` if it does.
    pub(crate) fn problem(&self) -> Option<String> {
        match &self.standing {
            Standing::Counts => None,
            Standing::Revoked => Some("signed with a key that is revoked".to_owned()),
            Standing::NotYet(from) => Some(format!("signed with a key that is not valid until {}", shown(*from))),
            Standing::Expired(expires) => Some(format!("signed with a key that expired at {}", shown(*expires))),
            Standing::NotAllowed(_) => {
                Some(format!("signed with a key that may sign only for {}", listed(&self.key.functions)))
            }
        }
    }
}

/// Checks that enough of a rule's publishers have signed, or says of each what it did.
fn met(layout: &Layout, function: &FunctionName, rule: &Rule, signers: &[Signer<'_>]) -> Result<(), Error> {
    let counting = publishers(signers);
    let counted = rule.publishers.iter().filter(|name| counting.contains(name.as_str())).count();
    if counted >= rule.threshold {
        return Ok(());
    }
    let each = rule.publishers.iter().map(|name| {
        let mut theirs = signers.iter().filter(|signer| signer.key.publisher == *name);
        let what = match (counting.contains(name.as_str()), theirs.find_map(Signer::problem)) {
            (true, _) => "signed".to_owned(),
            (false, Some(problem)) => problem,
            (false, None) => "did not sign".to_owned(),
        };
        format!("`{name}` {what}")
    });
    Err(Error::Threshold {
        path: layout.archive.path().to_owned(),
        function: function.clone(),
        threshold: rule.threshold,
        publishers: listed(&rule.publishers),
        counted,
        each: each.collect::<Vec<_>>().join(", "),
    })
}

/// The refusal of a bundle for whose only signature this is; `None` if it counts.
fn refusal(layout: &Layout, signer: &Signer<'_>) -> Option<Error> {
    let (path, publisher) = (layout.archive.path().to_owned(), signer.key.publisher.clone());
    match &signer.standing {
        Standing::Counts => None,
        Standing::Revoked => Some(Error::Revoked { path, publisher }),
        Standing::NotYet(from) => Some(Error::NotYetValid { path, publisher, from: shown(*from) }),
        Standing::Expired(expires) => Some(Error::Expired { path, publisher, expires: shown(*expires) }),
        Standing::NotAllowed(function) => {
            let functions = listed(&signer.key.functions);
            Some(Error::NotAllowed { path, publisher, functions, function: function.clone() })
        }
    }
}

/// The refusal of a bundle that no known key has signed.
fn unknown(layout: &Layout) -> Error {
    let path = layout.archive.path().to_owned();
    if layout.signatures.is_empty() {
        return Error::Unsigned { path };
    }
    Error::Untrusted { path, keys: listed(layout.signatures.iter().map(|attached| attached.envelope.keyid())) }
}
