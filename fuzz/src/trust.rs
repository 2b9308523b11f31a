//! What is signed, and what a root process is told.

use ed25519_dalek::SigningKey;
use queue_exec::cert::{Fingerprint, HostCert, Revocations, Vouch, fingerprint};
use queue_exec::entries::{self, Tree};
use queue_exec::protocol::{Control, FromSession, Reply, Request, ToSession};
use queue_exec::ticket::{Grant, Ticket};
use queue_exec::warrant::Warrant;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// A member with this key, whose certificate ends at this second.
fn host(key: &SigningKey, name: &str, cluster: Fingerprint, expires: u64) -> HostCert {
    HostCert {
        cluster,
        serial: 1,
        name: name.to_owned(),
        host_key: key.verifying_key().to_bytes(),
        tls_key: [0; 32],
        vouch: Vouch::Users,
        issued: 0,
        expires,
    }
}

/// Certificates and revocation lists: as they come, and with a good signature under damaged contents.
pub fn cert(data: &[u8]) {
    let authority = key(7);
    let public = authority.verifying_key().to_bytes();
    let _ = HostCert::verify(data, &public);
    let _ = Revocations::verify(data, &public);
    if let Ok((mut c, _, _)) = HostCert::parse(data) {
        c.cluster = fingerprint(&public);
        let bytes = c.sign(&authority);
        assert_eq!(HostCert::verify(&bytes, &public).as_ref(), Ok(&c));
        let list = Revocations {
            version: c.issued,
            serials: vec![c.expires],
        };
        assert_eq!(
            Revocations::verify(&list.sign(&c.cluster, &authority), &public).as_ref(),
            Ok(&list)
        );
        let _ = c.check_now(1_800_000_000, &list).map_err(|e| e.to_string());
    }
}

/// Tickets and grants: as they come, and signed anew by the host that they name.
pub fn ticket(data: &[u8]) {
    let source_key = key(3);
    let _ = Grant::verify(data, &source_key.verifying_key().to_bytes());
    if let Ok((t, signed, _)) = Ticket::parse(data) {
        let named = |name: &str| host(&source_key, name, t.cluster, 4_000_000_000);
        let (source, here) = (named(&t.source), named(&t.target));
        let bytes = t.sign(&source_key);
        assert_eq!(&bytes[..bytes.len() - 64], signed);
        match Ticket::verify(&bytes, &source, &here, 1_800_000_000) {
            Ok(again) => assert_eq!(again, t),
            Err(e) => drop(e.to_string()),
        }
    }
}

/// Warrants: as they come, and signed anew by the host that they name. Entries of an array's tasks.
pub fn warrant(data: &[u8]) {
    let source_key = key(3);
    if let Ok((w, signed, _)) = Warrant::parse(data) {
        let source = host(&source_key, &w.source, w.cluster, u64::MAX);
        let bytes = w.sign(&source_key);
        assert_eq!(&bytes[..bytes.len() - 64], signed);
        // The signature that came with it is nobody's.
        assert!(bytes == data || Warrant::verify(data, &source, &w.cluster, w.issued).is_err());
        assert_eq!(
            Warrant::verify(&bytes, &source, &w.cluster, w.issued).as_ref(),
            Ok(&w)
        );
        let _ = Warrant::verify(&bytes, &source, &w.cluster, 1_800_000_000).map_err(|e| e.to_string());
    }
    let all: Vec<&[u8]> = data.split(|b| *b == b'\n').take(64).collect();
    let (tree, count) = (Tree::new(&all), all.len() as u32);
    let root = tree.root();
    for (i, entry) in (0..count).zip(&all) {
        let proof = tree.proof(i);
        assert!(entries::verify(&root, count, i, entry, &proof));
        assert!(!entries::verify(&root, count, count, entry, &proof));
        // A proof out of the input proves nothing else.
        let forged = &data[..data.len() / 32 * 32];
        let shown = all.first() == Some(&data) && count == 1;
        assert!(shown || !entries::verify(&root, count, i, data, forged));
    }
}

/// What is said on `queue-exec`'s socket and between it and its sessions.
pub fn monitor(data: &[u8]) {
    if let Ok((id, m)) = Request::decode(data) {
        assert_eq!(Request::decode(&m.encode(id)), Ok((id, m)));
    }
    if let Ok((id, m)) = Reply::decode(data) {
        // Texts are made harmless when they are written.
        let harmless = m.encode(id);
        let (_, m) = Reply::decode(&harmless).expect("what we write can be read");
        assert_eq!(m.encode(id), harmless);
    }
    if let Ok(m) = Control::decode(data) {
        // Texts are made harmless when they are written.
        let harmless = m.encode();
        assert_eq!(Control::decode(&harmless).map(|m| m.encode()), Ok(harmless));
    }
    if let Ok(m) = ToSession::decode(data) {
        assert_eq!(ToSession::decode(&m.encode()), Ok(m));
    }
    if let Ok(m) = FromSession::decode(data) {
        let harmless = m.encode();
        assert_eq!(FromSession::decode(&harmless).map(|m| m.encode()), Ok(harmless));
    }
}
