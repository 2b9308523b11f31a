//! Attempts that wait on a host although another one has room for them.

use super::Scheduler;
use super::find::draw;
use crate::engine::fit::Claim;
use libqueue::wire::job::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

/// An attempt that was sent in advance may be moved after so many milliseconds.
pub(super) const ADVANCE: u64 = 500;
/// One for which there was room may be slow to start, or something runs there that we do not know of.
pub(super) const SEATED: u64 = 2000;
/// At most so many are looked at in one go.
const LOOKED_AT: usize = 1024;

/// Attempts that have not started, and those that are being moved.
#[derive(Debug, Default)]
pub(super) struct Strays {
    waiting: BTreeSet<(u64, Key)>,
    /// Asked to be taken back, and where there was room.
    moving: BTreeMap<Key, u32>,
    /// Up to when all were looked at, with the room that there was.
    seen: Option<u64>,
}

impl Strays {
    /// An attempt is to start until `due`.
    pub(super) fn wait(&mut self, due: u64, key: Key) {
        self.waiting.insert((due, key));
    }

    /// It has, or is gone.
    pub(super) fn forget(&mut self, due: u64, key: Key) {
        self.waiting.remove(&(due, key));
        self.moving.remove(&key);
    }

    /// A host may have more room than before.
    pub(super) fn room(&mut self) {
        self.seen = None;
    }

    /// When the next one is late.
    pub(super) fn wake(&self) -> Option<u64> {
        let from = self.seen.map(|t| (t, LAST));
        let from = from.map_or(Unbounded, Excluded);
        self.waiting.range((from, Unbounded)).next().map(|(due, _)| *due)
    }
}

/// Comes after all attempts.
const LAST: Key = Key {
    job: u64::MAX,
    task: u32::MAX,
    attempt: u32::MAX,
};

impl Scheduler {
    /// Attempts that wait on a full host while another one has room: to be revoked. To be asked after `pick` had
    /// nothing more to say: who still waits here comes first.
    pub(crate) fn misplaced(&mut self, now: u64) -> Vec<Key> {
        let from = self.strays.seen.map(|t| (t, LAST));
        let from = from.map_or(Unbounded, Excluded);
        let mut late = self
            .strays
            .waiting
            .range((from, Unbounded))
            .take_while(|w| w.0 <= now);
        let keys: Vec<Key> = late.by_ref().take(LOOKED_AT).map(|w| w.1).collect();
        if late.next().is_none() {
            self.strays.seen = Some(now);
        }
        if keys.is_empty() {
            return keys;
        }
        // What is on its way to be moved will need its room.
        let mut promised: BTreeMap<u32, Claim> = BTreeMap::new();
        for (key, to) in &self.strays.moving {
            if let Some(s) = self.sent.get(key) {
                let p = promised.entry(*to).or_default();
                *p = p.and(s.claim);
            }
        }
        let mut in_vain = BTreeSet::new();
        let mut found = Vec::new();
        for key in keys {
            let Some(s) = self.sent.get(&key) else { continue };
            let Some(l) = s.line.filter(|l| !in_vain.contains(l)) else {
                continue;
            };
            if self.strays.moving.contains_key(&key) || !self.rooms.any(s.claim.cores.max(1)) {
                continue;
            }
            let (here, claim) = (s.host, s.claim);
            let (hosts, line) = (&self.hosts, &mut self.lines[l as usize]);
            let to = draw(&self.rooms, claim.cores, &mut self.rng, |h| {
                let more = promised.get(&h).map_or(claim, |p| p.and(claim));
                h != here && line.room(&hosts[h as usize], key.job) && hosts[h as usize].has_for(&more)
            });
            match to.first() {
                Some(to) => {
                    let p = promised.entry(*to).or_default();
                    *p = p.and(claim);
                    self.strays.moving.insert(key, *to);
                    found.push(key);
                }
                None => {
                    in_vain.insert(l);
                }
            }
        }
        found
    }
}
