//! Member to member: sealed datagrams of the gossip, and messages over mutual TLS. Gossip never grants anything: any
//! member can forge another's.

use super::{Empty, ErrorCode, Facts, Load, Need, Sessions};
use prost::{Message, Oneof};

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
    /// [`PROTOCOL`](super::PROTOCOL).
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
