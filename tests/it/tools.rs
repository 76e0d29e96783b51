//! Other people's tools read our bundles and check our signatures: the commands of `docs/bundles.md` are run as they stand, in one
//! shell, and write what it shows.

use crate::{
    fixture::{Keys, Recipe, assets, cli},
    readme::{commands, files},
};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// The part of the page that is run.
fn section() -> String {
    let page = fs::read_to_string(assets::root().join("docs/bundles.md")).expect("the page is there");
    let (_, section) = page.split_once("\n## With other tools\n").expect("it has the section");
    section.to_owned()
}

/// A folder with what the section begins with: a signed bundle, and its publisher's key.
fn desk(section: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let bundle = folder.path().join("filetype.torpor");
    Recipe::of("filetype").pack(&bundle);
    Keys::make(&folder.path().join("acme")).sign(&bundle);
    for (name, text) in files(section, "python") {
        fs::write(folder.path().join(name), text).expect("it can be written");
    }
    folder
}

/// A shell in that folder, in which `python3` is one that has the libraries.
fn shell(desk: &Path, script: &str) -> cli::Ran {
    let mut shell = Command::new("bash");
    shell.args(["-e", "-c", script]).current_dir(desk).stdin(Stdio::null());
    if let Some(python) = assets::python() {
        shell.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", python.display()));
    }
    cli::finish(&mut shell)
}

/// Whether all programs that the section uses are there.
fn skipped() -> bool {
    let have = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let programs = ["openssl", "jq", "tar"].into_iter().find(|program| !have(program));
    assets::skipped_without(programs.unwrap_or("a program"), programs.is_none())
        || assets::skipped_without("a Python with the libraries of `xtask/python.txt`", assets::python().is_some())
}

#[test]
fn the_documented_checks_accept_a_signed_bundle() {
    if skipped() {
        return;
    }
    let section = section();
    let desk = desk(&section);
    // Registries are not reached from here.
    let (mut script, mut expected) = (String::new(), Vec::new());
    for shown in commands(&section).iter().filter(|shown| !shown.command.starts_with("oras ")) {
        script += &shown.command;
        script.push('\n');
        expected.extend(shown.output.lines().map(str::to_owned));
    }
    let ran = shell(desk.path(), &script).ok();
    assert!(expected.len() >= 4, "the page shows little: {expected:?}");
    for line in expected {
        // Of what is shortened, what comes before and after.
        for part in line.split('…') {
            assert!(ran.stdout.contains(part.trim()), "`{part}` is not in {ran:#?}");
        }
    }
    // The digest that the payload names, and that of the manifest.
    let digests: Vec<_> = ran.stdout.lines().filter_map(|line| line.get(..64)).filter(|text| is_hex(text)).collect();
    assert!(digests.len() == 2 && digests[0] == digests[1], "{ran:#?}");
}

fn is_hex(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_hexdigit())
}

/// The checks are worth nothing if they pass anything.
#[test]
fn the_documented_checks_refuse_a_changed_bundle() {
    if skipped() {
        return;
    }
    let section = section();
    let desk = desk(&section);
    let unpack = "rm -rf layout && mkdir layout && tar xf filetype.torpor -C layout\n";
    let check = "python3 verify.py acme.pub.pem layout\n";
    shell(desk.path(), &format!("{unpack}{check}")).ok();
    let largest = "$(ls -S layout/blobs/sha256/* | head -1)";
    let refused = |change: &str, words: &str| {
        let ran = shell(desk.path(), &format!("{unpack}{change}\n{check}"));
        assert!(ran.code == Some(1) && ran.stderr.contains(words), "{change}: {ran:#?}");
    };
    refused(&format!("printf x >> {largest}"), "does not have its digest");
    refused(&format!("rm {largest}"), "No such file");
    refused("sed -i 's/manifest.v1/manifest.v9/' layout/blobs/sha256/*", "mediaType");
    refused("openssl genpkey -algorithm ed25519 | openssl pkey -pubout -out acme.pub.pem", "is not signed with");
    // A signature that does not fit, under a name that does: it is found by what it says, not by its name.
    let forge = "envelope=$(grep -l '\"payloadType\"' layout/blobs/sha256/*)\n\
                 jq -c '.signatures[0].sig = (\"A\" * 86 + \"==\")' $envelope > forged && mv forged $envelope";
    let desk = self::desk(&section);
    let ran = shell(desk.path(), &format!("{unpack}{forge}\n{check}"));
    assert!(ran.code == Some(1) && ran.stderr.contains("VerificationError"), "{ran:#?}");
}
