//! Standard input, read straight into the frame that carries it, and never waited for: it may be shared with
//! other processes that take what `poll` promised to us.

use crate::output::reopen;
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::fstat;
use nix::unistd::read;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

#[derive(Debug)]
enum How {
    /// Never waits for long: files and devices.
    Direct,
    /// The call has a flag for it.
    NoWait,
    /// Our own non-blocking description.
    Own(OwnedFd),
}

/// What a read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// This many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The end.
    End,
    /// It is a terminal that is not ours now: we are in the background.
    Background,
}

/// Standard input.
#[derive(Debug)]
pub struct Input {
    how: How,
    /// Whether it is a terminal.
    pub tty: bool,
    pipe: bool,
    grown: bool,
}

impl Input {
    /// Looks at what it is.
    pub fn new(tty: bool) -> Self {
        let kind = fstat(sys::stdio(0)).map_or(0, |s| s.st_mode & libc::S_IFMT);
        let pipe = matches!(kind, libc::S_IFIFO | libc::S_IFSOCK);
        let how = match reopen_if(tty) {
            Some(fd) => How::Own(fd),
            None if pipe => How::NoWait,
            None => How::Direct,
        };
        Self {
            how,
            tty,
            pipe,
            grown: false,
        }
    }

    /// What to poll for reading.
    pub fn raw_fd(&self) -> RawFd {
        match &self.how {
            How::Own(fd) => fd.as_raw_fd(),
            _ => 0,
        }
    }

    /// Reads what is there. Any error counts as the end, as it does for a command that reads.
    pub fn read(&mut self, buf: &mut [u8]) -> Got {
        loop {
            let result = match &self.how {
                How::Direct => read(sys::stdio(0), buf),
                How::NoWait => sys::read_nowait(sys::stdio(0), buf),
                How::Own(fd) => read(fd.as_fd(), buf),
            };
            match result {
                Ok(0) => return Got::End,
                Ok(n) => {
                    if n == buf.len() && self.pipe && !std::mem::replace(&mut self.grown, true) {
                        crate::output::grow(0);
                    }
                    return Got::Bytes(n);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Got::Nothing,
                // SIGTTIN is blocked, so the kernel says it this way.
                Err(Errno::EIO) if self.tty && !crate::terminal::in_foreground() => return Got::Background,
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) if matches!(self.how, How::NoWait) => {
                    self.how = reopen(0, OFlag::O_RDONLY).map_or(How::Direct, How::Own);
                }
                Err(_) => return Got::End,
            }
        }
    }

    /// The command no longer reads: whoever writes into our pipe has to learn that, so our end of it is closed
    /// (`/dev/null` takes the number).
    pub fn close(&mut self) {
        if !self.pipe {
            return;
        }
        if let Ok(null) = std::fs::File::open("/dev/null") {
            let _ = sys::dup_over(&null.into(), 0);
        }
        self.how = How::Direct;
    }
}

fn reopen_if(tty: bool) -> Option<OwnedFd> {
    if tty { reopen(0, OFlag::O_RDONLY) } else { None }
}
