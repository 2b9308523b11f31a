//! Between the session's link and what is forwarded. Knows both; must not know what is forwarded.

use super::Relay;
use libqueue::link::BACKLOG;
use libqueue::wire::Forward;

impl Relay {
    /// Takes what the session says of a forwarded connection.
    pub(super) fn forwarded(&mut self, m: Forward) {
        if let Some(f) = &mut self.forwarding {
            f.receive(m, self.link.stream().kept());
        }
    }

    /// Moves the bytes of forwarded connections. `ready`: the poll said so.
    pub(super) fn forward(&mut self, ready: bool) {
        let may_send = !self.send_failed && self.link.backlog() < BACKLOG;
        let Some(f) = &mut self.forwarding else { return };
        f.turn(may_send, ready);
        while let Some(kind) = self.forwarding.as_mut().and_then(|f| f.outgoing()) {
            self.control(kind);
        }
        if let Some(text) = self.forwarding.as_mut().and_then(|f| f.trouble()) {
            self.post(&text);
            // A program that fills the screen is shown whole again at the next key.
            self.helped |= std::mem::take(&mut self.spoiled);
        }
    }
}
