//! What people ask the leader.

use super::{Restart, State, TaskRange};
use crate::wire::{Empty, Need};
use prost::{Enumeration, Message, Oneof};

/// A question about jobs, or something to do with them.
#[derive(Clone, PartialEq, Message)]
pub struct JobAsk {
    /// Ticket for the leader's host, with the SHA-256 of `query` as its request.
    #[prost(bytes = "vec", tag = "1")]
    pub ticket: Vec<u8>,
    /// Certificate of the host that signed it.
    #[prost(bytes = "vec", tag = "2")]
    pub source_cert: Vec<u8>,
    /// The encoded [`Query`].
    #[prost(bytes = "vec", tag = "3")]
    pub query: Vec<u8>,
}

/// The question.
#[derive(Clone, PartialEq, Message)]
pub struct Query {
    /// What.
    #[prost(oneof = "query::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub kind: Option<query::Kind>,
}

/// Kinds of [`Query`].
pub mod query {
    use super::Oneof;

    /// The question.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// A page of jobs. Answered by `Page`; with `watch` again at each change, at most twice a second.
        #[prost(message, tag = "1")]
        List(super::List),
        /// Everything about some jobs. Answered by `Details`.
        #[prost(message, tag = "2")]
        Show(super::Selection),
        /// Why a job does not run. Answered by `Why`.
        #[prost(message, tag = "3")]
        Explain(super::Selection),
        /// Tell when they end. Answered by `Progress` at each change, and `Over` at the end.
        #[prost(message, tag = "4")]
        Wait(super::Wait),
        /// Do something with them. Answered by `Acted`.
        #[prost(message, tag = "5")]
        Act(super::Act),
        /// Where their output is. Answered by `Outputs`.
        #[prost(message, tag = "6")]
        Outputs(super::Selection),
        /// Figures. Answered by `Stats`.
        #[prost(message, tag = "7")]
        Stats(super::StatsAsk),
        /// Jobs that ended. Answered by `Page`.
        #[prost(message, tag = "8")]
        History(super::History),
        /// Limits of the cluster. Answered by `Limits`.
        #[prost(message, tag = "9")]
        Limits(super::LimitsAsk),
        /// A copy of the store, for site scripts: answered by `Chunk`s and `Over`. Operators only.
        #[prost(message, tag = "10")]
        Export(super::Empty),
        /// Classes. Answered by `Classes`.
        #[prost(message, tag = "11")]
        Classes(super::Empty),
    }
}

/// Which jobs. All conditions hold together; empty ones do not count. Without `ids`, `all` or another condition:
/// none.
#[derive(Clone, PartialEq, Message)]
pub struct Selection {
    /// By number.
    #[prost(message, repeated, tag = "1")]
    pub ids: Vec<IdRange>,
    /// Every job of the asker (for an operator with `user` empty: of everybody).
    #[prost(bool, tag = "2")]
    pub all: bool,
    /// Of this user.
    #[prost(string, tag = "3")]
    pub user: String,
    /// With this name, `*` and `?` allowed.
    #[prost(string, tag = "4")]
    pub name: String,
    /// In this group, `*` and `?` allowed.
    #[prost(string, tag = "5")]
    pub group: String,
    /// In one of these states.
    #[prost(enumeration = "State", repeated, tag = "6")]
    pub states: Vec<i32>,
    /// Of this class.
    #[prost(string, tag = "7")]
    pub class: String,
    /// On this host.
    #[prost(string, tag = "8")]
    pub host: String,
    /// Words that stand alone in `--after`: a name or a group.
    #[prost(string, repeated, tag = "9")]
    pub words: Vec<String>,
}

/// Jobs `from..=to`, or tasks of one job.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct IdRange {
    /// First job.
    #[prost(uint64, tag = "1")]
    pub from: u64,
    /// Last job.
    #[prost(uint64, tag = "2")]
    pub to: u64,
    /// Only these tasks of the one job.
    #[prost(message, optional, tag = "3")]
    pub tasks: Option<TaskRange>,
}

/// A page of jobs.
#[derive(Clone, PartialEq, Message)]
pub struct List {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub which: Option<Selection>,
    /// Tasks of arrays one by one.
    #[prost(bool, tag = "2")]
    pub tasks: bool,
    /// Also those that ended and are still in memory.
    #[prost(bool, tag = "3")]
    pub ended: bool,
    /// Sorted by: `id` (default), `priority`, `state`, `user`, `name`, `host`, `submitted`, `started`, `time`; with
    /// `-` in front: descending.
    #[prost(string, tag = "4")]
    pub sort: String,
    /// At most so many; 0: 1,000.
    #[prost(uint32, tag = "5")]
    pub limit: u32,
    /// Skip so many.
    #[prost(uint64, tag = "6")]
    pub offset: u64,
    /// Again at each change.
    #[prost(bool, tag = "7")]
    pub watch: bool,
}

