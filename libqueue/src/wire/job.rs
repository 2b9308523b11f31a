//! Batch jobs: what is submitted, what the leader and the executing hosts tell each other, what people ask.
//!
//! A job's *run* is what is executed: its encoded bytes are what the submitter's warrant covers, and no daemon can
//! change them. Its *plan* is what the scheduler needs; its owner may modify it later.

#![allow(
    clippy::large_enum_variant,
    reason = "a message lives as long as it takes to encode or act on it"
)]

use super::{Empty, Error, Need, Placed, Rlimit};
use prost::{Enumeration, Message, Oneof};

/// First bytes of a connection of a host's daemon with the leader: TLS with both ends known, then frames [`Up`] and
/// [`Down`].
pub const KIND_WORK: u8 = b'W';
/// Kind of connection: somebody asks the leader about jobs. TLS with the leader's own key; one frame [`JobAsk`],
/// then frames [`JobReply`] until the leader closes.
pub const KIND_JOBS: u8 = b'B';
/// Largest frame on these connections and of a submission: 16 MiB.
pub const FRAME_MAX: usize = 16 << 20;
/// Most tasks of an array.
pub const TASKS_MAX: u32 = 10_000_000;
/// Bytes of each end of the output that the history keeps.
pub const ENDS_MAX: usize = 4096;

// ---------------------------------------------------------------------------------------------------------
// What is submitted.

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

// ---------------------------------------------------------------------------------------------------------
// States and results.

/// An attempt: which job, task (0: not an array) and attempt (from 1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Message)]
pub struct Key {
    /// The job.
    #[prost(uint64, tag = "1")]
    pub job: u64,
    /// The task.
    #[prost(uint32, tag = "2")]
    pub task: u32,
    /// The attempt.
    #[prost(uint32, tag = "3")]
    pub attempt: u32,
}

/// State of a job or task, as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum State {
    /// Not said.
    Unknown = 0,
    /// Held, delayed, dependent, or between two attempts.
    Waiting = 1,
    /// It could start; there is no room yet. Also: sent to a host and not started.
    Ready = 2,
    /// It runs.
    Running = 3,
    /// It is stopped.
    Suspended = 4,
    /// Its host is lost, and it may still run there.
    Lost = 5,
    /// It ended well.
    Done = 6,
    /// It ended badly, or could not be run.
    Failed = 7,
    /// Somebody killed it.
    Killed = 8,
    /// It failed as often as it may; `queue retry` starts it again.
    Buried = 9,
}

/// Why an attempt ended, or a job did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Cause {
    /// It exited; the code says how.
    Exited = 0,
    /// A signal that nobody here sent killed it.
    Signal = 1,
    /// Command not found (127).
    NotFound = 2,
    /// Not executable (126).
    NotExecutable = 3,
    /// The working directory is not there.
    Directory = 4,
    /// No such account there, or it may not be used.
    Account = 5,
    /// PAM said no.
    Pam = 6,
    /// It used more memory than it asked for, and was ended by us.
    Memory = 7,
    /// The kernel killed it for want of memory.
    OutOfMemory = 8,
    /// Its time was up.
    Time = 9,
    /// Somebody killed it (`text` says who).
    Killed = 10,
    /// Its host was lost, and the job's policy is not to wait.
    HostLost = 11,
    /// Its lease ran out: the host could not reach the leader.
    Lease = 12,
    /// The session process or queue-exec was killed, or the host was restarted, while it ran.
    SessionLost = 13,
    /// Refused: warrant, policy, or no such class.
    Rejected = 14,
    /// A job that it waited for ended otherwise.
    Dependency = 15,
    /// The disk for its output is full.
    Disk = 16,
    /// Something failed on the host that is not the job's fault.
    Internal = 17,
    /// It was not started: taken back before, or the host refused. Burns no retry.
    NotStarted = 18,
    /// A newer attempt took its place.
    Superseded = 19,
    /// No host of the cluster could ever run it.
    Unfit = 20,
}

