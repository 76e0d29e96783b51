//! `torpor ps`.

mod render;
mod watch;

use super::client::{self, Function};
use crate::{cli::Ps, failure::Failure, output::Output};
use anyhow::Context;
use serde_json::Value;

pub(crate) fn run(arguments: &Ps, output: &Output) -> Result<(), Failure> {
    if arguments.watch {
        return watch::run(arguments, output);
    }
    let (value, functions) = look(arguments)?;
    output.result(&value, |_| render::all(&functions));
    Ok(())
}

/// The functions as the host tells of them, and what this program needs of that.
fn look(arguments: &Ps) -> Result<(Value, Vec<Function>), Failure> {
    let text = client::functions(arguments.admin.admin, arguments.function.as_ref())?;
    let value: Value = serde_json::from_str(&text).with_context(client::other_version)?;
    let list = if value.is_array() { value.clone() } else { Value::Array(vec![value.clone()]) };
    let functions = serde_json::from_value(list).with_context(client::other_version)?;
    Ok((value, functions))
}
