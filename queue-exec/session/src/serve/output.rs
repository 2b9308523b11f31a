//! From the command's pipes and terminal to the client. Knows sources and channels; must not know processes.

use super::{Client, Command, Session, from};
use crate::pump::{Pumped, Source};
use libqueue::link::LinkError;
use libqueue::stream::DATA_MAX;
use libqueue::wire::from_session;
use nix::errno::Errno;

impl Session {
    pub(super) fn pump(&mut self) -> Result<(), LinkError> {
        let gone = self.client == Client::Gone;
        let mut i = 0;
        while i < self.sources.len() {
            let s = &mut self.sources[i];
            if !s.is_due() {
                i += 1;
                continue;
            }
            let mut result = Pumped::Nothing;
            // A few reads a round: fair between the channels, and few polls a byte.
            for _ in 0..4 {
                result = if gone || self.link.stream().is_closed(s.channel) {
                    drop_output(s, &mut self.buf)
                } else {
                    s.pump(&mut self.link)?
                };
                if result != Pumped::Some {
                    break;
                }
            }
            // Once for what was read: the other end is woken up less often.
            if !gone {
                self.link.flush()?;
            }
            if result == Pumped::End {
                let channel = s.channel;
                self.sources.remove(i);
                if !gone && !self.sources.iter().any(|s| s.channel == channel) {
                    self.link.send_eof(channel)?;
                }
            } else {
                i += 1;
            }
        }
        self.report_if_drained()
    }

    pub(super) fn report_if_drained(&mut self) -> Result<(), LinkError> {
        if !self.sources.is_empty() {
            return Ok(());
        }
        if let Command::Draining(ended) = &self.command {
            let message = from(from_session::Kind::Ended(ended.clone()));
            self.command = Command::Over;
            self.told(&message)?;
            if !self.leave && !self.tree_empty && self.hangup.is_none() {
                self.hang_up();
            }
        }
        Ok(())
    }
}

/// Reads and throws away: nobody wants it, but the command must not block on a terminal that nobody reads.
fn drop_output(s: &Source, buf: &mut Vec<u8>) -> Pumped {
    buf.resize(DATA_MAX, 0);
    match nix::unistd::read(s.fd(), buf) {
        Ok(0) => Pumped::End,
        Ok(_) | Err(Errno::EINTR) => Pumped::Some,
        Err(Errno::EAGAIN) => Pumped::Nothing,
        Err(_) => Pumped::End,
    }
}
