//! What the cache promises of runs, of bytes and of scopes, without a model.

use super::*;
use futures::{future::join_all, poll};
use http::{HeaderMap, Method};
use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::sync::oneshot;
use torpor_bundle::Digest;
use torpor_manifest::ShareName;
use torpor_nn::{BackendKind, Device, OpenOptions, Precision};
use torpor_tensor::{DType, Tensor};

const LIMIT: u64 = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);
const ONE: NonZeroU32 = NonZeroU32::MIN;

fn cache() -> Arc<Cache> {
    Cache::new(LIMIT, CacheMetrics::default()).unwrap()
}

fn bytes(name: &str, data: &[u8]) -> NamedTensor {
    (name.to_owned(), Tensor::new(DType::U8, [data.len() as u64].into(), data.to_vec().into()).unwrap())
}

fn function(name: &str) -> FunctionName {
    name.parse().unwrap()
}

fn identity(name: &str, share: Option<&str>) -> Identity {
    let share = share.map(|share| share.parse::<ShareName>().unwrap());
    let (model, backend) = ((Digest::of(b"model"), None), (BackendKind::Tract, "1"));
    Identity::new(&function(name), share.as_ref(), model, backend, &OpenOptions::default())
}

fn keeping(cache: &Arc<Cache>, name: &str, ttl: Duration) -> Keeping {
    let settings = ModelCache { ttl, share: None };
    Keeping::new(Some(Arc::clone(cache)), identity(name, None), &function(name), &settings)
}

/// A model that doubles bytes, and counts its runs.
#[derive(Default)]
struct Doubles(AtomicUsize);

impl Doubles {
    async fn run(&self, inputs: Vec<NamedTensor>) -> Result<Vec<NamedTensor>, &'static str> {
        self.0.fetch_add(1, Ordering::Relaxed);
        // Others get their turn, as with a real model.
        tokio::task::yield_now().await;
        let doubled: Vec<u8> = inputs[0].1.data().iter().map(|byte| byte * 2).collect();
        Ok(vec![bytes("y", &doubled)])
    }

    fn runs(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

const MISS: CacheStatus = CacheStatus::Forwarded { why: Forwarded::Miss, stored: true, collapsed: false };
const JOINED: CacheStatus = CacheStatus::Forwarded { why: Forwarded::Miss, stored: false, collapsed: true };

#[tokio::test]
async fn those_who_come_together_share_one_run() {
    let (cache, model) = (cache(), Doubles::default());
    let keeping = keeping(&cache, "f", HOUR);
    let call = || keeping.outputs(vec![bytes("x", &[1, 2])], ONE, |inputs| model.run(inputs));
    let answers = join_all((0..5).map(|_| call())).await;
    assert!(answers.iter().all(|(_, outputs)| *outputs == Ok(vec![bytes("y", &[2, 4])])));
    let statuses: Vec<_> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [MISS, JOINED, JOINED, JOINED, JOINED]);
    let (status, outputs) = call().await;
    assert!(matches!(status, CacheStatus::Hit { ttl } if ttl <= HOUR && ttl > HOUR - HOUR / 60), "{status:?}");
    assert_eq!((outputs, model.runs()), (Ok(vec![bytes("y", &[2, 4])]), 1));
}

#[tokio::test]
async fn who_hangs_up_leaves_the_run_to_one_of_those_who_wait() {
    let (cache, model) = (cache(), Doubles::default());
    let keeping = keeping(&cache, "f", HOUR);
    let input = || vec![bytes("x", &[1])];
    let mut followers = pin!(join_all((0..3).map(|_| keeping.outputs(input(), ONE, |inputs| model.run(inputs)))));
    {
        let never = |_| std::future::pending::<Result<Vec<NamedTensor>, &str>>();
        let mut leader = pin!(keeping.outputs(input(), ONE, never));
        assert!(poll!(leader.as_mut()).is_pending() && poll!(followers.as_mut()).is_pending());
        assert_eq!(model.runs(), 0);
    }
    let answers = followers.await;
    assert!(answers.iter().all(|(_, outputs)| *outputs == Ok(vec![bytes("y", &[2])])));
    assert_eq!(model.runs(), 1, "one of them ran, and the others waited for it");
}

#[tokio::test]
async fn a_failure_is_nobody_elses() {
    let (cache, model) = (cache(), Doubles::default());
    let keeping = keeping(&cache, "f", HOUR);
    let input = || vec![bytes("x", &[1])];
    let (fail, fails) = oneshot::channel::<()>();
    let mut leader = pin!(keeping.outputs(input(), ONE, async |_| {
        let _ = fails.await;
        Err("its own fault")
    }));
    let mut follower = pin!(keeping.outputs(input(), ONE, |inputs| model.run(inputs)));
    assert!(poll!(leader.as_mut()).is_pending() && poll!(follower.as_mut()).is_pending());
    drop(fail);
    let (status, outputs) = leader.await;
    assert_eq!((status, outputs), (CacheStatus::forwarded(Forwarded::Miss), Err("its own fault")));
    assert_eq!(follower.await, (MISS, Ok(vec![bytes("y", &[2])])));
    // Nothing of it is kept either: what is there now is the other's.
    assert!(matches!(keeping.outputs(input(), ONE, |inputs| model.run(inputs)).await.0, CacheStatus::Hit { .. }));
    assert_eq!(model.runs(), 1);
}

