//! The messages, as Protocol Buffers (proto3 semantics). Tags are numbered once and for ever; a tag is never
//! reused. Unknown fields are ignored, an unknown variant of a `oneof` decodes to `None` and is refused or
//! skipped by its reader: so two versions can talk.
//!
//! Pure data. Framing is [`crate::frame`], the session's byte stream is [`crate::stream`].

pub mod job;

use prost::{Enumeration, Message, Oneof};

/// Version of all protocols here; a peer with another major one is refused with a clear text.
pub const PROTOCOL: u32 = 1;

/// First bytes of every TCP connection to `queued`: these, a kind, a zero, and the length of what follows.
pub const PREAMBLE: &[u8; 4] = b"QUE1";
/// Length of the fixed part of the preamble: magic, kind, zero, 16-bit big-endian length.
pub const PREAMBLE_LEN: usize = 8;
/// Kind: member to member, TLS with both ends known follows.
pub const KIND_MEMBER: u8 = b'M';
/// Kind: a host that wants to join, TLS follows.
pub const KIND_JOIN: u8 = b'J';
/// Kind: a session; what follows is the [`SessionHello`], then TLS with the session process.
pub const KIND_SESSION: u8 = b'S';
/// Kind of connection: a request to the host itself (kill, drain), over TLS with the host's own key; then one
/// frame [`ControlAsk`] and one frame [`ControlReply`].
pub const KIND_CONTROL: u8 = b'C';
/// Kind: a session that lost its connection; what follows is the [`ResumeHello`], then [`crate::link::join`].
pub const KIND_RESUME: u8 = b'R';
/// Kind: somebody who wants to see a session that runs already; what follows is the [`AttachHello`], then, as with
/// a new session, the [`SessionAnswer`] and TLS with the session process. The first message is [`Attach`].
pub const KIND_ATTACH: u8 = b'A';

/// Builds a preamble.
pub fn preamble(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut v = Vec::with_capacity(PREAMBLE_LEN + body.len());
    v.extend_from_slice(PREAMBLE);
    v.extend_from_slice(&[kind, 0]);
    v.extend_from_slice(&(body.len() as u16).to_be_bytes());
    v.extend_from_slice(body);
    v
}

/// Reads the fixed part of a preamble: kind and length of the body. `None`: not our protocol.
pub fn parse_preamble(head: &[u8; PREAMBLE_LEN]) -> Option<(u8, usize)> {
    (head[..4] == PREAMBLE[..] && head[5] == 0)
        .then(|| (head[4], usize::from(u16::from_be_bytes([head[6], head[7]]))))
}

/// Body of a session's preamble.
#[derive(Clone, PartialEq, Message)]
pub struct SessionHello {
    /// Ticket, as signed by the source's `queue-exec`.
    #[prost(bytes = "vec", tag = "1")]
    pub ticket: Vec<u8>,
    /// Certificate of the source.
    #[prost(bytes = "vec", tag = "2")]
    pub source_cert: Vec<u8>,
    /// What the command needs; the executing host grants it or refuses.
    #[prost(message, optional, tag = "3")]
    pub need: Option<Need>,
}

/// Body of the preamble of a connection that takes a broken one's place.
#[derive(Clone, PartialEq, Message)]
pub struct ResumeHello {
    /// The session: its ticket's nonce, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub session: Vec<u8>,
    /// Random, 16 bytes: if there is no such session any more the host signs that, with this.
    #[prost(bytes = "vec", tag = "2")]
    pub challenge: Vec<u8>,
}

/// Body of the preamble of a connection that wants to see a session. The ticket's request is the [`Attach`].
#[derive(Clone, PartialEq, Message)]
pub struct AttachHello {
    /// Ticket, as signed by the source's `queue-exec`.
    #[prost(bytes = "vec", tag = "1")]
    pub ticket: Vec<u8>,
    /// Certificate of the source.
    #[prost(bytes = "vec", tag = "2")]
    pub source_cert: Vec<u8>,
    /// The session: the nonce of the ticket that it was started with, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub session: Vec<u8>,
}

/// What is wanted of a session that runs: the first message of a connection that attaches.
#[derive(Clone, PartialEq, Message)]
pub struct Attach {
    /// The session, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub session: Vec<u8>,
    /// Only look: nothing is sent to the command, and whoever is attached stays.
    #[prost(bool, tag = "2")]
    pub watch: bool,
    /// Size of the window, if there is a terminal.
    #[prost(message, optional, tag = "3")]
    pub size: Option<Winsize>,
    /// Name of the host that attaches.
    #[prost(string, tag = "4")]
    pub host: String,
    /// The stream can be resumed ([`Launch::resume`]).
    #[prost(bool, tag = "5")]
    pub resume: bool,
}

