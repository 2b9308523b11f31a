//! Who lives, as far as this host can tell: what the membership protocol says, and what was heard here. Part of
//! the engine. Membership itself (certificates) is `members.rs`; gossip never changes it.
//!
//! - A goodbye counts at once, and is no death. A host that answered and refused us is down for us.
//! - The protocol's word counts, but a host that was heard in the last moments is not called dead: it will
//!   object, and a link that carries its words is better proof than the silence of datagrams.
//! - A broken link alone says nothing while the protocol says that the host is alive. A suspicion and a dial that
//!   failed together are enough.

use super::members::ON_THE_COPY;
use super::swim::{self, Change};
use super::timers::Due;
use super::{ALIVE, Dial, Effect, Effects, Engine, Level, Now, Verdict, member, wire};
use std::time::Duration;
use wire::{HostState, gossip};

/// Whoever was heard so recently is not dead.
const LIFE: Duration = Duration::from_millis(2500);
/// Whoever comes back from the dead is up as soon as a connection shows that more than datagrams gets through (the
/// kernel may remember for a second or two that there was no way), or after this time.
const BACK: Duration = Duration::from_secs(3);
/// How often members of whom nothing is known are sought.
const SEEK: Duration = Duration::from_secs(1);
/// How many at a time at most.
const SOUGHT: usize = 20;
/// By how many hosts together each missing one is sought each time: when it returns, all of them get an answer.
const SEEKERS: usize = 10;
/// A link is asked for its members at most this often.
const ASK_ROSTER: Duration = Duration::from_secs(3);
/// A copy of this host is complained of at most this often.
const COMPLAIN: Duration = Duration::from_secs(60);
/// Goodbye is said to at most so many by ourselves; they pass it on.
const FAREWELLS: usize = 1000;

impl Engine {
    /// A datagram came in.
    pub(super) fn datagram(&mut self, now: Now, from: u64, message: gossip::Kind, out: &mut Effects) {
        if self.expelled || self.stopped || from == self.own.number() {
            return;
        }
        let Some(name) = self.numbers.get(&from).cloned() else {
            if !self.gone.contains(&from) {
                self.ask_roster(now, out);
            }
            return;
        };
        let Some(p) = self.peers.get_mut(&name) else {
            return;
        };
        p.heard = Some(now);
        p.failed = false;
        p.datagram = Some(now);
        p.swims = true;
        if p.state != HostState::Up {
            self.live(now, &name, out);
        }
        match message {
            gossip::Kind::Swim(data) => {
                let numbers = &self.numbers;
                self.swim.packet(now, &data, |n| numbers.contains_key(&n));
                self.swum(now, out);
            }
            gossip::Kind::Report(load) => self.reported(now, &name, load, out),
            gossip::Kind::FactsAsk(_) => self.facts_asked(&name, out),
            gossip::Kind::Facts(facts) => self.facts_told(&name, facts),
            gossip::Kind::Ask(ask) => self.asked(now, &name, ask, out),
            gossip::Kind::Word(word) => self.said(now, from, word, out),
        }
    }

    /// Does what the protocol wants done.
    pub(super) fn swum(&mut self, now: Now, out: &mut Effects) {
        let done = self.swim.take();
        for c in done.changes {
            self.judged(now, c, out);
        }
        for (to, data) in done.sends {
            let known = self.numbers.get(&to.host).and_then(|n| self.peers.get(n));
            let address = match known {
                // Where it may have moved to is asked there, or it would be taken for dead.
                Some(p) if !p.address.is_empty() => p.pending.as_ref().unwrap_or(&p.address).clone(),
                _ => to.address().to_string(),
            };
            out.push(Effect::Datagram {
                address,
                message: gossip::Kind::Swim(data),
            });
        }
        for (after, timer) in done.timers {
            self.timers.set(now + after, Due::Swim(timer));
        }
        if done.strangers {
            self.ask_roster(now, out);
        }
        if done.rejoined {
            out.log(Level::Debug, "others took this host for dead; it is back");
            self.seek(now, out);
        }
        if let Some(address) = done.twin
            && self.twin.is_none_or(|t| now >= t + COMPLAIN)
        {
            self.twin = Some(now);
            let text = format!(
                "another host at {address} uses the certificate of {}: a cloned image? {ON_THE_COPY}",
                self.own.name
            );
            out.log(Level::Error, text);
        }
    }

