//! The monitor's log: lines on standard error (the journal's, under systemd), dropped rather than waited for.

use std::fmt;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

/// Writes one line. If nobody reads a full pipe there, the line is lost: the monitor never waits.
pub(crate) fn line(args: fmt::Arguments<'_>) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let err = io::stderr();
    let mut fds = [PollFd::new(err.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0) {
        // A pipe that is ready takes PIPE_BUF (4096) bytes without blocking.
        let mut s: String = format!("queue-exec: {args}")
            .chars()
            .filter(|c| !queue_exec::codec::is_odd(*c))
            .take(1000)
            .collect();
        s.push('\n');
        let _ = err.lock().write_all(s.as_bytes());
    }
}

/// One line to the log.
macro_rules! log {
    ($($t:tt)*) => { $crate::monitor::log::line(format_args!($($t)*)) };
}
pub(crate) use log;
