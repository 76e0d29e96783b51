//! The attacks on a bundle, as one table: what an attacker does, and what the refusal says. Tests walk it; `docs/attacks.md` shows it
//! to people, and is checked against it. `forged` makes the files.

use crate::{
    Digest, archive,
    digest::Piece,
    dsse::Statement,
    forged::{
        ACME, AUDIT, Change, MODEL, Parts, STRANGER, WEIGHTS, config, key, labelled, manifest, openvino,
        openvino_manifest, publisher, with_file,
    },
};
use serde_json::{Value, json};
use std::fmt::Write;

/// How far a bundle gets before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its file is no archive of a bundle.
    Archive,
    /// Its index is not one of a function and its signatures.
    Index,
    /// Its signatures do not count. Nothing that a publisher wrote was parsed.
    Signatures,
    /// Its signatures count, but its contents are not what was signed, or nothing that `torpor pack` writes.
    Contents,
}

/// One attack.
struct Attack {
    stage: Stage,
    /// What the attacker does.
    deed: &'static str,
    /// Words of the refusal, which no other attack's refusal has.
    refusal: &'static str,
    forge: fn(&mut Parts),
}

const fn attack(stage: Stage, deed: &'static str, refusal: &'static str, forge: fn(&mut Parts)) -> Attack {
    Attack { stage, deed, refusal, forge }
}

use Stage::{Archive, Contents, Index, Signatures};