/// First thing on a session's connection from the executing host, in clear, before TLS: length (16-bit big
/// endian), then this. Its grant is signed; a refusal is only a reason to give up, which anybody on the path
/// could bring about anyhow.
#[derive(Clone, PartialEq, Message)]
pub struct SessionAnswer {
    /// The signed grant; empty if refused.
    #[prost(bytes = "vec", tag = "1")]
    pub grant: Vec<u8>,
    /// Why not, in one line.
    #[prost(string, tag = "2")]
    pub refused: String,
    /// What kind of refusal: with [`ErrorCode::Full`], [`ErrorCode::Draining`] and [`ErrorCode::Unfit`] nothing
    /// was begun, and another host may do.
    #[prost(enumeration = "ErrorCode", tag = "3")]
    pub code: i32,
    /// The session acknowledges, keeps and resumes its stream.
    #[prost(bool, tag = "4")]
    pub resume: bool,
    /// To a [`ResumeHello`]: the host's signed word that it has no such session any more
    /// (`queue_exec::ticket::Gone`).
    #[prost(bytes = "vec", tag = "5")]
    pub gone: Vec<u8>,
}

// ---------------------------------------------------------------------------------------------------------
// The front end and its local daemon, over `queued.sock`.

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

/// Nothing to say.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

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

