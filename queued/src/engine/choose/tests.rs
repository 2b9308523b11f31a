//! Where a command runs: rules one by one. What comes of them is `herd`'s.

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
            Input::Gone { ask } => e.gone(ask),
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
            let word = Word {
                id,
                load,
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
        code == ErrorCode::NotReady && text.contains("start it there"),
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
