//! The engine's rules one by one; whole histories are `sim.rs`'s.

mod gossip;

use super::links::SILENCE;
use super::types::{Effect, Effects, Entry, Hello, Host, Input, Message, Revoked};
use super::{Engine, Setup, wire};
use std::time::Duration;
use wire::{ErrorCode, HostState, Load, Place, member, reply};

const S: Duration = Duration::from_secs(1);

fn host(name: &str, serial: u64) -> Host {
    Host {
        name: name.into(),
        serial,
        tls_key: [serial as u8; 32],
        cert: vec![serial as u8],
    }
}

fn entry(name: &str, serial: u64) -> Entry {
    Entry {
        host: host(name, serial),
        address: format!("10.0.0.{serial}:7838"),
        authority: false,
    }
}

fn hello(address: &str, boot: u8) -> Hello {
    Hello {
        address: address.into(),
        boot: vec![boot],
        version: "1".into(),
        skew: 0,
    }
}

/// h2 of a cluster with the members given.
fn engine(members: &[Entry]) -> Engine {
    Engine::new(
        Duration::ZERO,
        Setup {
            own: host("h2", 2),
            cluster: "c".into(),
            authority: false,
            boot: vec![2],
            epoch: 1_000_000,
            dial_self: "127.0.0.1:7838".into(),
            advertised: "10.0.0.2:7838".into(),
            version: "1".into(),
            members: members.to_vec(),
            revoked: Revoked::default(),
            drain: None,
            seed: 1,
        },
    )
}

fn handle(e: &mut Engine, now: Duration, input: Input) -> Vec<Effect> {
    let mut out = Effects::default();
    e.handle(now, input, &mut out);
    out.0
}

fn arrive(e: &mut Engine, now: Duration, conn: u64, who: Host, hello: Hello, from: &str) -> Vec<Effect> {
    handle(
        e,
        now,
        Input::Arrived {
            conn,
            host: who,
            hello,
            from: from.into(),
        },
    )
}

fn load(load1: f64) -> Load {
    Load {
        load1,
        cores: 2,
        ..Load::default()
    }
}

fn bye(effects: &[Effect], conn: u64) -> Option<String> {
    effects.iter().find_map(|e| match e {
        Effect::Close { conn: c, bye } if *c == conn => Some(bye.clone().unwrap_or_default()),
        _ => None,
    })
}

fn welcomed(effects: &[Effect], conn: u64) -> bool {
    effects.contains(&Effect::Welcome { conn })
}

fn place(e: &mut Engine, now: Duration, place: Place) -> Result<String, (ErrorCode, String)> {
    let out = handle(e, now, Input::Place { ask: 1, place });
    match out.into_iter().find_map(|e| {
        if let Effect::Answer { reply, .. } = e {
            Some(reply)
        } else {
            None
        }
    }) {
        Some(reply::Kind::Placed(p)) => Ok(p.host),
        Some(reply::Kind::Error(e)) => Err((e.code(), e.text)),
        other => panic!("{other:?}"),
    }
}

fn state(e: &Engine, name: &str) -> (HostState, String) {
    let h = e
        .hosts(Duration::ZERO)
        .hosts
        .into_iter()
        .find(|h| h.name == name)
        .unwrap();
    (h.state(), h.reason)
}

#[test]
fn a_member_that_arrives_is_told_everything_and_told_of() {
    let mut e = engine(&[entry("h1", 1)]);
    handle(&mut e, S, Input::OwnLoad(load(0.5)));
    arrive(
        &mut e,
        S,
        10,
        host("h1", 1),
        hello("10.0.0.1:7838", 1),
        "10.0.0.1",
    );
    let out = arrive(
        &mut e,
        S,
        11,
        host("h3", 3),
        hello("10.0.0.3:7838", 3),
        "10.0.0.3",
    );
    assert!(welcomed(&out, 11));
    let said: Vec<_> = out
        .iter()
        .filter_map(|e| {
            if let Effect::Send { conn: 11, message } = e {
                Some(message.clone())
            } else {
                None
            }
        })
        .collect();
    assert!(matches!(&said[0], member::Kind::Roster(r) if r.members.len() == 2));
    // Until a datagram came from it.
    assert!(matches!(&said[1], member::Kind::Load(l) if l.load1 == 0.5));
    assert!(
        out.iter()
            .any(|e| matches!(e, Effect::Keep(k) if k.host.name == "h3"))
    );
    assert!(out.iter().any(
        |e| matches!(e, Effect::Send { conn: 10, message: member::Kind::Roster(r) }
        if r.members[0].address == "10.0.0.3:7838")
    ));
    assert_eq!(state(&e, "h3").0, HostState::Up);
}

