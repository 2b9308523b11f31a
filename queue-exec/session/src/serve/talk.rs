//! What the client says and is told, and what becomes of the session when it has gone. Knows what control messages
//! mean; must not know how the command is started or ended.

use super::client::{Client, Fate};
use super::{Command, LISTEN, Session, from};
use libqueue::link::LinkError;
use libqueue::wire::{LaunchError, LaunchFailed, from_session, to_session};
use queue_exec::protocol;
use queue_screen::Whom;
use std::time::{Duration, Instant};

/// So often at most: a host that was silent for nearly the whole time of grace.
const LISTEN_LEAST: Duration = Duration::from_millis(20);

impl Session {
    /// Whether somebody is attached who was not told the last word.
    pub(super) fn is_heard(&self) -> bool {
        self.client.as_ref().is_some_and(|c| !c.is_told())
    }

    /// Reads what the client sent.
    pub(super) fn receive(&mut self) {
        // Bounded, so that a client that never stops sending does not keep us from the command's output.
        for _ in 0..4 {
            let (Some(c), inbox) = (&mut self.client, &mut self.inbox) else {
                return;
            };
            let more = c.link.receive(|e| inbox.event(e));
            if let Err(e) = self.read_inbox() {
                return self.lost(&e);
            }
            match more {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => return self.lost(&e),
            }
        }
        self.part_if_done();
    }

    /// The client said goodbye, or has everything.
    pub(super) fn part_if_done(&mut self) {
        if let Some(c) = &self.client
            && (c.has_everything() || c.link.is_peer_closed())
        {
            self.vanished();
        }
    }

    /// Tells the client something, if it is there or may come back.
    pub(super) fn say(&mut self, kind: from_session::Kind) {
        if let Some(Err(e)) = self.client.as_mut().map(|c| c.say(&from(kind))) {
            self.lost(&e);
        }
    }

    /// Says the last word, and goodbye.
    pub(super) fn last_word(&mut self, kind: from_session::Kind) {
        if let Some(Err(e)) = self.client.as_mut().map(|c| c.last_word(&from(kind))) {
            self.lost(&e);
        }
        give_way();
    }

    pub(super) fn failed(&mut self, code: LaunchError, errno: u32, text: &str) {
        self.command = Command::Over;
        self.leave = false;
        self.slow_start = None;
        self.sources.clear();
        self.inbox.sink.shut();
        let failed = from_session::Kind::Failed(LaunchFailed {
            code: code as i32,
            errno,
            text: protocol::printable(text),
        });
        self.status = Some(failed.clone());
        self.last_word_to_guests(&failed);
        self.last_word(failed);
    }

    /// The connection is of no use any more.
    pub(super) fn lost(&mut self, why: &LinkError) {
        // What came before it broke: a goodbye, perhaps.
        if let (Some(c), LinkError::Io(_)) = (&mut self.client, why) {
            let inbox = &mut self.inbox;
            while let Ok(true) = c.link.receive(|e| inbox.event(e)) {}
            if c.link.is_peer_closed() {
                return self.vanished();
            }
        }
        let grace = self.grace;
        if self.client.as_mut().map(|c| c.broke(why, grace)) == Some(Fate::Gone) {
            self.vanished();
        }
        if let Err(e) = self.read_inbox() {
            self.lost(&e);
        }
    }

    /// The client has gone for good.
    pub(super) fn vanished(&mut self) {
        let told = self.client.take().is_some_and(|c| c.is_told());
        let stays = self.attached_later && self.has_terminal() && self.command != Command::Over;
        if stays && !told && self.hangup.is_none() {
            self.inbox.forget();
            self.detached = true;
            return;
        }
        self.inbox.sink.end();
        if !told || self.command != Command::Over {
            self.leave = false;
            self.hang_up_soon();
        }
    }

    /// Whoever was waited for long enough, or whose host has been silent for too long, has gone.
    pub(super) fn check_client(&mut self, now: Instant) {
        if self.client.as_mut().is_some_and(|c| c.is_gone(now)) {
            self.vanished();
        }
        let listen = now >= self.listen_at;
        self.check_guests(now, listen);
        if !listen {
            return;
        }
        let silence = self.client.as_ref().and_then(Client::silence).unwrap_or_default();
        if silence >= self.grace {
            self.vanished();
        }
        let rest = self.grace.saturating_sub(silence).max(LISTEN_LEAST);
        self.listen_at = now + (self.grace / LISTEN).min(rest);
    }

    pub(super) fn control(&mut self, kind: to_session::Kind) {
        match kind {
            to_session::Kind::Signal(n) => self.signal(n),
            to_session::Kind::Resize(size) => self.resize(size),
            to_session::Kind::Continue(_) => self.signal(libc::SIGCONT as u32),
            to_session::Kind::Hangup(_) => {
                self.leave = false;
                self.hang_up();
            }
            to_session::Kind::Forward(m) => self.forwarded(m),
            to_session::Kind::Detach(_) => self.detach(""),
            to_session::Kind::Redraw(_) => self.show_screen(Whom::Same),
            to_session::Kind::Ping(e) => self.say(from_session::Kind::Pong(e)),
        }
    }
}

/// What is left is to clear away, and nobody waits for that: from now on this process takes the processor from no other
/// one when it wakes (`SCHED_BATCH`, `sched(7)`). A `queue` on the same host would otherwise be held up in its exit, which
/// is what wakes us, until we have exited ourselves.
fn give_way() {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: a valid pointer. Without effect if it is refused.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const none) };
}
