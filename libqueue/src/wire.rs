//! The messages, as Protocol Buffers (proto3 semantics). Tags are numbered once and for ever; a tag is never
//! reused. Unknown fields are ignored, an unknown variant of a `oneof` decodes to `None` and is refused or
//! skipped by its reader: so two versions can talk.
//!
//! One room a topic; all of them but the batch jobs' are one namespace.
//!
//! Pure data. Framing is [`crate::frame`], the session's byte stream is [`crate::stream`].

pub mod job;
mod join;
mod launch;
mod local;
mod look;
mod members;
mod preamble;
mod resources;
mod session;

pub use join::*;
pub use launch::*;
pub use local::*;
pub use look::*;
pub use members::*;
pub use preamble::*;
pub use resources::*;
pub use session::*;

use prost::{Enumeration, Message};

/// Version of all protocols here; a peer with another major one is refused with a clear text.
pub const PROTOCOL: u32 = 1;

/// Nothing to say.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

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
