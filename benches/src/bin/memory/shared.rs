//! Two functions with one model, and one that runs it twice at a time: what the second one adds.
//!
//! Beside what Torpor does, each session from the original file, as every runtime opens it that does not save a form of its own. The
//! host does that too where it cannot keep the form, so its folder is taken away from it before the first wake.

use crate::request;
use anyhow::{Context, Result};
use std::{fs, path::Path, thread::sleep, time::Duration};
use torpor_benches::{
    frame::{Group, Results},
    served::{Held, Served, state},
    stage::{EMBED, Stage, Way},
};

/// Nobody sleeps while this is measured.
const IDLE_TIMEOUT: &str = "1h";
/// Calls of each function: enough for a faster form to be opened, where one follows.
const CALLS: usize = 60;
/// Between two looks at the process.
const LOOK: Duration = Duration::from_millis(200);
/// By how much it may change between two looks at rest, in MB.
const STILL: f64 = 0.5;
/// What a second function may add, as a share of what the first one takes.
const SECOND: f64 = 0.5;

const COUNTED_ONCE: &str = "pages counted once";

/// What is served: names, and runs at the same time.
const ONE: (&[&str], usize) = (&["first", "second"], 1);
const PARALLEL: (&[&str], usize) = (&["first"], 2);

/// A kind of memory, and how much of it is held.
type Measure = (&'static str, fn(&Held) -> f64);

/// Samples of one number, each for none, one and two functions awake.
#[derive(Default)]
struct Samples([Vec<Held>; 3]);

pub(crate) fn measure(stage: &Stage, rounds: usize, results: &mut Results) -> Result<()> {
    let (two, parallel) = (stage.path("two"), stage.path("parallel"));
    for (folder, (names, parallel)) in [(&two, ONE), (&parallel, PARALLEL)] {
        for name in names {
            let way = Way { name, parallel, idle_timeout: IDLE_TIMEOUT, ..Way::default() };
            stage.manifest_in(folder, &EMBED, &way)?;
        }
    }
    let (mut mapped, mut copied, mut twice) = <(Samples, Samples, Vec<Held>)>::default();
    for _ in 0..rounds {
        mapped.add(awake(stage, &two, ONE.0, true)?);
        twice.extend(awake(stage, &parallel, PARALLEL.0, true)?.get(1));
        copied.add(awake(stage, &two, ONE.0, false)?);
    }
    let pages: [Measure; 2] = [(COUNTED_ONCE, |held| held.once_mb), ("anonymous", |held| held.anonymous_mb)];
    for (what, of) in pages {
        let mut group = Group::new(format!("embed, awake: {what}"));
        let [none, one, both] = mapped.columns(of);
        let none = group.add("Torpor, nobody awake", none);
        let one = group.add("Torpor, one function", one);
        let both = group.add("Torpor, two functions", both);
        group.add("Torpor, one with `parallel = 2`", twice.iter().map(of).collect());
        let [_, alone, each] = copied.columns(of);
        group.add("original file, one function", alone);
        group.add("original file, two functions", each);
        results.add(group);
        // What no file backs is a session's own, whatever it shares.
        if what == COUNTED_ONCE {
            let goal = format!("embed, {what}: what a second function adds, as a share of the first");
            results.goal(goal, (both - one) / (one - none), SECOND, "×");
        }
    }
    Ok(())
}

/// What a host holds before anybody is awake, and after each of `names` has woken.
fn awake(stage: &Stage, manifests: &Path, names: &[&str], keeps_forms: bool) -> Result<Vec<Held>> {
    let forms = state(manifests).join("optimized");
    // What the deployment leaves in the heap is another matter, so it is made by a host of its own.
    drop(Served::start(stage, manifests, &[])?);
    let host = Served::start(stage, manifests, &[])?;
    if !keeps_forms {
        fs::remove_dir_all(&forms).with_context(|| format!("`{}` cannot be removed", forms.display()))?;
    }
    let mut all = vec![at_rest(&host)?];
    for name in names {
        let request = request(&host, name)?;
        for _ in 0..CALLS {
            host.infer(name, &request)?;
        }
        all.push(at_rest(&host)?);
    }
    Ok(all)
}

/// What the process holds once that does not change.
fn at_rest(host: &Served) -> Result<Held> {
    let mut last = host.held()?;
    loop {
        sleep(LOOK);
        let now = host.held()?;
        let change = (now.anonymous_mb - last.anonymous_mb).abs() + (now.once_mb - last.once_mb).abs();
        if change < STILL {
            return Ok(now);
        }
        last = now;
    }
}

impl Samples {
    fn add(&mut self, held: Vec<Held>) {
        for (kept, held) in self.0.iter_mut().zip(held) {
            kept.push(held);
        }
    }

    fn columns(&self, of: impl Fn(&Held) -> f64) -> [Vec<f64>; 3] {
        self.0.each_ref().map(|held| held.iter().map(&of).collect())
    }
}
