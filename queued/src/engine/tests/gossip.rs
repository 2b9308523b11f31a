//! What datagrams do to an engine, and what it says by them.

use super::*;
use crate::engine::report::AT_LEAST;
use libqueue::wire::gossip;

const MS: Duration = Duration::from_millis(1);

fn datagram(e: &mut Engine, now: Duration, from: &Host, message: gossip::Kind) -> Vec<Effect> {
    let input = Input::Datagram {
        from: from.number(),
        address: "10.66.6.6:7838".into(),
        message,
    };
    handle(e, now, input)
}

/// h2, with h1 and h3 linked.
fn linked() -> Engine {
    let mut e = engine(&[entry("h1", 1), entry("h3", 3)]);
    for n in [1, 3] {
        let name = format!("h{n}");
        let address = format!("10.0.0.{n}:7838");
        arrive(&mut e, S, n, host(&name, n), hello(&address, n as u8), "10.0.0.1");
    }
    e
}

fn reports(out: &[Effect]) -> Vec<(String, Load)> {
    out.iter()
        .filter_map(|e| match e {
            Effect::Datagram {
                address,
                message: gossip::Kind::Report(l),
            } => Some((address.clone(), *l)),
            _ => None,
        })
        .collect()
}

#[test]
fn nobody_enters_by_gossip_but_his_certificate_is_asked_for() {
    let mut e = linked();
    let stranger = host("h9", 9);
    let wanted = |out: &[Effect]| {
        let is = |e: &&Effect| matches!(e, Effect::Send { message: member::Kind::Roster(r), .. } if r.wanted);
        out.iter().filter(is).count()
    };
    let out = datagram(&mut e, S, &stranger, gossip::Kind::Report(load(0.0)));
    assert_eq!(wanted(&out), 1);
    assert!(!e.peers.contains_key("h9"));
    // Not for each datagram.
    let out = datagram(&mut e, S + 10 * MS, &stranger, gossip::Kind::Report(load(0.0)));
    assert_eq!(wanted(&out), 0);
    // Who is asked answers with all.
    let asked = Input::Heard {
        conn: 1,
        message: Message::RosterWanted,
    };
    let out = handle(&mut e, S, asked);
    assert!(matches!(
        &out[0],
        Effect::Send { conn: 1, message: member::Kind::Roster(r) } if r.members.len() == 2
    ));
    // With the certificate it counts.
    handle(&mut e, S, Input::Joined(entry("h9", 9)));
    datagram(&mut e, S, &stranger, gossip::Kind::Report(load(0.7)));
    assert_eq!(e.peers["h9"].load.map(|(_, l)| l.load1), Some(0.7));
    // A removed one stays out, and is not asked for.
    let list = Revoked {
        version: 1,
        serials: vec![9],
        bytes: vec![1],
    };
    handle(&mut e, S, Input::Revoke(list));
    let out = datagram(&mut e, 9 * S, &stranger, gossip::Kind::Report(load(0.0)));
    assert_eq!(wanted(&out), 0);
    assert!(!e.peers.contains_key("h9"));
}

#[test]
fn reports_are_taken_in_order_and_facts_are_asked_for_once() {
    let mut e = linked();
    let h1 = host("h1", 1);
    let report = |load1, seq, facts| {
        gossip::Kind::Report(Load {
            seq,
            facts,
            ..load(load1)
        })
    };
    let asks = |out: &[Effect]| {
        let is = |e: &&Effect| {
            matches!(e, Effect::Datagram { address, message: gossip::Kind::FactsAsk(_) }
                if address == "10.0.0.1:7838")
        };
        out.iter().filter(is).count()
    };
    let known = |e: &Engine| e.peers["h1"].load.map(|(_, l)| l.load1);
    assert_eq!(asks(&datagram(&mut e, S, &h1, report(1.0, 7, 0))), 0);
    datagram(&mut e, S, &h1, report(2.0, 6, 0));
    assert_eq!(known(&e), Some(1.0), "one that came late");
    assert_eq!(asks(&datagram(&mut e, S, &h1, report(3.0, 8, 5))), 1);
    assert_eq!(asks(&datagram(&mut e, S, &h1, report(3.0, 9, 5))), 0);
    let facts = wire::Facts {
        version: 5,
        cores: 8,
        power: f64::NAN,
        ..wire::Facts::default()
    };
    datagram(&mut e, S, &h1, gossip::Kind::Facts(facts));
    let f = e.peers["h1"].facts.clone().unwrap();
    assert!(f.cores == 8 && f.power == 1.0);
    assert_eq!(asks(&datagram(&mut e, 9 * S, &h1, report(3.0, 10, 5))), 0);
    assert_eq!(asks(&datagram(&mut e, 9 * S, &h1, report(3.0, 11, 6))), 1);
    // Somebody who forged a very late one mutes nobody for long.
    datagram(&mut e, 10 * S, &h1, report(0.0, u64::MAX, 0));
    datagram(&mut e, 11 * S, &h1, report(4.0, 12, 0));
    assert_eq!(known(&e), Some(0.0));
    datagram(&mut e, 23 * S, &h1, report(4.0, 13, 0));
    assert_eq!(known(&e), Some(4.0));
    // Our own facts are told to the address that we know.
    assert!(
        datagram(&mut e, 24 * S, &h1, gossip::Kind::FactsAsk(wire::Empty {}))
            .iter()
            .all(|e| !matches!(
                e,
                Effect::Datagram {
                    message: gossip::Kind::Facts(_),
                    ..
                }
            ))
    );
    let own = wire::Facts {
        version: 77,
        ..wire::Facts::default()
    };
    handle(&mut e, 24 * S, Input::OwnFacts(own));
    let out = datagram(&mut e, 24 * S, &h1, gossip::Kind::FactsAsk(wire::Empty {}));
    assert!(out.iter().any(|e| matches!(
        e,
        Effect::Datagram { address, message: gossip::Kind::Facts(f) } if address == "10.0.0.1:7838" && f.version == 77
    )));
}