#[test]
fn of_two_connections_the_one_that_the_lesser_name_dialled_is_kept() {
    for (other, ours_stays) in [("h1", false), ("h3", true)] {
        let mut e = engine(&[entry(other, 9)]);
        let h = || hello("10.0.0.9:7838", 9);
        let reached = Input::Reached {
            conn: 1,
            host: host(other, 9),
            hello: h(),
            from: "10.0.0.9".into(),
        };
        handle(&mut e, S, reached);
        let out = arrive(&mut e, S, 2, host(other, 9), h(), "10.0.0.9");
        assert_eq!(bye(&out, 2).is_some(), ours_stays, "{other}");
        assert_eq!(bye(&out, 1).is_some(), !ours_stays, "{other}");
        // From the same side the newer one is right.
        let mut e = engine(&[entry(other, 9)]);
        arrive(&mut e, S, 1, host(other, 9), h(), "10.0.0.9");
        let out = arrive(&mut e, S, 2, host(other, 9), h(), "10.0.0.9");
        assert!(welcomed(&out, 2) && bye(&out, 1).is_some());
    }
}

#[test]
fn a_clone_is_refused_while_the_first_lives_and_both_addresses_are_named() {
    let mut e = engine(&[entry("h1", 1)]);
    arrive(&mut e, S, 1, host("h1", 1), hello("10.0.0.1:7838", 1), "10.0.0.1");
    let out = arrive(
        &mut e,
        2 * S,
        2,
        host("h1", 1),
        hello("10.0.0.7:7838", 7),
        "10.0.0.7",
    );
    let text = bye(&out, 2).unwrap();
    assert!(
        text.contains("10.0.0.1:7838") && text.contains("10.0.0.7:7838") && text.contains("cloned"),
        "{text}"
    );
    assert!(!welcomed(&out, 2));
    // A clone of this host itself.
    let out = arrive(
        &mut e,
        2 * S,
        3,
        host("h2", 2),
        hello("10.0.0.7:7838", 7),
        "10.0.0.7",
    );
    assert!(bye(&out, 3).unwrap().contains("cloned"));
    // A restart at the same place is none, and neither is one elsewhere after the first fell silent.
    let out = arrive(
        &mut e,
        2 * S,
        4,
        host("h1", 1),
        hello("10.0.0.1:7838", 8),
        "10.0.0.1",
    );
    assert!(welcomed(&out, 4) && bye(&out, 1).is_some());
    // (Ticks come when they are due; else the engine takes itself for frozen.)
    for half in 4..12 {
        handle(&mut e, half * S / 2, Input::Tick);
    }
    let out = arrive(
        &mut e,
        6 * S,
        5,
        host("h1", 1),
        hello("10.0.0.7:7838", 9),
        "10.0.0.7",
    );
    assert!(welcomed(&out, 5));
}

#[test]
fn a_new_address_is_followed_and_the_old_one_tried_again_if_it_fails() {
    let mut e = engine(&[entry("h1", 1), entry("h3", 3)]);
    arrive(&mut e, S, 1, host("h3", 3), hello("10.0.0.3:7838", 3), "10.0.0.3");
    let out = arrive(&mut e, S, 2, host("h1", 1), hello("10.9.9.9:7838", 1), "10.9.9.9");
    assert!(
        out.iter()
            .any(|e| matches!(e, Effect::Keep(k) if k.address == "10.9.9.9:7838"))
    );
    assert!(out.iter().any(|e| matches!(
        e,
        Effect::Send {
            conn: 1,
            message: member::Kind::Roster(_)
        }
    )));
    // The dial of the start ends; being connected, we leave it at that.
    handle(
        &mut e,
        S,
        Input::DialFailed {
            name: "h1".into(),
            text: "no".into(),
            refused: false,
        },
    );
    assert_eq!(state(&e, "h1").0, HostState::Up);
    handle(
        &mut e,
        S,
        Input::Lost {
            conn: 2,
            text: "gone".into(),
        },
    );
    let mut dialled = Vec::new();
    for now in 2..40 {
        for d in handle(&mut e, now * S, Input::Tick) {
            if let Effect::Dial { name, address, .. } = d {
                if name == "h1" {
                    dialled.push(address);
                }
                handle(
                    &mut e,
                    now * S,
                    Input::DialFailed {
                        name,
                        text: "no".into(),
                        refused: false,
                    },
                );
            }
        }
    }
    assert_eq!(dialled[..3], ["10.9.9.9:7838", "10.0.0.1:7838", "10.9.9.9:7838"]);
    assert_eq!(state(&e, "h1").0, HostState::Down);
}

