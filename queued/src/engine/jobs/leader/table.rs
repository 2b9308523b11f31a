//! Jobs, tasks and attempts as the leader has them in memory. Knows how they are kept small and that counts fit;
//! decides nothing.
//!
//! A task is one byte: its [`Stage`]. Only tasks that run, wait for another try or did not end well have an
//! [`Extra`]: an array of a million tasks is a megabyte.

use crate::engine::jobs::types::HostView;
use crate::store::{AttemptRow, JobRow, TaskRow};
use libqueue::wire::Need;
use libqueue::wire::job::{Key, KillAttempt, Outcome, Running, State, TaskRange};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// How far a task is.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Never touched: waits or is ready, as its job is.
    Fresh,
    /// As `Fresh`, but it was something else before: it may have an [`Extra`].
    Again,
    /// Not to be tried before its time.
    Back,
    /// Held by itself.
    Held,
    /// Sent to a host; not known to have started.
    Sent,
    /// It runs.
    Running,
    /// It is stopped.
    Suspended,
    /// Its host is lost.
    Lost,
    /// It ended well.
    Done,
    /// It ended badly.
    Failed,
    /// Somebody killed it.
    Killed,
    /// It failed too often.
    Buried,
}

/// Number of [`Stage`]s.
pub(crate) const STAGES: usize = 12;

impl Stage {
    /// All of them.
    pub(crate) const ALL: [Self; STAGES] = [
        Self::Fresh,
        Self::Again,
        Self::Back,
        Self::Held,
        Self::Sent,
        Self::Running,
        Self::Suspended,
        Self::Lost,
        Self::Done,
        Self::Failed,
        Self::Killed,
        Self::Buried,
    ];

    /// Nothing follows unless somebody acts; a buried task is not over for those that wait for it.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Killed)
    }

    /// An attempt of it is somewhere.
    pub(crate) fn is_out(self) -> bool {
        matches!(self, Self::Sent | Self::Running | Self::Suspended | Self::Lost)
    }

    /// It could be sent, if its job may.
    pub(crate) fn is_idle(self) -> bool {
        matches!(self, Self::Fresh | Self::Again)
    }

    /// As people see it; `blocked`: something keeps the whole job.
    pub(crate) fn state(self, blocked: bool) -> State {
        match self {
            Self::Fresh | Self::Again if blocked => State::Waiting,
            Self::Fresh | Self::Again | Self::Sent => State::Ready,
            Self::Back | Self::Held => State::Waiting,
            Self::Running => State::Running,
            Self::Suspended => State::Suspended,
            Self::Lost => State::Lost,
            Self::Done => State::Done,
            Self::Failed => State::Failed,
            Self::Killed => State::Killed,
            Self::Buried => State::Buried,
        }
    }
}

/// More about a task that is not as it was submitted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Extra {
    /// Number of its last attempt; 0: none.
    pub attempt: u32,
    /// Failures that count against its retries.
    pub failures: u32,
    /// Attempts in a row that ended by no fault of its own.
    pub troubles: u32,
    /// Not to be tried before, in milliseconds since the epoch: for people and for the disk.
    pub not_before_ms: u64,
    /// The same by the clock that does not jump.
    pub due: u64,
    /// How its last attempt ended.
    pub fate: Option<Box<Fate>>,
}

/// How an attempt ended, as far as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fate {
    /// Without the ends of its output.
    pub outcome: Outcome,
    /// Where.
    pub host: String,
    /// When, by the leader's clock.
    pub ended_ms: u64,
}

/// The tasks of a job: one, number 0, if it is no array.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    /// Ranges of their numbers, each with the index of its first task.
    ranges: Vec<(u32, TaskRange)>,
    stages: Vec<Stage>,
    counts: [u32; STAGES],
    /// No task below this index is `Fresh`.
    cursor: u32,
    /// Those that are `Again`.
    again: BTreeSet<u32>,
    extras: BTreeMap<u32, Extra>,
}

/// How many numbers a range has.
pub(crate) fn range_len(r: &TaskRange) -> u32 {
    match r.to.checked_sub(r.from) {
        Some(d) => (d / r.step.max(1)).saturating_add(1),
        None => 0,
    }
}

