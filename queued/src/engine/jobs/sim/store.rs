//! What is on the disks of the simulated world: the leader's store and the hosts' spools. A commit is all or nothing;
//! what is written is watched: no attempt has two results, none has one that never was.

use crate::store::{AttemptRow, DeliveryRow, JobRow, Loaded, Op, SpoolOp, Spooled, TaskRow};
use libqueue::wire::job::{Block, Cause, Key, Letter, Outcome, State, Submit};
use std::collections::{BTreeMap, BTreeSet};

/// The leader's store.
#[derive(Debug, Default)]
pub(super) struct Disk {
    epoch: u64,
    next_id: u64,
    blocks: BTreeMap<String, Block>,
    pub(super) jobs: BTreeMap<u64, JobRow>,
    pub(super) tasks: BTreeMap<(u64, u32), TaskRow>,
    pub(super) attempts: BTreeMap<Key, AttemptRow>,
    pub(super) results: BTreeMap<Key, Outcome>,
    pub(super) deleted: BTreeSet<u64>,
    pub(super) limits: BTreeMap<String, u32>,
    letters: BTreeMap<u64, Letter>,
    deliveries: BTreeMap<u64, DeliveryRow>,
    last_number: u64,
    pub(super) commits: u64,
    /// How jobs have ended, at any time.
    ends: BTreeSet<(u64, State)>,
}

impl Disk {
    pub(super) fn new() -> Self {
        Self {
            next_id: 1,
            ..Self::default()
        }
    }

    pub(super) fn load(&self) -> Loaded {
        let live = |id: &u64| self.jobs.get(id).is_some_and(|j| j.state == 0);
        let ended = self.jobs.values().filter(|j| j.state != 0);
        Loaded {
            epoch: self.epoch,
            next_id: self.next_id,
            blocks: self.blocks.iter().map(|(h, b)| (h.clone(), *b)).collect(),
            jobs: self.jobs.values().filter(|j| j.state == 0).cloned().collect(),
            tasks: self.tasks.values().filter(|t| live(&t.job)).copied().collect(),
            attempts: self.attempts.values().cloned().collect(),
            // This one keeps nothing of how attempts ended.
            recent: Vec::new(),
            ends: Vec::new(),
            over: ended
                .clone()
                .map(|j| (j.id, j.state as u8))
                .chain(self.deleted.iter().map(|id| (*id, 0)))
                .collect(),
            identities: ended
                .filter(|j| !j.identity.is_empty())
                .map(|j| (j.identity.clone(), j.id, j.ended_ms))
                .collect(),
            limits: self.limits.iter().map(|(n, t)| (n.clone(), *t)).collect(),
            letters: self.letters.values().cloned().collect(),
            deliveries: self.deliveries.values().cloned().collect(),
            last_number: self.last_number,
        }
    }

    /// Whether the job has ended, or failed as often as it may.
    pub(super) fn is_over(&self, job: u64) -> bool {
        if self.deleted.contains(&job) {
            return true;
        }
        let Some(row) = self.jobs.get(&job) else {
            return false;
        };
        let final_state = |s: i32| {
            let s = State::try_from(s);
            matches!(s, Ok(State::Done | State::Failed | State::Killed | State::Buried))
        };
        let over = |task: u32| self.tasks.get(&(job, task)).is_some_and(|t| final_state(t.state));
        row.state != 0
            || match &row.plan.array {
                None => over(0),
                Some(a) => a.ranges.iter().all(|r| (r.from..=r.to).all(over)),
            }
    }

    pub(super) fn has(&self, job: u64) -> bool {
        self.jobs.contains_key(&job) || self.deleted.contains(&job)
    }

