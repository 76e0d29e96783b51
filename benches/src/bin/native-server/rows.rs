//! Batches, one right after the other: what somebody gets out of a model who has all inputs at hand, and joins as many as serve
//! best.

use crate::{
    Source,
    model::{Library, Model, Opening},
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{Write, stdin, stdout},
    path::Path,
    thread,
    time::{Duration, Instant},
};

pub(crate) fn rows(source: &Source, request: &Path, parallel: Option<usize>) -> Result<()> {
    let library = Library::load(&source.library)?;
    let request = fs::read(request).with_context(|| format!("`{}` cannot be read", request.display()))?;
    let mut models = match parallel {
        Some(parallel) => library.models(&source.model, parallel)?,
        None => vec![library.open(&source.model, Opening::Default)?],
    };
    for line in stdin().lines() {
        let line = line?;
        let (rows, milliseconds) = line.split_once(' ').context("a command is two numbers")?;
        let (rows, time) = (rows.parse()?, Duration::from_millis(milliseconds.parse()?));
        let mut stdout = stdout().lock();
        writeln!(stdout, "{}", in_a_second(&mut models, &request, rows, time)?)?;
        stdout.flush()?;
    }
    Ok(())
}

/// Rows that all models together compute in a second.
#[expect(clippy::cast_precision_loss, reason = "a count of rows")]
fn in_a_second(models: &mut [Model], request: &[u8], rows: usize, time: Duration) -> Result<f64> {
    let start = Instant::now();
    let done: Result<Vec<usize>> = thread::scope(|scope| {
        let runs = models.iter_mut().map(|model| scope.spawn(move || model.rows(request, rows, start + time)));
        let runs: Vec<_> = runs.collect();
        runs.into_iter().map(|run| run.join().unwrap_or_else(|_| bail!("a thread has ended"))).collect()
    });
    Ok(done?.iter().sum::<usize>() as f64 / start.elapsed().as_secs_f64())
}
