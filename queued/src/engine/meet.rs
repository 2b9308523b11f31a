//! Two hosts meet: whether a new connection is kept, which of two, who is a clone; and what is said first on one
//! that is. Part of the engine; which connections are wanted at all is `links.rs`'s.

use super::members::{ON_THE_COPY, removed};
use super::{
    ALIVE, ConnId, Dial, Effect, Effects, Engine, Hello, Host, Level, Link, Now, Peer, REFUSED, ROSTER,
    Verdict, member, swim, wire_roster,
};

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
}
