//! Who is attached: somebody comes and takes the session over or looks at it, somebody leaves and the command stays.
//! Knows clients and the screen; must not know how their bytes are moved.

use super::client::Client;
use super::guests::{Guest, detached};
use super::inbox::Inbox;
use super::{Command, Session, from};
use crate::monitor;
use crate::{answer, keep_alive, terminal};
use libqueue::link::Link;
use libqueue::tls::{Peer, server_config};
use libqueue::wire::{Attach, Attached, LaunchError, LaunchFailed, SessionAnswer, Winsize, from_session};
use nix::poll::PollFlags;
use prost::Message as _;
use queue_exec::protocol::{self, AttachState};
use queue_screen::Whom;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How many may be on their way at a time.
const ARRIVALS_MAX: usize = 8;
/// How long one may take until his first message.
const WITHIN: Duration = Duration::from_secs(10);
/// How many may look at a session at a time.
const WATCHERS_MAX: u32 = 64;

/// Somebody who may see the session, as the monitor says, on his way.
pub(super) struct Arrival {
    link: Link,
    who: monitor::Attach,
    inbox: Inbox,
    /// What he wants, once he has said it.
    attach: Option<Attach>,
    until: Option<Instant>,
    pub(super) ready: bool,
}

impl Arrival {
    /// For the poll.
    pub(super) fn poll(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.link.polled()
    }

    /// When it has taken too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// Reads; says whether there is still somebody.
    fn hear(&mut self) -> bool {
        loop {
            let inbox = &mut self.inbox;
            match self.link.receive(|e| inbox.event(e)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return false,
            }
        }
        self.link.flush().is_ok() && !self.link.is_peer_closed()
    }

    /// His first message, if it has come: the one that his ticket was signed for.
    fn first(&mut self, session: &[u8]) -> Option<Result<Attach, &'static str>> {
        let bytes = self.inbox.launch.take()?;
        self.inbox.launch = Some(Vec::new());
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        if hash.as_ref() != self.who.request {
            return Some(Err("the request is not the one that its ticket was signed for"));
        }
        let attach = Attach::decode(&bytes[..]).ok().filter(|a| a.session == session);
        Some(attach.ok_or("malformed request"))
    }
}

impl Session {
    /// Somebody who may see the session connects.
    pub(super) fn arrive(&mut self, fd: OwnedFd, who: monitor::Attach) {
        keep_alive(&fd, self.grace);
        let link = server_config(&self.key, Peer::Pinned(who.client_key))
            .map_err(Into::into)
            .and_then(|config| Link::server(fd, config));
        let Ok(mut link) = link else {
            return;
        };
        link.prepend(&answer(&SessionAnswer {
            grant: who.grant.clone(),
            resume: true,
            ..SessionAnswer::default()
        }));
        if self.arrivals.len() >= ARRIVALS_MAX {
            self.arrivals.remove(0);
        }
        self.arrivals.push(Arrival {
            link,
            who,
            inbox: Inbox::new(),
            attach: None,
            until: Some(Instant::now() + WITHIN),
            ready: true,
        });
    }

    /// Goes on with those who are on their way.
    pub(super) fn receive_arrivals(&mut self) {
        let mut i = 0;
        while i < self.arrivals.len() {
            let a = &mut self.arrivals[i];
            if std::mem::take(&mut a.ready) {
                if !a.hear() {
                    self.arrivals.remove(i);
                    continue;
                }
                match a.first(&self.monitor.nonce()) {
                    Some(Ok(attach)) => {
                        if attach.resume {
                            a.link.make_resumable();
                        }
                        a.attach = Some(attach);
                        a.until = None;
                    }
                    Some(Err(text)) => {
                        let a = self.arrivals.remove(i);
                        self.turn_away(a, text);
                        continue;
                    }
                    None => {}
                }
            }
            // Before the command runs nobody can say what it is that he would be attached to.
            if a.attach.is_some() && self.command != Command::Starting {
                let a = self.arrivals.remove(i);
                self.attach(a);
            } else {
                i += 1;
            }
        }
    }

    /// Gives up those that take too long.
    pub(super) fn check_arrivals(&mut self, now: Instant) {
        self.arrivals.retain(|a| a.until.is_none_or(|t| now < t));
    }

    /// Whether it has a terminal that one can leave and come back to.
    pub(super) fn has_terminal(&self) -> bool {
        self.screen.is_some() && self.keyboard
    }

    fn attach(&mut self, a: Arrival) {
        let Some(attach) = &a.attach else { return };
        let over = self.client.is_none() && (self.command == Command::Over || self.hangup.is_some());
        if over {
            self.turn_away(a, "that session is just ending");
        } else if attach.watch {
            self.watch(a);
        } else if !self.has_terminal() {
            self.turn_away(
                a,
                "only a session with a terminal can be attached to; 'queue attach --watch' shows what this one prints",
            );
        } else {
            self.take_over(a);
        }
    }