/// How an attempt ended: made by the session, kept by the executing host until the leader has it on disk.
#[derive(Clone, PartialEq, Message)]
pub struct Outcome {
    /// Why.
    #[prost(enumeration = "Cause", tag = "1")]
    pub cause: i32,
    /// Exit code.
    #[prost(uint32, optional, tag = "2")]
    pub code: Option<u32>,
    /// Signal.
    #[prost(uint32, optional, tag = "3")]
    pub signal: Option<u32>,
    /// It dumped core.
    #[prost(bool, tag = "4")]
    pub core: bool,
    /// More, for people, in one line: "killed by alice@h1", "4.1 G of 4 G".
    #[prost(string, tag = "5")]
    pub text: String,
    /// When the command started, in milliseconds since the epoch, by the executing host's clock; 0: it did not.
    #[prost(uint64, tag = "6")]
    pub started_ms: u64,
    /// How long it ran, in milliseconds.
    #[prost(uint64, tag = "7")]
    pub wall_ms: u64,
    /// CPU time of the whole tree, in microseconds.
    #[prost(uint64, tag = "8")]
    pub cpu_us: u64,
    /// Most memory that the tree had resident, in KiB.
    #[prost(uint64, tag = "9")]
    pub maxrss_kib: u64,
    /// First bytes of its output.
    #[prost(bytes = "vec", tag = "10")]
    pub head: Vec<u8>,
    /// Last bytes of its output, if they are not in the head.
    #[prost(bytes = "vec", tag = "11")]
    pub tail: Vec<u8>,
    /// Bytes that it wrote.
    #[prost(uint64, tag = "12")]
    pub written: u64,
    /// Where its output is; empty: it wrote nothing, or it was thrown away.
    #[prost(bytes = "vec", tag = "13")]
    pub output: Vec<u8>,
    /// The output is in the executing host's spool and has to be brought home.
    #[prost(bool, tag = "14")]
    pub spooled: bool,
    /// Where its standard error is, if that is another file.
    #[prost(bytes = "vec", tag = "15")]
    pub error: Vec<u8>,
    /// Output was cut off at the cap.
    #[prost(bool, tag = "16")]
    pub cut: bool,
}

/// What an attempt that runs says of itself.
#[derive(Clone, PartialEq, Message)]
pub struct Running {
    /// Process id of the command.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// When it started, in milliseconds since the epoch.
    #[prost(uint64, tag = "2")]
    pub started_ms: u64,
    /// Where its output goes.
    #[prost(bytes = "vec", tag = "3")]
    pub output: Vec<u8>,
    /// In the host's spool, to be brought home.
    #[prost(bool, tag = "4")]
    pub spooled: bool,
    /// Where its standard error goes, if elsewhere.
    #[prost(bytes = "vec", tag = "5")]
    pub error: Vec<u8>,
}

// ---------------------------------------------------------------------------------------------------------
// Between the leader and the daemon of each host (the leader's own one, too), over one connection that the host
// opens. Ordered; a message of an earlier connection counts for nothing.

/// From a host to the leader.
#[derive(Clone, PartialEq, Message)]
pub struct Up {
    /// The message.
    #[prost(oneof = "up::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub kind: Option<up::Kind>,
}

/// Kinds of [`Up`].
pub mod up {
    use super::Oneof;

    /// The message.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// First on a connection.
        #[prost(message, tag = "1")]
        Hello(super::WorkHello),
        /// A job submitted there: kept there until `Accepted` or `Rejected`.
        #[prost(message, tag = "2")]
        Submit(super::Submit),
        /// Numbers are short: answered by `Block`.
        #[prost(message, tag = "3")]
        WantBlock(super::Empty),
        /// An attempt has started.
        #[prost(message, tag = "4")]
        Started(super::StartedAttempt),
        /// An attempt has ended: said again on each connection until `Forget`.
        #[prost(message, tag = "5")]
        Ended(super::EndedAttempt),
        /// Leases are to be extended.
        #[prost(message, tag = "6")]
        Renew(super::Renew),
        /// A stopped attempt, or one that goes on.
        #[prost(message, tag = "7")]
        Stopped(super::StoppedAttempt),
        /// Output of this job was brought home, or could not be.
        #[prost(message, tag = "8")]
        Delivered(super::Delivered),
        /// A letter was sent, or could not be.
        #[prost(message, tag = "9")]
        Mailed(super::Mailed),
        /// This host can send mail.
        #[prost(bool, tag = "10")]
        Mailer(bool),
    }
}

