//! Lost hosts and leases. A host is lost when membership says that it is dead, or when it has not been heard of
//! for a minute. What becomes of what ran there is its owner's choice; until it is known to have ended, its units
//! are not given to others.

use super::table::{Phase, Stage};
use super::{Leader, LeaderEffect, Timer, log};
use crate::engine::jobs::post::EventKind;
use crate::engine::types::Level;
use crate::store::Op;
use libqueue::wire::job::{Cause, Key, Outcome, Restart, State};

/// A host that has not said all that it has for so long is lost.
pub(super) const AWAY: u64 = 60_000;
/// One that membership calls dead has so long to come back: a daemon that is replaced says goodbye, too.
pub(super) const DEAD: u64 = 5_000;

/// So long after its end a lease counts as run out: clocks run at different speeds.
pub(super) fn margin(lease_ms: u64) -> u64 {
    (lease_ms / 50).max(2000)
}

impl Leader {
    /// Looks whether a host has been away too long.
    pub(super) fn away_too_long(&mut self, host: &str, out: &mut Vec<LeaderEffect>) {
        let now = self.clock.boot;
        let Some(state) = self.hosts.get(host) else { return };
        let dead = state.dead && now >= state.dead_since + DEAD;
        let away = state.away.is_some_and(|since| now >= since + AWAY);
        if state.lost || !(dead || away) {
            return;
        }
        // A connection with a host that is dead is a memory: if it lives, it opens another one.
        if dead && let Some(conn) = state.link.as_ref().map(|l| l.conn) {
            self.unlinked(host, conn);
            out.push(LeaderEffect::Close {
                conn,
                why: format!("{host} does not answer"),
            });
        }
        self.lose(host, out);
    }

    /// A host is lost.
    pub(super) fn lose(&mut self, host: &str, out: &mut Vec<LeaderEffect>) {
        let Some(state) = self.hosts.get_mut(host) else {
            return;
        };
        if std::mem::replace(&mut state.lost, true) || state.attempts.is_empty() {
            return;
        }
        let keys: Vec<Key> = state.attempts.iter().copied().collect();
        log(
            out,
            Level::Warn,
            format!("{host} is lost, with {} attempts of jobs", keys.len()),
        );
        for key in keys {
            self.lose_attempt(key, host, out);
        }
    }

    fn lose_attempt(&mut self, key: Key, host: &str, out: &mut Vec<LeaderEffect>) {
        let Some(index) = self.index(key) else { return };
        let Some(live) = self.live.get_mut(&key) else {
            return;
        };
        if std::mem::replace(&mut live.lost, true) || live.old {
            return;
        }
        if live.kill.is_some() {
            live.old = true;
            self.stage(key.job, index, Stage::Killed);
            self.write_task(key.job, index, out);
            self.tell(EventKind::Ended, key, None, State::Killed, host);
            return self.look_over(key.job, out);
        }
        let (lease, until) = (live.row.lease_ms, live.lease_until);
        let policy = self.jobs.get(&key.job).map(|j| j.row.plan.restart);
        if lease > 0 {
            self.stage(key.job, index, Stage::Lost);
            self.timer(until + margin(lease), Timer::Lease(key));
        } else if policy == Some(Restart::Fail as i32) {
            if let Some(live) = self.live.get_mut(&key) {
                live.old = true;
            }
            let outcome = Outcome {
                cause: Cause::HostLost as i32,
                text: format!("{host} was lost while it ran"),
                ..Outcome::default()
            };
            self.stage(key.job, index, Stage::Failed);
            self.keep_fate(key.job, index, &outcome, host);
            self.write_task(key.job, index, out);
            // How the attempt ends there is not known yet: the job itself says why it has failed.
            if let Some(job) = self.jobs.get_mut(&key.job).filter(|j| j.row.plan.array.is_none()) {
                job.row.reason = format!("host lost: {}", outcome.text);
                out.push(LeaderEffect::Store(Op::Row(Box::new(job.row.clone()))));
            }
            self.tell(EventKind::Ended, key, Some(&outcome), State::Failed, host);
            self.look_over(key.job, out);
        } else {
            self.stage(key.job, index, Stage::Lost);
            self.tell(EventKind::Lost, key, None, State::Lost, host);
        }
    }

    /// The lease of an attempt on a lost host has run out: it has ended there, whoever could see it or not.
    pub(super) fn lease_over(&mut self, key: Key, out: &mut Vec<LeaderEffect>) {
        let Some(live) = self.live.get(&key) else { return };
        if !live.lost || live.old {
            return;
        }
        let due = live.lease_until + margin(live.row.lease_ms);
        if due > self.clock.boot {
            return self.timer(due, Timer::Lease(key));
        }
        let outcome = Outcome {
            cause: Cause::Lease as i32,
            text: format!("{} could not be reached until its lease ran out", live.row.host),
            ..Outcome::default()
        };
        self.end_attempt(key, &outcome, Some(Stage::Again), out);
    }

    /// A host was removed: nobody waits for what was superseded there.
    pub(super) fn removed(&mut self, host: &str, out: &mut Vec<LeaderEffect>) {
        let Some(state) = self.hosts.get(host) else { return };
        let old = state
            .attempts
            .iter()
            .filter(|k| self.live.get(k).is_some_and(|l| l.old));
        let old: Vec<Key> = old.copied().collect();
        for key in old {
            let outcome = Outcome {
                cause: Cause::HostLost as i32,
                text: format!("{host} is no longer a member"),
                ..Outcome::default()
            };
            self.end_attempt(key, &outcome, None, out);
        }
    }

    /// An attempt was stopped, or goes on.
    pub(super) fn stopped(&mut self, host: &str, key: Key, stopped: bool) {
        let Some(live) = self.live.get_mut(&key).filter(|l| l.row.host == host) else {
            return;
        };
        if live.old || live.phase == Phase::Sent {
            return;
        }
        live.phase = if stopped { Phase::Stopped } else { Phase::Running };
        let to = super::hosts::stage_of(live.phase);
        if let Some(index) = self.index(key) {
            self.stage(key.job, index, to);
        }
    }

    /// Writes down where a task is.
    pub(super) fn write_task(&mut self, id: u64, index: u32, out: &mut Vec<LeaderEffect>) {
        if let Some(job) = self.jobs.get(&id) {
            out.push(LeaderEffect::Store(Op::Task(job.task_row(index))));
        }
    }
}
