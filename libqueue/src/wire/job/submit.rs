//! What is submitted: what a job executes, and what the scheduler needs to know of it.

use super::{Key, Selection};
use crate::wire::{Need, Rlimit};
use prost::{Enumeration, Message};

/// What is executed. Covered by the warrant.
#[derive(Clone, PartialEq, Message)]
pub struct Run {
    /// Program and arguments, executed as they are; with a script: its arguments, `argv[0]` being its name.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub argv: Vec<Vec<u8>>,
    /// `NAME=VALUE` each.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub env: Vec<Vec<u8>>,
    /// Working directory: that of the submission.
    #[prost(bytes = "vec", tag = "3")]
    pub cwd: Vec<u8>,
    /// Umask.
    #[prost(uint32, tag = "4")]
    pub umask: u32,
    /// Nice value, only ever raised.
    #[prost(int32, tag = "5")]
    pub nice: i32,
    /// Limits, only ever tightened.
    #[prost(message, repeated, tag = "6")]
    pub rlimits: Vec<Rlimit>,
    /// Text of the script as it was at submission; empty: `argv` is executed.
    #[prost(bytes = "vec", tag = "7")]
    pub script: Vec<u8>,
    /// Where standard output goes; relative to `cwd`, `%j %a %h %x %u %%` replaced. Empty: `queue-%j.out`, of a task
    /// of an array `queue-%j.%a.out`.
    #[prost(bytes = "vec", tag = "8")]
    pub output: Vec<u8>,
    /// Where standard error goes; empty: where the output goes.
    #[prost(bytes = "vec", tag = "9")]
    pub error: Vec<u8>,
    /// Host of the submission.
    #[prost(string, tag = "10")]
    pub submit_host: String,
    /// Name of a file in `cwd` that was made for this job and contains its own name: a host that finds it there sees
    /// the same directory. Empty: there is none.
    #[prost(string, tag = "11")]
    pub nonce_file: String,
    /// Number of entries, and root of their hash tree (`queue_exec::warrant`), if tasks have one each.
    #[prost(message, optional, tag = "13")]
    pub entries: Option<Entries>,
    /// Most bytes kept of the output; 0: the host's default.
    #[prost(uint64, tag = "14")]
    pub output_cap: u64,
    /// Throw the output away (`QMAIL=FALSE`).
    #[prost(bool, tag = "15")]
    pub discard: bool,
    /// Name of the job, for `%x`.
    #[prost(string, tag = "16")]
    pub name: String,
    /// Class, for `QUEUE_CLASS`.
    #[prost(string, tag = "17")]
    pub class: String,
    /// Random: two submissions are never the same.
    #[prost(bytes = "vec", tag = "18")]
    pub nonce: Vec<u8>,
    /// A task of an array: `QUEUE_TASK_ID` is set.
    #[prost(bool, tag = "19")]
    pub array: bool,
}

/// Entries of an array's tasks.
#[derive(Clone, PartialEq, Message)]
pub struct Entries {
    /// How many; task N has entry N - 1, or that of its place in the array's ranges.
    #[prost(uint32, tag = "1")]
    pub count: u32,
    /// Root of their hash tree.
    #[prost(bytes = "vec", tag = "2")]
    pub root: Vec<u8>,
}

/// What the scheduler needs to know. Zero or empty: not said, take the class's default.
#[derive(Clone, PartialEq, Message)]
pub struct Plan {
    /// Name for people.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Group.
    #[prost(string, tag = "2")]
    pub group: String,
    /// Class.
    #[prost(string, tag = "3")]
    pub class: String,
    /// Higher first.
    #[prost(sint32, optional, tag = "4")]
    pub priority: Option<i32>,
    /// Reserved while it runs; `mem` is also enforced.
    #[prost(message, optional, tag = "5")]
    pub need: Option<Need>,
    /// Only this host.
    #[prost(string, tag = "6")]
    pub host: String,
    /// Rather this host.
    #[prost(string, tag = "7")]
    pub prefer: String,
    /// How often it is tried again after a failure of its own.
    #[prost(uint32, optional, tag = "8")]
    pub retries: Option<u32>,
    /// It may run so long, in milliseconds.
    #[prost(uint64, tag = "9")]
    pub time_ms: u64,
    /// Signal sent before the end of its time.
    #[prost(uint32, tag = "10")]
    pub warn_signal: u32,
    /// So long before, in milliseconds.
    #[prost(uint64, tag = "11")]
    pub warn_ms: u64,
    /// What must have happened first.
    #[prost(message, repeated, tag = "12")]
    pub after: Vec<After>,
    /// Not before this time, in milliseconds since the epoch.
    #[prost(uint64, tag = "13")]
    pub at_ms: u64,
    /// The tasks, if it is an array.
    #[prost(message, optional, tag = "14")]
    pub array: Option<Array>,
    /// Units of limits held while it runs.
    #[prost(message, repeated, tag = "15")]
    pub limits: Vec<LimitUse>,
    /// Do not submit it twice.
    #[prost(message, optional, tag = "16")]
    pub dedupe: Option<Dedupe>,
    /// What to do when its host is lost.
    #[prost(enumeration = "Restart", tag = "17")]
    pub restart: i32,
    /// Length of its lease in milliseconds, with [`Restart::Restart`].
    #[prost(uint64, tag = "18")]
    pub lease_ms: u64,
    /// When its owner gets mail: bits of [`mail_when`]; absent: the class's default.
    #[prost(uint32, optional, tag = "19")]
    pub mail: Option<u32>,
    /// To whom; empty: to the owner.
    #[prost(string, tag = "20")]
    pub mail_to: String,
    /// Submitted on hold.
    #[prost(bool, tag = "21")]
    pub hold: bool,
    /// The job in which this one was submitted and that waits for it: this one may run in that one's slot.
    #[prost(message, optional, tag = "22")]
    pub parent: Option<Key>,
    /// Somebody is attached (`-w`): no mail.
    #[prost(bool, tag = "23")]
    pub attached: bool,
    /// `QMAIL=OFF`: no mail whatever happens.
    #[prost(bool, tag = "24")]
    pub silent: bool,
}

