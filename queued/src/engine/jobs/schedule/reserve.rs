//! Nobody starves: the first job in order that has found no host for a while has one reserved. Smaller jobs that
//! come after it then no longer take what becomes free there.

use super::Scheduler;
use super::host::Host;
use crate::engine::fit::Claim;

/// So long the first job waits until a host is reserved, in milliseconds.
const PATIENCE: u64 = 30_000;
/// Who is first is looked up so often, in milliseconds.
const EVERY: u64 = 250;

/// The job that waits the longest, and its host.
#[derive(Debug, Default)]
pub(super) struct Starving {
    /// The first job that no host takes, and since when.
    first: Option<(u64, u64)>,
    /// The host that is reserved, and for which job.
    pub(super) host: Option<(u32, u64)>,
    next: u64,
}

impl Starving {
    /// When a host is to be reserved.
    pub(super) fn wake(&self) -> Option<u64> {
        match (self.first, self.host) {
            (Some((_, since)), None) => Some((since + PATIENCE).max(self.next)),
            _ => None,
        }
    }
}

impl Scheduler {
    /// Watches the first job of all that some host could ever take, when nothing more can be placed. Whether anything
    /// changed for hosts.
    pub(super) fn watch_starving(&mut self, now: u64) -> bool {
        let s = &self.starving;
        let due = s.wake().is_some_and(|at| at <= now);
        if now < s.next && !due && (s.first.is_some() || self.shut.is_empty()) {
            return false;
        }
        self.starving.next = now + EVERY;
        let Some((job, line)) = self.first_in_order() else {
            self.starving.first = None;
            return self.lift();
        };
        let lifted = self.starving.host.is_some_and(|(_, j)| j != job) && self.lift();
        match self.starving.first {
            Some((j, since)) if j == job => {
                if now >= since + PATIENCE && self.starving.host.is_none() {
                    self.reserve(line, job);
                    return true;
                }
            }
            _ => self.starving.first = Some((job, now)),
        }
        lifted
    }

    /// The first job that is not impossible, and its line. Called when all lines are shut.
    fn first_in_order(&mut self) -> Option<(u64, u32)> {
        for (place, at) in &self.shut {
            let line = &mut self.lines[*at as usize];
            if line.nowhere == self.generation {
                continue;
            }
            if self.hosts.iter().any(|h| h.usable && line.could(h)) {
                return Some((place.job, *at));
            }
            line.nowhere = self.generation;
        }
        None
    }

    /// Reserves the host that is nearest to being free for it.
    fn reserve(&mut self, line: u32, job: u64) {
        let line = &mut self.lines[line as usize];
        let mut best: Option<(f64, usize)> = None;
        for (i, h) in self.hosts.iter().enumerate() {
            if h.usable && line.could(h) {
                let n = nearness(h, &line.claim);
                if best.is_none_or(|(b, _)| n > b) {
                    best = Some((n, i));
                }
            }
        }
        let Some((_, i)) = best else { return };
        self.hosts[i].reserved = Some(job);
        self.starving.host = Some((i as u32, job));
        self.host_event(i as u32);
    }

    /// A job is no longer here: nothing is reserved for it.
    pub(super) fn lift_for(&mut self, job: u64) {
        if self.starving.first.is_some_and(|(j, _)| j == job) {
            self.starving.first = None;
            self.starving.next = 0;
        }
        if self.starving.host.is_some_and(|(_, j)| j == job) {
            self.lift();
        }
    }

    fn lift(&mut self) -> bool {
        let Some((at, _)) = self.starving.host.take() else {
            return false;
        };
        self.hosts[at as usize].reserved = None;
        self.host_event(at);
        true
    }

    /// A host that takes nothing any more is no use to him who waits.
    pub(super) fn lift_at(&mut self, at: u32) {
        if self.starving.host.is_some_and(|(h, _)| h == at) {
            self.starving.host = None;
            self.hosts[at as usize].reserved = None;
        }
    }
}

/// How much of what is needed is free: 1 is all of it.
fn nearness(h: &Host, c: &Claim) -> f64 {
    let t = h.taken();
    let part = |asked: u64, has: u64, taken: u64| {
        if asked == 0 {
            1.0
        } else {
            (has.saturating_sub(taken) as f64 / asked as f64).min(1.0)
        }
    };
    let all = [
        part(c.cores.into(), h.cap.cores.into(), t.cores.into()),
        part(c.mem, h.cap.mem, t.mem),
        part(c.gpus.into(), h.cap.gpus.into(), t.gpus.into()),
        part(c.disk, h.cap.disk, t.disk),
    ];
    // The scarcest counts, then the others; who has few waiting before whom has many.
    let least = all.iter().copied().fold(1.0, f64::min);
    least + all.iter().sum::<f64>() / 100.0 - h.advance.len() as f64 / 1e6
}
