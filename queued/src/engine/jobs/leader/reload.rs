//! A new leader takes over what the store has. Attempts that have not ended are taken to be on their hosts until
//! those say otherwise, or are lost; leases are taken to have been extended a moment ago.

use super::table::{DELETED, Fate, Gate, Job, Live, Phase, Stage};
use super::{Leader, LeaderEffect, Timer};
use crate::engine::jobs::post::Post;
use crate::engine::jobs::types::Clock;
use crate::store::{AttemptRow, LastEnd, Loaded, Recent, TaskRow};
use libqueue::wire::job::{Key, State};

/// Most of a pause that can be left after a start: the longest there is.
const PAUSE_MAX: u64 = 1_830_000;

impl Leader {
    pub(super) fn reload(&mut self, mut loaded: Loaded, out: &mut Vec<LeaderEffect>) {
        self.post = Post::new(loaded.letters, loaded.last_number);
        self.home.load(loaded.deliveries, loaded.last_number);
        for (job, state) in loaded.over {
            // What this version does not know is over all the same.
            self.over.set(job, if state == 0 { DELETED } else { state });
        }
        for (name, total) in loaded.limits {
            self.set_total(&Gate::Limit(name), Some(total));
        }
        for (identity, job, ended) in loaded.identities {
            self.identities.insert(identity, (job, ended));
        }
        for (host, block) in loaded.blocks {
            let state = self.hosts.entry(host).or_default();
            state.block = (block.to.saturating_sub(block.from), 0);
            self.next_id = self.next_id.max(block.to);
        }
        // As they came: numbers alone do not tell, as hosts have them in blocks.
        loaded.jobs.sort_by_key(|j| (j.submitted_ms, j.id));
        let ids: Vec<u64> = loaded.jobs.iter().map(|j| j.id).collect();
        for row in loaded.jobs {
            self.next_id = self.next_id.max(row.id + 1);
            self.insert(row);
        }
        for task in &loaded.tasks {
            self.reload_task(task);
        }
        for end in loaded.ends {
            if let Some(job) = self.jobs.get_mut(&end.key.job) {
                reload_fate(job, end);
            }
        }
        // The highest attempt of a task is the one that counts: it comes last.
        loaded.attempts.sort_by_key(|a| a.key);
        for row in loaded.attempts {
            self.reload_attempt(row);
        }
        for id in ids {
            self.judge_past(id, out);
            self.look_over(id, out);
        }
        for recent in loaded.recent {
            self.reload_ended(recent);
        }
        self.changes.clear();
        self.timer(self.clock.boot + 3_600_000, Timer::Prune);
    }

    fn reload_task(&mut self, row: &TaskRow) {
        let clock = self.clock;
        let Some(job) = self.jobs.get_mut(&row.job) else {
            return;
        };
        let Some((index, stage, pause)) = put(job, row, clock) else {
            return;
        };
        if stage == Stage::Back {
            self.timer(clock.boot + pause, Timer::Back(row.job, index));
        }
        self.tally(row.job);
    }

    /// A job that ended a short time ago is remembered as if it had ended here.
    fn reload_ended(&mut self, recent: Recent) {
        let mut row = recent.job;
        let state = State::try_from(row.state).unwrap_or_default();
        // What it waited for has happened, or does not matter any more.
        row.after.clear();
        let mut job = Job::new(row, self.next_order);
        for task in &recent.tasks {
            put(&mut job, task, self.clock);
        }
        for end in recent.ends {
            reload_fate(&mut job, end);
        }
        // Of what never ran the end of the job says it for all its tasks.
        let whole = match state {
            State::Killed => Some(Stage::Killed),
            State::Failed => Some(Stage::Failed),
            _ => None,
        };
        if let Some(stage) = whole.filter(|_| recent.tasks.is_empty()) {
            for index in 0..job.tasks.len() {
                job.tasks.set(index, stage);
            }
        }
        // Where not all is known only the history tells of it.
        if !job.tasks.all_over() || self.job(job.row.id).is_some() {
            return;
        }
        self.next_order += 1;
        job.ended = Some(state);
        self.keep_ended(job, state);
    }

