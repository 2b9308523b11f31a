//! Tickets and grants: how two `queue-exec`s agree on who may run what where, whatever their daemons say.
//!
//! A *ticket* is the submitting host's word that the kernel named a user there, bound to one request (by
//! hash), one target, one client key and a short time. A *grant* is the executing host's word that a session
//! key belongs to the session made for that ticket, so that no daemon can put itself between the two ends.

use crate::cert::{CLOCK_SKEW, Fingerprint, HostCert, NAME_MAX, PublicKey, USER_MAX, check};
use crate::codec::{Malformed, Reader, Writer};
use ed25519_dalek::{Signer as _, SigningKey};
use std::fmt;

const TICKET: &[u8] = b"QUEUE ticket 1\0";
const GRANT: &[u8] = b"QUEUE grant 1\0";
const GONE: &[u8] = b"QUEUE gone 1\0";

/// How long a ticket may be used, in seconds; clocks may be apart by [`CLOCK_SKEW`] on top.
pub const LIFETIME: u64 = 60;

/// Random number that makes a ticket, and the session made from it, unique.
pub type Nonce = [u8; 16];

/// Who asks for what, where, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The cluster both hosts belong to.
    pub cluster: Fingerprint,
    /// Name of the host that vouches.
    pub source: String,
    /// The user that the kernel named on the source host.
    pub user: String,
    /// The account to use on the target: the same name unless `-l` was given.
    pub login: String,
    /// Name of the host that is to run it.
    pub target: String,
    /// Unique for this ticket.
    pub nonce: Nonce,
    /// Seconds since the epoch, by the source's clock.
    pub issued: u64,
    /// SHA-256 of the request that the client will send to the session.
    pub request: [u8; 32],
    /// The client's key for this session's TLS.
    pub client_key: PublicKey,
}

/// Why a ticket is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TicketError {
    /// Not a ticket.
    Malformed,
    /// The signature does not fit the certificate of the host that it names.
    BadSignature,
    /// It names another host or cluster.
    NotForUs(String),
    /// The clocks are too far apart, or it is old: seconds, positive if the source's clock is ahead.
    Clock(i64),
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("malformed ticket"),
            Self::BadSignature => f.write_str("the ticket's signature is wrong"),
            Self::NotForUs(host) => write!(f, "the ticket is for {host}, not for this host"),
            Self::Clock(s) if *s > 0 => {
                write!(
                    f,
                    "the submitting host's clock is {s} s ahead of this host's: set the clocks"
                )
            }
            Self::Clock(s) => write!(
                f,
                "the ticket is {} s old: it was used too late, or the submitting host's clock is behind",
                s.unsigned_abs()
            ),
        }
    }
}

impl std::error::Error for TicketError {}

impl From<Malformed> for TicketError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl Ticket {
    /// Signs with the source's host key.
    pub fn sign(&self, host_key: &SigningKey) -> Vec<u8> {
        let mut w = Writer::new(TICKET);
        w.fixed(&self.cluster)
            .bytes(self.source.as_bytes())
            .bytes(self.user.as_bytes());
        w.bytes(self.login.as_bytes())
            .bytes(self.target.as_bytes())
            .fixed(&self.nonce)
            .u64(self.issued);
        w.fixed(&self.request).fixed(&self.client_key);
        let sig = host_key.sign(w.as_bytes());
        w.fixed(&sig.to_bytes()).finish()
    }

    /// Reads a ticket without checking it; the two other values are the signed bytes and the signature.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8], [u8; 64]), TicketError> {
        let mut r = Reader::new(bytes, TICKET, "ticket")?;
        let t = Self {
            cluster: r.fixed()?,
            source: r.text(NAME_MAX)?,
            user: r.text(USER_MAX)?,
            login: r.text(USER_MAX)?,
            target: r.text(NAME_MAX)?,
            nonce: r.fixed()?,
            issued: r.u64()?,
            request: r.fixed()?,
            client_key: r.fixed()?,
        };
        let signed = &bytes[..bytes.len() - r.rest().len()];
        let sig = r.fixed()?;
        r.end()?;
        Ok((t, signed, sig))
    }

    /// Reads a ticket and checks signature, source, target, cluster and time against the (already verified)
    /// certificate of its source and the certificate of this host. That its nonce was not seen before, and
    /// that the source may vouch for the user, is the monitor's business.
    pub fn verify(bytes: &[u8], source: &HostCert, here: &HostCert, now: u64) -> Result<Self, TicketError> {
        let (t, signed, sig) = Self::parse(bytes)?;
        if t.source != source.name || !check(&source.host_key, signed, &sig) {
            return Err(TicketError::BadSignature);
        }
        if t.cluster != here.cluster || t.target != here.name {
            return Err(TicketError::NotForUs(t.target));
        }
        if t.issued > now + CLOCK_SKEW || t.issued + LIFETIME + CLOCK_SKEW < now {
            let issued = i64::try_from(t.issued).unwrap_or(i64::MAX);
            return Err(TicketError::Clock(issued.saturating_sub_unsigned(now)));
        }
        Ok(t)
    }
}

