//! Rules with thresholds, keys with dates, and revocations: what counts, and what a refusal says is missing.

use crate::fixture::{Fixture, MODEL, MODULE};
use proptest::prelude::*;
use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};
use torpor_bundle::{Digest, Error, TrustPolicy, inspect, inspect_with, verify_file};

/// A table of a policy: the key file `key` of the publisher `name`, with more lines.
fn publisher(name: &str, key: &str, more: &str) -> String {
    format!("[[publisher]]\nname = \"{name}\"\nkey = \"{key}.pub.pem\"\nfunctions = [\"*\"]\n{more}\n")
}

fn rule(functions: &str, publishers: &str, threshold: usize) -> String {
    format!("[[rule]]\nfunctions = [{functions}]\npublishers = [{publishers}]\nthreshold = {threshold}\n")
}

/// A bundle that the first `signed` of the keys `acme`, `audit` and `vision` have signed.
fn signed_by(signed: usize) -> Fixture {
    let fixture = Fixture::new();
    fixture.pack();
    for (index, name) in ["acme", "audit", "vision"].into_iter().enumerate() {
        fixture.keygen(name);
        if index < signed {
            fixture.sign(name);
        }
    }
    fixture
}

/// The three, and two of them for `echo`.
fn two_of_three() -> String {
    let three: String = ["acme", "audit", "vision"].into_iter().map(|name| publisher(name, name, "")).collect();
    three + &rule("\"ech*\"", "\"acme\", \"audit\", \"vision\"", 2)
}

#[test]
fn two_of_three_are_needed_and_named() {
    let fixture = signed_by(1);
    let policy = fixture.trust(&two_of_three());
    let error = fixture.verify(&policy).unwrap_err();
    assert!(matches!(error, Error::Threshold { threshold: 2, counted: 1, .. }) && error.is_refusal(), "{error}");
    let text = error.to_string();
    assert!(text.contains("asks for 2 of `acme`, `audit` and `vision`, but counts 1"), "{text}");
    assert!(text.contains("`acme` signed, `audit` did not sign, `vision` did not sign"), "{text}");
    assert_eq!(fixture.stored(), 0);

    fixture.sign("audit");
    assert_eq!(fixture.verify(&policy).unwrap().publishers, ["acme", "audit"]);
    let report = verify_file(&fixture.bundle(), &policy, Some(&"echo".parse().unwrap())).unwrap();
    assert_eq!((report.rules.len(), report.rules[0].threshold), (1, 2));
    assert_eq!(report.publishers, ["acme", "audit"]);
}

#[test]
fn a_rule_is_for_the_functions_that_it_names() {
    let fixture = signed_by(1);
    let policy = fixture.trust(&two_of_three());
    let report = verify_file(&fixture.bundle(), &policy, Some(&"other".parse().unwrap())).unwrap();
    assert!(report.rules.is_empty());
    // Without a function no rule is looked at.
    assert!(verify_file(&fixture.bundle(), &policy, None).unwrap().rules.is_empty());
}

#[test]
fn every_rule_about_a_function_must_be_met() {
    let fixture = signed_by(2);
    let both = two_of_three() + &rule("\"*\"", "\"vision\"", 1);
    let error = fixture.verify(&fixture.trust(&both)).unwrap_err();
    assert!(matches!(error, Error::Threshold { threshold: 1, counted: 0, .. }), "{error}");
    fixture.sign("vision");
    fixture.verify(&fixture.trust(&both)).unwrap();
}

#[test]
fn two_keys_of_one_publisher_count_once() {
    let fixture = signed_by(2);
    let text = publisher("acme", "acme", "")
        + &publisher("acme", "audit", "")
        + &publisher("other", "vision", "")
        + &rule("\"*\"", "\"acme\", \"other\"", 2);
    let error = fixture.verify(&fixture.trust(&text)).unwrap_err();
    assert!(matches!(error, Error::Threshold { threshold: 2, counted: 1, .. }), "{error}");
    fixture.sign("vision");
    assert_eq!(fixture.verify(&fixture.trust(&text)).unwrap().publishers, ["acme", "other"]);
}

