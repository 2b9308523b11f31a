//! Counts everything anew: what the leader keeps besides its attempts and tasks must follow from them. For tests and
//! the simulation.

use super::Leader;
use super::table::{Phase, Stage};
use std::collections::BTreeMap;

impl Leader {
    /// Panics if something does not fit.
    pub(crate) fn check(&self) {
        let mut live: BTreeMap<u64, u32> = BTreeMap::new();
        let mut groups: BTreeMap<(String, String), u32> = BTreeMap::new();
        for (key, attempt) in &self.live {
            *live.entry(key.job).or_default() += 1;
            let Some(job) = self.jobs.get(&key.job) else {
                panic!("attempt {key:?} of a job that is not there");
            };
            let there = self.hosts.get(&attempt.row.host);
            assert!(
                there.is_some_and(|h| h.attempts.contains(key)),
                "{key:?} is not with its host"
            );
            let index = job.tasks.index(key.task).expect("the task of an attempt");
            let current = job.key(index) == *key && job.tasks.stage(index).is_out();
            assert_eq!(
                current,
                !attempt.old,
                "{key:?}: {:?} and old",
                job.tasks.stage(index)
            );
            if current {
                let fits = match job.tasks.stage(index) {
                    Stage::Lost => attempt.lost,
                    Stage::Sent => attempt.phase == Phase::Sent,
                    Stage::Running => attempt.phase == Phase::Running,
                    _ => attempt.phase == Phase::Stopped,
                };
                assert!(
                    fits,
                    "{key:?}: {:?} is {:?}",
                    attempt.phase,
                    job.tasks.stage(index)
                );
            }
        }
        for (id, job) in &self.jobs {
            job.tasks.check();
            assert_eq!(
                job.live,
                live.get(id).copied().unwrap_or(0),
                "attempts of job {id}"
            );
            for (index, extra) in job.tasks.extras() {
                let out = job.tasks.stage(*index).is_out();
                let key = job.key(*index);
                assert!(
                    !out || self.live.contains_key(&key),
                    "{key:?} is out and nowhere, {extra:?}"
                );
            }
            assert_eq!(job.ended.is_some(), job.tasks.all_over(), "job {id} has ended");
            assert!(
                job.ended.is_none() || job.live > 0,
                "job {id} is over and still here"
            );
            assert_eq!(job.quiet, job.is_quiet(), "job {id} has something to do");
            if !job.quiet && !job.row.plan.group.is_empty() {
                let name = (job.row.owner.clone(), job.row.plan.group.clone());
                *groups.entry(name).or_default() += 1;
            }
            let at_once = job.row.plan.array.as_ref().map_or(0, |a| a.at_once);
            let mine = self.live.range(super::keys_of(*id)).filter(|(_, l)| !l.old);
            assert!(
                at_once == 0 || mine.count() <= at_once as usize,
                "job {id} runs too many at once"
            );
            for (before, _) in &job.row.after {
                let known = self.dependants.get(before).is_some_and(|d| d.contains(id));
                assert!(known, "job {id} waits for {before}, and nobody knows");
            }
            assert_eq!(self.over.get(*id), None, "job {id} is here and over");
        }
        assert_eq!(groups, self.groups, "jobs of groups");
        let at_hosts: usize = self.hosts.values().map(|h| h.attempts.len()).sum();
        assert_eq!(at_hosts, self.live.len(), "attempts on hosts");
        for (conn, host) in &self.conns {
            let link = self.hosts.get(host).and_then(|h| h.link.as_ref());
            assert_eq!(link.map(|l| l.conn), Some(*conn), "connection of {host}");
        }
        self.check_limits();
    }
}
