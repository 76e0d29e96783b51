//! Small packets between host and worker, on a pair of sockets. Whoever waits for one also learns of the other's end.

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    time::{Duration, Instant},
};

/// A packet's length: its kind, and two numbers.
const LENGTH: usize = 17;
/// How long sending may wait for the other side to read, which it does at once unless something is wrong with it.
const SENT: Duration = Duration::from_secs(10);
/// The most descriptors that come with one packet.
const MAX_FDS: usize = 2;

/// What is said. Numbers are those of the worker's memory and mean nothing unless checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet {
    /// To the host, once: the library is loaded.
    Ready,
    /// To the host, once: the library cannot be loaded.
    Unready,
    /// To the worker: the two descriptors that come with this are a lane's socket and region.
    Lane,
    /// To the worker, once: what to open or to optimize stands in the first lane's region, in so many bytes.
    Order { length: u64 },
    /// To the host, once: whether that went well stands there, in so many bytes.
    Done { length: u64 },
    /// To the worker, on a lane: run on the inputs in its region, in so many bytes.
    Run { run: u64, length: u64 },
    /// To the host, on a lane: the answer stands there.
    Answer { run: u64, length: u64 },
    /// To the worker: stop a run of a lane.
    Cancel { lane: u64, run: u64 },
}

impl Packet {
    fn encode(self) -> [u8; LENGTH] {
        let (kind, one, two) = match self {
            Packet::Ready => (0, 0, 0),
            Packet::Unready => (1, 0, 0),
            Packet::Lane => (2, 0, 0),
            Packet::Order { length } => (3, length, 0),
            Packet::Done { length } => (4, length, 0),
            Packet::Run { run, length } => (5, run, length),
            Packet::Answer { run, length } => (6, run, length),
            Packet::Cancel { lane, run } => (7, lane, run),
        };
        let mut bytes = [0; LENGTH];
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&u64::to_le_bytes(one));
        bytes[9..].copy_from_slice(&u64::to_le_bytes(two));
        bytes
    }

    /// `None` for what is no packet.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, numbers) = bytes.split_first()?;
        let (numbers, []) = numbers.as_chunks::<8>() else { return None };
        let &[one, two] = numbers else { return None };
        let (one, two) = (u64::from_le_bytes(one), u64::from_le_bytes(two));
        Some(match kind {
            0 => Packet::Ready,
            1 => Packet::Unready,
            2 => Packet::Lane,
            3 => Packet::Order { length: one },
            4 => Packet::Done { length: one },
            5 => Packet::Run { run: one, length: two },
            6 => Packet::Answer { run: one, length: two },
            7 => Packet::Cancel { lane: one, run: two },
            _ => return None,
        })
    }
}

