//! Length-prefixed messages for control connections: 32-bit big-endian length, then one encoded message.
//! Pure: byte slices in and out. The length is checked before anything is allocated.

use prost::Message;
use std::fmt;

/// Largest control message: 1 MiB.
pub const MAX: usize = 1 << 20;

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// The announced length is over [`MAX`].
    TooLarge(usize),
    /// The payload does not decode.
    Malformed(String),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(n) => write!(f, "message of {n} bytes is over the limit of {MAX}"),
            Self::Malformed(e) => write!(f, "malformed message: {e}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// The frame for a message.
pub fn encode<M: Message>(m: &M) -> Vec<u8> {
    let n = m.encoded_len();
    let mut v = Vec::with_capacity(4 + n);
    v.extend_from_slice(&(n as u32).to_be_bytes());
    m.encode_raw(&mut v);
    v
}

/// The payload's length out of a frame's first four bytes.
pub fn payload_len(head: [u8; 4]) -> Result<usize, FrameError> {
    let n = u32::from_be_bytes(head) as usize;
    if n > MAX {
        Err(FrameError::TooLarge(n))
    } else {
        Ok(n)
    }
}

/// Decodes a payload.
pub fn decode<M: Message + Default>(payload: &[u8]) -> Result<M, FrameError> {
    M::decode(payload).map_err(|e| FrameError::Malformed(e.to_string()))
}

/// Takes one message off the front of a growing buffer, if it is complete.
pub fn take<M: Message + Default>(buf: &mut Vec<u8>) -> Result<Option<M>, FrameError> {
    let Some(head) = buf.first_chunk::<4>() else {
        return Ok(None);
    };
    let n = payload_len(*head)?;
    if buf.len() < 4 + n {
        return Ok(None);
    }
    let m = decode(&buf[4..4 + n])?;
    buf.drain(..4 + n);
    Ok(Some(m))
}

/// Reads one message, blocking.
///
/// # Errors
/// As the reader; `InvalidData` if it is no frame.
pub fn read<M: Message + Default>(r: &mut impl std::io::Read) -> std::io::Result<M> {
    read_up_to(r, MAX)
}

/// The same, of a message that may have so many bytes.
///
/// # Errors
/// As [`read`].
pub fn read_up_to<M: Message + Default>(r: &mut impl std::io::Read, max: usize) -> std::io::Result<M> {
    let bad = |e| std::io::Error::new(std::io::ErrorKind::InvalidData, e);
    let mut head = [0; 4];
    r.read_exact(&mut head)?;
    let len = u32::from_be_bytes(head) as usize;
    if len > max {
        return Err(bad(FrameError::TooLarge(len)));
    }
    let mut payload = vec![0; len];
    r.read_exact(&mut payload)?;
    decode(&payload).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Place, Request, request};

    #[test]
    fn takes_whole_messages_only_and_refuses_large_ones() {
        let m = Request {
            kind: Some(request::Kind::Place(Place {
                host: "h2".into(),
                ..Place::default()
            })),
        };
        let bytes = encode(&m);
        for cut in 0..bytes.len() {
            assert_eq!(take::<Request>(&mut bytes[..cut].to_vec()), Ok(None));
        }
        let mut two = [bytes.clone(), bytes.clone()].concat();
        assert_eq!(take(&mut two), Ok(Some(m.clone())));
        assert_eq!(two, bytes);
        assert_eq!(read::<Request>(&mut &bytes[..]).unwrap(), m);
        assert_eq!(
            take::<Request>(&mut vec![0xff; 8]),
            Err(FrameError::TooLarge(0xffff_ffff))
        );
    }
}
