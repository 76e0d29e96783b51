//! What is asked of the functions of a host.

use crate::stage::{is_add, name};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::net::SocketAddr;
use torpor_benches::served::{Served, infer};
use ureq::Agent;

/// A request for the function with this number.
fn request(index: usize) -> Value {
    if is_add(index) {
        let row = |name: &str| json!({ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4] });
        return json!({ "inputs": [row("x"), row("y")] });
    }
    let data: Vec<i32> = (0..2048).map(|index| index % 256).collect();
    json!({ "inputs": [{ "name": "bytes", "shape": [1, 2048], "datatype": "INT32", "data": data }] })
}

/// Calls a cold function, and returns how long its wake took by its own account, in milliseconds.
pub(crate) fn wake(host: &Served, index: usize) -> Result<f64> {
    let answer = host.infer(&name(index), &request(index))?;
    let timing = answer.headers().get("server-timing").and_then(|timing| timing.to_str().ok()).unwrap_or_default();
    let wake = timing.split(", ").find_map(|entry| entry.strip_prefix("wake;dur="));
    Ok(wake.context("the function was not cold")?.parse()?)
}

/// Calls the function with this number.
pub(crate) fn call(agent: &Agent, data: SocketAddr, index: usize) -> Result<()> {
    infer(agent, data, &name(index), &request(index)).map(drop)
}
