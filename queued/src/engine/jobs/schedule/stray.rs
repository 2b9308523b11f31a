//! Attempts that wait on a host although another one has room for them, or longer than was thought: what is held in
//! advance should start within a moment, and who came later and is more urgent must not wait behind it.

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
/// One in advance is taken back when it has waited so much longer than `ADVANCE`: jobs there run longer than thought.
const TOO_LONG: u64 = 1500;
/// At most so many are looked at in one go.
const LOOKED_AT: usize = 1024;

/// Attempts that have not started, and those that are being moved.
#[derive(Debug, Default)]
pub(super) struct Strays {
    waiting: BTreeSet<(u64, Key)>,
    /// Those in advance, by when they are taken back.
    held: BTreeSet<(u64, Key)>,
    /// Asked to be taken back, and where there was room.
    moving: BTreeMap<Key, u32>,
    /// Up to when all were looked at, with the room that there was.
    seen: Option<u64>,
}

impl Strays {
    /// An attempt is to start until `due`.
    pub(super) fn wait(&mut self, due: u64, key: Key, advance: bool) {
        self.waiting.insert((due, key));
        if advance {
            self.held.insert((due + TOO_LONG, key));
        }
    }

    /// It has, or is gone.
    pub(super) fn forget(&mut self, due: u64, key: Key) {
        self.waiting.remove(&(due, key));
        self.held.remove(&(due + TOO_LONG, key));
        self.moving.remove(&key);
    }

    /// A host may have more room than before.
    pub(super) fn room(&mut self) {
        self.seen = None;
    }

    /// When the next one is taken back.
    pub(super) fn wake_held(&self) -> Option<u64> {
        self.held.first().map(|(due, _)| *due)
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
        let mut found = self.held_too_long(now);
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
            return found;
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

    /// Attempts in advance that should have started long ago.
    fn held_too_long(&mut self, now: u64) -> Vec<Key> {
        let mut found = Vec::new();
        while let Some((due, key)) = self.strays.held.first().copied() {
            if due > now {
                break;
            }
            self.strays.held.pop_first();
            let Some(s) = self.sent.get(&key).filter(|s| s.advance) else {
                continue;
            };
            let at = s.host;
            self.hosts[at as usize].runs_long();
            self.sort_host(at);
            // Where nobody else waits nothing is gained by it.
            if !self.shut.is_empty() && self.strays.moving.insert(key, at).is_none() {
                found.push(key);
            }
        }
        found
    }
}
