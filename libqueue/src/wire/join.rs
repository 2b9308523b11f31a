//! Joining, over TLS in which the joiner does not know the server yet. Nothing of what members say afterwards.

use super::{Error, Keys, Roster};
use prost::Message;

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
    /// [`PROTOCOL`](super::PROTOCOL).
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
