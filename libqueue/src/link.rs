//! A session's link: a [`Stream`], and the connection that carries it at the moment. Both ends use it.
//!
//! A connection that breaks is [`cut`](Link::cut) off; the stream waits, and goes on over the next one
//! ([`join`]). Knows sockets and TLS; must not know terminals, processes, or what the control messages mean. It
//! never blocks except in [`Link::handshake`] and [`Link::flush_all`], which have a deadline.

pub mod join;
pub mod silence;
mod wire;

pub use wire::Wire;

use crate::stream::{Channel, DATA_MAX, Event, ProtocolError, Role, Stream};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::{ClientConfig, ServerConfig};
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Once this much encrypted output waits for the socket, no more local input is read.
pub const BACKLOG: usize = 512 * 1024;
/// Most that is encrypted at once: four TLS records.
const SEAL_MAX: usize = 65_536;

/// Why a connection is of no use any more.
#[derive(Debug)]
pub enum LinkError {
    /// The socket failed, or the peer went without saying so.
    Io(io::Error),
    /// TLS failed: the wrong key, or damaged bytes.
    Tls(rustls::Error),
    /// The peer broke the stream's rules.
    Protocol(ProtocolError),
    /// Nothing came in time.
    Timeout,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("connection closed by the other end")
            }
            Self::Io(e) => write!(f, "{e}"),
            Self::Tls(e) => write!(f, "TLS: {e}"),
            Self::Protocol(e) => write!(f, "protocol: {e}"),
            Self::Timeout => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<io::Error> for LinkError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<Errno> for LinkError {
    fn from(e: Errno) -> Self {
        Self::Io(e.into())
    }
}

impl From<rustls::Error> for LinkError {
    fn from(e: rustls::Error) -> Self {
        Self::Tls(e)
    }
}

impl From<ProtocolError> for LinkError {
    fn from(e: ProtocolError) -> Self {
        Self::Protocol(e)
    }
}

/// One end of a session's stream with its connection.
#[derive(Debug)]
pub struct Link {
    /// `None`: the connection broke, and there is no other one yet.
    wire: Option<Wire>,
    stream: Stream,
    /// Bytes of the stream that came together with the end of a new connection's preliminaries.
    early: Vec<u8>,
}

impl Link {
    /// `queue`'s end. `sock` may still be connecting; it is made non-blocking.
    ///
    /// # Errors
    /// If TLS or the socket cannot be set up.
    pub fn client(sock: OwnedFd, config: Arc<ClientConfig>) -> Result<Self, LinkError> {
        Ok(Self::new(Wire::client(sock, config)?, Role::Front))
    }

    /// The session's end.
    ///
    /// # Errors
    /// If TLS or the socket cannot be set up.
    pub fn server(sock: OwnedFd, config: Arc<ServerConfig>) -> Result<Self, LinkError> {
        Ok(Self::new(Wire::server(sock, config)?, Role::Session))
    }

    /// A fresh stream over a connection.
    pub fn new(wire: Wire, role: Role) -> Self {
        Self {
            wire: Some(wire),
            stream: Stream::new(role),
            early: Vec::new(),
        }
    }

    /// The stream's bookkeeping (credit, what has ended).
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// From now on the stream can outlive its connection: [`Stream::make_resumable`].
    pub fn make_resumable(&mut self) {
        self.stream.make_resumable();
    }