/// Bits of [`Plan::mail`].
pub mod mail_when {
    /// When it starts.
    pub const BEGIN: u32 = 1;
    /// When it ended well.
    pub const END: u32 = 2;
    /// When it ended badly, was lost, rejected or buried.
    pub const FAIL: u32 = 4;
    /// Never.
    pub const NEVER: u32 = 0;
}

/// What a job waits for.
#[derive(Clone, PartialEq, Message)]
pub struct After {
    /// Which jobs: ids, names or groups of the same owner. A name or group means those that are known at submission.
    #[prost(message, optional, tag = "1")]
    pub jobs: Option<Selection>,
    /// How they must have ended.
    #[prost(enumeration = "AfterHow", tag = "2")]
    pub how: i32,
}

/// How a job that is waited for must have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum AfterHow {
    /// Well: otherwise the dependant fails.
    Ok = 0,
    /// Anyhow.
    Any = 1,
    /// Badly: otherwise the dependant is dropped.
    Fail = 2,
}

/// Tasks of an array.
#[derive(Clone, PartialEq, Message)]
pub struct Array {
    /// Their numbers, ascending and disjoint.
    #[prost(message, repeated, tag = "1")]
    pub ranges: Vec<TaskRange>,
    /// At most so many at once; 0: no limit.
    #[prost(uint32, tag = "2")]
    pub at_once: u32,
}

/// Numbers `from..=to` in steps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Message)]
pub struct TaskRange {
    /// First.
    #[prost(uint32, tag = "1")]
    pub from: u32,
    /// Last possible.
    #[prost(uint32, tag = "2")]
    pub to: u32,
    /// Step; 0 means 1.
    #[prost(uint32, tag = "3")]
    pub step: u32,
}

/// Units of a limit.
#[derive(Clone, PartialEq, Message)]
pub struct LimitUse {
    /// Name of the limit.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How many units are there, if the submitter says so (`license:3`): sets the limit where nobody has set it.
    #[prost(uint32, optional, tag = "2")]
    pub total: Option<u32>,
}

/// Submit no job that is there already.
#[derive(Clone, PartialEq, Message)]
pub struct Dedupe {
    /// SHA-256 of what makes two jobs the same: owner, argv or script, and cwd.
    #[prost(bytes = "vec", tag = "1")]
    pub identity: Vec<u8>,
    /// Also one that ended not longer ago than this, in milliseconds; 0: only one that has not ended.
    #[prost(uint64, tag = "2")]
    pub window_ms: u64,
}

/// What to do when the host of a running job is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Restart {
    /// Not said: the class's default, else [`Restart::Ask`].
    Unset = 0,
    /// Run it elsewhere once its lease has run out.
    Restart = 1,
    /// It has failed.
    Fail = 2,
    /// It is lost; its owner decides; if the host returns with it, it goes on.
    Ask = 3,
}

/// A job to submit.
#[derive(Clone, PartialEq, Message)]
pub struct Submit {
    /// The encoded [`Run`].
    #[prost(bytes = "vec", tag = "1")]
    pub run: Vec<u8>,
    /// The plan.
    #[prost(message, optional, tag = "2")]
    pub plan: Option<Plan>,
    /// The submitting host's signed word for the user and the run (`queue_exec::warrant`).
    #[prost(bytes = "vec", tag = "3")]
    pub warrant: Vec<u8>,
    /// Certificate of that host.
    #[prost(bytes = "vec", tag = "4")]
    pub cert: Vec<u8>,
    /// One for each task, if tasks have entries.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub entries: Vec<Vec<u8>>,
    /// Its id, given by the submitting host's daemon.
    #[prost(uint64, tag = "6")]
    pub id: u64,
    /// When it was submitted, in milliseconds since the epoch.
    #[prost(uint64, tag = "7")]
    pub at_ms: u64,
    /// The owner: filled in by the daemon from the warrant.
    #[prost(string, tag = "8")]
    pub owner: String,
}

/// The answer to a submission: it is on disk.
#[derive(Clone, PartialEq, Message)]
pub struct Submitted {
    /// Its id, or that of the job that was there already.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// It was there already (`--dedupe`).
    #[prost(bool, tag = "2")]
    pub existed: bool,
    /// It waits on this host, because the leader cannot be reached: why.
    #[prost(string, tag = "3")]
    pub spooled: String,
}