impl Tasks {
    /// Tasks with these numbers; without ranges: no array.
    pub(crate) fn new(ranges: &[TaskRange]) -> Self {
        let (mut all, mut n) = (Vec::with_capacity(ranges.len()), 0u32);
        for r in ranges {
            all.push((n, *r));
            n = n.saturating_add(range_len(r));
        }
        let n = if ranges.is_empty() { 1 } else { n };
        let mut counts = [0; STAGES];
        counts[Stage::Fresh as usize] = n;
        Self {
            ranges: all,
            stages: vec![Stage::Fresh; n as usize],
            counts,
            cursor: 0,
            again: BTreeSet::new(),
            extras: BTreeMap::new(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        self.stages.len() as u32
    }

    /// Whether they are numbered.
    pub(crate) fn is_array(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// The number of the task with this index.
    pub(crate) fn number(&self, index: u32) -> u32 {
        let at = self.ranges.partition_point(|(first, _)| *first <= index);
        match at.checked_sub(1).and_then(|i| self.ranges.get(i)) {
            Some((first, r)) => r.from + (index - first) * r.step.max(1),
            None => 0,
        }
    }

    /// The index of the task with this number.
    pub(crate) fn index(&self, number: u32) -> Option<u32> {
        if self.ranges.is_empty() {
            return (number == 0).then_some(0);
        }
        let at = self.ranges.partition_point(|(_, r)| r.from <= number);
        let (first, r) = self.ranges.get(at.checked_sub(1)?)?;
        let (step, off) = (r.step.max(1), number - r.from);
        (number <= r.to && off.is_multiple_of(step)).then(|| first + off / step)
    }

    /// How far a task is.
    pub(crate) fn stage(&self, index: u32) -> Stage {
        self.stages.get(index as usize).copied().unwrap_or(Stage::Killed)
    }

    /// All of them, by index.
    pub(crate) fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// So many are there.
    pub(crate) fn count(&self, stage: Stage) -> u32 {
        self.counts[stage as usize]
    }

    /// So many could be sent, if the job may.
    pub(crate) fn idle(&self) -> u32 {
        self.count(Stage::Fresh) + self.count(Stage::Again)
    }

    /// All are over.
    pub(crate) fn all_over(&self) -> bool {
        self.count(Stage::Done) + self.count(Stage::Failed) + self.count(Stage::Killed) == self.len()
    }

    /// Puts a task somewhere else; what it was before.
    pub(crate) fn set(&mut self, index: u32, stage: Stage) -> Stage {
        // One that was never sent and lies ahead is as if nothing had been.
        let stage = match stage {
            Stage::Again if index >= self.cursor && !self.extras.contains_key(&index) => Stage::Fresh,
            Stage::Fresh if index < self.cursor => Stage::Again,
            s => s,
        };
        let Some(at) = self.stages.get_mut(index as usize) else {
            return stage;
        };
        let before = std::mem::replace(at, stage);
        if before != stage {
            self.counts[before as usize] -= 1;
            self.counts[stage as usize] += 1;
            if before == Stage::Again {
                self.again.remove(&index);
            }
            if stage == Stage::Again {
                self.again.insert(index);
            }
        }
        before
    }

    /// The task that should be sent next: those that are tried again first.
    pub(crate) fn next(&mut self) -> Option<u32> {
        if let Some(i) = self.again.first() {
            return Some(*i);
        }
        if self.count(Stage::Fresh) == 0 {
            return None;
        }
        let rest = self.stages.get(self.cursor as usize..)?;
        self.cursor += rest.iter().position(|s| *s == Stage::Fresh)? as u32;
        Some(self.cursor)
    }

    /// More about a task, if there is more.
    pub(crate) fn extra(&self, index: u32) -> Option<&Extra> {
        self.extras.get(&index)
    }

    /// More about a task, made if there is none.
    pub(crate) fn extra_mut(&mut self, index: u32) -> &mut Extra {
        self.extras.entry(index).or_default()
    }

    /// Nothing more is to be known about a task.
    pub(crate) fn forget(&mut self, index: u32) {
        self.extras.remove(&index);
    }

    /// Those of which more is known.
    pub(crate) fn extras(&self) -> &BTreeMap<u32, Extra> {
        &self.extras
    }

    /// Tasks with an attempt somewhere.
    pub(crate) fn out(&self) -> impl Iterator<Item = u32> {
        self.extras.keys().copied().filter(|i| self.stage(*i).is_out())
    }

    /// So many in each state.
    pub(crate) fn states(&self, blocked: bool) -> BTreeMap<State, u32> {
        let mut all = BTreeMap::new();
        for s in Stage::ALL {
            if self.count(s) > 0 {
                *all.entry(s.state(blocked)).or_default() += self.count(s);
            }
        }
        all
    }

    /// About how many bytes this takes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        let fates = self.extras.values().filter(|e| e.fate.is_some()).count();
        self.stages.capacity()
            + self.again.len() * 12
            + self.extras.len() * (size_of::<Extra>() + 16)
            + fates * (size_of::<Fate>() + 32)
    }

    /// Panics if the counts do not fit.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let mut counts = [0; STAGES];
        for s in &self.stages {
            counts[*s as usize] += 1;
        }
        assert_eq!(counts, self.counts, "tasks in each stage");
        for (i, s) in (0..).zip(&self.stages) {
            assert_eq!(
                self.again.contains(&i),
                *s == Stage::Again,
                "task {i} to be tried again"
            );
            assert!(
                *s != Stage::Fresh || i >= self.cursor,
                "task {i} below the cursor"
            );
            let known = self.extras.get(&i).is_some_and(|e| e.attempt > 0);
            assert!(!s.is_out() || known, "task {i} has an attempt without a number");
        }
    }
}

/// What limits how many run at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gate {
    /// A limit of the cluster.
    Limit(String),
    /// A class.
    Class(String),
}

