//! Limits: which jobs may go on, and which wait for a unit of a limit or of their class. Knows units and ranks; not
//! hosts.
//!
//! A job that could start asks to *enter* all its gates. Of jobs that want the same of a host no more are let in
//! than units are free, first ones first; the others are parked at the first gate that has no place for them. So
//! among many that wait only a few are in the scheduler's queues, and a unit that becomes free costs one step.
//! Units in use are those of attempts that have not ended, also of lost and superseded ones.

use super::Leader;
use super::table::{Gate, Job, Rank};
use libqueue::wire::job::{Class, LimitUse};
use std::collections::{BTreeMap, BTreeSet};

/// Those that want the same of a host, at one gate.
#[derive(Debug, Clone, Default)]
struct Line {
    /// They may be sent.
    inside: BTreeSet<Rank>,
    /// They wait for a unit.
    waiting: BTreeSet<Rank>,
}

/// A gate.
#[derive(Debug, Clone, Default)]
pub(crate) struct GateState {
    /// Units; absent: not limited.
    pub total: Option<u32>,
    /// Units in use.
    pub used: u32,
    lines: BTreeMap<u64, Line>,
}

impl GateState {
    /// Units that are free.
    pub(crate) fn free(&self) -> u32 {
        self.total.map_or(u32::MAX, |t| t.saturating_sub(self.used))
    }

    /// Jobs that wait for a unit.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.lines.values().map(|l| l.waiting.len()).sum()
    }
}

/// All gates.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    /// By what they limit.
    pub gates: BTreeMap<Gate, GateState>,
    /// Gates where a place became free.
    freed: BTreeSet<Gate>,
}

