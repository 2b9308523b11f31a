//! What the relay does when its host does not answer: notices it, tells the user, goes on when it answers again, or
//! gives up.

use super::notice::{self, Exit};
use super::pulse::Beat;
use super::resume::{News, Over};
use super::{End, Leave, Relay, Role};
use crate::messages::{Failure, link_reason, printable, write_all};
use libqueue::link::LinkError;
use libqueue::link::silence::{has_all, is_asked, round_trip, silence};
use libqueue::wire::{Empty, to_session};
use std::time::{Duration, Instant};

/// How often to look whether the host still answers: while nothing moves, and after something did.
const LOOK: [Duration; 2] = [Duration::from_secs(2), Duration::from_millis(500)];
/// Something that was sent so long ago has arrived, or the kernel has sent it again by now.
const SETTLED: Duration = Duration::from_secs(1);
/// An answer that is overdue for so long, or for so many times the way there and back: the connection may still come to
/// life, but another one is tried beside it.
const OVERDUE: Duration = Duration::from_millis(800);
const OVERDUE_TRIPS: u32 = 4;
/// An older host cannot resume: after so long it is lost.
const HOPELESS: Duration = Duration::from_secs(60);

impl Relay {
    /// Whether nothing is heard of the host.
    pub(super) fn is_silent(&self) -> bool {
        self.resume.as_ref().is_some_and(super::Resume::is_needed)
    }

    /// Whether the user knows that.
    pub(super) fn is_noticed(&self) -> bool {
        self.resume.as_ref().is_some_and(super::Resume::is_noticed) || self.pulse.is_frozen()
    }

    /// When [`attend`](Self::attend) is wanted, whatever comes.
    pub(super) fn attend_at(&mut self, now: Instant) -> Option<Instant> {
        if self.ended.is_some() {
            return None;
        }
        if let Some(due) = self.resume.as_ref().and_then(super::Resume::due) {
            return Some(due);
        }
        let looked = *self.looked.get_or_insert(now);
        Some(looked + self.pause())
    }

    /// How long to wait between two looks.
    fn pause(&self) -> Duration {
        LOOK[usize::from(
            self.pulse.is_waiting() || self.sent.is_some() || self.link.stream().has_unacknowledged(),
        )]
    }

    /// Looks after the connection.
    pub(super) fn attend(&mut self) -> Result<(), Failure> {
        if self.ended.is_some() || self.leaving.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        if self.pulse.heard(self.link.stream().received()) {
            self.answers(true);
        }
        if !self.is_silent() {
            if self.looked.is_some_and(|t| now < t + self.pause()) {
                return Ok(());
            }
            self.try_the_way(now)?;
            self.look(now)?;
            self.feel_the_pulse(now);
        }
        let Some(resume) = &mut self.resume else {
            return Ok(());
        };
        let noticed = resume.is_noticed();
        let news = resume.step(&mut self.link, now);
        if self.link.is_cut() {
            // From now on everything is kept.
            self.send_failed = false;
        }
        match news {
            Ok(News::None) => {
                if self.resume.as_mut().is_some_and(|r| r.notice(now)) {
                    self.post_silence();
                }
                Ok(())
            }
            Ok(News::Back) => {
                self.answers(noticed);
                Ok(())
            }
            Ok(News::Resumed) => {
                self.answers(noticed);
                self.receive()
            }
            Err(Over::Gone) => Err(self.lost_because("the session is over there")),
            Err(Over::Silent(for_)) => Err(self.lost_because(&format!("no answer for {} s", for_.as_secs()))),
            Err(Over::Protocol(e)) => Err(self.lost(&e)),
        }
    }

    /// Nothing has come since the last look: what came before is acknowledged. A command that only writes would
    /// otherwise leave us waiting on a dead connection, with nothing sent that could be found missing.
    fn try_the_way(&mut self, now: Instant) -> Result<(), Failure> {
        let received = self.link.stream().received();
        if std::mem::replace(&mut self.seen, received) != received || self.send_failed {
            return Ok(());
        }
        if self.link.acknowledge_rest().map_err(|e| self.lost(&e))? {
            self.sent.get_or_insert(now);
        }
        Ok(())
    }

    /// Asks the kernel whether the host still answers.
    fn look(&mut self, now: Instant) -> Result<(), Failure> {
        self.looked = Some(now);
        let Some(socket) = self.link.socket() else {
            return Ok(());
        };
        let Some(mut silent) = silence(socket) else {
            let asked = is_asked(socket);
            self.sent.take_if(|t| now > *t + SETTLED);
            if asked {
                self.looked = (now + LOOK[1]).checked_sub(self.pause());
            }
            return Ok(());
        };
        // What was heard last may be long ago, if there was nothing to be heard.
        if let Some(sent) = self.sent {
            silent = silent.min(now.saturating_duration_since(sent));
        }
        // Who only looks comes anew, and sees what has happened since: he waits a little longer.
        let least = if self.role == Role::Watch {
            LOOK[0]
        } else {
            OVERDUE
        };
        let overdue = round_trip(socket).map_or(least, |t| least.max(t * OVERDUE_TRIPS));
        if silent < overdue {
            // Again when it is time.
            self.sent.get_or_insert(now);
            self.looked = (now + overdue - silent).checked_sub(LOOK[1]);
            return Ok(());
        }
        match &mut self.resume {
            Some(r) => r.begin(&self.link, now - silent, now),
            // He sees what was, and would take it for what is.
            None if self.role == Role::Watch => return self.broken(&LinkError::Timeout),
            None if silent >= HOPELESS => return Err(self.lost(&LinkError::Timeout)),
            None => {}
        }
        Ok(())
    }