/// Order among jobs: higher priority first, then as they came.
pub(crate) type Rank = (Reverse<i32>, u64, u64);

/// A job.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// What is on disk of it.
    pub row: JobRow,
    /// As it came.
    pub order: u64,
    /// Its tasks.
    pub tasks: Tasks,
    /// Attempts that have not ended, also those that are superseded.
    pub live: u32,
    /// Full: it waits for a unit.
    pub parked: Option<Gate>,
    /// Gates in which it counts as one that may go on.
    pub admitted: bool,
    /// So many tasks were last said to the scheduler to be ready.
    pub put: u32,
    /// Nothing of it runs or will, unless somebody acts: it does not count in its group.
    pub quiet: bool,
    /// The file by which hosts see the directory of the submission is gone.
    pub file_gone: bool,
    /// Connections over which its run went.
    pub sent_to: Vec<u64>,
    /// All its tasks are over; who waits for it was told how.
    pub ended: Option<State>,
}

impl Job {
    /// As it is before anything happens.
    pub(crate) fn new(row: JobRow, order: u64) -> Self {
        let ranges = row.plan.array.as_ref().map_or(&[][..], |a| &a.ranges);
        Self {
            tasks: Tasks::new(ranges),
            row,
            order,
            live: 0,
            parked: None,
            admitted: false,
            put: 0,
            quiet: true,
            file_gone: false,
            sent_to: Vec::new(),
            ended: None,
        }
    }

    /// Its priority.
    pub(crate) fn priority(&self) -> i32 {
        self.row.plan.priority.unwrap_or(0)
    }

    /// Its place among all.
    pub(crate) fn rank(&self) -> Rank {
        (Reverse(self.priority()), self.order, self.row.id)
    }

    /// It may not start now, whatever room there is: held, before its time, or something must happen first.
    pub(crate) fn blocked(&self, wall: u64) -> bool {
        !self.row.held.is_empty() || self.row.plan.at_ms > wall || !self.row.after.is_empty()
    }

    /// So many of its tasks may be sent, as far as the job itself says.
    pub(crate) fn ready(&self, wall: u64) -> u32 {
        if self.blocked(wall) || self.ended.is_some() {
            return 0;
        }
        let at_once = self.row.plan.array.as_ref().map_or(0, |a| a.at_once);
        match at_once {
            0 => self.tasks.idle(),
            n => self.tasks.idle().min(n.saturating_sub(self.live)),
        }
    }

    /// Nothing of it runs or will, unless somebody acts.
    pub(crate) fn is_quiet(&self) -> bool {
        let some = |s| self.tasks.count(s) > 0;
        let out = some(Stage::Sent) || some(Stage::Running) || some(Stage::Suspended) || some(Stage::Lost);
        !out && self.tasks.idle() == 0 && !some(Stage::Back) && !some(Stage::Held)
    }

    /// State of a task by its index.
    pub(crate) fn task_state(&self, index: u32, wall: u64) -> State {
        self.tasks.stage(index).state(self.blocked(wall))
    }