#[test]
fn a_refusal_says_why_signatures_do_not_count() {
    let fixture = signed_by(3);
    let text = publisher("acme", "acme", "revoked = true")
        + &publisher("audit", "audit", "expires = 2020-01-01")
        + &publisher("vision", "vision", "").replace("\"*\"", "\"vision-*\"")
        + &rule("\"*\"", "\"acme\", \"audit\", \"vision\"", 1);
    let error = fixture.verify(&fixture.trust(&text)).unwrap_err().to_string();
    for what in [
        "`acme` signed with a key that is revoked",
        "`audit` signed with a key that expired at 2020-01-01T00:00:00Z",
        "`vision` signed with a key that may sign only for `vision-*`",
    ] {
        assert!(error.contains(what), "{error}");
    }
}

/// Noon of a day of January 2030.
fn day(day: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000 + (day - 1) * 86_400 + 43_200)
}

#[test]
fn a_key_counts_between_its_dates() {
    let fixture = signed_by(1);
    let policy = fixture.trust(&publisher("acme", "acme", "valid-from = 2030-01-10\nexpires = 2030-01-20T12:00:00Z"));
    let on = |moment| fixture.verify(&policy.clone().at(moment));
    let error = on(day(9)).unwrap_err();
    assert!(matches!(&error, Error::NotYetValid { from, .. } if from == "2030-01-10T00:00:00Z"), "{error}");
    assert!(error.is_refusal());
    assert_eq!(on(day(10)).unwrap().publishers, ["acme"]);
    on(day(20) - Duration::from_secs(1)).unwrap();
    let error = on(day(20)).unwrap_err();
    assert!(matches!(&error, Error::Expired { expires, .. } if expires == "2030-01-20T12:00:00Z"), "{error}");
    assert!(error.is_refusal());
    // The clock of this machine is asked where nothing else is said.
    let past = fixture.trust(&publisher("acme", "acme", "expires = 2020-01-01"));
    assert!(matches!(fixture.verify(&past), Err(Error::Expired { .. })));
}

/// The way of `docs/bundles.md`: both keys count for a while, bundles are signed again in it, and then the old key is past.
#[test]
fn a_key_is_rotated_without_a_gap() {
    let fixture = signed_by(1);
    let text =
        publisher("acme", "acme", "expires = 2030-01-20") + &publisher("acme", "audit", "valid-from = 2030-01-10");
    let policy = fixture.trust(&text);
    let on = |moment| fixture.verify(&policy.clone().at(moment)).map(|bundle| bundle.publishers.clone());
    assert_eq!(on(day(5)).unwrap(), ["acme"]);
    assert_eq!(on(day(15)).unwrap(), ["acme"]);
    assert!(matches!(on(day(25)), Err(Error::Expired { .. })), "the old signature is past, and the new one not made");
    // The old signature stays beside the new one, and the digest is the same.
    fixture.sign("audit");
    for moment in [day(5), day(15), day(25)] {
        assert_eq!(on(moment).unwrap(), ["acme"]);
    }
    let report = inspect_with(&fixture.bundle(), Some(&policy.clone().at(day(25))), &()).unwrap();
    let mut counts: Vec<_> = report.signatures.iter().map(|signature| signature.counts).collect();
    counts.sort();
    assert_eq!(counts, [Some(false), Some(true)]);
}

#[test]
fn revoked_content_is_refused_whoever_signed_it() {
    let fixture = signed_by(3);
    let digest = inspect(&fixture.bundle()).unwrap().digest;
    for revoked in [digest, Digest::of(MODULE), Digest::of(MODEL)] {
        let entry = format!("[[revoked]]\ndigest = \"{revoked}\"\nreason = \"it answers wrongly\"\n");
        let policy = fixture.trust(&(two_of_three() + &entry));
        let error = fixture.verify(&policy).unwrap_err();
        assert!(matches!(&error, Error::RevokedContent { digest, .. } if *digest == revoked), "{error}");
        assert!(error.is_refusal() && error.to_string().contains("it answers wrongly"), "{error}");
        assert_eq!(fixture.stored(), 0);
    }
    let other = "[[revoked]]\ndigest = \"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";
    fixture.verify(&fixture.trust(&(two_of_three() + other))).unwrap();
}

