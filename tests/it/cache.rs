//! The response cache: what models gave and what functions answered, given again to those who may have it, and to nobody else.

use crate::fixture::{Manifest, Raw, Reply, Stage, TestHost, cli, forever, until};
use http::{Method, Request};
use serde_json::{Value, json};
use std::{collections::BTreeMap, thread};

fn lasting(manifest: Manifest) -> Manifest {
    manifest.set("scale.idle-timeout", forever())
}

/// `add` with its model's outputs kept for an hour.
fn cached(manifest: Manifest) -> Manifest {
    lasting(manifest).set("model.model.cache.ttl", "1h")
}

fn sum(first: f32) -> Value {
    let row = |name, first: f32| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [first, 2, 3, 4] });
    json!({ "inputs": [row("x", first), row("y", 1.0)] })
}

/// Asks `function` to add, and says what the cache did.
#[track_caller]
fn added(host: &TestHost, function: &str, first: f32) -> String {
    let reply = host.infer(function, &sum(first)).status(200);
    assert_eq!(reply.json()["outputs"][0]["data"], json!([first + 1.0, 4.0, 6.0, 8.0]));
    reply.header("cache-status").to_owned()
}

#[track_caller]
fn hit(status: &str) {
    let seconds = status.strip_prefix("torpor; hit; ttl=").and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(seconds.is_some(), "no hit: {status:?}");
}

const STORED: &str = "torpor; fwd=miss; stored";

/// The samples of the cache, by name and labels.
fn metrics(host: &TestHost) -> BTreeMap<String, u64> {
    let text = host.admin("/metrics").status(200).text();
    let samples = text.lines().filter(|line| line.starts_with("torpor_cache_"));
    samples
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

#[track_caller]
fn requests(host: &TestHost, function: &str, cache: &str, result: &str) -> u64 {
    let name = format!(r#"torpor_cache_requests_total{{function="{function}",cache="{cache}",result="{result}"}}"#);
    let metrics = metrics(host);
    *metrics.get(&name).unwrap_or_else(|| panic!("no `{name}` in {metrics:#?}"))
}

#[test]
fn the_same_inputs_are_not_computed_twice() {
    let host = TestHost::builder().function("add", cached).start();
    assert_eq!(added(&host, "add", 1.0), STORED);
    hit(&added(&host, "add", 1.0));
    assert_eq!(added(&host, "add", 2.0), STORED, "other inputs");
    // The order of inputs makes no difference.
    let mut turned = sum(1.0);
    turned["inputs"].as_array_mut().expect("a list").reverse();
    hit(host.infer("add", &turned).status(200).header("cache-status"));
    let counted = ["hit", "miss", "joined"].map(|result| requests(&host, "add", "model", result));
    assert_eq!(counted, [2, 2, 0]);
    let all = metrics(&host);
    assert_eq!(all["torpor_cache_entries"], 2);
    let bytes = all["torpor_cache_bytes"];
    assert!((32..10_000).contains(&bytes), "{bytes}");
    assert_eq!((all["torpor_cache_evictions_total"], all["torpor_cache_limit_bytes"]), (0, 64 << 20));

    let traces = host.admin("/functions/add/traces").status(200).json();
    let told: Vec<_> = traces.as_array().expect("a list").iter().map(|trace| trace["model_cache"].clone()).collect();
    assert_eq!(told, ["miss", "hit", "miss", "hit"].map(Value::from));
    let drawn = cli::run(["trace", "add", "--admin", &host.admin.to_string()]).ok().stdout;
    assert!(drawn.ends_with("\nmodel cache: hit\n"), "{drawn}");
}

#[test]
fn what_is_kept_outlives_sleep_and_revisions_but_not_its_function() {
    let host =
        TestHost::builder().function("add", |manifest| cached(manifest).set("scale.idle-timeout", "10ms")).start();
    assert_eq!(added(&host, "add", 1.0), STORED);
    host.until_state("add", "Cold");
    hit(&added(&host, "add", 1.0));
    let tell = |command: &str, what: &std::ffi::OsStr| {
        cli::finish(cli::command().arg(command).arg(what).arg("--admin").arg(host.admin.to_string())).ok();
    };
    let file = host.stage().path("manifests/add.toml");
    let manifest = Manifest::parse(&std::fs::read_to_string(&file).expect("the manifest is there"));
    host.stage().manifest(&manifest.set("scale.queue", 7));
    tell("deploy", file.as_ref());
    hit(&added(&host, "add", 1.0));
    tell("undeploy", "add".as_ref());
    until("nothing is kept of it", || (metrics(&host)["torpor_cache_entries"] == 0).then_some(()));
    tell("deploy", file.as_ref());
    assert_eq!(added(&host, "add", 1.0), STORED);
}

#[test]
fn only_those_who_share_by_name_have_it_in_common() {
    let share = |name: &'static str| move |manifest: Manifest| cached(manifest).set("model.model.cache.share", name);
    let host = TestHost::builder()
        .function("add", cached)
        .another("add-too", "add", cached)
        .another("one", "add", share("sums"))
        .another("two", "add", share("sums"))
        // A name that is also a function's.
        .another("three", "add", share("add"))
        .another("plain", "add", lasting)
        .start();
    for function in ["add", "add-too", "one", "three"] {
        assert_eq!(added(&host, function, 1.0), STORED, "{function}");
    }
    for function in ["add", "add-too", "one", "two", "three"] {
        hit(&added(&host, function, 1.0));
    }
    assert_eq!(added(&host, "plain", 1.0), "", "who asks for no cache has none, and says nothing of it");
}

#[test]
fn outputs_grow_too_old() {
    let host =
        TestHost::builder().function("add", |manifest| cached(manifest).set("model.model.cache.ttl", "20ms")).start();
    added(&host, "add", 1.0);
    let misses = || requests(&host, "add", "model", "miss");
    until("it was too old", || {
        added(&host, "add", 1.0);
        (misses() > 1).then_some(())
    });
}

#[test]
fn a_refusal_is_not_kept() {
    let host = TestHost::builder().function("add", cached).start();
    let rows =
        |name, rows: usize| json!({ "name": name, "shape": [rows, 4], "datatype": "FP32", "data": vec![1; 4 * rows] });
    // Each fits what is declared, and the model cannot add them.
    let unequal = json!({ "inputs": [rows("x", 2), rows("y", 3)] });
    for _ in 0..2 {
        assert_eq!(host.infer("add", &unequal).status(400).header("cache-status"), "");
    }
    assert_eq!(requests(&host, "add", "model", "miss"), 2);
    assert_eq!(metrics(&host)["torpor_cache_entries"], 0);
}

#[test]
fn those_who_ask_at_the_same_time_share_one_run() {
    const CALLERS: u64 = 8;
    let host =
        TestHost::builder().function("slow", |manifest| cached(manifest).set("limits.deadline", forever())).start();
    let request = json!({ "inputs": [{ "name": "rounds", "shape": [1], "datatype": "INT64", "data": [10_000] }] });
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| host.infer("slow", &request).status(200));
        }
    });
    let [hits, misses, joined] = ["hit", "miss", "joined"].map(|result| requests(&host, "slow", "model", result));
    // Who comes when the run has ended finds what came of it.
    assert_eq!((misses, hits + joined), (1, CALLERS - 1), "{hits} hits, {joined} joined");
}

