//! The client: what it says, what it is told, and that it has gone. Knows the link and what control messages
//! mean; must not know how the command is started or ended.

use super::{Client, Command, LINGER, Session, from};
use crate::terminal;
use libqueue::link::LinkError;
use libqueue::wire::{LaunchError, LaunchFailed, from_session, to_session};
use queue_exec::protocol;
use std::time::Instant;

impl Session {
    pub(super) fn receive(&mut self) -> Result<(), LinkError> {
        // Bounded, so that a client that never stops sending does not keep us from the command's output.
        for _ in 0..4 {
            let inbox = &mut self.inbox;
            let more = self.link.receive(|e| inbox.event(e))?;
            self.read_inbox()?;
            if !more {
                break;
            }
        }
        if self.link.is_peer_closed() && self.client == Client::Here {
            self.client = Client::Gone;
            self.hang_up();
        }
        Ok(())
    }

    /// Says the last word, and goodbye.
    pub(super) fn told(&mut self, message: &[u8]) -> Result<(), LinkError> {
        if self.client == Client::Gone {
            return Ok(());
        }
        self.client = Client::Told;
        self.linger = Some(Instant::now() + LINGER);
        self.link.send_control(message)?;
        self.link.send_goodbye()?;
        self.link.flush()?;
        Ok(())
    }

    pub(super) fn failed(&mut self, code: LaunchError, errno: u32, text: String) {
        self.command = Command::Over;
        self.leave = false;
        self.slow_start = None;
        self.sources.clear();
        self.inbox.sink.shut();
        let failed = LaunchFailed {
            code: code as i32,
            errno,
            text: protocol::printable(&text),
        };
        if self.told(&from(from_session::Kind::Failed(failed))).is_err() {
            self.client = Client::Gone;
        }
    }

    /// The connection is of no use any more.
    pub(super) fn lost(&mut self, _why: &LinkError) {
        let told = self.client == Client::Told;
        self.client = Client::Gone;
        self.linger = None;
        self.inbox.sink.end();
        if !told || self.command != Command::Over {
            self.leave = false;
            self.hang_up();
        }
    }

    pub(super) fn control(&mut self, kind: to_session::Kind) {
        match kind {
            to_session::Kind::Signal(n) => self.signal(n),
            to_session::Kind::Resize(size) => {
                if let Some(m) = &self.master {
                    terminal::resize(m, size);
                }
            }
            to_session::Kind::Continue(_) => self.signal(libc::SIGCONT as u32),
            to_session::Kind::Hangup(_) => {
                self.leave = false;
                self.hang_up();
            }
            to_session::Kind::Detach(_) | to_session::Kind::Redraw(_) | to_session::Kind::Forward(_) => {}
        }
    }
}
