//! Asks the local daemon: one request, one reply, over `queued.sock`. Knows the socket and the frames.

use crate::messages::{Failure, Kind, printable};
use libqueue::frame;
use libqueue::wire::{ErrorCode, Reply, Request, reply, request};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use queue_exec::layout::Layout;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// How long the daemon may think.
const PATIENCE: i64 = 15;

/// A connection to the local daemon.
#[derive(Debug)]
pub struct Daemon {
    sock: OwnedFd,
    path: String,
    input: Vec<u8>,
    /// Whether the last answer was that there is no room now.
    full: bool,
}

impl From<Daemon> for OwnedFd {
    fn from(daemon: Daemon) -> Self {
        daemon.sock
    }
}

impl Daemon {
    /// Connects.
    ///
    /// # Errors
    /// No daemon: says how to get one.
    pub fn dial(layout: &Layout) -> Result<Self, Failure> {
        let path = layout.queued_socket();
        let shown = path.display().to_string();
        let sock = (|| {
            let fd = socket(
                AddressFamily::Unix,
                SockType::Stream,
                SockFlag::SOCK_CLOEXEC,
                None,
            )?;
            connect(fd.as_raw_fd(), &UnixAddr::new(&path)?)?;
            setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
            setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(PATIENCE, 0))?;
            Ok(fd)
        })()
        .map_err(|e: Errno| match e {
            Errno::ENOENT | Errno::ECONNREFUSED => Failure::own(format!(
                "no daemon answers at {shown}: start it with `queued run`, or set QUEUE_SOCKET to where it is"
            )),
            e => Failure::own(format!("{shown}: {}", e.desc())),
        })?;
        Ok(Self {
            sock,
            path: shown,
            input: Vec::new(),
            full: false,
        })
    }

    /// Sends a request; the answer is fetched by [`Daemon::answer`].
    ///
    /// # Errors
    /// If the daemon went away.
    pub fn ask(&mut self, kind: request::Kind) -> Result<(), Failure> {
        let bytes = frame::encode(&Request { kind: Some(kind) });
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match send(self.sock.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::EINTR) => {}
                Err(e) => return Err(self.lost(e)),
            }
        }
        Ok(())
    }

    /// Waits for the answer. An error that the daemon reports becomes a [`Failure`] with its text.
    ///
    /// # Errors
    /// That, or the daemon went away, or it says what we do not understand.
    pub fn answer(&mut self) -> Result<reply::Kind, Failure> {
        let mut buf = [0; 4096];
        loop {
            match frame::take::<Reply>(&mut self.input) {
                Ok(Some(Reply {
                    kind: Some(reply::Kind::Error(e)),
                })) => {
                    self.full = e.code() == ErrorCode::Full;
                    let kind = match e.code() {
                        ErrorCode::NoSuchHost => Kind::NoSuchHost,
                        _ => Kind::Own,
                    };
                    let text = printable(&e.text);
                    return Err(Failure { kind, text });
                }
                Ok(Some(Reply { kind: Some(kind) })) => return Ok(kind),
                Ok(Some(Reply { kind: None })) => return Err(self.strange()),
                Ok(None) => {}
                Err(e) => return Err(Failure::own(format!("queued at {}: {e}", self.path))),
            }
            match recv(self.sock.as_raw_fd(), &mut buf, MsgFlags::empty()) {
                Ok(0) => return Err(self.lost(Errno::ECONNRESET)),
                Ok(n) => self.input.extend_from_slice(&buf[..n]),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(self.lost(e)),
            }
        }
    }

    /// Whether the last answer was that there is no room now.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Lets the next answers take as long as they like.
    ///
    /// # Errors
    /// If the socket does not do that.
    pub fn have_patience(&self) -> Result<(), Failure> {
        setsockopt(&self.sock, sockopt::ReceiveTimeout, &TimeVal::new(0, 0)).map_err(|e| self.lost(e))
    }

    /// Asks and waits.
    ///
    /// # Errors
    /// As [`Daemon::ask`] and [`Daemon::answer`].
    pub fn request(&mut self, kind: request::Kind) -> Result<reply::Kind, Failure> {
        self.ask(kind)?;
        self.answer()
    }

    /// For an answer of another kind than was asked for.
    pub fn strange(&self) -> Failure {
        Failure::own(format!(
            "queued at {} gave an answer that this version does not know",
            self.path
        ))
    }

    fn lost(&self, e: Errno) -> Failure {
        match e {
            Errno::EAGAIN => Failure::own(format!(
                "queued at {} does not answer ({PATIENCE} s): see its log",
                self.path
            )),
            _ => Failure::own(format!(
                "queued at {} went away ({}): see its log",
                self.path,
                e.desc()
            )),
        }
    }
}

/// Whether an error of a local socket means that nobody is there.
pub fn nobody(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ECONNREFUSED))
}
