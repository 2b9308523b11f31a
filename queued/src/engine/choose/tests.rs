//! Where a command runs: rules one by one. What comes of them is `herd`'s.

use super::super::fit::{Terms, fit};
use super::super::types::{Drain, Effect, Effects, Entry, Host, Input, Revoked};
use super::super::{Engine, Setup, wire};
use super::{GRACE, WORD_MAX};
use libqueue::expr::Expr;

use std::collections::BTreeMap;
use std::time::Duration;
use wire::{ErrorCode, Facts, HostState, Load, Need, Place, Word, gossip, reply};

mod grants;
mod told;

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
    needs: BTreeMap<u64, Need>,
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
            needs: BTreeMap::new(),
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
                } => {
                    self.needs.insert(a.id, a.need.unwrap_or_default());
                    self.asked.push((address, a.id));
                }
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

    /// All who were asked say what they reported, and decide by it.
    fn answer(&mut self) {
        for (address, id) in std::mem::take(&mut self.asked) {
            let i: u8 = address[7..address.len() - 5].parse().unwrap();
            let name = host(i).name;
            let load = self.e.peers[&name].load.map(|(_, l)| l);
            let need = &self.needs[&id];
            let expr = (!need.expr.is_empty()).then(|| Expr::parse(&need.expr).unwrap());
            let known = self.e.known(self.now, &name).unwrap();
            let no = fit(&known, need, expr.as_ref(), Terms::default()).err();
            let word = Word {
                id,
                load,
                no: no.as_ref().map(|n| n.text.clone()).unwrap_or_default(),
                code: no.map_or(0, |n| n.code as i32),
                ..Word::default()
            };
            self.word(i, word);
        }
    }

    fn place(&mut self, place: Place) -> Result<String, (ErrorCode, String)> {
        let ask = self.start(place);
        for _ in 0..20 {
            self.answer();
        }
        if !self.answers.contains_key(&ask) {
            self.later(GRACE);
            for _ in 0..20 {
                self.answer();
            }
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
    a.now += S;
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
        if a.asked.is_empty() {
            a.later(GRACE);
        }
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
fn a_host_that_was_full_is_asked_whether_it_still_is() {
    let mut a = Around::new(&[(1, 0.0)]);
    a.e.monitor = false;
    let named = Place {
        host: "h1".into(),
        ..need(cores(1))
    };
    for place in [need(cores(1)), named] {
        a.now += S;
        peer(&mut a.e, 1, |l, _, _| l.cores_reserved = 4);
        a.e.peers.get_mut("h1").unwrap().load.as_mut().unwrap().0 = a.now;
        let ask = a.start(place);
        let (_, id) = a.asked.pop().expect("asked");
        let load = Some(load(0.0));
        a.word(
            1,
            Word {
                id,
                load,
                ..Word::default()
            },
        );
        assert_eq!(a.answers.remove(&ask), Some(Ok("h1".into())));
    }
}

#[test]
fn where_all_are_full_some_are_asked_and_then_that_is_the_answer() {
    let others: Vec<(u8, f64)> = (10..60).map(|i| (i, 0.0)).collect();
    let mut a = Around::new(&others);
    a.e.monitor = false;
    for (i, _) in &others {
        peer(&mut a.e, *i, |l, _, _| l.cores_reserved = 4);
    }
    let ask = a.start(need(cores(1)));
    let mut asked = 0;
    while !a.answers.contains_key(&ask) {
        if a.asked.is_empty() {
            a.later(GRACE);
        }
        for (_, id) in std::mem::take(&mut a.asked) {
            asked += 1;
            let from = (10..60)
                .find(|i| a.e.placing.was_asked(id, host(*i).number()))
                .unwrap();
            let word = Word {
                id,
                load: Some(load(0.0)),
                no: "has no core free, 1 asked".into(),
                code: ErrorCode::Full as i32,
                ..Word::default()
            };
            a.word(from, word);
        }
    }
    assert_eq!(a.answers[&ask].as_ref().unwrap_err().0, ErrorCode::Full);
    assert!(asked <= 24, "{asked}");
}

#[test]
fn a_session_that_has_just_ended_stops_nobody() {
    let mut a = Around::new(&[]);
    a.grant(cores(4), true).unwrap();
    a.e.started(a.now, Some(1), [7; 16], cores(4));
    let ask = a.start(need(cores(4)));
    a.later(GRACE / 4);
    // Its command's status was known a moment ago, its end is known only now.
    a.e.ended(a.now, &[7; 16]);
    a.later(GRACE);
    assert_eq!(a.answers.remove(&ask), Some(Ok("h2".into())));
    // Who is really full says so soon.
    a.grant(cores(4), true).unwrap();
    let ask = a.start(need(cores(4)));
    a.later(GRACE);
    assert_eq!(a.answers[&ask].as_ref().unwrap_err().0, ErrorCode::Full);
}
