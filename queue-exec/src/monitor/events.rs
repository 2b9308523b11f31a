//! The one place where the monitor waits: epoll and a list of timers. Knows descriptors and tags, not what
//! they mean.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// What became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A connection waits to be accepted.
    Listener,
    /// A signal came.
    Signals,
    /// A client's connection.
    Conn(u32),
    /// A session's channel.
    Channel(u32),
    /// A session process ended.
    Death(u32),
    /// A look-up of this uid has answered.
    Lookup(u32),
    /// The zygote has answered.
    Zygote,
    /// This look-up of an account has answered.
    Account(u32),
}

/// What is to be done at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Look at the pool of warm sessions.
    Pool,
    /// A session should have done something by now.
    Session(u32),
    /// Go on with killing or removing.
    Cleanup(u32),
    /// A connection should have done something by now.
    Idle(u32),
    /// A look-up takes too long.
    Lookup(u32),
    /// A start waits too long.
    Starts,
    /// Try a parked admission again.
    Admit,
    /// Forget expired nonces.
    Nonces,
    /// Collect look-up processes that were killed.
    Reap,
    /// The zygote should have answered by now.
    Zygote,
    /// This look-up of an account takes too long.
    Account(u32),
    /// A job should have ended by now.
    Runner(u32),
    /// Let go of runners that have had no job for long.
    Runners,
    /// See whether another program can take over.
    Upgrade,
    /// Collect processes that the program before this one started.
    Strays,
}

impl Source {
    fn tag(self) -> u64 {
        let (kind, id) = match self {
            Self::Listener => (0, 0),
            Self::Signals => (1, 0),
            Self::Conn(id) => (2, id),
            Self::Channel(id) => (3, id),
            Self::Death(id) => (4, id),
            Self::Lookup(id) => (5, id),
            Self::Zygote => (6, 0),
            Self::Account(id) => (7, id),
        };
        kind << 32 | u64::from(id)
    }

    fn from_tag(tag: u64) -> Self {
        let id = tag as u32;
        match tag >> 32 {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::Conn(id),
            3 => Self::Channel(id),
            4 => Self::Death(id),
            5 => Self::Lookup(id),
            6 => Self::Zygote,
            _ => Self::Account(id),
        }
    }
}

/// Epoll and timers.
#[derive(Debug)]
pub(crate) struct Events {
    epoll: OwnedFd,
    timers: BTreeMap<(Instant, u64), Timer>,
    next: u64,
}

/// Events taken from the kernel at once; more come with the next turn.
const BATCH: usize = 64;

impl Events {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, ours alone.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            epoll,
            timers: BTreeMap::new(),
            next: 0,
        })
    }

    fn ctl(&self, op: i32, fd: BorrowedFd<'_>, source: Source, events: i32) -> io::Result<()> {
        let mut ev = libc::epoll_event {
            events: events as u32,
            u64: source.tag(),
        };
        // SAFETY: both descriptors are open, the event is valid for the call.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), op, fd.as_raw_fd(), &mut ev) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for input on `fd` from now on.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_ADD, fd, source, libc::EPOLLIN)
    }

    /// Changes what is waited for, and under which tag.
    pub(crate) fn change(&self, fd: BorrowedFd<'_>, source: Source, output: bool) -> io::Result<()> {
        let out = if output { libc::EPOLLOUT } else { 0 };
        self.ctl(libc::EPOLL_CTL_MOD, fd, source, libc::EPOLLIN | out)
    }

    /// Waits no longer. Needed only where the descriptor lives on, or a copy of it.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = self.ctl(libc::EPOLL_CTL_DEL, fd, Source::Listener, 0);
    }

    /// Does something later.
    pub(crate) fn after(&mut self, delay: Duration, timer: Timer) {
        self.next += 1;
        self.timers.insert((Instant::now() + delay, self.next), timer);
    }

    /// Timers that are due.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Timer> {
        let later = self.timers.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.timers, later).into_values().collect()
    }

    /// Waits for events or the next timer.
    pub(crate) fn wait(&self, out: &mut Vec<Source>) -> io::Result<()> {
        out.clear();
        let ms = match self.timers.keys().next() {
            None => -1,
            Some((at, _)) => {
                let left = at.saturating_duration_since(Instant::now());
                // Rounded up, or the loop would spin through the last millisecond.
                i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
            }
        };
        let mut buf = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        // SAFETY: the buffer has room for BATCH events.
        let n = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), buf.as_mut_ptr(), BATCH as i32, ms) };
        match usize::try_from(n) {
            Ok(n) => out.extend(buf[..n].iter().map(|e| Source::from_tag(e.u64))),
            Err(_) => {
                let e = io::Error::last_os_error();
                if e.kind() != io::ErrorKind::Interrupted {
                    return Err(e);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn tags_come_back() {
        use Source::{Account, Channel, Conn, Death, Listener, Lookup, Signals, Zygote};
        for s in [
            Listener,
            Signals,
            Conn(u32::MAX),
            Channel(1),
            Death(2),
            Lookup(3),
            Zygote,
            Account(4),
        ] {
            assert_eq!(Source::from_tag(s.tag()), s);
        }
    }

    #[test]
    fn waits_for_descriptors_and_timers() {
        let mut ev = Events::new().unwrap();
        let (a, b) = UnixStream::pair().unwrap();
        ev.add(a.as_fd(), Source::Conn(7)).unwrap();
        ev.after(Duration::from_millis(1), Timer::Pool);
        let mut out = Vec::new();
        ev.wait(&mut out).unwrap();
        assert_eq!(out, []);
        assert_eq!(ev.due(Instant::now()), [Timer::Pool]);
        assert_eq!(ev.due(Instant::now()), []);
        drop(b);
        ev.wait(&mut out).unwrap();
        assert_eq!(out, [Source::Conn(7)]);
        ev.remove(a.as_fd());
    }
}
