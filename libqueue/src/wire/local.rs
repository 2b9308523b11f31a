//! What programs ask the daemon of their own host, over `queued.sock`, and what it says of hosts, of itself and of
//! where something would run. Knows nothing of connections between hosts.

use super::{Empty, Error, Facts, Keys, Load, Need, Sessions, job};
use prost::{Enumeration, Message, Oneof};

/// Asked by local programs.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// What is asked.
    #[prost(oneof = "request::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20")]
    pub kind: Option<request::Kind>,
}

/// Kinds of [`Request`].
pub mod request {
    use super::Oneof;

    /// What is asked.
    #[allow(
        clippy::large_enum_variant,
        reason = "it lives as long as it takes to encode or answer it"
    )]
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// Where shall it run? Answered by `Placed` or `Error`.
        #[prost(message, tag = "1")]
        Place(super::Place),
        /// All hosts. Answered by `Hosts`.
        #[prost(message, tag = "2")]
        Hosts(super::Empty),
        /// Read configuration, keys and members again (root or the daemon's own user).
        #[prost(message, tag = "3")]
        Reload(super::Empty),
        /// A new signed revocation list, to be spread (it proves itself).
        #[prost(bytes, tag = "4")]
        Revoke(Vec<u8>),
        /// Who are you? Answered by `Status`.
        #[prost(message, tag = "5")]
        Status(super::Empty),
        /// How each host would be judged for this: answered by [`Explained`](super::reply::Kind::Explained).
        #[prost(message, tag = "6")]
        Explain(super::Place),
        /// All sessions of the cluster: answered by [`Sessions`](super::reply::Kind::Sessions).
        #[prost(message, tag = "7")]
        Sessions(super::Empty),
        /// A new key ring, signed by the authority: adopt it and spread it ([`Keys`](super::Keys)).
        #[prost(message, tag = "8")]
        Keys(super::Keys),
        /// A batch job. Answered by `Submitted` once it is on disk, or by `Error`. Several may be sent one after the
        /// other without waiting: they are answered in order.
        #[prost(message, tag = "9")]
        Submit(super::job::Submit),
        /// Which host leads the batch jobs? Answered by `Placed`.
        #[prost(message, tag = "10")]
        Leader(super::Empty),
        /// The program at its path is to take the daemon's place (root; in a single-user install its owner). The
        /// connection ends with the program that runs; `Error`: it goes on.
        #[prost(message, tag = "20")]
        Upgrade(super::Empty),
    }
}

/// Asks for a host.
#[derive(Clone, PartialEq, Message)]
pub struct Place {
    /// Name of a host; empty or `+` for the best one.
    #[prost(string, tag = "1")]
    pub host: String,
    /// If the named host is not there, take the best one (`-H`).
    #[prost(bool, tag = "2")]
    pub prefer: bool,
    /// Hosts not to take: the asker just tried them.
    #[prost(string, repeated, tag = "3")]
    pub avoid: Vec<String>,
    /// What the command needs; absent: nothing in particular.
    #[prost(message, optional, tag = "4")]
    pub need: Option<Need>,
    /// Wait until a host has room: [`reply::Kind::Waiting`] is said, perhaps several times, before the answer.
    #[prost(bool, tag = "5")]
    pub wait: bool,
}

/// Answers of the daemon to local programs.
#[derive(Clone, PartialEq, Message)]
pub struct Reply {
    /// The answer.
    #[prost(oneof = "reply::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    pub kind: Option<reply::Kind>,
}

/// Kinds of [`Reply`].
pub mod reply {
    use super::Oneof;

    /// The answer.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// A host.
        #[prost(message, tag = "1")]
        Placed(super::Placed),
        /// All hosts.
        #[prost(message, tag = "2")]
        Hosts(super::Hosts),
        /// Done.
        #[prost(message, tag = "3")]
        Done(super::Empty),
        /// Not done.
        #[prost(message, tag = "4")]
        Error(super::Error),
        /// About this daemon.
        #[prost(message, tag = "5")]
        Status(super::Status),
        /// To a place request that waits: not yet, and why.
        #[prost(message, tag = "6")]
        Waiting(super::Waiting),
        /// To an explain request.
        #[prost(message, tag = "7")]
        Explained(super::Explained),
        /// To a request for sessions.
        #[prost(message, tag = "8")]
        Sessions(super::Sessions),
        /// To a submission.
        #[prost(message, tag = "9")]
        Submitted(super::job::Submitted),
    }
}

