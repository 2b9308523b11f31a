//! Starts attempts in the order in which they came, as far as this host has room. Knows what was refused a moment
//! ago; what room there is, the host's own grants know.

use super::held::{Held, Stage, outcome};
use super::{Agent, Exec};
use crate::engine::jobs::types::{AgentEffect, Clock};
use libqueue::wire::job::{Attempt, Cause, JobRun, Key};
use libqueue::wire::{ErrorCode, Need};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A full host is asked again after so long, should nothing end here before.
const AGAIN: u64 = 250;

/// The attempts that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Starting {
    /// In the order of their coming.
    queue: BTreeMap<u64, Key>,
    /// Place of the last one that came.
    last: u64,
    /// The first one that was not looked at since there was reason to hope.
    cursor: u64,
    /// The host was asked about this one.
    asking: Option<Key>,
    /// Needs for which there was no room.
    refused: Vec<Need>,
    /// When all are tried again.
    again: Option<u64>,
    /// Who runs in whose slot: the one that waits, and the one that it waits for.
    lent: BTreeMap<Key, Key>,
    /// What jobs execute, while attempts of them may come or wait.
    runs: BTreeMap<u64, Arc<JobRun>>,
}

impl Starting {
    pub(super) fn wait(&mut self, place: u64, key: Key) {
        self.queue.insert(place, key);
        self.cursor = self.cursor.min(place);
    }

    pub(super) fn no_longer_waits(&mut self, place: u64) {
        self.queue.remove(&place);
    }

    /// It uses nothing any more: there may be room.
    pub(super) fn free(&mut self, key: &Key) {
        self.lent.retain(|_, child| child != key);
        self.hope();
    }

    fn hope(&mut self) {
        self.cursor = 0;
        self.refused.clear();
        self.again = None;
    }

    /// All are looked at once more.
    pub(super) fn look_again(&mut self) {
        self.cursor = 0;
    }

    pub(super) fn wake(&self) -> Option<u64> {
        self.again
            .filter(|_| !self.queue.is_empty() && self.asking.is_none())
    }

    pub(super) fn keep_run(&mut self, run: JobRun) {
        self.runs.insert(run.job, Arc::new(run));
    }

    pub(super) fn has_run(&self, job: u64) -> bool {
        self.runs.contains_key(&job)
    }

    /// Whether something of this size was refused, so that asking again is in vain.
    fn in_vain(&self, need: &Need) -> bool {
        self.refused.iter().any(|r| {
            need.cores >= r.cores
                && need.mem >= r.mem
                && need.gpus >= r.gpus
                && need.disk >= r.disk
                && need.expr == r.expr
        })
    }
}

fn need(held: &Held) -> Need {
    let need = held.attempt.as_ref().and_then(|a| a.need.clone());
    need.unwrap_or_default()
}

impl Agent {
    /// An attempt came.
    pub(super) fn take_in(&mut self, attempt: Attempt, out: &mut Vec<AgentEffect>) {
        let Some(key) = attempt.key else { return };
        if self.held.contains_key(&key) {
            return;
        }
        self.starting.last += 1;
        let place = self.starting.last;
        let held = Held {
            lease: attempt.lease_ms,
            deadline: self.first_deadline(attempt.lease_ms),
            attempt: Some(Box::new(attempt)),
            place,
            ..Held::new(Stage::Waiting)
        };
        self.held.insert(key, held);
        if self.starting.has_run(key.job) {
            self.starting.wait(place, key);
        } else {
            let text = "the leader sent the attempt without what it executes";
            self.end(key, outcome(Cause::NotStarted, text), false, out);
        }
    }

    /// No more attempts of this job are to come.
    pub(super) fn job_over(&mut self, job: u64) {
        if !self.starting.queue.values().any(|k| k.job == job) && !self.handed(job) {
            self.starting.runs.remove(&job);
        }
    }

    /// The leader sends runs anew on a new connection.
    pub(super) fn drop_runs(&mut self) {
        let mut runs = std::mem::take(&mut self.starting.runs);
        let waiting = &self.starting.queue;
        runs.retain(|job, _| waiting.values().any(|k| k.job == *job) || self.handed(*job));
        self.starting.runs = runs;
    }

    /// Whether an attempt of it may have to be handed to queue-exec once more.
    fn handed(&self, job: u64) -> bool {
        let from = Key {
            job,
            task: 0,
            attempt: 0,
        };
        let mut all = self.held.range(from..).take_while(|(k, _)| k.job == job);
        all.any(|(_, h)| h.stage == Stage::Handed)
    }

