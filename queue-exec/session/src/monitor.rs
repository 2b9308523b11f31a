//! The session's side of the socket to its monitor. A monitor that dies is waited for and told who we are;
//! the session goes on meanwhile.

use libqueue::link::wait;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};
use queue_exec::cert::PublicKey;
use queue_exec::client;
use queue_exec::protocol::{AttachState, FromSession, PACKET_MAX, Reply, Request, Seen, ToSession};
use queue_exec::ticket::Nonce;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long to wait between two attempts to find a new monitor.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// What came from the monitor.
pub(crate) enum News {
    /// Another connection for this session. Nothing about it was verified.
    Connection(OwnedFd),
    /// Somebody who may wants to see the session.
    Attach(OwnedFd, Attach),
    /// Its user wants to have whoever is attached let go: who said so.
    Detach(String),
    /// Somebody wants to have it ended, or a signal sent.
    Kill {
        /// Who.
        by: String,
        /// 0: end it.
        signal: u8,
    },
    /// The sessions that its user may look at.
    Seen(Vec<Seen>),
    /// Nothing that matters.
    Nothing,
}

/// Who attaches; all of it was verified by the monitor.
pub(crate) struct Attach {
    /// `alice@h3`.
    pub(crate) by: String,
    /// SHA-256 of the first message.
    pub(crate) request: [u8; 32],
    /// His key.
    pub(crate) client_key: PublicKey,
    /// To be sent first, in clear.
    pub(crate) grant: Vec<u8>,
}

/// What came of an attempt to be taken back.
pub(crate) enum Adopted {
    /// This monitor has us.
    By(OwnedFd),
    /// There is one, and it does not want us.
    Denied,
    /// There is none, or it does not answer.
    Nobody,
}

/// Looks for a monitor and asks to be taken back.
pub(crate) fn adopt(path: &str, nonce: Nonce) -> Adopted {
    let kind = (AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
    let Ok(fd) = socket(kind.0, kind.1, kind.2, None) else {
        return Adopted::Nobody;
    };
    let Ok(address) = UnixAddr::new(path) else {
        return Adopted::Nobody;
    };
    if connect(fd.as_raw_fd(), &address).is_err() {
        return Adopted::Nobody;
    }
    // A monitor that just started answers at once; one that hangs must not hang us.
    let limit = nix::sys::time::TimeVal::new(1, 0);
    let _ = nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::ReceiveTimeout, &limit);
    match client::ask(fd.as_fd(), &Request::Adopt { nonce }, None) {
        Ok(Reply::Done) => Adopted::By(fd),
        Ok(_) => Adopted::Denied,
        Err(_) => Adopted::Nobody,
    }
}

/// The monitor, present or not.
pub(crate) struct Monitor {
    fd: Option<OwnedFd>,
    nonce: Nonce,
    path: String,
    retry_at: Instant,
    /// Sent again to a monitor that takes us back.
    ended: Option<bool>,
    attached: AttachState,
}

impl Monitor {
    /// After the claim.
    pub(crate) fn new(fd: OwnedFd, nonce: Nonce, path: String) -> Self {
        Self {
            fd: Some(fd),
            nonce,
            path,
            retry_at: Instant::now(),
            ended: None,
            attached: AttachState::default(),
        }
    }

    /// For the poll.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(|f| f.as_fd())
    }

    /// When to try again to find a monitor, if there is none.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.fd.is_none().then_some(self.retry_at)
    }

    /// Says something; a monitor that is away does not hear it, except for the end.
    pub(crate) fn tell(&mut self, m: &FromSession) {
        if let FromSession::Ended { leave } = m {
            self.ended = Some(*leave);
        }
        if let Some(fd) = &self.fd {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            if send(fd.as_raw_fd(), &m.encode(), flags).is_err_and(|e| e != Errno::EAGAIN) {
                self.lost();
            }
        }
    }

    /// Says who is attached, if that has changed.
    pub(crate) fn attached(&mut self, now: AttachState) {
        if self.attached != now {
            self.attached = now;
            self.tell(&FromSession::State(now));
        }
    }

    /// The session's number.
    pub(crate) fn nonce(&self) -> Nonce {
        self.nonce
    }

    fn lost(&mut self) {
        self.fd = None;
        self.retry_at = Instant::now() + RETRY;
    }

    /// Reads one packet.
    pub(crate) fn read(&mut self) -> News {
        let Some(fd) = &self.fd else { return News::Nothing };
        let mut buf = vec![0; PACKET_MAX];
        match client::receive(fd.as_fd(), &mut buf) {
            Ok((0, _)) => self.lost(),
            Ok((n, fd)) => match (ToSession::decode(&buf[..n]), fd) {
                (Ok(ToSession::Connection), Some(fd)) => return News::Connection(fd),
                (
                    Ok(ToSession::Attach {
                        by,
                        request,
                        client_key,
                        grant,
                    }),
                    Some(fd),
                ) => {
                    let attach = Attach {
                        by,
                        request,
                        client_key,
                        grant,
                    };
                    return News::Attach(fd, attach);
                }
                (Ok(ToSession::Detach { by }), _) => return News::Detach(by),
                (Ok(ToSession::Kill { by, signal }), _) => return News::Kill { by, signal },
                (Ok(ToSession::Seen { sessions }), _) => return News::Seen(sessions),
                _ => {}
            },
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.lost(),
        }
        News::Nothing
    }

    /// Asks which sessions there are; `None` if no answer comes in time.
    pub(crate) fn seen(&mut self, until: Instant) -> Option<Vec<Seen>> {
        self.tell(&FromSession::Look);
        loop {
            wait(self.fd()?, PollFlags::POLLIN, until).ok()?;
            if let News::Seen(sessions) = self.read() {
                return Some(sessions);
            }
        }
    }

    /// Looks for a new monitor and asks to be taken back.
    pub(crate) fn retry(&mut self) {
        if self.fd.is_some() || Instant::now() < self.retry_at {
            return;
        }
        self.retry_at = Instant::now() + RETRY;
        if let Adopted::By(fd) = adopt(&self.path, self.nonce) {
            self.fd = Some(fd);
            if self.attached != AttachState::default() {
                self.tell(&FromSession::State(self.attached));
            }
            if let Some(leave) = self.ended {
                self.tell(&FromSession::Ended { leave });
            }
        }
    }
}
