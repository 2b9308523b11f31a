//! The local ends of the channels: pipes and the terminal's master, never blocking. Bytes go from a source
//! straight into a frame, and from a frame straight into the sink; only what does not fit is kept.

use libqueue::link::{Link, LinkError, set_nonblocking};
use libqueue::stream::{Channel, DATA_MAX};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// How large a pipe becomes once it has proved busy: fewer wake-ups per byte.
const BUSY_PIPE: libc::c_int = 1 << 20;
/// A read of so much says that a pipe is busy: as much as it holds at first.
const BUSY_READ: usize = 60 * 1024;
/// Most that is still read from a terminal whose command has ended but which others keep open.
const TERMINAL_REST: usize = 256 * 1024;

/// A pipe: the session's end and the command's.
pub(crate) fn pipe(ours_reads: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let (r, w) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let (ours, theirs) = if ours_reads { (r, w) } else { (w, r) };
    set_nonblocking(&ours)?;
    Ok((ours, theirs))
}

/// Where output comes from.
pub(crate) struct Source {
    pub(crate) channel: Channel,
    fd: Rc<OwnedFd>,
    terminal: bool,
    grown: bool,
    /// The poll said that there is something.
    pub(crate) ready: bool,
    /// Set once the command has ended: how much may still be read.
    rest: Option<usize>,
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// Some bytes went out.
    Some,
    /// Nothing there now, or no room for it.
    Nothing,
    /// Nothing will come any more, or nothing more is wanted.
    End,
}

impl Source {
    /// A source for a channel.
    pub(crate) fn new(channel: Channel, fd: Rc<OwnedFd>, terminal: bool) -> Self {
        Self {
            channel,
            fd,
            terminal,
            grown: terminal,
            ready: true,
            rest: None,
        }
    }

    /// For the poll.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether it is the terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether a read may bring something: the poll said so (which this forgets), or only the rest is read.
    pub(crate) fn is_due(&mut self) -> bool {
        std::mem::take(&mut self.ready) || self.rest.is_some()
    }

    /// The command has ended: only what it left is still read.
    pub(crate) fn only_rest(&mut self) {
        let mut n: libc::c_int = 0;
        // SAFETY: valid pointer.
        let known = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::FIONREAD, &raw mut n) } == 0;
        self.rest = Some(if self.terminal || !known {
            TERMINAL_REST
        } else {
            n as usize
        });
    }

    /// Reads once and sends. What was read is added to `tap`, if others want it as well.
    pub(crate) fn pump(&mut self, link: &mut Link, tap: Option<&mut Vec<u8>>) -> Result<Pumped, LinkError> {
        if self.rest == Some(0) {
            return Ok(Pumped::End);
        }
        let space = link.space(self.channel);
        let room = space.len().min(self.rest.unwrap_or(DATA_MAX));
        if room == 0 {
            return Ok(Pumped::Nothing);
        }
        match nix::unistd::read(&*self.fd, &mut space[..room]) {
            Ok(0) => Ok(Pumped::End),
            Ok(n) => {
                if let Some(tap) = tap {
                    tap.extend_from_slice(&space[..n]);
                }
                link.commit(self.channel, n)?;
                if let Some(rest) = &mut self.rest {
                    *rest -= n;
                }
                if n >= BUSY_READ && !self.grown {
                    self.grown = true;
                    grow(&self.fd);
                }
                Ok(Pumped::Some)
            }
            Err(Errno::EINTR) => Ok(Pumped::Some),
            Err(Errno::EAGAIN) if self.rest.is_some() => Ok(Pumped::End),
            Err(Errno::EAGAIN) => Ok(Pumped::Nothing),
            // EIO: the terminal's other side is closed.
            Err(_) => Ok(Pumped::End),
        }
    }
}

fn grow(pipe: &OwnedFd) {
    // SAFETY: no memory is involved. A refusal (the user's quota of pipe pages) costs only speed.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, BUSY_PIPE) };
}

/// Where input goes.
pub(crate) struct Sink {
    fd: Option<Rc<OwnedFd>>,
    waiting: bool,
    /// The end-of-file character, where it is a terminal.
    terminal: Option<u8>,
    grown: bool,
    pending: Vec<u8>,
    at: usize,
    /// So much of what is pending came from somebody who has left.
    disowned: usize,
    ended: bool,
}

impl Sink {
    /// A sink that keeps what comes until it is known where it goes.
    pub(crate) fn waiting() -> Self {
        Self {
            waiting: true,
            fd: None,
            terminal: None,
            grown: false,
            pending: Vec::new(),
            at: 0,
            disowned: 0,
            ended: false,
        }
    }

