//! What the model alone costs: runs of an open session, and opening one up to its first answer.
//!
//! This is a process of its own because ONNX Runtime has one environment a process, which in the measuring one is Torpor's.

use crate::{
    Source,
    model::{Library, Model, Opening},
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{BufRead, Write, stdin, stdout},
    path::Path,
    time::{Duration, Instant},
};

pub(crate) fn probe(source: &Source, request: &Path) -> Result<()> {
    let library = Library::load(&source.library)?;
    let request = fs::read(request).with_context(|| format!("`{}` cannot be read", request.display()))?;
    let first_answers = |how, count| -> Result<Vec<Duration>> {
        (0..count).map(|_| first_answer(&library, &source.model, how, &request)).collect()
    };
    for line in stdin().lock().lines() {
        let line = line?;
        let (what, count) = line.split_once(' ').context("a command is a word and a number")?;
        let count: usize = count.parse()?;
        let times = match what {
            "run" => library.open(&source.model, Opening::LikeTorpor)?.runs(&request, count)?,
            "open" => first_answers(Opening::LikeTorpor, count)?,
            "open-default" => first_answers(Opening::Default, count)?,
            "open-bytes" => first_answers(Opening::Bytes, count)?,
            _ => bail!("there is no command `{what}`"),
        };
        let times: Vec<_> = times.iter().map(|time| time.as_nanos()).collect();
        let mut stdout = stdout().lock();
        serde_json::to_writer(&mut stdout, &times)?;
        stdout.write_all(b"\n")?;
        stdout.flush()?;
    }
    Ok(())
}

/// The whole of a program that has one thing to do. Opened as by default, as somebody would who writes such a program.
pub(crate) fn once(source: &Source, request: &Path) -> Result<()> {
    let request = fs::read(request).with_context(|| format!("`{}` cannot be read", request.display()))?;
    let mut model = Library::load(&source.library)?.open(&source.model, Opening::Default)?;
    model.runs(&request, 1)?;
    stdout().write_all(b"!\n")?;
    Ok(stdout().flush()?)
}

/// From the file to the first answer. Reading the request is no part of it.
fn first_answer(library: &Library, path: &Path, how: Opening, request: &[u8]) -> Result<Duration> {
    let start = Instant::now();
    let mut model: Model = library.open(path, how)?;
    let opened = start.elapsed();
    let run = model.runs(request, 1)?;
    Ok(opened + run[0])
}
