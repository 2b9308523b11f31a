//! What must hold in the simulated world, whatever goes wrong.

use super::faults::UNITS;
use super::world::World;
use libqueue::wire::job::{AfterHow, Key, State};

impl World {
    /// After each step.
    pub(super) fn check(&mut self) {
        if self.acked.len() != self.acked_seen {
            self.acked_seen = self.acked.len();
            self.check_stores();
        }
    }

    /// After each write: no job is lost whose submission was answered.
    pub(super) fn check_stores(&self) {
        for id in &self.acked {
            let spooled = || self.hosts.iter().any(|h| h.spool.submits.contains_key(id));
            assert!(
                self.lead.disk.has(*id) || spooled(),
                "job {id} was acknowledged and is lost"
            );
        }
    }

    /// Attempts whose commands live and are not fenced.
    fn live(&self) -> impl Iterator<Item = (usize, Key)> {
        self.hosts.iter().enumerate().flat_map(move |(h, host)| {
            let frozen = host.frozen > self.now;
            let live = host.exec.sessions.iter().filter(|(_, s)| s.live);
            // A frozen host runs nothing, and ends what has run out before anything else.
            live.filter(move |(_, s)| !(frozen && self.expired(h, s)))
                .map(move |(k, _)| (h, *k))
        })
    }

    /// A command was just executed.
    pub(super) fn check_start(&self, h: usize, key: Key) {
        for (other, k) in self
            .live()
            .filter(|(_, k)| (k.job, k.task) == (key.job, key.task))
        {
            assert!(
                k == key && other == h || self.doubled.contains(&key.job),
                "{k:?} lives on h{other}, and {key:?} starts on h{h}"
            );
        }
        let host = &self.hosts[h];
        let own = host.grants.values().filter(|(_, lent)| lent.is_none());
        let used: u32 = own.map(|(cores, _)| *cores).sum();
        assert!(used <= host.cores, "h{h} grants {used} of {} cores", host.cores);
        let disk = &self.lead.disk;
        let Some(row) = disk.jobs.get(&key.job) else {
            return;
        };
        let counts = |k: &Key| disk.attempts.contains_key(k);
        if !row.plan.limits.is_empty() {
            let uses = |k: &Key| disk.jobs.get(&k.job).is_some_and(|r| !r.plan.limits.is_empty());
            let used = self.live().filter(|(_, k)| counts(k) && uses(k)).count();
            assert!(
                used <= UNITS as usize,
                "{used} of {UNITS} units are used, with {key:?}"
            );
        }
        let at_once = row.plan.array.as_ref().map_or(0, |a| a.at_once) as usize;
        if at_once > 0 {
            let tasks = self.live().filter(|(_, k)| counts(k) && k.job == key.job).count();
            assert!(
                tasks <= at_once,
                "{tasks} tasks of {} at once, not {at_once}",
                key.job
            );
        }
        self.check_after(key);
    }

    /// What it waited for has happened.
    fn check_after(&self, key: Key) {
        let disk = &self.lead.disk;
        let row = disk.jobs.get(&key.job);
        let Some(row) = row.filter(|r| !self.retried.contains(&r.id)) else {
            return;
        };
        for after in &row.plan.after {
            let ids = after.jobs.iter().flat_map(|s| &s.ids).map(|r| r.from);
            for id in ids.filter(|id| !disk.deleted.contains(id)) {
                let how = AfterHow::try_from(after.how).unwrap_or(AfterHow::Ok);
                let met = disk.ended_as(id).any(|s| match how {
                    AfterHow::Ok => s == State::Done,
                    AfterHow::Any => true,
                    AfterHow::Fail => s != State::Done,
                });
                assert!(
                    met,
                    "{key:?} starts, but {id} has not ended as it should ({how:?})"
                );
            }
        }
    }

    /// Everything has ended and is written down; what is left, if not.
    pub(super) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let disk = &self.lead.disk;
        left.extend(
            self.submitting
                .iter()
                .map(|a| format!("submission {a} has no answer")),
        );
        let open = disk.jobs.keys().filter(|id| !disk.is_over(**id));
        left.extend(open.map(|id| {
            let tasks: Vec<_> = disk.tasks.range((*id, 0)..(*id + 1, 0)).collect();
            format!("job {:?} has not ended: {tasks:?}", disk.jobs.get(id))
        }));
        left.extend(
            disk.attempts
                .values()
                .map(|a| format!("attempt {a:?} has no result")),
        );
        for host in &self.hosts {
            let spooled = host.spool.submits.keys();
            left.extend(spooled.map(|id| format!("job {id} is in the spool of {}", host.name)));
            let sessions = host.exec.sessions.iter();
            left.extend(sessions.map(|(k, s)| format!("{k:?} on {}: {s:?}", host.name)));
            let held = host.daemon.iter().flat_map(|d| d.engine.keys());
            left.extend(held.map(|k| format!("{k:?} is held by {}", host.name)));
        }
        left
    }
}
