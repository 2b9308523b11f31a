//! Both stores in memory, with the same meaning: for simulations and tests. Cheap to clone: what is large is shared.

use super::load::DAY;
use super::source::{Figure, Record, Source, Span, Visit, in_range};
use super::{
    AttemptRow, DeliveryRow, JobRow, JobStore, Loaded, Op, SpoolOp, SpoolStore, Spooled, StoreError, TaskRow,
    history, recent,
};
use crate::engine::jobs::types::{Asker, Read};
use libqueue::wire::job::{Block, JobRun, Letter, State, Submit, TaskRange, job_reply};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

type TaskKey = (u64, u32);
type AttemptKey = (u64, u32, u32);

/// The leader's store.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryStore {
    epoch: u64,
    next_id: u64,
    last_number: u64,
    blocks: BTreeMap<String, Block>,
    jobs: BTreeMap<u64, Arc<JobRow>>,
    runs: BTreeMap<u64, Arc<Submit>>,
    tasks: BTreeMap<TaskKey, TaskRow>,
    flying: BTreeMap<AttemptKey, Arc<AttemptRow>>,
    attempts: BTreeMap<AttemptKey, Arc<Record>>,
    limits: BTreeMap<String, u32>,
    letters: BTreeMap<u64, Arc<Letter>>,
    deliveries: BTreeMap<u64, DeliveryRow>,
    delivered: BTreeMap<(u64, String), (DeliveryRow, String)>,
    deleted: BTreeSet<u64>,
    /// The latest time that was written: there is no other clock here.
    now: u64,
}

impl MemoryStore {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Epoch(n) => self.epoch = *n,
            Op::NextId(n) => self.next_id = *n,
            Op::Block { host, block } => drop(self.blocks.insert(host.clone(), *block)),
            Op::Job { submit, row } => {
                self.now = self.now.max(row.submitted_ms);
                self.runs.insert(row.id, Arc::new((**submit).clone()));
                self.jobs.insert(row.id, Arc::new((**row).clone()));
            }
            Op::Row(r) => drop(self.jobs.insert(r.id, Arc::new((**r).clone()))),
            Op::Task(t) => drop(self.tasks.insert((t.job, t.task), *t)),
            Op::Attempt(a) => {
                self.now = self.now.max(a.sent_ms);
                let key = (a.key.job, a.key.task, a.key.attempt);
                self.flying.insert(key, Arc::new(a.clone()));
            }
            Op::Started { key, at_ms } => {
                if let Some(a) = self.flying.get_mut(&(key.job, key.task, key.attempt)) {
                    Arc::make_mut(a).started_ms = *at_ms;
                }
            }
            Op::Ended {
                key,
                at_ms,
                outcome,
                task,
            } => {
                self.now = self.now.max(*at_ms);
                let id = (key.job, key.task, key.attempt);
                let mut row = self
                    .flying
                    .remove(&id)
                    .map(|a| (*a).clone())
                    .or_else(|| self.attempts.get(&id).map(|r| r.row.clone()))
                    .unwrap_or_default();
                row.key = *key;
                row.life.clear();
                let record = Record {
                    row,
                    ended_ms: *at_ms,
                    outcome: Some((**outcome).clone()),
                };
                self.attempts.insert(id, Arc::new(record));
                self.tasks.insert((task.job, task.task), *task);
            }
            Op::Over { job, state, at_ms } => {
                self.now = self.now.max(*at_ms);
                if let Some(j) = self.jobs.get_mut(job) {
                    let j = Arc::make_mut(j);
                    j.state = *state as i32;
                    j.ended_ms = *at_ms;
                }
            }
            Op::Delete(job) => self.delete(*job),
            Op::Limit(name, Some(total)) => drop(self.limits.insert(name.clone(), *total)),
            Op::Limit(name, None) => drop(self.limits.remove(name)),
            Op::Letter(l) => {
                self.last_number = self.last_number.max(l.number);
                self.letters.insert(l.number, Arc::new((**l).clone()));
            }
            Op::LetterGone(n) => drop(self.letters.remove(n)),
            Op::Delivery(d) => {
                self.last_number = self.last_number.max(d.number);
                self.deliveries.insert(d.number, d.clone());
            }
            Op::DeliveryGone(n, why) => {
                if let Some(d) = self.deliveries.remove(n).filter(|d| !d.from.is_empty()) {
                    self.delivered.insert((d.job, d.from.clone()), (d, why.clone()));
                }
            }
        }
    }

    fn delete(&mut self, job: u64) {
        self.jobs.remove(&job);
        self.deleted.insert(job);
        self.runs.remove(&job);
        self.tasks.retain(|k, _| k.0 != job);
        self.flying.retain(|k, _| k.0 != job);
        self.attempts.retain(|k, _| k.0 != job);
        self.deliveries.retain(|_, d| d.job != job);
        self.delivered.retain(|k, _| k.0 != job);
    }

    fn live(&self, job: u64) -> bool {
        self.jobs
            .get(&job)
            .is_some_and(|j| j.state == State::Unknown as i32)
    }

    fn over_rows(&self) -> impl Iterator<Item = &JobRow> {
        self.jobs
            .values()
            .map(|j| &**j)
            .filter(|j| j.state != State::Unknown as i32)
    }

    fn of<V>(map: &BTreeMap<AttemptKey, V>, job: u64) -> impl Iterator<Item = &V> {
        map.range((job, 0, 0)..=(job, u32::MAX, u32::MAX)).map(|(_, v)| v)
    }
}