#[test]
fn a_host_without_a_cache_says_so() {
    let stage = TestHost::builder().flag("--response-cache").flag("0").function("add", cached);
    let host = stage.another("probe", "probe", kept).start();
    for _ in 0..2 {
        assert_eq!(added(&host, "add", 1.0), "torpor; fwd=bypass");
        assert_eq!(said(&host, MAX_AGE, "x", &[]), ("x".into(), "torpor; fwd=bypass".into()));
    }
    let all = metrics(&host);
    assert_eq!((all.len(), all["torpor_cache_limit_bytes"], all["torpor_cache_entries"]), (4, 0, 0), "{all:#?}");
}

/// `probe` with whole answers kept.
fn kept(manifest: Manifest) -> Manifest {
    lasting(manifest).set("limits.deadline", forever()).set("trigger.http.cache.body", "1KiB")
}

fn probe() -> Stage {
    TestHost::builder().function("probe", kept)
}

const MAX_AGE: &str = "headers=cache-control:%20max-age=3600";

/// Asks for `words`, with a query that says what headers the answer is to have.
fn ask(host: &TestHost, method: Method, query: &str, words: &str, headers: &[(&str, &str)]) -> Reply {
    let request = Request::builder().method(method).uri(format!("/fn/probe/say?{query}")).header("x-say", words);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    host.send(request.body(Vec::new()).expect("a request"))
}

/// What a `GET` gets, and what the cache did.
#[track_caller]
fn said(host: &TestHost, query: &str, words: &str, headers: &[(&str, &str)]) -> (String, String) {
    let reply = ask(host, Method::GET, query, words, headers).status(200);
    (reply.text(), reply.header("cache-status").to_owned())
}

