//! A session's connection: TLS records on a non-blocking socket, carrying a [`Stream`]. Both ends use it.
//!
//! Knows sockets and TLS; must not know terminals, processes, or what the control messages mean. It never
//! blocks except in [`Link::handshake`], which has a deadline.

use crate::stream::{Channel, DATA_MAX, Event, HEAD, ProtocolError, Role, Stream};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError};
use rustls::{ClientConfig, ServerConfig};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Once this much encrypted output waits for the socket, no more local input is read.
pub const BACKLOG: usize = 512 * 1024;
/// What one `recv` may bring. Pages of it that are never used cost no memory.
const IN_BUFFER: usize = 256 * 1024;
/// Room that encryption adds to one data frame: four records of at most 22 bytes overhead each, and one spare.
const SEAL_ROOM: usize = 5 * 64;

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

enum Tls {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// Runs `$body` with `$status` bound to what `process_tls_records($input)` gives.
macro_rules! process {
    ($tls:expr, $input:expr, $status:ident => $body:expr) => {
        match $tls {
            Tls::Client(c) => {
                let $status = c.process_tls_records($input);
                $body
            }
            Tls::Server(c) => {
                let $status = c.process_tls_records($input);
                $body
            }
        }
    };
}

/// Encrypted bytes that wait for the socket.
#[derive(Default)]
struct Out {
    buf: Vec<u8>,
    start: usize,
}

impl Out {
    fn len(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Appends what `write` puts into a slice with `room` bytes.
    fn append<E>(&mut self, room: usize, write: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<(), E> {
        if self.start > 0 && self.start == self.buf.len() {
            self.buf.clear();
            self.start = 0;
        }
        let at = self.buf.len();
        self.buf.resize(at + room, 0);
        match write(&mut self.buf[at..]) {
            Ok(n) => {
                self.buf.truncate(at + n);
                Ok(())
            }
            Err(e) => {
                self.buf.truncate(at);
                Err(e)
            }
        }
    }
}

/// One end of a session's connection.
pub struct Link {
    tls: Tls,
    sock: OwnedFd,
    stream: Stream,
    inbuf: Vec<u8>,
    in_len: usize,
    out: Out,
    established: bool,
    peer_closed: bool,
    said_close: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("sock", &self.sock)
            .field("established", &self.established)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// `queue`'s end. `sock` may still be connecting; it is made non-blocking.
    ///
    /// # Errors
    /// If TLS or the socket cannot be set up.
    pub fn client(sock: OwnedFd, config: Arc<ClientConfig>) -> Result<Self, LinkError> {
        let tls = UnbufferedClientConnection::new(config, crate::tls::server_name())?;
        Self::new(sock, Tls::Client(Box::new(tls)), Role::Front)
    }

    /// The session's end.
    ///
    /// # Errors
    /// If TLS or the socket cannot be set up.
    pub fn server(sock: OwnedFd, config: Arc<ServerConfig>) -> Result<Self, LinkError> {
        let tls = UnbufferedServerConnection::new(config)?;
        Self::new(sock, Tls::Server(Box::new(tls)), Role::Session)
    }

    fn new(sock: OwnedFd, tls: Tls, role: Role) -> Result<Self, LinkError> {
        set_nonblocking(&sock)?;
        let mut link = Self {
            tls,
            sock,
            stream: Stream::new(role),
            inbuf: Vec::new(),
            in_len: 0,
            out: Out::default(),
            established: false,
            peer_closed: false,
            said_close: false,
        };
        // The client's first flight.
        link.process(&mut |_| {})?;
        Ok(link)
    }

    /// The stream's bookkeeping (credit, what has ended).
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.sock.as_fd()
    }

    /// Whether TLS is through and data may be sent.
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the peer has said that nothing more will come.
    pub fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Encrypted bytes that wait for the socket.
    pub fn backlog(&self) -> usize {
        self.out.len()
    }

    /// Bytes in clear in front of everything that has not been sent yet (the preamble, the answer).
    pub fn prepend(&mut self, clear: &[u8]) {
        self.out
            .buf
            .splice(self.out.start..self.out.start, clear.iter().copied());
    }

    /// Completes the handshake. What the handshake leaves to send (a client's last flight) stays in the
    /// buffer, so that the first message travels with it; what the peer sent right behind its last flight goes
    /// to the sink.
    ///
    /// # Errors
    /// As [`Link::receive`], and [`LinkError::Timeout`].
    pub fn handshake(&mut self, limit: Duration, mut sink: impl FnMut(Event<'_>)) -> Result<(), LinkError> {
        let end = Instant::now() + limit;
        loop {
            self.process(&mut sink)?;
            if self.established {
                return Ok(());
            }
            self.flush()?;
            let events = if self.backlog() > 0 {
                PollFlags::POLLOUT
            } else {
                PollFlags::empty()
            };
            wait(self.sock.as_fd(), events | PollFlags::POLLIN, end)?;
            self.flush()?;
            self.fill()?;
        }
    }

    /// Reads from the socket what is there, once, and tells the sink what it means. `Ok(false)`: nothing was
    /// there.
    ///
    /// # Errors
    /// The connection is of no use any more. A peer that closes the socket without TLS's goodbye is
    /// `UnexpectedEof`.
    pub fn receive(&mut self, mut sink: impl FnMut(Event<'_>)) -> Result<bool, LinkError> {
        if !self.fill()? {
            return Ok(false);
        }
        self.process(&mut sink)?;
        Ok(true)
    }

    /// One `recv`.
    fn fill(&mut self) -> Result<bool, LinkError> {
        if self.inbuf.is_empty() {
            self.inbuf = vec![0; IN_BUFFER];
        }
        loop {
            match recv(
                self.sock.as_raw_fd(),
                &mut self.inbuf[self.in_len..],
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(0) if self.peer_closed => return Ok(false),
                Ok(0) => return Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => {
                    self.in_len += n;
                    return Ok(true);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Lets TLS work on what was read, until it needs more.
    fn process(&mut self, sink: &mut impl FnMut(Event<'_>)) -> Result<(), LinkError> {
        let mut done = 0;
        let result = self.process_from(&mut done, sink);
        if done > 0 {
            self.inbuf.copy_within(done..self.in_len, 0);
            self.in_len -= done;
        }
        result
    }

    fn process_from(&mut self, done: &mut usize, sink: &mut impl FnMut(Event<'_>)) -> Result<(), LinkError> {
        loop {
            let (stream, out) = (&mut self.stream, &mut self.out);
            let input = &mut self.inbuf[*done..self.in_len];
            let more = process!(&mut self.tls, input, status => {
                let discard = status.discard;
                let more = match status.state? {
                    ConnectionState::ReadTraffic(mut traffic) => {
                        while let Some(record) = traffic.next_record() {
                            stream.receive(record?.payload, &mut *sink)?;
                        }
                        true
                    }
                    ConnectionState::EncodeTlsData(mut encode) => {
                        let mut room = 4096;
                        loop {
                            match out.append(room, |b| encode.encode(b)) {
                                Ok(()) => break true,
                                Err(EncodeError::InsufficientSize(e)) => room = e.required_size,
                                Err(EncodeError::AlreadyEncoded) => {
                                    return Err(LinkError::Tls(rustls::Error::General("encoded twice".into())));
                                }
                            }
                        }
                    }
                    ConnectionState::TransmitTlsData(transmit) => {
                        // It goes out with the next flush; order is what matters, and `out` keeps it.
                        transmit.done();
                        true
                    }
                    ConnectionState::WriteTraffic(_) => {
                        self.established = true;
                        false
                    }
                    ConnectionState::PeerClosed => {
                        self.peer_closed = true;
                        true
                    }
                    ConnectionState::BlockedHandshake | ConnectionState::Closed => false,
                    // No early data was offered, and no state is known that would come here.
                    _ => return Err(LinkError::Tls(rustls::Error::General("unexpected TLS state".into()))),
                };
                *done += discard;
                more
            });
            if !more {
                return Ok(());
            }
        }
    }

    fn seal(&mut self, clear: &[u8]) -> Result<(), LinkError> {
        let out = &mut self.out;
        process!(&mut self.tls, &mut [], status => match status.state? {
            ConnectionState::WriteTraffic(mut write) => {
                let mut room = clear.len() + SEAL_ROOM;
                loop {
                    match out.append(room, |b| write.encrypt(clear, b)) {
                        Ok(()) => return Ok(()),
                        Err(EncryptError::InsufficientSize(e)) if e.required_size > room => room = e.required_size,
                        Err(e) => return Err(LinkError::Tls(rustls::Error::General(e.to_string()))),
                    }
                }
            }
            _ => Err(LinkError::Io(io::ErrorKind::NotConnected.into())),
        })
    }

    /// Sends `buf[HEAD..HEAD + len]` on a channel; the room in front is for the frame's head. At most the
    /// channel's credit and [`DATA_MAX`] bytes.
    ///
    /// # Errors
    /// If TLS fails.
    pub fn send_data(&mut self, c: Channel, buf: &mut [u8], len: usize) -> Result<(), LinkError> {
        let head = self.stream.data_head(c, len);
        buf[..HEAD].copy_from_slice(&head);
        self.seal(&buf[..HEAD + len])
    }

    /// How many bytes may be read from a source and sent on this channel now: its credit, one frame at most,
    /// nothing while the socket is behind.
    pub fn room(&self, c: Channel) -> usize {
        if self.backlog() >= BACKLOG || !self.established {
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
        self.stream.eof(c).map_or(Ok(()), |f| self.seal(&f))
    }

    /// Tells the peer that a channel is no longer read.
    ///
    /// # Errors
    /// If TLS fails.
    pub fn send_close(&mut self, c: Channel) -> Result<(), LinkError> {
        self.stream.close(c).map_or(Ok(()), |f| self.seal(&f))
    }

    /// Sends a control message.
    ///
    /// # Errors
    /// If TLS fails.
    pub fn send_control(&mut self, message: &[u8]) -> Result<(), LinkError> {
        self.seal(&Stream::control(message))
    }

    /// Notes that `n` received bytes of a channel have been written; gives the peer credit when it is time.
    ///
    /// # Errors
    /// If TLS fails.
    pub fn consumed(&mut self, c: Channel, n: usize) -> Result<(), LinkError> {
        self.stream.consumed(c, n).map_or(Ok(()), |f| self.seal(&f))
    }

    /// TLS's goodbye: nothing more will be sent.
    ///
    /// # Errors
    /// If TLS fails.
    pub fn send_goodbye(&mut self) -> Result<(), LinkError> {
        if std::mem::replace(&mut self.said_close, true) || !self.established {
            return Ok(());
        }
        let out = &mut self.out;
        process!(&mut self.tls, &mut [], status => match status.state? {
            ConnectionState::WriteTraffic(mut write) => out
                .append(128, |b| write.queue_close_notify(b))
                .map_err(|e| LinkError::Tls(rustls::Error::General(e.to_string()))),
            _ => Ok(()),
        })
    }

    /// Writes what waits, as far as the socket takes it. `Ok(true)`: all of it.
    ///
    /// # Errors
    /// As `send(2)`.
    pub fn flush(&mut self) -> Result<bool, LinkError> {
        while self.out.len() > 0 {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.sock.as_raw_fd(), &self.out.buf[self.out.start..], flags) {
                Ok(n) => self.out.start += n,
                Err(Errno::EINTR) => {}
                // ENOTCONN: still connecting.
                Err(Errno::EAGAIN | Errno::ENOTCONN) => {
                    // What was sent is dropped from the front before it grows without bound.
                    if self.out.start > BACKLOG {
                        self.out.buf.drain(..self.out.start);
                        self.out.start = 0;
                    }
                    return Ok(false);
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(true)
    }

    /// Waits until everything is sent or the time is over.
    ///
    /// # Errors
    /// As [`Link::flush`], and [`LinkError::Timeout`].
    pub fn flush_all(&mut self, limit: Duration) -> Result<(), LinkError> {
        let end = Instant::now() + limit;
        while !self.flush()? {
            wait(self.sock.as_fd(), PollFlags::POLLOUT, end)?;
        }
        Ok(())
    }
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
mod tests {
    use super::*;
    use crate::tls::{KeyPair, Peer, client_config, server_config};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::sync::OnceLock;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap()
    }

    fn connect(
        session: KeyPair,
        pin: [u8; 32],
        wanted_client: Option<[u8; 32]>,
    ) -> (Result<Link, LinkError>, Result<Link, LinkError>) {
        let (a, b) = pair();
        let front = KeyPair::generate().unwrap();
        let client_key = wanted_client.unwrap_or(front.public());
        let server = std::thread::spawn(move || {
            let mut s = Link::server(b, server_config(&session, Peer::Pinned(client_key)).unwrap())?;
            let mut got = Vec::new();
            s.handshake(Duration::from_secs(5), |e| got.push(format!("{e:?}")))?;
            s.flush_all(Duration::from_secs(5))?;
            while got.is_empty() {
                wait(
                    s.socket(),
                    PollFlags::POLLIN,
                    Instant::now() + Duration::from_secs(5),
                )?;
                s.receive(|e| got.push(format!("{e:?}")))?;
            }
            assert_eq!(got, [format!("{:?}", Event::Control(b"hello"))]);
            Ok(s)
        });
        let later = Arc::new(OnceLock::new());
        let _ = later.set(pin);
        let client = (|| {
            let mut c = Link::client(a, client_config(&front, Peer::Later(later)).unwrap())?;
            c.handshake(Duration::from_secs(5), |_| {})?;
            c.send_control(b"hello")?;
            c.flush_all(Duration::from_secs(5))?;
            Ok(c)
        })();
        (client, server.join().unwrap())
    }

    #[test]
    fn both_ends_must_have_the_expected_keys() {
        let session = KeyPair::generate().unwrap();
        let (c, s) = connect(session.clone(), session.public(), None);
        let (c, mut s) = (c.unwrap(), s.unwrap());
        drop(c);
        assert!(
            matches!(s.receive(|_| {}), Err(LinkError::Io(e)) if e.kind() == io::ErrorKind::UnexpectedEof)
        );

        let (c, s) = connect(session.clone(), [1; 32], None);
        assert!(matches!(c, Err(LinkError::Tls(_))) && s.is_err());
        let (_, s) = connect(session.clone(), session.public(), Some([2; 32]));
        assert!(matches!(s, Err(LinkError::Tls(_))), "{s:?}");
    }

    #[test]
    fn bulk_data_flows_within_its_credit() {
        let session = KeyPair::generate().unwrap();
        let (c, s) = connect(session.clone(), session.public(), None);
        let (mut c, mut s) = (c.unwrap(), s.unwrap());
        let total = 20 << 20;
        let reader = std::thread::spawn(move || {
            let (mut sum, mut n) = (0u64, 0);
            while n < total {
                wait(
                    c.socket(),
                    PollFlags::POLLIN,
                    Instant::now() + Duration::from_secs(10),
                )
                .unwrap();
                let before = n;
                c.receive(|e| {
                    if let Event::Data(Channel::Stdout, d) = e {
                        n += d.len();
                        sum += d.iter().map(|b| u64::from(*b)).sum::<u64>();
                    }
                })
                .unwrap();
                c.consumed(Channel::Stdout, n - before).unwrap();
                c.flush_all(Duration::from_secs(5)).unwrap();
            }
            sum
        });
        let (mut sent, mut sum) = (0, 0u64);
        let mut buf = vec![0; HEAD + DATA_MAX];
        while sent < total {
            let n = s.room(Channel::Stdout).min(total - sent);
            if n > 0 {
                for (i, b) in buf[HEAD..HEAD + n].iter_mut().enumerate() {
                    *b = (sent + i) as u8;
                    sum += u64::from(*b);
                }
                s.send_data(Channel::Stdout, &mut buf, n).unwrap();
                sent += n;
            } else {
                let events = if s.backlog() > 0 {
                    PollFlags::POLLIN | PollFlags::POLLOUT
                } else {
                    PollFlags::POLLIN
                };
                wait(s.socket(), events, Instant::now() + Duration::from_secs(10)).unwrap();
                s.receive(|_| {}).unwrap();
            }
            s.flush().unwrap();
        }
        s.flush_all(Duration::from_secs(5)).unwrap();
        assert_eq!(reader.join().unwrap(), sum);
    }
}