    /// Says where input goes; `terminal` is the end-of-file character if it is one. No descriptor: everything
    /// is thrown away.
    pub(crate) fn connect(&mut self, fd: Option<Rc<OwnedFd>>, terminal: Option<u8>) {
        self.waiting = false;
        self.fd = fd;
        self.grown = terminal.is_some();
        self.terminal = terminal;
    }

    /// For the poll: there is something to be written.
    pub(crate) fn wants(&self) -> Option<BorrowedFd<'_>> {
        if self.at < self.pending.len() {
            self.fd.as_ref().map(|f| f.as_fd())
        } else {
            None
        }
    }

    /// Whether anything is still read at the other side, as far as we know.
    pub(crate) fn is_open(&self) -> bool {
        self.waiting || self.fd.is_some()
    }

    /// The other side no longer reads.
    pub(crate) fn shut(&mut self) {
        self.waiting = false;
        self.fd = None;
        self.pending = Vec::new();
        self.at = 0;
    }

    /// Takes bytes that arrived; says how many are gone (written, or of no use).
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        if self.waiting {
            self.pending.extend_from_slice(bytes);
            return 0;
        }
        if self.fd.is_none() {
            return bytes.len();
        }
        let n = if self.at < self.pending.len() {
            0
        } else {
            self.write(bytes)
        };
        if self.fd.is_none() {
            return bytes.len();
        }
        if n < bytes.len() {
            self.pending.extend_from_slice(&bytes[n..]);
        }
        n
    }

    /// Whoever sent what waits has left: it is written, and nobody is told.
    pub(crate) fn disown(&mut self) {
        self.disowned = self.pending.len() - self.at;
        self.ended = false;
    }

    /// What waits, for another one.
    pub(crate) fn into_pending(mut self) -> Vec<u8> {
        self.pending.split_off(self.at)
    }

    /// Writes what waits; says how many bytes are gone of those whose sender is there.
    pub(crate) fn drain(&mut self) -> usize {
        let gone = self.drain_all();
        let nobody = gone.min(self.disowned);
        self.disowned -= nobody;
        gone - nobody
    }

    fn drain_all(&mut self) -> usize {
        let pending = std::mem::take(&mut self.pending);
        // A write that fails shuts the sink and forgets the place: what was told before must not be told again.
        let at = self.at;
        let n = self.write(&pending[at..]);
        let gone = if self.fd.is_none() { pending.len() - at } else { n };
        self.at += n;
        if self.fd.is_some() && self.at < pending.len() {
            self.pending = pending;
        } else {
            self.at = 0;
        }
        self.finish();
        gone
    }

    /// No more will come.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.finish();
    }

    fn finish(&mut self) {
        if self.ended && !self.waiting && self.at >= self.pending.len() {
            match (&self.fd, self.terminal) {
                (Some(fd), Some(eof)) => {
                    // A terminal has no end of its own: type what stands for it.
                    let _ = nix::unistd::write(&**fd, &[eof]);
                    self.ended = false;
                }
                _ => self.fd = None,
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> usize {
        let mut done = 0;
        while let Some(fd) = &self.fd
            && !bytes.is_empty()
        {
            match nix::unistd::write(&**fd, bytes) {
                Ok(n) => {
                    done += n;
                    bytes = &bytes[n..];
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    if !self.grown {
                        self.grown = true;
                        grow(fd);
                        continue;
                    }
                    break;
                }
                // EPIPE: nobody reads. EIO: the terminal is gone.
                Err(_) => self.shut(),
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte is told as gone once, also those that a reader who leaves early never saw.
    #[test]
    fn a_sink_counts_each_byte_once() {
        let (ours, theirs) = pipe(false).expect("a pipe");
        let mut sink = Sink::waiting();
        sink.connect(Some(Rc::new(ours)), None);
        let chunk = vec![b'x'; 100_000];
        let sent = 40 * chunk.len();
        // More than the pipe holds, so that some waits.
        let mut gone: usize = (0..40).map(|_| sink.take(&chunk)).sum();
        assert!(gone < sent && sink.wants().is_some());
        // Some of that goes on, and the rest never will.
        let mut buf = vec![0; 50_000];
        assert!(nix::unistd::read(&theirs, &mut buf).is_ok_and(|n| n > 0));
        gone += sink.drain();
        assert!(gone < sent);
        drop(theirs);
        gone += sink.drain();
        assert_eq!(gone, sent);
        assert!(!sink.is_open());
    }
}
