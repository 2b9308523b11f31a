//! Membership: who belongs, by which certificate and where, and who was removed. Part of the engine; who is alive is
//! `life.rs`'s.

use super::timers::{Due, Timers};
use super::{
    BACKOFF, ConnId, Dial, Effect, Effects, Engine, Entry, Host, Level, Message, Now, Peer, ROSTER, RUMOURS,
    Revoked, Verdict, member, wire, wire_roster,
};
use std::collections::VecDeque;
use std::time::Duration;
use wire::HostState;

/// What to do about a cloned image.
pub(super) const ON_THE_COPY: &str =
    "On the copy stop queued and queue-exec, remove Queue's state directory, and join by another name";

/// Text for a host that was removed: it reads this in its log and in `queue hosts`.
pub(super) fn removed(name: &str, cluster: &str) -> String {
    format!("{name} was removed from cluster {cluster}: join it again with a new token (queued join)")
}

impl Engine {
    /// Passes a member on to everybody connected, itself and `except` left out.
    pub(super) fn tell(&self, entry: &Entry, except: Option<ConnId>, out: &mut Effects) {
        for p in self.peers.values().filter(|p| p.host.name != entry.host.name) {
            if let Some(l) = p.link.as_ref().filter(|l| Some(l.conn) != except) {
                let roster = wire_roster(vec![entry.clone()]);
                out.push(Effect::Send {
                    conn: l.conn,
                    message: member::Kind::Roster(roster),
                });
            }
        }
    }

    /// A member said something on its link.
    pub(super) fn heard(&mut self, now: Now, conn: ConnId, message: Message, out: &mut Effects) {
        let Some(name) = self.conns.get(&conn).cloned() else {
            return;
        };
        let Some(p) = self.peers.get_mut(&name) else {
            return;
        };
        let Some(l) = p.link.as_mut().filter(|l| l.conn == conn) else {
            return;
        };
        l.heard = now;
        p.heard = Some(now);
        p.failed = false;
        if p.state != HostState::Up {
            self.live(now, &name, out);
        }
        match message {
            Message::Load(load) => self.reported(now, &name, load, out),
            Message::Roster(entries) => {
                for e in entries {
                    self.learn(now, e, Some(conn), out);
                }
            }
            Message::RosterWanted => {
                for part in self.roster(&name).chunks(ROSTER) {
                    out.push(Effect::Send {
                        conn,
                        message: member::Kind::Roster(wire_roster(part.to_vec())),
                    });
                }
            }
            Message::Revocations(list) => self.revoke(list, out),
            Message::Keys(keys) => self.new_keys(keys, out),
            Message::Bye(text) => self.bye(now, conn, &name, text, out),
        }
    }

    /// A member said goodbye.
    fn bye(&mut self, now: Now, conn: ConnId, name: &str, text: String, out: &mut Effects) {
        self.conns.remove(&conn);
        out.push(Effect::Close { conn, bye: None });
        let Some(p) = self.peers.get_mut(name) else { return };
        p.link = None;
        p.left = true;
        p.reason = text;
        let at = now + self.rng.between(BACKOFF, BACKOFF * 2);
        p.redial(&mut self.timers, at);
        if let Some(id) = p.id {
            self.swim.left(id);
            self.swum(now, out);
        }
        self.live(now, name, out);
    }

    /// Learns of a member, from connection `source` or from this host itself.
    pub(super) fn learn(&mut self, now: Now, mut entry: Entry, source: Option<ConnId>, out: &mut Effects) {
        let name = entry.host.name.clone();
        if self.revoked.serials.contains(&entry.host.serial) {
            return;
        }
        if name == self.own.name {
            if entry.host.serial > self.own.serial && !entry.host.is_same(&self.own) {
                out.log(
                    Level::Warn,
                    format!("there is a newer certificate for {name}: another host joined by this name, or this one runs on old keys"),
                );
            }
            return;
        }
        // Whoever holds the authority leads, and is sent all jobs. That is known since this host joined; no other member
        // becomes it by its own word or by hearsay as long as that one belongs to the cluster.
        let held = self.authority || self.peers.values().any(|p| p.authority && p.host.name != name);
        if held && std::mem::take(&mut entry.authority) {
            out.log(
                Level::Debug,
                format!("{name} is said to hold the authority, and does not"),
            );
        }
        let news = match self.peers.get_mut(&name) {
            None => {
                let mut p = Peer::new(entry.host.clone());
                p.address = entry.address.clone();
                p.authority = entry.authority;
                // One end a little later than the other, so that they rarely meet half-way.
                let (low, high) = if self.own.name < name { (0, 50) } else { (200, 400) };
                let (low, high) = (Duration::from_millis(low), Duration::from_millis(high));
                p.redial(&mut self.timers, now + self.rng.between(low, high));
                self.numbers.insert(entry.host.number(), name.clone());
                self.peers.insert(name.clone(), p);
                self.grown = true;
                out.log(
                    Level::Info,
                    format!("{name} is a member now, at {}", entry.address),
                );
                true
            }
            // Renewed: its connection, and all that is known of it, stays.
            Some(p) if entry.host.serial > p.host.serial && entry.host.is_same(&p.host) => {
                p.host = entry.host;
                p.rumour(entry.address);
                out.log(Level::Debug, format!("{name} has a new certificate"));
                entry = p.entry();
                true
            }
            Some(p) if entry.host.serial > p.host.serial => {
                self.numbers.remove(&p.host.number());
                self.numbers.insert(entry.host.number(), name.clone());
                if let Some(id) = p.id.take() {
                    self.swim.forget(id);
                }
                p.verdict = Verdict::None;
                p.seq = 0;
                p.host = entry.host.clone();
                p.authority = entry.authority;
                p.load = None;
                p.facts = None;
                if !entry.address.is_empty() {
                    p.address = entry.address.clone();
                }
                if let Some(l) = p.link.take() {
                    self.conns.remove(&l.conn);
                    out.push(Effect::Close {
                        conn: l.conn,
                        bye: None,
                    });
                }
                let at = now + self.rng.between(Duration::ZERO, Duration::from_millis(100));
                p.redial(&mut self.timers, at);
                out.log(Level::Info, format!("{name} joined again, at {}", p.address));
                true
            }
            Some(p) if entry.host.serial == p.host.serial => {
                let own_word = p.link.as_ref().is_some_and(|l| Some(l.conn) == source);
                let moved = own_word && !entry.address.is_empty() && entry.address != p.address;
                let fresh = own_word && (p.authority != entry.authority || moved);
                if fresh {
                    p.authority = entry.authority;
                }
                if moved {
                    p.pending = None;
                    let old = std::mem::replace(&mut p.address, entry.address.clone());
                    p.rumour(old);
                } else {
                    p.rumour(entry.address.clone());
                }
                if fresh {
                    out.push(Effect::Keep(p.entry()));
                }
                false
            }
            Some(_) => false,
        };
        if news {
            out.push(Effect::Keep(entry.clone()));
            self.tell(&entry, source, out);
        }
    }