#[test]
fn an_inspection_names_who_signed() {
    let fixture = signed_by(3);
    let text = publisher("acme", "acme", "expires = 2999-12-31") + &publisher("audit", "audit", "revoked = true");
    let report = inspect_with(&fixture.bundle(), Some(&fixture.trust(&text)), &()).unwrap();
    let of = |name: Option<&str>| report.signatures.iter().find(|one| one.publisher.as_deref() == name).unwrap();
    assert_eq!(
        (of(Some("acme")).counts, of(Some("acme")).expires.as_deref()),
        (Some(true), Some("2999-12-31T00:00:00Z"))
    );
    assert_eq!(of(Some("audit")).problem.as_deref(), Some("signed with a key that is revoked"));
    assert_eq!(of(None).problem.as_deref(), Some("signed with a key that the trust policy does not know"));
    assert!(inspect(&fixture.bundle()).unwrap().signatures.iter().all(|signature| signature.counts.is_none()));
}

/// The policy that `docs/bundles.md` shows is one.
#[test]
fn the_documented_policy_is_right() {
    let page = include_str!("../../../../docs/bundles.md");
    let (_, block) = page.split_once("## The trust policy\n\n```toml\n").unwrap();
    let (text, _) = block.split_once("```").unwrap();
    let fixture = Fixture::new();
    for key in ["acme", "acme-2029", "audit", "acme-2024"] {
        fixture.keygen(key);
    }
    let policy = fixture.trust(text);
    assert_eq!((policy.keys().len(), policy.rules().len()), (4, 1));
}

/// One key: of which of two publishers, whether it signed, and what the policy says of it.
#[derive(Debug, Clone)]
struct Case {
    publisher: usize,
    signed: bool,
    known: bool,
    line: &'static str,
    functions: &'static str,
}

/// What a policy may say of a key.
const LINES: [&str; 7] =
    ["", "", "", "revoked = true", "expires = 2020-01-01", "valid-from = 2990-01-01", "expires = 2990-01-01"];

fn cases() -> impl Strategy<Value = [Case; 3]> {
    let case = (0..2_usize, any::<bool>(), 0..8_u8, prop::sample::select(&LINES[..]), 0..4_u8);
    let case = case.prop_map(|(publisher, signed, known, line, allowed)| Case {
        publisher,
        signed,
        known: known > 0,
        line,
        functions: if allowed > 0 { "e*" } else { "vision-*" },
    });
    [case.clone(), case.clone(), case]
}

const NAMES: [&str; 2] = ["one", "two"];

/// Which publishers count, by the definition in `docs/bundles.md`.
fn counting(keys: &[Case]) -> BTreeSet<&'static str> {
    let counts = |case: &&Case| {
        case.signed && case.known && case.functions == "e*" && matches!(case.line, "" | "expires = 2990-01-01")
    };
    keys.iter().filter(counts).map(|case| NAMES[case.publisher]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Judging agrees with its definition, and a rule never makes a bundle trusted that was not so without it.
    #[test]
    fn judging_agrees_with_its_definition(keys in cases(), threshold in 1..3_usize, about in any::<bool>()) {
        let fixture = Fixture::new();
        fixture.pack();
        let mut text = String::new();
        for (index, case) in keys.iter().enumerate() {
            let file = format!("k{index}");
            fixture.keygen(&file);
            if case.signed {
                fixture.sign(&file);
            }
            if case.known {
                text += &publisher(NAMES[case.publisher], &file, case.line).replace("\"*\"", &format!("\"{}\"", case.functions));
            }
        }
        let plain = judged(&fixture, &fixture.trust(&text));
        prop_assert_eq!(&plain, &(!counting(&keys).is_empty()).then(|| counting(&keys)));

        let named: BTreeSet<_> = keys.iter().filter(|case| case.known).map(|case| NAMES[case.publisher]).collect();
        if threshold <= named.len() {
            let names: Vec<_> = named.iter().map(|name| format!("\"{name}\"")).collect();
            let text = text + &rule(if about { "\"e*o\"" } else { "\"vision-*\"" }, &names.join(", "), threshold);
            let ruled = judged(&fixture, &fixture.trust(&text));
            let met = !about || counting(&keys).len() >= threshold;
            prop_assert_eq!(ruled, plain.filter(|_| met));
        }
    }
}

/// Who makes the bundle runnable as `echo`; `None` where it is refused.
fn judged(fixture: &Fixture, policy: &TrustPolicy) -> Option<BTreeSet<&'static str>> {
    match fixture.verify(policy) {
        Ok(bundle) => Some(NAMES.into_iter().filter(|name| bundle.publishers.iter().any(|one| one == name)).collect()),
        Err(error) => {
            assert!(error.is_refusal(), "{error}");
            None
        }
    }
}
