//! A new connection for a stream that has lost its own: connect, the answer in clear, TLS, and both ends saying how
//! much they have. Never blocks: its owner polls the socket and calls [`Joining::step`].
//!
//! `queue` sends the preamble ([`crate::wire::ResumeHello`]) and TLS's first flight at once; the host answers with a
//! [`SessionAnswer`] in clear (empty if the session has the connection); TLS follows with the keys of the session;
//! then `queue` sends its [`Resume`], the session its own, and right behind it what the other end lacks. `queue`
//! numbers its attempts, and the session takes a connection only if its number is higher than all before: so an old
//! one that comes late changes nothing.
//!
//! Knows connections; must not know when to try again, or what to tell the user.

use super::{LinkError, Wire};
use crate::wire::SessionAnswer;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use prost::Message as _;
use rustls::{ClientConfig, ServerConfig};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// What each end says first on a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// Which attempt of `queue` this is: higher than any before. The session repeats it.
    pub number: u64,
    /// How many bytes of the peer's sequence have come: [`crate::stream::Stream::received`].
    pub received: u64,
}

const KIND: u8 = 0x60;
const LEN: usize = 4 + 16;

impl Resume {
    fn encode(self) -> [u8; LEN] {
        let mut f = [0; LEN];
        f[..4].copy_from_slice(&[KIND, 0, 0, 16]);
        f[4..12].copy_from_slice(&self.number.to_be_bytes());
        f[12..].copy_from_slice(&self.received.to_be_bytes());
        f
    }

    fn decode(f: &[u8; LEN]) -> Option<Self> {
        let (head, rest) = f.split_first_chunk::<4>()?;
        let (number, received) = rest.split_first_chunk::<8>()?;
        (*head == [KIND, 0, 0, 16]).then_some(Self {
            number: u64::from_be_bytes(*number),
            received: u64::from_be_bytes(received.try_into().ok()?),
        })
    }
}

/// How far a new connection is.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Wait for the socket.
    Again,
    /// The host has no such session, or cannot say: what it said. The connection is over.
    Refused(SessionAnswer),
    /// TLS is through. `queue` cuts its old connection now and tells its [`Resume`].
    Secure,
    /// The peer's word came. The session compares the number, cuts its old connection, and tells its own.
    Heard(Resume),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// `queue`: the answer in clear has not come whole.
    Answer,
    Tls,
    /// TLS is through and that was said.
    Secure,
    Done,
}

/// A connection on its way.
#[derive(Debug)]
pub struct Joining {
    wire: Wire,
    phase: Phase,
    answer: Vec<u8>,
    /// What came in TLS.
    clear: Vec<u8>,
}

/// A connection whose preliminaries are over.
#[derive(Debug)]
pub struct Joined {
    pub(super) wire: Wire,
    pub(super) peer: Resume,
    pub(super) early: Vec<u8>,
}

impl Joining {
    /// `queue`'s end: the socket may still be connecting.
    ///
    /// # Errors
    /// If TLS or the socket cannot be set up.
    pub fn client(sock: OwnedFd, config: Arc<ClientConfig>, preamble: &[u8]) -> Result<Self, LinkError> {
        let mut wire = Wire::client(sock, config)?;
        wire.prepend(preamble);
        Ok(Self::new(wire, Phase::Answer))
    }

    /// The session's end.
    ///
    /// # Errors
    /// If TLS or the socket cannot be set up.
    pub fn server(sock: OwnedFd, config: Arc<ServerConfig>) -> Result<Self, LinkError> {
        let mut wire = Wire::server(sock, config)?;
        // An empty answer: no refusal.
        wire.prepend(&[0, 0]);
        Ok(Self::new(wire, Phase::Tls))
    }

    fn new(wire: Wire, phase: Phase) -> Self {
        Self {
            wire,
            phase,
            answer: Vec::new(),
            clear: Vec::new(),
        }
    }

    /// The socket, to be polled for reading, and for writing while [`wants_write`](Self::wants_write).
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.wire.socket()
    }

    /// Whether something waits to be written, the connection itself included.
    pub fn wants_write(&self) -> bool {
        self.wire.backlog() > 0
    }

    /// The peer's key, once TLS is through.
    pub fn peer_key(&self) -> Option<[u8; 32]> {
        self.wire.peer_key()
    }

    /// Goes on as far as possible. Each of the steps but `Again` is told once.
    ///
    /// # Errors
    /// The connection is of no use.
    pub fn step(&mut self) -> Result<Step, LinkError> {
        self.wire.flush()?;
        if self.phase == Phase::Answer {
            let Some(answer) = self.read_answer()? else {
                return Ok(Step::Again);
            };
            if answer != SessionAnswer::default() {
                return Ok(Step::Refused(answer));
            }
            self.phase = Phase::Tls;
        }
        let clear = &mut self.clear;
        loop {
            let some = self.wire.fill()?;
            self.wire.process(&mut |bytes| {
                clear.extend_from_slice(bytes);
                Ok(())
            })?;
            self.wire.flush()?;
            if self.phase == Phase::Tls && self.wire.is_established() {
                self.phase = Phase::Secure;
                return Ok(Step::Secure);
            }
            if self.phase == Phase::Secure
                && let Some(f) = clear.first_chunk::<LEN>()
            {
                self.phase = Phase::Done;
                return Resume::decode(f).map(Step::Heard).ok_or_else(malformed);
            }
            // A peer that sends more than this before we answer is none.
            if self.phase == Phase::Done || clear.len() > LEN {
                return Ok(Step::Again);
            }
            if self.wire.is_peer_closed() {
                return Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            if !some {
                return Ok(Step::Again);
            }
        }
    }

    /// Says how much we have; from now on nothing of the old connection counts.
    ///
    /// # Errors
    /// If TLS or the socket fails.
    pub fn tell(&mut self, r: Resume) -> Result<(), LinkError> {
        self.wire.seal(&r.encode())?;
        self.wire.flush()?;
        Ok(())
    }

    /// After [`Step::Heard`], and after our own word: for [`super::Link::resume`].
    pub fn joined(mut self, peer: Resume) -> Joined {
        self.clear.drain(..LEN.min(self.clear.len()));
        Joined {
            wire: self.wire,
            peer,
            early: self.clear,
        }
    }

    /// Reads the answer, and not one byte more: what follows is TLS.
    fn read_answer(&mut self) -> Result<Option<SessionAnswer>, LinkError> {
        loop {
            let want = match *self.answer {
                [a, b, ..] => 2 + usize::from(u16::from_be_bytes([a, b])),
                _ => 2,
            };
            let have = self.answer.len();
            if have == want && have >= 2 {
                return SessionAnswer::decode(&self.answer[2..])
                    .map(Some)
                    .map_err(|_| malformed());
            }
            self.answer.resize(want, 0);
            let got = recv(
                self.wire.socket().as_raw_fd(),
                &mut self.answer[have..],
                MsgFlags::MSG_DONTWAIT,
            );
            self.answer.truncate(have + got.unwrap_or(0));
            match got {
                Ok(0) => return Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) | Err(Errno::EINTR) => {}
                // ENOTCONN: still connecting.
                Err(Errno::EAGAIN | Errno::ENOTCONN) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

fn malformed() -> LinkError {
    LinkError::Protocol(crate::stream::ProtocolError::Malformed)
}