    /// Finds out whether the session itself answers, where its host's kernel does.
    fn feel_the_pulse(&mut self, now: Instant) {
        if self.role == Role::Watch || self.resume.is_none() || self.is_silent() || self.send_failed {
            return;
        }
        let arrived = self.link.backlog() == 0 && self.link.socket().is_some_and(has_all);
        match self.pulse.feel(now, arrived) {
            Beat::None => {}
            Beat::Ask => {
                self.control(to_session::Kind::Ping(Empty {}));
                self.pulse.asked(now);
            }
            Beat::Frozen => self.post_silence(),
        }
    }

    /// Tells the user that the host does not answer, and how to leave.
    fn post_silence(&mut self) {
        let exit = match &self.escape {
            Some(e) if self.keys.is_raw() => e.char().map_or(Exit::None, Exit::Escape),
            _ if self.tty.contains(&true) => Exit::Interrupt,
            _ => Exit::None,
        };
        self.post(&notice::silent(&self.host, exit));
    }

    /// The connection is of no use any more.
    pub(super) fn broken(&mut self, why: &LinkError) -> Result<(), Failure> {
        if self.role == Role::Watch {
            self.leaving = Some(Leave {
                said: String::new(),
                result: Ok(End::Cut),
            });
            return Ok(());
        }
        match &mut self.resume {
            Some(r) if !matches!(why, LinkError::Protocol(_)) => {
                let now = Instant::now();
                r.begin(&self.link, now, now);
                self.link.cut();
                self.send_failed = false;
                Ok(())
            }
            _ => Err(self.lost(why)),
        }
    }

    /// The host answers again.
    fn answers(&mut self, noticed: bool) {
        self.given = 0;
        self.sent = None;
        self.send_failed = false;
        // Where it was posted it goes when the screen is drawn again, which says enough.
        let posted = std::mem::take(&mut self.posted);
        if noticed && !posted {
            self.say(&notice::back(&self.host));
        }
        if std::mem::take(&mut self.spoiled) || posted {
            self.control(to_session::Kind::Redraw(Empty {}));
        }
    }

    pub(super) fn lost(&self, e: &LinkError) -> Failure {
        self.lost_because(&link_reason(e))
    }

    fn lost_because(&self, why: &str) -> Failure {
        let then = match self.role {
            Role::Start => "how the command ended is not known, what is left of it will be ended there",
            // Of whom it is detached then.
            Role::Attach => "what runs goes on there, `queue attach` comes back to it",
            Role::Watch => "what runs there goes on",
        };
        Failure::own(format!("connection to {} lost ({why}): {then}", self.host))
    }

    /// Says something of ours, on a line of its own whatever is on the screen.
    pub(super) fn say(&mut self, text: &str) {
        let raw = self.keys.is_raw();
        self.begin_line();
        let mut line = String::from("queue: ");
        line.push_str(&printable(text));
        line.push_str(if raw { "\r\n" } else { "\n" });
        self.spoiled |= self.tty[2] && self.screen.is_full();
        self.screen.see(b"\n");
        write_all(2, line.as_bytes());
    }

    /// Goes to where a line begins, if the cursor is elsewhere.
    pub(super) fn begin_line(&mut self) {
        if self.tty[1] && self.tty[2] && !self.screen.is_at_start() {
            write_all(2, b"\r\n");
            self.screen.see(b"\n");
        }
    }

    /// Says something that stays while the host does not answer: over a program that fills the screen it takes the
    /// last line, and the cursor stays where the program has it.
    pub(super) fn post(&mut self, text: &str) {
        let Some(rows) = self.paintable() else {
            return self.say(text);
        };
        let columns = self.size.map_or(80, |s| s.cols as usize);
        write_all(2, notice::status(&printable(text), rows, columns).as_bytes());
        self.spoiled = true;
        self.posted = true;
    }

    /// How many lines a screen has whose last one can be painted over.
    pub(super) fn paintable(&self) -> Option<u32> {
        let full = self.pty && self.tty[1] && self.tty[2] && self.screen.is_full();
        self.size.map(|s| s.rows).filter(|rows| full && *rows > 1)
    }

    /// Takes away what was posted, where nobody draws the screen again.
    fn unpost(&mut self) {
        if std::mem::take(&mut self.posted)
            && let Some(rows) = self.paintable()
        {
            write_all(2, notice::no_status(rows).as_bytes());
        }
    }

    /// Makes an ordinary screen of what a program leaves behind.
    pub(super) fn tidy(&mut self) {
        self.unpost();
        if self.pty && self.tty[1] {
            write_all(1, &self.screen.leave());
            self.screen = self.screen.left();
        }
    }
}
