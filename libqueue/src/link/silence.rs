//! Whether the other end of a connection is still there, as far as this host's kernel can tell (`tcp(7)`,
//! `TCP_INFO`). A program at the other end that is stopped, or does not read, still answers through its kernel.
//! Knows sockets; must not know what is done about silence.

use nix::libc;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

/// Probes of an idle connection that may be unanswered before that means something: the last one may have been
/// sent just now.
const PROBES: u8 = 2;

/// What the kernel knows of a TCP connection; `None`: it is none.
fn info(socket: BorrowedFd<'_>) -> Option<libc::tcp_info> {
    // SAFETY: plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: valid pointers with the length of what they point to.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    (done == 0).then_some(info)
}

/// How long the other end's kernel has answered nothing although it was asked. `None`: as far as is known it
/// answers, or this is no TCP connection. Idle connections are asked only if keep-alive is on.
pub fn silence(socket: BorrowedFd<'_>) -> Option<Duration> {
    let i = info(socket)?;
    let asked = i.tcpi_retransmits > 0 || i.tcpi_probes >= PROBES;
    asked.then(|| Duration::from_millis(i.tcpi_last_ack_recv.into()))
}

/// Whether a question to the other end's kernel is on its way now: its answer is due within a round trip.
pub fn is_asked(socket: BorrowedFd<'_>) -> bool {
    info(socket).is_some_and(|i| i.tcpi_retransmits > 0 || i.tcpi_probes > 0)
}

/// Whether the other end's kernel has acknowledged all that was written (`SIOCOUTQ`, `tcp(7)`).
pub fn has_all(socket: BorrowedFd<'_>) -> bool {
    let mut left: libc::c_int = 0;
    // SAFETY: a valid pointer to what it writes.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut left) };
    done == 0 && left == 0
}

/// Smoothed time to the other end and back; `None` if it is not known.
pub fn round_trip(socket: BorrowedFd<'_>) -> Option<Duration> {
    let rtt = info(socket)?.tcpi_rtt;
    (rtt > 0).then(|| Duration::from_micros(rtt.into()))
}
