//! The session: `queue` and the session process, as control frames of the session stream.
//! Nothing of how it came about, and nothing of the bytes of its channels.

use super::{Empty, Looked, Winsize};
use prost::{Enumeration, Message, Oneof};

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
    /// The stream can be resumed ([`Launch::resume`](super::Launch::resume)).
    #[prost(bool, tag = "5")]
    pub resume: bool,
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

/// From `queue` to the session, after the [`Launch`](super::Launch).
#[derive(Clone, PartialEq, Message)]
pub struct ToSession {
    /// The message.
    #[prost(oneof = "to_session::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
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
        /// Say that you are there: `Pong`. An older session does not.
        #[prost(message, tag = "8")]
        Ping(super::Empty),
    }
}

/// From the session to `queue`.
#[derive(Clone, PartialEq, Message)]
pub struct FromSession {
    /// The message.
    #[prost(oneof = "from_session::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
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
        /// The answer to a `Ping`.
        #[prost(message, tag = "11")]
        Pong(super::Empty),
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
    /// As in [`Started`].
    #[prost(uint32, tag = "6")]
    pub grace: u32,
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
