//! Turns bytes from outside into hosts: checks the authority's signature and the time. What was verified once
//! is remembered, as the same certificates come with every roster. Knows keys and the clock; revocation and
//! membership are the engine's.

use crate::engine::types::{Entry, Host, Revoked};
use libqueue::wire::job::Submit;
use libqueue::wire::{Keys, RosterEntry};
use queue_exec::cert::{CertError, HostCert, PublicKey, Revocations, fingerprint};
use queue_exec::keys::GossipKey;
use queue_exec::state::unix_now;
use queue_exec::warrant::Warrant;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Longest address kept.
const ADDRESS_MAX: usize = 64;

/// Verifies by one authority's key.
#[derive(Debug)]
pub(crate) struct Verifier {
    authority: PublicKey,
    known: Mutex<BTreeMap<Vec<u8>, HostCert>>,
}

impl Verifier {
    /// Whether gossip keys are the authority's.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn keys(&self, keys: &Keys) -> Result<(), String> {
        let (Ok(key), Ok(signature)) = (keys.key[..].try_into(), keys.signature[..].try_into()) else {
            return Err("a key has 32 bytes, and its signature 64".into());
        };
        let key = GossipKey {
            version: keys.version,
            key,
            signature,
        };
        if !key.verify(&self.authority) {
            return Err("the authority's signature on them is wrong".into());
        }
        Ok(())
    }

    /// A verifier that trusts this authority.
    pub(crate) fn new(authority: PublicKey) -> Self {
        Self {
            authority,
            known: Mutex::default(),
        }
    }

    /// The host that a certificate names.
    ///
    /// # Errors
    /// If the authority did not sign it, or it is not valid now.
    pub(crate) fn host(&self, cert: &[u8]) -> Result<Host, CertError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let said = match known.get(cert) {
            Some(c) => c,
            None => {
                let c = HostCert::verify(cert, &self.authority)?;
                known.entry(cert.to_vec()).or_insert(c)
            }
        };
        said.check_now(unix_now(), &Revocations::default())?;
        Ok(Host {
            name: said.name.clone(),
            serial: said.serial,
            tls_key: said.tls_key,
            cert: cert.to_vec(),
        })
    }

    /// A submission that came from this host: its warrant must be of that host, good now, and for this run. The owner
    /// is filled in.
    ///
    /// # Errors
    /// Why it does not count, in one line.
    pub(crate) fn submission(&self, s: &mut Submit, host: &str) -> Result<(), String> {
        self.host(&s.cert)
            .map_err(|e| format!("the certificate with the warrant: {e}"))?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let source = known
            .get(&s.cert)
            .ok_or("the certificate with the warrant is not known")?;
        if source.name != host {
            return Err(format!("the warrant is of {}, and {host} sent it", source.name));
        }
        let warrant = Warrant::verify(&s.warrant, source, &fingerprint(&self.authority), unix_now())
            .map_err(|e| format!("the warrant: {e}"))?;
        if warrant.run != <[u8; 32]>::from(Sha256::digest(&s.run)) {
            return Err("the warrant is for something else than what is to be executed".into());
        }
        if s.plan.is_none() {
            return Err("the submission has no plan".into());
        }
        s.owner = warrant.user;
        Ok(())
    }

    /// A member as another one tells of it. An address that is none is left out.
    ///
    /// # Errors
    /// As [`Verifier::host`].
    pub(crate) fn entry(&self, e: &RosterEntry) -> Result<Entry, CertError> {
        Ok(Entry {
            host: self.host(&e.cert)?,
            address: address(&e.address),
            authority: e.authority,
        })
    }

    /// A revocation list.
    ///
    /// # Errors
    /// If the authority did not sign it.
    pub(crate) fn revocations(&self, bytes: &[u8]) -> Result<Revoked, CertError> {
        let list = Revocations::verify(bytes, &self.authority)?;
        Ok(Revoked {
            version: list.version,
            serials: list.serials,
            bytes: bytes.to_vec(),
        })
    }
}

/// Gossip keys as they go over the wire.
pub(crate) fn wire_keys(key: &GossipKey) -> Keys {
    Keys {
        version: key.version,
        key: key.key.to_vec(),
        signature: key.signature.to_vec(),
    }
}

/// An address as it is kept: `IP:PORT`, or empty if it is not one.
pub(crate) fn address(text: &str) -> String {
    if text.len() > ADDRESS_MAX {
        return String::new();
    }
    text.parse::<std::net::SocketAddr>()
        .map(|a| a.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_are_kept() {
        assert_eq!(address("10.0.0.1:7838"), "10.0.0.1:7838");
        assert_eq!(address("[::1]:7838"), "[::1]:7838");
        for bad in ["", "h1:7838", "10.0.0.1", "x".repeat(100).as_str(), "\u{1b}[2J"] {
            assert_eq!(address(bad), "");
        }
    }
}
