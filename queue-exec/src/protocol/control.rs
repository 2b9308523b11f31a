//! What a user asks a host for, as the bytes that a ticket covers. Pure; who may is decided elsewhere.

use super::{TEXT_MAX, printable};
use crate::codec::{Malformed, Reader, Writer};
use crate::ticket::Nonce;

/// What a user may ask a host for, beside a session. It is carried in a ticket's request hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// End a session: of one's own, or any as an operator.
    Kill {
        /// Which.
        session: Nonce,
        /// Only send this signal to it; 0: end it and its tree (HUP, TERM, KILL).
        signal: u8,
    },
    /// Start nothing new on this host: operators only.
    Drain {
        /// Why, for people; may be empty.
        reason: String,
    },
    /// Start things again.
    Undrain,
    /// Let whoever is attached to a session of one's own go; the command stays.
    Detach {
        /// Which.
        session: Nonce,
    },
}

const CONTROL: &[u8] = b"QUEUE control 1\0";

impl Control {
    /// The bytes that a ticket's request hash is made of.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(CONTROL);
        match self {
            Self::Kill { session, signal } => w.u8(1).fixed(session).u8(*signal),
            Self::Drain { reason } => w.u8(2).bytes(printable(reason).as_bytes()),
            Self::Undrain => w.u8(3),
            Self::Detach { session } => w.u8(4).fixed(session),
        };
        w.finish()
    }

    /// Reads what `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes, CONTROL, "control request")?;
        let c = match r.u8()? {
            1 => Self::Kill {
                session: r.fixed()?,
                signal: r.u8()?,
            },
            2 => Self::Drain {
                reason: r.text(TEXT_MAX)?,
            },
            3 => Self::Undrain,
            4 => Self::Detach { session: r.fixed()? },
            _ => return Err(Malformed("control request")),
        };
        r.end()?;
        Ok(c)
    }
}
