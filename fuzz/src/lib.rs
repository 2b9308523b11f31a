//! What the fuzz targets do with bytes. A target passes if it does not panic, and what was understood means the
//! same when it is written and read again.
//!
//! Also compiled into a test (`tests/corpus`), which plays the corpus, and damaged copies of it, on every toolchain.

use ed25519_dalek::SigningKey;
use libqueue::expr::Expr;
use libqueue::resources::{lacking, lookup};
use libqueue::stream::{Channel, Event, Role, Stream};
use libqueue::{frame, seal, size, wire};
use prost::Message;
use queue_exec::cert::{HostCert, Revocations, Vouch, fingerprint};
use queue_exec::protocol::{Control, FromSession, Reply, Request, ToSession};
use queue_exec::ticket::{Grant, Ticket};

/// One target.
pub type Target = fn(&[u8]);

/// All targets; each has a folder in `corpus` and a file in `fuzz_targets`.
pub const TARGETS: &[(&str, Target)] = &[
    ("cert", cert),
    ("expr", expr),
    ("frame", frame),
    ("gossip", gossip),
    ("launch", launch),
    ("monitor", monitor),
    ("preamble", preamble),
    ("size", size),
    ("stream", stream),
    ("ticket", ticket),
    ("token", token),
];

/// A message that decodes is the same after a round trip (unknown fields may go).
fn round_trip<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(m) = M::decode(bytes) {
        let again = M::decode(&m.encode_to_vec()[..]);
        // NaN is not equal to itself: compare what is shown.
        assert_eq!(again.map(|a| format!("{a:?}")), Ok(format!("{m:?}")));
    }
}

/// Frames of control connections, fed in two pieces.
pub fn frame(data: &[u8]) {
    let cut = data.first().map_or(0, |b| usize::from(*b) % data.len());
    let mut whole = data.to_vec();
    let mut pieces = data[..cut].to_vec();
    let mut first = Vec::new();
    while let Ok(Some(m)) = frame::take::<wire::Request>(&mut pieces) {
        first.push(m);
    }
    pieces.extend_from_slice(&data[cut..]);
    while let Ok(Some(m)) = frame::take::<wire::Request>(&mut pieces) {
        first.push(m);
    }
    let mut second = Vec::new();
    while let Ok(Some(m)) = frame::take::<wire::Request>(&mut whole) {
        second.push(m);
    }
    assert_eq!(first, second);
    round_trip::<wire::Request>(data);
    round_trip::<wire::Reply>(data);
    round_trip::<wire::Member>(data);
    round_trip::<wire::JoinOffer>(data);
    round_trip::<wire::JoinRequest>(data);
    round_trip::<wire::JoinReply>(data);
    round_trip::<wire::ControlAsk>(data);
    round_trip::<wire::ControlReply>(data);
}

/// Datagrams between members: as they come, sealed and opened, damaged, and what they say.
pub fn gossip(data: &[u8]) {
    let shared = seal::SharedKey::new(&[7; 32]);
    if let Some(head) = seal::Head::parse(data) {
        let sender = shared.sender(head.host, head.boot);
        assert!(
            sender.open(&head, &mut data.to_vec()).is_none(),
            "nobody guesses a seal"
        );
    }
    let payload = &data[..data.len().min(seal::PAYLOAD_MAX)];
    let head = seal::Head {
        key: shared.id(),
        host: data.len() as u64,
        boot: 1,
        counter: u64::from(data.first().copied().unwrap_or_default()),
    };
    let sender = shared.sender(head.host, head.boot);
    let mut sealed = Vec::new();
    assert!(sender.seal(&head, payload, &mut sealed));
    assert_eq!(seal::Head::parse(&sealed), Some(head));
    let mut damaged = sealed.clone();
    let at = data.iter().map(|b| usize::from(*b)).sum::<usize>() % damaged.len();
    damaged[at] ^= 0x10;
    let opened = seal::Head::parse(&damaged).and_then(|h| {
        let sender = shared.sender(h.host, h.boot);
        // The receiver looks the key up by its name.
        sender
            .open(&h, &mut damaged)
            .filter(|_| h.key == shared.id())
            .map(<[u8]>::len)
    });
    assert_eq!(opened, None);
    assert_eq!(sender.open(&head, &mut sealed), Some(payload));
    round_trip::<wire::Gossip>(data);
}

/// Expressions, looked up on a host that has a little.
pub fn expr(data: &[u8]) {
    let Ok(e) = std::str::from_utf8(data).unwrap_or_default().parse::<Expr>() else {
        return;
    };
    assert_eq!(e.to_string().parse::<Expr>().as_ref(), Ok(&e));
    let facts = wire::Facts {
        cores: 8,
        mem: 24 << 30,
        arch: "x86_64".into(),
        kernel: "6.12.4".into(),
        resources: [("raid".to_owned(), "100G".to_owned())].into(),
        ..wire::Facts::default()
    };
    let load = wire::Load::default();
    let look = |name: &str| lookup(name, "h1", &facts, Some(&load));
    assert_eq!(e.holds(&look), e.missing(&look).is_none());
    let need = wire::Need {
        expr: e.to_string(),
        ..wire::Need::default()
    };
    // What an empty host can never do, no host does now.
    if lacking(&need, "h1", &facts, None).is_some() {
        assert!(!e.holds(&look), "{e}");
    }
}