#[rustfmt::skip]
const ATTACKS: &[Attack] = &[
    attack(Archive, "gives any other file", "the entry at byte 0 has no header of a tar", |p| p.file = Box::new(|_| vec![0x7f; 5000])),
    attack(Archive, "flips a bit of a header", "the entry at byte 0 has a damaged header", |p| p.file = Box::new(|mut file| { file[0] ^= 1; file })),
    attack(Archive, "adds an entry with an absolute path", "has an absolute path", |p| p.file = entry("/etc/passwd", b'0')),
    attack(Archive, "adds an entry whose path leads out with `..`", "has a path that leads out of the bundle", |p| p.file = entry("blobs/../../x", b'0')),
    attack(Archive, "adds a symbolic link", "is a symbolic link", |p| p.file = entry("blobs/link", b'2')),
    attack(Archive, "adds a hard link", "is a hard link", |p| p.file = entry("blobs/link", b'1')),
    attack(Archive, "adds a folder", "is a folder", |p| p.file = entry("blobs/", b'5')),
    attack(Archive, "adds a device", "is neither a file nor a folder", |p| p.file = entry("blobs/null", b'3')),
    attack(Archive, "adds a sparse file, small here and huge where it is unpacked", "is a sparse file", |p| p.file = entry("blobs/hole", b'S')),
    attack(Archive, "says that an entry has 2^62 bytes", "longer than the whole file", |p| p.file = Box::new(|file| before(tar_header("blobs/bomb", 1 << 62, b'0'), file))),
    attack(Archive, "gives an entry another owner", "a header that is not in canonical form", |p| p.file = Box::new(|file| { let mut header = tar_header("index.json", 0, b'0'); header.set_uid(1); header.set_cksum(); before(header, file) })),
    attack(Archive, "adds an ordinary file", "is none that a bundle has", |p| p.file = entry("README", b'0')),
    attack(Archive, "has an entry twice", "is in it twice", |p| p.file = entries(|all| all.insert(0, all[0].clone()))),
    attack(Archive, "changes the order of entries", "its entries are not in order", |p| p.file = entries(|all| all.swap(0, 1))),
    attack(Archive, "adds 2000 empty entries", "it has more than 1024 entries", |p| p.file = Box::new(|_| (0..2000_u32).flat_map(many).collect())),
    attack(Archive, "hides bytes behind an entry's content", "it has bytes between its entries", |p| p.file = entries(|all| *all.iter_mut().find(|one| one.ends_with(&[0])).unwrap().last_mut().unwrap() = 1)),
    attack(Archive, "hides bytes behind the archive's end", "it has bytes after its end", |p| p.file = Box::new(|file| [file, vec![0; 512]].concat())),
    attack(Archive, "cuts the file short", "it is cut short", |p| p.file = Box::new(|mut file| { file.truncate(file.len() - 1); file })),
    attack(Archive, "removes the layout's marker", "`index.json` or `oci-layout` is missing", |p| p.file = entries(|all| drop(all.pop()))),
    attack(Archive, "gives the layout another version", "`oci-layout` does not hold what it should", |p| p.file = replacing("\"1.0.0\"", "\"9.0.0\"")),

    attack(Index, "gives an index of more than 1 MiB", "the document `index.json` is longer than", |p| p.index = Box::new(|_| vec![b' '; usize::try_from(archive::MAX_DOCUMENT).unwrap() + 1])),
    attack(Index, "nests the index a million levels deep", "`index.json` cannot be read: it is not the expected JSON", |p| p.index = Box::new(|_| vec![b'['; 1_000_000])),
    attack(Index, "spells the index differently", "`index.json` cannot be read: it is not in canonical form", |p| p.index = replacing(":2}", ": 2}")),
    attack(Index, "empties the index", "`index.json` is empty", |p| p.index = manifests(Vec::clear)),
    attack(Index, "gives the index of something else", "`index.json` is not that of a function", |p| p.index = replacing("torpor.function.v1", "torpor.function.v2")),
    attack(Index, "has the index lead to an index", "`index.json` leads to another index", |p| p.index = manifests(|all| all[1]["mediaType"] = json!("application/vnd.oci.image.index.v1+json"))),
    attack(Index, "has the index loop: a signature is the function's manifest", "`index.json` leads back to the function's manifest", |p| p.index = manifests(|all| all[1]["digest"] = all[0]["digest"].clone())),
    attack(Index, "puts a signature before the function", "`index.json` does not name one function, and that first", |p| p.index = manifests(|all| all.swap(0, 1))),
    attack(Index, "changes the order of signatures", "`index.json` names signatures that are not in order", |p| p.index = manifests(|all| all.swap(1, 2))),
    attack(Index, "names a signature twice", "`index.json` names a signature twice", |p| p.index = manifests(|all| all.insert(1, all[1].clone()))),
    attack(Index, "adds 65 signatures", "it has more than 64 signatures", |p| p.signers = (10..75).collect()),
    attack(Index, "removes a signature's blob", "blob `sha256:0000", |p| p.index = manifests(|all| all[1]["digest"] = json!(nothing()))),
    attack(Index, "attaches a signature to another bundle's manifest", "the manifest of a signature does not fit it", |p| p.referrer = fields(|referrer| referrer["subject"]["digest"] = json!(nothing()))),
    attack(Index, "puts what would steer a terminal into a key's id", "the key id of a signature is no SHA-256", |p| p.envelope = Box::new(|envelope| changed(envelope, &key(ACME).keyid(), "\\u001b[2J"))),
    attack(Index, "puts two signatures into one envelope", "a signature cannot be read: it is not the expected JSON", |p| p.envelope = replacing("}]", "},{\"keyid\":\"\",\"sig\":\"\"}]")),
    attack(Index, "spells an envelope differently", "a signature cannot be read: it is not in canonical form", |p| p.envelope = replacing(",", ", ")),

    attack(Signatures, "takes all signatures off", "is not signed; sign it", |p| p.signers.clear()),
    attack(Signatures, "takes one of two signatures off that are both needed", "but counts 1: `acme` signed, `audit` did not sign", |p| { p.signers = vec![ACME]; both_needed(p) }),
    attack(Signatures, "signs with two keys of one publisher where two publishers must", "but counts 1: `acme` did not sign, `audit` signed", |p| { p.signers = vec![AUDIT, SECOND]; both_needed(p) }),
    attack(Signatures, "signs with a key of one's own", "keys that the trust policy does not know", |p| p.signers = vec![STRANGER]),
    attack(Signatures, "swaps the model, and writes everything anew around the old signature", "it was made for another bundle", |p| p.statement = Box::new(|_| Statement::new(Digest::of(b"the old manifest"), &config("1")))),
    attack(Signatures, "changes the signature", "in the name of `acme`: the signature does not fit", |p| { p.signers = vec![ACME]; p.envelope = fields(|envelope| envelope["signatures"][0]["sig"] = json!(format!("{}==", "A".repeat(86)))) }),
    attack(Signatures, "shortens the signature, as one of another kind", "it is no Ed25519 signature", |p| p.envelope = fields(|envelope| envelope["signatures"][0]["sig"] = json!("AAAA"))),
    attack(Signatures, "gives a signature that is no base64", "it is not base64", |p| p.envelope = fields(|envelope| envelope["signatures"][0]["sig"] = json!("?"))),
    attack(Signatures, "downgrades the payload to another type", "its payload is no in-toto statement", |p| p.envelope = replacing("application/vnd.in-toto+json", "text/plain")),
    attack(Signatures, "uses a signature that states something else", "it states something else than what a function is", |p| p.statement = Box::new(older)),
    attack(Signatures, "signs in the name of another publisher", "a false signature in the name of `impostor`", |p| { p.signers = vec![ACME]; p.envelope = Box::new(|envelope| changed(envelope, &key(ACME).keyid(), &key(STRANGER).keyid())); p.policy = Box::new(|_| publisher("impostor", STRANGER, "*", "")) }),
    attack(Signatures, "signs with a stolen key that was revoked", "that the trust policy revokes; ask", |p| policy(p, "*", "revoked = true")),
    attack(Signatures, "signs with an old key that has expired", "expired at 2020-01-01T00:00:00Z", |p| policy(p, "*", "expires = 2020-01-01")),
    attack(Signatures, "signs with a key that is not valid yet", "not valid until 2990-01-01T00:00:00Z", |p| policy(p, "*", "valid-from = 2990-01-01")),
    attack(Signatures, "signs a function that is another publisher's", "allows only `vision-*`, not `echo`", |p| policy(p, "vision-*", "")),
    attack(Signatures, "brings back a bundle that was withdrawn", "which the trust policy revokes: it leaks", |p| p.policy = Box::new(|digest| publisher("acme", ACME, "*", "") + &format!("[[revoked]]\ndigest = \"{digest}\"\nreason = \"it leaks\"\n"))),

    attack(Contents, "brings back a model that was withdrawn, in a new bundle", "which the trust policy revokes: it is biased", |p| p.policy = Box::new(|_| publisher("acme", ACME, "*", "") + &format!("[[revoked]]\ndigest = \"{}\"\nreason = \"it is biased\"\n", Digest::of(MODEL)))),
    attack(Contents, "sells an old version as a new one", "it names another function or version", |p| p.statement = Box::new(|manifest| Statement::new(manifest.digest, &config("2")))),
    attack(Contents, "tags an old version as a new one", "its tag in `index.json` is not its version", |p| p.index = replacing("ref.name\":\"1\"", "ref.name\":\"2\"")),
    attack(Contents, "changes the manifest", "the content of blob `sha256:e042", |p| p.file = replacing("vnd.torpor.model.name", "vnd.torpor.model.nome")),
    attack(Contents, "swaps the model in its place", "the content of blob `sha256:9a12", |p| p.file = replacing("weights", "WEIGHTS")),
    attack(Contents, "changes the module", "the content of blob `sha256:24ea", |p| p.file = replacing("\0asm\x0d", "\0asm\x01")),
    attack(Contents, "removes the model", "whole bundle: blob `sha256:9a12", |p| p.absent = Some(Digest::of(MODEL))),
    attack(Contents, "adds a blob that nothing names", "a blob that does not belong to it", |p| p.stray = Some(b"a passenger".to_vec())),
    attack(Contents, "gets a manifest of more than 1 MiB signed", "the document `sha256:9d78", |p| p.manifest = Box::new(|_| vec![b' '; usize::try_from(archive::MAX_DOCUMENT).unwrap() + 1])),
    attack(Contents, "gets a manifest signed that is none", "its manifest cannot be read", |p| p.manifest = Box::new(|_| b"{}".to_vec())),
    attack(Contents, "gets an extra layer signed", "its manifest has more layers than its config names", |p| p.manifest = Box::new(|content| fields(|all| { let layer = all["layers"][1].clone(); all["layers"].as_array_mut().unwrap().push(layer) })(manifest(content, MODEL)))),
    attack(Contents, "gets a model signed that would be unpacked elsewhere", "its manifest does not describe the model `standard`", |p| p.manifest = Box::new(|content| changed(manifest(content, MODEL), "\"standard.onnx\"", "\"../../x.onnx\""))),
    attack(Contents, "gets a manifest signed that gives the function another title", "its manifest and config do not fit each other", |p| p.manifest = Box::new(|content| fields(|all| all["annotations"]["org.opencontainers.image.title"] = json!("other"))(manifest(content, MODEL)))),
    attack(Contents, "gets an OpenVINO IR signed without its weights", "that its config names, as the weights of the model `standard`", |p| { openvino(p); p.manifest = layers(|all| drop(all.pop())); p.stray = None }),
    attack(Contents, "gets an OpenVINO IR signed with the weights of another model", "its manifest does not describe the weights of the model `standard`", |p| { openvino(p); p.manifest = layers(|all| all[2]["annotations"]["vnd.torpor.model.name"] = json!("other")) }),
    attack(Contents, "swaps the weights of an OpenVINO IR in their place", "the content of blob `sha256:f3c7", |p| { openvino(p); p.file = replacing("numbers", "NUMBERS") }),
    attack(Contents, "removes the weights of an OpenVINO IR", "whole bundle: blob `sha256:f3c7", |p| { openvino(p); p.absent = Some(Digest::of(WEIGHTS)) }),
    attack(Contents, "gets fewer labels signed than an output has numbers", "there are 2, and the last dimension of the output `scores` has 3", |p| labelled(p, "scores", b"a\nb\n")),
    attack(Contents, "gets labels signed that would steer a terminal", "the labels of the output `other` of the model `standard` are wrong: line 2", |p| labelled(p, "other", b"a\n\x1b[2J\n")),
    attack(Contents, "gets labels of more than 1 MiB signed", "the document `sha256:154b", |p| labelled(p, "scores", &vec![b'x'; usize::try_from(archive::MAX_DOCUMENT).unwrap() + 1])),
    attack(Contents, "gets a file signed that would be laid out elsewhere", "its config is wrong: `../x` is no path", |p| with_file(p, "../x", None)),
    attack(Contents, "gets files of more than 1 GiB signed", "its files are longer than 1073741824 bytes together", |p| with_file(p, "a", Some((1 << 30) + 1))),
    attack(Contents, "gets another path of a file signed in the manifest than in the config", "its manifest does not describe the file `a`", |p| { with_file(p, "a", None); let old = std::mem::replace(&mut p.manifest, Box::new(|_| Vec::new())); let change = replacing("files/a", "files/b"); p.manifest = Box::new(move |content| change(old(content))) }),
    attack(Contents, "gets a manifest without a module signed", "its manifest names no module", |p| p.manifest = Box::new(|content| fields(|all| all["layers"] = json!([]))(manifest(content, MODEL)))),
    attack(Contents, "gets a config signed that no `bundle.toml` gives", "its config is wrong: a version has", |p| p.config = changed(std::mem::take(&mut p.config), "\"version\":\"1\"", "\"version\":\"\\u001b\"")),
    attack(Contents, "gets a config signed that is none", "its config cannot be read", |p| p.config = b"{".to_vec()),
];

