//! Answers what people ask of the leader, and tells those that wait. Reads the leader's tables; changes nothing in
//! them but limits.
//!
//! `which` says which jobs are meant, `row` how one is shown, and each question has its module. What is not in memory
//! the store adds (`Read`).

use super::leader::{Change, Leader};
use super::types::{Asker, Clock, LeaderEffect, Read};
use crate::engine::types::AskId;
use libqueue::wire::job::{job_reply, query};
use libqueue::wire::{Error, ErrorCode};
use std::collections::{BTreeMap, BTreeSet};

mod details;
mod figures;
mod list;
mod row;
#[cfg(test)]
mod tests;
mod wait;
mod which;
mod why;

/// Those that wait for jobs, or watch them.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    lists: BTreeMap<AskId, list::Watch>,
    waits: BTreeMap<AskId, wait::Waiter>,
    /// Who waits for a job.
    by_job: BTreeMap<u64, BTreeSet<AskId>>,
    /// Who has to be told something, and when.
    due: BTreeSet<(u64, AskId)>,
    /// By which it is seen that jobs came or went.
    seen: (usize, usize, u64, u64),
}

impl Watchers {
    /// Somebody is to be told at a time; not later than was said before.
    fn remind(&mut self, ask: AskId, old: &mut Option<u64>, at: u64) {
        if old.is_some_and(|o| o <= at) {
            return;
        }
        if let Some(o) = old.replace(at) {
            self.due.remove(&(o, ask));
        }
        self.due.insert((at, ask));
    }
}

impl Leader {
    /// Answers a question that only looks, or sets a limit.
    pub(super) fn answer(
        &mut self,
        clock: Clock,
        ask: AskId,
        who: &Asker,
        query: query::Kind,
        out: &mut Vec<LeaderEffect>,
    ) {
        match query {
            query::Kind::List(list) => self.list(clock, ask, who, list, out),
            query::Kind::Show(which) => self.show(clock, ask, who, &which, out),
            query::Kind::Explain(which) => self.explain(clock, ask, who, &which, out),
            query::Kind::Wait(wait) => self.wait(clock, ask, who, wait, out),
            query::Kind::Outputs(which) => self.outputs(clock, ask, who, &which, out),
            query::Kind::Stats(stats) => self.stats(clock, ask, who, &stats, out),
            query::Kind::History(history) => read(ask, who, Read::History(history), out),
            query::Kind::Limits(limits) => self.show_limits(ask, who, limits, out),
            query::Kind::Export(_) if who.operator => read(ask, who, Read::Export, out),
            query::Kind::Export(_) => {
                let text = "a copy of the store is for operators (operators in queued.toml) only";
                refuse(ask, ErrorCode::Denied, text, out);
            }
            query::Kind::Classes(_) => self.show_classes(ask, out),
            query::Kind::Act(_) => refuse(ask, ErrorCode::BadRequest, "this only looks", out),
        }
    }

    /// After each input: `self.changes` has what is new.
    pub(super) fn tell_waiters(&mut self, clock: Clock, out: &mut Vec<LeaderEffect>) {
        let changes: Vec<Change> = std::mem::take(&mut self.changes);
        if self.watchers.lists.is_empty() && self.watchers.waits.is_empty() {
            return;
        }
        for c in &changes {
            self.note_change(clock, c, out);
        }
        self.watch_lists(clock, !changes.is_empty());
        while let Some((at, ask)) = self.watchers.due.first().copied() {
            if at > clock.boot {
                break;
            }
            self.watchers.due.pop_first();
            if self.watchers.lists.contains_key(&ask) {
                self.list_again(clock, ask, out);
            } else {
                self.push_progress(clock, ask, out);
            }
        }
    }

    /// Who asked no longer listens.
    pub(super) fn asker_gone(&mut self, ask: AskId) {
        let w = &mut self.watchers;
        let mut due = None;
        if let Some(l) = w.lists.remove(&ask) {
            due = l.due;
        }
        if let Some(x) = w.waits.remove(&ask) {
            due = due.or(x.due);
            for job in x.jobs.keys() {
                if let Some(all) = w.by_job.get_mut(job) {
                    all.remove(&ask);
                    if all.is_empty() {
                        w.by_job.remove(job);
                    }
                }
            }
        }
        if let Some(at) = due {
            w.due.remove(&(at, ask));
        }
    }

    /// When `tell_waiters` has more to say although nothing happens.
    pub(super) fn view_wake(&self) -> Option<u64> {
        self.watchers.due.first().map(|(at, _)| *at)
    }
}

/// Answers.
fn reply(ask: AskId, reply: job_reply::Kind, last: bool, out: &mut Vec<LeaderEffect>) {
    out.push(LeaderEffect::Reply { ask, reply, last });
}

/// Refuses.
fn refuse(ask: AskId, code: ErrorCode, text: impl Into<String>, out: &mut Vec<LeaderEffect>) {
    let error = Error {
        code: code as i32,
        text: text.into(),
    };
    reply(ask, job_reply::Kind::Error(error), true, out);
}

/// Has the store answer.
fn read(ask: AskId, who: &Asker, read: Read, out: &mut Vec<LeaderEffect>) {
    out.push(LeaderEffect::Read {
        ask,
        who: who.clone(),
        read,
    });
}
