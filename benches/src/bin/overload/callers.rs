//! Callers that do not wait for each other: requests come at a rate, whatever becomes of those before them.
//!
//! As with callers in the world, their arrivals are random. One thread does it all, since it takes its time from the host that it
//! measures; how much that is, is measured too.

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::task::LocalSet;
use torpor_benches::load::Connection;

/// What the callers saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// All requests that were sent.
    pub(crate) sent: usize,
    /// Milliseconds until each answer that came in time, from when its request should have been sent.
    pub(crate) good: Vec<f64>,
    /// Answers that came too late.
    pub(crate) late: usize,
    /// Requests that were turned away with 503.
    pub(crate) shed: usize,
    /// Those that were told that their deadline has passed: work that may have been done in vain.
    pub(crate) expired: usize,
    /// The share of one processor that the callers took themselves.
    pub(crate) callers: f64,
}

/// Connections that have no request under way.
type Idle = Rc<RefCell<Vec<Connection>>>;

/// Sends `request` so many times a second for `time`, and waits for what becomes of all. An answer is good within `deadline`.
pub(crate) fn call(
    address: SocketAddr,
    request: Vec<u8>,
    rate: f64,
    time: Duration,
    deadline: Duration,
) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (idle, request): (Idle, Rc<[u8]>) = (Rc::default(), request.into());
    let results = Rc::new(RefCell::new(Vec::new()));
    let (start, busy) = (Instant::now(), processor_time());
    let set = LocalSet::new();
    set.block_on(&runtime, async {
        let mut dice = Dice(1);
        let mut due = start;
        while due.duration_since(start) < time {
            tokio::time::sleep_until(due.into()).await;
            let (idle, request, results) = (Rc::clone(&idle), Rc::clone(&request), Rc::clone(&results));
            tokio::task::spawn_local(async move {
                let result = one(address, &request, &idle).await.map(|status| (status, due.elapsed()));
                results.borrow_mut().push(result);
            });
            due += Duration::from_secs_f64(-dice.roll().ln() / rate);
        }
    });
    // Those that are under way still.
    runtime.block_on(set);
    let callers = (processor_time() - busy).as_secs_f64() / start.elapsed().as_secs_f64();
    let mut seen = Seen { callers, ..Seen::default() };
    for result in results.take() {
        let (status, took) = result?;
        seen.sent += 1;
        match status {
            200 if took <= deadline => seen.good.push(took.as_secs_f64() * 1e3),
            200 => seen.late += 1,
            503 => seen.shed += 1,
            504 => seen.expired += 1,
            status => anyhow::bail!("the host answered {status}"),
        }
    }
    Ok(seen)
}

/// One request, on a connection that is free or on a new one.
async fn one(address: SocketAddr, request: &[u8], idle: &Idle) -> Result<u16> {
    // Not in the `match`, where it would be borrowed while others want it.
    let free = idle.borrow_mut().pop();
    let mut connection = match free {
        Some(connection) => connection,
        None => Connection::open(address).await?,
    };
    let status = connection.call(request).await?;
    idle.borrow_mut().push(connection);
    Ok(status)
}

/// What this process has used.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Numbers that look random, and are the same in each run.
struct Dice(u64);

impl Dice {
    /// Above 0, up to 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (f64::from(u32::try_from(self.0 >> 32).unwrap_or_default()) + 1.0) / (f64::from(u32::MAX) + 1.0)
    }
}
