//! Where a command runs: rules one by one. What comes of them is `herd`'s.

use super::super::candidates::STALE;
use super::super::types::{Drain, Effect, Effects, Entry, Host, Input, Revoked};
use super::super::{Engine, Setup, wire};
use super::WORD_MAX;

use std::collections::BTreeMap;
use std::time::Duration;
use wire::{ErrorCode, Facts, HostState, Load, Need, Place, Word, gossip, reply};

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const GIB: u64 = 1 << 30;

fn host(i: u8) -> Host {
    Host {
        name: format!("h{i}"),
        serial: i.into(),
        tls_key: [i; 32],
        cert: vec![i],
    }
}

fn load(running: f64) -> Load {
    Load {
        running,
        load1: running,
        cores: 4,
        mem_total: 8 * GIB,
        mem_available: 8 * GIB,
        disk_free: GIB,
        ..Load::default()
    }
}

fn facts() -> Facts {
    Facts {
        version: 1,
        cores: 4,
        mem: 8 * GIB,
        disk: GIB,
        power: 1.0,
        arch: "x86_64".into(),
        ..Facts::default()
    }
}

/// h2, beside hosts that run so much each.
fn engine(others: &[(u8, f64)]) -> Engine {
    let entry = |i| Entry {
        host: host(i),
        address: format!("10.0.0.{i}:7838"),
        authority: false,
    };
    let mut e = Engine::new(
        Duration::ZERO,
        Setup {
            own: host(2),
            cluster: "c".into(),
            authority: false,
            boot: vec![2],
            epoch: 1,
            dial_self: "127.0.0.1:7838".into(),
            advertised: "10.0.0.2:7838".into(),
            version: "1".into(),
            members: others.iter().map(|(i, _)| entry(*i)).collect(),
            revoked: Revoked::default(),
            drain: None,
            seed: 1,
        },
    );
    for (i, running) in others {
        let p = e.peers.get_mut(&host(*i).name).unwrap();
        p.state = HostState::Up;
        p.load = Some((S, load(*running)));
        p.facts = Some(facts());
    }
    (e.monitor, e.facts, e.load) = (true, facts(), Some((S, load(0.0))));
    e
}

fn peer(e: &mut Engine, i: u8, f: impl FnOnce(&mut Load, &mut Facts, &mut HostState)) {
    let p = e.peers.get_mut(&host(i).name).unwrap();
    let (_, load) = p.load.as_mut().unwrap();
    f(load, p.facts.as_mut().unwrap(), &mut p.state);
}

/// An engine and the hosts around it, which answer as it says.
struct Around {
    e: Engine,
    now: Duration,
    /// What is on its way: to whom, which question.
    asked: Vec<(String, u64)>,
    answers: BTreeMap<u64, Result<String, (ErrorCode, String)>>,
    waiting: Vec<wire::Waiting>,
    logged: Vec<String>,
    drained: Vec<Option<Drain>>,
    next: u64,
}

impl Around {
    fn new(others: &[(u8, f64)]) -> Self {
        Self {
            e: engine(others),
            now: S,
            asked: Vec::new(),
            answers: BTreeMap::new(),
            waiting: Vec::new(),
            logged: Vec::new(),
            drained: Vec::new(),
            next: 1,
        }
    }

    fn take(&mut self, out: Effects) {
        for e in out.0 {
            match e {
                Effect::Datagram {
                    address,
                    message: gossip::Kind::Ask(a),
                } => self.asked.push((address, a.id)),
                Effect::Answer { ask, reply } => {
                    let reply = match reply {
                        reply::Kind::Placed(p) => Ok(p.host),
                        reply::Kind::Done(_) => Ok(String::new()),
                        reply::Kind::Error(e) => Err((e.code(), e.text)),
                        other => panic!("{other:?}"),
                    };
                    self.answers.insert(ask, reply);
                }
                Effect::Progress {
                    reply: reply::Kind::Waiting(w),
                    ..
                } => self.waiting.push(w),
                Effect::Log(_, text) => self.logged.push(text),
                Effect::KeepDrain(d) => self.drained.push(d),
                _ => {}
            }
        }
    }