    /// The socket; `None` while there is no connection.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.wire.as_ref().map(Wire::socket)
    }

    /// Whether there is no connection.
    pub fn is_cut(&self) -> bool {
        self.wire.is_none()
    }

    /// Drops the connection. What is sent from now on is kept for the next one.
    pub fn cut(&mut self) {
        self.wire = None;
        self.early = Vec::new();
    }

    /// What to poll its socket for; `None` while there is none.
    pub fn polled(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let mut events = PollFlags::POLLIN;
        if self.backlog() > 0 {
            events |= PollFlags::POLLOUT;
        }
        self.socket().map(|s| (s, events))
    }

    /// Goes on over a new connection, whose peer has said how much it has. What that brought with it is given to
    /// the sink of the next [`receive`](Self::receive), which must be called without waiting for the socket.
    ///
    /// # Errors
    /// The peer claims what cannot be; the stream is of no use any more.
    pub fn resume(&mut self, joined: join::Joined) -> Result<(), LinkError> {
        self.stream.resume(joined.peer.received)?;
        self.wire = Some(joined.wire);
        self.early = joined.early;
        self.seal()
    }

    /// Whether TLS is through and data may be sent.
    pub fn is_established(&self) -> bool {
        self.wire.as_ref().is_some_and(Wire::is_established)
    }

    /// Whether the peer has said that nothing more will come.
    pub fn is_peer_closed(&self) -> bool {
        self.wire.as_ref().is_some_and(Wire::is_peer_closed)
    }

    /// Bytes that wait for the socket; 0 while there is none.
    pub fn backlog(&self) -> usize {
        self.wire
            .as_ref()
            .map_or(0, |w| w.backlog() + self.stream.outgoing().len())
    }

    /// Bytes in clear in front of everything that has not been sent yet (the preamble, the answer).
    pub fn prepend(&mut self, clear: &[u8]) {
        if let Some(w) = &mut self.wire {
            w.prepend(clear);
        }
    }

    /// Completes the handshake. What the handshake leaves to send (a client's last flight) stays in the
    /// buffer, so that the first message travels with it; what the peer sent right behind its last flight goes
    /// to the sink.
    ///
    /// # Errors
    /// As [`Link::receive`], and [`LinkError::Timeout`].
    pub fn handshake(&mut self, limit: Duration, mut sink: impl FnMut(Event<'_>)) -> Result<(), LinkError> {
        let end = Instant::now() + limit;
        let Self {
            wire: Some(wire),
            stream,
            ..
        } = self
        else {
            return Err(not_connected());
        };
        loop {
            wire.process(&mut |bytes| Ok(stream.receive(bytes, &mut sink)?))?;
            if wire.is_established() {
                return Ok(());
            }
            wire.flush()?;
            let events = if wire.backlog() > 0 {
                PollFlags::POLLOUT
            } else {
                PollFlags::empty()
            };
            wait(wire.socket(), events | PollFlags::POLLIN, end)?;
            wire.flush()?;
            wire.fill()?;
        }
    }

    /// Reads from the socket what is there, once, and tells the sink what it means. `Ok(false)`: nothing was
    /// there, or there is no connection.
    ///
    /// # Errors
    /// The connection is of no use any more; after [`LinkError::Protocol`] neither is the stream. A peer that
    /// closes the socket without TLS's goodbye is `UnexpectedEof`.
    pub fn receive(&mut self, mut sink: impl FnMut(Event<'_>)) -> Result<bool, LinkError> {
        let Some(wire) = &mut self.wire else {
            return Ok(false);
        };
        let stream = &mut self.stream;
        let early = std::mem::take(&mut self.early);
        stream.receive(&early, &mut sink)?;
        let some = wire.fill()?;
        if some {
            wire.process(&mut |bytes| Ok(stream.receive(bytes, &mut sink)?))?;
        }
        Ok(some || !early.is_empty())
    }

    /// Encrypts what is to be sent, as far as it makes sense to have it wait for the socket.
    fn seal(&mut self) -> Result<(), LinkError> {
        let Some(wire) = self.wire.as_mut().filter(|w| w.is_established()) else {
            return Ok(());
        };
        while wire.backlog() < BACKLOG {
            let clear = self.stream.outgoing();
            let n = clear.len().min(SEAL_MAX);
            if n == 0 {
                break;
            }
            wire.seal(&clear[..n])?;
            self.stream.taken(n);
        }
        Ok(())
    }

    /// Where to put bytes that are to be sent on a channel, before [`Link::commit`]: [`Stream::space`]. Empty
    /// while nothing may be sent, or the socket is behind.
    pub fn space(&mut self, c: Channel) -> &mut [u8] {
        if self.room(c) == 0 {
            return &mut [];
        }
        self.stream.space(c)
    }

    /// Sends the first `n` bytes that were put into [`Link::space`].
    ///
    /// # Errors
    /// If TLS fails.
    pub fn commit(&mut self, c: Channel, n: usize) -> Result<(), LinkError> {
        self.stream.commit(c, n);
        self.seal()
    }

    /// Sends bytes on a channel, as many as its credit allows; says how many.
    ///
    /// # Errors
    /// If TLS fails.
    pub fn send(&mut self, c: Channel, bytes: &[u8]) -> Result<usize, LinkError> {
        let n = self.stream.send(c, bytes);
        self.seal()?;
        Ok(n)
    }

    /// How many bytes may be read from a source and sent on this channel now: its credit, one frame at most,
    /// nothing while the socket is behind. Without a connection they are kept.
    pub fn room(&self, c: Channel) -> usize {
        let waits = match &self.wire {
            Some(w) => !w.is_established() || w.backlog() >= BACKLOG,
            None => !self.stream.is_resumable(),
        };
        if waits {
            0
        } else {
            self.stream.credit(c).min(DATA_MAX)
        }
    }

    /// Ends a channel.
    ///
    /// # Errors
    /// If TLS fails.
    pub fn send_eof(&mut self, c: Channel) -> Result<(), LinkError> {
        self.stream.eof(c);
        self.seal()
    }

    /// Tells the peer that a channel is no longer read.
    ///
    /// # Errors
    /// If TLS fails.
    pub fn send_close(&mut self, c: Channel) -> Result<(), LinkError> {
        self.stream.close(c);
        self.seal()
    }

    /// Sends a control message.
    ///
    /// # Errors
    /// If TLS fails.
    pub fn send_control(&mut self, message: &[u8]) -> Result<(), LinkError> {
        self.stream.control(message);
        self.seal()
    }

    /// Acknowledges the rest of what came ([`Stream::acknowledge_rest`]).
    ///
    /// # Errors
    /// If TLS fails.
    pub fn acknowledge_rest(&mut self) -> Result<bool, LinkError> {
        let any = self.stream.acknowledge_rest();
        self.seal()?;
        Ok(any)
    }

    /// Notes that `n` received bytes of a channel have been written; gives the peer credit when it is time.
    ///
    /// # Errors
    /// If TLS fails.
    pub fn consumed(&mut self, c: Channel, n: usize) -> Result<(), LinkError> {
        self.stream.consumed(c, n);
        self.seal()
    }

    /// TLS's goodbye: nothing more will be sent.
    ///
    /// # Errors
    /// If TLS fails.
    pub fn send_goodbye(&mut self) -> Result<(), LinkError> {
        self.wire.as_mut().map_or(Ok(()), Wire::send_goodbye)
    }

    /// Writes what waits, as far as the socket takes it. `Ok(true)`: all of it. Without a connection nothing is
    /// written.
    ///
    /// # Errors
    /// As `send(2)`.
    pub fn flush(&mut self) -> Result<bool, LinkError> {
        loop {
            self.seal()?;
            let rest = !self.stream.outgoing().is_empty();
            let Some(w) = &mut self.wire else {
                return Ok(!rest);
            };
            if !w.flush()? {
                return Ok(false);
            }
            if !rest || !w.is_established() {
                return Ok(true);
            }
        }
    }

    /// Waits until everything is sent or the time is over.
    ///
    /// # Errors
    /// As [`Link::flush`], and [`LinkError::Timeout`].
    pub fn flush_all(&mut self, limit: Duration) -> Result<(), LinkError> {
        let end = Instant::now() + limit;
        while !self.flush()? {
            let socket = self.socket().ok_or_else(not_connected)?;
            wait(socket, PollFlags::POLLOUT, end)?;
        }
        Ok(())
    }
}

fn not_connected() -> LinkError {
    LinkError::Io(io::ErrorKind::NotConnected.into())
}

/// Polls one descriptor until a deadline.
///
/// # Errors
/// [`LinkError::Timeout`], or as `poll(2)`.
pub fn wait(fd: BorrowedFd<'_>, events: PollFlags, end: Instant) -> Result<(), LinkError> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let ms = PollTimeout::try_from(left.as_millis() as u64 + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, events)], ms) {
            Ok(0) => return Err(LinkError::Timeout),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Makes a descriptor of our own non-blocking. Not for descriptors that others share (stdin and the like).
///
/// # Errors
/// As `fcntl(2)`.
pub fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests;
