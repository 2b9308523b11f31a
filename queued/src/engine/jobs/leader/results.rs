//! Starts and ends of attempts. Knows that each may be said twice, late, or of an attempt that does not count any
//! more; what follows from an end, `retry` decides.

use super::retry::{Terms, verdict};
use super::table::{Phase, Stage};
use super::{Leader, LeaderEffect, Timer};
use crate::engine::jobs::post::EventKind;
use crate::store::Op;
use libqueue::wire::job::{Cause, Key, Outcome, Restart, Running, State, down, mail_when};

/// Longest text of an outcome that is kept.
const TEXT: usize = 1000;

impl Leader {
    /// The index of an attempt's task, if the job is there.
    pub(super) fn index(&self, key: Key) -> Option<u32> {
        self.jobs.get(&key.job)?.tasks.index(key.task)
    }

    /// An attempt has started.
    pub(super) fn started(
        &mut self,
        host: &str,
        conn: u64,
        key: Key,
        running: Option<Running>,
        out: &mut Vec<LeaderEffect>,
    ) {
        let clock = self.clock;
        let Some(live) = self.live.get_mut(&key).filter(|l| l.row.host == host) else {
            return self.kill_stray(conn, key, out);
        };
        if running.is_some() {
            live.running = running;
        }
        if live.phase != Phase::Sent {
            return;
        }
        live.phase = Phase::Running;
        live.row.started_ms = clock.wall;
        let old = live.old;
        out.push(LeaderEffect::Store(Op::Started {
            key,
            at_ms: clock.wall,
        }));
        self.sched.started(clock.boot, key);
        if old {
            return;
        }
        if let Some(index) = self.index(key) {
            self.stage(key.job, index, Stage::Running);
            self.tell(EventKind::Begin, key, None, State::Running, host);
        }
        if let Some(children) = self.children.get(&key) {
            self.dirty.extend(&children.jobs);
        }
    }

    /// A host says that an attempt has ended.
    pub(super) fn attempt_ended(
        &mut self,
        host: &str,
        conn: u64,
        key: Key,
        outcome: Option<Outcome>,
        out: &mut Vec<LeaderEffect>,
    ) {
        if self.live.get(&key).is_some_and(|l| l.row.host == host) {
            let mut outcome = outcome.unwrap_or_else(|| Outcome {
                cause: Cause::SessionLost as i32,
                text: "nobody knows how it ended".to_owned(),
                ..Outcome::default()
            });
            tidy(&mut outcome);
            self.end_attempt(key, &outcome, None, out);
        }
        // What is not known here was written down before, or does not count.
        out.push(LeaderEffect::Send {
            conn,
            message: down::Kind::Forget(key),
        });
    }

    /// An attempt has ended; `then`: what becomes of its task, if its outcome does not say it.
    pub(super) fn end_attempt(
        &mut self,
        key: Key,
        outcome: &Outcome,
        then: Option<Stage>,
        out: &mut Vec<LeaderEffect>,
    ) {
        let clock = self.clock;
        let Some(live) = self.live.remove(&key) else {
            return;
        };
        let host = live.row.host.clone();
        if let Some(state) = self.hosts.get_mut(&host) {
            state.attempts.remove(&key);
        }
        let ran = (live.phase != Phase::Sent || outcome.started_ms > 0).then_some(outcome.wall_ms);
        if live.lent.is_none() {
            self.sched.gone(clock.boot, key, ran);
        }
        self.give_units(key.job);
        if let Some(parent) = live.lent
            && let Some(children) = self.children.get_mut(&parent)
        {
            children.lent = false;
            self.dirty.extend(&children.jobs);
        }
        self.children.remove(&key);
        let Some(index) = self.index(key) else { return };
        let Some(job) = self.jobs.get_mut(&key.job) else {
            return;
        };
        job.live = job.live.saturating_sub(1);
        self.dirty.insert(key.job);
        // What was over before its start was told of has begun all the same, if somebody wants to know.
        let unsaid = !live.old && live.phase == Phase::Sent && outcome.started_ms > 0;
        if unsaid && job.row.plan.mail.is_some_and(|m| m & mail_when::BEGIN != 0) {
            self.tell(EventKind::Begin, key, None, State::Running, &host);
        }
        if !live.old {
            self.decide(key, index, outcome, &live, then);
        }
        self.at_home(&live, outcome, out);
        let Some(job) = self.jobs.get(&key.job) else {
            return;
        };
        out.push(LeaderEffect::Store(Op::Ended {
            key,
            at_ms: clock.wall,
            outcome: Box::new(outcome.clone()),
            task: job.task_row(index),
        }));
        let (stage, array) = (job.tasks.stage(index), job.tasks.is_array());
        if outcome.spooled {
            self.fetch(key.job, &host, out);
        }
        if !live.old && (stage.is_over() || stage == Stage::Buried) {
            self.tell(EventKind::Ended, key, Some(outcome), stage.state(false), &host);
        }
        if array
            && stage == Stage::Done
            && let Some(job) = self.jobs.get_mut(&key.job)
        {
            // What more there is to know is on disk: a million of them take a byte each here.
            job.tasks.forget(index);
        }
        self.look_over(key.job, out);
    }