/// Sizes, and what is shown of them.
pub fn size(data: &[u8]) {
    let text = std::str::from_utf8(data).unwrap_or_default();
    match size::parse(text) {
        // Shown with two digits at least: at most a tenth away.
        Ok(bytes) => {
            // The largest are rounded up to one more than there are.
            let again = size::parse(&size::show(bytes)).unwrap_or(u64::MAX) as f64;
            let bytes = bytes as f64;
            assert!((again - bytes).abs() <= bytes * 0.1, "{text}: {bytes} {again}");
        }
        Err(e) => assert!(!e.contains('\n'), "{e}"),
    }
}

/// First bytes of a connection.
pub fn preamble(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<{ wire::PREAMBLE_LEN }>() else {
        return;
    };
    if let Some((kind, len)) = wire::parse_preamble(head) {
        let body = &rest[..len.min(rest.len())];
        let again = wire::preamble(kind, body);
        if body.len() == len {
            assert_eq!(again, data[..wire::PREAMBLE_LEN + len]);
        }
        round_trip::<wire::SessionHello>(body);
        round_trip::<wire::SessionAnswer>(body);
    }
}

/// A session's stream means the same however the transport cuts it.
pub fn stream(data: &[u8]) {
    let play = |role: Role, step: usize| {
        let mut s = Stream::new(role);
        let mut seen: Vec<(u8, Vec<u8>)> = Vec::new();
        for piece in data.chunks(step.max(1)) {
            let mut used = Vec::new();
            let more = s.receive(piece, |e| {
                let (kind, bytes) = match e {
                    Event::Data(c, d) => {
                        used.push((c, d.len()));
                        (c as u8, d.to_vec())
                    }
                    Event::Eof(c) => (0x10 | c as u8, Vec::new()),
                    Event::Closed(c) => (0x20 | c as u8, Vec::new()),
                    Event::Control(m) => (0x40, m.to_vec()),
                };
                match seen.last_mut() {
                    // Data comes piece by piece.
                    Some((k, b)) if *k == kind && kind < 0x10 => b.extend_from_slice(&bytes),
                    _ => seen.push((kind, bytes)),
                }
            });
            if let Err(e) = more {
                return (seen, Some(e));
            }
            for (c, n) in used {
                let _ = s.consumed(c, n);
            }
        }
        for c in Channel::ALL {
            let _ = (s.credit(c), s.is_closed(c), s.is_ended(c), s.eof(c), s.close(c));
        }
        (seen, None)
    };
    for role in [Role::Front, Role::Session] {
        let whole = play(role, data.len());
        for step in [1, 3, 7] {
            let cut = play(role, step);
            // Credit is given between pieces, so only a stream without errors has to be the same.
            if whole.1.is_none() && cut.1.is_none() {
                assert_eq!(whole.0, cut.0);
            }
        }
    }
}

/// The request of a session, and what the two ends say.
pub fn launch(data: &[u8]) {
    round_trip::<wire::Launch>(data);
    round_trip::<wire::ToSession>(data);
    round_trip::<wire::FromSession>(data);
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
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
    let host = |name: &str, cluster| HostCert {
        cluster,
        serial: 1,
        name: name.to_owned(),
        host_key: source_key.verifying_key().to_bytes(),
        tls_key: [0; 32],
        vouch: Vouch::Users,
        issued: 0,
        expires: 4_000_000_000,
    };
    let _ = Grant::verify(data, &source_key.verifying_key().to_bytes());
    if let Ok((t, signed, _)) = Ticket::parse(data) {
        let (source, here) = (host(&t.source, t.cluster), host(&t.target, t.cluster));
        let bytes = t.sign(&source_key);
        assert_eq!(&bytes[..bytes.len() - 64], signed);
        match Ticket::verify(&bytes, &source, &here, 1_800_000_000) {
            Ok(again) => assert_eq!(again, t),
            Err(e) => drop(e.to_string()),
        }
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

/// Join tokens, `exec.conf`, `queued.toml`.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(t) = text.parse::<queue_exec::token::Token>() {
        assert_eq!(t.to_string().parse(), Ok(t));
    }
    let file = std::path::Path::new("file");
    if let Err(e) = queue_exec::policy::Policy::parse(text, file) {
        assert!(e.line > 0 && e.line <= text.lines().count(), "{e}");
    }
    if let Err(e) = libqueue::config::Config::parse(text, file) {
        drop(e.to_string());
    }
}
