//! The authority's books: serial numbers, certificates issued, tokens. Knows how they are written down; whether
//! somebody is admitted is decided by `authority`.

use crate::cert::{NAME_MAX, USER_MAX, Vouch};
use crate::codec::{Malformed, Reader, Writer};
use crate::state::{ISSUED, Room, SERIAL, StateError, TOKENS};

const TOKEN: &[u8] = b"QUEUE token 1\0";
const CERTS: &[u8] = b"QUEUE issued 1\0";
/// Most uses one token may have.
pub const USES_MAX: u32 = 10_000;
/// Most names in a `--vouch` list.
pub(crate) const VOUCH_MAX: usize = 1024;
/// Most certificates remembered for one name; each rejoin adds one until they expire.
pub(crate) const CERTS_MAX: usize = 256;
/// Expired tokens are kept this long, so that their user is told "expired" and not "unknown".
const KEEP_EXPIRED: u64 = 7 * 86_400;

pub(crate) fn next_serial(room: &Room) -> Result<u64, StateError> {
    let bad = || StateError::other(&room.path(SERIAL), "is not a number: restore it from a backup");
    let text = room.read(SERIAL)?.ok_or_else(bad)?;
    let last: u64 = std::str::from_utf8(&text)
        .ok()
        .and_then(|s| s.trim().parse().ok())
        .ok_or_else(bad)?;
    let next = last.checked_add(1).ok_or_else(bad)?;
    room.write(SERIAL, format!("{next}\n").as_bytes())?;
    Ok(next)
}

/// Removes tokens that expired long ago.
pub(crate) fn sweep_tokens(room: &Room, now: u64) -> Result<(), StateError> {
    for id in room.list(TOKENS)? {
        let file = format!("{TOKENS}/{id}");
        let old =
            |b: Vec<u8>| StoredToken::decode(&b).is_ok_and(|t| t.expires.saturating_add(KEEP_EXPIRED) < now);
        if room.read(&file)?.is_some_and(old) {
            room.remove(&file)?;
        }
    }
    Ok(())
}

pub(crate) fn issued_file(name: &str) -> String {
    format!("{ISSUED}/{}", name.to_ascii_lowercase())
}

pub(crate) fn write_issued(room: &Room, name: &str, certs: &[Vec<u8>]) -> Result<(), StateError> {
    room.write(&issued_file(name), &Writer::new(CERTS).list(certs).finish())
}

/// The certificates issued for a name, the current one last; none if it was never admitted.
pub(crate) fn read_issued(room: &Room, file: &str) -> Result<Vec<Vec<u8>>, StateError> {
    let Some(b) = room.read(file)? else {
        return Ok(Vec::new());
    };
    let read = || {
        let mut r = Reader::new(&b, CERTS, "list of certificates")?;
        let n = usize::from(r.u16()?);
        let v = (0..n.min(CERTS_MAX))
            .map(|_| Ok(r.bytes(usize::from(u16::MAX))?.to_vec()))
            .collect::<Result<_, _>>()?;
        r.end()?;
        Ok(v)
    };
    read().map_err(|e: Malformed| StateError::other(&room.path(file), e.to_string()))
}

/// A token as it lies here.
pub(crate) struct StoredToken {
    pub(crate) secret: [u8; 32],
    pub(crate) expires: u64,
    pub(crate) uses: u32,
    pub(crate) vouch: Vouch,
    pub(crate) bound: String,
    pub(crate) users: Vec<[u8; 32]>,
}

impl StoredToken {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(TOKEN);
        w.fixed(&self.secret)
            .u64(self.expires)
            .u32(self.uses)
            .bytes(self.bound.as_bytes());
        match &self.vouch {
            Vouch::Users => w.u8(0),
            Vouch::Only(names) => w.u8(1).list(names),
        };
        w.u32(self.users.len() as u32);
        for u in &self.users {
            w.fixed(u);
        }
        w.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes, TOKEN, "token file")?;
        let (secret, expires, uses, bound) = (r.fixed()?, r.u64()?, r.u32()?, r.text(NAME_MAX)?);
        let vouch = match r.u8()? {
            0 => Vouch::Users,
            _ => Vouch::Only(r.list(VOUCH_MAX, USER_MAX)?),
        };
        let n = r.u32()?.min(USES_MAX);
        let users = (0..n).map(|_| r.fixed()).collect::<Result<_, _>>()?;
        r.end()?;
        Ok(Self {
            secret,
            expires,
            uses,
            vouch,
            bound,
            users,
        })
    }
}
