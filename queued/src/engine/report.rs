//! Load reports and facts: what this host tells the others of itself, when, and what it believes of theirs. Part
//! of the engine. Reports go straight to every live host, in a large cluster to one part of them after the other;
//! nothing depends on any one of them arriving, and nothing in one can break arithmetic here.

use super::rng::Rng;
use super::timers::Due;
use super::{Effect, Effects, Engine, Now, wire};
use std::time::Duration;
use wire::{Facts, HostState, Load, gossip};

/// A report goes to so many at most.
pub(super) const FAN_OUT: usize = 512;
/// In a cluster up to this size it goes to all.
pub(super) const ALL: usize = 1000;
/// Without news there is a report this often.
pub(super) const AT_LEAST: Duration = Duration::from_secs(5);
/// With news not more often than this,
const AT_MOST: Duration = Duration::from_millis(250);
/// plus this much for each receiver: it keeps the sum under half a megabit per second.
const EACH: Duration = Duration::from_micros(3300);
/// Reports are believed to be in order; one that is out of it counts if the last one is so old.
const FORGET_SEQ: Duration = Duration::from_secs(12);
/// A host is asked for its facts at most this often.
const ASK_FACTS: Duration = Duration::from_secs(1);

/// No host has more tasks, cores, sessions or bytes than these.
const TASKS: f64 = 1e6;
const COUNT: u32 = 1 << 20;
const BYTES: u64 = 1 << 60;
/// Longest text and longest list among facts.
const TEXT: usize = 128;
const LIST: usize = 128;

/// When to report: after news soon, but not too often; without news now and then.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    last: Option<Now>,
    due: Option<Now>,
}

impl Pace {
    /// There is something to tell to so many hosts. When to do so, if that is news.
    pub(super) fn soon(&mut self, now: Now, hosts: usize) -> Option<Now> {
        let gap = AT_MOST.max(EACH * u32::try_from(receivers(hosts)).unwrap_or(u32::MAX));
        self.set(self.last.map_or(now, |t| t + gap).max(now))
    }

    /// There is something that cannot wait.
    pub(super) fn at_once(&mut self, now: Now) -> Option<Now> {
        self.set(now)
    }

    fn set(&mut self, at: Now) -> Option<Now> {
        if self.due.is_some_and(|t| t <= at) {
            return None;
        }
        self.due = Some(at);
        Some(at)
    }

    /// Whether the time has come. The next one is due then at the latest.
    pub(super) fn is_due(&mut self, now: Now) -> Option<Now> {
        if self.due.is_some_and(|t| t > now) {
            return None;
        }
        self.last = Some(now);
        self.due = Some(now + AT_LEAST);
        self.due
    }
}

/// How many of so many hosts get each report.
pub(super) fn receivers(hosts: usize) -> usize {
    if hosts <= ALL { hosts } else { FAN_OUT }
}

/// Whether others should know of the difference.
pub(super) fn matters(old: &Load, new: &Load) -> bool {
    let counts = |l: &Load| {
        (
            (l.cores, l.sessions, l.jobs, l.draining, l.facts),
            (l.cores_reserved, l.mem_reserved, l.gpus_reserved, l.disk_reserved),
        )
    };
    let moved = |a: f64, b: f64, least: f64| (a - b).abs() > least.max(0.1 * a.abs().max(b.abs()));
    let shrunk = |a: u64, b: u64| a.abs_diff(b) > a.max(b) / 10;
    counts(old) != counts(new)
        || moved(old.starts, new.starts, 0.5)
        || moved(old.running, new.running, 0.3)
        || moved(old.load1, new.load1, 0.5)
        || moved(old.psi_cpu, new.psi_cpu, 10.0)
        || moved(old.psi_mem, new.psi_mem, 5.0)
        || moved(old.psi_io, new.psi_io, 10.0)
        || shrunk(old.mem_available, new.mem_available)
}

/// A foreign load report, with nothing in it that breaks arithmetic.
pub(super) fn sane_load(l: Load) -> Load {
    let f = |v: f64, max: f64| if v.is_finite() { v.clamp(0.0, max) } else { 0.0 };
    Load {
        load1: f(l.load1, TASKS),
        load5: f(l.load5, TASKS),
        load15: f(l.load15, TASKS),
        cores: l.cores.min(COUNT),
        mem_total: l.mem_total.min(BYTES),
        mem_available: l.mem_available.min(BYTES),
        sessions: l.sessions.min(COUNT),
        running: f(l.running, TASKS),
        busy: f(l.busy, TASKS),
        psi_cpu: f(l.psi_cpu, 100.0),
        psi_mem: f(l.psi_mem, 100.0),
        psi_io: f(l.psi_io, 100.0),
        starts: f(l.starts, TASKS),
        cores_reserved: l.cores_reserved.min(COUNT),
        mem_reserved: l.mem_reserved.min(BYTES),
        gpus_reserved: l.gpus_reserved.min(COUNT),
        disk_free: l.disk_free.min(BYTES),
        disk_reserved: l.disk_reserved.min(BYTES),
        draining: l.draining,
        facts: l.facts,
        jobs: l.jobs.min(COUNT),
        seq: l.seq,
    }
}