    /// The protocol's word on a host.
    fn judged(&mut self, now: Now, c: Change, out: &mut Effects) {
        let Some(name) = self.numbers.get(&c.id.host).cloned() else {
            return;
        };
        let Some(p) = self.peers.get_mut(&name) else {
            return;
        };
        if p.id.is_some_and(|old| old.epoch > c.id.epoch) {
            return;
        }
        let news = p.verdict != c.verdict || p.id != Some(c.id);
        if news {
            p.judged = now;
        }
        p.verdict = c.verdict;
        p.swims = true;
        if p.id != Some(c.id) {
            let old = p.id.replace(c.id);
            p.seq = 0;
            p.refused = false;
            if !c.id.left() {
                self.moved(now, &name, old, out);
            } else if !p.left {
                p.reason = "queued was stopped there".into();
            }
            if !c.id.left() && old.is_some_and(|o| o.epoch != c.id.epoch) {
                // It was started again, sooner than anybody missed it: it knows nothing of us.
                self.greet(now, &name, out);
            }
        }
        if let Some(p) = self.peers.get_mut(&name) {
            p.left = c.id.left();
            let wanted = p.link.is_none() && self.wanted.contains(&name);
            if news && c.verdict == Verdict::Alive && wanted && p.state != HostState::Up {
                if p.state == HostState::Down {
                    p.back = Some(now + BACK);
                }
                let at = now + self.rng.between(Duration::ZERO, Duration::from_millis(200));
                p.redial(&mut self.timers, at);
            }
        }
        self.live(now, &name, out);
    }

    /// A host may be somewhere else than it was.
    fn moved(&mut self, now: Now, name: &str, old: Option<swim::Id>, out: &mut Effects) {
        let Some(p) = self.peers.get_mut(name) else { return };
        let Some(id) = p.id else { return };
        let address = id.address();
        // What a link said is better than a first word by gossip: a host may have several addresses.
        let news = old.map_or(p.link.is_none(), |o| o.address() != address);
        if !news || address.port() == 0 || address.ip().is_unspecified() {
            return;
        }
        let text = address.to_string();
        p.pending = (p.address != text).then_some(text);
        // A link that lives is better, too: a clone may be at the new address.
        if p.link.as_ref().is_none_or(|l| now >= l.heard + ALIVE) {
            self.follow(now, name, out);
        }
    }

    /// Takes over the address of which the protocol told.
    pub(super) fn follow(&mut self, now: Now, name: &str, out: &mut Effects) {
        let Some(p) = self.peers.get_mut(name) else { return };
        let Some(address) = p.pending.take() else { return };
        let was = std::mem::replace(&mut p.address, address);
        out.log(
            Level::Info,
            format!("{name} is at {} now, no longer at {was}", p.address),
        );
        p.rumour(was);
        p.moved = matches!(p.dial, Dial::Busy(_));
        if let Some(l) = p.link.take() {
            self.conns.remove(&l.conn);
            out.push(Effect::Close {
                conn: l.conn,
                bye: None,
            });
        }
        p.redial(&mut self.timers, now);
        out.push(Effect::Keep(p.entry()));
    }

    /// Judges a host anew.
    pub(super) fn live(&mut self, now: Now, name: &str, out: &mut Effects) {
        let Some(p) = self.peers.get_mut(name) else { return };
        let until = p.heard.map(|h| h + LIFE).filter(|t| *t > now);
        let back = p.back.filter(|t| *t > now && p.link.is_none());
        let state = match p.verdict {
            _ if p.left => HostState::Left,
            _ if p.refused => HostState::Down,
            Verdict::None if p.link.is_some() => HostState::Up,
            Verdict::None if p.failed => HostState::Down,
            Verdict::None => p.state,
            Verdict::Alive if back.is_some() => HostState::Suspect,
            Verdict::Alive => HostState::Up,
            Verdict::Suspect if p.heard > Some(p.judged) => HostState::Up,
            // Neither datagrams nor connections: it need not be waited for.
            Verdict::Suspect if until.is_none() && p.failed && p.link.is_none() => HostState::Down,
            Verdict::Suspect => HostState::Suspect,
            Verdict::Down if until.is_none() => HostState::Down,
            Verdict::Down if p.link.is_some() => HostState::Up,
            Verdict::Down => HostState::Suspect,
        };
        let again = match p.verdict {
            _ if p.left || p.watched => None,
            Verdict::Suspect | Verdict::Down => until,
            Verdict::Alive => back,
            Verdict::None => None,
        };
        if let Some(at) = again {
            p.watched = true;
            self.timers.set(at, Due::Life(name.to_owned()));
        }
        if state == p.state {
            return;
        }
        let was = std::mem::replace(&mut p.state, state);
        match state {
            HostState::Up => {
                p.reason.clear();
                if p.back.take().is_some() || was != HostState::Suspect {
                    out.log(Level::Info, format!("{name} is up at {}", p.address));
                    self.greet(now, name, out);
                }
            }
            HostState::Suspect => {
                let text = if back.is_some() {
                    "it is back, but there is no connection with it yet"
                } else {
                    "it did not answer just now"
                };
                p.reason = text.into();
                out.log(Level::Debug, format!("{name}: {text}"));
            }
            HostState::Down => {
                if (p.failed || p.refused) && !p.excuse.is_empty() {
                    p.reason.clone_from(&p.excuse);
                } else if p.verdict == Verdict::Down {
                    p.reason = match p.heard {
                        Some(t) => format!("no sign of life for {} s", (now - t).as_secs().max(1)),
                        None => "no host has a sign of life from it".into(),
                    };
                }
                if was == HostState::Unknown {
                    out.log(Level::Info, format!("{name} does not answer yet: {}", p.reason));
                } else {
                    out.log(Level::Warn, format!("{name} is down: {}", p.reason));
                }
            }
            HostState::Left => out.log(Level::Info, format!("{name} went: {}", p.reason)),
            HostState::Unknown => {}
        }
    }

