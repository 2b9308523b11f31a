//! What is signed: certificates, tickets, warrants, and the like; and the token, which is a text.

use super::compare;
use ed25519_dalek::SigningKey;
use queue_exec::cert::{HostCert, Revocations, Vouch, fingerprint};
use queue_exec::ticket::{Gone, Grant, Ticket};
use queue_exec::token::{ID_LEN, SECRET_LEN, Token, base32};
use queue_exec::warrant::Warrant;

fn authority() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn host_key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn cert(vouch: Vouch) -> HostCert {
    HostCert {
        cluster: fingerprint(&authority().verifying_key().to_bytes()),
        serial: 3,
        name: "h1".into(),
        host_key: host_key().verifying_key().to_bytes(),
        tls_key: [2; 32],
        vouch,
        issued: 1_800_000_000,
        expires: 1_834_560_000,
    }
}

fn labelled<T, const N: usize>(all: [(&str, T); N]) -> Vec<(String, T)> {
    all.into_iter().map(|(l, v)| (l.to_owned(), v)).collect()
}

#[test]
fn certificates() {
    let public = authority().verifying_key().to_bytes();
    let examples = labelled([
        ("all users", cert(Vouch::Users)),
        (
            "some users",
            cert(Vouch::Only(vec!["alice".into(), "@wheel".into()])),
        ),
    ]);
    compare(
        "cert.hex",
        &examples,
        |c| c.sign(&authority()),
        |b| HostCert::verify(b, &public),
    );
    let cluster = fingerprint(&public);
    let examples = labelled([
        (
            "none",
            Revocations {
                version: 1,
                serials: vec![],
            },
        ),
        (
            "some",
            Revocations {
                version: u64::MAX,
                serials: vec![1, 1 << 40],
            },
        ),
    ]);
    compare(
        "revocations.hex",
        &examples,
        |r| r.sign(&cluster, &authority()),
        |b| Revocations::verify(b, &public),
    );
}

#[test]
fn tickets() {
    let source = cert(Vouch::Users);
    let target = HostCert {
        name: "h2".into(),
        ..cert(Vouch::Users)
    };
    let ticket = Ticket {
        cluster: source.cluster,
        source: "h1".into(),
        user: "alice".into(),
        login: "bob".into(),
        target: "h2".into(),
        nonce: [4; 16],
        issued: 1_800_000_000,
        request: [5; 32],
        client_key: [6; 32],
    };
    compare(
        "ticket.hex",
        &labelled([("ticket", ticket)]),
        |t| t.sign(&host_key()),
        |b| Ticket::verify(b, &source, &target, 1_800_000_000),
    );
    let grant = Grant {
        nonce: [4; 16],
        session_key: [8; 32],
    };
    compare(
        "grant.hex",
        &labelled([("grant", grant)]),
        |g| g.sign(&host_key()),
        |b| Grant::verify(b, &source.host_key),
    );
    let gone = Gone {
        session: [4; 16],
        challenge: [5; 16],
    };
    let word = |b: &[u8]| {
        if gone.is_signed(b, &source.host_key) {
            Ok(gone.clone())
        } else {
            Err("not signed")
        }
    };
    compare(
        "gone.hex",
        &labelled([("gone", gone.clone())]),
        |g| g.sign(&host_key()),
        word,
    );
}

#[test]
fn warrants() {
    let source = cert(Vouch::Users);
    let warrant = Warrant {
        cluster: source.cluster,
        source: "h1".into(),
        user: "alice".into(),
        login: "bob".into(),
        issued: 1_800_000_000,
        run: [9; 32],
    };
    compare(
        "warrant.hex",
        &labelled([("warrant", warrant)]),
        |w| w.sign(&host_key()),
        |b| Warrant::verify(b, &source, &source.cluster, 1_800_000_000),
    );
}

#[test]
fn tokens() {
    let token = |address: &str| Token {
        address: address.into(),
        authority: fingerprint(&authority().verifying_key().to_bytes()),
        id: base32(&[1; ID_LEN]),
        secret: base32(&[2; SECRET_LEN]),
    };
    compare(
        "token.hex",
        &labelled([
            ("with an address", token("10.0.0.1:7838")),
            ("found on the LAN", token("")),
        ]),
        |t| t.to_string().into_bytes(),
        |b| {
            std::str::from_utf8(b)
                .map_err(|e| e.to_string())?
                .parse::<Token>()
                .map_err(|e| format!("{e:?}"))
        },
    );
}
