//! Between the leader and the daemon of each host (the leader's own one, too), over one connection that the host
//! opens. Ordered; a message of an earlier connection counts for nothing.

use super::{Cause, Key, Outcome, Running, Submit, Submitted};
use crate::wire::{Empty, Need};
use prost::{Message, Oneof};

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
    /// The encoded [`Run`](super::Run).
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
