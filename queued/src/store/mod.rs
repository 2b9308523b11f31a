//! What of batch jobs has to survive: the leader's store of jobs, attempts and results, and each host's spool of
//! submissions that the leader does not have yet. Knows rows and disks; decides nothing.

#[cfg(test)]
mod bench;
#[cfg(test)]
mod conformance;
mod error;
mod export;
#[cfg(test)]
mod faults;
mod filter;
mod history;
mod load;
#[cfg(test)]
pub(crate) mod memory;
mod open;
pub(crate) mod reader;
mod recent;
mod rows;
mod schema;
mod select;
mod source;
pub(crate) mod spool;
pub(crate) mod sqlite;
mod stats;
mod wal;
pub(crate) mod writer;

use crate::engine::jobs::types::{Asker, Read};
use libqueue::wire::job::{Block, JobRun, Key, Letter, Outcome, Plan, State, Submit, job_reply};

/// One change. What is given to one commit is on disk whole, or not at all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    /// This leader's epoch.
    Epoch(u64),
    /// Numbers below this one may have been given away.
    NextId(u64),
    /// A host was given these numbers.
    Block {
        /// The host.
        host: String,
        /// Which.
        block: Block,
    },
    /// A new job, with everything that was submitted.
    Job {
        /// As submitted: `run`, `entries` and the warrant are only kept in the store.
        submit: Box<Submit>,
        /// What changes.
        row: Box<JobRow>,
    },
    /// What changes of a job has changed.
    Row(Box<JobRow>),
    /// A task (0: the job itself, where it is no array) is no longer as it was when it was submitted.
    Task(TaskRow),
    /// An attempt is about to be sent to a host.
    Attempt(AttemptRow),
    /// An attempt has started, by the leader's clock.
    Started {
        /// Which.
        key: Key,
        /// When.
        at_ms: u64,
    },
    /// An attempt has ended, and its task is in this state now.
    Ended {
        /// Which.
        key: Key,
        /// By the leader's clock.
        at_ms: u64,
        /// How.
        outcome: Box<Outcome>,
        /// The task.
        task: TaskRow,
    },
    /// A job is over: nothing of it is loaded any more; it stays in the history.
    Over {
        /// The job.
        job: u64,
        /// Its final state.
        state: State,
        /// When.
        at_ms: u64,
    },
    /// Forget a job and its history.
    Delete(u64),
    /// A limit of the cluster; `None`: it is gone.
    Limit(String, Option<u32>),
    /// A letter to be sent.
    Letter(Box<Letter>),
    /// It was sent, or given up.
    LetterGone(u64),
    /// Output to be brought home.
    Delivery(DeliveryRow),
    /// It was, or was given up: why, if so.
    DeliveryGone(u64, String),
}

/// What changes of a job.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct JobRow {
    /// Number.
    pub id: u64,
    /// Owner.
    pub owner: String,
    /// Account that it runs as.
    pub login: String,
    /// Host of the submission.
    pub submit_host: String,
    /// When it was submitted, in milliseconds since the epoch.
    pub submitted_ms: u64,
    /// Its plan, with the class's defaults filled in.
    pub plan: Plan,
    /// The command in one line, cut to 200 characters: for lists.
    pub command: String,
    /// SHA-256 by which `--dedupe` knows it; empty: none.
    pub identity: Vec<u8>,
    /// Its tasks have entries.
    pub entries: bool,
    /// Somebody holds it: who.
    pub held: String,
    /// Jobs that it waits for: resolved at submission; those that have ended as wanted are taken out.
    pub after: Vec<(u64, i32)>,
    /// Its final state, [`State::Unknown`] as long as it is not over.
    pub state: i32,
    /// Why it is in that state, if that is not in an outcome: "rejected: ...", "12 failed".
    pub reason: String,
    /// When it ended, in milliseconds since the epoch.
    pub ended_ms: u64,
    /// Hosts that were found to see the directory of the submission.
    pub home_hosts: Vec<String>,
}

/// A task that is no longer as it was submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TaskRow {
    /// The job.
    pub job: u64,
    /// The task; 0: the job itself.
    pub task: u32,
    /// [`State`]: of `Waiting`, `Ready`, `Running`, `Suspended`, `Lost` only that it is not over is kept.
    pub state: i32,
    /// Number of its last attempt.
    pub attempt: u32,
    /// Failures that count against its retries.
    pub failures: u32,
    /// Not to be tried before, in milliseconds since the epoch.
    pub not_before_ms: u64,
    /// It is held by itself.
    pub held: bool,
}

