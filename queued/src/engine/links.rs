//! Links: member connections that stay. They carry what must arrive (members, revocations, keys); who is alive
//! and how busy is told by datagrams. Up to [`MESH`] hosts everybody links to everybody; above, each host links
//! to those 1, 2, 4, 8, ... names after it and before it in the ring of all names. Both ends compute that alike.
//! Part of the engine; decides whom to dial and when, and which links to keep up.

use super::timers::Due;
use super::{
    ALIVE, BACKOFF, BACKOFF_MAX, ConnId, Dial, Effect, Effects, Engine, Level, Now, REFUSED, Verdict, member,
    wire, wire_roster,
};
use std::collections::BTreeSet;
use std::time::Duration;
use wire::HostState;

/// Up to so many hosts everybody links to everybody.
pub(super) const MESH: usize = 32;
/// How often links are looked after.
const CARE: Duration = Duration::from_secs(1);
/// Something is said on each link this often.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// A link on which nothing is heard for so long is closed.
pub(crate) const SILENCE: Duration = Duration::from_secs(6);
/// A link that is no longer wanted is closed after this time: the other end may only not know yet.
const UNWANTED: Duration = Duration::from_secs(30);
/// If no datagram came from a host for so long, its link carries the load reports: the network may not carry
/// datagrams between the two, or one of them is of a version that has none.
const NO_DATAGRAM: Duration = Duration::from_secs(8);
/// If none ever came, it is said after this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whom the host of this name links to, among these (sorted, itself included).
pub(super) fn wanted(own: &str, names: &[&str]) -> BTreeSet<String> {
    let n = names.len();
    let Ok(i) = names.binary_search(&own) else {
        return BTreeSet::new();
    };
    let distances: Vec<usize> = if n <= MESH {
        (1..n).collect()
    } else {
        std::iter::successors(Some(1), |d| Some(d * 2))
            .take_while(|d| *d < n)
            .flat_map(|d| [d, n - d])
            .collect()
    };
    distances
        .into_iter()
        .filter_map(|d| names.get((i + d) % n))
        .map(|s| (*s).to_owned())
        .collect()
}

impl Engine {
    /// Computes anew whom to link to, after the members changed.
    pub(super) fn rewire(&mut self, now: Now) {
        let mut names: Vec<&str> = self.peers.keys().map(String::as_str).collect();
        let at = names.partition_point(|n| *n < self.own.name.as_str());
        names.insert(at, &self.own.name);
        self.wanted = wanted(&self.own.name, &names);
        self.swim.resize(self.peers.len() + 1);
        for name in &self.wanted {
            if let Some(p) = self.peers.get_mut(name)
                && p.link.is_none()
                && p.dial == Dial::Rest
            {
                let at = now + self.rng.between(Duration::ZERO, Duration::from_millis(200));
                p.redial(&mut self.timers, at);
            }
        }
    }

    /// All links.
    pub(super) fn links(&self) -> Vec<ConnId> {
        self.conns.keys().copied().collect()
    }

    /// Looks after the links.
    pub(super) fn care(&mut self, now: Now, out: &mut Effects) {
        self.timers.set(now + CARE, Due::Links);
        let load = self.load.is_some().then(|| self.current_load(now));
        let all: Vec<(ConnId, String)> = self.conns.iter().map(|(c, n)| (*c, n.clone())).collect();
        for (conn, name) in all {
            let Some(p) = self.peers.get_mut(&name) else {
                continue;
            };
            let Some(l) = p.link.as_mut().filter(|l| l.conn == conn) else {
                continue;
            };
            if p.pending.is_some() && now >= l.heard + ALIVE {
                self.follow(now, &name, out);
                continue;
            }
            let silent = now >= l.heard + SILENCE;
            let unwanted = if self.wanted.contains(&name) {
                l.unwanted = None;
                false
            } else {
                now >= *l.unwanted.get_or_insert(now) + UNWANTED
            };
            if silent || unwanted {
                p.link = None;
                self.conns.remove(&conn);
                out.push(Effect::Close { conn, bye: None });
                if silent {
                    p.reason = format!("no sign of life for {} s", SILENCE.as_secs());
                    p.failed = true;
                    p.redial(&mut self.timers, now + self.rng.between(Duration::ZERO, BACKOFF));
                    self.live(now, &name, out);
                }
            } else if now >= l.said + KEEPALIVE {
                l.said = now;
                let blocked = p.datagram.is_none_or(|t| now >= t + NO_DATAGRAM);
                if blocked && p.swims {
                    out.push(Effect::Unheard(p.host.number()));
                }
                let message = match load {
                    Some(load) if blocked => member::Kind::Load(load),
                    _ => member::Kind::Roster(wire_roster(Vec::new())),
                };
                out.push(Effect::Send { conn, message });
                // One that never sent any may be of an older version.
                let patience = if p.swims { NO_DATAGRAM } else { PATIENCE };
                let expected = p.swims || self.keys.version > 0;
                if blocked && !l.warned && expected && now >= l.since + patience {
                    l.warned = true;
                    let text = format!(
                        "{name} is connected, but no datagrams come from it: let UDP through at {} in both directions",
                        p.address
                    );
                    out.log(Level::Warn, text);
                }
            }
        }
    }