/// Opens a work connection.
#[derive(Clone, PartialEq, Message)]
pub struct WorkHello {
    /// Names the life of this host's queue-exec and its records: attempts of another life no longer run.
    #[prost(bytes = "vec", tag = "1")]
    pub life: Vec<u8>,
    /// Names this connection: dispatches quote it. Rises with each connection of this host.
    #[prost(uint64, tag = "2")]
    pub link: u64,
    /// Highest epoch of a leader that this host has heard of.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// All attempts that are here.
    #[prost(message, repeated, tag = "4")]
    pub held: Vec<Held>,
    /// queue-exec has told what runs here: `held` is complete. Without it attempts that are not in it may still run.
    #[prost(bool, tag = "5")]
    pub complete: bool,
    /// This host can send mail.
    #[prost(bool, tag = "6")]
    pub mailer: bool,
    /// Highest id that this host has ever given, of the block that it has.
    #[prost(uint64, tag = "7")]
    pub block_used: u64,
}

/// An attempt that a host has.
#[derive(Clone, PartialEq, Message)]
pub struct Held {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    /// It runs; absent: it waits to be started, or has ended.
    #[prost(message, optional, tag = "2")]
    pub running: Option<Running>,
    /// It has ended.
    #[prost(message, optional, tag = "3")]
    pub ended: Option<Outcome>,
    /// It is stopped.
    #[prost(bool, tag = "4")]
    pub stopped: bool,
}

/// An attempt has started.
#[derive(Clone, PartialEq, Message)]
pub struct StartedAttempt {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    /// How.
    #[prost(message, optional, tag = "2")]
    pub running: Option<Running>,
}

/// An attempt has ended.
#[derive(Clone, PartialEq, Message)]
pub struct EndedAttempt {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    /// How.
    #[prost(message, optional, tag = "2")]
    pub outcome: Option<Outcome>,
}

/// An attempt was stopped, or goes on.
#[derive(Clone, PartialEq, Message)]
pub struct StoppedAttempt {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    /// Stopped, or goes on.
    #[prost(bool, tag = "2")]
    pub stopped: bool,
}

/// Extends leases.
#[derive(Clone, PartialEq, Message)]
pub struct Renew {
    /// Comes back with the answer.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Of these attempts.
    #[prost(message, repeated, tag = "2")]
    pub keys: Vec<Key>,
}

/// From the leader to a host.
#[derive(Clone, PartialEq, Message)]
pub struct Down {
    /// The message.
    #[prost(oneof = "down::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub kind: Option<down::Kind>,
}

/// Kinds of [`Down`].
pub mod down {
    use super::Oneof;

    /// The message.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// First on a connection.
        #[prost(message, tag = "1")]
        Welcome(super::Welcome),
        /// A submitted job is on the leader's disk.
        #[prost(message, tag = "2")]
        Accepted(super::Submitted),
        /// A submitted job is refused, for good; the leader keeps a record of it.
        #[prost(message, tag = "3")]
        Rejected(super::Rejected),
        /// Numbers to give away.
        #[prost(message, tag = "4")]
        Block(super::Block),
        /// Start these when there is room.
        #[prost(message, tag = "5")]
        Dispatch(super::Dispatch),
        /// Do not start this one, if it has not started; answered by `Ended` with
        /// [`Cause::NotStarted`](super::Cause::NotStarted) if it had not.
        #[prost(message, tag = "6")]
        Revoke(super::Key),
        /// End this one, or send it a signal.
        #[prost(message, tag = "7")]
        Kill(super::KillAttempt),
        /// Its outcome is on disk: the host may forget it.
        #[prost(message, tag = "8")]
        Forget(super::Key),
        /// Leases are extended.
        #[prost(message, tag = "9")]
        Renewed(super::Renewed),
        /// No more attempts of this job are to come: its run may be dropped.
        #[prost(uint64, tag = "10")]
        JobOver(u64),
        /// Bring the output of this job home to this host, the one of its submission.
        #[prost(message, tag = "11")]
        Deliver(super::Deliver),
        /// Send this letter.
        #[prost(message, tag = "12")]
        Letter(super::Letter),
    }
}