/// An attempt that was sent.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct AttemptRow {
    /// Which.
    pub key: Key,
    /// Where.
    pub host: String,
    /// The life of that host's records ([`libqueue::wire::job::WorkHello::life`]).
    pub life: Vec<u8>,
    /// By which leader.
    pub epoch: u64,
    /// When, in milliseconds since the epoch.
    pub sent_ms: u64,
    /// Length of its lease in milliseconds; 0: none.
    pub lease_ms: u64,
    /// When it started; 0: not, as far as is known.
    pub started_ms: u64,
}

/// Output that has to be brought home.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DeliveryRow {
    /// Number.
    pub number: u64,
    /// The job.
    pub job: u64,
    /// The host that has it; empty: only the nonce file is to be removed.
    pub from: String,
    /// The host of the submission.
    pub to: String,
    /// Tries so far.
    pub tries: u32,
}

/// How the last attempt of a task ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct LastEnd {
    /// Which.
    pub key: Key,
    /// Where it was.
    pub host: String,
    /// When, in milliseconds since the epoch.
    pub ended_ms: u64,
    /// How, without the ends of its output.
    pub outcome: Outcome,
}

/// A job that ended a short time ago.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Recent {
    /// Its row.
    pub job: JobRow,
    /// Its tasks that are not as submitted, by number.
    pub tasks: Vec<TaskRow>,
    /// How the last attempts of its tasks ended, by number.
    pub ends: Vec<LastEnd>,
}

/// Everything that the leader starts from.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Loaded {
    /// The last epoch; 0: none yet.
    pub epoch: u64,
    /// First number that was never given away; at least 1.
    pub next_id: u64,
    /// Numbers that hosts have: the latest block of each.
    pub blocks: Vec<(String, Block)>,
    /// Jobs that are not over.
    pub jobs: Vec<JobRow>,
    /// Their tasks that are not as submitted, by job and task.
    pub tasks: Vec<TaskRow>,
    /// How the last attempts of those ended that are over; of very many only some.
    pub ends: Vec<LastEnd>,
    /// Attempts that have not ended.
    pub attempts: Vec<AttemptRow>,
    /// Jobs that ended in the last hour, the first to end first; of very many only the latest.
    pub recent: Vec<Recent>,
    /// Final states of jobs that are over: number, [`State`]; 0: it was deleted.
    pub over: Vec<(u64, u8)>,
    /// Jobs that ended in the last day and have an identity: it, number, when.
    pub identities: Vec<(Vec<u8>, u64, u64)>,
    /// Limits.
    pub limits: Vec<(String, u32)>,
    /// Letters to be sent.
    pub letters: Vec<Letter>,
    /// Output to be brought home.
    pub deliveries: Vec<DeliveryRow>,
    /// Highest number of a letter or delivery.
    pub last_number: u64,
}

/// Why the store does not do it. A store that cannot be opened or read is never deleted or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// The disk is full: may get better by itself.
    Full(String),
    /// It cannot be read or written now (permission, I/O, descriptors).
    Io(String),
    /// It is damaged, or of a newer version: somebody has to look.
    Damaged(String),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(e) | Self::Io(e) | Self::Damaged(e) => f.write_str(e),
        }
    }
}

impl std::error::Error for StoreError {}

/// Keeps jobs. One conformance suite holds for all that implement it.
#[allow(
    dead_code,
    reason = "the daemon reads beside the writer, with `reader`; simulations read here"
)]
pub(crate) trait JobStore: Send {
    /// What is live.
    fn load(&mut self) -> Result<Loaded, StoreError>;
    /// All of it, durably, or nothing.
    fn commit(&mut self, ops: &[Op]) -> Result<(), StoreError>;
    /// What a job executes; `None`: there is no such job.
    fn run(&self, job: u64) -> Result<Option<JobRun>, StoreError>;
    /// Entries of its tasks.
    fn entries(&self, job: u64) -> Result<Vec<Vec<u8>>, StoreError>;
    /// Completes an answer. An export is many chunks, and `Over`.
    fn read(&self, who: &Asker, read: Read, reply: &mut dyn FnMut(job_reply::Kind))
    -> Result<(), StoreError>;
}

/// A change of a host's spool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SpoolOp {
    /// The leader gave this host these numbers.
    Block(Block),
    /// Numbers below this one of the block are given away.
    Used(u64),
    /// A submission that the leader does not have yet.
    Put(Box<Submit>),
    /// It has it.
    Gone(u64),
}

/// Everything that an agent starts from.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Spooled {
    /// Numbers that this host may give away: `from` is the first one that it has not.
    pub block: Option<Block>,
    /// Submissions that the leader does not have, oldest first.
    pub submits: Vec<Submit>,
}

/// Keeps the spool.
pub(crate) trait SpoolStore: Send {
    /// What is there.
    fn load(&mut self) -> Result<Spooled, StoreError>;
    /// All of it, durably, or nothing.
    fn commit(&mut self, ops: &[SpoolOp]) -> Result<(), StoreError>;
}
