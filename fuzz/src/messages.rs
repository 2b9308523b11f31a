//! What hosts and programs say to each other, as Protocol Buffers and the frames around them.

use libqueue::job as words;
use libqueue::wire::job;
use libqueue::{frame, seal, wire};
use prost::Message;
use queue_front::command::batch::{json, list, show};

/// A message that decodes is the same after a round trip (unknown fields may go).
fn round_trip<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    // NaN is not equal to itself, so what is shown is compared; and a zero is not sent, whatever its sign.
    let shown = |m: &M| format!("{m:?}").replace("-0.0", "0.0");
    if let Ok(m) = M::decode(bytes) {
        let again = M::decode(&m.encode_to_vec()[..]);
        assert_eq!(again.map(|a| shown(&a)), Ok(shown(&m)));
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
        round_trip::<wire::ResumeHello>(body);
        round_trip::<wire::AttachHello>(body);
    }
}

/// The request of a session, and what the two ends say.
pub fn launch(data: &[u8]) {
    round_trip::<wire::Launch>(data);
    round_trip::<wire::Attach>(data);
    round_trip::<wire::ToSession>(data);
    round_trip::<wire::FromSession>(data);
}

/// Batch jobs: what is submitted, what leader and hosts say, what people ask, and what is shown of the answers.
pub fn submit(data: &[u8]) {
    round_trip::<job::Submit>(data);
    round_trip::<job::Run>(data);
    round_trip::<job::Plan>(data);
    round_trip::<job::Submitted>(data);
    round_trip::<job::Up>(data);
    round_trip::<job::Down>(data);
    round_trip::<job::Params>(data);
    round_trip::<job::JobAsk>(data);
    round_trip::<job::Query>(data);
    round_trip::<job::JobReply>(data);
    if let Ok(m) = frame::read_up_to::<job::Up>(&mut &*data, job::FRAME_MAX) {
        let bytes = frame::encode(&m);
        assert_eq!(frame::read::<job::Up>(&mut &bytes[..]).ok(), Some(m));
    }
    if let Ok(o) = job::Outcome::decode(data) {
        assert!(!words::in_words(&o).is_empty());
        let _ = (words::exit_code(&o), json::outcome(&o));
    }
    match job::JobReply::decode(data).ok().and_then(|r| r.kind) {
        Some(job::job_reply::Kind::Page(page)) => {
            harmless(&list::table(&page).render(Some(80)));
            harmless(&list::more(&page, &job::List::default()).unwrap_or_default());
        }
        Some(job::job_reply::Kind::Details(all)) => {
            for d in &all.jobs {
                harmless(&show::text(d, true));
                assert!(show::value(d, true).is_object());
            }
        }
        _ => {}
    }
}

/// What is shown of an answer gives a terminal nothing to obey.
fn harmless(text: &str) {
    let bad = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(bad), "{text:?}");
}