impl JobStore for MemoryStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let day = self.now.saturating_sub(DAY);
        let tasks: Vec<TaskRow> = self
            .tasks
            .values()
            .filter(|t| self.live(t.job))
            .copied()
            .collect();
        Ok(Loaded {
            epoch: self.epoch,
            next_id: self.next_id.max(1),
            blocks: self.blocks.iter().map(|(h, b)| (h.clone(), *b)).collect(),
            jobs: self
                .jobs
                .values()
                .filter(|j| self.live(j.id))
                .map(|j| (**j).clone())
                .collect(),
            ends: recent::ends(self, &tasks)?,
            tasks,
            recent: recent::recent(self)?,
            attempts: self.flying.values().map(|a| (**a).clone()).collect(),
            over: self
                .over_rows()
                .map(|j| (j.id, u8::try_from(j.state).unwrap_or(0)))
                .chain(self.deleted.iter().map(|id| (*id, 0)))
                .collect::<BTreeMap<_, _>>()
                .into_iter()
                .collect(),
            identities: self
                .over_rows()
                .filter(|j| !j.identity.is_empty() && j.ended_ms >= day)
                .map(|j| (j.identity.clone(), j.id, j.ended_ms))
                .collect(),
            limits: self.limits.iter().map(|(n, t)| (n.clone(), *t)).collect(),
            letters: self.letters.values().map(|l| (**l).clone()).collect(),
            deliveries: self.deliveries.values().cloned().collect(),
            last_number: self.last_number,
        })
    }

    fn commit(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        ops.iter().for_each(|op| self.apply(op));
        Ok(())
    }

    fn run(&self, job: u64) -> Result<Option<JobRun>, StoreError> {
        Ok(self.runs.get(&job).map(|s| JobRun {
            job,
            run: s.run.clone(),
            warrant: s.warrant.clone(),
            cert: s.cert.clone(),
        }))
    }

    fn entries(&self, job: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.runs.get(&job).map(|s| s.entries.clone()).unwrap_or_default())
    }

    fn read(
        &self,
        who: &Asker,
        read: Read,
        reply: &mut dyn FnMut(job_reply::Kind),
    ) -> Result<(), StoreError> {
        history::answer(self, who, read, reply)
    }
}

/// Shows all until one says that it is enough.
fn show<T>(all: impl IntoIterator<Item = T>, each: Visit<'_, T>) -> Result<(), StoreError> {
    for t in all {
        if !each(t)? {
            break;
        }
    }
    Ok(())
}

impl Source for MemoryStore {
    fn over(&self, span: Span, owner: &str, each: Visit<'_, JobRow>) -> Result<(), StoreError> {
        let wanted = |j: &&JobRow| span.has(j.ended_ms) && (owner.is_empty() || j.owner == owner);
        let mut all: Vec<&JobRow> = self.over_rows().filter(wanted).collect();
        all.sort_by_key(|j| std::cmp::Reverse((j.ended_ms, j.id)));
        show(all.into_iter().cloned(), each)
    }

    fn jobs(&self, from: u64, to: u64, each: Visit<'_, JobRow>) -> Result<(), StoreError> {
        let range = (Bound::Included(from), Bound::Included(to.max(from)));
        show(self.jobs.range(range).map(|(_, j)| (**j).clone()), each)
    }

    fn latest(&self, job: u64, tasks: Option<&TaskRange>, most: usize) -> Result<Vec<Record>, StoreError> {
        let flying = Self::of(&self.flying, job).map(|a| Record {
            row: (**a).clone(),
            ..Record::default()
        });
        let wanted = |r: &Record| in_range(tasks, r.row.key.task);
        let mut sent: Vec<Record> = flying.filter(wanted).collect();
        sent.sort_by_key(|r| std::cmp::Reverse((r.row.sent_ms, r.row.key)));
        let ended = Self::of(&self.attempts, job).map(|r| (**r).clone());
        let mut ended: Vec<Record> = ended.filter(wanted).collect();
        ended.sort_by_key(|r| std::cmp::Reverse((r.ended_ms, r.row.key)));
        sent.extend(ended);
        sent.truncate(most);
        Ok(sent)
    }