    pub(super) fn commit(&mut self, ops: &[Op]) {
        self.commits += 1;
        for op in ops {
            self.apply(op);
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Epoch(e) => {
                assert!(
                    *e > self.epoch,
                    "the epoch does not rise: {e} after {}",
                    self.epoch
                );
                self.epoch = *e;
            }
            Op::NextId(n) => self.next_id = *n,
            Op::Block { host, block } => {
                self.blocks.insert(host.clone(), *block);
            }
            Op::Job { row, .. } => {
                let before = self.jobs.insert(row.id, (**row).clone());
                assert!(before.is_none(), "job {} is new twice", row.id);
            }
            Op::Row(row) => {
                assert!(self.jobs.contains_key(&row.id), "a row of no job: {}", row.id);
                self.jobs.insert(row.id, (**row).clone());
            }
            Op::Task(t) => {
                self.tasks.insert((t.job, t.task), *t);
                self.note_end(t.job);
            }
            Op::Attempt(a) => self.attempt(a),
            Op::Started { key, at_ms } => {
                if let Some(a) = self.attempts.get_mut(key) {
                    a.started_ms = *at_ms;
                }
            }
            Op::Ended {
                key, outcome, task, ..
            } => {
                self.ended(*key, outcome);
                self.tasks.insert((task.job, task.task), *task);
                self.note_end(task.job);
            }
            Op::Over { job, state, at_ms } => {
                if let Some(row) = self.jobs.get_mut(job) {
                    row.state = *state as i32;
                    row.ended_ms = *at_ms;
                    self.ends.insert((*job, *state));
                }
            }
            Op::Delete(job) => {
                self.jobs.remove(job);
                self.tasks.retain(|(j, _), _| j != job);
                self.attempts.retain(|k, _| k.job != *job);
                self.deleted.insert(*job);
            }
            Op::Limit(name, Some(total)) => {
                self.limits.insert(name.clone(), *total);
            }
            Op::Limit(name, None) => {
                self.limits.remove(name);
            }
            Op::Letter(l) => {
                self.last_number = self.last_number.max(l.number);
                self.letters.insert(l.number, (**l).clone());
            }
            Op::LetterGone(n) => {
                self.letters.remove(n);
            }
            Op::Delivery(d) => {
                self.last_number = self.last_number.max(d.number);
                self.deliveries.insert(d.number, d.clone());
            }
            Op::DeliveryGone(n, _) => {
                self.deliveries.remove(n);
            }
        }
    }

    /// Remembers how a job has ended, if all its tasks have.
    fn note_end(&mut self, job: u64) {
        if !self.is_over(job) {
            return;
        }
        let states = self.tasks.range((job, 0)..(job + 1, 0)).map(|(_, t)| t.state);
        let states: Vec<i32> = states.collect();
        if states.contains(&(State::Buried as i32)) {
            return;
        }
        let well = states.iter().all(|s| *s == State::Done as i32);
        self.ends
            .insert((job, if well { State::Done } else { State::Failed }));
    }

    /// As what a job has ended, at any time.
    pub(super) fn ended_as(&self, job: u64) -> impl Iterator<Item = State> {
        let ends = self.ends.range((job, State::Unknown)..(job + 1, State::Unknown));
        ends.map(|(_, s)| *s)
    }

    fn attempt(&mut self, a: &AttemptRow) {
        assert!(self.has(a.key.job), "an attempt of no job: {:?}", a.key);
        let of_task = |k: &&Key| (k.job, k.task) == (a.key.job, a.key.task);
        let known = self.attempts.keys().chain(self.results.keys());
        let last = known.filter(of_task).map(|k| k.attempt).max().unwrap_or(0);
        assert!(a.key.attempt > last, "attempt {:?} comes after {last}", a.key);
        self.attempts.insert(a.key, a.clone());
    }

    fn ended(&mut self, key: Key, outcome: &Outcome) {
        let there = self.attempts.remove(&key).is_some();
        let synthetic = outcome.cause == Cause::Rejected as i32 || outcome.cause == Cause::Dependency as i32;
        assert!(
            there || synthetic || key.attempt == 0,
            "a result of no attempt: {key:?}"
        );
        if key.attempt > 0 {
            let before = self.results.insert(key, outcome.clone());
            assert!(
                before.is_none(),
                "two results of {key:?}: {before:?} and {outcome:?}"
            );
        }
    }
}

/// A host's spool.
#[derive(Debug, Default)]
pub(super) struct Spool {
    block: Option<Block>,
    pub(super) submits: BTreeMap<u64, Submit>,
}

impl Spool {
    pub(super) fn load(&self) -> Spooled {
        Spooled {
            block: self.block,
            submits: self.submits.values().cloned().collect(),
        }
    }

    /// Whether its owner wants no second one like it.
    pub(super) fn is_deduped(&self, id: u64) -> bool {
        let plan = self.submits.get(&id).and_then(|s| s.plan.as_ref());
        plan.is_some_and(|p| p.dedupe.is_some())
    }

    pub(super) fn commit(&mut self, ops: &[SpoolOp]) {
        for op in ops {
            match op {
                SpoolOp::Block(b) => self.block = Some(*b),
                SpoolOp::Used(n) => {
                    if let Some(b) = &mut self.block {
                        b.from = (*n).max(b.from);
                    }
                }
                SpoolOp::Put(s) => {
                    self.submits.insert(s.id, (**s).clone());
                }
                SpoolOp::Gone(id) => {
                    self.submits.remove(id);
                }
            }
        }
    }
}