/// Foreign facts, of bounded size and printable.
pub(super) fn sane_facts(f: Facts) -> Facts {
    let text = |s: &str| libqueue::text::plain(s, TEXT);
    Facts {
        version: f.version,
        cores: f.cores.min(COUNT),
        mem: f.mem.min(BYTES),
        disk: f.disk.min(BYTES),
        gpus: f
            .gpus
            .iter()
            .take(LIST)
            .map(|g| wire::Gpu {
                name: text(&g.name),
                mem: g.mem.min(BYTES),
            })
            .collect(),
        arch: text(&f.arch),
        kernel: text(&f.kernel),
        os: text(&f.os),
        resources: f
            .resources
            .iter()
            .take(LIST)
            .map(|(k, v)| (text(k), text(v)))
            .collect(),
        power: if f.power.is_finite() && f.power > 0.0 {
            f.power.clamp(0.01, 100.0)
        } else {
            1.0
        },
        max_sessions: f.max_sessions,
        version_text: text(&f.version_text),
        unwilling: f.unwilling,
    }
}

/// Whose turn it is to be told. In a large cluster everybody has his turn after some reports; drawn by lot, some
/// would wait five times as long.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turn(Option<usize>);

impl Turn {
    /// Which of so many hosts get the next report, in this order.
    pub(super) fn next(&mut self, hosts: usize, rng: &mut Rng) -> impl Iterator<Item = usize> + use<> {
        let most = receivers(hosts);
        // Where all are told: if the network does not take them all at once, it is not always the same who goes
        // without.
        let first = match self.0 {
            Some(first) if most < hosts => first % hosts,
            _ => rng.below(hosts),
        };
        self.0 = Some(first + most);
        (0..most).map(move |i| (first + i) % hosts)
    }
}

impl Engine {
    /// Something about this host changed that others should know.
    pub(super) fn report_soon(&mut self, now: Now) {
        if let Some(at) = self.pace.soon(now, self.peers.len()) {
            self.timers.set(at, Due::Report);
        }
    }

    /// Something changed that others should know at once.
    pub(super) fn report_now(&mut self, now: Now) {
        if let Some(at) = self.pace.at_once(now) {
            self.timers.set(at, Due::Report);
        }
    }

    /// This host's load was measured.
    pub(super) fn own_load(&mut self, now: Now, load: Load) {
        self.load = Some((now, load));
        let new = self.current_load(now);
        if self.told.is_none_or(|old| matters(&old, &new)) {
            self.report_soon(now);
        }
    }

    /// Time to report, perhaps.
    pub(super) fn report_due(&mut self, now: Now, out: &mut Effects) {
        if self.load.is_none() {
            // The first measurement will be news.
            self.pace = Pace::default();
            return;
        }
        let Some(next) = self.pace.is_due(now) else { return };
        self.timers.set(next, Due::Report);
        self.seq += 1;
        let load = self.current_load(now);
        self.told = Some(load);
        let to: Vec<&str> = self
            .peers
            .values()
            .filter(|p| matches!(p.state, HostState::Up | HostState::Suspect))
            .map(|p| p.address.as_str())
            .collect();
        for i in self.turn.next(to.len(), &mut self.rng) {
            out.push(Effect::Datagram {
                address: to[i].to_owned(),
                message: gossip::Kind::Report(load),
            });
        }
    }

    /// A host came up: it does not know our load.
    pub(super) fn greet(&mut self, now: Now, name: &str, out: &mut Effects) {
        if self.peers.len() > ALL {
            return;
        }
        if let Some(p) = self.peers.get(name).filter(|_| self.load.is_some()) {
            out.push(Effect::Datagram {
                address: p.address.clone(),
                message: gossip::Kind::Report(self.current_load(now)),
            });
        }
    }

    /// A host told its load.
    pub(super) fn reported(&mut self, now: Now, name: &str, load: Load, out: &mut Effects) {
        let Some(p) = self.peers.get_mut(name) else { return };
        let old = p.load.is_some_and(|(at, _)| now >= at + FORGET_SEQ);
        if load.seq < p.seq && !old {
            return;
        }
        p.seq = load.seq;
        let load = sane_load(load);
        p.load = Some((now, load));
        let known = p.facts.as_ref().map_or(0, |f| f.version);
        if load.facts != 0 && load.facts != known && p.facts_asked.is_none_or(|t| now >= t + ASK_FACTS) {
            p.facts_asked = Some(now);
            out.push(Effect::Datagram {
                address: p.address.clone(),
                message: gossip::Kind::FactsAsk(wire::Empty {}),
            });
        }
    }

