//! The key of the gossip: made and signed where the authority is. It lets members hear each other and keeps
//! strangers out; it grants nothing. Knows how it is signed and which version comes next; not who gets it.

use crate::authority::{Failure, authority_of, wait_lock};
use crate::cert::{PublicKey, check, fingerprint};
use crate::codec::{Malformed, Reader, Writer};
use crate::layout::Layout;
use crate::state::{GOSSIP, Room, StateError, random};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

const MAGIC: &[u8] = b"QUEUE gossip key 1\0";
const FILE: &[u8] = b"QUEUE gossip key file 1\0";

/// A key that all members share.
#[derive(Clone, PartialEq, Eq)]
pub struct GossipKey {
    /// Rises with each one made.
    pub version: u64,
    /// The key: secret.
    pub key: [u8; 32],
    /// The authority's word that it is this one.
    pub signature: [u8; 64],
}

impl std::fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GossipKey")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl GossipKey {
    /// Signs a key.
    pub fn sign(version: u64, key: [u8; 32], authority: &SigningKey) -> Self {
        let public = authority.verifying_key().to_bytes();
        let signature = authority.sign(&signed(version, &key, &public)).to_bytes();
        Self {
            version,
            key,
            signature,
        }
    }

    /// Whether this authority signed it.
    pub fn verify(&self, authority: &PublicKey) -> bool {
        check(
            authority,
            &signed(self.version, &self.key, authority),
            &self.signature,
        )
    }
}

impl GossipKey {
    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(FILE);
        w.u64(self.version).fixed(&self.key);
        w.fixed(&self.signature).finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes, FILE, "gossip key")?;
        let key = Self {
            version: r.u64()?,
            key: r.fixed()?,
            signature: r.fixed()?,
        };
        r.end()?;
        Ok(key)
    }
}

/// What is signed: not the key itself, so that the signature may be shown to anybody.
fn signed(version: u64, key: &[u8; 32], authority: &PublicKey) -> Vec<u8> {
    let mut w = Writer::new(MAGIC);
    w.fixed(&fingerprint(authority)).u64(version);
    w.fixed(&Sha256::digest(key)).finish()
}

/// Makes a new key, with the next version. It is kept here as well: where no daemon runs, the next one takes it up.
///
/// # Errors
/// If this host is not the authority, or the disk failed.
pub fn new_key(layout: &Layout) -> Result<GossipKey, Failure> {
    let room = Room::open(&layout.exec_state())?;
    let (authority, _) = authority_of(&room)?;
    let _lock = wait_lock(&room)?;
    let version = current(&room)?.map_or(0, |k| k.version).saturating_add(1);
    let key = GossipKey::sign(version, random(), &authority);
    room.write(GOSSIP, &key.encode())?;
    Ok(key)
}

/// The key made last; `None` if there is none, or the authority is elsewhere.
///
/// # Errors
/// If the file is damaged, or the disk failed.
pub fn current(room: &Room) -> Result<Option<GossipKey>, StateError> {
    let Some(b) = room.read(GOSSIP)? else {
        return Ok(None);
    };
    let damaged = |e: Malformed| {
        let text = format!("{e}: restore it from a backup");
        StateError::other(&room.path(GOSSIP), text)
    };
    GossipKey::decode(&b).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_authority_s_own_words_count() {
        let authority = SigningKey::from_bytes(&[7; 32]);
        let public = authority.verifying_key().to_bytes();
        let good = GossipKey::sign(3, [1; 32], &authority);
        assert!(good.verify(&public));
        let mut bad = good.clone();
        bad.version = 4;
        assert!(!bad.verify(&public));
        let mut bad = good.clone();
        bad.key[31] ^= 1;
        assert!(!bad.verify(&public));
        let mut bad = good.clone();
        bad.signature[0] ^= 1;
        assert!(!bad.verify(&public));
        let other = SigningKey::from_bytes(&[8; 32]);
        assert!(!GossipKey::sign(3, [1; 32], &other).verify(&public));
        assert!(!good.verify(&other.verifying_key().to_bytes()));
        assert!(!format!("{good:?}").contains("1, 1"), "no secrets in logs");
    }
    #[test]
    fn versions_rise_and_the_last_key_is_kept() {
        let dir = crate::state::testdir::TestDir::new();
        let layout = Layout {
            root: false,
            config: dir.path().join("etc"),
            state: dir.path().join("state"),
            run: dir.path().join("run"),
        };
        let made = crate::authority::init(&layout, "h1", &[1; 32], &[], None).unwrap();
        let room = Room::open(&layout.exec_state()).unwrap();
        assert_eq!(current(&room).unwrap(), None);
        let (a, b) = (new_key(&layout).unwrap(), new_key(&layout).unwrap());
        assert_eq!((a.version, b.version), (1, 2));
        assert!(a.key != b.key && b.verify(&made.authority));
        assert_eq!(current(&room).unwrap(), Some(b));
        room.write(GOSSIP, b"junk").unwrap();
        assert!(new_key(&layout).unwrap_err().text.contains("gossip.key"));
        room.remove(crate::state::AUTHORITY_KEY).unwrap();
        assert!(new_key(&layout).is_err(), "not the authority");
    }
}