#[test]
fn silence_is_death_and_a_broken_connection_is_not_until_the_dial_fails() {
    let mut e = engine(&[entry("h1", 1), entry("h3", 3)]);
    arrive(&mut e, S, 1, host("h1", 1), hello("10.0.0.1:7838", 1), "10.0.0.1");
    arrive(&mut e, S, 3, host("h3", 3), hello("10.0.0.3:7838", 3), "10.0.0.3");
    let mut out = Vec::new();
    for half in 3..=2 * (S + SILENCE).as_secs() as u32 + 2 {
        if half == 10 {
            handle(
                &mut e,
                5 * S,
                Input::Heard {
                    conn: 3,
                    message: Message::Load(load(0.0)),
                },
            );
        }
        out.extend(handle(&mut e, half * S / 2, Input::Tick));
    }
    assert!(bye(&out, 1).is_some() && bye(&out, 3).is_none());
    let kept_alive = |e: &Effect| matches!(e, Effect::Send { conn: 3, .. });
    assert!(out.iter().filter(|e| kept_alive(e)).count() >= 2);
    assert_eq!(state(&e, "h1").0, HostState::Down);
    handle(
        &mut e,
        8 * S,
        Input::Lost {
            conn: 3,
            text: "reset".into(),
        },
    );
    assert_eq!(state(&e, "h3").0, HostState::Up);
    handle(
        &mut e,
        9 * S,
        Input::DialFailed {
            name: "h3".into(),
            text: "refused".into(),
            refused: false,
        },
    );
    assert_eq!(state(&e, "h3"), (HostState::Down, "refused".into()));
}

#[test]
fn a_removed_host_is_out_and_learns_it() {
    let mut e = engine(&[entry("h1", 1), entry("h3", 3)]);
    arrive(&mut e, S, 1, host("h1", 1), hello("10.0.0.1:7838", 1), "10.0.0.1");
    arrive(&mut e, S, 3, host("h3", 3), hello("10.0.0.3:7838", 3), "10.0.0.3");
    let list = Revoked {
        version: 1,
        serials: vec![3],
        bytes: vec![1],
    };
    let out = handle(
        &mut e,
        S,
        Input::Heard {
            conn: 1,
            message: Message::Revocations(list.clone()),
        },
    );
    assert!(out.contains(&Effect::Revoked(vec![1])) && out.contains(&Effect::Forget("h3".into())));
    let sent = Effect::Send {
        conn: 3,
        message: member::Kind::Revocations(vec![1]),
    };
    assert!(out.contains(&sent) && bye(&out, 3).unwrap().contains("removed"));
    assert!(handle(&mut e, S, Input::Revoke(list)).is_empty());
    // It comes back with what it has, and is told of by somebody who does not know yet.
    let out = arrive(&mut e, S, 4, host("h3", 3), hello("10.0.0.3:7838", 4), "10.0.0.3");
    assert!(bye(&out, 4).unwrap().contains("removed"));
    assert!(
        matches!(
            &out[1],
            Effect::Send {
                conn: 4,
                message: member::Kind::Revocations(_)
            }
        ),
        "{out:?}"
    );
    handle(
        &mut e,
        S,
        Input::Heard {
            conn: 1,
            message: Message::Roster(vec![entry("h3", 3)]),
        },
    );
    assert!(!e.peers.contains_key("h3"));
    // With a new certificate it is welcome.
    let out = arrive(&mut e, S, 5, host("h3", 4), hello("10.0.0.3:7838", 5), "10.0.0.3");
    assert!(welcomed(&out, 5));
    // Now it is our turn.
    let list = Revoked {
        version: 2,
        serials: vec![2, 3],
        bytes: vec![2],
    };
    let out = handle(
        &mut e,
        S,
        Input::Heard {
            conn: 1,
            message: Message::Revocations(list),
        },
    );
    assert!(bye(&out, 1).is_some() && bye(&out, 5).is_some());
    assert_eq!(
        place(&mut e, S, Place::default()).unwrap_err().0,
        ErrorCode::Denied
    );
    assert_eq!(e.wake(), None);
}

#[test]
fn who_joined_again_replaces_the_older_one() {
    let mut e = engine(&[entry("h1", 1), entry("h3", 3)]);
    arrive(&mut e, S, 3, host("h3", 3), hello("10.0.0.3:7838", 3), "10.0.0.3");
    let out = handle(&mut e, S, Input::Joined(entry("h3", 8)));
    assert!(bye(&out, 3).is_some());
    let out = arrive(&mut e, S, 4, host("h3", 3), hello("10.0.0.3:7838", 3), "10.0.0.3");
    assert!(bye(&out, 4).unwrap().contains("newer keys"));
    let out = arrive(&mut e, S, 5, host("h3", 8), hello("10.0.0.8:7838", 9), "10.0.0.8");
    assert!(welcomed(&out, 5));
}

