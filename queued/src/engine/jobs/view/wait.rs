//! Waiting for jobs: told when they change, and the truth at the end. Each waiter is found by the jobs that he waits
//! for; a change costs those who wait for that job, not the others.

use super::row::{counts, private, widen};
use super::which::{Hit, How, Part};
use super::{details, read, reply};
use crate::engine::jobs::leader::table::{Job, Stage};
use crate::engine::jobs::leader::{Change, Leader};
use crate::engine::jobs::types::{Asker, Clock, LeaderEffect, Read};
use crate::engine::types::AskId;
use libqueue::exit::FAILED;
use libqueue::job::exit_code;
use libqueue::wire::job::{IdRange, Over, Progress, State, Tried, Wait, job_reply};
use std::collections::{BTreeMap, BTreeSet};

/// How far the jobs are is told so often at most, in milliseconds.
const EVERY: u64 = 200;
/// Changes told at once.
const CHANGED: usize = 100;
/// Jobs of a group or a name that ended not longer ago than this count, in milliseconds.
const LATELY: u64 = 3_600_000;
/// Jobs that did not end well, named at the end.
const BAD: usize = 20;

/// What of a job somebody waits for.
#[derive(Debug)]
pub(super) struct Awaited {
    /// Tasks by index; absent: all.
    tasks: Option<BTreeSet<u32>>,
    /// Those of `tasks` that have not ended. Without `tasks`: 1 until the job has.
    open: BTreeSet<u32>,
}

impl Awaited {
    fn has(&self, index: u32) -> bool {
        self.tasks.as_ref().is_none_or(|t| t.contains(&index))
    }

    fn part(&self) -> Part {
        match &self.tasks {
            Some(t) => Part::Tasks(t.iter().copied().collect()),
            None => Part::Whole,
        }
    }
}

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    who: Asker,
    any: bool,
    follow: bool,
    pub(super) jobs: BTreeMap<u64, Awaited>,
    /// Jobs of which something has not ended.
    open: BTreeSet<u64>,
    /// Jobs that were over, and not in memory, when he asked.
    past: Vec<IdRange>,
    changed: Vec<(Tried, State)>,
    next: u64,
    pub(super) due: Option<u64>,
}

/// Nothing more happens by itself.
fn settled(stage: Stage) -> bool {
    stage.is_over() || stage == Stage::Buried
}

/// The whole job has settled.
fn all_settled(job: &Job) -> bool {
    let t = &job.tasks;
    let n = Stage::ALL
        .iter()
        .filter(|s| settled(**s))
        .map(|s| t.count(*s))
        .sum::<u32>();
    n == t.len()
}

impl Leader {
    /// Somebody waits. If there is nothing to wait for, that is the answer.
    pub(super) fn wait(
        &mut self,
        clock: Clock,
        ask: AskId,
        who: &Asker,
        wait: Wait,
        out: &mut Vec<LeaderEffect>,
    ) {
        let which = wait.which.unwrap_or_default();
        let named = !which.group.is_empty() || !which.name.is_empty();
        let how = How {
            // Jobs that are named may be over already. Of all others only those that are not are meant, and of a group
            // or a name also those that ended a short time ago: otherwise who submits them and then waits would miss
            // the quick ones.
            ended: !which.ids.is_empty() || named,
            ..How::default()
        };
        let past = self.elsewhere(&which);
        let mut jobs = BTreeMap::new();
        let mut open = BTreeSet::new();
        let mut some_over = !past.is_empty();
        let lately = clock.wall.saturating_sub(LATELY);
        for hit in self.chosen(who, &which, how) {
            let (id, t) = (hit.job.row.id, &hit.job.tasks);
            if which.ids.is_empty() && hit.job.row.ended_ms != 0 && hit.job.row.ended_ms < lately {
                continue;
            }
            let (tasks, left) = match hit.part {
                Part::Tasks(all) => {
                    let left: BTreeSet<u32> = all.iter().copied().filter(|i| !settled(t.stage(*i))).collect();
                    some_over |= left.len() < all.len();
                    (Some(all.into_iter().collect()), left)
                }
                Part::Whole if all_settled(hit.job) => {
                    some_over = true;
                    (None, BTreeSet::new())
                }
                Part::Whole => (None, BTreeSet::from([0])),
            };
            if !left.is_empty() {
                open.insert(id);
            }
            jobs.insert(id, Awaited { tasks, open: left });
        }
        let mut w = Waiter {
            who: who.clone(),
            any: wait.any,
            follow: wait.follow,
            jobs,
            open,
            past,
            changed: Vec::new(),
            next: clock.boot + EVERY,
            due: None,
        };
        if w.jobs.is_empty() && w.past.is_empty() {
            let over = Over {
                nothing: true,
                ..Over::default()
            };
            return reply(ask, job_reply::Kind::Over(over), true, out);
        }
        if w.open.is_empty() || (w.any && some_over) {
            return self.over(ask, &w, out);
        }
        if w.follow {
            self.running_now(&mut w);
        }
        out.push(self.progress(ask, &mut w));
        for id in w.jobs.keys() {
            self.watchers.by_job.entry(*id).or_default().insert(ask);
        }
        self.watchers.waits.insert(ask, w);
    }