    fn input(&mut self, input: Input) {
        let mut out = Effects::default();
        let news = input != Input::Tick;
        // Membership is given here.
        let (now, e) = (self.now, &mut self.e);
        match input {
            Input::Place { ask, place } => e.place(now, ask, place, &mut out),
            Input::Grant { ask, need, from_here } => e.grant(now, ask, need, from_here, &mut out),
            Input::Drain(d) => e.set_drain(now, d, &mut out),
            Input::Gone { ask } => e.gone(now, ask),
            Input::Datagram {
                from,
                message: gossip::Kind::Word(w),
                ..
            } => e.said(now, from, w, &mut out),
            Input::Tick => {}
            other => panic!("{other:?}"),
        }
        e.placing_turn(now, news, &mut out);
        self.take(out);
    }

    fn later(&mut self, d: Duration) {
        self.now += d;
        self.input(Input::Tick);
    }

    fn start(&mut self, place: Place) -> u64 {
        let ask = self.next;
        self.next += 1;
        self.input(Input::Place { ask, place });
        ask
    }

    fn grant(&mut self, need: Need, from_here: bool) -> Result<String, (ErrorCode, String)> {
        let ask = self.next;
        self.next += 1;
        self.input(Input::Grant { ask, need, from_here });
        self.answers.remove(&ask).expect("answered at once")
    }

    fn word(&mut self, from: u8, word: Word) {
        let from = host(from).number();
        self.input(Input::Datagram {
            from,
            address: String::new(),
            message: gossip::Kind::Word(word),
        });
    }

    /// All who were asked say what they reported.
    fn answer(&mut self) {
        for (address, id) in std::mem::take(&mut self.asked) {
            let i: u8 = address[7..address.len() - 5].parse().unwrap();
            let load = self.e.peers[&host(i).name].load.map(|(_, l)| l);
            let mut word = Word {
                id,
                load,
                ..Word::default()
            };
            if load.is_some_and(|l| l.draining) {
                (word.no, word.code) = ("is being drained by root".into(), ErrorCode::Draining as i32);
            }
            self.word(i, word);
        }
    }

    fn place(&mut self, place: Place) -> Result<String, (ErrorCode, String)> {
        let ask = self.start(place);
        for _ in 0..20 {
            self.answer();
        }
        self.answers.remove(&ask).expect("answered")
    }
}

fn named(h: &str) -> Place {
    Place {
        host: h.into(),
        ..Place::default()
    }
}

fn need(n: Need) -> Place {
    Place {
        need: Some(n),
        ..Place::default()
    }
}

fn cores(cores: u32) -> Need {
    Need {
        cores,
        ..Need::default()
    }
}

#[test]
fn places_by_name_by_preference_and_by_load() {
    let mut a = Around::new(&[(1, 0.1), (3, 9.0), (4, 9.0)]);
    a.e.load = Some((S, load(9.0)));
    let prefer = |h: &str| Place {
        prefer: true,
        ..named(h)
    };
    let least = (0..5).filter(|_| a.place(named("+")) == Ok("h1".into())).count();
    assert_eq!(least, 5);
    assert_eq!(a.place(named("h2")), Ok("h2".into()));
    assert_eq!(a.place(named("H3")), Ok("h3".into()));
    assert_eq!(a.place(prefer("h3")), Ok("h3".into()));
    let tried = Place {
        avoid: vec!["h3".into()],
        ..prefer("h3")
    };
    assert_ne!(a.place(tried), Ok("h3".into()));
    let avoid = Place {
        avoid: vec!["h1".into(), "h2".into(), "h4".into()],
        ..Place::default()
    };
    assert_eq!(a.place(avoid), Ok("h3".into()));
    let (code, text) = a.place(named("h9")).unwrap_err();
    assert!(
        code == ErrorCode::NoSuchHost && text.contains("h2, h1, h3, h4"),
        "{text}"
    );
    // Not met yet: the asker's own connection tells. Down: told at once, unless he only prefers it.
    peer(&mut a.e, 4, |_, _, s| *s = HostState::Unknown);
    assert_eq!(a.place(named("h4")), Ok("h4".into()));
    a.e.peers.get_mut("h4").unwrap().reason = "no way".into();
    peer(&mut a.e, 4, |_, _, s| *s = HostState::Down);
    let (code, text) = a.place(named("h4")).unwrap_err();
    assert!(
        code == ErrorCode::HostDown && text == "h4 does not answer: no way",
        "{text}"
    );
    assert!(a.place(prefer("h4")).is_ok_and(|h| h != "h4"));
    a.e.monitor = false;
    let (code, text) = a.place(named("h2")).unwrap_err();
    assert!(
        code == ErrorCode::NotReady && text.contains("start it there (systemctl"),
        "{text}"
    );
}

