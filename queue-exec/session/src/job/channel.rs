//! A runner's side of the socket to its monitor: one that dies is waited for. Knows packets; not what they mean.

use crate::monitor::{Adopted, RETRY, adopt};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, send};
use queue_exec::client;
use queue_exec::protocol::{FromRunner, FromSession, PACKET_MAX, ToRunner, ToSession};
use queue_exec::ticket::Nonce;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

/// The monitor, present or not.
pub(crate) struct Channel {
    fd: Option<OwnedFd>,
    nonce: Nonce,
    path: String,
    retry_at: Instant,
    /// What did not fit into the socket.
    queue: VecDeque<Vec<u8>>,
    buf: Vec<u8>,
}

/// What came.
pub(crate) enum Heard {
    /// A message, and a descriptor with it.
    Message(ToRunner, Option<OwnedFd>),
    /// The channel is closed: the monitor is gone, or does not need us any more.
    Lost,
    /// Nothing that matters.
    Nothing,
}

impl Channel {
    /// After the hire.
    pub(crate) fn new(fd: OwnedFd, nonce: Nonce, path: String) -> Self {
        Self {
            fd: Some(fd),
            nonce,
            path,
            retry_at: Instant::now(),
            queue: VecDeque::new(),
            buf: vec![0; PACKET_MAX],
        }
    }

    /// For the poll, and what for.
    pub(crate) fn fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let mut events = PollFlags::POLLIN;
        if !self.queue.is_empty() {
            events |= PollFlags::POLLOUT;
        }
        self.fd.as_ref().map(|f| (f.as_fd(), events))
    }

    /// When to look for a monitor again, if there is none.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.fd.is_none().then_some(self.retry_at)
    }

    /// Whether all that was said is on its way.
    pub(crate) fn is_flushed(&self) -> bool {
        self.fd.is_some() && self.queue.is_empty()
    }

    /// Says something; to a monitor that is away it is said when it is back, by our owner.
    pub(crate) fn tell(&mut self, m: &FromRunner) {
        if self.fd.is_some() {
            // `FromSession` owns what it says.
            self.queue.push_back(FromSession::Job(m.clone()).encode());
            self.flush();
        }
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self) {
        while let (Some(fd), Some(packet)) = (&self.fd, self.queue.front()) {
            match send(
                fd.as_raw_fd(),
                packet,
                MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(_) => drop(self.queue.pop_front()),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(_) => return self.lost(),
            }
        }
    }

    fn lost(&mut self) {
        self.fd = None;
        self.queue.clear();
        self.retry_at = Instant::now();
    }

    /// Reads one packet.
    pub(crate) fn read(&mut self) -> Heard {
        let Some(fd) = &self.fd else { return Heard::Nothing };
        match client::receive(fd.as_fd(), &mut self.buf) {
            Ok((0, _)) => {}
            Ok((n, file)) => {
                return match ToSession::decode(&self.buf[..n]) {
                    Ok(ToSession::Job(m)) => Heard::Message(m, file),
                    _ => Heard::Nothing,
                };
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
            Err(_) => {}
        }
        self.lost();
        Heard::Lost
    }

    /// Looks for a monitor, if it is time to; what came of it, if it was tried.
    pub(crate) fn retry(&mut self) -> Option<Retried> {
        if self.fd.is_some() || Instant::now() < self.retry_at {
            return None;
        }
        let tried = match adopt(&self.path, self.nonce) {
            Adopted::By(fd) => {
                self.fd = Some(fd);
                Retried::Back
            }
            Adopted::Denied => Retried::Denied,
            Adopted::Nobody => Retried::Nobody,
        };
        self.retry_at = Instant::now() + RETRY;
        Some(tried)
    }
}

/// What looking for a monitor brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retried {
    /// It has us again.
    Back,
    /// It does not want us.
    Denied,
    /// There is none.
    Nobody,
}