/// A second key of `audit`.
const SECOND: u8 = 10;

/// Changes the list of layers in the manifest of an OpenVINO IR.
fn layers(change: impl Fn(&mut Vec<Value>) + 'static) -> Box<dyn Fn(Piece) -> Vec<u8>> {
    let change = fields(move |manifest| change(manifest["layers"].as_array_mut().unwrap()));
    Box::new(move |content| change(openvino_manifest(content)))
}

/// Has the policy ask for both publishers.
fn both_needed(parts: &mut Parts) {
    parts.policy = Box::new(|_| {
        publisher("acme", ACME, "*", "")
            + &publisher("audit", AUDIT, "*", "")
            + &publisher("audit", SECOND, "*", "")
            + "[[rule]]\nfunctions = [\"*\"]\npublishers = [\"acme\", \"audit\"]\nthreshold = 2\n"
    });
}

/// Has the policy know `acme` alone, with these functions and more lines.
fn policy(parts: &mut Parts, functions: &'static str, more: &'static str) {
    parts.policy = Box::new(move |_| publisher("acme", ACME, functions, more));
}

fn changed(document: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let at = document.windows(from.len()).position(|window| window == from.as_bytes());
    match at {
        Some(at) => [&document[..at], to.as_bytes(), &document[at + from.len()..]].concat(),
        None => document,
    }
}