    /// Attempts that are under way already.
    fn running_now(&self, w: &mut Waiter) {
        for (id, a) in &w.jobs {
            let Some(job) = self.jobs.get(id) else { continue };
            let private = private(&w.who, &job.row.owner);
            for i in job.tasks.out().filter(|i| a.has(*i)) {
                if let Some(t) = self.tried(job, i, private) {
                    w.changed.push((t, job.task_state(i, self.clock.wall)));
                }
            }
        }
    }

    /// Something changed: those who wait for it are told, at once if they follow it or it is the end.
    pub(super) fn note_change(&mut self, clock: Clock, c: &Change, out: &mut Vec<LeaderEffect>) {
        let Some(asks) = self.watchers.by_job.get(&c.job) else {
            return;
        };
        let asks: Vec<AskId> = asks.iter().copied().collect();
        for ask in asks {
            let Some(mut w) = self.watchers.waits.remove(&ask) else {
                continue;
            };
            if self.note(c, &mut w) {
                if !w.changed.is_empty() {
                    // What changed last is told before the end.
                    out.push(self.progress(ask, &mut w));
                }
                self.over(ask, &w, out);
                // Now everything about him can go.
                self.watchers.waits.insert(ask, w);
                self.asker_gone(ask);
                continue;
            }
            let at = if w.follow {
                clock.boot
            } else {
                w.next.max(clock.boot)
            };
            self.watchers.remind(ask, &mut w.due, at);
            self.watchers.waits.insert(ask, w);
        }
    }

    /// Notes a change for one waiter; whether all that he waited for has happened.
    fn note(&self, c: &Change, w: &mut Waiter) -> bool {
        let job = self.job(c.job);
        let Some(a) = w.jobs.get_mut(&c.job) else {
            return false;
        };
        let Some(job) = job else {
            // It was deleted.
            w.open.remove(&c.job);
            return w.any || w.open.is_empty();
        };
        let index = job.tasks.index(c.task);
        if index.is_some_and(|i| !a.has(i)) {
            return false;
        }
        let ended = index.is_some_and(|i| settled(job.tasks.stage(i)));
        if let Some(i) = index
            && (w.follow || ended)
            && w.changed.len() < 10 * CHANGED
            && let Some(t) = self.tried(job, i, private(&w.who, &job.row.owner))
        {
            let state = job.task_state(i, self.clock.wall);
            // Of each attempt only the latest.
            match w.changed.iter_mut().find(|x| x.0.key == t.key) {
                Some(x) => *x = (t, state),
                None => w.changed.push((t, state)),
            }
        }
        let before = a.open.len();
        match (&a.tasks, index) {
            (Some(_), Some(i)) if ended => {
                a.open.remove(&i);
            }
            (Some(_), Some(i)) => {
                a.open.insert(i);
            }
            (None, _) if all_settled(job) => a.open.clear(),
            (None, _) => {
                a.open.insert(0);
            }
            (Some(_), None) => {}
        }
        let less = a.open.len() < before;
        if a.open.is_empty() {
            w.open.remove(&c.job);
        } else {
            w.open.insert(c.job);
        }
        w.open.is_empty() || (w.any && less)
    }

    /// Tells how far it is, if it is time.
    pub(super) fn push_progress(&mut self, clock: Clock, ask: AskId, out: &mut Vec<LeaderEffect>) {
        let Some(mut w) = self.watchers.waits.remove(&ask) else {
            return;
        };
        w.due = None;
        out.push(self.progress(ask, &mut w));
        // To count many jobs takes time.
        w.next = clock.boot + EVERY.max(w.jobs.len() as u64 / 50);
        if !w.changed.is_empty() {
            self.watchers.remind(ask, &mut w.due, clock.boot);
        }
        self.watchers.waits.insert(ask, w);
    }

    /// How far it is, and the first of what changed.
    fn progress(&self, ask: AskId, w: &mut Waiter) -> LeaderEffect {
        let some = w.changed.len().min(CHANGED);
        let (changed, states) = w.changed.drain(..some).map(|(t, s)| (t, s as i32)).unzip();
        let progress = Progress {
            counts: counts(&self.count(w)),
            changed,
            states,
        };
        LeaderEffect::Reply {
            ask,
            reply: job_reply::Kind::Progress(progress),
            last: false,
        }
    }

