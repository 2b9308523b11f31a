//! Host certificates and the revocation list: what the cluster's authority says of a host.
//!
//! One small signed statement names both keys of a host: the key that signs tickets (root only) and the key
//! that speaks TLS (user `queue`). TLS itself runs on raw public keys (RFC 7250) that are compared with it.
//! It is not X.509 because the root process has to mint and check it, and an X.509 parser does not belong there.

use crate::codec::{Malformed, Reader, Writer, hex};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// An Ed25519 public key, raw.
pub type PublicKey = [u8; 32];
/// SHA-256 of the authority's public key: names the cluster.
pub type Fingerprint = [u8; 32];

/// Longest host name accepted, as in RFC 1035.
pub const NAME_MAX: usize = 253;
/// Longest user name accepted (`useradd`'s limit is 32; LDAP directories have longer ones).
pub const USER_MAX: usize = 256;
/// How long a certificate is valid: 400 days.
pub const LIFETIME: u64 = 400 * 86_400;
/// How far two clocks may be apart before we say so, in seconds.
pub const CLOCK_SKEW: u64 = 300;

const MAGIC: &[u8] = b"QUEUE host certificate 1\0";
const REVOKED: &[u8] = b"QUEUE revocation list 1\0";
/// At most this many entries in lists of names and serials.
const LIST_MAX: usize = 4096;

/// Whom a host may vouch for, as the authority granted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vouch {
    /// Every ordinary user, never root.
    Users,
    /// Only these user names. `root` has to be named to be included; `*` stands for all ordinary users.
    Only(Vec<String>),
}

/// The authority's word about one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCert {
    /// Which cluster: the fingerprint of its authority.
    pub cluster: Fingerprint,
    /// Rises with each certificate issued; named by the revocation list.
    pub serial: u64,
    /// The host's name in the cluster.
    pub name: String,
    /// Signs tickets and grants; its private half is readable by root only.
    pub host_key: PublicKey,
    /// The raw public key of the host's TLS connections.
    pub tls_key: PublicKey,
    /// Whom the host may vouch for.
    pub vouch: Vouch,
    /// Seconds since the epoch.
    pub issued: u64,
    /// Seconds since the epoch.
    pub expires: u64,
}

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertError {
    /// Not a certificate.
    Malformed,
    /// It belongs to another cluster.
    OtherCluster(Fingerprint),
    /// The signature does not fit.
    BadSignature,
    /// It is not valid at this time.
    NotNow {
        /// Whose certificate.
        name: String,
        /// When it begins, seconds since the epoch.
        from: u64,
        /// When it ends.
        until: u64,
        /// What this host's clock says.
        now: u64,
    },
    /// The host was removed from the cluster.
    Revoked(String),
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("malformed host certificate"),
            Self::OtherCluster(id) => {
                write!(
                    f,
                    "the host belongs to another cluster (authority {})",
                    hex(&id[..8])
                )
            }
            Self::BadSignature => f.write_str("the authority's signature on the host certificate is wrong"),
            Self::NotNow {
                name,
                from,
                until,
                now,
            } if now < from => write!(
                f,
                "certificate of {name} is not valid for another {} s: this host's clock or the authority's is wrong (it ends at {until})",
                from - now
            ),
            Self::NotNow { name, until, now, .. } => {
                write!(
                    f,
                    "certificate of {name} expired {} s ago: join the host again",
                    now.saturating_sub(*until)
                )
            }
            Self::Revoked(name) => write!(f, "{name} was removed from the cluster"),
        }
    }
}

impl std::error::Error for CertError {}

impl From<Malformed> for CertError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// The fingerprint that names the cluster of an authority.
pub fn fingerprint(authority: &PublicKey) -> Fingerprint {
    Sha256::digest(authority).into()
}

impl HostCert {
    /// Signs the statement with the authority's key.
    pub fn sign(&self, authority: &SigningKey) -> Vec<u8> {
        let mut w = Writer::new(MAGIC);
        w.fixed(&self.cluster)
            .u64(self.serial)
            .bytes(self.name.as_bytes());
        w.fixed(&self.host_key).fixed(&self.tls_key);
        match &self.vouch {
            Vouch::Users => w.u8(0),
            Vouch::Only(names) => w.u8(1).list(names),
        };
        w.u64(self.issued).u64(self.expires);
        let sig = authority.sign(w.as_bytes());
        w.fixed(&sig.to_bytes()).finish()
    }

    /// Reads a certificate and checks cluster and signature, but not the time and not the revocation list.
    pub fn verify(bytes: &[u8], authority: &PublicKey) -> Result<Self, CertError> {
        let (cert, signed, sig) = Self::parse(bytes)?;
        if cert.cluster != fingerprint(authority) {
            return Err(CertError::OtherCluster(cert.cluster));
        }
        check(authority, signed, &sig)
            .then_some(cert)
            .ok_or(CertError::BadSignature)
    }