/// A failure, for people and for programs.
#[derive(Clone, PartialEq, Message)]
pub struct Error {
    /// What kind.
    #[prost(enumeration = "ErrorCode", tag = "1")]
    pub code: i32,
    /// What failed, where, and what to do, in one line without a prefix.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ErrorCode {
    /// Not said.
    Unknown = 0,
    /// No such host in the cluster.
    NoSuchHost = 1,
    /// The host does not answer.
    HostDown = 2,
    /// No host is willing.
    NoHost = 3,
    /// Not permitted.
    Denied = 4,
    /// The request was not understood (another version?).
    BadRequest = 5,
    /// The daemon is not ready yet.
    NotReady = 6,
    /// Something failed inside; the daemon's log has the rest.
    Internal = 7,
    /// The token is wrong, expired or used up.
    Token = 8,
    /// The host name is not allowed or taken.
    Name = 9,
    /// The host key belongs to another member: a cloned image.
    Clone = 10,
    /// The clocks are too far apart.
    Clock = 11,
    /// The host is being drained.
    Draining = 12,
    /// The host has no room now.
    Full = 13,
    /// The host can never do that.
    Unfit = 14,
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

/// What a host says of its load.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Load {
    /// 1-minute load average.
    #[prost(double, tag = "1")]
    pub load1: f64,
    /// 5-minute load average.
    #[prost(double, tag = "2")]
    pub load5: f64,
    /// 15-minute load average.
    #[prost(double, tag = "3")]
    pub load15: f64,
    /// Cores that may be used; 0: nothing can be run there at the moment.
    #[prost(uint32, tag = "4")]
    pub cores: u32,
    /// Memory in bytes.
    #[prost(uint64, tag = "5")]
    pub mem_total: u64,
    /// Memory available in bytes.
    #[prost(uint64, tag = "6")]
    pub mem_available: u64,
    /// Sessions that run.
    #[prost(uint32, tag = "7")]
    pub sessions: u32,
    /// Tasks that run or want to, averaged over about five seconds.
    #[prost(double, tag = "8")]
    pub running: f64,
    /// Cores in use since the last report (0.0 to `cores`).
    #[prost(double, tag = "9")]
    pub busy: f64,
    /// Pressure: per cent of the last 10 s in which some task waited for a core (PSI `some avg10`); 0 where the
    /// kernel has no PSI.
    #[prost(double, tag = "10")]
    pub psi_cpu: f64,
    /// The same for memory.
    #[prost(double, tag = "11")]
    pub psi_mem: f64,
    /// The same for input and output.
    #[prost(double, tag = "12")]
    pub psi_io: f64,
    /// Sessions started in the last seconds, each fading away (see the engine's `place`).
    #[prost(double, tag = "13")]
    pub starts: f64,
    /// Cores that running sessions and jobs asked for.
    #[prost(uint32, tag = "14")]
    pub cores_reserved: u32,
    /// Memory that they asked for, in bytes.
    #[prost(uint64, tag = "15")]
    pub mem_reserved: u64,
    /// GPUs that they asked for.
    #[prost(uint32, tag = "16")]
    pub gpus_reserved: u32,
    /// Free bytes where commands put their temporary files.
    #[prost(uint64, tag = "17")]
    pub disk_free: u64,
    /// Disk space that they asked for, in bytes.
    #[prost(uint64, tag = "18")]
    pub disk_reserved: u64,
    /// Nothing new is started there.
    #[prost(bool, tag = "19")]
    pub draining: bool,
    /// Which [`Facts`] it goes with.
    #[prost(uint64, tag = "20")]
    pub facts: u64,
    /// Batch jobs that run there.
    #[prost(uint32, tag = "21")]
    pub jobs: u32,
    /// Rises with each report of a boot: an older one that comes late does not count.
    #[prost(uint64, tag = "22")]
    pub seq: u64,
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

// ---------------------------------------------------------------------------------------------------------
// Resources and placement.

/// What a command needs of a host. Zero or empty: not said.
#[derive(Clone, PartialEq, Message)]
pub struct Need {
    /// Cores, reserved while it runs.
    #[prost(uint32, tag = "1")]
    pub cores: u32,
    /// Memory in bytes, reserved while it runs.
    #[prost(uint64, tag = "2")]
    pub mem: u64,
    /// GPUs, reserved while it runs.
    #[prost(uint32, tag = "3")]
    pub gpus: u32,
    /// Disk space in bytes, reserved while it runs.
    #[prost(uint64, tag = "4")]
    pub disk: u64,
    /// What must hold for the host, in the language of `libqueue::expr`.
    #[prost(string, tag = "5")]
    pub expr: String,
    /// The rsh form on a named host: an administrator's way into a host that is drained or full.
    #[prost(bool, tag = "6")]
    pub by_name: bool,
    /// It only looks at other sessions ([`Look`]): nothing is counted.
    #[prost(bool, tag = "7")]
    pub look: bool,
}

/// The note that a daemon has queue-exec keep with a session that it granted.
#[derive(Clone, PartialEq, Message)]
pub struct SessionNote {
    /// What was asked for.
    #[prost(message, optional, tag = "1")]
    pub need: Option<Need>,
    /// Number of the grant.
    #[prost(uint64, tag = "2")]
    pub grant: u64,
    /// Which run of the daemon granted it.
    #[prost(bytes = "vec", tag = "3")]
    pub boot: Vec<u8>,
    /// Length of the lease in milliseconds, of an attempt of a batch job that has one.
    #[prost(uint64, tag = "4")]
    pub lease_ms: u64,
}

/// What a host is, as long as its daemon's configuration stays the same.
#[derive(Clone, PartialEq, Message)]
pub struct Facts {
    /// Names this set of facts; another one when any of them changes. Never 0.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Cores that may be used: the smaller of the machine's and the own cgroup's.
    #[prost(uint32, tag = "2")]
    pub cores: u32,
    /// Memory in bytes: the smaller of the machine's and the own cgroup's.
    #[prost(uint64, tag = "3")]
    pub mem: u64,
    /// Size in bytes of the disk for temporary files.
    #[prost(uint64, tag = "4")]
    pub disk: u64,
    /// GPUs.
    #[prost(message, repeated, tag = "5")]
    pub gpus: Vec<Gpu>,
    /// Architecture, as `uname -m`.
    #[prost(string, tag = "6")]
    pub arch: String,
    /// Kernel release, as `uname -r`.
    #[prost(string, tag = "7")]
    pub kernel: String,
    /// Distribution and its version, as `ID` and `VERSION_ID` of os-release: `debian-13`.
    #[prost(string, tag = "8")]
    pub os: String,
    /// Labels and sized resources of `queued.toml`, as written there: `raid` = `200G`, `room` = `b12`.
    #[prost(btree_map = "string, string", tag = "9")]
    pub resources: std::collections::BTreeMap<String, String>,
    /// Power factor of `queued.toml`: how fast a core is, compared with others (1.0).
    #[prost(double, tag = "10")]
    pub power: f64,
    /// At most so many sessions at once; 0: no limit.
    #[prost(uint32, tag = "11")]
    pub max_sessions: u32,
    /// Version of its software.
    #[prost(string, tag = "12")]
    pub version_text: String,
    /// Not willing: takes no work of others (`willing = false` in `queued.toml`).
    #[prost(bool, tag = "13")]
    pub unwilling: bool,
}

/// One GPU.
#[derive(Clone, PartialEq, Message)]
pub struct Gpu {
    /// Model, for people.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Memory in bytes; 0: not known.
    #[prost(uint64, tag = "2")]
    pub mem: u64,
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

// ---------------------------------------------------------------------------------------------------------
// Gossip: sealed datagrams between members. They never grant anything: any member can forge another's.

/// Keys of the gossip, as the authority made them.
#[derive(Clone, PartialEq, Message)]
pub struct Keys {
    /// Rises with each rotation.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// The current key, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    /// The authority's signature over the version and the SHA-256 of the key.
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
}

/// One datagram, after unsealing.
#[derive(Clone, PartialEq, Message)]
pub struct Gossip {
    /// What it says.
    #[prost(oneof = "gossip::Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<gossip::Kind>,
}

/// What a datagram says.
pub mod gossip {
    use super::Oneof;