    fn reload_attempt(&mut self, row: AttemptRow) {
        let clock = self.clock;
        let key = row.key;
        let Some(job) = self.jobs.get_mut(&key.job) else {
            return;
        };
        let Some(index) = job.tasks.index(key.task) else {
            return;
        };
        let last = job.tasks.extra(index).map_or(0, |e| e.attempt);
        let stage = job.tasks.stage(index);
        let ended = stage.is_over() || stage == Stage::Buried;
        // What was said to be over while an attempt was out stays so; what another one follows does not count.
        // Of a task of an array that is done the number of its last attempt is not kept.
        let old = key.attempt < last || (ended && (key.attempt == last || last == 0));
        let before = Key { attempt: last, ..key };
        job.live += 1;
        let phase = if row.started_ms > 0 {
            Phase::Running
        } else {
            Phase::Sent
        };
        let need = job.need();
        if !old {
            if stage.is_out()
                && let Some(earlier) = self.live.get_mut(&before)
            {
                earlier.old = true;
            }
            job.tasks.extra_mut(index).attempt = key.attempt;
            job.tasks.set(index, super::hosts::stage_of(phase));
        }
        let host = self.hosts.entry(row.host.clone()).or_default();
        if host.away.is_none() {
            host.away = Some(clock.boot);
            self.timers
                .insert((clock.boot + super::lost::AWAY, Timer::Away(row.host.clone())));
        }
        host.attempts.insert(key);
        // The scheduler has it as one that is there: the host comes later.
        self.sched.sent(clock.boot, &row.host, key, &need);
        if phase == Phase::Running {
            self.sched.started(clock.boot, key);
        }
        let live = Live {
            lease_until: if row.lease_ms > 0 {
                clock.boot + row.lease_ms
            } else {
                0
            },
            row,
            need,
            phase,
            running: None,
            conn: 0,
            old,
            revoked: false,
            kill: None,
            lost: false,
            lent: None,
            last: false,
        };
        self.live.insert(key, live);
        self.take_units(key.job);
        self.tally(key.job);
    }
}

/// How a task's last attempt ended. Of a task of an array that is done nothing more is kept.
fn reload_fate(job: &mut Job, end: LastEnd) {
    let Some(index) = job.tasks.index(end.key.task) else {
        return;
    };
    if job.tasks.is_array() && job.tasks.stage(index) == Stage::Done {
        return;
    }
    job.tasks.extra_mut(index).fate = Some(Box::new(Fate {
        outcome: end.outcome,
        host: end.host,
        ended_ms: end.ended_ms,
    }));
}

/// Puts a task where its row has it: its index, how far it is, and how long its pause goes on.
fn put(job: &mut Job, row: &TaskRow, clock: Clock) -> Option<(u32, Stage, u64)> {
    let index = job.tasks.index(row.task)?;
    let pause = row.not_before_ms.saturating_sub(clock.wall).min(PAUSE_MAX);
    let stage = match State::try_from(row.state).unwrap_or(State::Waiting) {
        State::Done => Stage::Done,
        State::Failed => Stage::Failed,
        State::Killed => Stage::Killed,
        State::Buried => Stage::Buried,
        _ if row.held => Stage::Held,
        _ if pause > 0 => Stage::Back,
        _ => Stage::Again,
    };
    let plain = stage == Stage::Done && job.tasks.is_array();
    if !plain && (row.attempt > 0 || row.failures > 0 || pause > 0) {
        let extra = job.tasks.extra_mut(index);
        extra.attempt = row.attempt;
        extra.failures = row.failures;
        extra.not_before_ms = row.not_before_ms;
        extra.due = clock.boot + pause;
    }
    job.tasks.set(index, stage);
    Some((index, stage, pause))
}
