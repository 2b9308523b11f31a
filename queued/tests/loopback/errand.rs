//! Errands, by a client of our own that has a host's keys: who gets an answer, and that it is all that happens.

use crate::site::{LIMIT, Site, wait_for};
use libqueue::frame;
use libqueue::tls::{self, KeyPair, Peer, peer_key};
use libqueue::wire::{Empty, KIND_MEMBER, Load, Member, MemberHello, PROTOCOL, member, preamble};
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

/// Asks `to` something with the keys of `from`: the first thing that it says.
fn ask(from: &Site, to: &Site, question: member::Kind) -> Option<member::Kind> {
    let room = from.dir.join("state/queued");
    let key = KeyPair::from_pkcs8(&fs::read(room.join("tls.key")).expect("a key")).expect("a key");
    let mut tcp = TcpStream::connect(to.address()).expect("a connection");
    tcp.set_read_timeout(Some(LIMIT)).expect("a limit");
    tcp.write_all(&preamble(KIND_MEMBER, &[])).expect("a preamble");
    let config = tls::client_config(&key, Peer::Any).expect("TLS");
    let conn = rustls::ClientConnection::new(config, tls::server_name()).expect("TLS");
    let mut s = rustls::StreamOwned::new(conn, tcp);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let hello = MemberHello {
        cert: fs::read(room.join("host.cert")).expect("a certificate"),
        address: from.address(),
        boot: vec![9; 16],
        version: "test".into(),
        clock_ms: clock.as_millis() as u64,
        protocol: PROTOCOL,
        errand: true,
    };
    for kind in [member::Kind::Hello(hello), question] {
        s.write_all(&frame::encode(&Member { kind: Some(kind) }))
            .expect("a message");
    }
    let said = frame::read::<Member>(&mut s).expect("an answer").kind;
    assert!(peer_key(s.conn.peer_certificates()).is_some());
    assert!(frame::read::<Member>(&mut s).is_err(), "one answer, and the end");
    said
}

#[test]
fn one_question_one_answer_and_no_more() {
    let mut sites = Site::cluster(&["h1", "h2", "h3"]);
    let sessions = || member::Kind::SessionsAsk(Empty {});
    assert!(matches!(
        ask(&sites[1], &sites[0], sessions()),
        Some(member::Kind::Sessions(_))
    ));
    let failed = |kind| match kind {
        Some(member::Kind::Failed(text)) => text,
        other => panic!("{other:?}"),
    };
    // What is no question, and what only the authority's host can do.
    let text = failed(ask(&sites[1], &sites[0], member::Kind::Load(Load::default())));
    assert!(text.contains("not a question"), "{text}");
    let text = failed(ask(&sites[1], &sites[2], member::Kind::Renew(Empty {})));
    assert!(
        text.contains("h3 does not hold the cluster's authority"),
        "{text}"
    );
    // Too early: the answer is the certificate that it has.
    let own = fs::read(sites[1].dir.join("state/queued/host.cert")).expect("a certificate");
    let renewed = ask(&sites[1], &sites[0], member::Kind::Renew(Empty {}));
    assert_eq!(renewed, Some(member::Kind::Renewed(own)));
    // It is no sign of life, and a host with another boot id that runs errands is no clone.
    assert!(!sites[0].log().contains("cloned"), "{}", sites[0].log());
    for s in &sites {
        assert!(s.all_up(&["h1", "h2", "h3"]));
    }
    // Who is out gets no answer, whatever he asks.
    sites[1].stop(nix::sys::signal::Signal::SIGKILL);
    let out = sites[0]
        .command("queue", &["hosts", "remove", "h2"])
        .output()
        .expect("queue");
    assert!(out.status.success());
    for to in [&sites[0], &sites[2]] {
        wait_for(
            "h2 to be out",
            || matches!(ask(&sites[1], to, sessions()), Some(member::Kind::Bye(t)) if t.contains("was removed")),
        );
    }
}