    /// One kind.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// Membership (SWIM).
        #[prost(bytes, tag = "1")]
        Swim(Vec<u8>),
        /// A load report.
        #[prost(message, tag = "2")]
        Report(super::Load),
        /// What are you? Answered by `Facts`.
        #[prost(message, tag = "3")]
        FactsAsk(super::Empty),
        /// What the sender is.
        #[prost(message, tag = "4")]
        Facts(super::Facts),
        /// Would you take this now? Answered by `Word`.
        #[prost(message, tag = "5")]
        Ask(super::Ask),
        /// The fresh word.
        #[prost(message, tag = "6")]
        Word(super::Word),
    }
}

/// Would you take this now?
#[derive(Clone, PartialEq, Message)]
pub struct Ask {
    /// Comes back with the answer.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is needed.
    #[prost(message, optional, tag = "2")]
    pub need: Option<Need>,
}

/// A fresh word.
#[derive(Clone, PartialEq, Message)]
pub struct Word {
    /// Of the question.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Load at this moment, launches under way included.
    #[prost(message, optional, tag = "2")]
    pub load: Option<Load>,
    /// Why not; empty: yes.
    #[prost(string, tag = "3")]
    pub no: String,
    /// What kind of no.
    #[prost(enumeration = "ErrorCode", tag = "4")]
    pub code: i32,
    /// Launches of the asker that are expected and count in the load, each as a half.
    #[prost(uint32, tag = "5")]
    pub yours: u32,
}

// ---------------------------------------------------------------------------------------------------------
// Member to member, over mutual TLS.

/// What members tell each other.
#[derive(Clone, PartialEq, Message)]
pub struct Member {
    /// The message.
    #[prost(oneof = "member::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub kind: Option<member::Kind>,
}

/// Kinds of [`Member`].
pub mod member {
    use super::Oneof;

    /// The message.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// First from each side.
        #[prost(message, tag = "1")]
        Hello(super::MemberHello),
        /// A load report; also the sign of life.
        #[prost(message, tag = "2")]
        Load(super::Load),
        /// Members that the receiver may not know.
        #[prost(message, tag = "3")]
        Roster(super::Roster),
        /// The current signed revocation list.
        #[prost(bytes, tag = "4")]
        Revocations(Vec<u8>),
        /// I am going, with a reason.
        #[prost(string, tag = "5")]
        Bye(String),
        /// The gossip keys, signed by the authority.
        #[prost(message, tag = "6")]
        Keys(super::Keys),
        /// On an errand: which sessions run there? Answered by `Sessions`.
        #[prost(message, tag = "7")]
        SessionsAsk(super::Empty),
        /// The answer.
        #[prost(message, tag = "8")]
        Sessions(super::Sessions),
        /// On an errand, to the authority's host: my certificate ends soon, I want a new one for the same keys.
        /// Answered by `Renewed` or `Failed`.
        #[prost(message, tag = "9")]
        Renew(super::Empty),
        /// The new certificate.
        #[prost(bytes, tag = "10")]
        Renewed(Vec<u8>),
        /// An errand that failed, with the reason.
        #[prost(string, tag = "11")]
        Failed(String),
    }
}