    /// State of the whole: of an array what most matters.
    pub(crate) fn state(&self, wall: u64) -> State {
        let t = &self.tasks;
        if !t.is_array() {
            return self.task_state(0, wall);
        }
        let some = |s: Stage| t.count(s) > 0;
        if t.all_over() {
            return if some(Stage::Failed) {
                State::Failed
            } else if some(Stage::Killed) {
                State::Killed
            } else {
                State::Done
            };
        }
        if some(Stage::Running) {
            State::Running
        } else if some(Stage::Suspended) {
            State::Suspended
        } else if some(Stage::Lost) {
            State::Lost
        } else if some(Stage::Sent) || (t.idle() > 0 && !self.blocked(wall)) {
            State::Ready
        } else if t.idle() > 0 || some(Stage::Back) || some(Stage::Held) {
            State::Waiting
        } else {
            State::Buried
        }
    }

    /// What is written down of a task.
    pub(crate) fn task_row(&self, index: u32) -> TaskRow {
        let stage = self.tasks.stage(index);
        let extra = self.tasks.extra(index);
        let state = match stage {
            Stage::Done => State::Done,
            Stage::Failed => State::Failed,
            Stage::Killed => State::Killed,
            Stage::Buried => State::Buried,
            _ => State::Waiting,
        };
        TaskRow {
            job: self.row.id,
            task: self.tasks.number(index),
            state: state as i32,
            attempt: extra.map_or(0, |e| e.attempt),
            failures: extra.map_or(0, |e| e.failures),
            not_before_ms: extra.map_or(0, |e| e.not_before_ms),
            held: stage == Stage::Held,
        }
    }

    /// The task's last attempt.
    pub(crate) fn key(&self, index: u32) -> Key {
        Key {
            job: self.row.id,
            task: self.tasks.number(index),
            attempt: self.tasks.extra(index).map_or(0, |e| e.attempt),
        }
    }

    /// What it needs.
    pub(crate) fn need(&self) -> Need {
        self.row.plan.need.clone().unwrap_or_default()
    }

    /// What limits how many of it run.
    pub(crate) fn gates(&self) -> impl Iterator<Item = Gate> {
        let limits = self.row.plan.limits.iter().map(|l| Gate::Limit(l.name.clone()));
        limits.chain(std::iter::once(Gate::Class(self.row.plan.class.clone())))
    }

    /// Names it, or a task of it, for people.
    pub(crate) fn label(&self, index: u32) -> String {
        label(self.row.id, self.tasks.number(index))
    }
}

/// Names a job or a task for people.
pub(crate) fn label(job: u64, task: u32) -> String {
    if task == 0 {
        job.to_string()
    } else {
        format!("{job}.{task}")
    }
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Sent; not known to have started.
    Sent,
    /// It runs.
    Running,
    /// It is stopped.
    Stopped,
}

/// An attempt that has not ended.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    /// What is on disk of it.
    pub row: AttemptRow,
    /// What it occupies.
    pub need: Need,
    /// How far it is.
    pub phase: Phase,
    /// What it said of itself.
    pub running: Option<Running>,
    /// The connection over which it went; 0: one of an earlier leader.
    pub conn: u64,
    /// Something took its place, or its task is over: whatever comes of it is only recorded.
    pub old: bool,
    /// It was asked back.
    pub revoked: bool,
    /// It is to be ended, and by whom.
    pub kill: Option<KillAttempt>,
    /// Its host is lost.
    pub lost: bool,
    /// Its lease ends at this time at the latest; 0: it has none.
    pub lease_until: u64,
    /// It runs in this one's slot.
    pub lent: Option<Key>,
    /// It was told to remove the file by which hosts see the directory of the submission.
    pub last: bool,
}

/// Jobs that an attempt submitted and waits for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Children {
    /// Those that have not ended.
    pub jobs: BTreeSet<u64>,
    /// One of them is in its slot.
    pub lent: bool,
}

/// A connection with a host.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// The shell's number.
    pub conn: u64,
    /// The host's number.
    pub link: u64,
    /// The host has said all that it has.
    pub complete: bool,
    /// Jobs whose runs it has.
    pub runs: BTreeSet<u64>,
}

/// A host, as the leader knows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostState {
    /// As membership sees it.
    pub dead: bool,
    /// It is a member.
    pub member: bool,
    /// The connection with its agent.
    pub link: Option<Link>,
    /// The life of its records, as it said last.
    pub life: Vec<u8>,
    /// Attempts there that have not ended.
    pub attempts: BTreeSet<Key>,
    /// Since when it has not said all that it has.
    pub away: Option<u64>,
    /// Since when membership says that it is dead.
    pub dead_since: u64,
    /// What membership said last.
    pub view: Option<HostView>,
    /// Highest number of its connections.
    pub last_link: u64,
    /// Given up for now.
    pub lost: bool,
    /// Size of the block of numbers that it had last, and when.
    pub block: (u64, u64),
}