    /// Asks this host whether the next one may start. One question at a time: the answer changes what is asked next.
    pub(super) fn start_some(&mut self, clock: Clock, out: &mut Vec<AgentEffect>) {
        if self.exec != Exec::Told || self.starting.asking.is_some() || self.starting.queue.is_empty() {
            return;
        }
        if self.starting.again.is_some_and(|t| t <= clock.boot) {
            self.starting.hope();
        }
        let mut unleased = false;
        while let Some((&place, &key)) = self.starting.queue.range(self.starting.cursor..).next() {
            self.starting.cursor = place + 1;
            let Some(held) = self.held.get(&key) else { continue };
            if !held.leased_enough(clock) {
                unleased = true;
                continue;
            }
            let lent = self.slot_of(held);
            let need = need(held);
            if lent.is_none() && self.starting.in_vain(&need) {
                continue;
            }
            if let Some(parent) = lent {
                self.starting.lent.insert(parent, key);
            }
            if let Some(held) = self.held.get_mut(&key) {
                held.stage = Stage::Asking;
            }
            self.starting.asking = Some(key);
            out.push(AgentEffect::Grant { key, need, lent });
            break;
        }
        if unleased {
            self.renew_to_start(clock, out);
        }
    }

    /// The attempt in whose slot this one may run: it runs here, and nobody else has its slot.
    fn slot_of(&self, held: &Held) -> Option<Key> {
        let parent = held.attempt.as_ref()?.parent?;
        let runs = matches!(self.held.get(&parent)?.stage, Stage::Runs(_));
        (runs && !self.starting.lent.contains_key(&parent)).then_some(parent)
    }

    pub(super) fn try_later(&mut self, clock: Clock) {
        self.starting.again.get_or_insert(clock.boot + AGAIN);
    }

    pub(super) fn granted(&mut self, clock: Clock, key: Key, out: &mut Vec<AgentEffect>) {
        if self.starting.asking != Some(key) {
            out.push(AgentEffect::Ungrant(key));
            return;
        }
        self.starting.asking = None;
        let told = self.exec == Exec::Told;
        let run = self.starting.runs.get(&key.job);
        let held = self.held.get_mut(&key).filter(|h| h.stage == Stage::Asking);
        match (held, run) {
            (Some(held), Some(run)) if told && held.leased(clock) => {
                let Some(attempt) = held.attempt.clone() else {
                    return;
                };
                held.stage = Stage::Handed;
                self.starting.queue.remove(&held.place);
                out.push(AgentEffect::Run {
                    attempt,
                    run: Arc::clone(run),
                    deadline: held.deadline,
                });
            }
            (held, _) => {
                out.push(AgentEffect::Ungrant(key));
                if let Some(held) = held {
                    held.stage = Stage::Waiting;
                }
                self.starting.free(&key);
            }
        }
    }

    pub(super) fn not_granted(
        &mut self,
        clock: Clock,
        key: Key,
        code: ErrorCode,
        text: String,
        out: &mut Vec<AgentEffect>,
    ) {
        if self.starting.asking != Some(key) {
            return;
        }
        self.starting.asking = None;
        let lent = self.starting.lent.values().any(|child| *child == key);
        self.starting.lent.retain(|_, child| *child != key);
        let held = self.held.get_mut(&key).filter(|h| h.stage == Stage::Asking);
        let Some(held) = held else { return };
        if matches!(code, ErrorCode::Draining | ErrorCode::Unfit) {
            self.end(key, outcome(Cause::NotStarted, text), false, out);
            return;
        }
        held.stage = Stage::Waiting;
        let need = need(held);
        if !lent {
            self.starting.refused.push(need);
        }
        self.try_later(clock);
    }

    pub(super) fn not_run(&mut self, key: Key, text: String, elsewhere: bool, out: &mut Vec<AgentEffect>) {
        let Some(held) = self.held.get(&key) else { return };
        if held.stage != Stage::Handed {
            return;
        }
        out.push(AgentEffect::Ungrant(key));
        let cause = if elsewhere {
            Cause::NotStarted
        } else {
            Cause::Rejected
        };
        if held.end.is_some() {
            self.end_unstarted(key, out);
        } else {
            self.end(key, outcome(cause, text), false, out);
        }
    }
}
