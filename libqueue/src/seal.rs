//! Sealed datagrams between members: AES-256-GCM under a key that all members share. Pure: bytes in, bytes out.
//! Knows the format and the cryptography; must not know sockets, time, which keys are in use, or what was seen
//! before (replays are the caller's to refuse).
//!
//! ```text
//! version (1) | key id (4) | host (8) | boot (8) | counter (8) | sealed payload | tag (16)
//! ```
//!
//! The head is associated data. Each run of each host seals with a key of its own, made by HKDF-SHA256 from the
//! shared one with host number and boot as context, so a counter is enough as nonce: no two hosts, and no two runs
//! of one host, ever use the same key. Any member can make any other's key: this keeps strangers out and
//! tells nobody apart.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf};
use std::fmt;

/// Longest payload: with head, tag, UDP and IPv6 it fits into an Ethernet frame.
pub const PAYLOAD_MAX: usize = 1400;
/// Length of the head.
pub const HEAD: usize = 29;
/// Length of the tag.
const TAG: usize = 16;
/// Longest datagram.
pub const DATAGRAM_MAX: usize = HEAD + PAYLOAD_MAX + TAG;

/// Version of this format.
const VERSION: u8 = 1;
/// What the derived keys are for.
const CONTEXT: &[u8] = b"QUEUE gossip datagram 1\0";
/// What the key ids are for.
const ID_CONTEXT: &[u8] = b"QUEUE gossip key id 1\0";

/// Names a shared key, without telling anything about it.
pub type KeyId = [u8; 4];

/// What a datagram says in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// With which shared key it was sealed.
    pub key: KeyId,
    /// Number of the host that says it sent it.
    pub host: u64,
    /// Which run of that host: rises with each.
    pub boot: u64,
    /// Which datagram of that run: rises with each.
    pub counter: u64,
}

impl Head {
    /// Reads the head of what may be a datagram; `None`: it is none of this version.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        if datagram.len() < HEAD + TAG || datagram.len() > DATAGRAM_MAX {
            return None;
        }
        let (version, rest) = datagram.split_first()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (host, rest) = rest.split_first_chunk()?;
        let (boot, rest) = rest.split_first_chunk()?;
        let counter = rest.first_chunk()?;
        (*version == VERSION).then_some(Self {
            key: *key,
            host: u64::from_be_bytes(*host),
            boot: u64::from_be_bytes(*boot),
            counter: u64::from_be_bytes(*counter),
        })
    }

    fn bytes(&self) -> [u8; HEAD] {
        let mut b = [0; HEAD];
        b[0] = VERSION;
        b[1..5].copy_from_slice(&self.key);
        b[5..13].copy_from_slice(&self.host.to_be_bytes());
        b[13..21].copy_from_slice(&self.boot.to_be_bytes());
        b[21..].copy_from_slice(&self.counter.to_be_bytes());
        b
    }
}

/// A key that all members share.
pub struct SharedKey {
    id: KeyId,
    prk: hkdf::Prk,
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl SharedKey {
    /// Takes the raw key.
    pub fn new(key: &[u8; 32]) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(ID_CONTEXT);
        hash.update(key);
        let mut id = KeyId::default();
        id.copy_from_slice(&hash.finish().as_ref()[..4]);
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, CONTEXT).extract(key);
        Self { id, prk }
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key of one run of one host.
    pub fn sender(&self, host: u64, boot: u64) -> SenderKey {
        let (host, boot) = (host.to_be_bytes(), boot.to_be_bytes());
        let info = [CONTEXT, &host, &boot];
        let mut raw = [0; 32];
        let key = self
            .prk
            .expand(&info, hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut raw))
            .and_then(|()| UnboundKey::new(&AES_256_GCM, &raw));
        // Fails only for lengths other than these.
        SenderKey(key.ok().map(LessSafeKey::new))
    }
}

/// The key of one run of one host.
pub struct SenderKey(Option<LessSafeKey>);

impl fmt::Debug for SenderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SenderKey")
    }
}

impl SenderKey {
    /// Seals a payload into a datagram: `out` is replaced. The counter must be one that was never used with
    /// this key before. `false`: it is too long, and `out` is empty.
    pub fn seal(&self, head: &Head, payload: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        let Some(key) = self.0.as_ref().filter(|_| payload.len() <= PAYLOAD_MAX) else {
            return false;
        };
        let head_bytes = head.bytes();
        out.extend_from_slice(&head_bytes);
        out.extend_from_slice(payload);
        let sealed =
            key.seal_in_place_separate_tag(nonce(head.counter), Aad::from(&head_bytes), &mut out[HEAD..]);
        match sealed {
            Ok(tag) => out.extend_from_slice(tag.as_ref()),
            Err(_) => out.clear(),
        }
        !out.is_empty()
    }

