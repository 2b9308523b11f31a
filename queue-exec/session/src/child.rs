//! The session's side of its `queue-init`: started in advance, told what to do, listened to.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use nix::unistd::ForkResult;
use queue_init::{FromInit, ToInit};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::process::ExitCode;

/// The init process of this session.
pub(crate) struct Init {
    pid: i32,
    sock: OwnedFd,
    partial: Vec<u8>,
}

/// What reading from init gave.
pub(crate) enum Heard {
    /// These messages.
    Messages(Vec<FromInit>),
    /// It is gone.
    Gone,
}

impl Init {
    /// Forks it, before there is a key or anything else that it should not have. Executing a program for it
    /// would cost each launch half a millisecond of processor time.
    pub(crate) fn start() -> io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        // SAFETY: we have one thread; the child runs nothing but init and never returns to our code.
        match unsafe { nix::unistd::fork() }? {
            ForkResult::Child => {
                drop(ours);
                let code = queue_init::run(theirs);
                // SAFETY: nothing of ours may be run or flushed there.
                unsafe { libc::_exit(i32::from(code != ExitCode::SUCCESS)) }
            }
            // It is never waited for: it outlives us, or its end is seen on the socket.
            ForkResult::Parent { child } => Ok(Self {
                pid: child.as_raw(),
                sock: ours,
                partial: Vec::new(),
            }),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// For the poll.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.sock.as_fd()
    }

    /// Says something, with the descriptors for the command if it is the command.
    pub(crate) fn tell(&self, m: &ToInit, stdio: Option<[RawFd; 3]>) -> io::Result<()> {
        let bytes = m.encode();
        let mut rest = &bytes[..];
        let mut fds = stdio;
        while !rest.is_empty() {
            let sent = {
                let cmsg: Vec<ControlMessage<'_>> =
                    fds.iter().map(|f| ControlMessage::ScmRights(f)).collect();
                let iov = [IoSlice::new(rest)];
                sendmsg::<()>(self.sock.as_raw_fd(), &iov, &cmsg, MsgFlags::MSG_NOSIGNAL, None)
            };
            match sent {
                Ok(n) => {
                    fds = None;
                    rest = &rest[n..];
                }
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// What it has said since.
    pub(crate) fn hear(&mut self) -> Heard {
        let mut buf = [0; 16 * FromInit::LEN];
        match recv(self.sock.as_raw_fd(), &mut buf, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Heard::Gone,
            Ok(n) => self.partial.extend_from_slice(&buf[..n]),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => return Heard::Gone,
        }
        let mut messages = Vec::new();
        let (whole, rest) = self.partial.as_chunks::<{ FromInit::LEN }>();
        for m in whole {
            match FromInit::decode(m) {
                Ok(m) => messages.push(m),
                Err(_) => return Heard::Gone,
            }
        }
        self.partial = rest.to_vec();
        Heard::Messages(messages)
    }
}
