//! One host, as the scheduler sees it: what it has, what of it is taken, how much it may hold in advance.

use super::super::types::HostView;
use super::line::Place;
use crate::engine::fit::Claim;
use crate::engine::place::{View, score};
use libqueue::wire::job::Key;
use libqueue::wire::{Facts, Load};
use std::collections::VecDeque;

/// What a host holds in advance is about so much work, in milliseconds.
const AHEAD: f64 = 100.0;
/// Most attempts in advance.
const AHEAD_MAX: u32 = 64;
/// Where jobs run so long, in milliseconds, nothing is gained by holding one in advance.
const LONG: f64 = 2000.0;
/// Each attempt that ended changes the mean run time by so much of it.
const WEIGHT: f64 = 0.125;
/// So many attempts that need no core run there for each core.
const ZERO_PER_CORE: u32 = 2;

/// A host.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) member: bool,
    pub(super) dead: bool,
    pub(super) linked: bool,
    pub(super) facts: Option<Facts>,
    pub(super) load: Option<Load>,
    /// Hosts of the same class have the same facts; 0: not known.
    pub(super) class: u32,
    /// It takes work.
    pub(super) usable: bool,
    /// All that it has; `sessions`: at most.
    pub(super) cap: Claim,
    /// What others than jobs have there.
    pub(super) other: Claim,
    /// What attempts have that run there or should.
    pub(super) seated: Claim,
    /// How many of them need no core.
    pub(super) zero: u32,
    /// The most that they had since the last report, and before that one: reports are late.
    peak: [Claim; 2],
    /// Attempts that wait there, in the order in which they were sent.
    pub(super) advance: VecDeque<Key>,
    /// Mean run time of late, in milliseconds.
    mean: Option<f64>,
    /// Reserved for this job.
    pub(super) reserved: Option<u64>,
    /// It may have room for lines that are shut, of which none before this place is for it.
    pub(super) fresh: Option<Place>,
}

impl Host {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// What is known of it changed.
    pub(super) fn update(&mut self, view: &HostView, linked: bool, class: u32) {
        self.member = true;
        self.dead = view.dead;
        self.linked = linked;
        self.class = class;
        self.facts.clone_from(&view.facts);
        if view.load != self.load {
            self.load = view.load;
            // What our own attempts have is in the report, or was.
            let own = most(self.peak[0], self.peak[1]);
            self.peak = [self.seated, self.peak[0]];
            let l = view.load.unwrap_or_default();
            self.other = less(
                Claim {
                    sessions: l.sessions,
                    cores: l.cores_reserved,
                    mem: l.mem_reserved,
                    gpus: l.gpus_reserved,
                    disk: l.disk_reserved,
                },
                own,
            );
        }
        self.cap = match &self.facts {
            Some(f) => Claim {
                sessions: if f.max_sessions == 0 {
                    u32::MAX
                } else {
                    f.max_sessions
                },
                cores: f.cores,
                mem: f.mem,
                gpus: u32::try_from(f.gpus.len()).unwrap_or(u32::MAX),
                disk: f.disk,
            },
            None => Claim::default(),
        };
        self.usable = self.refusal().is_none();
    }

    /// It is no member any more.
    pub(super) fn leave(&mut self) {
        self.member = false;
        self.usable = false;
    }

