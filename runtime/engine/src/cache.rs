//! The response cache: what models gave for inputs, and whole answers to HTTP requests, to be given again.
//!
//! One for all functions, bounded in bytes. Who may have an entry is in its [`Key`], which a function makes of its own name or
//! of a name that it shares (`key.rs`), so nothing that is looked up here can be another's. An entry holds copies, so that it
//! pins no more memory than it counts. What HTTP says of answers is in `freshness.rs`; this file only keeps them.

mod flight;
mod freshness;
mod key;

pub(crate) use freshness::{Conditions, Stored, conditions, is_secret};
pub(crate) use key::{Identity, Key, of_request};

use crate::{budget::Id, inference::cost};
use flight::{Flights, Part, Waited};
use moka::{Expiry, notification::RemovalCause, sync::Cache as Store};
use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};
use torpor_manifest::{FunctionName, ModelCache};
use torpor_telemetry::{CacheMetrics, CacheResult};
use torpor_tensor::NamedTensor;

/// What an entry takes beside its content: its key, its place in the map and in the lists by which the store judges it.
const OVERHEAD: usize = 512;
/// What a header or a tensor takes beside its texts and data.
const PART: usize = 96;
/// The largest share of the cache that one entry may have, so that none pushes out all others.
const SHARE: u64 = 8;
/// Answers of one URI that may be kept for requests that differ in what their `Vary` names.
const VARIANTS: usize = 16;
/// Bytes that are hashed or copied on an async thread. It takes a fraction of a millisecond; more goes where blocking work does.
const INLINE: usize = 512 * 1024;

/// What is kept of all functions. Shared by everybody who looks something up.
pub(crate) struct Cache {
    store: Store<Key, Arc<Entry>>,
    /// Bytes of the largest entry.
    largest: usize,
    metrics: CacheMetrics,
    /// Runs that are under way, which others with the same inputs wait for. Those of one weight only: who may go first does not
    /// wait for one who has to stand back.
    flights: Flights<(Key, NonZeroU32), Outputs>,
}

/// What a model gave.
pub(crate) type Outputs = Arc<Vec<NamedTensor>>;

struct Entry {
    /// What it counts with, in bytes.
    cost: u32,
    made: Instant,
    /// How long after that it may be there.
    lasts: Duration,
    owner: Owner,
    content: Content,
}

enum Content {
    Outputs(Outputs),
    /// Of one URI, newest first.
    Answers(Vec<Arc<Stored>>),
}

/// Whose an entry is, for when they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Those who share it. Nobody knows of them all, so it goes when it is too old.
    Shared,
    /// A function, whichever its revision.
    Function(FunctionName),
    /// One revision of a function: another one may answer otherwise.
    Revision(Id),
}

/// How one granted model's outputs are kept. Lives as long as the function is warm.
pub(crate) struct Keeping {
    /// `None` on a host that has no cache.
    cache: Option<Arc<Cache>>,
    identity: Identity,
    ttl: Duration,
    owner: Owner,
}

/// What the response cache did for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// All that was looked up was there.
    Hit {
        /// For how long it may be given again.
        ttl: Duration,
    },
    /// The work was done.
    Forwarded {
        /// Why it was.
        why: Forwarded,
        /// Whether what came of it is kept.
        stored: bool,
        /// Whether it was done for somebody else, who asked for the same at the same time.
        collapsed: bool,
    },
}

/// Why the cache did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forwarded {
    /// This host has no cache, or the request is of a kind that caches leave alone.
    Bypass,
    /// The request's method is none that caches answer.
    Method,
    /// The request wants no kept answer, or none so old.
    Request,
    /// What was kept is too old.
    Stale,
    /// There were answers for the URI, but for requests with other headers.
    VaryMiss,
    /// There was none for the URI.
    UriMiss,
    /// There was none for the inputs.
    Miss,
}