    /// After we were frozen: what others said meanwhile is still in our buffers.
    pub(super) fn thaw(&mut self, now: Now) {
        for l in self.peers.values_mut().filter_map(|p| p.link.as_mut()) {
            l.heard = l.heard.max(now);
        }
    }

    /// Dials a host whose time has come.
    pub(super) fn dial(&mut self, now: Now, name: &str, out: &mut Effects) {
        let wanted = self.wanted.contains(name);
        let Some(p) = self.peers.get_mut(name) else { return };
        let Dial::At(at, tries) = p.dial else { return };
        if at > now {
            return;
        }
        if p.link.is_some() || !wanted {
            p.dial = Dial::Rest;
            return;
        }
        // The known address first, then what others say.
        let choice = tries as usize % (p.rumours.len() + 1);
        let rumour = choice.checked_sub(1).and_then(|i| p.rumours.get(i));
        let address = rumour.unwrap_or(&p.address).clone();
        p.dial = Dial::Busy(tries);
        out.push(Effect::Dial {
            name: name.to_owned(),
            address,
            key: p.host.tls_key,
        });
    }

    /// A dial came to nothing.
    pub(super) fn dial_failed(
        &mut self,
        now: Now,
        name: &str,
        text: String,
        refused: bool,
        out: &mut Effects,
    ) {
        let Some(p) = self.peers.get_mut(name) else { return };
        let mut tries = if let Dial::Busy(n) = p.dial { n + 1 } else { 1 };
        p.dial = Dial::Rest;
        if p.link.is_some() {
            return;
        }
        let mut wait = if refused {
            REFUSED
        } else {
            (BACKOFF * 2u32.pow((tries - 1).min(5))).min(BACKOFF_MAX)
        };
        if std::mem::take(&mut p.moved) {
            // It was dialled where it no longer is.
            (wait, tries) = (Duration::from_millis(100), 0);
        }
        let at = now + self.rng.between(wait / 2, wait);
        p.dial = Dial::At(at, tries);
        self.timers.set(at, Due::Dial(name.to_owned()));
        if refused && p.reason != text {
            out.log(Level::Error, format!("{name} refused us: {text}"));
        }
        p.failed = true;
        p.refused = refused;
        p.excuse.clone_from(&text);
        if !p.left && (p.verdict == Verdict::None || p.state != HostState::Up) {
            p.reason = text;
        }
        self.live(now, name, out);
    }

    /// A connection ended.
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
        if p.verdict == Verdict::None {
            p.reason = text;
        }
        // It may only have restarted, or the connection broke: the next dial tells.
        let at = now + self.rng.between(Duration::ZERO, Duration::from_millis(100));
        p.redial(&mut self.timers, at);
        self.follow(now, &name, out);
        self.live(now, &name, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rng::Rng;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("h{i:05}")).collect()
    }

    fn graph(n: usize) -> Vec<Vec<usize>> {
        let names = names(n);
        let view: Vec<&str> = names.iter().map(String::as_str).collect();
        names
            .iter()
            .map(|own| {
                let w = wanted(own, &view);
                w.iter()
                    .map(|s| view.binary_search(&s.as_str()).unwrap())
                    .collect()
            })
            .collect()
    }

    #[test]
    fn both_ends_want_the_same_links_and_few_of_them() {
        for n in [1, 2, 3, 31, 32, 33, 64, 100, 1000] {
            let g = graph(n);
            for (i, links) in g.iter().enumerate() {
                assert!(!links.contains(&i));
                assert!(links.iter().all(|j| g[*j].contains(&i)), "{n}: {i}");
                if n <= MESH {
                    assert_eq!(links.len(), n - 1);
                } else {
                    assert!(
                        links.len() <= 2 * (n.ilog2() as usize + 1),
                        "{n}: {}",
                        links.len()
                    );
                }
            }
        }
        assert!(wanted("x", &["a", "b"]).is_empty());
    }

    #[test]
    fn any_fifth_of_a_thousand_may_be_dead() {
        let (n, g) = (1000, graph(1000));
        let mut rng = Rng::new(3);
        for round in 0..200 {
            let mut dead = vec![false; n];
            if round < 20 {
                // Neighbours: a rack, or a range of names; the hardest for a ring.
                let start = rng.below(n);
                let step = 1 + round / 4;
                for k in 0..n / 5 {
                    dead[(start + k * step) % n] = true;
                }
            } else {
                while dead.iter().filter(|d| **d).count() < n / 5 {
                    dead[rng.below(n)] = true;
                }
            }
            let first = dead.iter().position(|d| !d).unwrap();
            let mut seen = dead.clone();
            seen[first] = true;
            let mut next = vec![first];
            while let Some(i) = next.pop() {
                for &j in &g[i] {
                    if !std::mem::replace(&mut seen[j], true) {
                        next.push(j);
                    }
                }
            }
            assert!(seen.iter().all(|s| *s), "round {round}: not connected");
        }
    }
}