    /// Why nothing is sent there.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        let Some(f) = &self.facts else {
            return Some(if self.dead {
                "down"
            } else {
                "has not said yet what it is"
            });
        };
        if !self.member {
            Some("no host of the cluster")
        } else if self.dead {
            Some("down")
        } else if !self.linked {
            Some("its queued has no connection with the leader")
        } else if self.load.is_some_and(|l| l.draining) {
            Some("draining")
        } else if f.unwilling {
            Some("takes no work of other hosts (willing = false in its queued.toml)")
        } else if f.cores == 0 || self.load.is_some_and(|l| l.cores == 0) {
            Some("starts nothing: queue-exec does not run there")
        } else {
            None
        }
    }

    /// An attempt has its place there.
    pub(super) fn seat(&mut self, claim: &Claim) {
        self.seated = self.seated.and(*claim);
        self.zero += u32::from(claim.cores == 0);
        self.peak[0] = most(self.peak[0], self.seated);
    }

    /// It has it no longer.
    pub(super) fn unseat(&mut self, claim: &Claim) {
        self.seated = less(self.seated, *claim);
        self.zero -= u32::from(claim.cores == 0);
    }

    /// An attempt ran so long there, in milliseconds.
    pub(super) fn ran(&mut self, ms: u64) {
        let ms = ms as f64;
        self.mean = Some(self.mean.map_or(ms, |m| m + (ms - m) * WEIGHT));
    }

    /// What runs there takes longer than was thought.
    pub(super) fn runs_long(&mut self) {
        self.mean = Some(self.mean.unwrap_or(0.0).max(LONG));
    }

    /// No attempt is there.
    pub(super) fn is_empty(&self) -> bool {
        self.seated.sessions == 0 && self.advance.is_empty()
    }

    /// What is taken there.
    pub(super) fn taken(&self) -> Claim {
        self.other.and(self.seated)
    }

    /// Cores that a newcomer may have.
    pub(super) fn room_cores(&self) -> u32 {
        if self.advance.is_empty() {
            self.cap.cores.saturating_sub(self.taken().cores)
        } else {
            0
        }
    }

    /// Whether this fits now, whoever waits there.
    pub(super) fn has_for(&self, c: &Claim) -> bool {
        let t = self.taken();
        let l = self.load.as_ref();
        let fits = |asked: u64, has: u64, taken: u64| asked == 0 || asked <= has.saturating_sub(taken);
        let cores = match c.cores {
            0 => self.zero < self.cap.cores.saturating_mul(ZERO_PER_CORE),
            n => n <= self.cap.cores.saturating_sub(t.cores),
        };
        cores
            && t.sessions < self.cap.sessions
            && fits(c.mem, self.cap.mem, t.mem)
            && (c.mem == 0 || l.is_none_or(|l| c.mem <= l.mem_available))
            && fits(c.gpus.into(), self.cap.gpus.into(), t.gpus.into())
            && fits(c.disk, self.cap.disk, t.disk)
            && (c.disk == 0 || l.is_none_or(|l| c.disk <= l.disk_free))
    }

    /// Whether this could start there at once, reservations aside. Who waits there comes first.
    pub(super) fn has_room(&self, c: &Claim) -> bool {
        self.usable && (self.advance.is_empty() || c.cores == 0) && self.has_for(c)
    }

    /// Whether it fits if nothing else is there.
    pub(super) fn could(&self, c: &Claim) -> bool {
        c.cores <= self.cap.cores
            && c.mem <= self.cap.mem
            && c.gpus <= self.cap.gpus
            && c.disk <= self.cap.disk
    }

    /// How many attempts may wait there.
    fn depth(&self) -> u32 {
        match self.mean {
            None => (self.cap.cores / 4).clamp(1, AHEAD_MAX),
            Some(m) if m >= LONG => 0,
            Some(m) => ((f64::from(self.cap.cores) * AHEAD / m.max(0.5)) as u32).clamp(1, AHEAD_MAX),
        }
    }

    /// Whether one more may wait there.
    pub(super) fn may_hold(&self) -> bool {
        self.usable && self.reserved.is_none() && (self.advance.len() as u32) < self.depth()
    }

    /// Whether this may wait there. What takes a large part of the host would have it run empty.
    pub(super) fn may_hold_this(&self, c: &Claim) -> bool {
        let l = self.load.as_ref();
        self.may_hold()
            && c.cores > 0
            && c.cores <= (self.cap.cores / 4).max(1)
            && c.gpus <= self.cap.gpus / 4
            && c.mem <= (self.cap.mem / 4).min(l.map_or(u64::MAX, |l| l.mem_available))
            && c.disk <= (self.cap.disk / 4).min(l.map_or(u64::MAX, |l| l.disk_free))
    }

    /// How long a newcomer would wait behind those that wait already, for comparing.
    pub(super) fn backlog(&self) -> f64 {
        let cores = f64::from(self.cap.cores.max(1));
        (self.advance.len() as f64 + 1.0) / cores * self.mean.unwrap_or(AHEAD).max(0.5)
    }

    /// Its load, with what is assigned to it and may not show yet.
    pub(super) fn load_now(&self) -> Load {
        let t = self.taken();
        let f = self.facts.as_ref();
        let l = self.load.unwrap_or_else(|| Load {
            cores: f.map_or(0, |f| f.cores),
            mem_total: f.map_or(0, |f| f.mem),
            mem_available: f.map_or(0, |f| f.mem),
            disk_free: f.map_or(0, |f| f.disk),
            ..Load::default()
        });
        Load {
            cores_reserved: t.cores,
            mem_reserved: t.mem,
            gpus_reserved: t.gpus,
            disk_reserved: t.disk,
            ..l
        }
    }

    /// Slowdown that a newcomer has to expect there: `place`'s formula, where what is assigned counts at once.
    pub(super) fn score(&self, cores: u32) -> f64 {
        let load = Load {
            sessions: 0,
            starts: 0.0,
            ..self.load_now()
        };
        let view = View {
            load,
            power: self.facts.as_ref().map_or(1.0, |f| f.power),
            ..View::default()
        };
        score(&view, cores).value
    }
}

