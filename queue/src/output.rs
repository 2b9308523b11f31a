//! A local descriptor that gets what the command wrote, and must never make the loop wait: signals and the
//! other channels have to go on while a reader is slow.
//!
//! The descriptor is shared with the shell and others, so its flags are not touched. Pipes and sockets can be
//! written without waiting by a flag of the call; terminals and named pipes are opened once more for ourselves;
//! regular files are simply written; what is left gets small pieces when `poll` says that there is room.

use crate::{sys, terminal};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::write;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

/// Opens another description of a standard descriptor, non-blocking and our own; terminals and named pipes only.
pub fn reopen(n: usize, access: OFlag) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{n}");
    open(
        path.as_str(),
        access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .ok()
}

/// Room of a pipe that has proved busy, in bytes.
const BUSY_PIPE: i32 = 1 << 20;

/// Gives the pipe behind a standard descriptor room for more. A refusal (the user's quota of pipe pages) costs
/// only speed.
pub fn grow(n: usize) {
    let _ = fcntl(sys::stdio(n), FcntlArg::F_SETPIPE_SZ(BUSY_PIPE));
}

#[derive(Debug)]
enum How {
    /// Written as it is: files, and devices like `/dev/null`.
    Direct,
    /// The call has a flag for it.
    NoWait,
    /// Our own non-blocking description.
    Own(OwnedFd),
    /// At most this much at a time, after `poll` said that there is room.
    Pieces(usize),
}

/// One of standard output and error.
#[derive(Debug)]
pub struct Output {
    n: usize,
    how: How,
    /// Whether somebody may wait for the end of what comes through it.
    pipe: bool,
    /// A terminal that gets plain lines, not what another terminal made of them.
    plain: bool,
    grown: bool,
    waiting: Vec<u8>,
    start: usize,
}

impl Output {
    /// Looks at what the descriptor is. `plain`: what comes for it has not been through a terminal.
    pub fn new(n: usize, plain: bool) -> Self {
        let kind = fstat(sys::stdio(n)).map_or(0, |s| s.st_mode & libc::S_IFMT);
        let tty = kind == libc::S_IFCHR && nix::unistd::isatty(sys::stdio(n)).unwrap_or(false);
        let how = match kind {
            libc::S_IFIFO | libc::S_IFSOCK => How::NoWait,
            libc::S_IFCHR if tty => fallback(n, true),
            _ => How::Direct,
        };
        Self {
            n,
            how,
            pipe: matches!(kind, libc::S_IFIFO | libc::S_IFSOCK),
            plain: plain && tty,
            grown: false,
            waiting: Vec::new(),
            start: 0,
        }
    }

    /// Whether something waits to be written.
    pub fn is_waiting(&self) -> bool {
        self.start < self.waiting.len()
    }

    /// What to poll for writing, if something waits.
    pub fn raw_fd(&self) -> RawFd {
        match &self.how {
            How::Own(fd) => fd.as_raw_fd(),
            _ => self.n as RawFd,
        }
    }

    /// Writes what can be written now and keeps the rest. How many bytes (of these) were written.
    ///
    /// # Errors
    /// As `write(2)`; nothing is kept then.
    pub fn write(&mut self, data: &[u8]) -> Result<usize, Errno> {
        if self.is_waiting() {
            self.waiting.extend_from_slice(data);
            return Ok(0);
        }
        let n = self.put(data)?;
        if n < data.len() {
            self.waiting.clear();
            self.start = 0;
            self.waiting.extend_from_slice(&data[n..]);
        }
        Ok(n)
    }

    /// Writes what waits, as far as possible. How many bytes were written.
    ///
    /// # Errors
    /// As `write(2)`; nothing is kept then.
    pub fn drain(&mut self) -> Result<usize, Errno> {
        // Both at once: after an error nothing is kept, so nothing of it has been written either.
        let (waiting, start) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.start));
        let n = self.put(&waiting[start..])?;
        self.waiting = waiting;
        self.start = start + n;
        if self.start == self.waiting.len() {
            self.waiting.clear();
            self.start = 0;
        } else if self.start > 256 * 1024 {
            self.waiting.drain(..self.start);
            self.start = 0;
        }
        Ok(n)
    }

    /// Drops what waits; how many bytes that was.
    pub fn discard(&mut self) -> usize {
        let n = self.waiting.len() - self.start;
        self.waiting = Vec::new();
        self.start = 0;
        n
    }

    /// The command has closed its end: who reads from our pipe learns that, though the command goes on.
    /// `/dev/null` takes the number. Standard error stays open: it is ours too.
    pub fn close(&mut self) {
        if self.n != 1 || !self.pipe {
            return;
        }
        if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
            let _ = sys::dup_over(&null.into(), self.n);
        }
        self.how = How::Direct;
    }

    /// A pipe that was full once gets room for more: fewer wake-ups per byte for whoever reads it.
    fn grow(&mut self) {
        if self.pipe && !std::mem::replace(&mut self.grown, true) {
            grow(self.n);
        }
    }

    /// Writes until it would have to wait.
    fn put(&mut self, data: &[u8]) -> Result<usize, Errno> {
        let mut done = 0;
        let line_ends = self.plain && terminal::others_have_line_ends(sys::stdio(self.n));
        while done < data.len() {
            let mut rest = &data[done..];
            if line_ends {
                // Line by line, so that what is counted is what came. A carriage return too many does no harm.
                match rest.iter().position(|b| *b == b'\n') {
                    Some(0) => rest = b"\r\n",
                    Some(n) => rest = &rest[..n],
                    None => {}
                }
            }
            let result = match &self.how {
                How::Direct => write(sys::stdio(self.n), rest),
                How::NoWait => sys::write_nowait(sys::stdio(self.n), rest),
                How::Own(fd) => write(fd.as_fd(), rest),
                How::Pieces(max) => {
                    if !has_room(self.n as RawFd) {
                        return Ok(done);
                    }
                    write(sys::stdio(self.n), &rest[..rest.len().min(*max)])
                }
            };
            match result {
                Ok(n) => {
                    done += if rest == b"\r\n" && line_ends {
                        n.saturating_sub(1)
                    } else {
                        n
                    };
                    if n < rest.len() {
                        self.grow();
                    }
                    // A short write means that it is full: asking again would only say so.
                    if n < rest.len() && !matches!(self.how, How::Direct | How::Pieces(_)) {
                        return Ok(done);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(done),
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) if matches!(self.how, How::NoWait) => {
                    self.how = fallback(self.n, false);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}

/// For what knows no flag: our own description if we may open it, else pieces that fit when there is room.
fn fallback(n: usize, tty: bool) -> How {
    reopen(n, OFlag::O_WRONLY).map_or(How::Pieces(if tty { 256 } else { libc::PIPE_BUF }), How::Own)
}

fn has_room(fd: RawFd) -> bool {
    let mut p = [libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    }];
    sys::poll(&mut p, 0).is_ok_and(|n| n > 0)
}
