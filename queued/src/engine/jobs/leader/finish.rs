//! Where tasks go from one stage to the next, and what follows when a job has nothing left to do.

use super::table::{Fate, Job, Stage};
use super::{Change, Leader, LeaderEffect};
use crate::engine::jobs::post::{Event, EventKind};
use crate::store::Op;
use libqueue::wire::job::{Key, Outcome, State, down};

/// Jobs that ended well are kept in memory up to this weight, and as many that did not end well again: a job
/// weighs one, and one more for each 256 tasks.
const ENDED_MAX: [u64; 2] = [2_000, 20_000];
/// Fates of an array's tasks are kept for so many.
const FATES: usize = 20_000;

fn weight(job: &Job) -> u64 {
    1 + u64::from(job.tasks.len() / 256)
}

impl Leader {
    /// Puts a task somewhere else.
    pub(super) fn stage(&mut self, id: u64, index: u32, to: Stage) {
        let wall = self.clock.wall;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let blocked = job.blocked(wall);
        let before = job.tasks.set(index, to);
        let (before, after) = (before.state(blocked), job.tasks.stage(index).state(blocked));
        if before != after {
            let key = job.key(index);
            self.changes.push(Change {
                job: id,
                task: key.task,
                before,
                after,
                attempt: key.attempt,
            });
        }
        self.dirty.insert(id);
    }

    /// Remembers how a task's attempt ended, for lists.
    pub(super) fn keep_fate(&mut self, id: u64, index: u32, outcome: &Outcome, host: &str) {
        let ended_ms = self.clock.wall;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.tasks.is_array() && job.tasks.extras().len() > FATES {
            return;
        }
        let outcome = Outcome {
            head: Vec::new(),
            tail: Vec::new(),
            ..outcome.clone()
        };
        job.tasks.extra_mut(index).fate = Some(Box::new(Fate {
            outcome,
            host: host.to_owned(),
            ended_ms,
        }));
    }

    /// Counts whether the job still has something to do among those of its group.
    pub(super) fn tally(&mut self, id: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let quiet = job.is_quiet();
        if std::mem::replace(&mut job.quiet, quiet) == quiet {
            return;
        }
        let name = (job.row.owner.clone(), job.row.plan.group.clone());
        if name.1.is_empty() {
            return;
        }
        if !quiet {
            *self.groups.entry(name).or_default() += 1;
        } else if let Some(n) = self.groups.get_mut(&name) {
            *n -= 1;
            if *n == 0 {
                self.groups.remove(&name);
            }
        }
    }

    /// Tells its owner, if he wants to know.
    pub(super) fn tell(
        &mut self,
        kind: EventKind,
        key: Key,
        outcome: Option<&Outcome>,
        state: State,
        host: &str,
    ) {
        self.tally(key.job);
        let Some(job) = self.jobs.get(&key.job) else {
            return;
        };
        let counts: Vec<(State, u32)> = job
            .tasks
            .states(job.blocked(self.clock.wall))
            .into_iter()
            .collect();
        let group = (job.row.owner.clone(), job.row.plan.group.clone());
        let event = Event {
            kind,
            job: &job.row,
            key,
            outcome,
            state,
            host,
            counts: &counts,
            last_of_job: job.quiet,
            last_of_group: job.quiet && !self.groups.contains_key(&group),
        };
        self.post.event(self.clock, event);
    }

    /// Looks whether all tasks of a job are over, and whether it can go.
    pub(super) fn look_over(&mut self, id: u64, out: &mut Vec<LeaderEffect>) {
        self.tally(id);
        let clock = self.clock;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.ended.is_none() && job.tasks.all_over() {
            let state = job.state(clock.wall);
            job.ended = Some(state);
            job.row.ended_ms = clock.wall;
            if let Some(known) = self.identities.get_mut(&job.row.identity).filter(|k| k.0 == id) {
                known.1 = clock.wall;
            }
            for (before, _) in std::mem::take(&mut job.row.after) {
                if let Some(d) = self.dependants.get_mut(&before) {
                    d.remove(&id);
                }
            }
            self.news.push_back((id, state));
            self.home_at_end(id, out);
        }
        let Some(job) = self.jobs.get(&id) else { return };
        if let (Some(state), 0) = (job.ended, job.live) {
            self.is_over(id, state, out);
        }
    }