    fn turn_away(&mut self, a: Arrival, text: &str) {
        let failed = from_session::Kind::Failed(LaunchFailed {
            code: LaunchError::Request as i32,
            errno: 0,
            text: protocol::printable(text),
        });
        let mut c = Client::new(a.link, a.who.client_key);
        if c.last_word(&from(failed)).is_ok() {
            c.linger();
            self.guests.push(Guest::new(c));
        }
    }

    fn attached(&self) -> from_session::Kind {
        from_session::Kind::Attached(Attached {
            pid: match self.command {
                Command::Running { pid } => pid as u32,
                _ => 0,
            },
            tty: self.tty.clone(),
            program: protocol::printable(&String::from_utf8_lossy(&self.program)),
            size: self.size,
            stopped: self.stopped,
            grace: u32::try_from(self.grace.as_secs()).unwrap_or(u32::MAX),
        })
    }

    fn watch(&mut self, a: Arrival) {
        if self.watchers() >= WATCHERS_MAX {
            return self.turn_away(a, "too many look at that session already");
        }
        let mut c = Client::new(a.link, a.who.client_key);
        let mut shown = c.say(&from(self.attached()));
        if let Some(s) = &mut self.screen {
            shown = shown.and_then(|()| c.show(&s.paint(Whom::Newcomer)));
        }
        if shown.is_err() {
            return;
        }
        self.guests.push(Guest::new(c));
        if let Some(status) = self.status.clone() {
            self.last_word_to_guests(&status);
        }
    }

    fn take_over(&mut self, a: Arrival) {
        let Arrival {
            link,
            who,
            inbox,
            attach,
            ..
        } = a;
        self.let_go(&who.by, true);
        self.detached = false;
        if let Some(size) = attach.and_then(|a| a.size) {
            self.resize(size);
        }
        if self.stopped != 0 {
            self.signal(libc::SIGCONT as u32);
            self.stopped = 0;
        }
        let mut c = Client::new(link, who.client_key);
        let said = c.say(&from(self.attached()));
        self.client = Some(c);
        self.attached_later = true;
        if let Err(e) = said {
            return self.lost(&e);
        }
        self.show_screen(Whom::Newcomer);
        self.inbox.take_over(inbox);
        if let Err(e) = self.read_inbox() {
            self.lost(&e);
        }
        match self.status.clone() {
            // Behind the screen.
            Some(from_session::Kind::Ended(ended)) => self.command = Command::Draining(ended),
            Some(status) => self.last_word(status),
            None => {}
        }
    }

    /// Shows the client the screen.
    pub(super) fn show_screen(&mut self, whom: Whom) {
        if let (Some(c), Some(s)) = (&mut self.client, &mut self.screen)
            && let Err(e) = c.show(&s.paint(whom))
        {
            self.lost(&e);
        }
    }

    /// The terminal has another size.
    pub(super) fn resize(&mut self, size: Winsize) {
        if let Some(m) = &self.master {
            terminal::resize(m, size);
            self.size = Some(size);
        }
        if let Some(s) = &mut self.screen {
            s.resize(size.rows, size.cols);
        }
    }

    /// Lets whoever is attached go; the command stays. `by`: who wants it, if it is somebody else.
    pub(super) fn detach(&mut self, by: &str) {
        if !self.has_terminal() {
            let text = "nothing to come back to: only a session with a terminal can be detached; `queue -b` runs jobs \
                        without one";
            return self.say(from_session::Kind::Notice(text.into()));
        }
        if self.is_heard() && self.command != Command::Over && self.hangup.is_none() {
            self.detached = true;
            self.let_go(by, false);
        }
    }

    /// The client is told that it is no longer attached, and may take its time to hear that.
    fn let_go(&mut self, by: &str, taken: bool) {
        let Some(mut c) = self.client.take() else { return };
        self.inbox.forget();
        if !c.is_told() {
            let left = self.screen.as_mut().map_or(Ok(()), |s| c.show(&s.leave()));
            let told = left.and_then(|()| c.last_word(&from(detached(&self.name, by, taken))));
            if told.is_err_and(|e| c.broke(&e, self.grace) == super::client::Fate::Gone) {
                return;
            }
        }
        self.guests.push(Guest::new(c));
    }

    /// Tells the monitor if somebody else is attached than before.
    pub(super) fn tell_state(&mut self) {
        self.monitor.attached(AttachState {
            detached: self.detached && self.client.is_none(),
            watchers: self.watchers(),
        });
    }
}