impl Forwarded {
    /// The word for it in RFC 9211; `stale` and the misses are what it calls them too.
    pub fn as_str(self) -> &'static str {
        match self {
            Forwarded::Bypass => "bypass",
            Forwarded::Method => "method",
            Forwarded::Request => "request",
            Forwarded::Stale => "stale",
            Forwarded::VaryMiss => "vary-miss",
            Forwarded::UriMiss => "uri-miss",
            Forwarded::Miss => "miss",
        }
    }
}

impl CacheStatus {
    pub(crate) fn forwarded(why: Forwarded) -> Self {
        CacheStatus::Forwarded { why, stored: false, collapsed: false }
    }

    /// Of two runs of one call: only what was all there is a hit.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (CacheStatus::Hit { ttl: one }, CacheStatus::Hit { ttl: two }) => CacheStatus::Hit { ttl: one.min(two) },
            (CacheStatus::Hit { .. }, forwarded) | (forwarded, CacheStatus::Hit { .. }) => forwarded,
            (
                CacheStatus::Forwarded { why, stored, collapsed },
                CacheStatus::Forwarded { why: also, stored: other_stored, collapsed: other_collapsed },
            ) => CacheStatus::Forwarded {
                why: why.max(also),
                stored: stored && other_stored,
                collapsed: collapsed && other_collapsed,
            },
        }
    }

    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheStatus::Hit { .. } => "hit",
            CacheStatus::Forwarded { collapsed: true, .. } => "joined",
            CacheStatus::Forwarded { why, .. } => why.as_str(),
        }
    }

    /// What it counts as; `None` where nothing was looked up.
    pub(crate) fn counted(self) -> Option<CacheResult> {
        match self {
            CacheStatus::Hit { .. } => Some(CacheResult::Hit),
            CacheStatus::Forwarded { collapsed: true, .. } => Some(CacheResult::Joined),
            CacheStatus::Forwarded { why: Forwarded::Bypass | Forwarded::Method, .. } => None,
            CacheStatus::Forwarded { .. } => Some(CacheResult::Miss),
        }
    }
}

/// What was found for a request, in the form of `Cache-Status`.
pub(crate) enum Found {
    /// An answer that may be given again for so long.
    Fresh(Arc<Stored>, Duration),
    /// None that may be given.
    Nothing(Forwarded),
}

impl Cache {
    /// A cache of so many bytes; `None` where they are 0.
    pub(crate) fn new(limit: u64, metrics: CacheMetrics) -> Option<Arc<Self>> {
        metrics.limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
        if limit == 0 {
            return None;
        }
        let gone = metrics.clone();
        let store = Store::builder()
            .max_capacity(limit)
            .weigher(|_, entry: &Arc<Entry>| entry.cost)
            .expire_after(Lasts)
            .eviction_listener(move |_, entry: Arc<Entry>, cause| {
                gone.entries.dec();
                gone.bytes.dec_by(entry.cost.into());
                if cause == RemovalCause::Size {
                    gone.evictions.inc();
                }
            })
            .build();
        let largest = usize::try_from((limit / SHARE).min(u32::MAX.into())).unwrap_or(usize::MAX);
        Some(Arc::new(Cache { store, largest, metrics, flights: Flights::default() }))
    }