#[test]
fn nobody_there_is_told() {
    let mut a = Around::new(&[(1, 0.0)]);
    a.e.monitor = false;
    peer(&mut a.e, 1, |_, _, s| *s = HostState::Down);
    let (code, text) = a.place(Place::default()).unwrap_err();
    assert!(
        code == ErrorCode::NoHost && text.contains("no host answers (2 in cluster c)"),
        "{text}"
    );
    // No cores: nothing can be run there at the moment.
    peer(&mut a.e, 1, |l, _, s| (l.cores, *s) = (0, HostState::Up));
    assert_eq!(a.place(Place::default()).unwrap_err().0, ErrorCode::NoHost);
    let mut a = Around::new(&[]);
    assert_eq!(a.place(Place::default()), Ok("h2".into()));
    assert!(a.asked.is_empty());
    a.e.monitor = false;
    let (_, text) = a.place(Place::default()).unwrap_err();
    assert!(text.contains("queue-exec"), "{text}");
}

#[test]
fn two_are_asked_and_the_better_word_is_taken() {
    let mut a = Around::new(&[(1, 0.0), (3, 0.0)]);
    a.e.monitor = false;
    let ask = a.start(Place::default());
    let asked = a.asked.clone();
    assert_eq!(asked.len(), 2);
    // By now one of them is busy.
    for (address, id) in &asked {
        let (i, running) = if address.contains(".1:") {
            (1, 30.0)
        } else {
            (3, 0.2)
        };
        let load = Some(load(running));
        a.word(
            i,
            Word {
                id: *id,
                load,
                ..Word::default()
            },
        );
    }
    assert_eq!(a.answers.remove(&ask), Some(Ok("h3".into())));
    // Late, doubled or forged words change nothing.
    for from in [1, 3, 7] {
        for (_, id) in &asked {
            a.word(
                from,
                Word {
                    id: *id,
                    load: Some(load(0.0)),
                    ..Word::default()
                },
            );
        }
    }
    assert!(a.answers.is_empty() && a.e.placing.is_idle());
    // Of another host than the one that was asked: it does not count.
    let ask = a.start(Place::default());
    let (address, id) = a.asked.pop().unwrap();
    let other = if address.contains(".1:") { 3 } else { 1 };
    a.word(
        other,
        Word {
            id,
            load: Some(load(0.0)),
            ..Word::default()
        },
    );
    assert!(!a.answers.contains_key(&ask));
}

#[test]
fn this_host_answers_itself_and_a_single_host_is_not_asked() {
    let mut a = Around::new(&[(1, 0.0)]);
    let ask = a.start(Place::default());
    assert_eq!(a.asked.len(), 1);
    a.answer();
    assert!(a.answers.remove(&ask).unwrap().is_ok());
    peer(&mut a.e, 1, |l, _, _| l.draining = true);
    a.now += STALE * 10;
    assert_eq!(a.place(Place::default()), Ok("h2".into()));
    assert!(a.asked.is_empty());
}