/// Opens a member connection.
#[derive(Clone, PartialEq, Message)]
pub struct MemberHello {
    /// The sender's certificate; its `tls_key` must be the one TLS showed.
    #[prost(bytes = "vec", tag = "1")]
    pub cert: Vec<u8>,
    /// Where others reach it, `IP:PORT`.
    #[prost(string, tag = "2")]
    pub address: String,
    /// Random, made at each start: two of them at once mean a cloned host.
    #[prost(bytes = "vec", tag = "3")]
    pub boot: Vec<u8>,
    /// Software version.
    #[prost(string, tag = "4")]
    pub version: String,
    /// The sender's clock, milliseconds since the epoch.
    #[prost(uint64, tag = "5")]
    pub clock_ms: u64,
    /// [`PROTOCOL`].
    #[prost(uint32, tag = "6")]
    pub protocol: u32,
    /// An errand: one question, one answer, and the connection ends. It is no sign of life and no link.
    #[prost(bool, tag = "7")]
    pub errand: bool,
}

/// Members with their certificates.
#[derive(Clone, PartialEq, Message)]
pub struct Roster {
    /// One each.
    #[prost(message, repeated, tag = "1")]
    pub members: Vec<RosterEntry>,
    /// The sender lacks some member's certificate: answer with all.
    #[prost(bool, tag = "2")]
    pub wanted: bool,
}

/// A member as another one knows it.
#[derive(Clone, PartialEq, Message)]
pub struct RosterEntry {
    /// Certificate (names it).
    #[prost(bytes = "vec", tag = "1")]
    pub cert: Vec<u8>,
    /// Last known address, `IP:PORT`.
    #[prost(string, tag = "2")]
    pub address: String,
    /// Whether it holds the authority.
    #[prost(bool, tag = "3")]
    pub authority: bool,
}

// ---------------------------------------------------------------------------------------------------------
// Joining, over TLS in which the joiner does not know the server yet.

/// What a member says first to a joiner: enough to check the token's fingerprint before any secret is sent.
#[derive(Clone, PartialEq, Message)]
pub struct JoinOffer {
    /// The authority's public key: its SHA-256 must be the token's fingerprint.
    #[prost(bytes = "vec", tag = "1")]
    pub authority: Vec<u8>,
    /// The member's certificate: signed by it, with the `tls_key` that TLS showed.
    #[prost(bytes = "vec", tag = "2")]
    pub cert: Vec<u8>,
    /// Its clock, milliseconds since the epoch.
    #[prost(uint64, tag = "3")]
    pub clock_ms: u64,
    /// [`PROTOCOL`].
    #[prost(uint32, tag = "4")]
    pub protocol: u32,
    /// The cluster's name.
    #[prost(string, tag = "5")]
    pub cluster: String,
}

/// The joiner's request, sent after it has checked the offer.
#[derive(Clone, PartialEq, Message)]
pub struct JoinRequest {
    /// Token id.
    #[prost(string, tag = "1")]
    pub token: String,
    /// Proof that the token's secret is known (`queue_exec::token::proof`); of an older version: the secret.
    #[prost(string, tag = "2")]
    pub secret: String,
    /// Host name wanted.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Public key for tickets.
    #[prost(bytes = "vec", tag = "4")]
    pub host_key: Vec<u8>,
    /// The joiner's advertised address, or empty: take what you see, with this port.
    #[prost(string, tag = "5")]
    pub address: String,
    /// Port it listens on.
    #[prost(uint32, tag = "6")]
    pub port: u32,
    /// Join even though the name is spelled like a verb.
    #[prost(bool, tag = "7")]
    pub force: bool,
    /// Its clock, milliseconds since the epoch.
    #[prost(uint64, tag = "8")]
    pub clock_ms: u64,
    /// Only say whether all would be well: nothing is issued and no use of the token is counted.
    #[prost(bool, tag = "9")]
    pub dry_run: bool,
}

/// The answer to a joiner.
#[derive(Clone, PartialEq, Message)]
pub struct JoinReply {
    /// Set if refused.
    #[prost(message, optional, tag = "1")]
    pub error: Option<Error>,
    /// The joiner's certificate.
    #[prost(bytes = "vec", tag = "2")]
    pub cert: Vec<u8>,
    /// All members.
    #[prost(message, optional, tag = "3")]
    pub roster: Option<Roster>,
    /// The signed revocation list.
    #[prost(bytes = "vec", tag = "4")]
    pub revocations: Vec<u8>,
    /// The cluster's name.
    #[prost(string, tag = "5")]
    pub cluster: String,
    /// The joiner's address as seen or confirmed by the member, `IP:PORT`.
    #[prost(string, tag = "6")]
    pub address: String,
    /// The gossip keys.
    #[prost(message, optional, tag = "7")]
    pub keys: Option<Keys>,
}