/// Replaces the first of some text, which must be there.
fn replacing(from: &'static str, to: &'static str) -> Change {
    Box::new(move |document| {
        let before = document.clone();
        let after = changed(document, from, to);
        assert_ne!(after, before, "`{from}` is not there");
        after
    })
}

/// Changes a JSON document, and writes it in its one spelling again.
fn fields(change: impl Fn(&mut Value) + 'static) -> Change {
    Box::new(move |document| {
        let mut value = serde_json::from_slice(&document).unwrap();
        change(&mut value);
        serde_json::to_vec(&value).unwrap()
    })
}

/// Changes the list that an index is.
fn manifests(change: impl Fn(&mut Vec<Value>) + 'static) -> Change {
    fields(move |index| change(index["manifests"].as_array_mut().unwrap()))
}

/// A header that is as a bundle's but for its name, size and kind.
fn tar_header(name: &str, size: u64, kind: u8) -> tar::Header {
    let mut header = archive::header(name, size);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_cksum();
    header
}

fn before(header: tar::Header, file: Vec<u8>) -> Vec<u8> {
    [header.as_bytes().to_vec(), file].concat()
}

/// Changes the list of a file's entries, each with its header and padding.
fn entries(change: impl Fn(&mut Vec<Vec<u8>>) + 'static) -> Change {
    Box::new(move |file| {
        let mut rest = file.as_slice();
        let mut all = Vec::new();
        while rest[0] != 0 {
            let size = tar::Header::from_byte_slice(&rest[..512]).entry_size().unwrap();
            let (entry, behind) = rest.split_at(512 + usize::try_from(size.next_multiple_of(512)).unwrap());
            all.push(entry.to_vec());
            rest = behind;
        }
        change(&mut all);
        [all.concat(), rest.to_vec()].concat()
    })
}