#[test]
fn a_host_that_vanished_costs_one_launch_a_few_milliseconds() {
    let mut a = Around::new(&[(1, 0.0), (3, 0.0)]);
    // Known to answer within half a millisecond.
    for _ in 0..20 {
        let ask = a.start(Place::default());
        a.now += MS / 2;
        a.answer();
        a.answers.remove(&ask).expect("answered").unwrap();
    }
    a.later(11 * S);
    for p in a.e.peers.values_mut() {
        p.load = Some((a.now, load(0.0)));
    }
    a.e.load = Some((a.now, load(0.0)));
    // Now h1 is silent, though it is believed to be up.
    let mut slow = 0;
    for _ in 0..30 {
        let ask = a.start(Place::default());
        a.now += MS / 2;
        let (silent, there): (Vec<_>, Vec<_>) = std::mem::take(&mut a.asked)
            .into_iter()
            .partition(|(to, _)| to.contains(".1:"));
        a.asked = there;
        a.answer();
        if !silent.is_empty() {
            slow += 1;
            assert!(!a.answers.contains_key(&ask));
            a.later(3 * MS);
        }
        assert_ne!(a.answers.remove(&ask).expect("answered").unwrap(), "h1");
    }
    assert_eq!(slow, 1);
    // It is heard again: it is asked again.
    a.now += 30 * S;
    for p in a.e.peers.values_mut() {
        p.load = Some((a.now, load(0.0)));
    }
    a.e.load = Some((a.now, load(5.0)));
    let asked = (0..10).filter(|_| {
        a.asked.clear();
        a.start(Place::default());
        a.asked.iter().any(|(to, _)| to.contains(".1:"))
    });
    assert!(asked.count() > 2);
}

#[test]
fn where_no_word_comes_at_all_somebody_is_taken_soon() {
    let mut a = Around::new(&[(1, 0.0), (3, 0.0), (4, 0.0)]);
    a.e.monitor = false;
    let start = a.now;
    let ask = a.start(Place::default());
    while !a.answers.contains_key(&ask) {
        a.later(MS);
        assert!(a.now < start + WORD_MAX * 4);
    }
    assert!(a.answers[&ask].is_ok());
}

#[test]
fn of_those_who_are_asked_and_say_no_the_others_are_tried_until_none_is_left() {
    let mut a = Around::new(&[(1, 0.0), (3, 0.0), (4, 0.0)]);
    a.e.drain = Some(Drain::default());
    let ask = a.start(Place::default());
    let mut rounds = 0;
    while !a.answers.contains_key(&ask) {
        rounds += 1;
        assert!(rounds < 9);
        for (address, id) in std::mem::take(&mut a.asked) {
            let i: u8 = address[7..8].parse().unwrap();
            let word = Word {
                id,
                load: Some(load(0.0)),
                no: "has no\x1b core free".into(),
                code: ErrorCode::Full as i32,
                ..Word::default()
            };
            a.word(i, word);
        }
    }
    let (code, text) = a.answers.remove(&ask).unwrap().unwrap_err();
    assert!(
        code == ErrorCode::Full && text.contains("h1 has no core free") && text.contains("and 1 more"),
        "{text}"
    );
}

#[test]
fn who_is_out_of_the_question_is_never_taken() {
    let mut a = Around::new(&[(1, 0.0), (3, 0.0), (4, 0.0), (5, 0.0), (6, 0.0), (7, 50.0)]);
    a.e.drain = Some(Drain::default());
    peer(&mut a.e, 1, |l, _, _| l.draining = true);
    peer(&mut a.e, 3, |_, f, _| f.unwilling = true);
    peer(&mut a.e, 4, |l, f, _| (f.max_sessions, l.sessions) = (2, 2));
    peer(&mut a.e, 5, |l, _, _| l.cores_reserved = 4);
    peer(&mut a.e, 6, |_, _, s| *s = HostState::Left);
    for _ in 0..50 {
        assert_eq!(a.place(need(cores(1))), Ok("h7".into()));
        a.now += 60 * S;
        for p in a.e.peers.values_mut() {
            p.load = p.load.map(|(_, l)| (a.now, l));
        }
    }
    // Named, the reason is said; but the rsh form enters what is drained or full.
    for (h, code, says) in [
        ("h1", ErrorCode::Draining, "drained"),
        ("h2", ErrorCode::Draining, "drained"),
        ("h3", ErrorCode::Unfit, "willing = false"),
        ("h4", ErrorCode::Full, "2 sessions run, max_sessions there is 2"),
        ("h5", ErrorCode::Full, "has no core free, 1 core asked"),
    ] {
        let place = Place {
            host: h.into(),
            ..need(cores(1))
        };
        let (got, text) = a.place(place).unwrap_err();
        assert!(
            got == code && text.contains(h) && text.contains(says.split(',').next().unwrap()),
            "{got:?} {text}"
        );
        let by_name = Place {
            host: h.into(),
            ..need(Need {
                by_name: true,
                ..Need::default()
            })
        };
        assert_eq!(a.place(by_name), Ok(h.into()));
    }
}

