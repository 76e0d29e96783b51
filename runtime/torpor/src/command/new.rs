//! `torpor new`.

use crate::{
    cli::New,
    failure::Failure,
    output::Output,
    template::{self, Project},
};
use anyhow::Context;
use serde_json::json;
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};
use torpor::Advice;

/// The crate that modules depend on. Its version is this program's, since the two share a contract.
const GUEST: &str = "torpor-guest";
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

pub(crate) fn run(arguments: &New, output: &Output) -> Result<(), Failure> {
    let name = &arguments.name;
    if name.as_str() == GUEST {
        let what = format!("a project cannot be called `{GUEST}`, which it depends on");
        return Err(Failure::WrongUse(Advice::new(what, "choose another name").into()));
    }
    let (guest, note) = if template::uses_guest(arguments.kind) {
        let (guest, note) = dependency(arguments.guest.as_deref())?;
        (Some(guest), note)
    } else if arguments.guest.is_some() {
        let what = format!("a project of kind `{}` does not depend on `{GUEST}`", arguments.kind.name());
        return Err(Failure::WrongUse(Advice::new(what, "leave out `--guest`").into()));
    } else {
        (None, None)
    };
    let folder = arguments.path.clone().unwrap_or_else(|| PathBuf::from(name.as_str()));
    let project = template::project(arguments.kind, name, guest.as_deref());
    write(&folder, &project)?;

    let shown = folder.display().to_string();
    let files: Vec<_> = project.files.iter().map(|(path, _)| *path).collect();
    let value = json!({
        "name": name.to_string(), "kind": arguments.kind.name(), "folder": shown, "files": files, "guest": guest,
        "commands": project.commands, "note": note,
    });
    output.result(&value, |_| {
        let commands: String = project.commands.iter().map(|command| format!("  {command}\n")).collect();
        let note = note.map(|note| format!("\nnote: {note}\n")).unwrap_or_default();
        format!("made `{}` in `{shown}`; now, in that folder:\n\n{commands}{note}", name.as_str())
    });
    Ok(())
}

/// What `Cargo.toml` says of the dependency, and what its author has to know about it.
fn dependency(guest: Option<&str>) -> Result<(String, Option<String>), Failure> {
    match guest {
        None => {
            let note = format!(
                "`{GUEST}` {VERSION} is not on crates.io yet; until it is, give its folder or its Git repository with `--guest`"
            );
            Ok((format!("\"{VERSION}\""), Some(note)))
        }
        Some(url) if url.contains("://") => Ok((format!("{{ git = {} }}", quoted(url)), None)),
        Some(path) => {
            let what = || Advice::new(format!("there is no crate in `{path}`"), HERE);
            let folder = fs::canonicalize(path).with_context(what)?;
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).with_context(what)?;
            if !manifest.lines().any(|line| line.trim() == format!("name = \"{GUEST}\"")) {
                let what = format!("the crate in `{path}` is not `{GUEST}`");
                return Err(Failure::WrongUse(Advice::new(what, HERE).into()));
            }
            Ok((format!("{{ path = {} }}", quoted(&folder.display().to_string())), None))
        }
    }
}

const HERE: &str = "give the folder `guest` of Torpor's repository, or the address of that repository for Git";

/// As a string of TOML.
fn quoted(text: &str) -> String {
    // JSON's escapes are TOML's, too.
    serde_json::Value::from(text).to_string()
}

/// Writes the project, and nothing over what is there already.
fn write(folder: &Path, project: &Project) -> Result<(), Failure> {
    let what = || format!("cannot make a project in `{}`", folder.display());
    fs::create_dir_all(folder).with_context(what)?;
    if fs::read_dir(folder).with_context(what)?.next().is_some() {
        let what = format!("`{}` is not empty, and nothing in it is overwritten", folder.display());
        return Err(Failure::WrongUse(Advice::new(what, "choose another folder with `--path`").into()));
    }
    for (path, content) in &project.files {
        let path = folder.join(path);
        let what = || format!("cannot write `{}`", path.display());
        fs::create_dir_all(path.parent().unwrap_or(folder)).with_context(what)?;
        File::create_new(&path).and_then(|mut file| file.write_all(content)).with_context(what)?;
    }
    Ok(())
}