    /// What was heard of a host has become old.
    pub(super) fn aged(&mut self, now: Now, name: &str, out: &mut Effects) {
        if let Some(p) = self.peers.get_mut(name) {
            p.watched = false;
            self.live(now, name, out);
        }
    }

    /// Makes this host known to members that the protocol does not know as alive.
    pub(super) fn seek(&mut self, now: Now, out: &mut Effects) {
        let missing = self
            .peers
            .values()
            .filter(|p| !p.left && !p.address.is_empty())
            .filter(|p| matches!(p.verdict, Verdict::None | Verdict::Down));
        let mut some: Vec<(u64, &str)> = missing.map(|p| (p.host.number(), p.address.as_str())).collect();
        let alive = self.peers.len() + 1 - some.len();
        // On average so many, drawn by lot if that is less than one.
        let share = SEEKERS * some.len();
        let most = share / alive + usize::from(self.rng.below(alive) < share % alive);
        let most = most.min(SOUGHT).min(some.len());
        for i in 0..most {
            let j = i + self.rng.below(some.len() - i);
            some.swap(i, j);
        }
        for (host, address) in some.into_iter().take(most) {
            self.swim.announce(host, swim::address(address));
        }
        self.swum(now, out);
    }

    /// Time to look for missing members.
    pub(super) fn seek_due(&mut self, now: Now, out: &mut Effects) {
        self.timers.set(now + SEEK, Due::Seek);
        self.seek(now, out);
    }

    /// Asks some link for its members: somebody was named of whom there is no certificate.
    fn ask_roster(&mut self, now: Now, out: &mut Effects) {
        if self.asked.is_some_and(|t| now < t + ASK_ROSTER) {
            return;
        }
        let links = self.links();
        if let Some(conn) = links.get(self.rng.below(links.len())) {
            self.asked = Some(now);
            out.push(Effect::Send {
                conn: *conn,
                message: member::Kind::Roster(wire::Roster {
                    members: Vec::new(),
                    wanted: true,
                }),
            });
        }
    }

    /// This host is reached elsewhere from now on.
    pub(super) fn own_address(&mut self, now: Now, address: String, out: &mut Effects) {
        // Without a network there is only loopback, and that is nobody else's way to us.
        let lost = swim::address(&address).ip().is_loopback();
        if address == self.advertised || (lost && !swim::address(&self.advertised).ip().is_loopback()) {
            return;
        }
        let was = std::mem::replace(&mut self.advertised, address);
        out.log(
            Level::Info,
            format!("this host is at {} now, no longer at {was}", self.advertised),
        );
        self.swim.moved(swim::address(&self.advertised));
        self.swum(now, out);
        let mut own = self.own_entry();
        own.address.clone_from(&self.advertised);
        for conn in self.links() {
            out.push(Effect::Send {
                conn,
                message: member::Kind::Roster(super::wire_roster(vec![own.clone()])),
            });
        }
        self.seek(now, out);
    }

    /// Says goodbye.
    pub(super) fn farewell(&mut self, now: Now, out: &mut Effects) {
        self.swim.leave(FAREWELLS, &mut self.rng);
        self.swum(now, out);
    }
}
