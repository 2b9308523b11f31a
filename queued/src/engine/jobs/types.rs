//! What goes into the two engines of batch jobs and what comes out: plain data. The rooms that do input and output
//! know these types; they do not know the engines.
//!
//! Order is the promise: an engine's effects are carried out in the order in which it gave them, and none that
//! follows an [`AgentEffect::Spool`] or a [`LeaderEffect::Store`] is carried out before that is on disk. A commit that
//! fails ends the engine: it is loaded anew from the store.

use crate::engine::types::{AskId, Level};
use crate::store::{Op, SpoolOp};
use libqueue::wire::job::{
    Attempt, Deliver, Delivered, Key, Letter, Mailed, Outcome, Running, Submit, Submitted, down, job_reply,
    query, up,
};
use libqueue::wire::{Error, ErrorCode, Facts, Load, Need};

/// The time, as both kinds of clocks have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Clock {
    /// Milliseconds of `CLOCK_BOOTTIME`: never jumps, goes on during suspend. All intervals are of this clock.
    pub boot: u64,
    /// Milliseconds since the epoch: for people, and for `--at`. It may jump.
    pub wall: u64,
}

/// Names a connection between a host's agent and the leader: the agent's own number, rising.
pub(crate) type LinkId = u64;

// ---------------------------------------------------------------------------------------------------------
// The agent: one on each host.

/// What happens to the agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AgentInput {
    /// The time named by `wake` has come.
    Tick,
    /// A local program submits. Who it is and that the warrant is his was checked.
    Submit {
        /// The question.
        ask: AskId,
        /// What; `id`, `at_ms` are filled in by the agent.
        submit: Box<Submit>,
    },
    /// There is a connection with the leader: the agent is to say hello on it. The number is the shell's, rising.
    Linked(LinkId),
    /// It ended.
    Unlinked(LinkId),
    /// The leader said something.
    Heard(LinkId, down::Kind),
    /// queue-exec answers; what runs here is told next. The life of its records.
    ExecUp([u8; 16]),
    /// It does not any more.
    ExecDown,
    /// It has told all that runs here.
    ExecTold,
    /// Before the `ExecStarted` of an attempt that an earlier life of this daemon started: the length of its lease in
    /// milliseconds, as the note says that was kept with it. Not said where it has none.
    ExecLease(Key, u64),
    /// An attempt was handed to a session; `running` is there once its command was executed.
    ExecStarted(Key, Option<Running>),
    /// An attempt was stopped, or goes on.
    ExecStopped(Key, bool),
    /// An attempt has ended; without an outcome: nobody knows how.
    ExecEnded(Key, Option<Outcome>),
    /// This host has room for it: `Run` it.
    Granted(Key),
    /// It has none now, or the request does not fit: the code says which.
    NotGranted(Key, ErrorCode, String),
    /// To `Run`: queue-exec refused it, nothing was started. `true`: another host, or another time, may do.
    NotRun(Key, String, bool),
    /// A delivery is over.
    Delivered(Delivered),
    /// A letter was sent, or could not be.
    Mailed(Mailed),
    /// Whether this host can send mail.
    Mailer(bool),
}

/// What the agent wants done.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "each is carried out at once; few wait at a time"
)]
pub(crate) enum AgentEffect {
    /// Write this down. What follows waits for it.
    Spool(SpoolOp),
    /// Tell the leader.
    Send(LinkId, up::Kind),
    /// Close the connection; the shell opens a new one.
    Unlink(LinkId),
    /// Answer a local program.
    Answer(AskId, Result<Submitted, Error>),
    /// May this start here? Answered by `Granted` or `NotGranted`. `lent`: a job that runs here waits for it, and it
    /// may run in that one's slot.
    Grant {
        /// Which.
        key: Key,
        /// What it needs.
        need: Need,
        /// In whose slot.
        lent: Option<Key>,
    },
    /// A grant is not used.
    Ungrant(Key),
    /// Start it. Answered by `ExecStarted`, or by `NotRun`.
    Run {
        /// The attempt.
        attempt: Box<Attempt>,
        /// What it executes.
        run: std::sync::Arc<libqueue::wire::job::JobRun>,
        /// The tree ends at this time of `CLOCK_BOOTTIME`, in milliseconds; 0: never.
        deadline: u64,
    },
    /// End it, or send it a signal: as `KillAttempt`.
    End(libqueue::wire::job::KillAttempt),
    /// Its lease ends later.
    Lease(Key, u64),
    /// queue-exec may forget these outcomes.
    Forget(Vec<Key>),
    /// Bring output home. Answered by `Delivered`.
    Deliver(Box<Deliver>),
    /// Send a letter. Answered by `Mailed`.
    Mail(Box<Letter>),
    /// Say something in the log.
    Log(Level, String),
}

