//! Everything about some jobs, and where their output is. Attempts that have ended, runs and the ends of output are
//! the store's to add.

use super::row::{private, tried};
use super::which::{How, Part};
use super::{read, refuse};
use crate::engine::jobs::leader::Leader;
use crate::engine::jobs::leader::table::Job;
use crate::engine::jobs::types::{Asker, Clock, LeaderEffect, Read};
use crate::engine::types::AskId;
use libqueue::wire::ErrorCode;
use libqueue::wire::job::{Detail, IdRange, Key, Output, Selection, TaskRange};

/// Jobs or tasks of which everything is told at once.
const DETAILS: usize = 1000;
/// Outputs that are told at once.
const OUTPUTS: usize = 10_000;
/// Attempts shown of one job.
const ATTEMPTS: usize = 100;

impl Leader {
    /// Everything about some jobs.
    pub(super) fn show(
        &mut self,
        _clock: Clock,
        ask: AskId,
        who: &Asker,
        which: &Selection,
        out: &mut Vec<LeaderEffect>,
    ) {
        let how = How {
            ended: true,
            tasks: false,
            look: true,
        };
        let mut found = Vec::new();
        for hit in self.chosen(who, which, how) {
            let private = private(who, &hit.job.row.owner);
            match &hit.part {
                Part::Whole => found.push((self.detail(who, hit.job, None), private)),
                Part::Tasks(tasks) => {
                    let some = tasks.iter().take(DETAILS - found.len());
                    found.extend(some.map(|i| (self.detail(who, hit.job, Some(*i)), private)));
                }
            }
            if found.len() >= DETAILS {
                break;
            }
        }
        let ids = self.elsewhere(which);
        read(ask, who, Read::Details { found, ids }, out);
    }

    fn detail(&self, who: &Asker, job: &Job, task: Option<u32>) -> Detail {
        let private = private(who, &job.row.owner);
        let single = task.or((!job.tasks.is_array()).then_some(0));
        let attempts = match single {
            Some(i) => self.tried(job, i, private).into_iter().collect(),
            None => {
                let out = job.tasks.out().filter_map(|i| {
                    let key = job.key(i);
                    Some(tried(key, self.live.get(&key)?, private))
                });
                out.take(ATTEMPTS).collect()
            }
        };
        Detail {
            job: Some(self.row(who, job, task)),
            plan: Some(job.row.plan.clone()),
            attempts,
            ..Detail::default()
        }
    }

    /// Where output is.
    pub(super) fn outputs(
        &mut self,
        clock: Clock,
        ask: AskId,
        who: &Asker,
        which: &Selection,
        out: &mut Vec<LeaderEffect>,
    ) {
        let how = How {
            ended: true,
            ..How::default()
        };
        let (mut found, mut ids, mut denied) = (Vec::new(), Vec::new(), None);
        for hit in self.chosen(who, which, how) {
            let (job, id) = (hit.job, hit.job.row.id);
            if !private(who, &job.row.owner) {
                denied = Some((id, job.row.owner.clone()));
                continue;
            }
            let array = job.tasks.is_array();
            let known = found.len();
            let mut output = |i: u32| {
                let key = job.key(i);
                let state = job.task_state(i, clock.wall) as i32;
                if let Some(l) = self.live.get(&key) {
                    let r = l.running.clone().unwrap_or_default();
                    found.push(Output {
                        key: Some(key),
                        host: l.row.host.clone(),
                        path: r.output,
                        spooled: r.spooled,
                        error: r.error,
                        state,
                        ..Output::default()
                    });
                } else if key.attempt == 0 && !array && !job.tasks.stage(i).is_over() {
                    let key = Some(Key { attempt: 0, ..key });
                    found.push(Output {
                        key,
                        state,
                        ..Output::default()
                    });
                }
            };
            match &hit.part {
                // Of a large array only what is out: the store has the others.
                Part::Whole if array => job.tasks.out().for_each(&mut output),
                Part::Whole => output(0),
                Part::Tasks(tasks) => tasks.iter().copied().for_each(&mut output),
            }
            if array || found.len() == known {
                ids.extend(ranges(job, &hit.part));
            }
            if found.len() >= OUTPUTS {
                found.truncate(OUTPUTS);
                break;
            }
        }
        ids.extend(self.elsewhere(which));
        match denied {
            Some((id, owner)) if found.is_empty() && ids.is_empty() => {
                let text = format!("output of job {id} is for {owner} and operators only");
                refuse(ask, ErrorCode::Denied, text, out);
            }
            _ => read(ask, who, Read::Outputs { found, ids }, out),
        }
    }
}

/// What is meant of a job, for the store.
pub(super) fn ranges(job: &Job, part: &Part) -> Vec<IdRange> {
    let id = job.row.id;
    let range = |tasks| IdRange {
        from: id,
        to: id,
        tasks,
    };
    let Part::Tasks(tasks) = part else {
        return vec![range(None)];
    };
    let mut all: Vec<TaskRange> = Vec::new();
    for i in tasks {
        let n = job.tasks.number(*i);
        match all.last_mut() {
            Some(r) if r.to + 1 == n => r.to = n,
            _ => all.push(TaskRange {
                from: n,
                to: n,
                step: 1,
            }),
        }
    }
    all.into_iter().map(|t| range(Some(t))).collect()
}