#[test]
fn a_renewed_certificate_changes_nothing_else() {
    let renewed = |mut h: Host, serial| {
        h.serial = serial;
        h.cert = vec![serial as u8];
        h
    };
    let mut e = engine(&[entry("h1", 1), entry("h3", 3)]);
    arrive(&mut e, S, 1, host("h1", 1), hello("10.0.0.1:7838", 1), "10.0.0.1");
    arrive(&mut e, S, 3, host("h3", 3), hello("10.0.0.3:7838", 3), "10.0.0.3");
    let roster = |out: &[Effect], to: u64| {
        out.iter().find_map(|f| match f {
            Effect::Send {
                conn,
                message: member::Kind::Roster(r),
            } if *conn == to => Some(r.members[0].clone()),
            _ => None,
        })
    };
    // Somebody else's: passed on and kept with the address that is known, and its connection stays.
    let news = Entry {
        host: renewed(host("h3", 3), 9),
        address: String::new(),
        authority: false,
    };
    let message = Message::Roster(vec![news.clone()]);
    let out = handle(&mut e, S * 2, Input::Heard { conn: 1, message });
    assert_eq!(bye(&out, 3), None);
    assert_eq!(state(&e, "h3").0, HostState::Up);
    let kept = Entry {
        address: "10.0.0.3:7838".into(),
        ..news
    };
    assert!(out.contains(&Effect::Keep(kept)));
    assert_eq!(roster(&out, 1), None, "he said it");
    // It says hello with the old one still: that is no copy, and the newer one counts.
    let out = arrive(
        &mut e,
        S * 2,
        4,
        host("h3", 3),
        hello("10.0.0.3:7838", 3),
        "10.0.0.3",
    );
    assert!(welcomed(&out, 4) && e.roster("h1").iter().any(|m| m.host.serial == 9));
    // Our own: told to everybody, and not taken for somebody else's when it comes back.
    let own = renewed(host("h2", 2), 10);
    let out = handle(&mut e, S * 3, Input::Renewed(own.clone()));
    for conn in [1, 4] {
        assert_eq!(roster(&out, conn).map(|m| m.cert), Some(own.cert.clone()));
    }
    let message = Message::Roster(vec![Entry {
        host: renewed(host("h2", 2), 11),
        address: String::new(),
        authority: false,
    }]);
    let out = handle(&mut e, S * 3, Input::Heard { conn: 1, message });
    assert!(!out.iter().any(|f| matches!(f, Effect::Log(..))), "{out:?}");
    // What is older, or for other keys, is not ours.
    for other in [host("h2", 12), renewed(host("h2", 2), 5)] {
        assert!(handle(&mut e, S * 3, Input::Renewed(other)).is_empty());
    }
    assert_eq!(e.roster("")[0].host, own);
}

#[test]
fn a_stop_says_goodbye_to_everybody() {
    let mut e = engine(&[entry("h1", 1)]);
    arrive(&mut e, S, 1, host("h1", 1), hello("10.0.0.1:7838", 1), "10.0.0.1");
    let out = handle(&mut e, S, Input::Stop);
    assert!(bye(&out, 1).unwrap().contains("stopped"));
    assert!(handle(&mut e, 99 * S, Input::Tick).is_empty() && e.wake().is_none());
}

#[test]
fn nobody_becomes_the_leader_by_saying_so() {
    let leader = Entry {
        authority: true,
        ..entry("h1", 1)
    };
    let mut e = engine(&[leader, entry("h3", 3)]);
    let leads = |e: &Engine| -> Vec<String> {
        let all = e.roster("").into_iter().filter(|e| e.authority);
        all.map(|e| e.host.name).collect()
    };
    assert_eq!(leads(&e), ["h1"]);
    // h3 claims it, for itself and for somebody new who would come first.
    arrive(&mut e, S, 7, host("h3", 3), hello("10.0.0.3:7838", 3), "10.0.0.3");
    for (name, serial) in [("h3", 3), ("a0", 9)] {
        let claim = Entry {
            authority: true,
            ..entry(name, serial)
        };
        let message = Message::Roster(vec![claim]);
        handle(&mut e, S, Input::Heard { conn: 7, message });
        assert_eq!(leads(&e), ["h1"], "{name}");
    }
}