    /// This host's certificate was renewed.
    pub(super) fn renewed(&mut self, host: Host, out: &mut Effects) {
        if !host.is_same(&self.own) || host.serial <= self.own.serial {
            return;
        }
        self.own = host;
        let own = self.own_entry();
        self.tell(&own, None, out);
    }

    /// A newer revocation list replaces ours: whoever is on it is out, at once.
    pub(super) fn revoke(&mut self, list: Revoked, out: &mut Effects) {
        if list.version <= self.revoked.version {
            return;
        }
        self.revoked = list;
        out.push(Effect::Revoked(self.revoked.bytes.clone()));
        for conn in self.links() {
            out.push(Effect::Send {
                conn,
                message: member::Kind::Revocations(self.revoked.bytes.clone()),
            });
        }
        let gone: Vec<String> = self
            .peers
            .values()
            .filter(|p| self.revoked.serials.contains(&p.host.serial))
            .map(|p| p.host.name.clone())
            .collect();
        for name in gone {
            let text = removed(&name, &self.cluster);
            out.log(Level::Info, text.clone());
            let peer = self.peers.remove(&name);
            self.grown = true;
            if let Some(p) = &peer {
                self.numbers.remove(&p.host.number());
                self.gone.insert(p.host.number());
            }
            if let Some(id) = peer.as_ref().and_then(|p| p.id) {
                self.swim.forget(id);
            }
            if let Some(l) = peer.and_then(|p| p.link) {
                self.conns.remove(&l.conn);
                out.push(Effect::Close {
                    conn: l.conn,
                    bye: Some(text),
                });
            }
            out.push(Effect::Forget(name));
        }
        if self.revoked.serials.contains(&self.own.serial) && !self.expelled {
            self.expelled = true;
            let text = removed(&self.own.name, &self.cluster);
            out.log(Level::Error, text.clone());
            for (conn, name) in std::mem::take(&mut self.conns) {
                out.push(Effect::Close {
                    conn,
                    bye: Some(text.clone()),
                });
                if let Some(p) = self.peers.get_mut(&name) {
                    p.link = None;
                    p.dial = Dial::Rest;
                }
            }
            for p in self.peers.values_mut() {
                p.state = HostState::Down;
                p.reason.clone_from(&text);
            }
        }
    }
}

impl Peer {
    pub(super) fn new(host: Host) -> Self {
        Self {
            host,
            address: String::new(),
            rumours: VecDeque::new(),
            authority: false,
            version: String::new(),
            state: HostState::Unknown,
            reason: String::new(),
            link: None,
            dial: Dial::Rest,
            moved: false,
            pending: None,
            failed: false,
            refused: false,
            excuse: String::new(),
            heard: None,
            datagram: None,
            verdict: Verdict::None,
            id: None,
            judged: Now::ZERO,
            back: None,
            swims: false,
            left: false,
            watched: false,
            load: None,
            seq: 0,
            facts: None,
            facts_asked: None,
        }
    }

    /// Another address at which it may be found.
    pub(super) fn rumour(&mut self, address: String) {
        if !address.is_empty() && address != self.address && !self.rumours.contains(&address) {
            self.rumours.push_front(address);
            self.rumours.truncate(RUMOURS);
        }
    }

    /// Dials at this time, unless a dial is under way.
    pub(super) fn redial(&mut self, timers: &mut Timers, at: Now) {
        if !matches!(self.dial, Dial::Busy(_)) {
            self.dial = Dial::At(at, 0);
            timers.set(at, Due::Dial(self.host.name.clone()));
        }
    }
}