// ---------------------------------------------------------------------------------------------------------
// The session: `queue` and the session process, as control frames of the session stream.

/// How the command was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Form {
    /// `queue -- COMMAND`: argv as given, caller's environment and directory.
    Launch = 0,
    /// `queue HOST [COMMAND]`: the user's login shell there, home directory, login environment.
    Rsh = 1,
    /// `queue -c STRING`: `/bin/sh` with these arguments, caller's environment and directory.
    Shell = 2,
}

/// What to run, and how it is to look like a local command. Its encoded bytes are what the ticket's hash
/// covers; they are the first control frame of the stream.
#[derive(Clone, PartialEq, Message)]
pub struct Launch {
    /// The form.
    #[prost(enumeration = "Form", tag = "1")]
    pub form: i32,
    /// Launch: argv. Shell: the arguments after `sh`. Rsh: one string for `SHELL -c`, or none for a login
    /// shell.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub argv: Vec<Vec<u8>>,
    /// `NAME=VALUE` each. Rsh: only what goes along (`TERM`, `LANG`, `LC_*`).
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub env: Vec<Vec<u8>>,
    /// Working directory; empty in the rsh form (home).
    #[prost(bytes = "vec", tag = "4")]
    pub cwd: Vec<u8>,
    /// Umask; absent in the rsh form (the login default there).
    #[prost(uint32, optional, tag = "5")]
    pub umask: Option<u32>,
    /// Nice value, only ever raised there.
    #[prost(int32, tag = "6")]
    pub nice: i32,
    /// Soft and hard limits, only ever tightened there.
    #[prost(message, repeated, tag = "7")]
    pub rlimits: Vec<Rlimit>,
    /// Signals ignored by the caller: bit N-1 for signal N.
    #[prost(uint64, tag = "8")]
    pub ignored: u64,
    /// Signals blocked by the caller.
    #[prost(uint64, tag = "9")]
    pub blocked: u64,
    /// The terminal to make, if any.
    #[prost(message, optional, tag = "10")]
    pub pty: Option<Pty>,
    /// Standard input is `/dev/null` (`-n` of rsh, `--no-stdin`).
    #[prost(bool, tag = "11")]
    pub no_stdin: bool,
    /// The rsh form on a named host: wait for end of file on the pipes, and leave background processes alone.
    #[prost(bool, tag = "12")]
    pub leave: bool,
    /// Name of the submitting host, for `QUEUE_SUBMIT_HOST`.
    #[prost(string, tag = "13")]
    pub submit_host: String,
    /// Nothing is run: the session says what it sees of these sessions ([`Looked`]) and ends.
    #[prost(message, optional, tag = "14")]
    pub look: Option<Look>,
    /// The caller acknowledges, keeps and resumes the stream; the session does the same then, as it said in its
    /// [`SessionAnswer`].
    #[prost(bool, tag = "15")]
    pub resume: bool,
    /// X11 connections are forwarded to the caller's display (`-X`).
    #[prost(message, optional, tag = "16")]
    pub x11: Option<X11>,
    /// Connections to the authentication agent are forwarded to the caller's (`-A`).
    #[prost(bool, tag = "17")]
    pub agent: bool,
}

/// How a forwarded display is to look there.
#[derive(Clone, PartialEq, Message)]
pub struct X11 {
    /// Name of the authorisation protocol (`MIT-MAGIC-COOKIE-1`).
    #[prost(string, tag = "1")]
    pub protocol: String,
    /// The cookie that programs there are to show: made for this session, and replaced by the true one where the
    /// display is, so that the true one is not told.
    #[prost(bytes = "vec", tag = "2")]
    pub cookie: Vec<u8>,
    /// Number of the screen.
    #[prost(uint32, tag = "3")]
    pub screen: u32,
}

/// One step of a forwarded connection. Its number is chosen by the session, which alone opens. Each direction has
/// its own credit; see `libqueue::forward`.
#[derive(Clone, PartialEq, Message)]
pub struct Forward {
    /// Number of the connection, not used again in this session.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// What happens.
    #[prost(oneof = "forward::Kind", tags = "2, 3, 4, 5, 6")]
    pub kind: Option<forward::Kind>,
}

/// Kinds of [`Forward`].
pub mod forward {
    use super::Oneof;

