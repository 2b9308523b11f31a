//! Membership: who belongs, whom to dial and when, which of two connections to keep, who is alive, who is a
//! clone, who was removed. Part of the engine; places nothing.

use super::{
    ALIVE, BACKOFF, BACKOFF_MAX, ConnId, Dial, Effect, Effects, Engine, Entry, Hello, Host, Level, Link,
    Message, Now, Peer, REFUSED, RUMOURS, Revoked, SILENCE, member, wire, wire_roster,
};
use std::collections::VecDeque;
use std::time::Duration;
use wire::HostState;

/// What to do about a cloned image.
const ON_THE_COPY: &str =
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
                    p.state = HostState::Down;
                    p.dial = Dial::At(now + self.rng.between(REFUSED, REFUSED * 2), 0);
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
        if host.serial < p.host.serial {
            let text = format!(
                "{} has joined again since with newer keys: this one's are old (a restored backup, or a clone?). \
                 Join it again: queued join TOKEN",
                host.name
            );
            return Err((Level::Warn, Some(text)));
        }
        let Some(l) = &p.link else { return Ok(()) };
        if host.serial > p.host.serial {
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
        let p = self
            .peers
            .entry(name.clone())
            .or_insert_with(|| Peer::new(host.clone()));
        p.host = host;
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
        } else if p.state != HostState::Up {
            out.log(Level::Info, format!("{name} is up at {}", p.address));
        }
        p.link = Some(Link {
            conn,
            dialled,
            boot: hello.boot,
            from,
            heard: now,
        });
        p.version = hello.version;
        p.state = HostState::Up;
        p.reason.clear();
        if !matches!(p.dial, Dial::Busy(_)) {
            p.dial = Dial::Rest;
        }
        let entry = p.entry();
        self.conns.insert(conn, name.clone());
        out.push(Effect::Send {
            conn,
            message: member::Kind::Roster(wire_roster(self.roster(&name))),
        });
        if !self.revoked.bytes.is_empty() {
            out.push(Effect::Send {
                conn,
                message: member::Kind::Revocations(self.revoked.bytes.clone()),
            });
        }
        if let Some((_, load)) = self.load {
            out.push(Effect::Send {
                conn,
                message: member::Kind::Load(load),
            });
        }
        if !known {
            out.push(Effect::Keep(entry.clone()));
            self.tell(&entry, Some(conn), out);
        }
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

    pub(super) fn dial_failed(
        &mut self,
        now: Now,
        name: &str,
        text: String,
        refused: bool,
        out: &mut Effects,
    ) {
        let Some(p) = self.peers.get_mut(name) else { return };
        let tries = if let Dial::Busy(n) = p.dial { n } else { 0 };
        p.dial = Dial::Rest;
        if p.link.is_some() {
            return;
        }
        let wait = if refused {
            REFUSED
        } else {
            (BACKOFF * 2u32.pow(tries.min(5))).min(BACKOFF_MAX)
        };
        p.dial = Dial::At(now + self.rng.between(wait / 2, wait), tries + 1);
        match p.state {
            _ if refused && p.reason != text => out.log(Level::Error, format!("{name} refused us: {text}")),
            HostState::Unknown => out.log(Level::Info, format!("{name} does not answer yet: {text}")),
            HostState::Up => out.log(Level::Warn, format!("{name} is down: {text}")),
            HostState::Down | HostState::Suspect | HostState::Left => {}
        }
        p.state = HostState::Down;
        p.reason = text;
    }

    pub(super) fn lost(&mut self, now: Now, conn: ConnId, text: String, out: &mut Effects) {
        let Some(name) = self.conns.remove(&conn) else {
            return;
        };
        let Some(p) = self.peers.get_mut(&name) else {
            return;
        };
        if p.link.as_ref().is_none_or(|l| l.conn != conn) {
            return;
        }
        out.log(Level::Debug, format!("connection with {name} ended: {text}"));
        p.link = None;
        p.reason = text;
        // It may only have restarted, or the connection broke: the next dial tells.
        p.redial(now + self.rng.between(Duration::ZERO, Duration::from_millis(100)));
    }

    /// Closes connections on which nothing was heard for too long.
    pub(super) fn silent(&mut self, now: Now, out: &mut Effects) {
        for (name, p) in &mut self.peers {
            let Some(l) = p.link.take_if(|l| now >= l.heard + SILENCE) else {
                continue;
            };
            self.conns.remove(&l.conn);
            out.push(Effect::Close {
                conn: l.conn,
                bye: None,
            });
            p.state = HostState::Down;
            p.reason = format!("no sign of life for {} s", SILENCE.as_secs());
            out.log(Level::Warn, format!("{name} is down: {}", p.reason));
            p.redial(now + self.rng.between(Duration::ZERO, BACKOFF));
        }
    }

    /// Dials whoever is due.
    pub(super) fn dial(&mut self, now: Now, out: &mut Effects) {
        if self.expelled {
            return;
        }
        for (name, p) in &mut self.peers {
            let Dial::At(at, tries) = p.dial else { continue };
            if at > now {
                continue;
            }
            if p.link.is_some() {
                p.dial = Dial::Rest;
                continue;
            }
            // The known address first, then what others say.
            let choice = tries as usize % (p.rumours.len() + 1);
            let rumour = choice.checked_sub(1).and_then(|i| p.rumours.get(i));
            let address = rumour.unwrap_or(&p.address).clone();
            p.dial = Dial::Busy(tries);
            out.push(Effect::Dial {
                name: name.clone(),
                address,
                key: p.host.tls_key,
            });
        }
    }

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
        match message {
            Message::Load(load) => p.load = Some((now, load)),
            Message::Roster(entries) => {
                for e in entries {
                    self.learn(now, e, Some(conn), out);
                }
            }
            Message::Revocations(list) => self.revoke(list, out),
            Message::Keys(keys) => self.new_keys(keys, out),
            Message::Bye(text) => {
                self.conns.remove(&conn);
                p.link = None;
                out.push(Effect::Close { conn, bye: None });
                out.log(Level::Info, format!("{name} went: {text}"));
                p.state = HostState::Down;
                p.reason = text;
                p.redial(now + self.rng.between(BACKOFF, BACKOFF * 2));
            }
        }
    }

    /// Learns of a member, from connection `source` or from this host itself.
    pub(super) fn learn(&mut self, now: Now, entry: Entry, source: Option<ConnId>, out: &mut Effects) {
        let name = entry.host.name.clone();
        if self.revoked.serials.contains(&entry.host.serial) {
            return;
        }
        if name == self.own.name {
            if entry.host.serial > self.own.serial {
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
                p.redial(now + self.rng.between(low, high));
                self.peers.insert(name.clone(), p);
                out.log(
                    Level::Info,
                    format!("{name} is a member now, at {}", entry.address),
                );
                true
            }
            Some(p) if entry.host.serial > p.host.serial => {
                p.host = entry.host.clone();
                p.authority = entry.authority;
                p.load = None;
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
                p.redial(now + self.rng.between(Duration::ZERO, Duration::from_millis(100)));
                out.log(Level::Info, format!("{name} joined again, at {}", p.address));
                true
            }
            Some(p) if entry.host.serial == p.host.serial => {
                let fresh =
                    p.authority != entry.authority && p.link.as_ref().is_some_and(|l| Some(l.conn) == source);
                if fresh {
                    p.authority = entry.authority;
                }
                p.rumour(entry.address.clone());
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
            if let Some(l) = self.peers.remove(&name).and_then(|p| p.link) {
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
                    p.state = HostState::Down;
                    p.reason.clone_from(&text);
                }
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
            load: None,
            handed: VecDeque::new(),
        }
    }

    /// Another address at which it may be found.
    fn rumour(&mut self, address: String) {
        if !address.is_empty() && address != self.address && !self.rumours.contains(&address) {
            self.rumours.push_front(address);
            self.rumours.truncate(RUMOURS);
        }
    }

    /// Dials at this time, unless a dial is under way.
    fn redial(&mut self, at: Now) {
        if !matches!(self.dial, Dial::Busy(_)) {
            self.dial = Dial::At(at, 0);
        }
    }
}