const URI_STORED: &str = "torpor; fwd=uri-miss; stored";

#[test]
fn a_whole_answer_is_given_again_without_waking_the_function() {
    let host =
        TestHost::builder().function("probe", |manifest| kept(manifest).set("scale.idle-timeout", "10ms")).start();
    assert_eq!(said(&host, MAX_AGE, "first", &[]), ("first".into(), URI_STORED.into()));
    host.until_state("probe", "Cold");
    let reply = ask(&host, Method::GET, MAX_AGE, "second", &[]).status(200);
    hit(reply.header("cache-status"));
    assert_eq!((reply.text(), reply.header("content-type")), ("first".into(), "application/octet-stream"));
    assert!(reply.header("age").parse::<u64>().is_ok() && !reply.header("date").is_empty(), "{:?}", reply.headers);
    let head = ask(&host, Method::HEAD, MAX_AGE, "third", &[]).status(200);
    hit(head.header("cache-status"));
    assert_eq!((head.header("content-length"), head.body.len()), ("5", 0));
    let status = host.status("probe");
    assert_eq!((&status["state"], &status["wakes"], &status["calls"]), (&json!("Cold"), &json!(1), &json!(3)));
    let counted = ["hit", "miss", "joined"].map(|result| requests(&host, "probe", "http", result));
    assert_eq!(counted, [2, 1, 0]);
    let traces = host.admin("/functions/probe/traces").status(200).json();
    assert_eq!((&traces[0]["http_cache"], &traces[2]["http_cache"]), (&json!("uri-miss"), &json!("hit")));
    assert_eq!(traces[2]["outcome"], "answered");
    // Of another path or host nothing is known.
    assert_eq!(said(&host, &format!("{MAX_AGE}&other"), "other", &[]).1, URI_STORED);
    assert_eq!(said(&host, MAX_AGE, "elsewhere", &[("host", "elsewhere")]), ("elsewhere".into(), URI_STORED.into()));
}

#[test]
fn what_does_not_say_that_it_may_be_kept_is_not() {
    let host = probe().start();
    let queries = [
        "headers=",
        "headers=cache-control:%20no-store",
        "headers=cache-control:%20max-age=60,%20private",
        "headers=cache-control:%20max-age=60,%20no-cache",
        "headers=cache-control:%20max-age=60%0Aset-cookie:%20a=b",
        "headers=cache-control:%20max-age=60%0Avary:%20*",
        "headers=cache-control:%20max-age=0",
        "headers=expires:%200",
        "headers=last-modified:%20Mon,%2001%20Jan%202001%2000:00:00%20GMT",
    ];
    for query in queries {
        for words in ["one", "two"] {
            assert_eq!(said(&host, query, words, &[]), (words.into(), "torpor; fwd=uri-miss".into()), "{query}");
        }
    }
    // With a password it may be another one's, unless the function says otherwise.
    let password = [("authorization", "Basic x")];
    assert_eq!(said(&host, MAX_AGE, "mine", &password).1, "torpor; fwd=uri-miss");
    assert_eq!(said(&host, &format!("{MAX_AGE},%20public"), "everybody's", &password).1, URI_STORED);
    assert_eq!(requests(&host, "probe", "http", "hit"), 0);
}

#[test]
fn an_answer_is_for_requests_like_the_one_that_it_answered() {
    let host = probe().start();
    let query = &format!("{MAX_AGE}%0Avary:%20accept-language");
    let (english, german) = ([("accept-language", "en")], [("accept-language", "de")]);
    assert_eq!(said(&host, query, "hello", &english).1, URI_STORED);
    assert_eq!(said(&host, query, "hallo", &german), ("hallo".into(), "torpor; fwd=vary-miss; stored".into()));
    for (headers, words) in [(&english, "hello"), (&german, "hallo")] {
        let (text, status) = said(&host, query, "other", headers);
        hit(&status);
        assert_eq!(text, words);
    }
}

