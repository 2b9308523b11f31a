//! Warrants: a user's word, said by his host's `queue-exec`, that a batch job is to be run as him. Unlike a ticket it
//! names no target and lasts long, because nobody knows at submission where and when the job will run. It covers
//! what is executed by its hash; how often it is, is the leader's and the attempts' ledger's business.

use crate::cert::{CLOCK_SKEW, Fingerprint, HostCert, NAME_MAX, USER_MAX, check};
use crate::codec::{Reader, Writer};
use crate::ticket::TicketError;
use ed25519_dalek::{Signer as _, SigningKey};

const WARRANT: &[u8] = b"QUEUE warrant 1\0";

/// How long a warrant may be used, in seconds: a year.
pub const LIFETIME: u64 = 366 * 24 * 3600;

/// Who wants what run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warrant {
    /// The cluster.
    pub cluster: Fingerprint,
    /// Name of the host that vouches.
    pub source: String,
    /// The user that the kernel named there.
    pub user: String,
    /// The account to run as.
    pub login: String,
    /// Seconds since the epoch, by the source's clock.
    pub issued: u64,
    /// SHA-256 of what is executed.
    pub run: [u8; 32],
}

impl Warrant {
    /// Signs with the source's host key.
    pub fn sign(&self, host_key: &SigningKey) -> Vec<u8> {
        let mut w = Writer::new(WARRANT);
        w.fixed(&self.cluster)
            .bytes(self.source.as_bytes())
            .bytes(self.user.as_bytes())
            .bytes(self.login.as_bytes())
            .u64(self.issued)
            .fixed(&self.run);
        let sig = host_key.sign(w.as_bytes());
        w.fixed(&sig.to_bytes()).finish()
    }

    /// Reads a warrant without checking it; the two other values are the signed bytes and the signature.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8], [u8; 64]), TicketError> {
        let mut r = Reader::new(bytes, WARRANT, "warrant")?;
        let w = Self {
            cluster: r.fixed()?,
            source: r.text(NAME_MAX)?,
            user: r.text(USER_MAX)?,
            login: r.text(USER_MAX)?,
            issued: r.u64()?,
            run: r.fixed()?,
        };
        let signed = &bytes[..bytes.len() - r.rest().len()];
        let sig = r.fixed()?;
        r.end()?;
        Ok((w, signed, sig))
    }

    /// Reads a warrant and checks it against the (already verified) certificate of its source, and for time. That the
    /// source may vouch for the user is policy's business.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(
        bytes: &[u8],
        source: &HostCert,
        cluster: &Fingerprint,
        now: u64,
    ) -> Result<Self, TicketError> {
        let (w, signed, sig) = Self::parse(bytes)?;
        if w.source != source.name || w.cluster != *cluster || !check(&source.host_key, signed, &sig) {
            return Err(TicketError::BadSignature);
        }
        if w.issued > now.saturating_add(CLOCK_SKEW) || w.issued.saturating_add(LIFETIME) < now {
            let issued = i64::try_from(w.issued).unwrap_or(i64::MAX);
            return Err(TicketError::Clock(issued.saturating_sub_unsigned(now)));
        }
        Ok(w)
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
    fn verifies_only_as_signed() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let (a, b) = (host("a", &key), host("b", &SigningKey::from_bytes(&[2; 32])));
        let w = Warrant {
            cluster: a.cluster,
            source: "a".into(),
            user: "alice".into(),
            login: "bob".into(),
            issued: 10_000,
            run: [4; 32],
        };
        let bytes = w.sign(&key);
        let verify = |bytes: &[u8], source: &HostCert, now| Warrant::verify(bytes, source, &a.cluster, now);
        assert_eq!(verify(&bytes, &a, 10_001), Ok(w.clone()));
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 0x80;
            assert!(verify(&bad, &a, 10_001).is_err(), "byte {i}");
            assert!(verify(&bytes[..i], &a, 10_001).is_err(), "{i} bytes");
        }
        assert!(verify(&[&bytes[..], &[0]].concat(), &a, 10_001).is_err());
        // Of another host: by another key, or with its name.
        assert_eq!(verify(&bytes, &b, 10_001), Err(TicketError::BadSignature));
        let named = Warrant {
            source: "b".into(),
            ..w.clone()
        };
        assert_eq!(
            verify(&named.sign(&key), &a, 10_001),
            Err(TicketError::BadSignature)
        );
        // Of another cluster.
        let elsewhere = fingerprint(&[8; 32]);
        assert_eq!(
            Warrant::verify(&bytes, &a, &elsewhere, 10_001),
            Err(TicketError::BadSignature)
        );
        let foreign = Warrant {
            cluster: elsewhere,
            ..w
        };
        assert_eq!(
            verify(&foreign.sign(&key), &a, 10_001),
            Err(TicketError::BadSignature)
        );
    }

    #[test]
    fn lasts_long_and_not_for_ever() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let a = host("a", &key);
        let at = |issued| {
            let w = Warrant {
                cluster: a.cluster,
                source: "a".into(),
                user: "alice".into(),
                login: "alice".into(),
                issued,
                run: [4; 32],
            };
            w.sign(&key)
        };
        let verify = |issued, now| Warrant::verify(&at(issued), &a, &a.cluster, now);
        assert!(verify(10_000, 10_000 + LIFETIME).is_ok());
        assert!(matches!(
            verify(10_000, 10_001 + LIFETIME),
            Err(TicketError::Clock(s)) if s < 0
        ));
        assert!(verify(10_000 + CLOCK_SKEW, 10_000).is_ok());
        assert!(matches!(
            verify(10_001 + CLOCK_SKEW, 10_000),
            Err(TicketError::Clock(s)) if s > 0
        ));
        for issued in [u64::MAX, u64::MAX - LIFETIME] {
            assert!(verify(issued, 10_000).is_err());
            assert!(verify(issued, u64::MAX).is_ok());
        }
    }

    #[test]
    fn is_no_ticket_and_a_ticket_is_none() {
        assert!(crate::ticket::Ticket::parse(WARRANT).is_err());
        let key = SigningKey::from_bytes(&[1; 32]);
        let t = crate::ticket::Ticket {
            cluster: [0; 32],
            source: "a".into(),
            user: "a".into(),
            login: "a".into(),
            target: "b".into(),
            nonce: [0; 16],
            issued: 1,
            request: [0; 32],
            client_key: [0; 32],
        };
        assert!(Warrant::parse(&t.sign(&key)).is_err());
    }
}