    /// All is over, and nothing of it is anywhere.
    fn is_over(&mut self, id: u64, state: State, out: &mut Vec<LeaderEffect>) {
        self.withdraw(id);
        let Some(mut job) = self.jobs.remove(&id) else {
            return;
        };
        job.row.state = state as i32;
        out.push(LeaderEffect::Store(Op::Over {
            job: id,
            state,
            at_ms: job.row.ended_ms,
        }));
        self.over.set(id, state as u8);
        for conn in std::mem::take(&mut job.sent_to) {
            let host = self.conns.get(&conn).and_then(|h| self.hosts.get_mut(h));
            if let Some(link) = host.and_then(|h| h.link.as_mut()).filter(|l| l.conn == conn)
                && link.runs.remove(&id)
            {
                out.push(LeaderEffect::Send {
                    conn,
                    message: down::Kind::JobOver(id),
                });
            }
        }
        self.forget_child(&job);
        self.keep_ended(job, state);
    }

    /// Keeps a job that is over in memory for a while, as the last one that ended.
    pub(super) fn keep_ended(&mut self, job: Job, state: State) {
        let id = job.row.id;
        let which = usize::from(state != State::Done);
        self.ended_order[which].push_back(id);
        self.ended_weight[which] += weight(&job);
        self.ended.insert(id, job);
        while self.ended_weight[which] > ENDED_MAX[which] {
            let Some(first) = self.ended_order[which].pop_front() else {
                break;
            };
            self.drop_ended(first, which);
        }
    }

    /// Drops a job that is over from memory; `which`: the list that it was taken from.
    fn drop_ended(&mut self, id: u64, which: usize) {
        if let Some(job) = self.ended.remove(&id) {
            self.ended_weight[which] = self.ended_weight[which].saturating_sub(weight(&job));
        }
    }

    /// Takes a job that is over back, to run it again; whether it is there.
    pub(super) fn take_back(&mut self, id: u64) -> bool {
        if let Some(mut job) = self.ended.remove(&id) {
            let which = usize::from(job.row.state != State::Done as i32);
            self.ended_order[which].retain(|j| *j != id);
            self.ended_weight[which] = self.ended_weight[which].saturating_sub(weight(&job));
            job.row.state = State::Unknown as i32;
            job.quiet = true;
            self.over.set(id, 0);
            self.jobs.insert(id, job);
        }
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        job.ended = None;
        job.row.ended_ms = 0;
        job.row.reason.clear();
        true
    }

    /// Removes a job that is over from memory because it was deleted.
    pub(super) fn delete_ended(&mut self, id: u64) {
        if let Some(job) = self.ended.remove(&id) {
            let which = usize::from(job.row.state != State::Done as i32);
            self.ended_order[which].retain(|j| *j != id);
            self.ended_weight[which] = self.ended_weight[which].saturating_sub(weight(&job));
        }
    }

    /// Drops what has been in memory long enough.
    pub(super) fn prune(&mut self) {
        let old = self.clock.wall.saturating_sub(super::DAY);
        self.identities
            .retain(|_, (_, ended)| *ended == 0 || *ended > old);
        self.timer(self.clock.boot + 3_600_000, super::Timer::Prune);
    }

    /// Ends all of a job that is not out: it will not run.
    pub(super) fn end_rest(
        &mut self,
        id: u64,
        to: Stage,
        reason: String,
        out: &mut Vec<LeaderEffect>,
    ) -> u32 {
        let wall = self.clock.wall;
        let Some(job) = self.jobs.get_mut(&id) else {
            return 0;
        };
        let blocked = job.blocked(wall);
        let rest: Vec<u32> = (0..)
            .zip(job.tasks.stages())
            .filter(|(_, s)| !s.is_over() && !s.is_out())
            .map(|(i, _)| i)
            .collect();
        if rest.is_empty() {
            return 0;
        }
        job.row.reason = reason;
        out.push(LeaderEffect::Store(Op::Row(Box::new(job.row.clone()))));
        let whole = job.tasks.stages().iter().all(|s| !s.is_out()) && job.live == 0;
        for index in &rest {
            let before = job.tasks.set(*index, to);
            let key = job.key(*index);
            self.changes.push(Change {
                job: id,
                task: key.task,
                before: before.state(blocked),
                after: to.state(blocked),
                attempt: key.attempt,
            });
            // If nothing of it is out, the job is over with this, and its end says it for all its tasks.
            if !whole {
                out.push(LeaderEffect::Store(Op::Task(job.task_row(*index))));
            }
        }
        self.dirty.insert(id);
        rest.len() as u32
    }

    /// Takes a job out of the queues.
    pub(super) fn withdraw(&mut self, id: u64) {
        self.leave(id);
        if let Some(job) = self.jobs.get_mut(&id)
            && std::mem::take(&mut job.put) > 0
        {
            self.sched.take_out(id);
        }
    }
}
