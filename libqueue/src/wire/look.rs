//! Sessions that run, as anybody and as their owners may know them, and what is asked of a host about them. Nothing of
//! what goes through a session.

use super::{Error, Need};
use prost::Message;

/// Sessions that run.
#[derive(Clone, PartialEq, Message)]
pub struct Sessions {
    /// Each of them.
    #[prost(message, repeated, tag = "1")]
    pub sessions: Vec<SessionInfo>,
    /// Hosts that did not answer, each with the reason: their sessions are missing.
    #[prost(string, repeated, tag = "2")]
    pub silent: Vec<String>,
}

/// One session, as anybody may know it: no command line, no environment.
#[derive(Clone, PartialEq, Message)]
pub struct SessionInfo {
    /// Its nonce. What people see is `s` and the first eight hexadecimal digits.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Where it runs.
    #[prost(string, tag = "2")]
    pub host: String,
    /// Its local account there.
    #[prost(string, tag = "3")]
    pub login: String,
    /// The user who started it, and where.
    #[prost(string, tag = "4")]
    pub user: String,
    /// The host that he started it from.
    #[prost(string, tag = "5")]
    pub from: String,
    /// When it began, in milliseconds since the epoch, by that host's clock.
    #[prost(uint64, tag = "6")]
    pub since_ms: u64,
    /// CPU time of its processes that live, in milliseconds.
    #[prost(uint64, tag = "7")]
    pub cpu_ms: u64,
    /// Cores that it uses now.
    #[prost(double, tag = "8")]
    pub cpu_now: f64,
    /// Resident memory in bytes.
    #[prost(uint64, tag = "9")]
    pub mem: u64,
    /// Its processes.
    #[prost(uint32, tag = "10")]
    pub processes: u32,
    /// What it asked for.
    #[prost(message, optional, tag = "11")]
    pub need: Option<Need>,
    /// That host's clock at the answer, in milliseconds since the epoch: makes `since_ms` an age.
    #[prost(uint64, tag = "12")]
    pub clock_ms: u64,
    /// Its user has detached it: nobody is attached, and nobody is waited for.
    #[prost(bool, tag = "13")]
    pub detached: bool,
    /// How many only look at it.
    #[prost(uint32, tag = "14")]
    pub watchers: u32,
}

/// Asks a session that runs as the user to look at others of his.
#[derive(Clone, PartialEq, Message)]
pub struct Look {
    /// Nonces; empty: all of the user's on that host.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub sessions: Vec<Vec<u8>>,
    /// Whether environments are wanted.
    #[prost(bool, tag = "2")]
    pub env: bool,
}

/// What it saw.
#[derive(Clone, PartialEq, Message)]
pub struct Looked {
    /// Each session that the user may look at.
    #[prost(message, repeated, tag = "1")]
    pub sessions: Vec<LookedSession>,
}

/// One session, as its owner may know it.
#[derive(Clone, PartialEq, Message)]
pub struct LookedSession {
    /// Its nonce.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Process id of the command on that host; 0: it has ended.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// Its arguments.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub argv: Vec<Vec<u8>>,
    /// Its directory.
    #[prost(bytes = "vec", tag = "4")]
    pub cwd: Vec<u8>,
    /// Its environment, where asked for and permitted.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub env: Vec<Vec<u8>>,
    /// State of the command as in proc(5): `R`, `S`, `T`, ...
    #[prost(string, tag = "6")]
    pub state: String,
    /// Its terminal, if any: `/dev/pts/3`.
    #[prost(string, tag = "7")]
    pub tty: String,
}

/// Asks the host itself for something.
#[derive(Clone, PartialEq, Message)]
pub struct ControlAsk {
    /// The ticket; its request hash is that of `body`.
    #[prost(bytes = "vec", tag = "1")]
    pub ticket: Vec<u8>,
    /// Certificate of the host that signed it.
    #[prost(bytes = "vec", tag = "2")]
    pub source_cert: Vec<u8>,
    /// An encoded `queue_exec::protocol::Control`.
    #[prost(bytes = "vec", tag = "3")]
    pub body: Vec<u8>,
}

/// The answer.
#[derive(Clone, PartialEq, Message)]
pub struct ControlReply {
    /// Why not; absent: done.
    #[prost(message, optional, tag = "1")]
    pub error: Option<Error>,
    /// What was done, for people.
    #[prost(string, tag = "2")]
    pub text: String,
}
