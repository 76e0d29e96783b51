//! The one thread that starts workers, learns of their ends, and ends those that do not stop when told.
//!
//! A worker dies with the thread that started it, by the kernel's hand, so that thread has to live as long as the host. There is
//! none until a function is deployed whose models have workers.

use crate::process::Ends;
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::{read, write},
};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::Child,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Work for the thread.
type Job = Box<dyn FnOnce(&mut Keeper) + Send>;

/// A handle on the thread. The thread ends with the last one, and kills whatever it had started.
#[derive(Debug)]
pub(crate) struct Handle {
    jobs: Option<Sender<Job>>,
    bell: Arc<OwnedFd>,
}

/// What the thread looks after.
pub(crate) struct Keeper {
    children: Vec<Kept>,
    /// What to look at again, and when.
    later: Vec<(Instant, Overdue)>,
}

/// A worker that runs, or has not been waited for yet.
struct Kept {
    child: Child,
    ends: Arc<Ends>,
}

/// Says whether a worker has still not done what it was told, and why it is to be ended then.
type Overdue = Box<dyn FnOnce() -> Option<(Arc<Ends>, &'static str)> + Send>;

impl Handle {
    pub(crate) fn start() -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (jobs, work) = channel();
        thread::Builder::new().name("torpor-keeper".to_owned()).spawn({
            let bell = Arc::clone(&bell);
            move || Keeper { children: Vec::new(), later: Vec::new() }.work(&work, &bell)
        })?;
        Ok(Handle { jobs: Some(jobs), bell })
    }

    fn submit(&self, job: Job) {
        // The thread ends only when nobody can submit any more.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
        self.ring();
    }

    fn ring(&self) {
        // It fails only where the bell rings already.
        let _ = write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Does `job` on the thread, and nobody waits for it.
    pub(crate) fn later(&self, job: impl FnOnce(&mut Keeper) + Send + 'static) {
        self.submit(Box::new(job));
    }

    /// Does `job` on the thread, and waits for what it gives.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Keeper) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (answer, answered) = channel();
        self.submit(Box::new(move |keeper| drop(answer.send(job(keeper)))));
        answered.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that keeps workers has ended")))
    }

    /// Looks after `patience` whether something was done, and ends the worker that `overdue` gives if not.
    pub(crate) fn check_later(
        &self,
        patience: Duration,
        overdue: impl FnOnce() -> Option<(Arc<Ends>, &'static str)> + Send + 'static,
    ) {
        let at = Instant::now() + patience;
        self.later(move |keeper| keeper.later.push((at, Box::new(overdue))));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.jobs = None;
        self.ring();
    }
}

impl Keeper {
    /// Looks after a worker that was started on this thread.
    pub(crate) fn keep(&mut self, child: Child, ends: Arc<Ends>) {
        self.children.push(Kept { child, ends });
    }

    fn work(mut self, jobs: &Receiver<Job>, bell: &OwnedFd) {
        loop {
            self.wait(bell);
            loop {
                match jobs.try_recv() {
                    Ok(job) => job(&mut self),
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return self.end(),
                }
            }
            self.reap();
            self.end_overdue();
        }
    }

    /// Waits for a job, a worker's end, or the time to look at something.
    fn wait(&self, bell: &OwnedFd) {
        let ends = self.children.iter().map(|kept| kept.ends.pidfd.as_fd());
        let mut waits: Vec<_> = std::iter::once(bell.as_fd())
            .chain(ends)
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        let next = self.later.iter().map(|(at, _)| *at).min();
        let timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        // An interruption only means to look earlier.
        let _ = poll(&mut waits, timeout.as_ref());
        let _ = read(bell, &mut [0; 8]);
    }

    fn reap(&mut self) {
        self.children.retain_mut(|kept| match kept.child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                kept.ends.ended(Some(status));
                false
            }
            Err(error) => {
                tracing::error!(%error, "a worker cannot be waited for");
                kept.ends.ended(None);
                false
            }
        });
    }

    fn end_overdue(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        let due: Vec<(Instant, Overdue)> = due;
        for (_, overdue) in due {
            if let Some((ends, why)) = overdue() {
                ends.kill(why);
            }
        }
    }

    /// The host ends, and with it all of its workers.
    fn end(self) {
        for Kept { mut child, ends } in self.children {
            // One that has ended already is as good.
            let _ = child.kill();
            ends.ended(child.wait().ok());
        }
    }
}