    /// A host wants to know what this one is. It is told at the address that we know, not at one that a datagram
    /// names.
    pub(super) fn facts_asked(&mut self, name: &str, out: &mut Effects) {
        if let Some(p) = self.peers.get(name).filter(|_| self.facts.version != 0) {
            out.push(Effect::Datagram {
                address: p.address.clone(),
                message: gossip::Kind::Facts(self.facts.clone()),
            });
        }
    }

    /// A host said what it is.
    pub(super) fn facts_told(&mut self, name: &str, facts: Facts) {
        if let Some(p) = self.peers.get_mut(name) {
            p.facts = Some(sane_facts(facts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn news_are_told_soon_but_not_too_often() {
        let mut p = Pace::default();
        assert_eq!(p.soon(MS, 3), Some(MS));
        assert_eq!(p.is_due(MS), Some(MS + AT_LEAST));
        // The next one not before a quarter of a second, however often it is asked for.
        assert_eq!(p.soon(2 * MS, 3), Some(251 * MS));
        assert_eq!(p.soon(3 * MS, 3), None);
        assert_eq!(p.is_due(250 * MS), None);
        assert_eq!(p.is_due(251 * MS), Some(251 * MS + AT_LEAST));
        // What cannot wait does not.
        assert_eq!(p.at_once(252 * MS), Some(252 * MS));
        assert!(p.is_due(252 * MS).is_some());
        // Large clusters are told less often, and very large ones in part.
        let gap = |hosts| {
            let mut p = Pace::default();
            p.is_due(MS);
            p.soon(MS, hosts).unwrap() - MS
        };
        assert_eq!(gap(50), AT_MOST);
        assert!(gap(1000) > 3000 * MS && gap(1000) < 4000 * MS);
        assert!(gap(10_000) < gap(1000));
    }

    #[test]
    fn everybody_has_his_turn() {
        let mut rng = Rng::new(1);
        let mut turn = Turn::default();
        let mut told = vec![0; 5000];
        for _ in 0..10 {
            let one: Vec<usize> = turn.next(5000, &mut rng).collect();
            assert_eq!(one.len(), FAN_OUT);
            one.into_iter().for_each(|i| told[i] += 1);
        }
        assert!(told.iter().all(|n| *n == 1 || *n == 2));
        // The others went away; nothing breaks.
        let mut all: Vec<usize> = turn.next(900, &mut rng).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..900));
        assert_eq!(turn.next(0, &mut rng).count(), 0);
    }

    #[test]
    fn small_changes_do_not_matter_and_large_ones_do() {
        let l = Load {
            running: 4.0,
            cores: 8,
            mem_available: 1000,
            ..Load::default()
        };
        assert!(!matters(&l, &l));
        assert!(!matters(
            &l,
            &Load {
                running: 4.3,
                load5: 9.0,
                seq: 5,
                mem_available: 950,
                ..l
            }
        ));
        for other in [
            Load { running: 5.0, ..l },
            Load { sessions: 1, ..l },
            Load { draining: true, ..l },
            Load { cores: 0, ..l },
            Load { psi_cpu: 30.0, ..l },
            Load { starts: 1.0, ..l },
            Load { mem_reserved: 1, ..l },
            Load {
                mem_available: 500,
                ..l
            },
            Load { facts: 7, ..l },
        ] {
            assert!(matters(&l, &other), "{other:?}");
        }
    }

    #[test]
    fn nonsense_does_no_harm() {
        let bad = Load {
            load1: f64::NAN,
            load5: f64::INFINITY,
            load15: -1.0,
            running: 1e300,
            psi_cpu: 1e9,
            cores: u32::MAX,
            mem_total: u64::MAX,
            mem_reserved: u64::MAX,
            sessions: u32::MAX,
            ..Load::default()
        };
        let l = sane_load(bad);
        assert_eq!(
            (l.load1, l.load5, l.load15, l.running, l.psi_cpu),
            (0.0, 0.0, 0.0, TASKS, 100.0)
        );
        assert!(l.cores <= COUNT && l.mem_total <= BYTES && l.mem_reserved <= BYTES && l.sessions <= COUNT);
        assert_eq!(sane_load(l), l);
        let f = sane_facts(Facts {
            power: f64::NAN,
            arch: "\u{1b}[2J".repeat(1000),
            resources: (0..1000).map(|i| (i.to_string(), "x".repeat(9999))).collect(),
            ..Facts::default()
        });
        assert!(f.power == 1.0 && f.arch.len() <= TEXT && !f.arch.contains('\u{1b}'));
        assert!(f.resources.len() <= LIST && f.resources.values().all(|v| v.len() <= TEXT));
    }
}
