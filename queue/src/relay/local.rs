//! From here to the session: what is typed, signals, the window, and stopping as the command does.

use super::escape::{self, Action, Escape};
use super::{End, HANGUP, Leave, PLENTY, ROUNDS, Relay, Role, TYPED_MAX, notice};
use crate::input::Got;
use crate::messages::{Failure, write_all};
use crate::signals::{self, Received};
use crate::{sys, terminal};
use libqueue::stream::{Channel, WINDOW};
use libqueue::wire::{Empty, ToSession, to_session};
use nix::libc;
use prost::Message as _;
use std::time::Instant;

/// Signals with which a user would leave.
const GIVES_UP: [i32; 4] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP];
/// Keys that are read at once.
const KEYS: usize = 4096;
/// Most that is kept of messages for a host that does not answer, on top of what was typed.
const KEPT_MAX: u64 = WINDOW + (1 << 20);

impl Relay {
    pub(super) fn read_input(&mut self) {
        if self.escape.is_some() {
            return self.read_keys();
        }
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
                Got::End => return self.input_ended(),
            };
            // Sent by the loop, once for all: the other end is woken up less often.
            match sent {
                Ok(n) if n >= PLENTY => {}
                Ok(_) => {
                    self.pulse.said(Instant::now());
                    return;
                }
                Err(_) => self.send_failed = true,
            }
        }
    }

    fn input_ended(&mut self) {
        // Not under nohup, though: that is what it is for.
        if self.signals.has(libc::SIGHUP) && self.terminal_is_gone() {
            self.hang_up();
            return;
        }
        self.input = None;
        if self.role != Role::Watch {
            self.send_failed |= self.link.send_eof(Channel::Stdin).is_err();
        }
    }

    /// Reads what is typed, and looks for escapes.
    fn read_keys(&mut self) {
        let Some(input) = &mut self.input else { return };
        let mut keys = [0; KEYS];
        let n = match input.read(&mut keys) {
            Got::Bytes(n) => n,
            Got::Nothing => return,
            Got::Background => {
                self.keys.lost();
                return;
            }
            Got::End => return self.input_ended(),
        };
        if std::mem::take(&mut self.helped) {
            self.redraw();
        }
        let mut rest = &keys[..n];
        while !rest.is_empty() && self.leaving.is_none() {
            let Some(escape) = &mut self.escape else { return };
            let mut out = Vec::new();
            let (taken, action) = escape.take(rest, &mut out);
            rest = &rest[taken..];
            if self.role == Role::Watch {
                self.watched(&out);
            } else if self.typed.len() < TYPED_MAX {
                self.typed.extend_from_slice(&out);
            }
            // What was typed before comes before.
            self.pass_typed();
            if let Some(action) = action {
                self.act(action);
            }
        }
    }

    /// Passes keys on, as far as there is room.
    pub(super) fn pass_typed(&mut self) {
        if self.typed.is_empty() || self.send_failed || self.link.room(Channel::Stdin) == 0 {
            return;
        }
        match self.link.send(Channel::Stdin, &self.typed) {
            Ok(n) => {
                self.typed.drain(..n);
                self.pulse.said(Instant::now());
            }
            Err(_) => {
                // It has them, and fails once more when it writes.
                self.typed.clear();
                self.send_failed = true;
            }
        }
    }

    /// Keys of one who only looks.
    fn watched(&mut self, keys: &[u8]) {
        for k in keys {
            match k {
                b'q' | 0x03 | 0x04 | 0x1c => return self.leave_watching(),
                0x1a => self.suspend(),
                _ => {}
            }
        }
    }

    fn leave_watching(&mut self) {
        self.leaving = Some(Leave {
            said: format!(
                "no longer watching {}; what runs there goes on",
                self.watching.as_ref().unwrap_or(&self.host)
            ),
            result: Ok(End::Code(0)),
        });
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::GiveUp | Action::Detach if self.role == Role::Watch => self.leave_watching(),
            Action::GiveUp => self.give_up(),
            Action::Detach => {
                if self.is_silent() || self.pulse.is_frozen() {
                    self.post(&format!(
                        "{} does not answer: it is told as soon as it does",
                        self.host
                    ));
                }
                self.control(to_session::Kind::Detach(Empty {}));
            }
            Action::Suspend => self.suspend(),
            Action::Help => {
                let char = self.escape.as_ref().and_then(Escape::char);
                self.help(&escape::help(char.unwrap_or(escape::DEFAULT)));
            }
        }
    }

    /// Says what escapes there are. A program that fills the screen is shown again at the next key.
    fn help(&mut self, lines: &[String]) {
        let columns = self.size.map_or(80, |s| s.cols as usize);
        match self.paintable() {
            Some(rows) => {
                write_all(2, notice::panel(lines, rows, columns).as_bytes());
                self.helped = true;
            }
            None => lines.iter().for_each(|l| self.say(l)),
        }
        self.helped |= std::mem::take(&mut self.spoiled);
    }

    /// The command is to end, and we do not wait for that.
    fn give_up(&mut self) {
        let silent = self.is_silent();
        let answers = !silent && !self.pulse.is_frozen();
        if !silent {
            self.control(to_session::Kind::Hangup(Empty {}));
            let _ = self.link.send_goodbye();
            self.flush();
        }
        self.leaving = Some(Leave {
            said: String::new(),
            result: Err(Failure::own(notice::given_up(&self.host, answers))),
        });
    }

    /// Stops here; the command goes on.
    fn suspend(&mut self) {
        self.flush();
        let full = self.screen.is_full();
        if full {
            self.tidy();
        }
        self.keys.give_back();
        self.signals.stop(libc::SIGTSTP, true);
        self.look_for_foreground();
        if full {
            self.redraw();
        }
    }

    pub(super) fn redraw(&mut self) {
        self.control(to_session::Kind::Redraw(Empty {}));
    }

    pub(super) fn control(&mut self, kind: to_session::Kind) {
        let kept = self.resume.is_some();
        if self.send_failed && !kept || self.link.is_cut() && self.link.stream().kept() > KEPT_MAX {
            return;
        }
        let message = ToSession { kind: Some(kind) }.encode_to_vec();
        self.send_failed |= self.link.send_control(&message).is_err();
        self.pulse.said(Instant::now());
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
        if self.is_noticed() && GIVES_UP.contains(&r.signal) && !self.keys.is_raw() {
            // Once is for the command, if it is ever heard there; twice is for us.
            if self.given & sys::bit(r.signal) != 0 {
                self.say(&notice::given_up(&self.host, false));
                return Some(End::Signal(r.signal));
            }
            self.given |= sys::bit(r.signal);
        }
        if self.role == Role::Watch {
            return self.on_signal_watching(r.signal);
        }
        if self.role == Role::Attach && !self.keys.is_started() && signals::is_fatal(r.signal) {
            // The command has nothing to do with it: whoever is not attached yet goes.
            self.control(to_session::Kind::Detach(Empty {}));
            return std::mem::replace(&mut self.interrupted, true).then_some(End::Signal(r.signal));
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

    /// One who only looks has no part in what happens there.
    fn on_signal_watching(&mut self, signal: i32) -> Option<End> {
        match signal {
            libc::SIGCONT => self.look_for_foreground(),
            libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => self.suspend(),
            s if signals::is_fatal(s) => return Some(End::Signal(s)),
            _ => {}
        }
        None
    }

    /// Our terminal is gone for good: nobody is left to look after the command, unless it was there before us.
    pub(super) fn hang_up(&mut self) {
        self.hangup.get_or_insert(Instant::now() + HANGUP);
        self.input = None;
        self.keys.gone();
        self.control(match self.role {
            Role::Attach => to_session::Kind::Detach(Empty {}),
            _ => to_session::Kind::Hangup(Empty {}),
        });
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