#[test]
fn a_suspect_is_taken_only_if_there_is_no_other() {
    let mut a = Around::new(&[(1, 0.0), (3, 20.0)]);
    a.e.monitor = false;
    peer(&mut a.e, 1, |_, _, s| *s = HostState::Suspect);
    for _ in 0..10 {
        assert_eq!(a.place(Place::default()), Ok("h3".into()));
    }
    peer(&mut a.e, 3, |_, _, s| *s = HostState::Down);
    assert_eq!(a.place(Place::default()), Ok("h1".into()));
}

#[test]
fn a_host_that_was_full_a_while_ago_is_asked_again() {
    let mut a = Around::new(&[(1, 0.0)]);
    a.e.monitor = false;
    peer(&mut a.e, 1, |l, _, _| l.cores_reserved = 4);
    a.now += STALE / 2;
    assert_eq!(a.place(need(cores(1))).unwrap_err().0, ErrorCode::Full);
    a.now += STALE;
    for place in [
        need(cores(1)),
        Place {
            host: "h1".into(),
            ..need(cores(1))
        },
    ] {
        let ask = a.start(place);
        let (_, id) = a.asked.pop().expect("asked");
        a.word(
            1,
            Word {
                id,
                load: Some(load(0.0)),
                ..Word::default()
            },
        );
        assert_eq!(a.answers.remove(&ask), Some(Ok("h1".into())));
        peer(&mut a.e, 1, |l, _, _| l.cores_reserved = 4);
        let at = a.now + MS;
        a.e.peers.get_mut("h1").unwrap().load.as_mut().unwrap().0 = at;
        a.now = at + STALE * 2;
    }
}

#[test]
fn what_no_host_can_ever_do_is_said_at_once_with_the_nearest_host() {
    let mut a = Around::new(&[(1, 0.0), (3, 0.0)]);
    peer(&mut a.e, 3, |_, f, _| f.cores = 16);
    let never = |a: &mut Around, n: Need, wait: bool| {
        let (code, text) = a.place(Place { wait, ..need(n) }).unwrap_err();
        assert_eq!(code, ErrorCode::Unfit, "{text}");
        text
    };
    let text = never(&mut a, cores(64), true);
    assert_eq!(
        text,
        "no host has 64 cores: h3 comes nearest, it has 16 cores of 64"
    );
    let expr = Need {
        expr: "arch==aarch64".into(),
        ..Need::default()
    };
    let text = never(&mut a, expr.clone(), false);
    assert!(text.starts_with("no host has 'arch==aarch64': h"), "{text}");
    let named = Place {
        host: "h1".into(),
        ..need(cores(8))
    };
    let (code, text) = a.place(named).unwrap_err();
    assert!(
        code == ErrorCode::Unfit && text == "h1 cannot do that: it has 4 cores of 8",
        "{text}"
    );
    let bad = Need {
        expr: "a b".into(),
        ..Need::default()
    };
    assert_eq!(a.place(need(bad)).unwrap_err().0, ErrorCode::BadRequest);
    // One whose facts are not known yet may do it.
    a.e.peers.get_mut("h1").unwrap().facts = None;
    assert_eq!(a.place(need(expr)).unwrap_err().0, ErrorCode::Full);
}