#[tokio::test]
async fn who_may_go_first_does_not_wait_for_who_stands_back() {
    let (cache, model) = (cache(), Doubles::default());
    let keeping = keeping(&cache, "f", HOUR);
    let never = |_| std::future::pending::<Result<Vec<NamedTensor>, &str>>();
    let mut low = pin!(keeping.outputs(vec![bytes("x", &[1])], ONE, never));
    assert!(poll!(low.as_mut()).is_pending());
    let sixteen = NonZeroU32::new(16).unwrap();
    let high = keeping.outputs(vec![bytes("x", &[1])], sixteen, |inputs| model.run(inputs)).await;
    assert_eq!(high, (MISS, Ok(vec![bytes("y", &[2])])));
}

#[test]
fn a_key_is_of_all_that_an_answer_depends_on_and_of_whose_it_is() {
    let inputs = [bytes("x", &[1])];
    let mut keys = vec![
        identity("f", None).key(&inputs),
        identity("g", None).key(&inputs),
        identity("f", Some("f")).key(&inputs),
        identity("f", Some("g")).key(&inputs),
        identity("f", None).key(&[bytes("x", &[2])]),
    ];
    let default = OpenOptions::default();
    let of = |model, backend, options: &OpenOptions| {
        Identity::new(&function("f"), None, model, backend, options).key(&inputs)
    };
    let (model, other) = (Digest::of(b"model"), Digest::of(b"other"));
    let tract = (BackendKind::Tract, "1");
    keys.extend([
        of((other, None), tract, &default),
        of((model, Some(other)), tract, &default),
        of((model, None), (BackendKind::OpenVino, "1"), &default),
        of((model, None), (BackendKind::Tract, "2"), &default),
        of((model, None), tract, &OpenOptions { device: Device::Gpu, ..default }),
        of((model, None), tract, &OpenOptions { precision: Precision::F16, ..default }),
    ]);
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "{index}");
    }
    // Of those who share, nobody's own name counts.
    assert_eq!(identity("g", Some("f")).key(&inputs), keys[2]);
    assert_eq!(of((model, None), tract, &default), keys[0]);
}

#[tokio::test]
async fn each_has_its_own_idea_of_what_is_too_old() {
    let (cache, model) = (cache(), Doubles::default());
    let share = |ttl| {
        let settings = ModelCache { ttl, share: Some("all".parse().unwrap()) };
        Keeping::new(Some(Arc::clone(&cache)), identity("f", Some("all")), &function("f"), &settings)
    };
    let (patient, strict) = (share(HOUR), share(Duration::from_nanos(1)));
    let call =
        async |keeping: &Keeping| keeping.outputs(vec![bytes("x", &[1])], ONE, |inputs| model.run(inputs)).await.0;
    assert_eq!(call(&patient).await, MISS);
    assert!(matches!(call(&patient).await, CacheStatus::Hit { .. }));
    assert!(matches!(call(&strict).await, CacheStatus::Forwarded { why: Forwarded::Miss, .. }));
    assert_eq!(model.runs(), 2);
}

#[tokio::test]
async fn bytes_are_bounded_and_counted() {
    let cache = cache();
    let keeping = keeping(&cache, "f", HOUR);
    let give = |bytes: Vec<NamedTensor>| async move { Ok::<_, ()>(bytes) };
    for index in 0..500_u32 {
        let length = usize::try_from(index % 100).unwrap() * 1000;
        let output = vec![bytes("y", &vec![0; length])];
        let (status, _) = keeping.outputs(vec![bytes("x", &index.to_le_bytes())], ONE, |_| give(output)).await;
        assert!(matches!(status, CacheStatus::Forwarded { why: Forwarded::Miss, .. }));
        assert!(cache.store.weighted_size() <= LIMIT);
    }
    let counted = u64::try_from(cache.metrics.bytes.get()).unwrap();
    let held: u64 = cache.store.iter().map(|(_, entry)| u64::from(entry.cost)).sum();
    assert_eq!((counted, counted), (held, cache.store.weighted_size()));
    assert_eq!(u64::try_from(cache.metrics.entries.get()).unwrap(), cache.store.entry_count());
    assert!(counted > LIMIT / 2 && cache.metrics.evictions.get() > 0, "{counted}");
    // One that is too large is given, and not kept.
    let large = vec![0; usize::try_from(LIMIT / SHARE).unwrap()];
    let output = vec![bytes("y", &large)];
    let (status, _) = keeping.outputs(vec![bytes("x", b"large")], ONE, |_| give(output)).await;
    assert_eq!(status, CacheStatus::forwarded(Forwarded::Miss));
}

