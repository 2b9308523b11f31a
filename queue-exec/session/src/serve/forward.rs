//! Between the client's link and what is forwarded. Knows both; must not know what is forwarded.

use super::Session;
use crate::forward::{self, Forwarding};
use libqueue::link::BACKLOG;
use libqueue::wire::{Forward, Launch, from_session};
use queue_exec::protocol;

impl Session {
    /// Makes what is to be forwarded; gives the environment that leads there.
    pub(super) fn begin_forwarding(&mut self, launch: &Launch, pam_env: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let owner = self.client.as_ref().map_or([0; 32], |c| c.key);
        let begun = forward::begin(launch, pam_env, owner);
        self.forwarding = begun.forwarding;
        for text in begun.notices {
            self.say(from_session::Kind::Notice(protocol::printable(&text)));
        }
        begun.env
    }

    /// Takes what the client says of a forwarded connection.
    pub(super) fn forwarded(&mut self, m: Forward) {
        if let (Some(f), Some(c)) = (&mut self.forwarding, &self.client)
            && f.is_for(&c.key)
        {
            f.receive(m, c.link.stream().kept());
        }
    }

    /// Moves the bytes of forwarded connections. `ready`: the poll said so.
    pub(super) fn forward(&mut self, ready: bool) {
        let Some(f) = &mut self.forwarding else { return };
        if !self.client.as_ref().is_some_and(|c| f.is_for(&c.key)) {
            // Whoever is attached now did not ask for it, and another one's display is not his.
            f.give_up();
            return f.turn(false, ready);
        }
        let may_send = self.client.as_ref().is_some_and(|c| c.link.backlog() < BACKLOG);
        f.turn(may_send, ready);
        while let Some(kind) = self.forwarding.as_mut().and_then(Forwarding::outgoing) {
            self.say(kind);
        }
    }
}
