//! Which jobs and tasks of those in memory are meant by a selection.

use crate::engine::jobs::leader::Leader;
use crate::engine::jobs::leader::table::{Job, Stage, range_len};
use crate::engine::jobs::select::glob;
use crate::engine::jobs::types::Asker;
use libqueue::wire::job::{IdRange, Key, Selection, TaskRange};
use std::collections::BTreeMap;

/// What of a job is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// These tasks, by index, ascending.
    Tasks(Vec<u32>),
}

/// A job that is meant.
#[derive(Debug, Clone)]
pub(super) struct Hit<'a> {
    pub(super) job: &'a Job,
    pub(super) part: Part,
}

impl Hit<'_> {
    /// How many tasks, or jobs that are no array, it stands for.
    pub(super) fn units(&self) -> usize {
        match &self.part {
            Part::Whole => self.job.tasks.len() as usize,
            Part::Tasks(t) => t.len(),
        }
    }

    /// The index of its n-th task.
    pub(super) fn unit(&self, n: usize) -> u32 {
        match &self.part {
            Part::Whole => n as u32,
            Part::Tasks(t) => t.get(n).copied().unwrap_or_default(),
        }
    }
}

/// How it is looked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct How {
    /// Also those that are over and still in memory.
    pub(super) ended: bool,
    /// Tasks are asked for one by one: conditions are those of each task. Else a job is meant as a whole if one of
    /// its tasks is as it should be.
    pub(super) tasks: bool,
    /// It is only to be shown: without any condition all are meant.
    pub(super) look: bool,
}

impl Leader {
    /// Jobs in memory that are meant, by number.
    pub(super) fn chosen(&self, who: &Asker, which: &Selection, how: How) -> Vec<Hit<'_>> {
        let mut user = which.user.as_str();
        if *which == Selection::default() && !how.look {
            return Vec::new();
        }
        if which.all && user.is_empty() && !who.operator && !how.look {
            user = &who.user;
        }
        let mut found: BTreeMap<u64, (&Job, Vec<TaskRange>)> = BTreeMap::new();
        let all = [IdRange {
            from: 0,
            to: u64::MAX,
            tasks: None,
        }];
        let ranges = if which.ids.is_empty() {
            &all[..]
        } else {
            &which.ids
        };
        for r in ranges {
            let to = r.to.max(r.from);
            let ended = self.ended.range(r.from..=to).filter(|_| how.ended);
            for (id, job) in self.jobs.range(r.from..=to).chain(ended) {
                if !matches(which, user, job) {
                    continue;
                }
                let (_, tasks) = found.entry(*id).or_insert((job, Vec::new()));
                tasks.push(r.tasks.unwrap_or(TaskRange {
                    from: 0,
                    to: u32::MAX,
                    step: 1,
                }));
            }
        }
        let hits = found.into_values().map(|(job, ranges)| Hit {
            job,
            part: self.part(job, &ranges, which, how),
        });
        hits.filter(|h| h.part != Part::Tasks(Vec::new())).collect()
    }

    /// What of a job is meant.
    fn part(&self, job: &Job, ranges: &[TaskRange], which: &Selection, how: How) -> Part {
        let whole = |r: &TaskRange| r.from == 0 && r.to == u32::MAX;
        let all = ranges.iter().any(whole);
        // What is no array has no tasks: whoever names one means another job.
        if !all && !job.tasks.is_array() {
            return Part::Tasks(Vec::new());
        }
        let free = which.states.is_empty() && which.host.is_empty();
        if all && free {
            return Part::Whole;
        }
        let blocked = job.blocked(self.clock.wall);
        let mut fits = [true; Stage::ALL.len()];
        if !which.states.is_empty() {
            for s in Stage::ALL {
                fits[s as usize] = which.states.contains(&(s.state(blocked) as i32));
            }
        }
        let host = |i: u32| which.host.is_empty() || self.host_of(job, i) == which.host;
        if all && (!how.tasks || !job.tasks.is_array()) {
            let some = if which.host.is_empty() {
                Stage::ALL
                    .iter()
                    .any(|s| fits[*s as usize] && job.tasks.count(*s) > 0)
            } else {
                let known = job.tasks.extras().keys();
                known
                    .copied()
                    .any(|i| fits[job.tasks.stage(i) as usize] && host(i))
            };
            return if some {
                Part::Whole
            } else {
                Part::Tasks(Vec::new())
            };
        }
        let ok = |i: &u32| fits[job.tasks.stage(*i) as usize] && host(*i);
        if all {
            return Part::Tasks((0..job.tasks.len()).filter(ok).collect());
        }
        let mut found: Vec<u32> = Vec::new();
        for r in ranges {
            if range_len(r) < job.tasks.len() {
                let numbers = (r.from..=r.to).step_by(r.step.max(1) as usize);
                found.extend(numbers.filter_map(|n| job.tasks.index(n)).filter(ok));
            } else {
                let inside = |i: &u32| {
                    let n = job.tasks.number(*i);
                    (r.from..=r.to).contains(&n) && (n - r.from).is_multiple_of(r.step.max(1))
                };
                found.extend((0..job.tasks.len()).filter(inside).filter(ok));
            }
        }
        found.sort_unstable();
        found.dedup();
        Part::Tasks(found)
    }

    /// The host of a task's last attempt.
    pub(super) fn host_of<'a>(&'a self, job: &'a Job, index: u32) -> &'a str {
        let Some(extra) = job.tasks.extra(index) else {
            return "";
        };
        let key = Key {
            job: job.row.id,
            task: job.tasks.number(index),
            attempt: extra.attempt,
        };
        match (self.live.get(&key), &extra.fate) {
            (Some(l), _) => &l.row.host,
            (None, Some(f)) => &f.host,
            (None, None) => "",
        }
    }

    /// Numbers of a selection whose jobs are over and not in memory.
    pub(super) fn elsewhere(&self, which: &Selection) -> Vec<IdRange> {
        let mut ids = Vec::new();
        for r in &which.ids {
            let to = r.to.max(r.from);
            if r.from == to {
                if self.job(r.from).is_none() && self.over.state(r.from).is_some() {
                    ids.push(*r);
                }
                continue;
            }
            for (id, _) in self.over.range(r.from, to) {
                if self.job(id).is_some() || self.over.state(id).is_none() {
                    continue;
                }
                match ids.last_mut() {
                    Some(l) if l.to + 1 == id && l.tasks.is_none() => l.to = id,
                    _ => ids.push(IdRange {
                        from: id,
                        to: id,
                        tasks: r.tasks,
                    }),
                }
            }
        }
        ids
    }
}

/// Whether a job is as it should be, as far as all its tasks have it in common.
fn matches(which: &Selection, user: &str, job: &Job) -> bool {
    let plan = &job.row.plan;
    let pattern = |p: &str, t: &str| p.is_empty() || glob(p, t);
    (user.is_empty() || user == job.row.owner)
        && pattern(&which.name, &plan.name)
        && pattern(&which.group, &plan.group)
        && (which.class.is_empty() || which.class == plan.class)
        && (which.words.is_empty()
            || which
                .words
                .iter()
                .any(|w| glob(w, &plan.name) || glob(w, &plan.group)))
}