    /// What happens.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// Somebody connected there to this service.
        #[prost(enumeration = "super::Service", tag = "2")]
        Open(i32),
        /// Bytes, within the credit.
        #[prost(bytes, tag = "3")]
        Data(Vec<u8>),
        /// No more bytes in this direction.
        #[prost(message, tag = "4")]
        Eof(super::Empty),
        /// The connection is over in both directions, with a reason for people that may be empty.
        #[prost(string, tag = "5")]
        Close(String),
        /// So many more bytes may be sent to the one who says this.
        #[prost(uint32, tag = "6")]
        Credit(u32),
    }
}

/// What is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Service {
    /// Not said.
    Unknown = 0,
    /// The X11 display.
    X11 = 1,
    /// The authentication agent.
    Agent = 2,
}

/// A resource limit. `u64::MAX` is infinity.
#[derive(Clone, PartialEq, Message)]
pub struct Rlimit {
    /// Linux number of the resource (`RLIMIT_*`).
    #[prost(uint32, tag = "1")]
    pub resource: u32,
    /// Soft limit.
    #[prost(uint64, tag = "2")]
    pub soft: u64,
    /// Hard limit.
    #[prost(uint64, tag = "3")]
    pub hard: u64,
}

/// A terminal, and which descriptors are it. Output of a terminal comes on channel stdout.
#[derive(Clone, PartialEq, Message)]
pub struct Pty {
    /// Descriptor 0 is the terminal.
    #[prost(bool, tag = "1")]
    pub stdin: bool,
    /// Descriptor 1 is the terminal.
    #[prost(bool, tag = "2")]
    pub stdout: bool,
    /// Descriptor 2 is the terminal.
    #[prost(bool, tag = "3")]
    pub stderr: bool,
    /// Its modes; absent: the kernel's defaults.
    #[prost(message, optional, tag = "4")]
    pub modes: Option<Termios>,
    /// Its size.
    #[prost(message, optional, tag = "5")]
    pub size: Option<Winsize>,
}

/// Terminal modes, Linux numbering (`termios(3)`).
#[derive(Clone, PartialEq, Message)]
pub struct Termios {
    /// `c_iflag`.
    #[prost(uint32, tag = "1")]
    pub iflag: u32,
    /// `c_oflag`.
    #[prost(uint32, tag = "2")]
    pub oflag: u32,
    /// `c_cflag`.
    #[prost(uint32, tag = "3")]
    pub cflag: u32,
    /// `c_lflag`.
    #[prost(uint32, tag = "4")]
    pub lflag: u32,
    /// `c_cc`.
    #[prost(bytes = "vec", tag = "5")]
    pub cc: Vec<u8>,
}

/// Window size in characters and pixels.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Winsize {
    /// Rows.
    #[prost(uint32, tag = "1")]
    pub rows: u32,
    /// Columns.
    #[prost(uint32, tag = "2")]
    pub cols: u32,
    /// Width in pixels.
    #[prost(uint32, tag = "3")]
    pub xpixel: u32,
    /// Height in pixels.
    #[prost(uint32, tag = "4")]
    pub ypixel: u32,
}

/// From `queue` to the session, after the [`Launch`].
#[derive(Clone, PartialEq, Message)]
pub struct ToSession {
    /// The message.
    #[prost(oneof = "to_session::Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub kind: Option<to_session::Kind>,
}

/// Kinds of [`ToSession`].
pub mod to_session {
    use super::Oneof;

    /// The message.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// Deliver this signal (Linux number) to the foreground group; TERM and HUP to the first group as well.
        #[prost(uint32, tag = "1")]
        Signal(u32),
        /// The window has this size now.
        #[prost(message, tag = "2")]
        Resize(super::Winsize),
        /// Continue what was stopped (`SIGCONT` to the foreground group and the first group).
        #[prost(message, tag = "3")]
        Continue(super::Empty),
        /// End the whole tree: HUP and CONT, TERM, KILL.
        #[prost(message, tag = "4")]
        Hangup(super::Empty),
        /// I go, and the command stays. Answered by `Detached`, or by a `Notice` if it cannot be.
        #[prost(message, tag = "5")]
        Detach(super::Empty),
        /// Show the whole screen again: what was on it was written over here.
        #[prost(message, tag = "6")]
        Redraw(super::Empty),
        /// About a forwarded connection.
        #[prost(message, tag = "7")]
        Forward(super::Forward),
    }
}

/// From the session to `queue`.
#[derive(Clone, PartialEq, Message)]
pub struct FromSession {
    /// The message.
    #[prost(oneof = "from_session::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub kind: Option<from_session::Kind>,
}

