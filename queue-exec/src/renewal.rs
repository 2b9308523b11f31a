//! Certificates that end are replaced before they do: the authority issues a new one for the same name and the
//! same keys, and the host that it is for puts it in place. Knows the authority's books and the host's files; not
//! who asks, nor when.

use crate::authority::{Failure, authority_of, busy, issue, live};
use crate::cert::{CertError, HostCert};
use crate::ledger::{issued_file, read_issued};
use crate::protocol::Refusal;
use crate::state::{HOST_CERT, Room, unix_now};
use std::time::Duration;

/// Issues a new certificate to the holder of this one. It has to be good now and be for the keys that its name
/// has now. Where there is a newer one already (its answer was lost), or this one still lasts for more than half
/// of its time, that one is the answer: asking often costs nothing.
///
/// # Errors
/// [`Refusal::BadTicket`] and [`Refusal::Clock`] about the certificate, [`Refusal::Busy`] if the files are in use
/// when `wait` is over, [`Refusal::NotReady`] if the authority is elsewhere.
pub fn renew(room: &Room, cert: &[u8], wait: Duration) -> Result<Vec<u8>, Failure> {
    let (authority, public) = authority_of(room)?;
    let _lock = room.lock(wait)?.ok_or_else(busy)?;
    let now = unix_now();
    let old = HostCert::verify(cert, &public).map_err(unfit)?;
    let revoked = room.revocations(&public)?;
    old.check_now(now, &revoked).map_err(unfit)?;
    // The clocks may differ a little when it is used; they do not when it is renewed.
    if now > old.expires {
        return Err(Failure::new(
            Refusal::Clock,
            format!(
                "the certificate of {} expired {} s ago: join the host again",
                old.name,
                now - old.expires
            ),
        ));
    }
    let certs = read_issued(room, &issued_file(&old.name))?;
    let newest = certs.last().and_then(|b| HostCert::verify(b, &public).ok());
    let Some(newest) = newest.filter(|c| c.host_key == old.host_key && c.tls_key == old.tls_key) else {
        return Err(Failure::new(
            Refusal::BadTicket,
            format!("{} has other keys by now: join the host again", old.name),
        ));
    };
    if now < newest.expires && 2 * (newest.expires - now) > newest.expires.saturating_sub(newest.issued) {
        return Ok(certs.last().cloned().unwrap_or_default());
    }
    issue(room, &authority, newest, live(&certs, &public, now))
}

/// Puts a renewed certificate of this host in place; `false` if it is the one that is there.
///
/// # Errors
/// If it is not the authority's, not for this host and its keys, older than the one here, or the disk failed.
pub fn install(room: &Room, cert: &[u8]) -> Result<bool, Failure> {
    let id = room.identity()?;
    if cert == id.cert_bytes {
        return Ok(false);
    }
    let new = HostCert::verify(cert, &id.authority).map_err(unfit)?;
    new.check_now(unix_now(), &id.revoked).map_err(unfit)?;
    let same = new.name == id.cert.name
        && new.host_key == id.cert.host_key
        && new.tls_key == id.cert.tls_key
        && new.cluster == id.cluster;
    if !same || new.serial <= id.cert.serial {
        return Err(Failure::new(
            Refusal::BadTicket,
            format!(
                "that certificate (of {}, number {}) does not follow the one of this host",
                new.name, new.serial
            ),
        ));
    }
    room.write(HOST_CERT, cert)?;
    Ok(true)
}

fn unfit(e: CertError) -> Failure {
    let code = match e {
        CertError::NotNow { .. } => Refusal::Clock,
        _ => Refusal::BadTicket,
    };
    Failure::new(code, e.to_string())
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;