/// The executing host's answer to a ticket: "the session for `nonce` has this key".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The ticket's nonce.
    pub nonce: Nonce,
    /// The session's key for TLS.
    pub session_key: PublicKey,
}

impl Grant {
    /// Signs with the executing host's key.
    pub fn sign(&self, host_key: &SigningKey) -> Vec<u8> {
        let mut w = Writer::new(GRANT);
        w.fixed(&self.nonce).fixed(&self.session_key);
        let sig = host_key.sign(w.as_bytes());
        w.fixed(&sig.to_bytes()).finish()
    }

    /// Reads and checks a grant against the host's key.
    pub fn verify(bytes: &[u8], host_key: &PublicKey) -> Result<Self, TicketError> {
        let mut r = Reader::new(bytes, GRANT, "grant")?;
        let g = Self {
            nonce: r.fixed()?,
            session_key: r.fixed()?,
        };
        let signed = &bytes[..bytes.len() - r.rest().len()];
        let sig = r.fixed()?;
        r.end()?;
        check(host_key, signed, &sig)
            .then_some(g)
            .ok_or(TicketError::BadSignature)
    }
}

/// The executing host's word that it has no such session (any more): whoever wants to resume need not try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The session.
    pub session: Nonce,
    /// Random, made by the one who asked: an old word is of no use to anybody.
    pub challenge: Nonce,
}

impl Gone {
    fn bytes(&self) -> Writer {
        let mut w = Writer::new(GONE);
        w.fixed(&self.session).fixed(&self.challenge);
        w
    }

    /// Signs with the executing host's key.
    pub fn sign(&self, host_key: &SigningKey) -> Vec<u8> {
        let mut w = self.bytes();
        let sig = host_key.sign(w.as_bytes());
        w.fixed(&sig.to_bytes()).finish()
    }

    /// Whether these bytes are this word, signed with the host's key.
    pub fn is_signed(&self, bytes: &[u8], host_key: &PublicKey) -> bool {
        let w = self.bytes();
        let sig = bytes.strip_prefix(w.as_bytes()).and_then(|s| s.try_into().ok());
        sig.is_some_and(|sig| check(host_key, w.as_bytes(), &sig))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cert::{Vouch, fingerprint};

    fn host(name: &str, key: &SigningKey) -> HostCert {
        HostCert {
            cluster: fingerprint(&[9; 32]),
            serial: 1,
            name: name.into(),
            host_key: key.verifying_key().to_bytes(),
            tls_key: [0; 32],
            vouch: Vouch::Users,
            issued: 0,
            expires: u64::MAX,
        }
    }

    #[test]
    fn verifies_only_as_signed_here_and_now() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let (a, b) = (host("a", &key), host("b", &SigningKey::from_bytes(&[2; 32])));
        let t = Ticket {
            cluster: a.cluster,
            source: "a".into(),
            user: "alice".into(),
            login: "alice".into(),
            target: "b".into(),
            nonce: [3; 16],
            issued: 10_000,
            request: [4; 32],
            client_key: [5; 32],
        };
        let bytes = t.sign(&key);
        assert_eq!(Ticket::verify(&bytes, &a, &b, 10_001), Ok(t.clone()));
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 0x80;
            assert!(Ticket::verify(&bad, &a, &b, 10_001).is_err(), "byte {i}");
        }
        assert_eq!(
            Ticket::verify(&bytes, &b, &b, 10_001),
            Err(TicketError::BadSignature)
        );
        assert!(matches!(
            Ticket::verify(&bytes, &a, &a, 10_001),
            Err(TicketError::NotForUs(_))
        ));
        assert_eq!(
            Ticket::verify(&bytes, &a, &b, 10_000 + 3600),
            Err(TicketError::Clock(-3600))
        );
        assert_eq!(
            Ticket::verify(&bytes, &a, &b, 10_000 - 3600),
            Err(TicketError::Clock(3600))
        );
        let g = Grant {
            nonce: [3; 16],
            session_key: [6; 32],
        };
        assert_eq!(Grant::verify(&g.sign(&key), &a.host_key), Ok(g.clone()));
        assert_eq!(
            Grant::verify(&g.sign(&key), &b.host_key),
            Err(TicketError::BadSignature)
        );
    }

    #[test]
    fn gone_is_said_of_one_session_once() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let (here, other) = (key.verifying_key().to_bytes(), [8; 32]);
        let gone = Gone {
            session: [3; 16],
            challenge: [4; 16],
        };
        let bytes = gone.sign(&key);
        assert!(gone.is_signed(&bytes, &here) && !gone.is_signed(&bytes, &other));
        let old = Gone {
            challenge: [5; 16],
            ..gone
        };
        assert!(!old.is_signed(&bytes, &here) && !old.is_signed(&[], &here));
    }
}
