//! What answers are made of: rows, from whichever store. `history`, `stats` and the rest make answers of them and know
//! neither SQL nor maps.

use super::{AttemptRow, DeliveryRow, JobRow, StoreError, TaskRow};
use libqueue::wire::job::{JobRun, Outcome, TaskRange};

/// An attempt, ended or not.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Record {
    /// As it was sent.
    pub row: AttemptRow,
    /// When it ended; 0: it has not.
    pub ended_ms: u64,
    /// How.
    pub outcome: Option<Outcome>,
}

/// What statistics need of an attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Figure {
    /// Owner.
    pub owner: String,
    /// Where it ran.
    pub host: String,
    /// [`libqueue::wire::job::Cause`].
    pub cause: i32,
    /// Exit code.
    pub code: Option<u32>,
    /// Wall time in milliseconds.
    pub wall_ms: u64,
    /// CPU time in microseconds.
    pub cpu_us: u64,
    /// From the submission to the start of the first attempt, in milliseconds.
    pub waited_ms: Option<u64>,
}

/// A visitor: `false` ends the visit.
pub(super) type Visit<'a, T> = &'a mut dyn FnMut(T) -> Result<bool, StoreError>;

/// A part of the time: from, and before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// From, in milliseconds since the epoch.
    pub since: u64,
    /// Before.
    pub until: u64,
}

impl Span {
    /// Whether a time is in it.
    #[cfg(test)]
    pub(super) fn has(&self, at: u64) -> bool {
        self.since <= at && at < self.until
    }
}

/// Whether a task is one of a range; without a range: each is.
pub(super) fn in_range(range: Option<&TaskRange>, task: u32) -> bool {
    range.is_none_or(|r| (r.from..=r.to).contains(&task) && (task - r.from).is_multiple_of(r.step.max(1)))
}

/// Rows of a store as it is now.
pub(super) trait Source {
    /// Jobs that are over, the last to end first. `owner`: only his; empty: all.
    fn over(&self, span: Span, owner: &str, each: Visit<'_, JobRow>) -> Result<(), StoreError>;
    /// Jobs with these numbers, over or not, by number.
    fn jobs(&self, from: u64, to: u64, each: Visit<'_, JobRow>) -> Result<(), StoreError>;
    /// The latest attempts of a job, by when they ended, those that have not first; at most so many.
    fn latest(&self, job: u64, tasks: Option<&TaskRange>, most: usize) -> Result<Vec<Record>, StoreError>;
    /// How many attempts of a job were sent, when the first of them started, and the last one of all.
    fn summary(&self, job: u64, task: Option<u32>) -> Result<(u32, u64, Option<Record>), StoreError>;
    /// Attempts that ended, the last first, with the rows of their jobs.
    fn ended(&self, span: Span, owner: &str, each: Visit<'_, (JobRow, Record)>) -> Result<(), StoreError>;
    /// The same for statistics, in no order.
    fn figures(&self, since: u64, each: Visit<'_, Figure>) -> Result<(), StoreError>;
    /// The last attempt of each task, by task.
    fn last(&self, job: u64, tasks: Option<&TaskRange>, each: Visit<'_, Record>) -> Result<(), StoreError>;
    /// Tasks that are not as they were submitted, by number.
    fn tasks(&self, job: u64, each: Visit<'_, TaskRow>) -> Result<(), StoreError>;
    /// Deliveries of a job's output: those to do, and those that were done or given up, with why.
    fn homes(&self, job: u64) -> Result<Vec<(DeliveryRow, Option<String>)>, StoreError>;
    /// What a job executes.
    fn run(&self, job: u64) -> Result<Option<JobRun>, StoreError>;
    /// Letters to be sent.
    fn letters(&self) -> Result<u64, StoreError>;
    /// Bytes on disk.
    fn bytes(&self) -> u64;
    /// The time, in milliseconds since the epoch.
    fn now_ms(&self) -> u64;
}
