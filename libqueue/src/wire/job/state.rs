//! The states of jobs, and the results of their attempts.

use prost::{Enumeration, Message};

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