/// One end of a pair. Several threads may send on it at the same time; packets stay whole.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Two ends, of which the first is the host's; neither of which a program that is started inherits.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, two) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&one, Timeout::Send, Some(SENT))?;
        Ok((Channel(one), Channel(two)))
    }

    /// The end that `socket` is, if it is one.
    pub(crate) fn of(socket: OwnedFd) -> Option<Self> {
        let is_one = rustix::net::sockopt::socket_type(&socket).is_ok_and(|kind| kind == SocketType::SEQPACKET);
        is_one.then_some(Channel(socket))
    }

    pub(crate) fn into_socket(self) -> OwnedFd {
        self.0
    }

    /// Sends a packet, and waits where the other side has not read for long.
    pub(crate) fn send(&self, packet: Packet) -> io::Result<()> {
        retry_on_intr(|| send(&self.0, &packet.encode(), SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// Sends a packet unless that would mean to wait.
    pub(crate) fn send_at_once(&self, packet: Packet) -> io::Result<()> {
        retry_on_intr(|| send(&self.0, &packet.encode(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT))?;
        Ok(())
    }

    /// Sends a packet with copies of `descriptors`.
    pub(crate) fn send_with(&self, packet: Packet, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let bytes = packet.encode();
        retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// Waits for a packet.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the other side is gone, [`io::ErrorKind::InvalidData`] when it sent no packet.
    pub(crate) fn recv(&self) -> io::Result<Packet> {
        loop {
            let mut bytes = [0; LENGTH + 1];
            match retry_on_intr(|| recv(&self.0, &mut bytes[..], RecvFlags::empty())) {
                // It was watched before, and has not waited by itself since.
                Err(Errno::AGAIN) => drop(readable(self.0.as_fd(), Duration::MAX)?),
                read => return received(read.map(|(_, length)| length), &bytes),
            }
        }
    }

    /// Something that tells when a packet is there. Must be called within a tokio runtime.
    pub(crate) fn watch(&self) -> io::Result<tokio::net::UnixDatagram> {
        // Not datagrams, but sockets that can be watched alike.
        let socket = UnixDatagram::from(self.0.try_clone()?);
        socket.set_nonblocking(true)?;
        tokio::net::UnixDatagram::from_std(socket)
    }

    /// Takes a packet that is there.
    ///
    /// # Errors
    /// As [`Channel::recv`] has them, and [`io::ErrorKind::WouldBlock`] where there is none yet.
    pub(crate) fn recv_at_once(&self) -> io::Result<Packet> {
        let mut bytes = [0; LENGTH + 1];
        let read = retry_on_intr(|| recv(&self.0, &mut bytes[..], RecvFlags::DONTWAIT));
        received(read.map(|(_, length)| length), &bytes)
    }

    /// Waits for a packet, no longer than `patience`.
    ///
    /// # Errors
    /// As [`Channel::recv`] has them, and [`io::ErrorKind::TimedOut`].
    pub(crate) fn recv_within(&self, patience: Duration) -> io::Result<Packet> {
        match readable(self.0.as_fd(), patience)? {
            true => self.recv(),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Waits for a packet, and takes the descriptors that come with it.
    pub(crate) fn recv_with(&self) -> io::Result<(Packet, Vec<OwnedFd>)> {
        let mut bytes = [0; LENGTH + 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let read = retry_on_intr(|| recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags));
        let packet = received(read.map(|read| read.bytes), &bytes)?;
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        });
        Ok((packet, rights.flatten().collect()))
    }
}

fn received(length: Result<usize, Errno>, bytes: &[u8]) -> io::Result<Packet> {
    match length {
        Ok(0) | Err(Errno::CONNRESET) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(length) => {
            let packet = bytes.get(..length).and_then(Packet::decode);
            packet.ok_or_else(|| io::ErrorKind::InvalidData.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits until something can be read, or the other side is gone. False when neither happened within `patience`.
fn readable(descriptor: BorrowedFd<'_>, patience: Duration) -> io::Result<bool> {
    let end = Instant::now().checked_add(patience);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timeout = left.map(Timespec::try_from).transpose().map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_descriptors_arrive() {
        let (one, two) = Channel::pair().unwrap();
        for packet in [
            Packet::Ready,
            Packet::Unready,
            Packet::Order { length: 7 },
            Packet::Done { length: u64::MAX },
            Packet::Run { run: 1, length: 2 },
            Packet::Answer { run: 3, length: 4 },
            Packet::Cancel { lane: 5, run: 6 },
        ] {
            one.send(packet).unwrap();
            assert_eq!(two.recv().unwrap(), packet);
        }
        let (inner, other) = Channel::pair().unwrap();
        one.send_with(Packet::Lane, &[inner.0.as_fd(), inner.0.as_fd()]).unwrap();
        let (packet, mut descriptors) = two.recv_with().unwrap();
        assert_eq!((packet, descriptors.len()), (Packet::Lane, 2));
        Channel::of(descriptors.remove(0)).unwrap().send(Packet::Ready).unwrap();
        assert_eq!(other.recv().unwrap(), Packet::Ready);
    }

    #[test]
    fn an_end_is_not_mistaken_for_a_packet() {
        let (one, two) = Channel::pair().unwrap();
        assert_eq!(two.recv_within(Duration::ZERO).unwrap_err().kind(), io::ErrorKind::TimedOut);
        for wrong in [&[9; LENGTH][..], &[0; LENGTH - 1], &[0; LENGTH + 1], &[0; 300]] {
            send(&one.0, wrong, SendFlags::empty()).unwrap();
            assert_eq!(two.recv().unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        drop(one);
        assert_eq!(two.recv().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(two.send(Packet::Ready).is_err());
    }
}
