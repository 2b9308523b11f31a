//! Unit tests of the authority on a directory of their own.

use super::*;
use crate::state::testdir::TestDir;
use std::path::Path;

fn layout(dir: &Path) -> Layout {
    Layout {
        root: false,
        config: dir.join("etc"),
        state: dir.join("state"),
        run: dir.join("run"),
    }
}

struct Cluster {
    _dir: TestDir,
    layout: Layout,
    room: Room,
    authority: PublicKey,
}

fn cluster() -> Cluster {
    let dir = TestDir::new();
    let layout = layout(dir.path());
    let made = init(&layout, "h1", &[1; 32], &[], None).unwrap();
    let room = Room::open(&layout.exec_state()).unwrap();
    Cluster {
        room,
        authority: made.authority,
        layout,
        _dir: dir,
    }
}

impl Cluster {
    fn token(&self, uses: u32) -> NewToken {
        create_token(&self.layout, Duration::from_secs(60), uses, &[], None).unwrap()
    }

    fn ask(&self, t: &NewToken, name: &str, key: u8, dry: bool) -> Result<Option<Vec<u8>>, Failure> {
        let who = Applicant {
            token: &t.id,
            secret: &t.secret,
            name,
            host_key: &[key; 32],
            tls_key: &[key.wrapping_add(100); 32],
        };
        admit(&self.room, &who, dry, Duration::ZERO)
    }

    fn refused(&self, t: &NewToken, name: &str, key: u8) -> (Refusal, String) {
        let dry = self.ask(t, name, key, true).unwrap_err();
        let f = self.ask(t, name, key, false).unwrap_err();
        assert_eq!(f, dry, "a dry run says the same");
        (f.code, f.text)
    }
}

#[test]
fn init_makes_a_host_that_can_sign_once() {
    let c = cluster();
    let id = c.room.identity().unwrap();
    assert_eq!(
        (id.cert.name.as_str(), id.cert.serial, id.authority),
        ("h1", 1, c.authority)
    );
    assert_eq!(id.cert.vouch, Vouch::Users);
    let again = init(&c.layout, "h1", &[1; 32], &[], None).unwrap_err();
    assert!(again.text.contains("in a cluster already"), "{again}");
    assert_eq!(c.room.identity().unwrap().cluster, id.cluster);
}

#[test]
fn a_token_admits_as_often_as_it_says() {
    let c = cluster();
    let t = c.token(2);
    assert_eq!(t.authority, fingerprint(&c.authority));
    assert_eq!(c.ask(&t, "h2", 2, true), Ok(None));
    let cert = HostCert::verify(&c.ask(&t, "h2", 2, false).unwrap().unwrap(), &c.authority).unwrap();
    assert_eq!(
        (cert.name.as_str(), cert.host_key, cert.serial),
        ("h2", [2; 32], 2)
    );
    assert!(c.ask(&t, "h3", 3, true).unwrap().is_none());
    c.ask(&t, "h3", 3, false).unwrap();
    let (code, text) = c.refused(&t, "h4", 4);
    assert_eq!(code, Refusal::Token);
    assert!(text.contains("used up"), "{text}");
    // The answer was lost: the same host asks again, and that is no further use.
    assert!(c.ask(&t, "h3", 3, false).unwrap().is_some());
    // A refusal costs no use.
    let t = c.token(1);
    assert_eq!(c.refused(&t, "h2", 9).0, Refusal::Name);
    assert!(c.ask(&t, "h5", 5, false).unwrap().is_some());
    // The secret itself is nowhere on the disk.
    let file = std::fs::read(c.room.path(TOKENS).join(&t.id)).unwrap();
    assert!(!file.windows(8).any(|w| t.secret.as_bytes().starts_with(w)));
}