// ---------------------------------------------------------------------------------------------------------
// The leader.

/// A host, as its daemon's membership sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HostView {
    /// Name.
    pub name: String,
    /// Membership says it is dead, or it said goodbye, or it was removed.
    pub dead: bool,
    /// What it is; absent: not known yet.
    pub facts: Option<Facts>,
    /// Its load; absent: not known yet.
    pub load: Option<Load>,
}

/// Who asks, as queue-exec says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Asker {
    /// User.
    pub user: String,
    /// His host.
    pub host: String,
    /// An operator.
    pub operator: bool,
}

/// What happens to the leader.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LeaderInput {
    /// The time named by `wake` has come.
    Tick,
    /// What a host's agent said. The first of a link is its hello. `host` is TLS's word.
    Heard {
        /// The host.
        host: String,
        /// The connection: the shell's number, never used twice.
        conn: u64,
        /// What.
        message: up::Kind,
    },
    /// A connection with a host ended.
    Unlinked {
        /// The host.
        host: String,
        /// Which.
        conn: u64,
    },
    /// These hosts changed, or are new.
    Hosts(Vec<HostView>),
    /// These hosts are no longer members.
    HostsGone(Vec<String>),
    /// The classes that are configured.
    Classes(Vec<libqueue::wire::job::Class>),
    /// Somebody asks.
    Ask {
        /// The question.
        ask: AskId,
        /// Who.
        who: Asker,
        /// What.
        query: query::Kind,
    },
    /// Who asked no longer listens.
    Gone(AskId),
}

/// What the leader wants done.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "each is carried out at once; few wait at a time"
)]
pub(crate) enum LeaderEffect {
    /// Write this down. What follows waits for it.
    Store(Op),
    /// Tell a host.
    Send {
        /// The connection.
        conn: u64,
        /// What.
        message: down::Kind,
    },
    /// Send attempts to a host. The shell adds what the leader does not keep in memory: the runs of these jobs, and
    /// each task's entry with its proof (`Params::entry_index` is set).
    Dispatch {
        /// The connection.
        conn: u64,
        /// Without runs and entries.
        dispatch: libqueue::wire::job::Dispatch,
        /// Jobs whose runs go along.
        runs: Vec<u64>,
        /// Jobs whose tasks have entries.
        entries: Vec<u64>,
    },
    /// Bring output home: the shell adds the run.
    Deliver {
        /// The connection, of the host of the submission.
        conn: u64,
        /// The job.
        job: u64,
        /// From where.
        from: String,
        /// Number.
        number: u64,
    },
    /// Close a connection: it is superseded, or says what it should not.
    Close {
        /// Which.
        conn: u64,
        /// Why.
        why: String,
    },
    /// Answer somebody. `last`: nothing follows.
    Reply {
        /// The question.
        ask: AskId,
        /// What.
        reply: job_reply::Kind,
        /// The end.
        last: bool,
    },
    /// Answer from the store, once everything up to here is on disk.
    Read {
        /// The question.
        ask: AskId,
        /// Who.
        who: Asker,
        /// What.
        read: Read,
    },
    /// Say something in the log.
    Log(Level, String),
}

/// What the store has to add to an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Read {
    /// Search what has ended.
    History(libqueue::wire::job::History),
    /// `found`: jobs in memory, whose attempts and (if `private`) runs are to be added; `ids`: jobs that are not.
    Details {
        /// In memory; with whether the asker may see the run.
        found: Vec<(libqueue::wire::job::Detail, bool)>,
        /// Not in memory.
        ids: Vec<libqueue::wire::job::IdRange>,
    },
    /// Outputs that are known, and jobs of which nothing is in memory.
    Outputs {
        /// Known.
        found: Vec<libqueue::wire::job::Output>,
        /// Not in memory.
        ids: Vec<libqueue::wire::job::IdRange>,
    },
    /// Figures: what memory knows is filled in.
    Stats(libqueue::wire::job::Stats),
    /// A copy of the store.
    Export,
    /// The end of a wait for jobs that are not in memory any more: what memory knows is filled in.
    Over {
        /// What is known.
        over: libqueue::wire::job::Over,
        /// Jobs that ended before.
        ids: Vec<libqueue::wire::job::IdRange>,
    },
}
