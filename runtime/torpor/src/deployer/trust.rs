//! The trust policy of a running host. Whoever withdraws trust wants it gone now, so the policy is read again when one of its
//! files changes, and asked again when one of its dates comes.

use super::Deployer;
use crate::{
    advice::told,
    records::{Kept, Record},
};
use anyhow::Context;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use torpor_bundle::{Error, Span, Stamp, TrustPolicy};
use torpor_engine::Function;
use torpor_gateway::{Answerer, Entry};

/// The policy and its files. Lives as long as the host.
pub(crate) struct Trusted {
    file: PathBuf,
    taken: Mutex<Taken>,
}

/// The policy by which what runs was judged.
struct Taken {
    policy: Arc<TrustPolicy>,
    looks: Looks,
    /// How the files looked at the last look, if different. They are read when they look the same again, so that a policy that
    /// is half-written, which may trust nobody, does not count.
    fresh: Option<Looks>,
    /// What is wrong with the files, where they could not be read when they looked like this.
    wrong: Option<String>,
    /// When it was judged: outside of it, what runs is to be judged again by the same policy.
    span: Span,
}

/// How the files of a policy look; `None` for one that is gone.
type Looks = Vec<Option<Stamp>>;

impl Trusted {
    /// Reads the policy in `file`.
    pub(crate) fn read(file: &Path) -> Result<Self, Error> {
        Ok(Trusted { file: file.to_owned(), taken: Mutex::new(Taken::read(file)?) })
    }

    /// The policy as its files are now, for what is deployed now.
    pub(super) fn now(&self) -> Result<Arc<TrustPolicy>, Error> {
        let taken = self.taken();
        if taken.wrong.is_none() && looks(&taken.policy) == taken.looks {
            return Ok(Arc::clone(&taken.policy));
        }
        drop(taken);
        TrustPolicy::read(&self.file).map(Arc::new)
    }

    /// Whether there may be something to do: its files look otherwise than when they were taken, or one of its dates has come. Looks
    /// at their metadata and no more, so that a host at rest needs no thread for it.
    fn is_due(&self) -> bool {
        let taken = self.taken();
        taken.span.is_over() || taken.wrong.is_some() || taken.fresh.is_some() || looks(&taken.policy) != taken.looks
    }

    /// The policy, if what runs is to be judged anew: since it was changed, or since one of its dates has come.
    fn look(&self) -> Option<Arc<TrustPolicy>> {
        let mut taken = self.taken();
        let looks = looks(&taken.policy);
        if looks != taken.looks && taken.fresh.as_ref() != Some(&looks) {
            taken.fresh = Some(looks);
            return None;
        }
        taken.fresh = None;
        if looks == taken.looks && taken.wrong.is_none() {
            let due = taken.span.is_over();
            if due {
                taken.span = taken.policy.span();
            }
            return due.then(|| Arc::clone(&taken.policy));
        }
        match Taken::read(&self.file) {
            Ok(read) => {
                *taken = read;
                Some(Arc::clone(&taken.policy))
            }
            Err(error) => {
                let error = told(&error.into());
                if taken.wrong.as_ref() != Some(&error) {
                    tracing::error!(error, "the trust policy is wrong: what runs stays, and nothing new is deployed");
                }
                (taken.looks, taken.wrong) = (looks, Some(error));
                None
            }
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn read(file: &Path) -> Result<Self, Error> {
        // The first time tells which files there are. They are looked at before the second, so that no change is missed.
        let looks = looks(&TrustPolicy::read(file)?);
        let policy = TrustPolicy::read(file)?;
        Ok(Taken { span: policy.span(), policy: Arc::new(policy), looks, fresh: None, wrong: None })
    }
}

fn looks(policy: &TrustPolicy) -> Looks {
    policy.files().iter().map(|file| Stamp::at(file)).collect()
}

impl Deployer {
    /// Judges what is deployed anew where the trust policy has changed. False when it has not.
    pub(super) async fn look_at_trust(&mut self) -> bool {
        if !self.workshop.trust().is_some_and(Trusted::is_due) {
            return false;
        }
        let looked = self.work(|workshop| Ok(workshop.trust().and_then(Trusted::look))).await;
        let Ok(Some(policy)) = looked else { return false };
        tracing::info!("the trust policy has changed, and what is deployed is judged by it");
        let failed = |entry: &Entry| entry.deployed().is_none().then(|| entry.name().clone());
        let failed = self.functions.now().entries().filter_map(failed).collect();
        self.withdraw(policy).await;
        self.retry(&failed).await;
        true
    }

    /// Takes away what `policy` does not let run any more. Requests that run of it may end.
    async fn withdraw(&mut self, policy: Arc<TrustPolicy>) {
        let deployed = |entry: &Entry| {
            let function = entry.deployed()?.clone();
            let number = entry.revision.as_ref().map(|revision| revision.number);
            let current = self.records.get(entry.name()).map(Record::current);
            Some((function, current.filter(|kept| Some(kept.number) == number).cloned()))
        };
        let deployed: Vec<_> = self.functions.now().entries().filter_map(deployed).collect();
        let judged = self.work(move |workshop| {
            let judge = |(function, kept): (Function, Option<Kept>)| {
                let name = &function.manifest().name;
                // It is served though it could not be recorded, for want of room.
                let kept = kept.with_context(|| format!("nobody knows which bundle `{name}` is from; deploy it again"));
                let instead = kept.and_then(|kept| {
                    let publishers = workshop.judge(&kept, name, &policy)?;
                    // Where it runs for other reasons than before, its status tells the new ones.
                    let same = publishers == function.publishers();
                    if same { Ok(None) } else { workshop.restore(name, &kept).map(Some) }
                });
                (function, instead)
            };
            Ok(deployed.into_iter().map(judge).collect::<Vec<_>>())
        });
        let judged = match judged.await {
            Ok(judged) => judged,
            Err(error) => return tracing::error!(error = told(&error), "what is deployed could not be judged"),
        };
        let now = self.functions.now();
        let entries = judged.into_iter().filter_map(|(function, instead)| {
            let name = &function.manifest().name;
            let answer = match instead {
                Ok(instead) => Answerer::Deployed(instead?),
                Err(error) => {
                    let cause = told(&error);
                    tracing::error!(function = %name, cause, "the function is not trusted any more, and is not served");
                    Answerer::Failed { manifest: Arc::new(function.manifest().clone()), cause }
                }
            };
            Some(Entry { answer, ..now.get(name)?.clone() })
        });
        let entries = entries.collect();
        self.swap(entries, &[]);
    }
}
