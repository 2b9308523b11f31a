//! Those who wait for room (`Place.wait`), in the order in which they came. Part of the engine.
//!
//! Who came first is served first. One for whom no host has room now keeps one host, the one that is nearest to
//! having it: whoever came later may use the others meanwhile, but not that one. So a request for 64 cores gets
//! them as soon as the host that it keeps has become empty enough, and does not stop those behind it.
//!
//! Two that wait never take the same room: what one is about to take counts for the next.

use super::candidates::Taken;
use super::choose::{Look, answer};
use super::fit::{Known, No, distance, never};
use super::types::{AskId, Effect, Effects, Now};
use super::want::Wanted;
use super::{Engine, wire};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::{Waiting, reply};

/// All are looked at again this often at most, and at least.
const SOON: Duration = Duration::from_millis(10);
const SURE: Duration = Duration::from_secs(1);
/// Pause of one whom a host refused although it seemed to have room.
const REST: Duration = Duration::from_millis(250);
/// So long a host is avoided because the asker was refused there.
const AVOID: Duration = Duration::from_secs(5);
/// What has changed is told this often at most.
const TELL: Duration = Duration::from_secs(1);

/// Requests that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    all: BTreeMap<u64, Waiter>,
    next: u64,
    /// When all were looked at last.
    looked: Option<Now>,
    /// When they are looked at next.
    due: Now,
}

#[derive(Debug)]
struct Waiter {
    ask: AskId,
    wanted: Wanted,
    since: Now,
    /// Hosts are being asked for it.
    looking: bool,
    rest: Now,
    told: Option<(Now, Waiting)>,
    /// The host that is kept for it.
    held: Option<String>,
}

impl Queue {
    /// It got a host.
    pub(super) fn remove(&mut self, n: u64) {
        self.all.remove(&n);
    }

    /// It was refused.
    pub(super) fn rest(&mut self, now: Now, n: u64) {
        if let Some(w) = self.all.get_mut(&n) {
            w.looking = false;
            w.rest = now + REST;
            self.due = self.due.min(w.rest);
        }
    }

    /// Whoever asked it is gone.
    pub(super) fn forget(&mut self, ask: AskId) {
        self.all.retain(|_, w| w.ask != ask);
    }

    /// The hosts that are kept for somebody.
    pub(super) fn held(&self) -> impl Iterator<Item = &String> {
        self.all
            .values()
            .filter(|w| !w.looking)
            .filter_map(|w| w.held.as_ref())
    }

    /// When they are looked at next.
    pub(super) fn wake(&self) -> Option<Now> {
        (!self.all.is_empty()).then_some(self.due)
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

impl Engine {
    /// One more waits; perhaps not long.
    pub(super) fn enqueue(&mut self, now: Now, ask: AskId, wanted: Wanted, out: &mut Effects) {
        let q = &mut self.placing.queue;
        q.next += 1;
        q.all.insert(
            q.next,
            Waiter {
                ask,
                wanted,
                since: now,
                looking: false,
                rest: now,
                told: None,
                held: None,
            },
        );
        self.serve_queue(now, true, out);
    }

    /// Looks at all that wait, if it is time; `news`: something may have changed.
    pub(super) fn serve_queue(&mut self, now: Now, news: bool, out: &mut Effects) {
        let q = &mut self.placing.queue;
        if q.all.is_empty() {
            return;
        }
        if news {
            q.due = q.due.min(q.looked.map_or(now, |l| l + SOON));
        }
        if now < q.due {
            return;
        }
        q.looked = Some(now);
        q.due = now + SURE;
        let mut hopeless: Vec<(Wanted, String)> = Vec::new();
        let mut ahead = 0;
        for n in q.all.keys().copied().collect::<Vec<_>>() {
            self.serve(now, n, ahead, &mut hopeless, out);
            ahead += u32::from(self.placing.queue.all.contains_key(&n));
        }
    }

    /// Looks at one of them.
    fn serve(
        &mut self,
        now: Now,
        n: u64,
        ahead: u32,
        hopeless: &mut Vec<(Wanted, String)>,
        out: &mut Effects,
    ) {
        let Some(w) = self.placing.queue.all.get_mut(&n) else {
            return;
        };
        if w.looking {
            return;
        }
        if now >= w.since + AVOID {
            w.wanted.avoid.clear();
        }
        let held = w.held.take();
        let (ask, rest, wanted) = (w.ask, w.rest, w.wanted.clone());
        if let Some((_, reason)) = hopeless.iter().find(|(other, _)| other.is_like(&wanted)) {
            let reason = reason.clone();
            return self.tell_waiter(now, n, reason, ahead, out);
        }
        // A host may have been removed since.
        if let Some(e) = self.impossible(now, &wanted) {
            self.placing.queue.remove(n);
            return answer(ask, reply::Kind::Error(e), out);
        }
        let taken = self.placing.taken();
        let (good, no) = self.candidates(now, &wanted, Some(&taken));
        if good.is_empty() {
            let keep = self.nearest_to_room(now, &wanted, &taken, &no, held);
            if let Some(w) = self.placing.queue.all.get_mut(&n) {
                w.held = keep;
            }
            let reason = self.reasons(&wanted, &no);
            hopeless.push((wanted, reason.clone()));
            return self.tell_waiter(now, n, reason, ahead, out);
        }
        if now < rest {
            self.placing.queue.due = self.placing.queue.due.min(rest);
            return self.tell_waiter(
                now,
                n,
                "the host that seemed to have room was faster taken".into(),
                ahead,
                out,
            );
        }
        if let Some(w) = self.placing.queue.all.get_mut(&n) {
            w.looking = true;
        }
        self.look(now, Look::new(ask, wanted, Some(n)), out);
    }

    /// Of the full hosts the one that lacks least; the one that was kept before, if it is as good.
    fn nearest_to_room(
        &self,
        now: Now,
        w: &Wanted,
        taken: &Taken,
        no: &[(String, No)],
        held: Option<String>,
    ) -> Option<String> {
        let full = no.iter().filter(|(_, no)| no.is_full()).map(|(h, _)| h);
        let free = full
            .filter(|h| !taken.held.contains(*h))
            .filter_map(|h| self.known(now, h));
        let able = free.filter(|h| never(h, &w.need, w.expr.as_ref()).is_none());
        let far = |h: &Known<'_>| distance(h, &w.need, w.expr.as_ref(), Some(&h.now()));
        let all: Vec<(f64, &str)> = able.map(|h| (far(&h), h.name)).collect();
        let least = all.iter().map(|(d, _)| *d).min_by(f64::total_cmp)?;
        let best = |name: &str| all.iter().any(|(d, h)| *h == name && *d <= least);
        held.filter(|h| best(h)).or_else(|| {
            all.iter()
                .find(|(d, _)| *d <= least)
                .map(|(_, h)| (*h).to_owned())
        })
    }

    /// Tells one of them how it stands, if that is new.
    fn tell_waiter(&mut self, now: Now, n: u64, reason: String, ahead: u32, out: &mut Effects) {
        let Some(w) = self.placing.queue.all.get_mut(&n) else {
            return;
        };
        let waiting = Waiting { reason, ahead };
        if w.told
            .as_ref()
            .is_some_and(|(at, t)| *t == waiting || now < *at + TELL)
        {
            return;
        }
        w.told = Some((now, waiting.clone()));
        out.push(Effect::Progress {
            ask: w.ask,
            reply: reply::Kind::Waiting(waiting),
        });
    }
}
