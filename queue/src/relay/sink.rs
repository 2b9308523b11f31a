//! Standard output and error as the destinations of channels. Knows descriptors and errors; nothing of the link.

use crate::messages::Failure;
use crate::output::Output;
use crate::plan::PtyFor;
use nix::errno::Errno;

/// Standard output or error as a channel's destination.
pub(super) struct Sink {
    pub(super) output: Output,
    /// Nobody reads it any more, or it failed.
    pub(super) broken: bool,
    /// The peer was told.
    pub(super) told: bool,
    /// The command has closed it: so shall we, once everything is written.
    pub(super) ended: bool,
}

impl Sink {
    pub(super) fn new(n: usize, pty: Option<PtyFor>) -> Self {
        Self {
            output: Output::new(n, !pty.is_some_and(|p| p.fds[n] && p.fds[0])),
            broken: false,
            told: false,
            ended: false,
        }
    }

    pub(super) fn close_if_done(&mut self) {
        if self.ended && !self.output.is_waiting() {
            self.ended = false;
            self.output.close();
        }
    }
}

/// Gives bytes to a local descriptor; how many need no more waiting for (written, or dropped for good).
pub(super) fn deliver(sink: &mut Sink, n: usize, data: &[u8], failed: &mut Option<Failure>) -> usize {
    if sink.broken {
        return data.len();
    }
    sink.output.write(data).unwrap_or_else(|e| {
        let waiting = sink.output.discard();
        broken(sink, n, e, failed);
        waiting + data.len()
    })
}

/// Nobody reads it: the command learns that and decides. Any other error means lost output, which no exit code
/// of the command may hide.
pub(super) fn broken(sink: &mut Sink, n: usize, e: Errno, failed: &mut Option<Failure>) {
    sink.broken = true;
    sink.output.discard();
    if !matches!(e, Errno::EPIPE | Errno::ECONNRESET | Errno::EIO) {
        let name = if n == 0 {
            "standard output"
        } else {
            "standard error"
        };
        failed.get_or_insert_with(|| Failure::own(format!("{name}: {}: output is lost", e.desc())));
    }
}