    fn summary(&self, job: u64, task: Option<u32>) -> Result<(u32, u64, Option<Record>), StoreError> {
        let range = task.map(|t| TaskRange {
            from: t,
            to: t,
            step: 1,
        });
        let all = self.latest(job, range.as_ref(), usize::MAX)?;
        let began = |r: &Record| match (r.row.started_ms, &r.outcome) {
            (0, Some(o)) => o.started_ms,
            (n, Some(_)) => n,
            (_, None) => 0,
        };
        let started = all.iter().map(began).filter(|s| *s > 0).min().unwrap_or(0);
        let n = u32::try_from(all.len()).unwrap_or(u32::MAX);
        Ok((n, started, all.into_iter().next()))
    }

    fn ended(&self, span: Span, owner: &str, each: Visit<'_, (JobRow, Record)>) -> Result<(), StoreError> {
        let mut all: Vec<(&JobRow, &Record)> = self
            .attempts
            .values()
            .filter(|r| span.has(r.ended_ms))
            .filter_map(|r| Some((&**self.jobs.get(&r.row.key.job)?, &**r)))
            .filter(|(j, _)| owner.is_empty() || j.owner == owner)
            .collect();
        all.sort_by_key(|(_, r)| std::cmp::Reverse((r.ended_ms, r.row.key)));
        show(all.into_iter().map(|(j, r)| (j.clone(), r.clone())), each)
    }

    fn figures(&self, since: u64, each: Visit<'_, Figure>) -> Result<(), StoreError> {
        let figures = self.attempts.values().filter(|r| r.ended_ms >= since).map(|r| {
            let job = self.jobs.get(&r.row.key.job);
            let o = r.outcome.clone().unwrap_or_default();
            let started = match r.row.started_ms {
                0 => o.started_ms,
                n => n,
            };
            let submitted = job.map_or(0, |j| j.submitted_ms);
            let first = r.row.key.attempt == 1 && started > 0 && submitted > 0;
            Figure {
                owner: job.map(|j| j.owner.clone()).unwrap_or_default(),
                host: r.row.host.clone(),
                cause: o.cause,
                code: o.code,
                wall_ms: o.wall_ms,
                cpu_us: o.cpu_us,
                waited_ms: first.then(|| started.saturating_sub(submitted)),
            }
        });
        show(figures, each)
    }

    fn last(&self, job: u64, tasks: Option<&TaskRange>, each: Visit<'_, Record>) -> Result<(), StoreError> {
        let mut last: BTreeMap<u32, Record> = BTreeMap::new();
        let ended = Self::of(&self.attempts, job).map(|r| (**r).clone());
        let flying = Self::of(&self.flying, job).map(|a| Record {
            row: (**a).clone(),
            ..Record::default()
        });
        for r in ended.chain(flying).filter(|r| in_range(tasks, r.row.key.task)) {
            let known = last.entry(r.row.key.task).or_default();
            if r.row.key.attempt >= known.row.key.attempt {
                *known = r;
            }
        }
        show(last.into_values(), each)
    }

    fn tasks(&self, job: u64, each: Visit<'_, TaskRow>) -> Result<(), StoreError> {
        show(
            self.tasks.range((job, 0)..=(job, u32::MAX)).map(|(_, t)| *t),
            each,
        )
    }

    fn homes(&self, job: u64) -> Result<Vec<(DeliveryRow, Option<String>)>, StoreError> {
        let todo = self
            .deliveries
            .values()
            .filter(|d| d.job == job)
            .map(|d| (d.clone(), None));
        let gone = self.delivered.values().filter(|(d, _)| d.job == job);
        let gone = gone.map(|(d, why)| {
            let row = DeliveryRow {
                number: 0,
                tries: 0,
                ..d.clone()
            };
            (row, Some(why.clone()))
        });
        Ok(todo.chain(gone).collect())
    }

    fn run(&self, job: u64) -> Result<Option<JobRun>, StoreError> {
        JobStore::run(self, job)
    }

    fn letters(&self) -> Result<u64, StoreError> {
        Ok(self.letters.len() as u64)
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn now_ms(&self) -> u64 {
        self.now
    }
}

/// A host's spool.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemorySpool {
    block: Option<Block>,
    submits: BTreeMap<u64, Arc<Submit>>,
}

impl SpoolStore for MemorySpool {
    fn load(&mut self) -> Result<Spooled, StoreError> {
        Ok(Spooled {
            block: self.block,
            submits: self.submits.values().map(|s| (**s).clone()).collect(),
        })
    }

    fn commit(&mut self, ops: &[SpoolOp]) -> Result<(), StoreError> {
        for op in ops {
            match op {
                SpoolOp::Block(b) => self.block = Some(*b),
                SpoolOp::Used(n) => {
                    if let Some(b) = &mut self.block {
                        b.from = b.from.max(*n);
                    }
                }
                SpoolOp::Put(s) => drop(self.submits.insert(s.id, Arc::new((**s).clone()))),
                SpoolOp::Gone(id) => drop(self.submits.remove(id)),
            }
        }
        Ok(())
    }
}
