//! The records of the journal, as bytes: each with its length and a checksum in front, by which one that was torn is
//! found. Pure: bytes in, bytes out.

use super::{Attempt, Line};
use crate::cert::USER_MAX;
use crate::codec::{Malformed, Reader, Writer};
use crate::protocol::{JobKey, KEYS_MAX, NOTE_MAX, OUTCOME_MAX};

/// Length and checksum.
const FRAME: usize = 8;
/// No record is longer.
const RECORD_MAX: usize = 64 * 1024;

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub enum Record {
    /// An attempt is about to be handed to a session.
    Handed(JobKey, Attempt),
    /// Its command was executed, with what its session said of it.
    Started(JobKey, Vec<u8>),
    /// It is over, and how it ended.
    Ended(JobKey, Vec<u8>),
    /// The leader has the outcomes of these.
    Forgotten(Vec<JobKey>),
    /// Its session did not get it after all.
    Retracted(JobKey),
    /// What was seen before the journal was last rewritten.
    Seen(Line),
}

/// FNV-1a: finds what was torn, and is not meant against anybody.
fn sum(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0x811c_9dc5, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}

/// A record as it is written: length, checksum, and itself.
pub fn frame(record: &Record) -> Vec<u8> {
    let mut w = Writer::new(&[0; FRAME]);
    record.write(&mut w);
    let mut bytes = w.finish();
    let (len, sum) = ((bytes.len() - FRAME) as u32, sum(&bytes[FRAME..]));
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    bytes[4..FRAME].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The first record of these bytes and its length, if there is a whole one.
pub fn unframe(bytes: &[u8]) -> Option<(Record, usize)> {
    let mut r = Reader::new(bytes, b"", "record").ok()?;
    let (len, expected) = (r.u32().ok()? as usize, r.u32().ok()?);
    let body = r.rest().get(..len).filter(|_| len <= RECORD_MAX)?;
    if sum(body) != expected {
        return None;
    }
    Some((Record::read(body).ok()?, FRAME + len))
}

impl Record {
    fn write(&self, w: &mut Writer) {
        match self {
            Self::Handed(key, a) => {
                w.u8(1).fixed(&key.to_bytes()).u64(a.since);
                w.u32(a.process.0.unsigned_abs()).u64(a.process.1);
                w.bytes(a.login.as_bytes()).bytes(&a.note);
            }
            Self::Started(key, running) => {
                w.u8(2).fixed(&key.to_bytes()).bytes(running);
            }
            Self::Ended(key, outcome) => {
                w.u8(3).fixed(&key.to_bytes()).bytes(outcome);
            }
            Self::Forgotten(keys) => {
                w.u8(4).u16(keys.len().min(KEYS_MAX) as u16);
                for k in keys.iter().take(KEYS_MAX) {
                    w.fixed(&k.to_bytes());
                }
            }
            Self::Retracted(key) => {
                w.u8(5).fixed(&key.to_bytes());
            }
            Self::Seen(Line::First { chunk, bits, hour }) => {
                w.u8(6).u64(chunk.0).u32(chunk.1).u64(*bits).u32(*hour);
            }
            Self::Seen(Line::Later { key, hour }) => {
                w.u8(7).fixed(&key.to_bytes()).u32(*hour);
            }
        }
    }

    /// Reads one without length and checksum.
    ///
    /// # Errors
    /// It is no record.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes, b"", "record of an attempt")?;
        let key = |r: &mut Reader<'_>| r.fixed().map(JobKey::from_bytes);
        let record = match r.u8()? {
            1 => {
                let (key, since) = (key(&mut r)?, r.u64()?);
                let pid = i32::try_from(r.u32()?).map_err(|_| Malformed("process id"))?;
                let a = Attempt {
                    since,
                    process: (pid, r.u64()?),
                    login: r.text(USER_MAX)?,
                    note: r.bytes(NOTE_MAX)?.to_vec(),
                    ..Attempt::default()
                };
                Self::Handed(key, a)
            }
            2 => Self::Started(key(&mut r)?, r.bytes(OUTCOME_MAX)?.to_vec()),
            3 => Self::Ended(key(&mut r)?, r.bytes(OUTCOME_MAX)?.to_vec()),
            4 => {
                let n = usize::from(r.u16()?);
                if n > KEYS_MAX {
                    return Err(Malformed("list of attempts"));
                }
                Self::Forgotten((0..n).map(|_| key(&mut r)).collect::<Result<_, _>>()?)
            }
            5 => Self::Retracted(key(&mut r)?),
            6 => Self::Seen(Line::First {
                chunk: (r.u64()?, r.u32()?),
                bits: r.u64()?,
                hour: r.u32()?,
            }),
            7 => Self::Seen(Line::Later {
                key: key(&mut r)?,
                hour: r.u32()?,
            }),
            _ => return Err(Malformed("record of an attempt")),
        };
        r.end()?;
        Ok(record)
    }
}