    /// The outputs for a key: kept ones no older than `keeping` says, those of a run that is under way, or those of `run`, whose
    /// failures are nobody else's. What is dropped half-way leaves the run to the next who waits.
    async fn outputs<E>(
        &self,
        key: Key,
        weight: NonZeroU32,
        keeping: &Keeping,
        run: impl Future<Output = Result<Vec<NamedTensor>, E>>,
    ) -> (CacheStatus, Result<Vec<NamedTensor>, E>) {
        let leader = loop {
            if let Some((outputs, ttl)) = self.kept_outputs(&key, keeping.ttl) {
                return (CacheStatus::Hit { ttl }, Ok(outputs.to_vec()));
            }
            match self.flights.join((key, weight)) {
                Part::Follows(following) => match following.end().await {
                    Waited::Done(outputs) => {
                        let status = CacheStatus::Forwarded { why: Forwarded::Miss, stored: false, collapsed: true };
                        return (status, Ok(outputs.to_vec()));
                    }
                    // Perhaps for a reason of its own, such as its deadline; perhaps for one that everybody has, who then waits
                    // no longer.
                    Waited::Failed => break None,
                    Waited::Gone => {}
                },
                // Whoever led before may have ended after the look at what is kept.
                Part::Leads(leader) => match self.kept_outputs(&key, keeping.ttl) {
                    Some((outputs, ttl)) => {
                        leader.done(Arc::clone(&outputs));
                        return (CacheStatus::Hit { ttl }, Ok(outputs.to_vec()));
                    }
                    None => break Some(leader),
                },
            }
        };
        let ran = run.await;
        let stored = match &ran {
            Ok(outputs) => self.keep_outputs(key, outputs, keeping).await,
            Err(_) => None,
        };
        let status = CacheStatus::Forwarded { why: Forwarded::Miss, stored: stored.is_some(), collapsed: false };
        match (leader, &ran) {
            (Some(leader), Ok(outputs)) => leader.done(stored.unwrap_or_else(|| Arc::new(outputs.clone()))),
            (Some(leader), Err(_)) => leader.failed(),
            (None, _) => {}
        }
        (status, ran)
    }

    fn kept_outputs(&self, key: &Key, ttl: Duration) -> Option<(Outputs, Duration)> {
        let entry = self.store.get(key)?;
        // Of those who share it each has its own idea of what is too old.
        let left = ttl.min(entry.lasts).checked_sub(entry.made.elapsed())?;
        match &entry.content {
            Content::Outputs(outputs) if !left.is_zero() => Some((Arc::clone(outputs), left)),
            _ => None,
        }
    }

    /// Keeps copies of a model's outputs, and returns them; `None` where they are too large, or not worth their place.
    async fn keep_outputs(&self, key: Key, outputs: &[NamedTensor], keeping: &Keeping) -> Option<Outputs> {
        let named = |(name, tensor): &NamedTensor| PART + name.len() + cost(tensor);
        let cost = OVERHEAD + outputs.iter().map(named).sum::<usize>();
        if cost > self.largest {
            return None;
        }
        let outputs = outputs.to_vec();
        // What a backend gave may be a part of something larger.
        let detached = |(name, tensor): &NamedTensor| (name.clone(), tensor.detached());
        let copies = Arc::new(unblocking(cost, move || outputs.iter().map(detached).collect::<Vec<_>>()).await?);
        let content = Content::Outputs(Arc::clone(&copies));
        self.insert(key, cost, keeping.ttl, keeping.owner.clone(), content).then_some(copies)
    }

    /// What there is for a request with these headers.
    pub(crate) fn answer(&self, key: &Key, conditions: &Conditions, headers: &http::HeaderMap) -> Found {
        let entry = self.store.get(key);
        let Some(Content::Answers(answers)) = entry.as_deref().map(|entry| &entry.content) else {
            return Found::Nothing(Forwarded::UriMiss);
        };
        let Some(stored) = answers.iter().find(|stored| stored.serves(headers)) else {
            return Found::Nothing(Forwarded::VaryMiss);
        };
        match stored.left(conditions) {
            Ok(left) => Found::Fresh(Arc::clone(stored), left),
            Err(why) => Found::Nothing(why),
        }
    }

    /// Bytes that the body of an answer may have beside its head, if that is to be kept at all.
    pub(crate) fn room(&self, head: &Stored) -> Option<usize> {
        self.largest.checked_sub(OVERHEAD + head.cost())
    }

