//! From here to the session: what is typed, signals, the window, and stopping as the command does.

use super::{End, HANGUP, PLENTY, ROUNDS, Relay};
use crate::input::Got;
use crate::signals::{self, Received};
use crate::{sys, terminal};
use libqueue::stream::Channel;
use libqueue::wire::{Empty, ToSession, to_session};
use nix::libc;
use prost::Message as _;
use std::time::Instant;

impl Relay {
    pub(super) fn read_input(&mut self) {
        for _ in 0..ROUNDS {
            let Some(input) = &mut self.input else { return };
            if self.send_failed {
                return;
            }
            let space = self.link.space(Channel::Stdin);
            if space.is_empty() {
                return;
            }
            let sent = match input.read(space) {
                Got::Bytes(n) => self.link.commit(Channel::Stdin, n).map(|()| n),
                Got::Nothing => return,
                Got::Background => {
                    self.keys.lost();
                    return;
                }
                // Not under nohup, though: that is what it is for.
                Got::End if self.signals.has(libc::SIGHUP) && self.terminal_is_gone() => {
                    self.hang_up();
                    return;
                }
                Got::End => {
                    self.input = None;
                    self.link.send_eof(Channel::Stdin).map(|()| 0)
                }
            };
            // Sent by the loop, once for all: the other end is woken up less often.
            match sent {
                Ok(n) if n >= PLENTY => {}
                Ok(_) => return,
                Err(_) => self.send_failed = true,
            }
        }
    }

    pub(super) fn control(&mut self, kind: to_session::Kind) {
        if !self.send_failed {
            let message = ToSession { kind: Some(kind) }.encode_to_vec();
            self.send_failed = self.link.send_control(&message).is_err();
        }
    }

    /// A signal for us. `Some`: nothing is left to forward it to, and it ends us.
    pub(super) fn on_signal(&mut self, r: Received) -> Option<End> {
        if r.own {
            return None;
        }
        if self.ended.is_some() {
            // Only a slow reader keeps us; a local command would be in its write now and die of it.
            return signals::is_fatal(r.signal).then_some(End::Signal(r.signal));
        }
        if !self.keys.is_started() && signals::is_fatal(r.signal) {
            // The first one is for the command, which may run by now; a second one is for us.
            if std::mem::replace(&mut self.interrupted, true) {
                return Some(End::Signal(r.signal));
            }
        }
        match r.signal {
            libc::SIGCONT => self.continued(),
            libc::SIGWINCH if self.pty => {
                let size = terminal::size();
                match size {
                    Some(s) if size != self.size => {
                        self.size = size;
                        self.control(to_session::Kind::Resize(s));
                    }
                    // Sent by hand: the size there would not change and nobody be told.
                    _ => self.control(to_session::Kind::Signal(libc::SIGWINCH as u32)),
                }
            }
            libc::SIGHUP if self.terminal_is_gone() => self.hang_up(),
            signal => self.control(to_session::Kind::Signal(signal as u32)),
        }
        None
    }

    /// Our terminal is gone for good: nobody is left to look after the command.
    pub(super) fn hang_up(&mut self) {
        self.hangup.get_or_insert(Instant::now() + HANGUP);
        self.input = None;
        self.keys.gone();
        self.control(to_session::Kind::Hangup(Empty {}));
    }

    pub(super) fn terminal_is_gone(&self) -> bool {
        if !self.input.as_ref().is_some_and(|i| i.tty) {
            return false;
        }
        let mut fd = [libc::pollfd {
            fd: 0,
            events: 0,
            revents: 0,
        }];
        sys::poll(&mut fd, 0).is_ok() && fd[0].revents & (libc::POLLHUP | libc::POLLERR) != 0
    }

    /// Stops as the command did. A stop from a keyboard stops the whole job: had the command been here, the
    /// terminal would have sent the signal to all of our process group (a script that runs us, the rest of a
    /// pipeline), and the shell waits for all of them. Every other stop concerns us alone.
    pub(super) fn stop(&mut self, signal: i32) {
        let by_key = signal == libc::SIGTSTP && self.keys.is_raw();
        self.flush();
        self.keys.give_back();
        self.signals.stop(signal, by_key);
        if !self.signals.has(libc::SIGCONT) {
            self.continued();
        }
    }

    /// We were continued, in the foreground or not.
    pub(super) fn continued(&mut self) {
        self.look_for_foreground();
        self.control(to_session::Kind::Continue(Empty {}));
    }

    pub(super) fn look_for_foreground(&mut self) {
        // It may have been closed while it was not ours to read.
        if self.signals.has(libc::SIGHUP) && self.terminal_is_gone() {
            return self.hang_up();
        }
        if self.keys.look()
            && self.pty
            && let Some(size) = terminal::size()
        {
            self.size = Some(size);
            self.control(to_session::Kind::Resize(size));
        }
    }
}