/// Names what a job wants of a host: the same number for the same wish (FNV-1a).
fn wish(job: &Job) -> u64 {
    let (need, plan) = (job.need(), &job.row.plan);
    let numbers = [u64::from(need.cores), need.mem, u64::from(need.gpus), need.disk];
    let texts = [&need.expr, &plan.host, &plan.prefer];
    let bytes = numbers.iter().flat_map(|n| n.to_le_bytes());
    let bytes = bytes.chain(texts.iter().flat_map(|t| t.bytes().chain([0])));
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Leader {
    /// Lets a job go on, or parks it.
    pub(super) fn enter(&mut self, id: u64) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        if job.admitted {
            return true;
        }
        if job.parked.is_some() {
            return false;
        }
        let limited = |g: &Gate| self.limits.gates.get(g).is_some_and(|s| s.total.is_some());
        let gates: Vec<Gate> = job.gates().filter(limited).collect();
        if gates.is_empty() {
            job.admitted = true;
            return true;
        }
        let (rank, wish) = (job.rank(), wish(job));
        for gate in &gates {
            let Some(state) = self.limits.gates.get_mut(gate) else {
                continue;
            };
            let free = state.free() as usize;
            let line = state.lines.entry(wish).or_default();
            let first = line.inside.last().is_some_and(|last| *last > rank);
            if line.inside.len() < free || (free > 0 && first) {
                continue;
            }
            line.waiting.insert(rank);
            job.parked = Some(gate.clone());
            return false;
        }
        job.admitted = true;
        let mut displaced = Vec::new();
        for gate in gates {
            let Some(state) = self.limits.gates.get_mut(&gate) else {
                continue;
            };
            let free = state.free() as usize;
            let line = state.lines.entry(wish).or_default();
            line.inside.insert(rank);
            if line.inside.len() > free {
                displaced.extend(line.inside.last().filter(|r| **r != rank).map(|r| r.2));
            }
        }
        for other in displaced {
            self.leave(other);
            self.dirty.insert(other);
        }
        true
    }

    /// A job does not want to go on, or has to ask again.
    pub(super) fn leave(&mut self, id: u64) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let parked = job.parked.take();
        if !std::mem::take(&mut job.admitted) && parked.is_none() {
            return;
        }
        let (rank, wish, gates) = (job.rank(), wish(job), job.gates().collect::<Vec<_>>());
        for gate in gates {
            let Some(state) = self.limits.gates.get_mut(&gate) else {
                continue;
            };
            let Some(line) = state.lines.get_mut(&wish) else {
                continue;
            };
            line.waiting.remove(&rank);
            if line.inside.remove(&rank) && !line.waiting.is_empty() {
                self.limits.freed.insert(gate);
            } else if line.inside.is_empty() && line.waiting.is_empty() {
                state.lines.remove(&wish);
            }
        }
    }

    /// Whether every gate of a job has a unit.
    pub(super) fn has_units(&self, job: &Job) -> bool {
        job.gates()
            .all(|g| self.limits.gates.get(&g).is_none_or(|s| s.free() > 0))
    }

    /// An attempt of the job takes a unit of everything.
    pub(super) fn take_units(&mut self, id: u64) {
        let gates: Vec<Gate> = self.job(id).map(|j| j.gates().collect()).unwrap_or_default();
        for gate in gates {
            self.limits.gates.entry(gate).or_default().used += 1;
        }
    }

    /// An attempt of the job has ended.
    pub(super) fn give_units(&mut self, id: u64) {
        let gates: Vec<Gate> = self.job(id).map(|j| j.gates().collect()).unwrap_or_default();
        for gate in gates {
            let Some(state) = self.limits.gates.get_mut(&gate) else {
                continue;
            };
            state.used = state.used.saturating_sub(1);
            if state.total.is_some() {
                self.limits.freed.insert(gate);
            } else if state.used == 0 && state.lines.is_empty() {
                self.limits.gates.remove(&gate);
            }
        }
    }

    /// Lets those in that have a place now; they are to be looked at. Whether there were any.
    pub(super) fn let_in(&mut self) -> bool {
        let mut some = false;
        while let Some(gate) = self.limits.freed.pop_first() {
            let Some(state) = self.limits.gates.get_mut(&gate) else {
                continue;
            };
            let free = state.free() as usize;
            let mut next = Vec::new();
            for line in state.lines.values_mut() {
                for _ in line.inside.len()..free {
                    next.extend(line.waiting.pop_first());
                    if line.waiting.is_empty() {
                        break;
                    }
                }
            }
            next.sort_unstable();
            for (_, _, id) in next {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.parked = None;
                    self.dirty.insert(id);
                    some = true;
                }
                self.enter(id);
            }
        }
        some
    }

    /// Units of a limit as a submission says them, where nobody has said it yet: what is to be written down.
    pub(super) fn new_limits(&mut self, uses: &[LimitUse]) -> Vec<(String, u32)> {
        let mut new = Vec::new();
        for l in uses {
            let Some(total) = l.total else { continue };
            let state = self.limits.gates.entry(Gate::Limit(l.name.clone())).or_default();
            if state.total.is_none() {
                new.push((l.name.clone(), total));
                self.set_total(&Gate::Limit(l.name.clone()), Some(total));
            }
        }
        new
    }

    /// Sets how many units there are; whoever writes it down is the caller.
    pub(in crate::engine::jobs) fn set_total(&mut self, gate: &Gate, total: Option<u32>) {
        let state = self.limits.gates.entry(gate.clone()).or_default();
        if state.total == total {
            return;
        }
        let ids: Vec<u64> = self
            .jobs
            .values()
            .filter(|j| j.gates().any(|g| g == *gate))
            .map(|j| j.row.id)
            .collect();
        for id in ids {
            self.leave(id);
            self.dirty.insert(id);
        }
        if let Some(state) = self.limits.gates.get_mut(gate) {
            state.total = total;
            if total.is_none() && state.used == 0 {
                self.limits.gates.remove(gate);
            }
        }
    }

    /// The classes that are configured.
    pub(super) fn set_classes(&mut self, classes: Vec<Class>) {
        let old = std::mem::take(&mut self.classes);
        self.classes = classes.into_iter().map(|c| (c.name.clone(), c)).collect();
        let names: BTreeSet<String> = old.into_keys().chain(self.classes.keys().cloned()).collect();
        for name in names {
            let max = self.classes.get(&name).map_or(0, |c| c.max_running);
            self.set_total(&Gate::Class(name), (max > 0).then_some(max));
        }
    }

    /// Panics if units in use are not those of the attempts, or a job stands where it does not belong.
    #[cfg(test)]
    pub(super) fn check_limits(&self) {
        let mut used: BTreeMap<Gate, u32> = BTreeMap::new();
        for key in self.live.keys() {
            for gate in self.job(key.job).into_iter().flat_map(Job::gates) {
                *used.entry(gate).or_default() += 1;
            }
        }
        for (gate, n) in &used {
            assert_eq!(
                self.limits.gates.get(gate).map(|s| s.used),
                Some(*n),
                "units of {gate:?} in use"
            );
        }
        let mut waiting = 0;
        for (gate, state) in &self.limits.gates {
            assert_eq!(
                state.used,
                used.get(gate).copied().unwrap_or(0),
                "units of {gate:?} in use"
            );
            for line in state.lines.values() {
                waiting += line.waiting.len();
                for (_, _, id) in &line.waiting {
                    let parked = self.jobs.get(id).and_then(|j| j.parked.as_ref());
                    assert_eq!(parked, Some(gate), "job {id} waits at a gate");
                }
                for (_, _, id) in &line.inside {
                    assert!(
                        self.jobs.get(id).is_some_and(|j| j.admitted),
                        "job {id} is inside a gate"
                    );
                }
            }
        }
        let parked = self.jobs.values().filter(|j| j.parked.is_some()).count();
        assert_eq!(parked, waiting, "jobs that are parked");
    }
}