/// Welcomes a host.
#[derive(Clone, PartialEq, Message)]
pub struct Welcome {
    /// The leader's epoch: rises each time that it starts. A host answers no leader of a lower one.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// The host's `link`, again.
    #[prost(uint64, tag = "2")]
    pub link: u64,
}

/// A submission that is refused.
#[derive(Clone, PartialEq, Message)]
pub struct Rejected {
    /// Which.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Why, in one line.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// Numbers `from..to`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Block {
    /// First.
    #[prost(uint64, tag = "1")]
    pub from: u64,
    /// One beyond the last.
    #[prost(uint64, tag = "2")]
    pub to: u64,
}

/// Attempts to start.
#[derive(Clone, PartialEq, Message)]
pub struct Dispatch {
    /// The leader's epoch.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// The connection that it is for.
    #[prost(uint64, tag = "2")]
    pub link: u64,
    /// Runs that this connection has not seen yet.
    #[prost(message, repeated, tag = "3")]
    pub runs: Vec<JobRun>,
    /// The attempts, in the order in which they should start.
    #[prost(message, repeated, tag = "4")]
    pub attempts: Vec<Attempt>,
}

/// What a job's attempts execute.
#[derive(Clone, PartialEq, Message)]
pub struct JobRun {
    /// The job.
    #[prost(uint64, tag = "1")]
    pub job: u64,
    /// The encoded [`Run`].
    #[prost(bytes = "vec", tag = "2")]
    pub run: Vec<u8>,
    /// Its warrant.
    #[prost(bytes = "vec", tag = "3")]
    pub warrant: Vec<u8>,
    /// Certificate of the host that signed it.
    #[prost(bytes = "vec", tag = "4")]
    pub cert: Vec<u8>,
}

/// One attempt.
#[derive(Clone, PartialEq, Message)]
pub struct Attempt {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    /// Reserved while it runs.
    #[prost(message, optional, tag = "2")]
    pub need: Option<Need>,
    /// How it is run.
    #[prost(message, optional, tag = "3")]
    pub params: Option<Params>,
    /// Length of its lease in milliseconds, counted by the host from the `Hello` or `Renew` that it sent last before
    /// this came; 0: none.
    #[prost(uint64, tag = "4")]
    pub lease_ms: u64,
    /// A job that waits for this one holds the slot that it may run in.
    #[prost(message, optional, tag = "5")]
    pub parent: Option<Key>,
}

/// How an attempt is run: passed through queue-exec to the session as it is. Nothing in it may change what is
/// executed, or as whom.
#[derive(Clone, PartialEq, Message)]
pub struct Params {
    /// Which attempt.
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    /// The task's entry (`QUEUE_ENTRY`).
    #[prost(bytes = "vec", optional, tag = "2")]
    pub entry: Option<Vec<u8>>,
    /// Index of the entry in the hash tree, and the hashes that lead to its root.
    #[prost(uint32, tag = "3")]
    pub entry_index: u32,
    /// 32 bytes each.
    #[prost(bytes = "vec", tag = "4")]
    pub entry_proof: Vec<u8>,
    /// Time limit in milliseconds; 0: none.
    #[prost(uint64, tag = "5")]
    pub time_ms: u64,
    /// Warning signal; 0: none.
    #[prost(uint32, tag = "6")]
    pub warn_signal: u32,
    /// So long before the end, in milliseconds.
    #[prost(uint64, tag = "7")]
    pub warn_ms: u64,
    /// Memory limit in bytes; 0: none.
    #[prost(uint64, tag = "8")]
    pub mem: u64,
    /// Hosts that are known to see the directory of the submission as this host does: the executing host is one of
    /// them. The nonce file need not be looked at.
    #[prost(bool, tag = "9")]
    pub home_here: bool,
    /// The nonce file may be removed after it was looked at: no other task needs it.
    #[prost(bool, tag = "10")]
    pub last: bool,
    /// The job before this attempt, for `QUEUE_RESTARTS`: how many attempts ran.
    #[prost(uint32, tag = "11")]
    pub restarts: u32,
    /// Cores reserved, for `QUEUE_CORES`.
    #[prost(uint32, tag = "12")]
    pub cores: u32,
}