#[test]
fn everybody_is_told_of_changes_soon_and_now_and_then_anyhow() {
    let mut e = linked();
    handle(&mut e, S, Input::Monitor(true));
    let first = reports(&handle(&mut e, S + 10 * MS, Input::OwnLoad(load(0.0))));
    let mut to: Vec<&str> = first.iter().map(|(a, _)| a.as_str()).collect();
    to.sort_unstable();
    to.dedup();
    assert_eq!(to, ["10.0.0.1:7838", "10.0.0.3:7838"]);
    // Nothing new: nothing, until it is time.
    assert!(reports(&handle(&mut e, S + 300 * MS, Input::OwnLoad(load(0.0)))).is_empty());
    let mut said = Vec::new();
    let mut now = S + 300 * MS;
    while said.is_empty() {
        now += 100 * MS;
        said = reports(&handle(&mut e, now, Input::Tick));
    }
    assert!(now >= S + AT_LEAST && now <= S + AT_LEAST + 200 * MS, "{now:?}");
    assert!(said[0].1.seq > first[0].1.seq);
    // A drained host says so at once.
    let drain = Input::Drain(Some(crate::engine::types::Drain::default()));
    let said = reports(&handle(&mut e, now + MS, drain));
    assert!(said.len() == 2 && said.iter().all(|(_, l)| l.draining));
}

#[test]
fn revocations_go_out_before_keys_and_newer_keys_to_everybody() {
    let mut e = linked();
    let keys = |version| wire::Keys {
        version,
        key: vec![version as u8; 32],
        signature: vec![],
    };
    let told = |out: &[Effect]| {
        let of = |e: &Effect| match e {
            Effect::Send {
                conn,
                message: member::Kind::Keys(k),
            } => Some((*conn, k.version)),
            _ => None,
        };
        out.iter().filter_map(of).collect::<Vec<_>>()
    };
    let out = handle(&mut e, S, Input::Keys(keys(2)));
    assert_eq!(told(&out), [(1, 2), (3, 2)]);
    assert!(out.contains(&Effect::Keys(keys(2))));
    // Older ones are nothing new.
    assert!(handle(&mut e, S, Input::Keys(keys(1))).is_empty());
    let list = Revoked {
        version: 1,
        serials: vec![3],
        bytes: vec![1],
    };
    let heard = Input::Heard {
        conn: 1,
        message: Message::Revocations(list),
    };
    handle(&mut e, S, heard);
    let heard = Input::Heard {
        conn: 1,
        message: Message::Keys(keys(3)),
    };
    assert_eq!(
        told(&handle(&mut e, S, heard)),
        [(1, 3)],
        "not to whom was removed"
    );
    let out = arrive(&mut e, S, 9, host("h3", 3), hello("10.0.0.3:7838", 3), "10.0.0.3");
    assert!(told(&out).is_empty() && bye(&out, 9).is_some());
    // Whoever connects gets both, in this order.
    let out = arrive(
        &mut e,
        S,
        10,
        host("h4", 4),
        hello("10.0.0.4:7838", 4),
        "10.0.0.4",
    );
    let kinds: Vec<u8> = out
        .iter()
        .filter_map(|e| match e {
            Effect::Send { conn: 10, message } => Some(match message {
                member::Kind::Roster(_) => 1,
                member::Kind::Revocations(_) => 2,
                member::Kind::Keys(_) => 3,
                _ => 4,
            }),
            _ => None,
        })
        .collect();
    assert_eq!(kinds[..3], [1, 2, 3]);
}

#[test]
fn a_large_roster_goes_out_in_parts() {
    let members: Vec<Entry> = (10..1400)
        .map(|i| Entry {
            host: Host {
                name: format!("m{i:04}"),
                serial: i,
                tls_key: std::array::from_fn(|k| (i >> (8 * (k % 2))) as u8),
                cert: vec![0; 300],
            },
            address: "10.1.1.1:7838".into(),
            authority: false,
        })
        .collect();
    let mut e = engine(&members);
    let out = arrive(&mut e, S, 1, host("h1", 1), hello("10.0.0.1:7838", 1), "10.0.0.1");
    let sizes: Vec<usize> = out
        .iter()
        .filter_map(|e| match e {
            Effect::Send {
                conn: 1,
                message: message @ member::Kind::Roster(r),
            } => {
                let whole = wire::Member {
                    kind: Some(message.clone()),
                };
                assert!(prost::Message::encoded_len(&whole) < libqueue::frame::MAX / 2);
                Some(r.members.len())
            }
            _ => None,
        })
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), members.len() + 1);
    assert!(sizes.len() > 1);
    // And each host is dialled by few.
    assert!(e.wanted.len() <= 2 * 11, "{}", e.wanted.len());
}
