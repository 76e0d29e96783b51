//! `torpor doctor`: what this machine can run models with.

use crate::{
    cli::Doctor,
    failure::Failure,
    output::{Output, table},
};
use serde::Serialize;
use std::num::NonZeroUsize;
use torpor::engine::Processors;
use torpor_nn::{BackendKind, Backends};

/// One backend, in the order in which `auto` prefers them.
#[derive(Serialize)]
struct Report {
    backend: &'static str,
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    devices: Vec<String>,
    /// The file that was loaded; absent for what is compiled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    library: Option<String>,
    /// Runs of one of its models that happen at the same time where the manifest does not say, each on one thread.
    parallel: NonZeroUsize,
    /// What confines the worker processes of its models here.
    confined_by: Vec<&'static str>,
    /// What was sought where, and how to get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub(crate) fn run(arguments: Doctor, output: &Output) -> Result<(), Failure> {
    let libraries = arguments.libraries;
    let named = [
        (BackendKind::OnnxRuntime, libraries.onnxruntime.is_some()),
        (BackendKind::OpenVino, libraries.openvino.is_some()),
    ];
    let backends = torpor::load_backends(libraries.into());
    output.result(&reports(&backends), |reports| render(reports));
    let named = |kind| named.iter().any(|(named, is)| *named == kind && *is);
    match backends.missing().any(|(kind, _)| named(kind)) {
        true => Err(Failure::Told),
        false => Ok(()),
    }
}

fn reports(backends: &Backends) -> Vec<Report> {
    let parallel = Processors::here().runs(NonZeroUsize::MIN);
    let present = backends.present().map(|backend| {
        let report = Report {
            backend: backend.kind().name(),
            available: true,
            version: Some(backend.version().to_owned()),
            devices: backend.devices(),
            library: backend.library().map(|path| path.display().to_string()),
            parallel,
            confined_by: torpor::confinement().parts,
            problem: None,
        };
        (backend.kind(), report)
    });
    let missing = backends.missing().map(|(kind, reason)| {
        let problem = Some(reason.to_owned());
        let backend = kind.name();
        let confined_by = torpor::confinement().parts;
        let (version, devices, library) = (None, Vec::new(), None);
        (kind, Report { backend, available: false, version, devices, library, parallel, confined_by, problem })
    });
    let mut all: Vec<_> = present.chain(missing).collect();
    all.sort_by_key(|(kind, _)| *kind);
    all.into_iter().map(|(_, report)| report).collect()
}

fn render(reports: &[Report]) -> String {
    let none = || "-".to_owned();
    let row = |report: &Report| {
        let library = if report.available { "compiled in" } else { "missing" };
        [
            report.backend.to_owned(),
            report.version.clone().unwrap_or_else(none),
            if report.devices.is_empty() { none() } else { report.devices.join(", ") },
            report.library.clone().unwrap_or_else(|| library.to_owned()),
        ]
    };
    let mut text = table(["BACKEND", "VERSION", "DEVICES", "LIBRARY"], reports.iter().map(row));
    for report in reports {
        if let Some(problem) = &report.problem {
            text.push_str(&format!("\n{} is missing: {problem}\n", report.backend));
        }
    }
    text.push_str(&format!("\n{}\n", Processors::here()));
    let torpor::Confinement { parts, lacks } = torpor::confinement();
    text.push_str(&match lacks {
        None => format!("models with `isolation = \"process\"` are confined by {}\n", parts.join(" and ")),
        Some(lacks) => format!("models with `isolation = \"process\"`: {lacks}\n"),
    });
    text
}
