//! What the user is told while a host that was asked for a session says nothing. Knows time and one line; not what
//! the host was asked.

use super::connect::wait;
use crate::waiting::{Line, is_ours};
use libqueue::link::LinkError;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long a host may say nothing until the user is told; as long as in a session that runs.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits for one host, and says so when that takes long.
pub(super) struct Quiet<'a> {
    host: &'a str,
    /// When to tell; `None`: not at all, or it was told.
    due: Option<Instant>,
    line: Line,
}

impl<'a> Quiet<'a> {
    /// For a host that is asked now. `tell`: somebody wants to know. That is somebody at a terminal: in a log a failure
    /// is one line, and this one could not be taken back.
    pub(super) fn new(host: &'a str, tell: bool) -> Self {
        Self {
            host,
            due: tell.then(|| Instant::now() + PATIENCE),
            line: Line::default(),
        }
    }

    /// Does something that may take until `end`, in pieces where something has to be told in between. `act` is given
    /// the time until which it may wait, and goes on where it was when it is called again.
    ///
    /// # Errors
    /// Those of `act`; [`LinkError::Timeout`] at `end` only.
    pub(super) fn until(
        &mut self,
        end: Instant,
        mut act: impl FnMut(Instant) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        loop {
            match act(self.due.map_or(end, |due| due.min(end))) {
                Err(LinkError::Timeout) if self.due.is_some_and(|due| due < end) => {
                    self.due = None;
                    if is_ours() {
                        self.line.write(&text(self.host));
                    }
                }
                result => return result,
            }
        }
    }

    /// Waits until a socket is ready.
    ///
    /// # Errors
    /// [`LinkError::Timeout`] at `end`, or `poll` failed.
    pub(super) fn wait(&mut self, sock: BorrowedFd<'_>, events: i16, end: Instant) -> Result<(), LinkError> {
        self.until(end, |end| wait(sock, events, end))
    }

    /// It has answered, or we do not wait any more.
    pub(super) fn over(mut self) {
        self.line.clear();
    }
}

fn text(host: &str) -> String {
    format!("{host} does not answer; waiting, Ctrl-C to give up")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs out of time at once, as often as it is asked.
    fn run(quiet: &mut Quiet<'_>, end: Instant) -> usize {
        let mut calls = 0;
        let result = quiet.until(end, |_| {
            calls += 1;
            Err(LinkError::Timeout)
        });
        assert!(matches!(result, Err(LinkError::Timeout)));
        calls
    }

    #[test]
    fn it_is_told_once_and_only_if_wanted() {
        let now = Instant::now();
        let mut quiet = Quiet::new("h2", true);
        let until = |quiet: &mut Quiet<'_>, end| {
            let mut given = None;
            let _ = quiet.until(end, |t| {
                given = Some(t);
                Ok(())
            });
            given.unwrap()
        };
        // What ends earlier is waited for as long as it may take.
        assert_eq!(until(&mut quiet, now), now);
        let far = now + Duration::from_secs(60);
        assert!(until(&mut quiet, far) < now + Duration::from_secs(10));
        assert_eq!((run(&mut quiet, now), quiet.due.is_some()), (1, true));
        assert_eq!((run(&mut quiet, far), quiet.due.is_some()), (2, false));
        assert_eq!((run(&mut quiet, far), until(&mut quiet, far)), (1, far));
        let mut silent = Quiet::new("h2", false);
        assert_eq!(run(&mut silent, far), 1);
        assert_eq!(text("h2"), "h2 does not answer; waiting, Ctrl-C to give up");
    }
}