#[test]
fn this_host_grants_within_what_it_has() {
    let mut a = Around::new(&[]);
    a.e.facts.max_sessions = 4;
    assert!(a.grant(cores(3), false).is_ok());
    let (code, text) = a.grant(cores(2), false).unwrap_err();
    assert!(
        code == ErrorCode::Full && text == "h2 has 1 core free, 2 asked",
        "{text}"
    );
    assert_eq!(a.grant(cores(5), false).unwrap_err().0, ErrorCode::Unfit);
    let mem = |gib| Need {
        mem: gib * GIB,
        ..Need::default()
    };
    assert!(a.grant(mem(6), false).is_ok());
    assert_eq!(a.grant(mem(6), false).unwrap_err().0, ErrorCode::Full);
    let arch = Need {
        expr: "arch==aarch64".into(),
        ..Need::default()
    };
    assert_eq!(a.grant(arch, true).unwrap_err().0, ErrorCode::Unfit);
    assert!(a.grant(cores(1), true).is_ok() && a.grant(Need::default(), true).is_ok());
    let (code, text) = a.grant(Need::default(), true).unwrap_err();
    assert!(code == ErrorCode::Full && text.contains("max_sessions"), "{text}");
    let look = Need {
        look: true,
        ..Need::default()
    };
    let by_name = Need {
        by_name: true,
        ..Need::default()
    };
    let l = a.e.current_load(a.now);
    assert!(a.grant(look, false).is_ok() && a.grant(by_name.clone(), false).is_ok());
    assert_eq!((l.sessions, l.cores_reserved, l.mem_reserved), (4, 4, 6 * GIB));
    assert_eq!(a.e.current_load(a.now).sessions, 5);
    // What neither starts nor is taken back runs out.
    a.later(21 * S);
    let l = a.e.current_load(a.now);
    assert_eq!((l.sessions, l.cores_reserved, l.mem_reserved), (0, 0, 0));
    a.e.facts.unwilling = true;
    assert!(a.grant(Need::default(), true).is_ok());
    assert_eq!(a.grant(Need::default(), false).unwrap_err().0, ErrorCode::Unfit);
    a.e.monitor = false;
    assert_eq!(a.grant(by_name, true).unwrap_err().0, ErrorCode::NotReady);
}

#[test]
fn a_drained_host_says_who_wants_it_and_how_it_ends() {
    let mut a = Around::new(&[(1, 0.0)]);
    let drain = Drain {
        by: "alice@h1".into(),
        reason: "new disk".into(),
        since: 1_741_083_060,
    };
    a.input(Input::Drain(Some(drain.clone())));
    assert!(a.e.current_load(a.now).draining);
    assert_eq!(a.drained, [Some(drain)]);
    let (code, text) = a.grant(Need::default(), true).unwrap_err();
    assert!(code == ErrorCode::Draining, "{text}");
    let says =
        "h2 is being drained since 2025-03-04 10:11 UTC by alice@h1 (new disk): 'queue undrain h2' ends that";
    assert_eq!(text, says);
    assert_eq!(a.e.hosts(a.now).hosts[1].reason, says[3..]);
    a.input(Input::Drain(None));
    assert!(a.grant(Need::default(), true).is_ok());
    assert_eq!(a.drained.last(), Some(&None));
    assert!(a.logged[1].contains("no longer"), "{:?}", a.logged);
}

#[test]
fn of_several_who_ask_for_the_last_core_one_is_told_yes() {
    let mut a = Around::new(&[(1, 0.0), (3, 0.0)]);
    let ask = |a: &mut Around, i: u8| a.e.word(a.now, host(i).number(), 1, &cores(4));
    assert_eq!(ask(&mut a, 1).no, "");
    assert!(ask(&mut a, 3).no.contains("core"), "kept for the first one");
    // The same one may ask again; and it is not kept for long.
    assert_eq!(ask(&mut a, 1).no, "");
    a.now += 60 * MS;
    assert_eq!(ask(&mut a, 3).no, "");
    // Whoever asked is expected, as a half, and knows which of them are his own.
    let w = ask(&mut a, 3);
    assert!((w.load.unwrap().starts - 1.5).abs() < 1e-9 && w.yours == 1);
    assert_eq!(a.e.current_load(a.now).starts, 0.0);
    assert!(a.grant(cores(4), false).is_ok());
    assert_eq!(ask(&mut a, 3).code(), ErrorCode::Full);
}

#[test]
fn who_waits_is_told_why_and_served_when_there_is_room() {
    let mut a = Around::new(&[(1, 0.0)]);
    a.e.drain = Some(Drain::default());
    peer(&mut a.e, 1, |l, _, _| l.cores_reserved = 4);
    let waits = |n| Place {
        wait: true,
        ..need(cores(n))
    };
    let (first, second) = (a.start(waits(2)), a.start(waits(2)));
    a.later(11 * MS);
    assert!(a.answers.is_empty());
    let told: Vec<(bool, u32)> = a
        .waiting
        .iter()
        .map(|w| (w.reason.contains("no core free, 2 asked"), w.ahead))
        .collect();
    assert_eq!(told, [(true, 0), (true, 1)]);
    // The first one goes; the second one has nobody ahead now, and is told within a second or so.
    a.input(Input::Gone { ask: first });
    a.later(2 * S);
    assert_eq!(a.waiting.last().unwrap().ahead, 0);
    peer(&mut a.e, 1, |l, _, _| l.cores_reserved = 2);
    a.later(S);
    assert_eq!(a.answers.remove(&second), Some(Ok("h1".into())));
    // What becomes impossible is said.
    let third = a.start(waits(4));
    a.later(S);
    peer(&mut a.e, 1, |_, f, _| f.cores = 2);
    a.e.facts.cores = 2;
    a.later(S);
    assert_eq!(a.answers[&third].as_ref().unwrap_err().0, ErrorCode::Unfit);
    assert_eq!(a.e.placing.queue.len(), 0);
}

