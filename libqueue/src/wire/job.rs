//! Batch jobs: what is submitted, what the leader and the executing hosts tell each other, what people ask.
//!
//! A job's *run* is what is executed: its encoded bytes are what the submitter's warrant covers, and no daemon can
//! change them. Its *plan* is what the scheduler needs; its owner may modify it later.

#![allow(
    clippy::large_enum_variant,
    reason = "a message lives as long as it takes to encode or act on it"
)]

mod answer;
mod ask;
mod state;
mod submit;
mod work;

pub use answer::*;
pub use ask::*;
pub use state::*;
pub use submit::*;
pub use work::*;

/// First bytes of a connection of a host's daemon with the leader: TLS with both ends known, then frames [`Up`] and
/// [`Down`].
pub const KIND_WORK: u8 = b'W';
/// Kind of connection: somebody asks the leader about jobs. TLS with the leader's own key; one frame [`JobAsk`],
/// then frames [`JobReply`] until the leader closes.
pub const KIND_JOBS: u8 = b'B';
/// Largest frame on these connections and of a submission: 16 MiB.
pub const FRAME_MAX: usize = 16 << 20;
/// Most tasks of an array.
pub const TASKS_MAX: u32 = 10_000_000;
/// Bytes of each end of the output that the history keeps.
pub const ENDS_MAX: usize = 4096;
