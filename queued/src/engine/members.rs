//! Membership: who belongs, whom to dial and when, which of two connections to keep, who is alive, who is a
//! clone, who was removed. Part of the engine; places nothing.

use super::timers::{Due, Timers};
use super::{
    ALIVE, BACKOFF, ConnId, Dial, Effect, Effects, Engine, Entry, Hello, Host, Level, Link, Message, Now,
    Peer, REFUSED, ROSTER, RUMOURS, Revoked, Verdict, member, swim, wire, wire_roster,
};
use std::collections::VecDeque;
use std::time::Duration;
use wire::HostState;

/// What to do about a cloned image.
pub(super) const ON_THE_COPY: &str =
    "On the copy stop queued and queue-exec, remove Queue's state directory, and join by another name";

/// Text for a host that was removed: it reads this in its log and in `queue hosts`.
fn removed(name: &str, cluster: &str) -> String {
    format!("{name} was removed from cluster {cluster}: join it again with a new token (queued join)")
}

impl Engine {
    /// A connection with both hellos known; `dialled`: by us.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call for two inputs with the same parts"
    )]
    pub(super) fn met(
        &mut self,
        now: Now,
        conn: ConnId,
        host: Host,
        hello: Hello,
        from: String,
        dialled: bool,
        out: &mut Effects,
    ) {
        if dialled
            && let Some(p) = self.peers.get_mut(&host.name)
            && matches!(p.dial, Dial::Busy(_))
        {
            p.dial = Dial::Rest;
        }
        match self.judge(now, &host, &hello, &from, dialled) {
            Ok(()) => {}
            Err((level, bye)) => {
                let text = bye
                    .clone()
                    .unwrap_or_else(|| "a second connection is not needed".into());
                out.log(
                    level,
                    format!("connection with {} at {from} not kept: {text}", host.name),
                );
                if self.revoked.serials.contains(&host.serial) {
                    // It was away when it was removed: this is how it learns.
                    let list = self.revoked.bytes.clone();
                    out.push(Effect::Send {
                        conn,
                        message: member::Kind::Revocations(list),
                    });
                }
                out.push(Effect::Close {
                    conn,
                    bye: bye.clone(),
                });
                // Whoever answers our dial with something that we refuse is dialled again, later.
                if let Some(p) = self.peers.get_mut(&host.name)
                    && dialled
                    && p.link.is_none()
                {
                    p.reason = bye.unwrap_or_default();
                    p.excuse.clone_from(&p.reason);
                    p.failed = true;
                    p.refused = true;
                    let at = now + self.rng.between(REFUSED, REFUSED * 2);
                    p.redial(&mut self.timers, at);
                    self.live(now, &host.name, out);
                }
                return;
            }
        }
        if hello.skew.unsigned_abs() > queue_exec::cert::CLOCK_SKEW {
            let (n, s) = (&host.name, hello.skew.unsigned_abs());
            let dir = if hello.skew > 0 { "ahead of" } else { "behind" };
            out.log(
                Level::Error,
                format!("the clock of {n} is {s} s {dir} this host's: commands between the two will be refused, set the clocks"),
            );
        }
        if !dialled {
            out.push(Effect::Welcome { conn });
        }
        self.connect(now, conn, host, hello, from, dialled, out);
    }

    /// Whether to keep a connection; `Err` with what to tell the other end (nothing: a mere duplicate).
    fn judge(
        &self,
        now: Now,
        host: &Host,
        hello: &Hello,
        from: &str,
        dialled: bool,
    ) -> Result<(), (Level, Option<String>)> {
        if self.stopped {
            return Err((
                Level::Debug,
                Some(format!("queued on {} was stopped", self.own.name)),
            ));
        }
        if self.expelled {
            return Err((Level::Debug, Some(removed(&self.own.name, &self.cluster))));
        }
        if host.name == self.own.name {
            if hello.boot == self.boot {
                return Err((Level::Debug, None));
            }
            let text = format!(
                "{} runs already at {} and another host with its name and key is at {} ({from}): a cloned image? \
                 {ON_THE_COPY}",
                host.name, self.advertised, hello.address
            );
            return Err((Level::Error, Some(text)));
        }
        if self.revoked.serials.contains(&host.serial) {
            return Err((Level::Warn, Some(removed(&host.name, &self.cluster))));
        }
        let Some(p) = self.peers.get(&host.name) else {
            return Ok(());
        };
        let same = host.is_same(&p.host);
        if host.serial < p.host.serial && !same {
            let text = format!(
                "{} has joined again since with newer keys: this one's are old (a restored backup, or a clone?). \
                 Join it again: queued join TOKEN",
                host.name
            );
            return Err((Level::Warn, Some(text)));
        }
        let Some(l) = &p.link else { return Ok(()) };
        if !same {
            return Ok(());
        }
        if l.boot != hello.boot {
            let elsewhere = p.address != hello.address || l.from != from;
            if elsewhere && now < l.heard + ALIVE {
                let text = format!(
                    "{} runs already at {} ({}) and another host with its name and key is at {} ({from}): a cloned \
                     image? {ON_THE_COPY}",
                    host.name, p.address, l.from, hello.address
                );
                return Err((Level::Error, Some(text)));
            }
            return Ok(());
        }
        // Both dialled at once. Both ends keep the one dialled by the lesser name; of two from the same side
        // the newer one, since its dialler knows the older one to be gone.
        let lesser_dialled = |by_us: bool| by_us == (self.own.name < host.name);
        if l.dialled != dialled && lesser_dialled(l.dialled) && now < l.heard + ALIVE {
            return Err((Level::Debug, None));
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "as `met`")]
    fn connect(
        &mut self,
        now: Now,
        conn: ConnId,
        host: Host,
        hello: Hello,
        from: String,
        dialled: bool,
        out: &mut Effects,
    ) {
        let name = host.name.clone();
        let known = self
            .peers
            .get(&name)
            .is_some_and(|p| p.host == host && p.address == hello.address);
        let p = self.peers.entry(name.clone()).or_insert_with(|| {
            self.grown = true;
            Peer::new(host.clone())
        });
        if !p.host.is_same(&host) {
            self.numbers.remove(&p.host.number());
            if let Some(id) = p.id.take() {
                self.swim.forget(id);
            }
            p.verdict = Verdict::None;
            p.seq = 0;
        }
        self.numbers.insert(host.number(), name.clone());
        // Of two certificates for the same keys the newer one counts, whoever showed it first.
        if !p.host.is_same(&host) || host.serial > p.host.serial {
            p.host = host;
        }
        if !hello.address.is_empty() && hello.address != p.address {
            let old = std::mem::replace(&mut p.address, hello.address);
            p.rumour(old);
        }
        if let Some(old) = p.link.take() {
            self.conns.remove(&old.conn);
            out.push(Effect::Close {
                conn: old.conn,
                bye: None,
            });
            if old.boot != hello.boot {
                p.seq = 0;
            }
        }
        p.link = Some(Link {
            conn,
            dialled,
            boot: hello.boot,
            from,
            since: now,
            heard: now,
            said: now,
            unwanted: None,
            warned: false,
        });
        p.version = hello.version;
        p.heard = Some(now);
        p.failed = false;
        p.refused = false;
        p.excuse.clear();
        p.pending = None;
        p.left = false;
        p.back = None;
        if !matches!(p.dial, Dial::Busy(_)) {
            p.dial = Dial::Rest;
        }
        let entry = p.entry();
        let (verdict, datagrams) = (p.verdict, p.datagram.is_some());
        let address = swim::address(&p.address);
        self.conns.insert(conn, name.clone());
        for part in self.roster(&name).chunks(ROSTER) {
            out.push(Effect::Send {
                conn,
                message: member::Kind::Roster(wire_roster(part.to_vec())),
            });
        }
        // Who is out before the keys that it must not have.
        if !self.revoked.bytes.is_empty() {
            out.push(Effect::Send {
                conn,
                message: member::Kind::Revocations(self.revoked.bytes.clone()),
            });
        }
        if self.keys.version > 0 {
            out.push(Effect::Send {
                conn,
                message: member::Kind::Keys(self.keys.clone()),
            });
        }
        if !datagrams && self.load.is_some() {
            out.push(Effect::Send {
                conn,
                message: member::Kind::Load(self.current_load(now)),
            });
        }
        if !known {
            out.push(Effect::Keep(entry.clone()));
            self.tell(&entry, Some(conn), out);
        }
        if matches!(verdict, Verdict::None | Verdict::Down) {
            self.swim.announce(entry.host.number(), address);
            self.swum(now, out);
        }
        self.live(now, &name, out);
    }

    /// Passes a member on to everybody connected, itself and `except` left out.
    fn tell(&self, entry: &Entry, except: Option<ConnId>, out: &mut Effects) {
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
    fn new(host: Host) -> Self {
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
