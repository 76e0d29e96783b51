//! A lane: the way of one run at a time to a worker and back. A worker has as many as its model may have runs at the same time.

use crate::{
    channel::{Channel, Packet},
    process::Process,
    region::Region,
};
use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{io::Interest, net::UnixDatagram};

/// The host's end of a lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) index: u64,
    /// Tells when the channel can be read. Made at first use.
    watch: Option<UnixDatagram>,
    pub(crate) channel: Channel,
    pub(crate) region: Region,
    /// The number of the last run.
    run: u64,
    /// The length of its inputs' message.
    pub(crate) sent: u64,
    /// The number of the last run that was answered, for whoever looks after one that was cancelled.
    pub(crate) last: Arc<AtomicU64>,
}

impl Lane {
    /// Makes a lane, and gives the worker its end.
    pub(crate) fn new(process: &Process, index: usize) -> io::Result<Self> {
        let (channel, other) = Channel::pair()?;
        let region = Region::new()?;
        let other = other.into_socket();
        process.control.send_with(Packet::Lane, &[other.as_fd(), region.descriptor()])?;
        Ok(Lane { index: index as u64, watch: None, channel, region, run: 0, sent: 0, last: Arc::default() })
    }

    /// The number of a run that begins, on inputs of this length.
    pub(crate) fn begin(&mut self, length: u64) -> u64 {
        self.sent = length;
        self.run += 1;
        self.run
    }

    /// Waits for the answer to a run, and returns its length.
    pub(crate) fn wait(&self, run: u64) -> io::Result<u64> {
        let packet = self.channel.recv()?;
        self.answer(run, packet)
    }

    /// The same without a thread that waits. Must be called within a tokio runtime.
    pub(crate) async fn answered(&mut self, run: u64) -> io::Result<u64> {
        let watch = match self.watch.take() {
            Some(watch) => self.watch.insert(watch),
            None => self.watch.insert(self.channel.watch()?),
        };
        let packet = loop {
            watch.readable().await?;
            match watch.try_io(Interest::READABLE, || self.channel.recv_at_once()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                packet => break packet?,
            }
        };
        self.answer(run, packet)
    }

    fn answer(&self, run: u64, packet: Packet) -> io::Result<u64> {
        self.last.store(run, Ordering::Release);
        match packet {
            Packet::Answer { run: of, length } if of == run => Ok(length),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
