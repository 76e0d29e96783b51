//! `torpor pack`, `inspect`, `keygen`, `sign` and `verify`.

use crate::{
    cli::{Inspect, Keygen, Pack, Sign, Verify},
    failure::Failure,
    output::{GOOD, Output, bytes, styled, table},
    progress::Bar,
};
use serde_json::json;
use std::{fmt::Write, path::PathBuf};
use torpor_bundle::{Digest, Initializer, Origin, Overrides, PrivateKey, Report, TensorReport, TrustPolicy, Unfit};

pub(crate) fn pack(arguments: Pack, output: &Output) -> Result<(), Failure> {
    let overrides = Overrides { module: arguments.module, models: arguments.models.into_iter().collect() };
    let named = || torpor_bundle::name(&arguments.folder).map(|name| PathBuf::from(format!("{name}.torpor")));
    let file = arguments.output.clone().map_or_else(named, Ok)?;
    let bar = Bar::new("packing", output);
    let packed = torpor_bundle::pack_with(&arguments.folder, &overrides, &file, &Snapshots, &bar)?;
    let file = file.display().to_string();
    let mut value = json!({ "file": file, "name": packed.name.to_string(), "version": packed.version, "digest": packed.digest.to_string() });
    if let Some(origin) = packed.snapshot_of {
        value["module"] = json!({ "size": packed.module, "snapshot_of": origin });
    }
    output.result(&value, |_| {
        let mut text = format!("packed {} {} into `{file}`\n{}", packed.name, packed.version, packed.digest);
        if let Some(Origin { size, .. }) = packed.snapshot_of {
            let (before, after) = (bytes(size), bytes(packed.module));
            let _ = write!(text, "\nits initializer has run: the module is a snapshot of {after}, made of {before}");
        }
        text
    });
    Ok(())
}

/// Makes a snapshot of a module that has an initializer.
struct Snapshots;

impl Initializer for Snapshots {
    fn initialize(&self, module: &[u8]) -> Result<Option<Vec<u8>>, Unfit> {
        let unfit =
            |error: torpor_engine::SnapshotError| Unfit { why: error.to_string(), help: error.help().to_owned() };
        torpor_engine::snapshot(module).map_err(unfit)
    }
}

pub(crate) fn inspect(arguments: &Inspect, output: &Output) -> Result<(), Failure> {
    let policy = arguments.trust.as_deref().map(TrustPolicy::read).transpose()?;
    let report = torpor_bundle::inspect_with(&arguments.bundle, policy.as_ref(), &Bar::new("reading", output))?;
    output.result(&report, render);
    Ok(())
}

pub(crate) fn keygen(arguments: &Keygen, output: &Output) -> Result<(), Failure> {
    let files = torpor_bundle::keygen(&arguments.stem)?;
    let (private, public) = (files.private.display().to_string(), files.public.display().to_string());
    let value = json!({ "private": private, "public": public, "keyid": files.keyid });
    output.result(&value, |_| {
        format!(
            "private key `{private}`: keep it secret\npublic key  `{public}`: for trust policies\nkey id      {}",
            files.keyid
        )
    });
    Ok(())
}

pub(crate) fn sign(arguments: &Sign, output: &Output) -> Result<(), Failure> {
    let signed =
        torpor_bundle::sign_with(&PrivateKey::read(&arguments.key)?, &arguments.bundle, &Bar::new("signing", output))?;
    let file = arguments.bundle.display().to_string();
    let value = json!({ "file": file, "digest": signed.digest.to_string(), "keyid": signed.keyid });
    output.result(&value, |_| format!("signed `{file}`\nbundle {}\nkey id {}", signed.digest, signed.keyid));
    Ok(())
}