    /// Reads a certificate without checking anything but its layout: for showing it, and for a joiner that
    /// checks the fingerprint by itself.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8], [u8; 64]), CertError> {
        let mut r = Reader::new(bytes, MAGIC, "host certificate")?;
        let cluster = r.fixed()?;
        let serial = r.u64()?;
        let name = r.text(NAME_MAX)?;
        let (host_key, tls_key) = (r.fixed()?, r.fixed()?);
        let vouch = match r.u8()? {
            0 => Vouch::Users,
            1 => Vouch::Only(r.list(LIST_MAX, USER_MAX)?),
            _ => return Err(CertError::Malformed),
        };
        let (issued, expires) = (r.u64()?, r.u64()?);
        let signed = &bytes[..bytes.len() - r.rest().len()];
        let sig = r.fixed()?;
        r.end()?;
        Ok((
            Self {
                cluster,
                serial,
                name,
                host_key,
                tls_key,
                vouch,
                issued,
                expires,
            },
            signed,
            sig,
        ))
    }

    /// Whether it is valid at `now` (seconds since the epoch) and not revoked.
    pub fn check_now(&self, now: u64, revoked: &Revocations) -> Result<(), CertError> {
        if revoked.serials.contains(&self.serial) {
            return Err(CertError::Revoked(self.name.clone()));
        }
        if now + CLOCK_SKEW < self.issued || now > self.expires.saturating_add(CLOCK_SKEW) {
            return Err(CertError::NotNow {
                name: self.name.clone(),
                from: self.issued,
                until: self.expires,
                now,
            });
        }
        Ok(())
    }
}

/// The hosts that were removed, signed by the authority. A higher version replaces a lower one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Rises with each change.
    pub version: u64,
    /// Serial numbers of the certificates that no longer count.
    pub serials: Vec<u64>,
}

impl Revocations {
    /// Signs the list.
    pub fn sign(&self, cluster: &Fingerprint, authority: &SigningKey) -> Vec<u8> {
        let mut w = Writer::new(REVOKED);
        w.fixed(cluster).u64(self.version).u32(self.serials.len() as u32);
        for s in &self.serials {
            w.u64(*s);
        }
        let sig = authority.sign(w.as_bytes());
        w.fixed(&sig.to_bytes()).finish()
    }

    /// Reads and verifies a list.
    pub fn verify(bytes: &[u8], authority: &PublicKey) -> Result<Self, CertError> {
        let mut r = Reader::new(bytes, REVOKED, "revocation list")?;
        let cluster: Fingerprint = r.fixed()?;
        let version = r.u64()?;
        let n = r.u32()? as usize;
        if n > r.rest().len() / 8 {
            return Err(CertError::Malformed);
        }
        let serials = (0..n).map(|_| r.u64()).collect::<Result<_, _>>()?;
        let signed = &bytes[..bytes.len() - r.rest().len()];
        let sig = r.fixed()?;
        r.end()?;
        if cluster != fingerprint(authority) {
            return Err(CertError::OtherCluster(cluster));
        }
        check(authority, signed, &sig)
            .then_some(Self { version, serials })
            .ok_or(CertError::BadSignature)
    }
}

/// Whether `sig` is `key`'s signature of `message` (RFC 8032, strict).
pub(crate) fn check(key: &PublicKey, message: &[u8], sig: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|k| k.verify_strict(message, &Signature::from_bytes(sig)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn cert() -> HostCert {
        HostCert {
            cluster: fingerprint(&authority().verifying_key().to_bytes()),
            serial: 3,
            name: "h1".into(),
            host_key: [1; 32],
            tls_key: [2; 32],
            vouch: Vouch::Only(vec!["alice".into()]),
            issued: 1000,
            expires: 2000,
        }
    }

    #[test]
    fn signed_certificate_verifies_and_any_flipped_bit_does_not() {
        let key = authority().verifying_key().to_bytes();
        let bytes = cert().sign(&authority());
        assert_eq!(HostCert::verify(&bytes, &key), Ok(cert()));
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(HostCert::verify(&bad, &key).is_err(), "byte {i}");
            assert!(HostCert::verify(&bytes[..i], &key).is_err(), "cut at {i}");
        }
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        assert!(matches!(
            HostCert::verify(&bytes, &other),
            Err(CertError::OtherCluster(_))
        ));
    }

    #[test]
    fn time_and_revocation() {
        let none = Revocations::default();
        assert_eq!(cert().check_now(1500, &none), Ok(()));
        assert!(matches!(
            cert().check_now(2000 + CLOCK_SKEW + 1, &none),
            Err(CertError::NotNow { .. })
        ));
        assert!(matches!(
            cert().check_now(1000 - CLOCK_SKEW - 1, &none),
            Err(CertError::NotNow { .. })
        ));
        let list = Revocations {
            version: 1,
            serials: vec![3],
        };
        assert_eq!(
            cert().check_now(1500, &list),
            Err(CertError::Revoked("h1".into()))
        );
        let key = authority().verifying_key().to_bytes();
        let bytes = list.sign(&fingerprint(&key), &authority());
        assert_eq!(Revocations::verify(&bytes, &key), Ok(list));
    }
}
