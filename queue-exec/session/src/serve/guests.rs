//! Those beside the one who is attached: who only looks, and who has been told that he is no longer attached. Nobody
//! waits for them: one who is too slow gets no more until he has caught up, and is then shown the screen again. Knows
//! links and the screen; must not know the command.

use super::client::{Client, Fate};
use super::{Session, from};
use libqueue::link::LinkError;
use libqueue::stream::{Channel, Event, WINDOW};
use libqueue::wire::{Detached, ToSession, from_session, to_session};
use prost::Message as _;
use queue_screen::{Screen, Whom};
use std::time::Instant;

/// Encrypted bytes that wait for a slow one's socket, beyond which he gets no more.
const BACKLOG: usize = 256 * 1024;
/// So much credit says that one who was slow has caught up.
const CAUGHT_UP: usize = WINDOW as usize / 2;

/// One of them.
pub(super) struct Guest {
    pub(super) client: Client,
    /// Did not get everything.
    missed: bool,
}

/// What one of them wants.
enum Wish {
    Redraw,
    Leave { answer: bool },
}

impl Guest {
    /// Somebody who looks, or who was told the last word.
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            missed: false,
        }
    }

    /// Passes output on, unless he is too slow for it.
    fn show(&mut self, channel: Channel, bytes: &[u8]) -> Result<(), LinkError> {
        let link = &self.client.link;
        let slow = self.missed
            || link.is_cut()
            || link.backlog() > BACKLOG
            || link.stream().credit(channel) < bytes.len()
            || self.client.is_showing();
        if slow {
            self.missed = true;
            return Ok(());
        }
        self.client.link.send(channel, bytes)?;
        self.client.flush()
    }

    /// Whether he missed something and can take it now.
    fn has_caught_up(&self) -> bool {
        let link = &self.client.link;
        self.missed
            && !link.is_cut()
            && link.backlog() == 0
            && !self.client.is_showing()
            && link.stream().credit(Channel::Stdout) >= CAUGHT_UP
    }

    /// Reads what he says; of that only what concerns himself counts.
    fn receive(&mut self) -> Result<Vec<Wish>, LinkError> {
        let (mut input, mut wishes, mut wrong) = (0, Vec::new(), false);
        for _ in 0..4 {
            let more = self.client.link.receive(|e| match e {
                Event::Data(_, d) => input += d.len(),
                Event::Control(m) => match ToSession::decode(m).map(|m| m.kind) {
                    Ok(Some(to_session::Kind::Redraw(_))) => wishes.push(Wish::Redraw),
                    Ok(Some(to_session::Kind::Detach(_))) => wishes.push(Wish::Leave { answer: true }),
                    Ok(Some(to_session::Kind::Hangup(_))) => wishes.push(Wish::Leave { answer: false }),
                    Ok(_) => {}
                    Err(_) => wrong = true,
                },
                Event::Eof(_) | Event::Closed(_) => {}
            })?;
            if !more {
                break;
            }
        }
        if wrong {
            return Err(LinkError::Protocol(libqueue::stream::ProtocolError::Malformed));
        }
        self.client.consumed(input)?;
        Ok(wishes)
    }
}

impl Session {
    /// How many look.
    pub(super) fn watchers(&self) -> u32 {
        self.guests.iter().filter(|g| !g.client.is_told()).count() as u32
    }

    /// Passes on what was just sent to the client.
    pub(super) fn spread(&mut self, channel: Channel, terminal: bool) {
        if self.tap.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.tap);
        if terminal && let Some(s) = &mut self.screen {
            s.feed(&bytes);
        }
        self.each_guest(|g| {
            if g.client.is_told() || g.client.link.stream().is_closed(channel) {
                return Ok(());
            }
            g.show(channel, &bytes)
        });
        self.tap = bytes;
        self.tap.clear();
    }

    /// Does something for each; one whose connection fails is dropped, if he cannot come back.
    fn each_guest(&mut self, mut act: impl FnMut(&mut Guest) -> Result<(), LinkError>) {
        let grace = self.grace;
        self.guests.retain_mut(|g| match act(g) {
            Ok(()) => true,
            Err(e) => g.client.broke(&e, grace) == Fate::Waits,
        });
    }

    /// Hears those that have something to say, and goes on with what they are to see.
    pub(super) fn serve_guests(&mut self) {
        if self.guests.is_empty() {
            return;
        }
        let name = self.name.clone();
        let mut screen = self.screen.take();
        let leave = |g: &mut Guest, screen: &mut Option<Screen>| -> Result<(), LinkError> {
            if let Some(s) = screen {
                g.client.show(&s.leave())?;
            }
            g.client.last_word(&from(detached(&name, "", false)))?;
            g.client.linger();
            Ok(())
        };
        self.each_guest(|g| {
            let wishes = if std::mem::take(&mut g.client.ready) {
                g.receive()?
            } else {
                Vec::new()
            };
            for w in wishes {
                match w {
                    _ if g.client.is_told() => {}
                    Wish::Redraw => g.missed = true,
                    Wish::Leave { answer: true } => leave(g, &mut screen)?,
                    Wish::Leave { answer: false } => g.client.dismiss(),
                }
            }
            if g.has_caught_up() && !g.client.is_told() {
                g.missed = false;
                match &mut screen {
                    Some(s) => g.client.show(&s.paint(Whom::Same))?,
                    None => g.client.say(&from(from_session::Kind::Notice(
                        "some of the output is not shown: this end was too slow for it".into(),
                    )))?,
                }
            }
            g.client.flush()
        });
        self.screen = screen;
        self.guests.retain(|g| !g.client.is_done());
    }

    /// Tells all who look that it is over.
    pub(super) fn last_word_to_guests(&mut self, kind: &from_session::Kind) {
        let mut screen = self.screen.take();
        self.each_guest(|g| {
            g.client.linger();
            if g.client.is_told() {
                return Ok(());
            }
            if g.missed
                && let Some(s) = &mut screen
            {
                g.client.show(&s.paint(Whom::Same))?;
            }
            for c in [Channel::Stdout, Channel::Stderr] {
                g.client.link.send_eof(c)?;
            }
            g.client.last_word(&from(kind.clone()))
        });
        self.screen = screen;
    }

    /// Drops those that were waited for long enough, and with `listen` those whose host is silent.
    pub(super) fn check_guests(&mut self, now: Instant, listen: bool) {
        let grace = self.grace;
        self.guests.retain(|g| {
            let silent = listen && g.client.silence().unwrap_or_default() >= grace;
            !silent && !g.client.is_overdue(now)
        });
    }
}

/// Word that somebody is no longer attached.
pub(super) fn detached(session: &str, by: &str, taken: bool) -> from_session::Kind {
    from_session::Kind::Detached(Detached {
        session: session.to_owned(),
        by: by.to_owned(),
        taken,
    })
}