/// Kinds of [`FromSession`].
pub mod from_session {
    use super::Oneof;

    /// The message.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// The command was executed.
        #[prost(message, tag = "1")]
        Started(super::Started),
        /// Nothing was run.
        #[prost(message, tag = "2")]
        Failed(super::LaunchFailed),
        /// The command stopped by this signal.
        #[prost(uint32, tag = "3")]
        Stopped(u32),
        /// The command went on again, without our doing.
        #[prost(message, tag = "4")]
        Continued(super::Empty),
        /// The command ended; all its output came before.
        #[prost(message, tag = "5")]
        Ended(super::Ended),
        /// Something the user should know, in one line.
        #[prost(string, tag = "6")]
        Notice(String),
        /// To a launch that only looks: what was seen. `Ended` follows.
        #[prost(message, tag = "7")]
        Looked(super::Looked),
        /// You are no longer attached, and the command goes on: the last word on this connection.
        #[prost(message, tag = "8")]
        Detached(super::Detached),
        /// To an `Attach`: you are. What the screen shows follows as output.
        #[prost(message, tag = "9")]
        Attached(super::Attached),
        /// About a forwarded connection.
        #[prost(message, tag = "10")]
        Forward(super::Forward),
    }
}

/// The command runs.
#[derive(Clone, PartialEq, Message)]
pub struct Started {
    /// Its process id there.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// The terminal's name there, if any.
    #[prost(string, tag = "2")]
    pub tty: String,
    /// How many seconds that host waits for a client that it does not hear of; 0: it does not say.
    #[prost(uint32, tag = "3")]
    pub grace: u32,
}

/// One of those who were attached is not any more.
#[derive(Clone, PartialEq, Message)]
pub struct Detached {
    /// The session, as `queue attach` takes it.
    #[prost(string, tag = "1")]
    pub session: String,
    /// Who did it, if it was not the one who is told: `alice@h3`.
    #[prost(string, tag = "2")]
    pub by: String,
    /// Whether he has taken the session over.
    #[prost(bool, tag = "3")]
    pub taken: bool,
}

/// One more is attached.
#[derive(Clone, PartialEq, Message)]
pub struct Attached {
    /// Process id of the command.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// The terminal's name there.
    #[prost(string, tag = "2")]
    pub tty: String,
    /// The program, for the title and for messages.
    #[prost(string, tag = "3")]
    pub program: String,
    /// Size of the window there, which one who only looks has to live with.
    #[prost(message, optional, tag = "4")]
    pub size: Option<Winsize>,
    /// Signal that has stopped the command; 0: it runs.
    #[prost(uint32, tag = "5")]
    pub stopped: u32,
}

/// Why nothing was run.
#[derive(Clone, PartialEq, Message)]
pub struct LaunchFailed {
    /// What kind.
    #[prost(enumeration = "LaunchError", tag = "1")]
    pub code: i32,
    /// `errno` there, or 0.
    #[prost(uint32, tag = "2")]
    pub errno: u32,
    /// What failed, in one line, without the host's name.
    #[prost(string, tag = "3")]
    pub text: String,
}

/// Kinds of [`LaunchFailed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum LaunchError {
    /// Something failed there: exit 125.
    Internal = 0,
    /// The command was not found: exit 127.
    NotFound = 1,
    /// It was found but cannot be executed: exit 126.
    NotExecutable = 2,
    /// The working directory is not there, or not to be entered: exit 125.
    Directory = 3,
    /// No such account, or the name service did not answer: exit 125.
    Account = 4,
    /// PAM said no: exit 125.
    Pam = 5,
    /// The request does not fit its ticket, or is malformed: exit 125.
    Request = 6,
}

/// How the command ended. Exactly one of the two is set.
#[derive(Clone, PartialEq, Message)]
pub struct Ended {
    /// Exit code.
    #[prost(uint32, optional, tag = "1")]
    pub code: Option<u32>,
    /// Signal that killed it.
    #[prost(uint32, optional, tag = "2")]
    pub signal: Option<u32>,
    /// Whether it dumped core.
    #[prost(bool, tag = "3")]
    pub core: bool,
    /// User and system CPU time of the tree so far, in microseconds.
    #[prost(uint64, tag = "4")]
    pub cpu_us: u64,
    /// Largest resident size in KiB.
    #[prost(uint64, tag = "5")]
    pub maxrss_kib: u64,
}