/// A digest of which there is no content.
fn nothing() -> String {
    format!("sha256:{}", "0".repeat(64))
}

/// A genuine statement of a type that we do not know.
fn older(manifest: Piece) -> Statement {
    let mut statement = serde_json::to_value(Statement::new(manifest.digest, &config("1"))).unwrap();
    statement["predicateType"] = json!("urn:torpor:function:v0");
    serde_json::from_value(statement).unwrap()
}

/// Puts an empty entry before all others.
fn entry(name: &'static str, kind: u8) -> Change {
    Box::new(move |file| before(tar_header(name, 0, kind), file))
}

/// An empty blob of the right order, whose name is a number.
fn many(number: u32) -> Vec<u8> {
    tar_header(&format!("blobs/sha256/{number:064x}"), 0, b'0').as_bytes().to_vec()
}

/// What is said of an attack, without the place of the file; and what it left in the store.
fn said(attack: &Attack, mut parts: Parts) -> String {
    (attack.forge)(&mut parts);
    let forged = parts.write();
    let Err(error) = forged.verify() else { panic!("accepted: {}", attack.deed) };
    assert!(error.is_refusal(), "{}: {error}", attack.deed);
    let stored = forged.stored();
    // What is whole of a bundle may be stored before the damage shows. Nothing runs it.
    assert!(attack.stage == Contents || stored.is_empty(), "{}: something is in the store", attack.deed);
    assert!(stored.iter().all(|(name, content)| *name == Digest::of(content).hex()), "{}", attack.deed);
    let help = error.help().expect("each refusal says what to do");
    format!("{error}; {help}").replace(&forged.path.display().to_string(), "echo.torpor")
}

#[test]
fn each_attack_is_refused_in_words_of_its_own() {
    let all: Vec<_> = ATTACKS.iter().map(|attack| said(attack, Parts::good())).collect();
    for (attack, said) in ATTACKS.iter().zip(&all) {
        assert!(said.contains(attack.refusal), "{}: {said}", attack.deed);
        let alike = all.iter().filter(|other| other.contains(attack.refusal)).count();
        assert_eq!(alike, 1, "others than `{}` are told {}", attack.deed, attack.refusal);
        note(attack, "on a sound bundle", "refused, in words of its own");
    }
}

/// A manifest that is none would be told of, if it were looked at.
#[test]
fn trust_is_decided_before_anything_of_the_publisher_is_parsed() {
    let garbage = || Parts { config: b"{".to_vec(), manifest: Box::new(|_| b"garbage".to_vec()), ..Parts::good() };
    assert!(garbage().write().verify().unwrap_err().to_string().contains("its manifest cannot be read"));
    for attack in ATTACKS.iter().filter(|attack| attack.stage != Contents) {
        let said = said(attack, garbage());
        assert!(said.contains(attack.refusal), "{}: {said}", attack.deed);
        note(attack, "on one of garbage", "refused in the same words, so none of it was parsed");
    }
}

/// Says what was seen of an attack.
fn note(attack: &Attack, on: &str, what: &str) {
    let order = ATTACKS.iter().position(|other| other.deed == attack.deed).expect("it is in the table");
    torpor_evidence::seen("attacks", order, [attack.deed, on, what]);
}

/// The table of `docs/attacks.md`.
fn page() -> String {
    let stages = [
        (Archive, "The file is no bundle"),
        (Index, "The index is not one of a function and its signatures"),
        (Signatures, "The signatures do not count"),
        (Contents, "The contents are not those of a bundle, or not what was signed"),
    ];
    let mut page = String::new();
    // Writing to a string cannot fail.
    for (stage, title) in stages {
        let _ = writeln!(page, "\n## {title}\n\n| somebody … | the refusal |\n|---|---|");
        for attack in ATTACKS.iter().filter(|attack| attack.stage == stage) {
            let _ = writeln!(page, "| {} | {} |", attack.deed, said(attack, Parts::good()));
        }
    }
    page
}

#[test]
fn the_page_shows_every_attack() {
    let shown = include_str!("../../../docs/attacks.md");
    let page = page();
    assert!(shown.ends_with(&page), "`docs/attacks.md` must end with:\n{page}");
}