#[test]
fn the_chances_that_are_explained_are_the_real_ones() {
    let mut a = Around::new(&[(1, 0.5), (3, 2.0), (4, 0.52), (5, 9.0)]);
    peer(&mut a.e, 5, |_, f, _| f.power = 3.0);
    peer(&mut a.e, 4, |l, _, _| l.psi_mem = 30.0);
    let reply::Kind::Explained(x) = a.e.explain(a.now, Place::default()) else {
        panic!()
    };
    assert!((x.hosts.iter().map(|h| h.chance).sum::<f64>() - 1.0).abs() < 1e-9);
    let n = 4000;
    let mut count: BTreeMap<String, f64> = BTreeMap::new();
    for _ in 0..n {
        // Long after the last one, and all is as it was.
        a.now += 60 * S;
        for p in a.e.peers.values_mut() {
            p.load = p.load.map(|(_, l)| (a.now, l));
        }
        a.e.load = a.e.load.map(|(_, l)| (a.now, l));
        *count.entry(a.place(Place::default()).unwrap()).or_default() += 1.0;
    }
    let square: f64 = x
        .hosts
        .iter()
        .map(|h| {
            let (real, expected) = (
                count.get(&h.host).copied().unwrap_or_default(),
                h.chance * f64::from(n),
            );
            (real - expected).powi(2) / expected.max(0.5)
        })
        .sum();
    // With four degrees of freedom above this in one of ten thousand.
    assert!(square < 23.5, "{square}: {count:?} {:?}", x.hosts);
}

#[test]
fn explains_every_host_and_what_would_happen() {
    let mut a = Around::new(&[(1, 0.5), (3, 0.0), (4, 1.0)]);
    peer(&mut a.e, 3, |l, _, _| l.draining = true);
    let explain = |a: &Around, p: Place| match a.e.explain(a.now, p) {
        reply::Kind::Explained(x) => x,
        other => panic!("{other:?}"),
    };
    let x = explain(&a, Place::default());
    let hosts: Vec<(&str, bool)> = x
        .hosts
        .iter()
        .map(|h| (h.host.as_str(), h.no.is_empty()))
        .collect();
    assert_eq!(hosts, [("h2", true), ("h1", true), ("h4", true), ("h3", false)]);
    assert!(x.hosts[3].no.contains("drained") && x.hosts[3].chance == 0.0);
    for h in &x.hosts {
        let t = |name: &str| h.terms.iter().find(|t| t.name == name).unwrap().value;
        let sum = t("running") + t("starting") + t("reserved") + t("idle") + t("this");
        assert!((h.score - sum / (t("cores") * t("power")) * t("pressure")).abs() < 1e-9);
    }
    assert!(x.verdict.contains("two of 3 hosts"), "{}", x.verdict);
    assert!(explain(&a, named("h1")).verdict.contains("goes to h1"));
    let text = explain(&a, named("h3")).verdict;
    assert!(text.contains("h3 is being drained"), "{text}");
    let x = explain(&a, need(cores(64)));
    assert!(
        x.verdict.contains("comes nearest") && x.hosts.iter().all(|h| !h.no.is_empty()),
        "{}",
        x.verdict
    );
    for i in [1, 4] {
        peer(&mut a.e, i, |l, _, _| l.cores_reserved = 4);
    }
    a.e.monitor = false;
    let wait = Place {
        wait: true,
        ..need(cores(1))
    };
    let text = explain(&a, wait).verdict;
    assert!(text.starts_with("it waits: "), "{text}");
}
