//! From the command's pipes and terminal to the client. Knows sources and channels; must not know processes.

use super::client::Client;
use super::{Command, Session};
use crate::pump::{Pumped, Source};
use libqueue::stream::DATA_MAX;
use libqueue::wire::from_session;
use nix::errno::Errno;

impl Session {
    /// Whether something may be read of a source: it goes somewhere, or nobody wants it.
    pub(super) fn may_read(&self, s: &Source) -> bool {
        self.client.as_ref().is_none_or(|c| {
            let closed = c.link.stream().is_closed(s.channel);
            closed || (c.link.room(s.channel) > 0 && !(s.is_terminal() && c.is_showing()))
        })
    }

    /// Sends what the command has written, as far as there is room for it.
    pub(super) fn pump(&mut self) {
        let mut i = 0;
        while i < self.sources.len() {
            let s = &mut self.sources[i];
            if !s.is_due() {
                i += 1;
                continue;
            }
            let (channel, terminal) = (s.channel, s.is_terminal());
            let tapped = (terminal && self.screen.is_some()) || !self.guests.is_empty();
            let tap = &mut self.tap;
            let mut result = Ok(Pumped::Nothing);
            // A few reads a round: fair between the channels, and few polls a byte.
            for _ in 0..4 {
                result = match &mut self.client {
                    Some(c) if terminal && c.is_showing() => Ok(Pumped::Nothing),
                    Some(c) if !c.link.stream().is_closed(channel) => {
                        s.pump(&mut c.link, tapped.then_some(&mut *tap))
                    }
                    _ => Ok(drop_output(s, &mut self.buf, tapped.then_some(&mut *tap))),
                };
                if !matches!(result, Ok(Pumped::Some)) {
                    break;
                }
            }
            // Once for what was read: the other end is woken up less often.
            let flushed = self.client.as_mut().map_or(Ok(()), |c| c.flush());
            if matches!(result, Ok(Pumped::End)) {
                self.sources.remove(i);
                if !self.sources.iter().any(|s| s.channel == channel)
                    && let Some(c) = &mut self.client
                {
                    // An error here shows again at the next flush.
                    let _ = c.link.send_eof(channel);
                }
            } else {
                i += 1;
            }
            if let Err(e) = result.map(|_| ()).and(flushed) {
                self.lost(&e);
            }
            // Only now: nobody who looks makes the client wait.
            self.spread(channel, terminal);
        }
        self.report_if_drained();
    }

    pub(super) fn report_if_drained(&mut self) {
        if !self.sources.is_empty() || self.client.as_ref().is_some_and(Client::is_showing) {
            return;
        }
        if let Command::Draining(ended) = &self.command {
            let ended = from_session::Kind::Ended(ended.clone());
            self.command = Command::Over;
            self.status = Some(ended.clone());
            self.last_word_to_guests(&ended);
            self.last_word(ended);
            if !self.leave && !self.tree_empty && self.hangup.is_none() {
                self.hang_up();
            }
        }
    }
}

/// Reads and throws away, except for those who look: nobody is attached, but the command must not block on a terminal that nobody reads.
fn drop_output(s: &Source, buf: &mut Vec<u8>, tap: Option<&mut Vec<u8>>) -> Pumped {
    buf.resize(DATA_MAX, 0);
    match nix::unistd::read(s.fd(), buf) {
        Ok(0) => Pumped::End,
        Ok(n) => {
            if let Some(tap) = tap {
                tap.extend_from_slice(&buf[..n]);
            }
            Pumped::Some
        }
        Err(Errno::EINTR) => Pumped::Some,
        Err(Errno::EAGAIN) => Pumped::Nothing,
        Err(_) => Pumped::End,
    }
}