impl HostState {
    /// It can be sent attempts.
    pub(crate) fn is_linked(&self) -> bool {
        self.link.as_ref().is_some_and(|l| l.complete)
    }
}

/// States of jobs that are over: a byte each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Over {
    pages: BTreeMap<u64, Box<[u8; 256]>>,
    number: u64,
}

/// State byte of a job that was deleted.
pub(crate) const DELETED: u8 = 255;

impl Over {
    /// Its state's number, if it is over.
    pub(crate) fn get(&self, job: u64) -> Option<u8> {
        let b = self.pages.get(&(job >> 8))?[(job & 255) as usize];
        (b != 0).then_some(b)
    }

    /// Its state, if it is over and not deleted.
    pub(crate) fn state(&self, job: u64) -> Option<State> {
        let b = self.get(job)?;
        State::try_from(i32::from(b)).ok()
    }

    /// It is over; 0: it is not any more.
    pub(crate) fn set(&mut self, job: u64, state: u8) {
        if state == 0 && self.get(job).is_none() {
            return;
        }
        let page = self.pages.entry(job >> 8).or_insert_with(|| Box::new([0; 256]));
        let at = &mut page[(job & 255) as usize];
        self.number = self.number + u64::from(state != 0) - u64::from(*at != 0);
        *at = state;
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.number
    }

    /// Numbers from `from` to `to` that are over.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u8)> {
        let pages = self.pages.range(from >> 8..=to >> 8);
        pages
            .flat_map(|(p, page)| (0..).zip(page.iter()).map(move |(i, b)| ((p << 8) + i, *b)))
            .filter(move |(id, b)| *b != 0 && (from..=to).contains(id))
    }
}

/// A job or task that is not as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// The job.
    pub job: u64,
    /// Number of the task; 0: no array.
    pub task: u32,
    /// What it was.
    pub before: State,
    /// What it is.
    pub after: State,
    /// Its last attempt; 0: none.
    pub attempt: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u32, to: u32, step: u32) -> TaskRange {
        TaskRange { from, to, step }
    }

    #[test]
    fn numbers_and_indices() {
        let t = Tasks::new(&[range(3, 9, 3), range(10, 10, 0), range(20, 25, 2)]);
        let numbers: Vec<u32> = (0..t.len()).map(|i| t.number(i)).collect();
        assert_eq!(numbers, [3, 6, 9, 10, 20, 22, 24]);
        for (i, n) in (0..).zip(&numbers) {
            assert_eq!(t.index(*n), Some(i));
        }
        for n in [0, 1, 4, 11, 21, 25, 26] {
            assert_eq!(t.index(n), None, "{n}");
        }
        let one = Tasks::new(&[]);
        assert_eq!(
            (one.len(), one.number(0), one.index(0), one.index(1)),
            (1, 0, Some(0), None)
        );
    }

    #[test]
    fn order_of_tasks() {
        let mut t = Tasks::new(&[range(1, 5, 1)]);
        let take = |t: &mut Tasks| {
            let i = t.next().unwrap();
            t.extra_mut(i).attempt += 1;
            t.set(i, Stage::Sent);
            t.check();
            i
        };
        assert_eq!((take(&mut t), take(&mut t)), (0, 1));
        t.set(0, Stage::Again);
        t.set(3, Stage::Held);
        t.check();
        assert_eq!((take(&mut t), take(&mut t), take(&mut t)), (0, 2, 4));
        assert_eq!((t.next(), t.idle()), (None, 0));
        t.set(3, Stage::Fresh);
        t.check();
        assert_eq!(t.next(), Some(3));
    }

    #[test]
    fn a_byte_for_each_job_that_is_over() {
        let mut over = Over::default();
        over.set(7, State::Done as u8);
        over.set(300, State::Failed as u8);
        over.set(300, State::Killed as u8);
        over.set(9, DELETED);
        assert_eq!(
            (over.state(7), over.state(300)),
            (Some(State::Done), Some(State::Killed))
        );
        assert_eq!(
            (over.state(9), over.get(9), over.get(8), over.len()),
            (None, Some(DELETED), None, 3)
        );
        assert_eq!(over.range(8, 400).map(|(id, _)| id).collect::<Vec<_>>(), [9, 300]);
        over.set(7, 0);
        over.set(8, 0);
        assert_eq!((over.get(7), over.len()), (None, 2));
    }
}
