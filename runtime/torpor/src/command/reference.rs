//! `torpor completions` and `torpor man`: what shells and readers of manual pages are told, from the one definition in `cli.rs`.

use crate::{
    cli::{Cli, Completions, Man},
    failure::Failure,
    output::Output,
};
use anyhow::{Context, anyhow};
use clap::CommandFactory;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) fn completions(arguments: &Completions, output: &Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "torpor", &mut script);
    let script = String::from_utf8(script).context("the script is no text")?;
    output.result(&json!({ "shell": arguments.shell.to_string(), "script": script }), |_| script.clone());
    Ok(())
}

pub(crate) fn man(arguments: &Man, output: &Output) -> Result<(), Failure> {
    let pages = pages()?;
    let Some(folder) = &arguments.out else {
        let (_, page) = pages.first().context("there is no page")?;
        output.result(&json!({ "page": page }), |_| page.clone());
        return Ok(());
    };
    let files = pages.iter().map(|(name, page)| write(folder, name, page)).collect::<Result<Vec<_>, _>>()?;
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    output.result(&json!({ "files": files }), |_| files.join("\n"));
    Ok(())
}

/// Names and contents; that of `torpor` itself comes first.
fn pages() -> Result<Vec<(String, String)>, Failure> {
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    let commands = std::iter::once(&whole).chain(whole.get_subcommands().filter(|command| !command.is_hide_set()));
    let page = |command: &clap::Command| {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page).context("cannot write a page")?;
        let page = String::from_utf8(page).map_err(|_| anyhow!("the page of `{name}` is no text"))?;
        Ok((format!("{name}.1"), page))
    };
    commands.map(page).collect()
}

fn write(folder: &Path, name: &str, page: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, page))
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}
