//! What the leader answers.

use super::{Cause, Key, Outcome, Plan, Restart, Run, Running, State};
use crate::wire::{Error, Need, Placed};
use prost::{Message, Oneof};

/// Answers of the leader.
#[derive(Clone, PartialEq, Message)]
pub struct JobReply {
    /// The answer.
    #[prost(oneof = "job_reply::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub kind: Option<job_reply::Kind>,
}

/// Kinds of [`JobReply`].
pub mod job_reply {
    use super::Oneof;

    /// The answer.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// It failed.
        #[prost(message, tag = "1")]
        Error(super::Error),
        /// A page.
        #[prost(message, tag = "2")]
        Page(super::Page),
        /// Everything.
        #[prost(message, tag = "3")]
        Details(super::Details),
        /// Why it does not run.
        #[prost(message, tag = "4")]
        Why(super::Why),
        /// How far the jobs are.
        #[prost(message, tag = "5")]
        Progress(super::Progress),
        /// All that was waited for has happened; nothing follows.
        #[prost(message, tag = "6")]
        Over(super::Over),
        /// What was done.
        #[prost(message, tag = "7")]
        Acted(super::Acted),
        /// Where output is.
        #[prost(message, tag = "8")]
        Outputs(super::Outputs),
        /// Figures.
        #[prost(message, tag = "9")]
        Stats(super::Stats),
        /// Limits.
        #[prost(message, tag = "10")]
        Limits(super::Limits),
        /// Bytes of an export.
        #[prost(bytes, tag = "11")]
        Chunk(Vec<u8>),
        /// Classes.
        #[prost(message, tag = "12")]
        Classes(super::Classes),
    }
}

/// Jobs.
#[derive(Clone, PartialEq, Message)]
pub struct Page {
    /// One each.
    #[prost(message, repeated, tag = "1")]
    pub jobs: Vec<Job>,
    /// How many there are in all.
    #[prost(uint64, tag = "2")]
    pub total: u64,
    /// The leader's clock, in milliseconds since the epoch.
    #[prost(uint64, tag = "3")]
    pub now_ms: u64,
}

/// A job or a task, as a list shows it.
#[derive(Clone, PartialEq, Message)]
pub struct Job {
    /// Number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Task; 0: the job itself.
    #[prost(uint32, tag = "2")]
    pub task: u32,
    /// Owner.
    #[prost(string, tag = "3")]
    pub user: String,
    /// Name.
    #[prost(string, tag = "4")]
    pub name: String,
    /// Group.
    #[prost(string, tag = "5")]
    pub group: String,
    /// Class.
    #[prost(string, tag = "6")]
    pub class: String,
    /// State.
    #[prost(enumeration = "State", tag = "7")]
    pub state: i32,
    /// Why it is in it: "after 12", "held", "next try in 48 s", "no room: h1 and h2 are full".
    #[prost(string, tag = "8")]
    pub reason: String,
    /// Priority.
    #[prost(sint32, tag = "9")]
    pub priority: i32,
    /// Submitted, in milliseconds since the epoch.
    #[prost(uint64, tag = "10")]
    pub submitted_ms: u64,
    /// Started; 0: not.
    #[prost(uint64, tag = "11")]
    pub started_ms: u64,
    /// Ended; 0: not.
    #[prost(uint64, tag = "12")]
    pub ended_ms: u64,
    /// Host of the last attempt.
    #[prost(string, tag = "13")]
    pub host: String,
    /// Attempts so far.
    #[prost(uint32, tag = "14")]
    pub attempts: u32,
    /// How the last attempt ended.
    #[prost(message, optional, tag = "15")]
    pub outcome: Option<Outcome>,
    /// Tasks by state, of an array.
    #[prost(message, repeated, tag = "16")]
    pub counts: Vec<Count>,
    /// The command, in one line; only for the owner and operators.
    #[prost(string, tag = "17")]
    pub command: String,
    /// Host of the submission.
    #[prost(string, tag = "18")]
    pub submit_host: String,
    /// What it needs.
    #[prost(message, optional, tag = "19")]
    pub need: Option<Need>,
}

/// So many in a state.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Count {
    /// The state.
    #[prost(enumeration = "State", tag = "1")]
    pub state: i32,
    /// How many.
    #[prost(uint64, tag = "2")]
    pub number: u64,
}

/// Everything about jobs.
#[derive(Clone, PartialEq, Message)]
pub struct Details {
    /// One each.
    #[prost(message, repeated, tag = "1")]
    pub jobs: Vec<Detail>,
}