#[tokio::test]
async fn what_is_kept_holds_nothing_else_in_memory() {
    let cache = cache();
    let keeping = keeping(&cache, "f", HOUR);
    let part = bytes::Bytes::from(vec![1; 1 << 16]).slice(8..16);
    let at = part.as_ptr();
    let output = || vec![("y".to_owned(), Tensor::new(DType::U8, [8].into(), part.clone()).unwrap())];
    let call = || keeping.outputs(vec![bytes("x", &[1])], ONE, |_| std::future::ready(Ok::<_, ()>(output())));
    assert_eq!(call().await.1.unwrap()[0].1.data().as_ptr(), at);
    let (first, second) = (call().await.1.unwrap(), call().await.1.unwrap());
    assert_ne!(first[0].1.data().as_ptr(), at);
    assert_eq!(first[0].1.data().as_ptr(), second[0].1.data().as_ptr(), "a hit copies nothing");
}

#[tokio::test]
async fn what_goes_takes_its_own_entries_along() {
    let (cache, model) = (cache(), Doubles::default());
    for name in ["goes", "stays"] {
        let keeping = keeping(&cache, name, HOUR);
        assert_eq!(keeping.outputs(vec![bytes("x", &[1])], ONE, |inputs| model.run(inputs)).await.0, MISS);
    }
    cache.forget(|owner| *owner == Owner::Function(function("goes")));
    for (name, hit) in [("goes", false), ("stays", true)] {
        let keeping = keeping(&cache, name, HOUR);
        let (status, _) = keeping.outputs(vec![bytes("x", &[1])], ONE, |inputs| model.run(inputs)).await;
        assert_eq!(matches!(status, CacheStatus::Hit { .. }), hit, "{name}");
    }
    assert_eq!(cache.metrics.entries.get(), 2);
    assert_eq!(cache.metrics.evictions.get(), 0, "nothing went for want of room");
}

#[tokio::test]
async fn a_host_without_a_cache_runs_everything() {
    assert!(Cache::new(0, CacheMetrics::default()).is_none());
    let (settings, model) = (ModelCache { ttl: HOUR, share: None }, Doubles::default());
    let keeping = Keeping::new(None, identity("f", None), &function("f"), &settings);
    for runs in 1..3 {
        let (status, _) = keeping.outputs(vec![bytes("x", &[1])], ONE, |inputs| model.run(inputs)).await;
        assert_eq!((status, model.runs()), (CacheStatus::forwarded(Forwarded::Bypass), runs));
    }
}

/// An answer to a request that had `value` in the header that matters.
fn answer(value: &str, body: &str) -> (HeaderMap, Stored) {
    let headers = HeaderMap::from_iter([(http::header::ACCEPT, value.parse().unwrap())]);
    let response = http::Response::builder().header("cache-control", "max-age=60").header("vary", "accept");
    let (head, ()) = response.body(()).unwrap().into_parts();
    let stored = Stored::head(&headers, &head, std::time::SystemTime::UNIX_EPOCH).unwrap();
    (headers, stored.with_body(body.as_bytes().to_vec()))
}

#[test]
fn a_uri_has_an_answer_for_each_kind_of_request_up_to_a_bound() {
    let cache = cache();
    let key = of_request(1, &"http://host/path".parse().unwrap());
    let body = |value: &str| {
        let (headers, _) = answer(value, "");
        match cache.answer(&key, &Conditions::default(), &headers) {
            Found::Fresh(stored, _) => Ok(stored.answer(&Method::GET, &HeaderMap::new()).into_body()),
            Found::Nothing(why) => Err(why),
        }
    };
    assert_eq!(body("a"), Err(Forwarded::UriMiss));
    cache.keep_answer(key, 1, answer("a", "old").1);
    assert_eq!(body("b"), Err(Forwarded::VaryMiss));
    cache.keep_answer(key, 1, answer("b", "other").1);
    cache.keep_answer(key, 1, answer("a", "new").1);
    assert_eq!((body("a").unwrap(), body("b").unwrap()), ("new".into(), "other".into()));
    for index in 0..2 * VARIANTS {
        cache.keep_answer(key, 1, answer(&index.to_string(), "more").1);
    }
    assert_eq!((body("a"), body(&(2 * VARIANTS - 1).to_string())), (Err(Forwarded::VaryMiss), Ok("more".into())));
    assert_eq!(cache.metrics.entries.get(), 1);
    cache.remove(&key);
    assert_eq!(body("31"), Err(Forwarded::UriMiss));
}

#[test]
fn one_answer_of_two_kinds_of_runs_is_told_as_the_worse() {
    let hit = |seconds| CacheStatus::Hit { ttl: Duration::from_secs(seconds) };
    assert_eq!(hit(3).and(hit(2)), hit(2));
    assert_eq!(hit(3).and(MISS), MISS);
    assert_eq!(JOINED.and(MISS), CacheStatus::forwarded(Forwarded::Miss));
    assert_eq!(MISS.and(MISS), MISS);
}