#[test]
fn a_client_says_what_it_has_and_what_it_wants() {
    let host = probe().start();
    let query = &format!("{MAX_AGE}%0Aetag:%20%22a%22");
    assert_eq!(said(&host, query, "one", &[]).1, URI_STORED);
    let known = ask(&host, Method::GET, query, "two", &[("if-none-match", "\"a\"")]).status(304);
    hit(known.header("cache-status"));
    assert_eq!((known.body.len(), known.header("etag")), (0, "\"a\""));
    hit(&said(&host, query, "two", &[("if-none-match", "\"b\"")]).1);
    // What it wants anew is made anew, and is there for the others.
    for wants in ["no-cache", "max-age=0"] {
        let anew = said(&host, query, wants, &[("cache-control", wants)]);
        assert_eq!(anew, (wants.into(), "torpor; fwd=request; stored".into()));
        assert_eq!(said(&host, query, "three", &[]).0, wants);
    }
    let secret = said(&host, query, "secret", &[("cache-control", "no-store")]);
    assert_eq!(secret, ("secret".into(), "torpor; fwd=request".into()));
    assert_eq!(said(&host, query, "four", &[]).0, "max-age=0");
    for other in [("range", "bytes=0-1"), ("if-match", "\"a\"")] {
        assert_eq!(said(&host, query, "part", &[other]), ("part".into(), "torpor; fwd=bypass".into()));
    }
}

#[test]
fn a_change_makes_what_was_kept_wrong() {
    let host = probe().start();
    assert_eq!(said(&host, MAX_AGE, "old", &[]).1, URI_STORED);
    // One that fails has changed nothing.
    let failed = ask(&host, Method::POST, &format!("{MAX_AGE}&status=500"), "x", &[]).status(500);
    assert_eq!(failed.header("cache-status"), "torpor; fwd=method");
    hit(&said(&host, MAX_AGE, "x", &[]).1);
    ask(&host, Method::PUT, MAX_AGE, "changed", &[]).status(200);
    assert_eq!(said(&host, MAX_AGE, "new", &[]), ("new".into(), URI_STORED.into()));
}

#[test]
fn only_whole_answers_of_a_bounded_length_are_kept() {
    let host = probe().start();
    for how in ["", "&stream=1"] {
        let fits = &format!("{MAX_AGE}&times=1024{how}");
        assert_eq!(said(&host, fits, "x", &[]).1, URI_STORED);
        let (text, status) = said(&host, fits, "y", &[]);
        hit(&status);
        assert_eq!(text, "x".repeat(1024));
        let large = &format!("{MAX_AGE}&times=1025{how}");
        for words in ["x", "y"] {
            let (text, status) = said(&host, large, words, &[]);
            assert_eq!(text, words.repeat(1025));
            assert!(!status.contains("hit"), "{status}");
        }
    }
    // One that breaks off is not whole, though it begins as one that will be kept.
    let request =
        format!("GET /fn/probe/say-and-break?stream=1&delay=50&{MAX_AGE} HTTP/1.1\r\nhost: x\r\nx-say: half\r\n\r\n");
    for _ in 0..2 {
        let broken = Raw::connect(host.data).send(&request).rest();
        assert!(broken.contains("half") && broken.contains(URI_STORED), "{broken}");
    }
}

#[test]
fn another_revision_answers_for_itself() {
    let host = probe().start();
    assert_eq!(said(&host, MAX_AGE, "old", &[]).1, URI_STORED);
    let file = host.stage().path("manifests/probe.toml");
    let manifest = Manifest::parse(&std::fs::read_to_string(&file).expect("the manifest is there"));
    host.stage().manifest(&manifest.set("scale.queue", 7));
    cli::finish(cli::command().arg("deploy").arg(&file).arg("--admin").arg(host.admin.to_string())).ok();
    assert_eq!(said(&host, MAX_AGE, "new", &[]), ("new".into(), URI_STORED.into()));
    until("what the other one had is gone", || (metrics(&host)["torpor_cache_entries"] == 1).then_some(()));
}

#[test]
fn functions_have_no_answers_in_common() {
    let host = probe().another("other", "probe", kept).start();
    assert_eq!(said(&host, MAX_AGE, "mine", &[]).1, URI_STORED);
    let request = Request::get(format!("/fn/other/say?{MAX_AGE}")).header("x-say", "its own").body(Vec::new());
    let reply = host.send(request.expect("a request")).status(200);
    assert_eq!((reply.text(), reply.header("cache-status")), ("its own".into(), URI_STORED));
}

#[test]
fn a_core_module_has_no_answers_to_keep() {
    let stage = TestHost::builder().function("command", |manifest| manifest.set("trigger.http.cache.body", "1KiB"));
    let host = stage.start();
    let cause = host.status("command")["cause"].as_str().expect("a cause").to_owned();
    assert!(cause.contains("`cache` in `[trigger.http]`") && cause.contains("leave it out"), "{cause}");
}