    /// Puts the task where its outcome says.
    fn decide(&mut self, key: Key, index: u32, outcome: &Outcome, live: &super::Live, then: Option<Stage>) {
        let clock = self.clock;
        let Some(job) = self.jobs.get_mut(&key.job) else {
            return;
        };
        let terms = Terms {
            retries: job.row.plan.retries.unwrap_or(0),
            restart: job.row.plan.restart == Restart::Restart as i32,
            killed: live.kill.is_some(),
            revoked: live.revoked,
        };
        let mut v = verdict(outcome, job.tasks.extra(index), terms, &mut self.rng);
        // The directory of the submission need not be everywhere: where it was not, the job does not go again.
        if outcome.cause == Cause::Directory as i32
            && v.stage == Stage::Buried
            && job.row.plan.host.is_empty()
            && live.row.host != job.row.submit_host
        {
            let need = job.row.plan.need.get_or_insert_default();
            let not_there = format!("host != \"{}\"", live.row.host);
            need.expr = match need.expr.as_str() {
                "" => not_there,
                before => format!("({before}) && {not_there}"),
            };
            v.stage = Stage::Again;
        }
        if let Some(then) = then {
            v.stage = then;
        }
        let array = job.tasks.is_array();
        let extra = job.tasks.extra_mut(index);
        extra.failures = v.failures;
        extra.troubles = v.troubles;
        extra.not_before_ms = 0;
        if v.stage == Stage::Back {
            extra.not_before_ms = clock.wall + v.pause;
            extra.due = clock.boot + v.pause;
            let due = extra.due;
            self.timer(due, Timer::Back(key.job, index));
        }
        if outcome.cause != Cause::NotStarted as i32 && !(array && v.stage == Stage::Done) {
            self.keep_fate(key.job, index, outcome, &live.row.host);
        }
        self.stage(key.job, index, v.stage);
    }

    /// The pause of a task is over.
    pub(super) fn back(&mut self, id: u64, index: u32, due: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let waits = job.tasks.extra(index).is_some_and(|e| e.due == due);
        if job.tasks.stage(index) != Stage::Back || !waits {
            return;
        }
        job.tasks.extra_mut(index).not_before_ms = 0;
        self.stage(id, index, Stage::Again);
    }
}

/// What a host says is cut to what is kept.
fn tidy(outcome: &mut Outcome) {
    use libqueue::wire::job::ENDS_MAX;
    outcome.head.truncate(ENDS_MAX);
    if outcome.tail.len() > ENDS_MAX {
        outcome.tail.drain(..outcome.tail.len() - ENDS_MAX);
    }
    if outcome.text.len() > TEXT {
        let cut = (0..=TEXT)
            .rev()
            .find(|i| outcome.text.is_char_boundary(*i))
            .unwrap_or(0);
        outcome.text.truncate(cut);
    }
}
