//! `cargo xtask up`: from a fresh clone to a host that answers, and its smoke test, which does the same and looks at the answers.

use crate::{
    bundles,
    calls::{self, Call},
    console, guests,
    host::{Host, Settings},
    manifests, run,
    setup::{self, Assets},
    tree::Tree,
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

const DATA: &str = "127.0.0.1:8080";
const ADMIN: &str = "127.0.0.1:8081";

/// How many warm calls the median is taken of.
const WARM_CALLS: usize = 21;

/// How long functions with an idle timeout of a second may take to be at zero.
const ASLEEP: Duration = Duration::from_secs(30);

/// Everything that a host needs to serve: the assets, the binary, the modules and the signed bundles.
pub(crate) fn prepare(tree: &Tree) -> Result<Assets> {
    let assets = setup::setup()?;
    console::step("build", "torpor");
    let mut build = run::cargo();
    // The whole workspace is selected, though one binary is built: its features are what tests and lints build with too, so that
    // no dependency is ever built twice.
    run::run(build.current_dir(&tree.root).args(["build", "--release", "--workspace", "--bin", "torpor"]))?;
    guests::build(tree, &assets)?;
    bundles::make(tree, &assets)?;
    Ok(assets)
}

/// Serves until Ctrl-C.
pub(crate) fn up(tree: &Tree) -> Result<()> {
    for address in [DATA, ADMIN] {
        TcpListener::bind(address).with_context(|| {
            format!(
                "`{address}` cannot be listened on: something else does, perhaps another `cargo xtask up`; stop it first \
                 (`ss -ltnp` shows who it is)"
            )
        })?;
    }
    let assets = prepare(tree)?;
    let (manifests, state) = (manifests::folder(tree)?, tree.dev().join("state"));
    let settings = Settings { manifests: &manifests, state: &state, data: DATA, admin: ADMIN };
    let mut host = Host::start(tree, &assets, &settings)?;
    let calls = calls::all(&tree.dev().join("samples"))?;
    let rows = calls.iter().map(|call| measure(tree, &mut host, call)).collect::<Result<Vec<_>>>();
    let rows = rows.map_err(|error| host.explain(error))?;
    println!("\n{}", table(&rows));
    println!("state and metrics: curl {0}/functions, curl {0}/metrics; Ctrl-C drains and stops", host.addresses.admin);
    let status = host.attend()?;
    ensure!(status.success(), "the host ended badly ({status}); what it wrote is above");
    Ok(())
}

/// Calls a function that is cold, and then again and again.
fn measure(tree: &Tree, host: &mut Host, call: &Call) -> Result<[String; 4]> {
    let state = host.state(call.name)?;
    ensure!(state == "Cold", "`{}` is {state}, but nobody has called it yet", call.name);
    let agent = calls::agent();
    let mut time = || {
        host.check()?;
        let start = Instant::now();
        let answer = call.send(&agent, host.addresses.data)?;
        let time = start.elapsed();
        call.check(&answer)?;
        anyhow::Ok(time)
    };
    let cold = time()?;
    let mut warm = (0..WARM_CALLS).map(|_| time()).collect::<Result<Vec<_>>>()?;
    warm.sort();
    Ok([call.name.to_owned(), shown(cold), shown(warm[WARM_CALLS / 2]), call.line(tree, host.addresses.data)])
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// Columns as wide as their widest cell; times to the right, so that they compare at a glance.
fn table(rows: &[[String; 4]]) -> String {
    const HEAD: [&str; 4] = ["function", "cold", "warm p50", "try"];
    let width = |column: usize| rows.iter().map(|row| row[column].len()).chain([HEAD[column].len()]).max().unwrap_or(0);
    let (name, cold, warm) = (width(0), width(1), width(2));
    let line = |row: [&str; 4]| format!("{:name$}  {:>cold$}  {:>warm$}  {}\n", row[0], row[1], row[2], row[3]);
    std::iter::once(line(HEAD)).chain(rows.iter().map(|row| line(row.each_ref().map(String::as_str)))).collect()
}

/// Wakes every function, looks at the answers, waits until all are at zero, and stops the host: for CI and for a first look.
pub(crate) fn smoke(tree: &Tree) -> Result<()> {
    let assets = prepare(tree)?;
    let scratch = tempfile::Builder::new().prefix("torpor-smoke-").tempdir()?;
    let (manifests, state) = (scratch.path().join("manifests"), scratch.path().join("state"));
    manifests::sleepy(tree, &manifests)?;
    let settings = Settings { manifests: &manifests, state: &state, data: "127.0.0.1:0", admin: "127.0.0.1:0" };
    let mut host = Host::start(tree, &assets, &settings)?;
    let calls = calls::all(&scratch.path().join("samples"))?;
    calls.iter().try_for_each(|call| answer(&host, call)).map_err(|error| host.explain(error))?;
    asleep(&mut host).map_err(|error| host.explain(error))?;
    console::step("asleep", "all functions are at zero");
    let status = host.stop()?;
    ensure!(status.success(), "the host ended badly after SIGTERM ({status}); what it wrote is above");
    console::step("stopped", "the host drained");
    Ok(())
}

/// Calls a function at zero, which wakes it.
fn answer(host: &Host, call: &Call) -> Result<()> {
    let before = host.state(call.name)?;
    ensure!(before == "Cold", "`{}` is {before} before its first call", call.name);
    call.check(&call.send(&calls::agent(), host.addresses.data)?)?;
    let after = host.state(call.name)?;
    ensure!(after == "Warm", "`{}` is {after} right after a call", call.name);
    console::step("answered", call.name);
    Ok(())
}

/// Waits until every function is at zero.
fn asleep(host: &mut Host) -> Result<()> {
    let start = Instant::now();
    loop {
        host.check()?;
        let awake: Vec<_> = host.functions()?.into_iter().filter(|function| function.state != "Cold").collect();
        if awake.is_empty() {
            return Ok(());
        }
        if start.elapsed() > ASLEEP {
            let names: Vec<_> =
                awake.iter().map(|function| format!("{} is {}", function.name, function.state)).collect();
            bail!("not all functions are at zero after {} seconds: {}", ASLEEP.as_secs(), names.join(", "));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned);
        let text =
            table(&[row(["a", "9.0 ms", "1.0 ms", "curl a"]), row(["long-name", "120.0 ms", "1.5 ms", "curl b"])]);
        let expected = "function       cold  warm p50  try\n\
                        a            9.0 ms    1.0 ms  curl a\n\
                        long-name  120.0 ms    1.5 ms  curl b\n";
        assert_eq!(text, expected);
    }
}