/// Everything about one job or task.
#[derive(Clone, PartialEq, Message)]
pub struct Detail {
    /// As in a list.
    #[prost(message, optional, tag = "1")]
    pub job: Option<Job>,
    /// Its plan.
    #[prost(message, optional, tag = "2")]
    pub plan: Option<Plan>,
    /// Its run, for the owner and operators only.
    #[prost(message, optional, tag = "3")]
    pub run: Option<Run>,
    /// Its attempts, the latest 100.
    #[prost(message, repeated, tag = "4")]
    pub attempts: Vec<Tried>,
    /// Where output that was spooled is now, in words.
    #[prost(string, tag = "5")]
    pub home: String,
}

/// One attempt, as people see it.
#[derive(Clone, PartialEq, Message)]
pub struct Tried {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    /// Where.
    #[prost(string, tag = "2")]
    pub host: String,
    /// Sent there, in milliseconds since the epoch.
    #[prost(uint64, tag = "3")]
    pub sent_ms: u64,
    /// Ended, by the leader's clock; 0: not.
    #[prost(uint64, tag = "4")]
    pub ended_ms: u64,
    /// How it ended.
    #[prost(message, optional, tag = "5")]
    pub outcome: Option<Outcome>,
    /// How it runs.
    #[prost(message, optional, tag = "6")]
    pub running: Option<Running>,
}

/// Why a job does not run.
#[derive(Clone, PartialEq, Message)]
pub struct Why {
    /// As in a list.
    #[prost(message, optional, tag = "1")]
    pub job: Option<Job>,
    /// Everything that keeps it, for people, one line each: hold, time, dependencies, limits, tasks at once.
    #[prost(string, repeated, tag = "2")]
    pub blockers: Vec<String>,
    /// Each host, and what keeps it from there.
    #[prost(message, repeated, tag = "3")]
    pub hosts: Vec<WhyHost>,
    /// What would make it start now, one line each.
    #[prost(string, repeated, tag = "4")]
    pub remedies: Vec<String>,
    /// Jobs that come before it.
    #[prost(uint64, tag = "5")]
    pub ahead: u64,
}

/// Why a host does not take a job.
#[derive(Clone, PartialEq, Message)]
pub struct WhyHost {
    /// The host.
    #[prost(string, tag = "1")]
    pub host: String,
    /// Blockers; none: it could start there.
    #[prost(string, repeated, tag = "2")]
    pub blockers: Vec<String>,
    /// Even empty it would not do.
    #[prost(bool, tag = "3")]
    pub never: bool,
}

/// How far jobs are.
#[derive(Clone, PartialEq, Message)]
pub struct Progress {
    /// Tasks or jobs by state.
    #[prost(message, repeated, tag = "1")]
    pub counts: Vec<Count>,
    /// Those that changed, at most 100 at once; tasks of arrays only with `follow`, or when they end.
    #[prost(message, repeated, tag = "2")]
    pub changed: Vec<Tried>,
    /// States of those in `changed`.
    #[prost(enumeration = "State", repeated, tag = "3")]
    pub states: Vec<i32>,
}

/// The end of a wait.
#[derive(Clone, PartialEq, Message)]
pub struct Over {
    /// What `queue wait` exits with: 0 if all ended well, else the code of the first that did not (128 + N for a
    /// signal; 125 where there is no code).
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// Signal that the one and only job died of.
    #[prost(uint32, optional, tag = "2")]
    pub signal: Option<u32>,
    /// Tasks or jobs by state.
    #[prost(message, repeated, tag = "3")]
    pub counts: Vec<Count>,
    /// Those that did not end well, at most 20.
    #[prost(message, repeated, tag = "4")]
    pub bad: Vec<Job>,
    /// There was nothing to wait for: no such jobs.
    #[prost(bool, tag = "5")]
    pub nothing: bool,
}

/// What was done.
#[derive(Clone, PartialEq, Message)]
pub struct Acted {
    /// With so many.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// With which, and what in words: "12: killed", at most 100.
    #[prost(string, repeated, tag = "2")]
    pub lines: Vec<String>,
    /// What was not done, and why, at most 100.
    #[prost(string, repeated, tag = "3")]
    pub failed: Vec<String>,
}

/// Where output is.
#[derive(Clone, PartialEq, Message)]
pub struct Outputs {
    /// One each: at most 10,000.
    #[prost(message, repeated, tag = "1")]
    pub outputs: Vec<Output>,
}

