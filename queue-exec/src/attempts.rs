//! What the monitor's journal of attempts says, as bytes and as values: what was handed to sessions, how far it came, and
//! what was ever seen. Pure: bytes in, bytes out. Which file it is, and when it is written, is the monitor's.

mod records;
mod seen;

pub use records::{Record, frame, unframe};
pub use seen::{Chunk, Line, Seen};

use crate::codec::{Malformed, Reader, Writer};
use crate::ticket::Nonce;

const MAGIC: &[u8] = b"QUEUE attempts 1\0";
/// Longest name of a start of the machine.
const BOOT_MAX: usize = 256;

/// What a journal begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The life of its records: another one, and nothing of them runs any more.
    pub life: Nonce,
    /// The start of the machine in which it was written, as the kernel names it.
    pub boot: String,
}

impl Head {
    /// As it is written.
    pub fn write(&self) -> Vec<u8> {
        Writer::new(MAGIC)
            .fixed(&self.life)
            .bytes(self.boot.as_bytes())
            .finish()
    }

    /// Reads it; says where the records begin.
    ///
    /// # Errors
    /// This is no journal, or one that breaks off in its head.
    pub fn read(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let mut r = Reader::new(bytes, MAGIC, "journal of attempts")?;
        let (life, boot) = (r.fixed()?, r.text(BOOT_MAX)?);
        Ok((Self { life, boot }, bytes.len() - r.rest().len()))
    }
}

/// An attempt that was handed to a session, and is not forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Local account.
    pub login: String,
    /// Its session process: its id, and its start time in clock ticks since boot.
    pub process: (i32, u64),
    /// When it was handed over, in milliseconds since the epoch.
    pub since: u64,
    /// The daemon's note.
    pub note: Vec<u8>,
    /// What its session said when the command was executed.
    pub running: Vec<u8>,
    /// It has ended, and this is how; empty: nobody knows.
    pub outcome: Option<Vec<u8>>,
    /// It is stopped. Not written down.
    pub stopped: bool,
}