#[test]
fn each_bad_token_has_its_own_text() {
    let c = cluster();
    let t = c.token(1);
    let wrong = NewToken {
        secret: base32(&[0; SECRET_LEN]),
        ..t.clone()
    };
    assert!(c.refused(&wrong, "h2", 2).1.contains("wrong secret"));
    for id in ["nonesuch", "", "../serial", "x/y", "."] {
        let unknown = NewToken {
            id: id.into(),
            ..t.clone()
        };
        assert!(
            c.refused(&unknown, "h2", 2).1.contains("unknown join token"),
            "{id}"
        );
    }
    let mut stored =
        StoredToken::decode(&c.room.read(&format!("{TOKENS}/{}", t.id)).unwrap().unwrap()).unwrap();
    stored.expires = unix_now() - 30;
    c.room
        .write(&format!("{TOKENS}/{}", t.id), &stored.encode())
        .unwrap();
    let (code, text) = c.refused(&t, "h2", 2);
    assert!(code == Refusal::Token && text.contains("expired 3"), "{text}");
    assert!(c.room.path(TOKENS).join(&t.id).exists());
    stored.expires = 1000;
    c.room
        .write(&format!("{TOKENS}/{}", t.id), &stored.encode())
        .unwrap();
    let _ = c.token(1);
    assert!(
        !c.room.path(TOKENS).join(&t.id).exists(),
        "swept by the next token"
    );
}

#[test]
fn names_and_keys_belong_to_one_host() {
    let c = cluster();
    let t = c.token(9);
    for bad in ["", "a b", "-x", "x-", "a..b", "../x", "é", "x/y", &"a".repeat(64)] {
        assert_eq!(c.refused(&t, bad, 2).0, Refusal::Name, "{bad}");
    }
    c.ask(&t, "h2", 2, false).unwrap();
    let (code, text) = c.refused(&t, "H2", 3);
    assert!(
        code == Refusal::Name && text.contains("queue hosts remove h2"),
        "{text}"
    );
    let (code, text) = c.refused(&t, "h3", 2);
    assert!(code == Refusal::Clone && text.contains("key of h2"), "{text}");
    let bound = create_token(&c.layout, Duration::from_secs(9), 1, &[], Some("h7")).unwrap();
    assert!(c.refused(&bound, "h8", 8).1.contains("only a host named h7"));
    assert!(c.ask(&bound, "h7", 7, false).unwrap().is_some());
    let wider = create_token(&c.layout, Duration::from_secs(9), 1, &["root".into()], None).unwrap();
    assert!(c.refused(&wider, "h2", 2).1.contains("may vouch for other users"));
}

#[test]
fn removal_revokes_every_certificate_and_frees_name_and_key() {
    let c = cluster();
    let t = c.token(9);
    let verify = |b: &[u8]| HostCert::verify(b, &c.authority).unwrap();
    let first = verify(&c.ask(&t, "h2", 2, false).unwrap().unwrap());
    let second = verify(&c.ask(&t, "h2", 2, false).unwrap().unwrap());
    let list = Revocations::verify(&remove(&c.layout, "h2").unwrap(), &c.authority).unwrap();
    assert_eq!(
        (list.version, list.serials.clone()),
        (1, vec![first.serial, second.serial])
    );
    assert!(second.check_now(unix_now(), &list).is_err());
    assert!(
        remove(&c.layout, "h2")
            .unwrap_err()
            .text
            .contains("no host named h2")
    );
    assert!(remove(&c.layout, "h1").unwrap_err().text.contains("this host"));
    let third = verify(&c.ask(&t, "h9", 2, false).unwrap().unwrap());
    assert!(third.check_now(unix_now(), &list).is_ok());
    assert_eq!(c.room.identity().unwrap().revoked, list);
}

