//! TLS records on a non-blocking socket. Knows sockets and TLS; must not know what the bytes mean.

use super::{BACKLOG, LinkError, set_nonblocking};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError};
use rustls::{ClientConfig, ServerConfig};
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// What one `recv` may bring. Pages of it that are never used cost no memory.
const IN_BUFFER: usize = 256 * 1024;
/// Room that encryption adds to one data frame: four records of at most 22 bytes overhead each, and one spare.
const SEAL_ROOM: usize = 5 * 64;

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

/// One connection.
pub struct Wire {
    tls: Tls,
    sock: OwnedFd,
    inbuf: Vec<u8>,
    in_len: usize,
    out: Out,
    established: bool,
    peer_closed: bool,
    said_close: bool,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("sock", &self.sock)
            .field("established", &self.established)
            .finish_non_exhaustive()
    }
}

impl Wire {
    /// `queue`'s end. `sock` may still be connecting; it is made non-blocking.
    ///
    /// # Errors
    /// If TLS or the socket cannot be set up.
    pub fn client(sock: OwnedFd, config: Arc<ClientConfig>) -> Result<Self, LinkError> {
        let tls = UnbufferedClientConnection::new(config, crate::tls::server_name())?;
        Self::new(sock, Tls::Client(Box::new(tls)))
    }

    /// The session's end.
    ///
    /// # Errors
    /// If TLS or the socket cannot be set up.
    pub fn server(sock: OwnedFd, config: Arc<ServerConfig>) -> Result<Self, LinkError> {
        let tls = UnbufferedServerConnection::new(config)?;
        Self::new(sock, Tls::Server(Box::new(tls)))
    }

    fn new(sock: OwnedFd, tls: Tls) -> Result<Self, LinkError> {
        set_nonblocking(&sock)?;
        let mut wire = Self {
            tls,
            sock,
            inbuf: Vec::new(),
            in_len: 0,
            out: Out::default(),
            established: false,
            peer_closed: false,
            said_close: false,
        };
        // The client's first flight.
        wire.process(&mut |_| Ok(()))?;
        Ok(wire)
    }

    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.sock.as_fd()
    }

    /// The peer's key, once TLS is through.
    pub fn peer_key(&self) -> Option<[u8; 32]> {
        let shown = match &self.tls {
            Tls::Client(c) => c.peer_certificates(),
            Tls::Server(c) => c.peer_certificates(),
        };
        crate::tls::peer_key(shown).filter(|_| self.established)
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

    /// One `recv`.
    pub(super) fn fill(&mut self) -> Result<bool, LinkError> {
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
    pub(super) fn process(
        &mut self,
        sink: &mut impl FnMut(&[u8]) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        let mut done = 0;
        let result = self.process_from(&mut done, sink);
        if done > 0 {
            self.inbuf.copy_within(done..self.in_len, 0);
            self.in_len -= done;
        }
        result
    }

    fn process_from(
        &mut self,
        done: &mut usize,
        sink: &mut impl FnMut(&[u8]) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        loop {
            let out = &mut self.out;
            let input = &mut self.inbuf[*done..self.in_len];
            let more = process!(&mut self.tls, input, status => {
                let discard = status.discard;
                let more = match status.state? {
                    ConnectionState::ReadTraffic(mut traffic) => {
                        while let Some(record) = traffic.next_record() {
                            sink(record?.payload)?;
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

    pub(super) fn seal(&mut self, clear: &[u8]) -> Result<(), LinkError> {
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
}