/// What is left.
fn less(a: Claim, b: Claim) -> Claim {
    Claim {
        sessions: a.sessions.saturating_sub(b.sessions),
        cores: a.cores.saturating_sub(b.cores),
        mem: a.mem.saturating_sub(b.mem),
        gpus: a.gpus.saturating_sub(b.gpus),
        disk: a.disk.saturating_sub(b.disk),
    }
}

/// The larger of each.
fn most(a: Claim, b: Claim) -> Claim {
    Claim {
        sessions: a.sessions.max(b.sessions),
        cores: a.cores.max(b.cores),
        mem: a.mem.max(b.mem),
        gpus: a.gpus.max(b.gpus),
        disk: a.disk.max(b.disk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(cores: u32) -> Host {
        let mut h = Host::new("h1");
        let facts = Facts {
            cores,
            mem: 1 << 30,
            ..Facts::default()
        };
        let view = HostView {
            name: "h1".into(),
            dead: false,
            facts: Some(facts),
            load: None,
        };
        h.update(&view, true, 1);
        h
    }

    fn cores(n: u32) -> Claim {
        Claim {
            sessions: 1,
            cores: n,
            ..Claim::default()
        }
    }

    #[test]
    fn short_jobs_are_held_in_advance_and_long_ones_are_not() {
        let mut h = host(8);
        assert_eq!(h.depth(), 2);
        h.ran(1);
        assert_eq!(h.depth(), 64);
        for _ in 0..100 {
            h.ran(100);
        }
        assert_eq!(h.depth(), 8);
        for _ in 0..100 {
            h.ran(60_000);
        }
        assert_eq!(h.depth(), 0);
        assert!(!h.may_hold());
    }

    #[test]
    fn what_others_have_counts_and_our_own_only_once() {
        let mut h = host(4);
        let report = |cores_reserved| HostView {
            name: "h1".into(),
            dead: false,
            facts: h_facts(4),
            load: Some(Load {
                cores: 4,
                cores_reserved,
                mem_available: 1 << 30,
                ..Load::default()
            }),
        };
        h.seat(&cores(2));
        h.update(&report(3), true, 1);
        assert_eq!((h.other.cores, h.room_cores()), (1, 1));
        // Both have ended; the report was written before.
        h.unseat(&cores(2));
        h.update(&report(2), true, 1);
        assert_eq!(h.other.cores, 0);
        h.update(&report(1), true, 1);
        h.update(&report(2), true, 1);
        h.update(&report(3), true, 1);
        assert_eq!(h.other.cores, 3);
    }

    fn h_facts(cores: u32) -> Option<Facts> {
        Some(Facts {
            cores,
            mem: 1 << 30,
            ..Facts::default()
        })
    }

    #[test]
    fn jobs_without_a_core_are_bounded() {
        let mut h = host(2);
        for _ in 0..4 {
            assert!(h.has_room(&cores(0)));
            h.seat(&cores(0));
        }
        assert!(!h.has_room(&cores(0)) && h.has_room(&cores(2)));
    }
}