pub(crate) fn verify(arguments: &Verify, output: &Output) -> Result<(), Failure> {
    let mut policy = TrustPolicy::read(&arguments.trust)?;
    if let Some(moment) = arguments.at {
        policy = policy.at(moment);
    }
    let report = torpor_bundle::verify_file_with(
        &arguments.bundle,
        &policy,
        arguments.function.as_ref(),
        &Bar::new("verifying", output),
    )?;
    output.result(&report, |report| {
        let (publishers, whole) = (names(&report.publishers), styled(GOOD, "is whole and signed"));
        let mut text = format!("{} {} {whole} by {publishers}\n{}\n", report.name, report.version, report.digest);
        for rule in &report.rules {
            let (threshold, publishers) = (rule.threshold, names(&rule.publishers));
            let _ = writeln!(text, "the rule for {} is met: {threshold} of {publishers}", names(&rule.functions));
        }
        if arguments.function.is_none() && !policy.rules().is_empty() {
            text.push_str("the policy's rules were not looked at; name the function with `--function`\n");
        }
        signatures(&mut text, report);
        text
    });
    Ok(())
}

fn render(report: &Report) -> String {
    let mut text = format!("{} {}\ndigest  {}\n", report.name, report.version, report.digest);
    // Writing to a string cannot fail.
    for (what, value) in [("about", &report.description), ("license", &report.license)] {
        if let Some(value) = value {
            let _ = writeln!(text, "{what:7} {value}");
        }
    }
    if let Some(torpor_bundle::Task::Embedding) = report.task {
        let _ = writeln!(text, "task    embedding");
    }
    let row = |what: String, format: String, size, digest: Digest| [what, format, bytes(size), digest.to_string()];
    let snapshot = if report.module.snapshot_of.is_some() { "snapshot" } else { "" };
    let module = row("module".to_owned(), snapshot.to_owned(), report.module.size, report.module.digest);
    let origin = report.module.snapshot_of;
    let origin = origin.map(|origin| row("  made of".to_owned(), String::new(), origin.size, origin.digest));
    let models = report.models.iter().flat_map(|model| {
        let first = row(format!("model {}", model.name), model.format.clone(), model.size, model.digest);
        let weights = model.weights.as_ref();
        let weights =
            weights.map(|weights| row(format!("weights {}", model.name), String::new(), weights.size, weights.digest));
        let labels = model.labels.iter().map(|labels| {
            let what = format!("labels {} {}", model.name, labels.output);
            row(what, format!("{} lines", labels.count), labels.size, labels.digest)
        });
        std::iter::once(first).chain(weights).chain(labels)
    });
    let files = report.files.iter();
    let files = files.map(|file| row(format!("file {}", file.path), String::new(), file.size, file.digest));
    let rows = std::iter::once(module).chain(origin).chain(models).chain(files);
    let _ = write!(text, "\n{}", table(["CONTENT", "FORMAT", "SIZE", "DIGEST"], rows));
    let tensors = |what: &'static str, tensors: &'_ [TensorReport]| -> Vec<[String; 4]> {
        tensors
            .iter()
            .map(|tensor| [what.to_owned(), tensor.name.clone(), tensor.datatype.clone(), shape(tensor)])
            .collect()
    };
    let rows = [tensors("input", &report.inputs), tensors("output", &report.outputs)].concat();
    if !rows.is_empty() {
        let _ = write!(text, "\n{}", table(["TENSOR", "NAME", "DATATYPE", "SHAPE"], rows));
    }
    let _ = match report.signatures.len() {
        0 => writeln!(text, "\nnot signed"),
        _ => writeln!(text),
    };
    signatures(&mut text, report);
    text
}

/// A line for each signature: whose it is, and what it is worth. Writing to a string cannot fail.
fn signatures(text: &mut String, report: &Report) {
    for signature in &report.signatures {
        let keyid = &signature.keyid;
        let _ = match &signature.publisher {
            Some(publisher) => write!(text, "signature of `{publisher}` with key {keyid}: "),
            None => write!(text, "signature with key {keyid}: "),
        };
        let _ = match (&signature.problem, signature.counts, &signature.expires) {
            (Some(problem), None, _) => writeln!(text, "{problem}"),
            (Some(problem), Some(_), _) => writeln!(text, "does not count: {problem}"),
            (None, None, _) => {
                writeln!(text, "about this bundle; `--trust` tells whose it is and whether it is genuine")
            }
            (None, Some(_), None) => writeln!(text, "counts"),
            (None, Some(_), Some(expires)) => writeln!(text, "counts until {expires}"),
        };
    }
}

/// Names for people.
fn names(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn shape(tensor: &TensorReport) -> String {
    tensor.shape.as_ref().map_or_else(|| "any".to_owned(), |dims| format!("{dims:?}"))
}
