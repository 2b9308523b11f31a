//! How connections begin, before TLS: which kind it is, whose, and the executing host's word on it. Knows nothing of
//! what is said on them afterwards.

use super::{ErrorCode, Need};
use prost::Message;

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
/// frame [`ControlAsk`](super::ControlAsk) and one frame [`ControlReply`](super::ControlReply).
pub const KIND_CONTROL: u8 = b'C';

/// Kind: a session that lost its connection; what follows is the [`ResumeHello`], then [`crate::link::join`].
pub const KIND_RESUME: u8 = b'R';

/// Kind: somebody who wants to see a session that runs already; what follows is the [`AttachHello`], then, as with
/// a new session, the [`SessionAnswer`] and TLS with the session process. The first message is
/// [`Attach`](super::Attach).
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

/// Body of the preamble of a connection that wants to see a session. The ticket's request is the
/// [`Attach`](super::Attach).
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