/// Ends an attempt, or sends it a signal.
#[derive(Clone, PartialEq, Message)]
pub struct KillAttempt {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    /// Only this signal; 0: TERM, then KILL.
    #[prost(uint32, tag = "2")]
    pub signal: u32,
    /// Who wants it, for the outcome's text: `alice@h1`.
    #[prost(string, tag = "3")]
    pub by: String,
    /// Why, for the outcome.
    #[prost(enumeration = "Cause", tag = "4")]
    pub cause: i32,
}

/// Leases that were extended.
#[derive(Clone, PartialEq, Message)]
pub struct Renewed {
    /// The number of the [`Renew`].
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Attempts whose lease counts anew from the moment at which that `Renew` was sent. Those not named are not
    /// extended.
    #[prost(message, repeated, tag = "2")]
    pub keys: Vec<Key>,
}

/// Brings output home.
#[derive(Clone, PartialEq, Message)]
pub struct Deliver {
    /// The job.
    #[prost(message, optional, tag = "1")]
    pub run: Option<JobRun>,
    /// The host that has its output in its spool; empty: there is none, only the nonce file is to be removed.
    #[prost(string, tag = "2")]
    pub from: String,
    /// Number of this delivery.
    #[prost(uint64, tag = "3")]
    pub number: u64,
}

/// What became of a delivery.
#[derive(Clone, PartialEq, Message)]
pub struct Delivered {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Why not; empty: it is done.
    #[prost(string, tag = "2")]
    pub failed: String,
    /// It makes no sense to try again.
    #[prost(bool, tag = "3")]
    pub hopeless: bool,
}

/// A letter.
#[derive(Clone, PartialEq, Message)]
pub struct Letter {
    /// Its number; also makes its Message-ID.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// An address, or the name of an account.
    #[prost(string, tag = "2")]
    pub to: String,
    /// Subject, one line.
    #[prost(string, tag = "3")]
    pub subject: String,
    /// Text.
    #[prost(string, tag = "4")]
    pub body: String,
    /// When it was written, in milliseconds since the epoch.
    #[prost(uint64, tag = "5")]
    pub at_ms: u64,
    /// Classes, ids and the like for headers: `X-Queue-*`, name without the prefix, and value.
    #[prost(message, repeated, tag = "6")]
    pub headers: Vec<Header>,
}

/// A header of a letter.
#[derive(Clone, PartialEq, Message)]
pub struct Header {
    /// Name after `X-Queue-`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// What became of a letter.
#[derive(Clone, PartialEq, Message)]
pub struct Mailed {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Why not; empty: the mail system has it.
    #[prost(string, tag = "2")]
    pub failed: String,
    /// It makes no sense to try again (the address is refused).
    #[prost(bool, tag = "3")]
    pub hopeless: bool,
}

// ---------------------------------------------------------------------------------------------------------
// What people ask the leader.

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
    /// Mail: bits of [`mail_when`].
    #[prost(uint32, tag = "7")]
    pub mail: u32,
    /// At most so many of its jobs at once; 0: no limit.
    #[prost(uint32, tag = "8")]
    pub max_running: u32,
    /// Default need.
    #[prost(message, optional, tag = "9")]
    pub need: Option<Need>,
}