/// Where to go.
#[derive(Clone, PartialEq, Message)]
pub struct Placed {
    /// The host's name.
    #[prost(string, tag = "1")]
    pub host: String,
    /// Its address as `IP:PORT` or `[IP6]:PORT`.
    #[prost(string, tag = "2")]
    pub address: String,
    /// Its certificate.
    #[prost(bytes = "vec", tag = "3")]
    pub cert: Vec<u8>,
    /// Whether it is the host we are on.
    #[prost(bool, tag = "4")]
    pub local: bool,
}

/// All hosts that the answering daemon knows, itself included, by name.
#[derive(Clone, PartialEq, Message)]
pub struct Hosts {
    /// One each.
    #[prost(message, repeated, tag = "1")]
    pub hosts: Vec<HostInfo>,
    /// Name of the cluster.
    #[prost(string, tag = "2")]
    pub cluster: String,
}

/// State of a host as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum HostState {
    /// Never seen since this daemon started.
    Unknown = 0,
    /// Answers.
    Up = 1,
    /// Does not answer.
    Down = 2,
    /// It did not answer when it was asked last; others may still reach it.
    Suspect = 3,
    /// It said goodbye.
    Left = 4,
}

/// One host.
#[derive(Clone, PartialEq, Message)]
pub struct HostInfo {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Address as `IP:PORT`.
    #[prost(string, tag = "2")]
    pub address: String,
    /// State.
    #[prost(enumeration = "HostState", tag = "3")]
    pub state: i32,
    /// Its last load report.
    #[prost(message, optional, tag = "4")]
    pub load: Option<Load>,
    /// Milliseconds since that report.
    #[prost(uint64, tag = "5")]
    pub age_ms: u64,
    /// Why it is down, if known.
    #[prost(string, tag = "6")]
    pub reason: String,
    /// Whether it holds the cluster's authority (tokens are made and hosts are removed there).
    #[prost(bool, tag = "7")]
    pub authority: bool,
    /// Version of its software.
    #[prost(string, tag = "8")]
    pub version: String,
    /// Whether it is the answering host itself.
    #[prost(bool, tag = "9")]
    pub local: bool,
    /// What does not change from minute to minute; absent: not known yet.
    #[prost(message, optional, tag = "10")]
    pub facts: Option<Facts>,
}

/// About a daemon.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// Its host's name.
    #[prost(string, tag = "1")]
    pub host: String,
    /// The cluster's name.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// Its version.
    #[prost(string, tag = "3")]
    pub version: String,
    /// Whether it holds the authority.
    #[prost(bool, tag = "4")]
    pub authority: bool,
    /// Its advertised address.
    #[prost(string, tag = "5")]
    pub address: String,
    /// Fingerprint of the authority.
    #[prost(bytes = "vec", tag = "6")]
    pub fingerprint: Vec<u8>,
    /// Random, made when it was started.
    #[prost(bytes = "vec", tag = "20")]
    pub boot: Vec<u8>,
    /// Where its program was started from.
    #[prost(string, tag = "21")]
    pub program: String,
}

/// Why a place request still waits.
#[derive(Clone, PartialEq, Message)]
pub struct Waiting {
    /// In one line.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// Requests of this host that come first.
    #[prost(uint32, tag = "2")]
    pub ahead: u32,
}

/// How the hosts are judged for a request.
#[derive(Clone, PartialEq, Message)]
pub struct Explained {
    /// Each host, the best first, then those that are out of the question.
    #[prost(message, repeated, tag = "1")]
    pub hosts: Vec<Judged>,
    /// The formula, for people.
    #[prost(string, tag = "2")]
    pub formula: String,
    /// What would happen now, in one line.
    #[prost(string, tag = "3")]
    pub verdict: String,
}

/// How one host is judged.
#[derive(Clone, PartialEq, Message)]
pub struct Judged {
    /// The host.
    #[prost(string, tag = "1")]
    pub host: String,
    /// Expected slowdown; lower is better.
    #[prost(double, tag = "2")]
    pub score: f64,
    /// What the score is made of, in the formula's order.
    #[prost(message, repeated, tag = "3")]
    pub terms: Vec<Term>,
    /// Why not; empty: it may be chosen.
    #[prost(string, tag = "4")]
    pub no: String,
    /// Probability of being drawn first, 0 to 1.
    #[prost(double, tag = "5")]
    pub chance: f64,
    /// Age of what is known of it, in milliseconds.
    #[prost(uint64, tag = "6")]
    pub age_ms: u64,
}

/// One term of a score.
#[derive(Clone, PartialEq, Message)]
pub struct Term {
    /// Its name in the formula.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// Where it comes from, for people.
    #[prost(string, tag = "3")]
    pub text: String,
}