    /// Opens a datagram with this head in place. `None`: nobody who has the key sealed it so, and what is left
    /// of it means nothing.
    pub fn open<'a>(&self, head: &Head, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        let (clear, sealed) = datagram.split_at_mut_checked(HEAD)?;
        let aad = Aad::from(&*clear);
        let opened = self.0.as_ref()?.open_in_place(nonce(head.counter), aad, sealed);
        opened.ok().map(|p| &*p)
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut n = [0; 12];
    n[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(key: &SharedKey) -> Head {
        Head {
            key: key.id(),
            host: 7,
            boot: 1_700_000_000_123,
            counter: 42,
        }
    }

    fn sealed(payload: &[u8]) -> Vec<u8> {
        let key = SharedKey::new(&[1; 32]);
        let mut out = Vec::new();
        let h = head(&key);
        assert!(key.sender(h.host, h.boot).seal(&h, payload, &mut out));
        out
    }

    /// What a receiver does.
    fn open(key: &SharedKey, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut d = datagram.to_vec();
        let h = Head::parse(&d)?;
        let sender = key.sender(h.host, h.boot);
        sender.open(&h, &mut d).map(<[u8]>::to_vec)
    }

    #[test]
    fn what_was_sealed_comes_back_and_is_not_read_on_the_way() {
        let key = SharedKey::new(&[1; 32]);
        for payload in [&b""[..], b"load 0.5", &[9; PAYLOAD_MAX]] {
            let d = sealed(payload);
            assert_eq!(d.len(), HEAD + payload.len() + TAG);
            assert_eq!(Head::parse(&d), Some(head(&key)));
            assert_eq!(open(&key, &d).as_deref(), Some(payload));
            assert!(payload.is_empty() || !d.windows(payload.len()).any(|w| w == payload));
        }
        let mut out = vec![1];
        let h = head(&key);
        assert!(!key.sender(1, 1).seal(&h, &[0; PAYLOAD_MAX + 1], &mut out));
        assert!(out.is_empty());
    }

    #[test]
    fn a_forged_head_a_cut_a_flipped_bit_or_another_key_opens_nothing() {
        let key = SharedKey::new(&[1; 32]);
        let d = sealed(b"load 0.5");
        for i in 0..d.len() {
            for bit in 0..8 {
                let mut bad = d.clone();
                bad[i] ^= 1 << bit;
                assert_eq!(open(&key, &bad), None, "byte {i}");
            }
            assert_eq!(open(&key, &d[..i]), None, "cut at {i}");
        }
        let longer = [&d[..], &[0]].concat();
        assert_eq!(open(&key, &longer), None);
        assert_eq!(open(&SharedKey::new(&[2; 32]), &d), None);
        assert_eq!(Head::parse(&[VERSION; DATAGRAM_MAX + 1]), None);
        assert_ne!(SharedKey::new(&[2; 32]).id(), key.id());
    }

    #[test]
    fn each_run_of_each_host_has_a_key_of_its_own() {
        let key = SharedKey::new(&[1; 32]);
        let h = head(&key);
        let mut all = Vec::new();
        for (host, boot) in [(7, 1), (7, 2), (8, 1), (0x0700, 1)] {
            let mut out = Vec::new();
            // The same nonce and payload: only another key makes another text.
            assert!(key.sender(host, boot).seal(&h, &[0; 64], &mut out));
            let text = out.split_off(HEAD);
            assert!(!all.contains(&text));
            all.push(text);
        }
    }

    /// Figures for the notes: `cargo test --release -p libqueue seal -- --ignored --nocapture`.
    #[test]
    #[ignore = "measures"]
    fn speed() {
        use std::io::Write as _;
        use std::time::Instant;
        const N: u64 = 200_000;
        let key = SharedKey::new(&[1; 32]);
        let sender = key.sender(7, 1);
        let mut out = Vec::new();
        let begun = Instant::now();
        for counter in 0..N {
            let h = Head {
                counter,
                ..head(&key)
            };
            assert!(sender.seal(&h, &[5; 200], &mut out));
            let h = Head::parse(&out).unwrap();
            assert!(sender.open(&h, &mut out).is_some());
        }
        let both = begun.elapsed();
        let begun = Instant::now();
        for host in 0..N {
            assert!(key.sender(host, 1).open(&head(&key), &mut [0; 300]).is_none());
        }
        let forged = begun.elapsed();
        let per = |d: std::time::Duration| N as f64 / d.as_secs_f64();
        let _ = writeln!(
            std::io::stderr(),
            "200 B sealed and opened: {:.0}/s; forged with an unknown sender refused: {:.0}/s",
            per(both),
            per(forged)
        );
    }
}
