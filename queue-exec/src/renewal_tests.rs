//! Unit tests of renewal: two hosts' rooms in one directory.

use super::*;
use crate::authority::{self, Applicant, create_token, install_joined, remove};
use crate::cert::PublicKey;
use crate::layout::Layout;
use crate::state::testdir::TestDir;
use ed25519_dalek::SigningKey;
use std::time::Instant;

const TLS: PublicKey = [5; 32];

struct World {
    _dir: TestDir,
    first: Layout,
    second: Layout,
    public: PublicKey,
    key: SigningKey,
    cert: Vec<u8>,
}

fn layout(dir: std::path::PathBuf) -> Layout {
    Layout {
        root: false,
        config: dir.join("etc"),
        state: dir.join("state"),
        run: dir.join("run"),
    }
}

/// A cluster of two; its certificates last for so many seconds.
fn world(lifetime: u64) -> World {
    let dir = TestDir::new();
    let (first, second) = (layout(dir.path().join("1")), layout(dir.path().join("2")));
    let made = authority::init(&first, "h1", &[1; 32], &[], Some(Duration::from_secs(lifetime))).unwrap();
    let key = authority::generate_host_key(&second).unwrap();
    let mut w = World {
        _dir: dir,
        first,
        second,
        public: made.authority,
        key,
        cert: Vec::new(),
    };
    w.cert = w.admit();
    install_joined(&w.second, &w.key, &w.public, &w.cert, None).unwrap();
    w
}

impl World {
    fn admit(&self) -> Vec<u8> {
        let t = create_token(&self.first, Duration::from_secs(60), 1, &["alice".into()], None).unwrap();
        let who = Applicant {
            token: &t.id,
            secret: &t.secret,
            name: "h2",
            host_key: &self.key.verifying_key().to_bytes(),
            tls_key: &TLS,
        };
        let room = Room::open(&self.first.exec_state()).unwrap();
        authority::admit(&room, &who, false, Duration::ZERO)
            .unwrap()
            .unwrap()
    }

    fn renew(&self, cert: &[u8]) -> Result<Vec<u8>, Failure> {
        renew(
            &Room::open(&self.first.exec_state()).unwrap(),
            cert,
            Duration::ZERO,
        )
    }

    fn install(&self, cert: &[u8]) -> Result<bool, Failure> {
        install(&Room::open(&self.second.exec_state()).unwrap(), cert)
    }

    fn read(&self, cert: &[u8]) -> HostCert {
        HostCert::verify(cert, &self.public).unwrap()
    }

    /// Waits until this certificate has lost half of its time.
    fn wait_half(&self, cert: &[u8]) {
        let c = self.read(cert);
        let until = Instant::now() + Duration::from_secs(20);
        while 2 * c.expires.saturating_sub(unix_now()) > c.expires - c.issued {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_certificate_is_followed_by_one_for_the_same_host() {
    let w = world(8);
    assert_eq!(w.renew(&w.cert).unwrap(), w.cert, "nothing to do yet");
    w.wait_half(&w.cert);
    let new = w.renew(&w.cert).unwrap();
    let (a, b) = (w.read(&w.cert), w.read(&new));
    assert!(b.serial > a.serial && b.expires > a.expires && b.expires - b.issued == 8);
    let same = HostCert {
        serial: a.serial,
        issued: a.issued,
        expires: a.expires,
        ..b
    };
    assert_eq!(same, a);
    assert_eq!(w.renew(&w.cert).unwrap(), new, "the answer may get lost");
    assert!(w.install(&new).unwrap());
    assert!(!w.install(&new).unwrap(), "it is there already");
    let id = Room::open(&w.second.exec_state()).unwrap().identity().unwrap();
    assert_eq!(id.cert_bytes, new);
    assert!(w.install(&w.cert).is_err(), "no way back");
    // The authority's own host does the same.
    let room = Room::open(&w.first.exec_state()).unwrap();
    let own = room.identity().unwrap().cert_bytes;
    w.wait_half(&own);
    let new = w.renew(&own).unwrap();
    assert!(install(&room, &new).unwrap() && room.identity().unwrap().cert.name == "h1");
}

#[test]
fn a_removed_host_a_foreign_one_and_one_with_other_keys_get_nothing() {
    let w = world(8);
    w.wait_half(&w.cert);
    let new = w.renew(&w.cert).unwrap();
    let list = remove(&w.first, "h2").unwrap();
    let list = crate::cert::Revocations::verify(&list, &w.public).unwrap();
    // Every number of the name is on the list.
    for c in [&w.cert, &new] {
        assert!(list.serials.contains(&w.read(c).serial));
        assert!(w.renew(c).unwrap_err().text.contains("was removed"));
    }
    assert!(w.renew(b"junk").is_err());
    let stranger = w.read(&w.cert).sign(&SigningKey::from_bytes(&[9; 32]));
    assert_eq!(w.renew(&stranger).unwrap_err().code, Refusal::BadTicket);
    assert!(w.install(&stranger).is_err());
    let there = Room::open(&w.second.exec_state()).unwrap();
    let e = renew(&there, &w.cert, Duration::ZERO).unwrap_err();
    assert_eq!(e.code, Refusal::NotReady, "the authority is elsewhere");
}

#[test]
fn only_what_follows_the_own_certificate_is_installed() {
    let w = world(1000);
    let room = Room::open(&w.first.exec_state()).unwrap();
    let (authority, _) = authority_of(&room).unwrap();
    let good = HostCert {
        serial: 100,
        ..w.read(&w.cert)
    };
    let bad = [
        HostCert {
            name: "h3".into(),
            ..good.clone()
        },
        HostCert {
            host_key: [7; 32],
            ..good.clone()
        },
        HostCert {
            tls_key: [7; 32],
            ..good.clone()
        },
        HostCert {
            serial: 1,
            ..good.clone()
        },
        HostCert {
            expires: 1000,
            ..good.clone()
        },
    ];
    for c in bad {
        assert!(w.install(&c.sign(&authority)).is_err(), "{c:?}");
    }
    assert!(w.install(&good.sign(&authority)).unwrap());
}

#[test]
fn an_expired_one_has_to_join_again() {
    let w = world(1);
    let end = w.read(&w.cert).expires;
    let until = Instant::now() + Duration::from_secs(20);
    while unix_now() <= end {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
    }
    let e = w.renew(&w.cert).unwrap_err();
    assert!(
        e.code == Refusal::Clock && e.text.contains("join the host again"),
        "{e}"
    );
}
