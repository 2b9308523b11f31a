//! The command: what init says of it, and signals for it. Knows processes; must not know sockets.

use super::{Command, Session};
use crate::child::Heard;
use crate::pump::Source;
use crate::terminal;
use libqueue::wire::{Ended, LaunchError, Started, from_session};
use nix::errno::Errno;
use queue_exec::protocol;
use queue_init::{FromInit, Stage};

impl Session {
    /// Somebody asked the host to end this session, or to send it a signal.
    pub(super) fn kill(&mut self, by: &str, signal: u8) {
        if signal != 0 {
            return self.signal(u32::from(signal));
        }
        let text = protocol::printable(&format!("killed by {by}"));
        self.say(from_session::Kind::Notice(text));
        self.leave = false;
        self.hang_up();
    }

    /// To the foreground group; what ends or continues everything to the first group as well.
    pub(super) fn signal(&mut self, n: u32) {
        let Command::Running { pid } = self.command else {
            if self.command == Command::Starting {
                self.early_signals.push(n);
                self.abandon_start(n);
            }
            return;
        };
        let n = n as i32;
        if !(1..=64).contains(&n) {
            return;
        }
        let foreground = self
            .master
            .as_ref()
            .and_then(|m| terminal::foreground(m))
            .unwrap_or(pid);
        let both = [libc::SIGTERM, libc::SIGHUP, libc::SIGCONT].contains(&n) && foreground != pid;
        for group in [Some(foreground), both.then_some(pid)].into_iter().flatten() {
            // SAFETY: no memory is involved; a group of our own user.
            let sent = unsafe { libc::kill(-group, n) };
            if sent != 0
                && Errno::last() == Errno::EPERM
                && let Some(m) = &self.master
            {
                // Somebody else's program (sudo): the terminal itself may send what keys send.
                terminal::signal(m, n);
            }
        }
    }

    /// The start hangs (a dead file server) and the user has had enough.
    pub(super) fn abandon_start(&mut self, n: u32) {
        let ends = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
        if ends.contains(&(n as i32)) && self.slow_start.is_none() {
            let ended = Ended {
                signal: Some(n),
                ..Ended::default()
            };
            self.leave = false;
            self.sources.clear();
            self.command = Command::Draining(ended);
            self.report_if_drained();
        }
    }

    pub(super) fn hear_init(&mut self) {
        match self.init.hear() {
            Heard::Gone => {
                if matches!(self.command, Command::Starting | Command::Running { .. }) {
                    // Somebody killed it. What it held together is ended by the monitor.
                    self.leave = false;
                    self.command = Command::Draining(Ended {
                        signal: Some(libc::SIGKILL as u32),
                        ..Ended::default()
                    });
                    self.sources.iter_mut().for_each(Source::only_rest);
                    self.monitor.tell(&protocol::FromSession::KillTree);
                }
                self.tree_empty = true;
            }
            Heard::Messages(messages) => messages.into_iter().for_each(|m| self.on_init(m)),
        }
    }

    pub(super) fn on_init(&mut self, m: FromInit) {
        match m {
            FromInit::Started { pid } => {
                if self.command == Command::Starting {
                    self.command = Command::Running { pid };
                    self.slow_start = None;
                    let started = Started {
                        pid: pid as u32,
                        tty: self.tty.clone(),
                        grace: u32::try_from(self.grace.as_secs()).unwrap_or(u32::MAX),
                    };
                    self.say(from_session::Kind::Started(started));
                    for n in std::mem::take(&mut self.early_signals) {
                        self.signal(n);
                    }
                }
            }
            FromInit::Failed { stage, errno } => {
                self.tree_empty = true;
                let (code, text) = self.start_failure(stage, errno);
                self.failed(code, errno as u32, &text);
            }
            FromInit::Stopped { signal } => {
                self.stopped = signal as u32;
                // What it wrote before it stopped is shown before the caller stops as well.
                self.sources.iter_mut().for_each(|s| s.ready = true);
                self.pump();
                self.say(from_session::Kind::Stopped(signal as u32));
            }
            FromInit::Continued => {
                self.stopped = 0;
                self.say(from_session::Kind::Continued(libqueue::wire::Empty {}));
            }
            FromInit::Exited {
                status,
                cpu_us,
                maxrss_kib,
            } => {
                let ended = if libc::WIFEXITED(status) {
                    Ended {
                        code: Some(libc::WEXITSTATUS(status) as u32),
                        ..Ended::default()
                    }
                } else {
                    Ended {
                        signal: Some(libc::WTERMSIG(status) as u32),
                        core: libc::WCOREDUMP(status),
                        ..Ended::default()
                    }
                };
                self.inbox.sink.shut();
                self.command = Command::Draining(Ended {
                    cpu_us,
                    maxrss_kib,
                    ..ended
                });
                let wait_for_eof = self.leave && self.master.is_none() && self.is_heard();
                if !wait_for_eof {
                    self.sources.iter_mut().for_each(Source::only_rest);
                }
            }
            FromInit::Empty { .. } => {
                self.tree_empty = true;
                self.hangup = None;
            }
        }
    }

    pub(super) fn start_failure(&self, stage: Stage, errno: i32) -> (LaunchError, String) {
        let why = Errno::from_raw(errno).desc();
        let show = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        match stage {
            Stage::Directory => (
                LaunchError::Directory,
                format!(
                    "working directory {}: {why}; share it with this host, or cd elsewhere first",
                    show(&self.cwd)
                ),
            ),
            Stage::Exec if errno == libc::ENOENT => (
                LaunchError::NotFound,
                format!("{}: command not found", show(&self.program)),
            ),
            Stage::Exec => (
                LaunchError::NotExecutable,
                format!("{}: {why}", show(&self.program)),
            ),
            Stage::Become | Stage::Process => (
                LaunchError::Internal,
                format!("the process could not be set up: {why}"),
            ),
        }
    }
}