/// Waits for jobs.
#[derive(Clone, PartialEq, Message)]
pub struct Wait {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub which: Option<Selection>,
    /// Until one of them has ended, not all.
    #[prost(bool, tag = "2")]
    pub any: bool,
    /// Tell also of starts, stops and attempts (`-w`, `log -f`).
    #[prost(bool, tag = "3")]
    pub follow: bool,
}

/// Does something with jobs.
#[derive(Clone, PartialEq, Message)]
pub struct Act {
    /// What.
    #[prost(enumeration = "Deed", tag = "1")]
    pub deed: i32,
    /// With which.
    #[prost(message, optional, tag = "2")]
    pub which: Option<Selection>,
    /// Signal for [`Deed::Kill`]; 0: end them.
    #[prost(uint32, tag = "3")]
    pub signal: u32,
    /// What [`Deed::Modify`] sets.
    #[prost(message, optional, tag = "4")]
    pub change: Option<Change>,
    /// [`Deed::Retry`]: start a lost job again although it may still run.
    #[prost(bool, tag = "5")]
    pub may_double: bool,
    /// [`Deed::Retry`]: the host of a lost job is known to be dead.
    #[prost(bool, tag = "6")]
    pub confirm_dead: bool,
}

/// What can be done with jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Deed {
    /// Not said.
    Unknown = 0,
    /// End them.
    Kill = 1,
    /// Do not start them.
    Hold = 2,
    /// Start them again.
    Release = 3,
    /// Stop them where they run.
    Suspend = 4,
    /// Let them go on.
    Resume = 5,
    /// Run buried, failed, killed or lost ones again.
    Retry = 6,
    /// Forget them: they must not run.
    Delete = 7,
    /// Change what is not yet done.
    Modify = 8,
}

/// What is changed of a plan; absent: as it is.
#[derive(Clone, PartialEq, Message)]
pub struct Change {
    /// Priority.
    #[prost(sint32, optional, tag = "1")]
    pub priority: Option<i32>,
    /// Need.
    #[prost(message, optional, tag = "2")]
    pub need: Option<Need>,
    /// Time limit.
    #[prost(uint64, optional, tag = "3")]
    pub time_ms: Option<u64>,
    /// Retries.
    #[prost(uint32, optional, tag = "4")]
    pub retries: Option<u32>,
    /// Name.
    #[prost(string, optional, tag = "5")]
    pub name: Option<String>,
    /// Group.
    #[prost(string, optional, tag = "6")]
    pub group: Option<String>,
    /// Start not before.
    #[prost(uint64, optional, tag = "7")]
    pub at_ms: Option<u64>,
    /// Host.
    #[prost(string, optional, tag = "8")]
    pub host: Option<String>,
    /// Tasks at once.
    #[prost(uint32, optional, tag = "9")]
    pub at_once: Option<u32>,
    /// Mail.
    #[prost(uint32, optional, tag = "10")]
    pub mail: Option<u32>,
    /// Restart policy.
    #[prost(enumeration = "Restart", optional, tag = "11")]
    pub restart: Option<i32>,
    /// Class.
    #[prost(string, optional, tag = "12")]
    pub class: Option<String>,
}

/// Asks for figures.
#[derive(Clone, PartialEq, Message)]
pub struct StatsAsk {
    /// Of the last so many milliseconds; 0: a day.
    #[prost(uint64, tag = "1")]
    pub window_ms: u64,
}

/// Searches the jobs that ended.
#[derive(Clone, PartialEq, Message)]
pub struct History {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub which: Option<Selection>,
    /// Ended at or after, in milliseconds since the epoch.
    #[prost(uint64, tag = "2")]
    pub since_ms: u64,
    /// Ended before; 0: now.
    #[prost(uint64, tag = "3")]
    pub until_ms: u64,
    /// Words that must occur in the name, group, command, cause or output's ends.
    #[prost(string, tag = "4")]
    pub text: String,
    /// At most so many; 0: 100.
    #[prost(uint32, tag = "5")]
    pub limit: u32,
    /// Skip so many.
    #[prost(uint64, tag = "6")]
    pub offset: u64,
    /// Each attempt, not each job.
    #[prost(bool, tag = "7")]
    pub attempts: bool,
}

/// Asks for, or sets, limits.
#[derive(Clone, PartialEq, Message)]
pub struct LimitsAsk {
    /// Set this one.
    #[prost(string, tag = "1")]
    pub set: String,
    /// To so many; absent with `set`: remove it.
    #[prost(uint32, optional, tag = "2")]
    pub total: Option<u32>,
}
