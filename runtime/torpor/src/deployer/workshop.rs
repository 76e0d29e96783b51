//! What deploying does that blocks: verifying, compiling, and writing to the state directory.

use super::trust::Trusted;
use crate::{
    deployments::{ManifestFile, Variables, check},
    records::{By, Kept, Record, Records},
};
use anyhow::{Context, Result};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use torpor_bundle::{Bundle, Digest, Readings, Store, TrustPolicy, Verified};
use torpor_engine::{Engine, Function};
use torpor_manifest::{FunctionName, Manifest};

/// What makes functions, and where they are kept. Lives as long as the host.
pub(crate) struct Workshop {
    engine: Engine,
    store: Store,
    /// `None` where anybody's bundles run.
    trust: Option<Trusted>,
    variables: Variables,
    /// The bundles of the deployments that are under way.
    readings: Readings,
    pub(super) records: Records,
}

/// A revision that could take its function's place, and is not recorded yet.
pub(super) struct Candidate {
    pub(super) function: Function,
    pub(super) kept: Kept,
}

impl Workshop {
    pub(crate) fn open(engine: Engine, trust: Option<Trusted>, variables: Variables, state: &Path) -> Result<Self> {
        let (store, records) = (Store::open(state)?, Records::open(state)?);
        Ok(Workshop { engine, store, trust, variables, readings: Readings::default(), records })
    }

    /// Checks manifests that were read from these files, with what the variables of this host hold.
    pub(super) fn check(&self, texts: Vec<(PathBuf, String)>) -> Result<Vec<ManifestFile>> {
        check(texts, self.variables)
    }

    /// The manifest of a recorded revision, with what the variables of this host hold now.
    pub(super) fn parse(&self, kept: &Kept) -> Result<ManifestFile> {
        let mut files = self.check(vec![(kept.file.clone(), kept.text.clone())])?;
        files.pop().context("a text makes a manifest")
    }

    /// Whether a recorded revision is what a manifest and its bundle would make.
    pub(super) fn same(&self, kept: &Kept, file: &ManifestFile, bundle: &Bundle) -> bool {
        kept.index == bundle.index && self.parse(kept).is_ok_and(|kept| kept.manifest == file.manifest)
    }

    /// Whose bundles run; `None` where anybody's do.
    pub(super) fn trust(&self) -> Option<&Trusted> {
        self.trust.as_ref()
    }

    fn policy(&self) -> Result<Option<Arc<TrustPolicy>>> {
        Ok(self.trust.as_ref().map(Trusted::now).transpose()?)
    }

    /// Checks whose bundle a manifest names, and puts it into the store.
    pub(super) fn verify(&self, manifest: &Manifest) -> Result<Verified<Bundle>> {
        let policy = self.policy()?;
        Ok(self.readings.verify(&manifest.bundle, &manifest.name, policy.as_deref(), &self.store)?)
    }

    /// Makes a revision ready. The function is cold.
    pub(super) fn build(
        &self,
        file: &ManifestFile,
        bundle: &Verified<Bundle>,
        by: By,
        number: u64,
    ) -> Result<Candidate> {
        let function = self.engine.deploy(file.manifest.clone(), bundle)?;
        told(&file.manifest.name, number, bundle);
        let kept = Kept {
            number,
            deployed: now(),
            by,
            file: file.file.clone(),
            text: file.text.clone(),
            digest: bundle.manifest_digest,
            index: bundle.index,
            blobs: bundle.blobs.clone(),
        };
        Ok(Candidate { function, kept })
    }

    /// Makes a recorded revision ready again, from what the store has kept. The trust policy is asked anew.
    pub(super) fn restore(&self, name: &FunctionName, kept: &Kept) -> Result<Function> {
        let file = self.parse(kept)?;
        let bundle = self.readings.verify_kept(kept.index, name, self.policy()?.as_deref(), &self.store);
        let bundle = bundle.with_context(|| format!("the bundle that was `{}`", file.manifest.bundle.display()))?;
        let function = self.engine.deploy(file.manifest, &bundle)?;
        told(name, kept.number, &bundle);
        Ok(function)
    }

    /// Whose signatures let a recorded revision run by `policy`.
    pub(super) fn judge(&self, kept: &Kept, name: &FunctionName, policy: &TrustPolicy) -> Result<Vec<String>> {
        Ok(torpor_bundle::judge_kept(kept.index, name, policy, &self.store)?)
    }

    /// Writes the new records, each with the one it replaces: all, or none where one cannot be written.
    pub(super) fn write_all(&self, records: &[(FunctionName, Option<Record>, Record)]) -> Result<()> {
        for (index, (name, _, record)) in records.iter().enumerate() {
            if let Err(error) = self.records.write(name, record) {
                for (name, old, _) in &records[..index] {
                    let undone =
                        old.as_ref().map_or_else(|| self.records.remove(name), |old| self.records.write(name, old));
                    if let Err(error) = undone {
                        tracing::error!(function = %name, error = format!("{error:#}"), "its record is ahead of what is served");
                    }
                }
                return Err(error.context(format!("`{name}` is not deployed")));
            }
        }
        Ok(())
    }

    /// Drops the metrics of all functions of which `keep` does not say that they are still there.
    pub(super) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.engine.retain(keep);
    }

    /// Lets go of what was only needed while functions were deployed. What is asked for next is read anew.
    pub(super) fn tidy(&self) {
        self.readings.clear();
    }

    /// Removes from the store, and from what was derived, all that neither `keep` nor a function needs.
    pub(super) fn collect(&self, mut keep: HashSet<Digest>) -> Result<()> {
        keep.extend(self.engine.blobs_in_use());
        let blobs = self.store.collect(&keep)?;
        let derived = self.engine.collect(&keep);
        if blobs + derived > 0 {
            tracing::info!(blobs, derived, "removed what no revision needs");
        }
        Ok(())
    }
}

/// In seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "people are told when something was deployed")]
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn told(name: &FunctionName, revision: u64, bundle: &Bundle) {
    let publishers = match bundle.publishers.as_slice() {
        [] => "nobody".to_owned(),
        names => names.join(", "),
    };
    let (version, digest) = (&bundle.config.version, &bundle.manifest_digest);
    tracing::info!(function = %name, revision, version, publishers, %digest, "ready");
}