#[test]
fn joining_writes_all_or_nothing() {
    let c = cluster();
    let t = c.token(2);
    let dir = TestDir::new();
    let there = layout(dir.path());
    let key = generate_host_key(&there).unwrap();
    let public = key.verifying_key().to_bytes();
    let who = Applicant {
        token: &t.id,
        secret: &t.secret,
        name: "h2",
        host_key: &public,
        tls_key: &[5; 32],
    };
    let cert = admit(&c.room, &who, false, Duration::ZERO).unwrap().unwrap();
    let other = SigningKey::from_bytes(&[9; 32]);
    assert!(install_joined(&there, &other, &c.authority, &cert, None).is_err());
    assert!(install_joined(&there, &key, &other.verifying_key().to_bytes(), &cert, None).is_err());
    assert!(install_joined(&there, &key, &c.authority, &cert, Some(b"junk")).is_err());
    assert!(!there.exec_state().exists(), "nothing half-joined");
    let list = remove(&c.layout, "h2").unwrap();
    assert!(
        install_joined(&there, &key, &c.authority, &cert, Some(&list)).is_err(),
        "removed meanwhile"
    );
    let cert = admit(&c.room, &who, false, Duration::ZERO).unwrap().unwrap();
    install_joined(&there, &key, &c.authority, &cert, Some(&list)).unwrap();
    let id = Room::open(&there.exec_state()).unwrap().identity().unwrap();
    assert_eq!((id.cert.name.as_str(), id.revoked.version), ("h2", 1));
    assert_eq!(
        generate_host_key(&there).unwrap().to_bytes(),
        key.to_bytes(),
        "kept for joining again"
    );
    assert!(
        create_token(&there, Duration::from_secs(1), 1, &[], None).is_err(),
        "not the authority"
    );
    assert!(
        install_joined(&c.layout, &key, &c.authority, &cert, None)
            .unwrap_err()
            .text
            .contains("holds the authority")
    );
}

#[test]
fn a_locked_room_is_busy_and_damaged_files_are_named() {
    let c = cluster();
    let t = c.token(1);
    let lock = c.room.lock(Duration::ZERO).unwrap();
    assert_eq!(c.ask(&t, "h2", 2, false).unwrap_err().code, Refusal::Busy);
    drop(lock);
    c.room.write(SERIAL, b"many").unwrap();
    assert!(c.ask(&t, "h2", 2, false).unwrap_err().text.contains("serial"));
    c.room.write(&format!("{TOKENS}/{}", t.id), b"junk").unwrap();
    assert!(c.ask(&t, "h2", 2, false).unwrap_err().text.contains(&t.id));
}

#[test]
fn a_proof_admits_who_made_it_and_nobody_else() {
    let c = cluster();
    let t = c.token(3);
    let keys = |n: u8| ([n; 32], [n.wrapping_add(100); 32]);
    let ask = |proof: &str, name: &str, n: u8| {
        let (host_key, tls_key) = keys(n);
        let who = Applicant {
            token: &t.id,
            secret: proof,
            name,
            host_key: &host_key,
            tls_key: &tls_key,
        };
        admit(&c.room, &who, false, Duration::ZERO)
    };
    let proof = |secret: &str, n: u8| {
        let (host_key, tls_key) = keys(n);
        crate::token::proof(secret, "h2", &host_key, &tls_key)
    };
    let good = proof(&t.secret, 2);
    assert!(!good.contains(&t.secret));
    // Whoever passes it on can use it for no other keys and no other name.
    for (proof, name, n) in [(&good, "h2", 3), (&good, "h3", 2), (&proof("other", 2), "h2", 2)] {
        let e = ask(proof, name, n).unwrap_err();
        assert!(e.code == Refusal::Token && e.text.contains("wrong secret"), "{e}");
    }
    assert!(ask(&good[..good.len() - 1], "h2", 2).is_err());
    assert!(ask("p1-", "h2", 2).is_err());
    assert!(ask(&good, "h2", 2).unwrap().is_some());
    // What is kept of the secret makes proofs, and is none.
    assert!(ask(&t.secret, "h4", 4).unwrap().is_some(), "as older versions do");
}
