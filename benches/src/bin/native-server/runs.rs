//! Where runs happen: on the thread that read the request, or on threads of their own.

use crate::{Run, model::Model};
use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::thread;
use tokio::sync::oneshot;

/// Jobs that may wait, far more than there are connections.
const QUEUE: usize = 4096;

/// Sessions of one model, and who uses them.
pub(crate) enum Runs {
    /// Whoever has a request takes a model out, and puts it back.
    Inline {
        give: Sender<Model>,
        take: Receiver<Model>,
    },
    Threads(Sender<Job>),
}

type Job = Box<dyn FnOnce(&mut Model) + Send>;

impl Runs {
    pub(crate) fn new(models: Vec<Model>, run: Run) -> Result<Self> {
        match run {
            Run::Inline => inline(models),
            Run::Threads => Ok(threads(models)),
        }
    }

    /// Does work with a model, as soon as one is free.
    pub(crate) async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Model) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match self {
            Runs::Inline { give, take } => {
                let mut model = take.recv()?;
                let done = work(&mut model);
                give.send(model).ok().context("nobody takes models back")?;
                done
            }
            Runs::Threads(jobs) => {
                let (reply, done) = oneshot::channel();
                // Nobody listens when the client has gone.
                let job: Job = Box::new(move |model| drop(reply.send(work(model))));
                jobs.send(job).ok().context("the threads have ended")?;
                done.await?
            }
        }
    }
}

fn inline(models: Vec<Model>) -> Result<Runs> {
    let (give, take) = bounded(models.len());
    for model in models {
        give.send(model).ok().context("the channel has room for all models")?;
    }
    Ok(Runs::Inline { give, take })
}

fn threads(models: Vec<Model>) -> Runs {
    let (jobs, queue) = bounded::<Job>(QUEUE);
    for mut model in models {
        let queue = queue.clone();
        thread::spawn(move || {
            for job in queue {
                job(&mut model);
            }
        });
    }
    Runs::Threads(jobs)
}