    /// Keeps an answer in the place of one for the same requests.
    pub(crate) fn keep_answer(&self, key: Key, revision: Id, answer: Stored) {
        let others = self.store.get(&key);
        let others = match others.as_deref().map(|entry| &entry.content) {
            Some(Content::Answers(answers)) => answers.as_slice(),
            _ => &[],
        };
        let mut answers = vec![Arc::new(answer)];
        let mut cost = OVERHEAD + answers[0].cost();
        for other in others {
            if answers[0].replaces(other) || other.left(&Conditions::default()).is_err() {
                continue;
            }
            if answers.len() == VARIANTS || cost + other.cost() > self.largest {
                break;
            }
            cost += other.cost();
            answers.push(Arc::clone(other));
        }
        let left = |stored: &Arc<Stored>| stored.left(&Conditions::default()).unwrap_or_default();
        let lasts = answers.iter().map(left).max().unwrap_or_default();
        self.insert(key, cost, lasts, Owner::Revision(revision), Content::Answers(answers));
    }

    /// Forgets what is kept under a key.
    pub(crate) fn remove(&self, key: &Key) {
        self.store.invalidate(key);
    }

    /// Forgets everything whose owner has gone. Looks at every entry, so it is nothing for an async thread.
    pub(crate) fn forget(&self, gone: impl Fn(&Owner) -> bool) {
        for (key, entry) in &self.store {
            if gone(&entry.owner) {
                self.store.invalidate(&*key);
            }
        }
        self.tidy();
    }

    /// Gives back what is too old, which else happens when something else is kept.
    pub(crate) fn tidy(&self) {
        self.store.run_pending_tasks();
    }

    /// Whether it was found worth its place.
    fn insert(&self, key: Key, cost: usize, lasts: Duration, owner: Owner, content: Content) -> bool {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        self.metrics.entries.inc();
        self.metrics.bytes.inc_by(cost.into());
        self.store.insert(key, Arc::new(Entry { cost, made: Instant::now(), lasts, owner, content }));
        // The store would let entries come together before it makes room, and they may be large.
        self.store.run_pending_tasks();
        self.store.contains_key(&key)
    }
}

impl Keeping {
    /// How outputs are kept of a model whose answers depend on nothing but `identity` and the inputs.
    pub(crate) fn new(
        cache: Option<Arc<Cache>>,
        identity: Identity,
        function: &FunctionName,
        settings: &ModelCache,
    ) -> Self {
        let owner = match &settings.share {
            Some(_) => Owner::Shared,
            None => Owner::Function(function.clone()),
        };
        Keeping { cache, identity, ttl: settings.ttl, owner }
    }

    /// The outputs for `inputs`, by `run` where they are not to be had otherwise.
    pub(crate) async fn outputs<E, R: Future<Output = Result<Vec<NamedTensor>, E>>>(
        &self,
        inputs: Vec<NamedTensor>,
        weight: NonZeroU32,
        run: impl FnOnce(Vec<NamedTensor>) -> R,
    ) -> (CacheStatus, Result<Vec<NamedTensor>, E>) {
        let bypass = CacheStatus::forwarded(Forwarded::Bypass);
        let Some(cache) = &self.cache else { return (bypass, run(inputs).await) };
        let size = inputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
        // Tensors are shared and not copied here.
        let (identity, hashed) = (self.identity.clone(), inputs.clone());
        match unblocking(size, move || identity.key(&hashed)).await {
            Some(key) => cache.outputs(key, weight, self, run(inputs)).await,
            None => (bypass, run(inputs).await),
        }
    }
}

/// Does work on `size` bytes, here if it is little. `None` only where the host ends.
async fn unblocking<T: Send + 'static>(size: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match size <= INLINE {
        true => Some(work()),
        false => tokio::task::spawn_blocking(work).await.ok(),
    }
}

/// Has each entry last for as long as it says.
struct Lasts;

impl Expiry<Key, Arc<Entry>> for Lasts {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(entry.lasts)
    }

    fn expire_after_update(&self, _: &Key, entry: &Arc<Entry>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.lasts)
    }
}

#[cfg(test)]
mod tests;