    /// Tasks or jobs by state.
    fn count(&self, w: &Waiter) -> BTreeMap<State, u64> {
        let wall = self.clock.wall;
        let mut all = BTreeMap::new();
        for (id, a) in &w.jobs {
            match (self.job(*id), &a.tasks) {
                (Some(job), None) => {
                    for (s, n) in widen(job.tasks.states(job.blocked(wall))) {
                        *all.entry(s).or_default() += n;
                    }
                }
                (Some(job), Some(tasks)) => {
                    for i in tasks {
                        *all.entry(job.task_state(*i, wall)).or_default() += 1;
                    }
                }
                (None, tasks) => {
                    if let Some(s) = self.over.state(*id) {
                        *all.entry(s).or_default() += tasks.as_ref().map_or(1, |t| t.len() as u64);
                    }
                }
            }
        }
        for r in &w.past {
            for (id, _) in self.over.range(r.from, r.to) {
                if let Some(s) = self.over.state(id) {
                    *all.entry(s).or_default() += 1;
                }
            }
        }
        all
    }

    /// The end: from memory, and from the store what is not there.
    fn over(&self, ask: AskId, w: &Waiter, out: &mut Vec<LeaderEffect>) {
        let mut ids = w.past.clone();
        let mut over = Over::default();
        let mut all = BTreeMap::new();
        let mut units = 0;
        for (id, a) in &w.jobs {
            let part = a.part();
            let Some(job) = self.job(*id) else {
                if self.over.state(*id).is_some() {
                    let whole = IdRange {
                        from: *id,
                        to: *id,
                        tasks: None,
                    };
                    ids.push(whole);
                }
                continue;
            };
            let hit = Hit { job, part };
            // Of many tasks that failed the store knows more.
            let complete = self.complete(&hit, w.any);
            if !complete && all_settled(job) {
                ids.extend(details::ranges(job, &hit.part));
                continue;
            }
            units += hit.units();
            let states = match &hit.part {
                Part::Whole => widen(job.tasks.states(job.blocked(self.clock.wall))),
                Part::Tasks(t) => {
                    let mut by = BTreeMap::new();
                    for i in t {
                        *by.entry(job.task_state(*i, self.clock.wall)).or_default() += 1;
                    }
                    by
                }
            };
            for (s, n) in states {
                *all.entry(s).or_default() += n;
            }
            self.bad(&w.who, &hit, &mut over);
        }
        over.counts = counts(&all);
        if units != 1 || !ids.is_empty() {
            over.signal = None;
        }
        if ids.is_empty() {
            reply(ask, job_reply::Kind::Over(over), true, out);
        } else {
            // The store adds to it.
            let who = &w.who;
            read(ask, who, Read::Over { over, ids }, out);
        }
    }

    /// Whether memory knows how each task of a job that did not end well has ended, as far as it is told.
    fn complete(&self, hit: &Hit<'_>, any: bool) -> bool {
        let t = &hit.job.tasks;
        let bad = t.count(Stage::Failed) + t.count(Stage::Killed) + t.count(Stage::Buried);
        if bad == 0 || any {
            return true;
        }
        let known = |i: &u32| t.extra(*i).is_some_and(|e| e.fate.is_some());
        let mut first = t
            .stages()
            .iter()
            .zip(0..)
            .filter(|(s, _)| settled(**s) && **s != Stage::Done);
        first.by_ref().take(BAD).all(|(_, i)| known(&i) || !t.is_array())
    }

    /// Adds what did not end well.
    fn bad(&self, who: &Asker, hit: &Hit<'_>, over: &mut Over) {
        let job = hit.job;
        let bad = |i: &u32| settled(job.tasks.stage(*i)) && job.tasks.stage(*i) != Stage::Done;
        let mut add = |i: u32| {
            let fate = job.tasks.extra(i).and_then(|e| e.fate.as_ref());
            let code = fate.map_or(FAILED, |f| match exit_code(&f.outcome) {
                // It failed all the same.
                0 => FAILED,
                n => n,
            });
            if over.code == 0 {
                over.code = code.into();
                over.signal = fate.and_then(|f| f.outcome.signal);
            }
            if over.bad.len() < BAD {
                let task = job.tasks.is_array().then_some(i);
                over.bad.push(self.row(who, job, task));
            }
            over.bad.len() < BAD
        };
        let mut left = match &hit.part {
            Part::Tasks(t) => t.iter().copied().filter(bad).collect::<Vec<_>>(),
            Part::Whole if job.tasks.is_array() => {
                let stages = job.tasks.stages().iter().zip(0..);
                let bad = stages
                    .filter(|(s, _)| settled(**s) && **s != Stage::Done)
                    .map(|(_, i)| i);
                bad.take(BAD).collect()
            }
            Part::Whole => vec![0].into_iter().filter(bad).collect(),
        }
        .into_iter();
        while left.next().is_some_and(&mut add) {}
    }
}
