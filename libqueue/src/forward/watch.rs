//! The sockets of forwarded connections behind one descriptor (`epoll(7)`), so that the loop which has them polls one
//! more and no more. Knows numbers; must not know what they are for.

use nix::errno::Errno;
use nix::libc;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// Bytes can be read, or somebody wants to be accepted.
pub(super) const READ: u32 = libc::EPOLLIN as u32;
/// Bytes can be written.
pub(super) const WRITE: u32 = libc::EPOLLOUT as u32;
/// How many are told at once.
const AT_ONCE: usize = 64;

/// Descriptors that are watched, each with a number of its owner's.
#[derive(Debug)]
pub(super) struct Watch(OwnedFd);

impl Watch {
    /// Watches nothing.
    ///
    /// # Errors
    /// As `epoll_create1(2)`.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: numbers only.
        let fd = Errno::result(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel just made it for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// For the poll of the loop: readable if something is ready.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Changes what a descriptor is watched for, from `now` (0: it is not watched). Not watched at all if for
    /// nothing: the kernel tells of broken connections in any case, and would do so for ever.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub(super) fn set(&self, fd: BorrowedFd<'_>, token: u64, now: u32, wanted: u32) -> io::Result<()> {
        let op = match (now, wanted) {
            (0, _) => libc::EPOLL_CTL_ADD,
            (_, 0) => libc::EPOLL_CTL_DEL,
            _ => libc::EPOLL_CTL_MOD,
        };
        let mut event = libc::epoll_event {
            events: wanted,
            u64: token,
        };
        // SAFETY: two open descriptors and a valid event.
        let done = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), op, fd.as_raw_fd(), &raw mut event) };
        Errno::result(done)?;
        Ok(())
    }

    /// The numbers of those that are ready, without waiting.
    pub(super) fn ready(&self) -> Vec<u64> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_ONCE];
        // SAFETY: pointer and length are those of the array.
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), AT_ONCE as i32, 0) };
        let n = usize::try_from(n).unwrap_or(0);
        events[..n].iter().map(|e| e.u64).collect()
    }
}