/// Output of the last attempt of a job or task.
#[derive(Clone, PartialEq, Message)]
pub struct Output {
    /// The attempt; attempt 0: none yet.
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    /// Where it can be read: a host, empty if nowhere.
    #[prost(string, tag = "2")]
    pub host: String,
    /// The file there.
    #[prost(bytes = "vec", tag = "3")]
    pub path: Vec<u8>,
    /// It is in the spool of that host.
    #[prost(bool, tag = "4")]
    pub spooled: bool,
    /// State.
    #[prost(enumeration = "State", tag = "5")]
    pub state: i32,
    /// Its outcome, if it has ended: with the ends of the output, should the file be gone.
    #[prost(message, optional, tag = "6")]
    pub outcome: Option<Outcome>,
    /// The file for standard error, if another one.
    #[prost(bytes = "vec", tag = "7")]
    pub error: Vec<u8>,
    /// The host, to connect to.
    #[prost(message, optional, tag = "8")]
    pub place: Option<Placed>,
}

/// Figures.
#[derive(Clone, PartialEq, Message)]
pub struct Stats {
    /// Jobs and tasks by state now.
    #[prost(message, repeated, tag = "1")]
    pub counts: Vec<Count>,
    /// By user, and for all (empty name), in the window.
    #[prost(message, repeated, tag = "2")]
    pub users: Vec<UserStats>,
    /// Failures by cause in the window.
    #[prost(message, repeated, tag = "3")]
    pub causes: Vec<CauseCount>,
    /// By host in the window.
    #[prost(message, repeated, tag = "4")]
    pub hosts: Vec<UserStats>,
    /// The window, in milliseconds.
    #[prost(uint64, tag = "5")]
    pub window_ms: u64,
    /// Since when this leader leads, in milliseconds since the epoch.
    #[prost(uint64, tag = "6")]
    pub since_ms: u64,
    /// Letters that wait to be sent.
    #[prost(uint64, tag = "7")]
    pub letters: u64,
    /// Bytes of the store.
    #[prost(uint64, tag = "8")]
    pub store_bytes: u64,
}

/// Figures of one user or host.
#[derive(Clone, PartialEq, Message)]
pub struct UserStats {
    /// Name; empty: all.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Attempts that ended well.
    #[prost(uint64, tag = "2")]
    pub done: u64,
    /// Attempts that did not.
    #[prost(uint64, tag = "3")]
    pub failed: u64,
    /// Wall time in milliseconds.
    #[prost(uint64, tag = "4")]
    pub wall_ms: u64,
    /// CPU time in milliseconds.
    #[prost(uint64, tag = "5")]
    pub cpu_ms: u64,
    /// Mean time from submission to start, in milliseconds.
    #[prost(uint64, tag = "6")]
    pub wait_ms: u64,
}

/// So many failures of a cause.
#[derive(Clone, PartialEq, Message)]
pub struct CauseCount {
    /// The cause.
    #[prost(enumeration = "Cause", tag = "1")]
    pub cause: i32,
    /// How many.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Where most.
    #[prost(string, tag = "3")]
    pub host: String,
}

/// Limits.
#[derive(Clone, PartialEq, Message)]
pub struct Limits {
    /// One each.
    #[prost(message, repeated, tag = "1")]
    pub limits: Vec<Limit>,
}

/// A limit.
#[derive(Clone, PartialEq, Message)]
pub struct Limit {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Units; absent: not limited.
    #[prost(uint32, optional, tag = "2")]
    pub total: Option<u32>,
    /// Units in use.
    #[prost(uint32, tag = "3")]
    pub used: u32,
    /// Jobs and tasks that wait for it.
    #[prost(uint64, tag = "4")]
    pub waiting: u64,
}

/// Classes.
#[derive(Clone, PartialEq, Message)]
pub struct Classes {
    /// One each.
    #[prost(message, repeated, tag = "1")]
    pub classes: Vec<Class>,
}

/// A class: defaults for its jobs.
#[derive(Clone, PartialEq, Message)]
pub struct Class {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Priority.
    #[prost(sint32, tag = "2")]
    pub priority: i32,
    /// Retries.
    #[prost(uint32, tag = "3")]
    pub retries: u32,
    /// Restart policy.
    #[prost(enumeration = "Restart", tag = "4")]
    pub restart: i32,
    /// Lease in milliseconds.
    #[prost(uint64, tag = "5")]
    pub lease_ms: u64,
    /// Time limit in milliseconds; 0: none.
    #[prost(uint64, tag = "6")]
    pub time_ms: u64,
    /// Mail: bits of [`mail_when`](super::mail_when).
    #[prost(uint32, tag = "7")]
    pub mail: u32,
    /// At most so many of its jobs at once; 0: no limit.
    #[prost(uint32, tag = "8")]
    pub max_running: u32,
    /// Default need.
    #[prost(message, optional, tag = "9")]
    pub need: Option<Need>,
}
