//! One client's connection: a non-blocking packet socket with a bounded queue of replies. Knows packets; not
//! what they say.

use crate::monitor::peer::Peer;
use queue_exec::client;
use queue_exec::protocol::Reply;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

/// Replies queued for a daemon that is slow to read (events of many sessions), and for anybody else.
const QUEUE_DAEMON: usize = 16_384;
const QUEUE_USER: usize = 64;

/// A client.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) fd: OwnedFd,
    pub(crate) peer: Peer,
    /// It gets events of sessions.
    pub(crate) watching: bool,
    /// Requests of it that are parked.
    pub(crate) parked: usize,
    /// When it last asked something.
    pub(crate) active: Instant,
    /// Whether the poller waits for room to write.
    pub(crate) wants_out: bool,
    queue: VecDeque<Vec<u8>>,
}

impl Conn {
    pub(crate) fn new(fd: OwnedFd, peer: Peer) -> Self {
        Self {
            fd,
            peer,
            watching: false,
            parked: 0,
            active: Instant::now(),
            wants_out: false,
            queue: VecDeque::new(),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Sends a reply, or queues it; `false` if the connection is of no more use.
    pub(crate) fn send(&mut self, id: u32, reply: &Reply) -> bool {
        let packet = reply.encode(id);
        let max = if self.watching { QUEUE_DAEMON } else { QUEUE_USER };
        if self.queue.is_empty() {
            match client::send(self.fd(), &packet, None) {
                Ok(()) => return true,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        self.queue.push_back(packet);
        self.queue.len() <= max
    }

    /// Sends what was queued; `false` if the connection is of no more use.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(packet) = self.queue.front() {
            match client::send(self.fd(), packet, None) {
                Ok(()) => drop(self.queue.pop_front()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }
}
