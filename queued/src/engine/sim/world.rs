//! A small world of engines with a virtual clock and network: hosts start, are killed, lose power, are cut
//! off and removed, for several hundred seeds. What must hold is checked after each step and at the end;
//! a failure names its seed.

use super::types::{AskId, ConnId, Effect, Effects, Entry, Hello, Host, Input, Message, Now, Revoked};
use super::{Engine, SILENCE, Setup, rng::Rng, wire};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use wire::{member, reply};

const REPORT: Duration = Duration::from_secs(2);
const LATENCY: Duration = Duration::from_micros(300);
const TIMEOUT: Duration = Duration::from_secs(3);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// One machine.
struct Node {
    host: Host,
    engine: Option<Engine>,
    /// Which start of it this is.
    boot: u64,
    /// Since when it does not run.
    dead: Option<Now>,
    disk: BTreeMap<String, Entry>,
    revoked: Revoked,
    removed: bool,
}

/// One end of a connection: node, its boot, its name for it.
#[derive(Clone, Copy, PartialEq)]
struct End {
    node: usize,
    boot: u64,
    conn: ConnId,
}

#[derive(Clone)]
enum Item {
    Arrive,
    Welcome,
    Message(Message),
    Close(Option<String>),
}

/// A connection: the dialler is end 0.
struct Conn {
    ends: [End; 2],
    open: [bool; 2],
    /// Whether the dialler was welcomed.
    up: bool,
    /// On the way to each end, in order.
    way: [VecDeque<Item>; 2],
}

enum Event {
    Wake {
        node: usize,
        boot: u64,
    },
    Report {
        node: usize,
        boot: u64,
    },
    Deliver {
        conn: usize,
        to: usize,
    },
    DialOver {
        node: usize,
        boot: u64,
        name: String,
        conn: Option<usize>,
        text: &'static str,
    },
    Chaos,
    Ask,
}

struct World {
    seed: u64,
    now: Now,
    rng: Rng,
    nodes: Vec<Node>,
    conns: Vec<Conn>,
    ids: BTreeMap<(usize, ConnId), usize>,
    cuts: BTreeSet<(usize, usize)>,
    queue: BTreeMap<(Now, u64), Event>,
    seq: u64,
    asks: AskId,
    calm: bool,
    list: Revoked,
}

fn host(i: usize) -> Host {
    Host {
        name: format!("h{i}"),
        serial: i as u64 + 1,
        tls_key: [i as u8; 32],
        cert: vec![i as u8],
    }
}

fn address(i: usize) -> String {
    format!("10.0.0.{i}:7838")
}

impl World {
    /// Everybody knows the first node only, as after joining it; it knows everybody.
    fn new(seed: u64, n: usize) -> Self {
        let entry = |i| Entry {
            host: host(i),
            address: address(i),
            authority: i == 0,
        };
        let nodes = (0..n)
            .map(|i| Node {
                host: host(i),
                engine: None,
                boot: 0,
                dead: Some(Duration::ZERO),
                disk: (0..n)
                    .filter(|j| *j != i && (i == 0 || *j == 0))
                    .map(|j| (host(j).name, entry(j)))
                    .collect(),
                revoked: Revoked::default(),
                removed: false,
            })
            .collect();
        let mut w = Self {
            seed,
            now: Duration::ZERO,
            rng: Rng::new(seed),
            nodes,
            conns: Vec::new(),
            ids: BTreeMap::new(),
            cuts: BTreeSet::new(),
            queue: BTreeMap::new(),
            seq: 0,
            asks: 0,
            calm: false,
            list: Revoked::default(),
        };
        for i in 0..n {
            w.start(i);
        }
        w.at(ms(500), Event::Chaos);
        w.at(ms(100), Event::Ask);
        w
    }

    fn at(&mut self, after: Duration, e: Event) {
        self.seq += 1;
        self.queue.insert((self.now + after, self.seq), e);
    }

    fn start(&mut self, i: usize) {
        let seed = self.rng.next();
        let node = &mut self.nodes[i];
        node.boot += 1;
        node.dead = None;
        let setup = Setup {
            own: node.host.clone(),
            cluster: "sim".into(),
            authority: i == 0,
            boot: node.boot.to_be_bytes().to_vec(),
            dial_self: address(i),
            advertised: address(i),
            version: "0".into(),
            members: node.disk.values().cloned().collect(),
            revoked: node.revoked.clone(),
            seed,
        };
        node.engine = Some(Engine::new(self.now, setup));
        let boot = node.boot;
        self.input(i, Input::Monitor(true));
        self.at(
            self.rng.clone().between(Duration::ZERO, REPORT),
            Event::Report { node: i, boot },
        );
    }

    /// `power`: nothing more comes from it; else its kernel closes its connections.
    fn kill(&mut self, i: usize, power: bool) {
        let node = &mut self.nodes[i];
        node.engine = None;
        node.dead = Some(self.now);
        for c in 0..self.conns.len() {
            for e in 0..2 {
                if self.conns[c].ends[e].node == i && self.conns[c].open[e] {
                    self.conns[c].open[e] = false;
                    if !power {
                        self.send(c, 1 - e, Item::Close(None));
                    }
                }
            }
        }
    }

    fn send(&mut self, conn: usize, to: usize, item: Item) {
        self.conns[conn].way[to].push_back(item);
        let wait = LATENCY + Duration::from_micros(self.rng.next() % 500);
        self.at(wait, Event::Deliver { conn, to });
    }

    fn cut(&self, a: usize, b: usize) -> bool {
        self.cuts.contains(&(a.min(b), a.max(b)))
    }

    fn input(&mut self, i: usize, input: Input) {
        let mut out = Effects::default();
        let Some(engine) = self.nodes[i].engine.as_mut() else {
            return;
        };
        engine.handle(self.now, input, &mut out);
        if let Some(at) = engine.wake() {
            let boot = self.nodes[i].boot;
            self.at(at.saturating_sub(self.now), Event::Wake { node: i, boot });
        }
        for e in out.0 {
            self.effect(i, e);
        }
        self.check(i);
    }

    fn effect(&mut self, i: usize, e: Effect) {
        let boot = self.nodes[i].boot;
        match e {
            Effect::Dial {
                name,
                address: to,
                key,
            } => {
                let target = (0..self.nodes.len()).find(|j| address(*j) == to);
                let Some(j) = target.filter(|j| self.nodes[*j].host.tls_key == key) else {
                    return self.at(
                        LATENCY,
                        Event::DialOver {
                            node: i,
                            boot,
                            name,
                            conn: None,
                            text: "wrong",
                        },
                    );
                };
                if self.cut(i, j) {
                    return self.at(
                        TIMEOUT,
                        Event::DialOver {
                            node: i,
                            boot,
                            name,
                            conn: None,
                            text: "no answer",
                        },
                    );
                }
                if self.nodes[j].engine.is_none() {
                    return self.at(
                        LATENCY,
                        Event::DialOver {
                            node: i,
                            boot,
                            name,
                            conn: None,
                            text: "refused",
                        },
                    );
                }
                self.seq += 2;
                let ends = [
                    End {
                        node: i,
                        boot,
                        conn: self.seq,
                    },
                    End {
                        node: j,
                        boot: self.nodes[j].boot,
                        conn: self.seq + 1,
                    },
                ];
                self.seq += 2;
                let c = self.conns.len();
                for end in ends {
                    self.ids.insert((end.node, end.conn), c);
                }
                self.conns.push(Conn {
                    ends,
                    open: [true, true],
                    up: false,
                    way: Default::default(),
                });
                self.send(c, 1, Item::Arrive);
                self.at(
                    TIMEOUT * 2,
                    Event::DialOver {
                        node: i,
                        boot,
                        name,
                        conn: Some(c),
                        text: "no hello",
                    },
                );
            }
            Effect::Welcome { conn } => self.forward(i, conn, Item::Welcome),
            Effect::Send { conn, message } => {
                let message = match message {
                    member::Kind::Load(l) => Message::Load(l),
                    member::Kind::Bye(t) => Message::Bye(t),
                    member::Kind::Revocations(_) => Message::Revocations(self.list.clone()),
                    member::Kind::Roster(r) => Message::Roster(
                        r.members
                            .into_iter()
                            .map(|m| Entry {
                                host: host(usize::from(m.cert[0])),
                                address: m.address,
                                authority: m.authority,
                            })
                            .collect(),
                    ),
                    member::Kind::Hello(_) => unreachable!("the engine sends no hello"),
                };
                self.forward(i, conn, Item::Message(message));
            }
            Effect::Close { conn, bye } => {
                self.forward(i, conn, Item::Close(bye));
                if let Some(c) = self.ids.get(&(i, conn)) {
                    let e = usize::from(self.conns[*c].ends[0].node != i);
                    self.conns[*c].open[e] = false;
                }
            }
            Effect::Answer {
                reply: reply::Kind::Placed(p),
                ..
            } => {
                let j = (0..self.nodes.len())
                    .find(|j| self.nodes[*j].host.name == p.host)
                    .expect("a known host");
                let dead = self.nodes[j].dead.map_or(Duration::ZERO, |d| self.now - d);
                let limit = SILENCE + TIMEOUT * 2 + ms(100);
                assert!(
                    dead < limit,
                    "seed {}: {} was handed a launch {dead:?} after its death",
                    self.seed,
                    p.host
                );
                assert!(!self.nodes[j].removed || self.nodes[i].revoked.version == 0 || i == j);
            }
            Effect::Answer { .. } | Effect::Log(..) => {}
            Effect::Keep(entry) => {
                self.nodes[i].disk.insert(entry.host.name.clone(), entry);
            }
            Effect::Forget(name) => {
                self.nodes[i].disk.remove(&name);
            }
            Effect::Revoked(_) => self.nodes[i].revoked = self.list.clone(),
        }
    }

    fn forward(&mut self, i: usize, conn: ConnId, item: Item) {
        let Some(&c) = self.ids.get(&(i, conn)) else {
            return;
        };
        let e = usize::from(self.conns[c].ends[0].node != i);
        if self.conns[c].open[e] {
            self.send(c, 1 - e, item);
        }
    }

    fn deliver(&mut self, c: usize, to: usize) {
        let [a, b] = self.conns[c].ends;
        if self.cut(a.node, b.node) {
            // TCP: it comes when the network is back, in order.
            return self.at(ms(200), Event::Deliver { conn: c, to });
        }
        let Some(item) = self.conns[c].way[to].pop_front() else {
            return;
        };
        let (end, other) = (self.conns[c].ends[to], self.conns[c].ends[1 - to]);
        let alive = self.nodes[end.node].engine.is_some();
        if self.nodes[end.node].boot != end.boot || !self.conns[c].open[to] {
            // Its kernel knows nothing of it: the sender is told so.
            if alive && self.conns[c].open[1 - to] && !matches!(item, Item::Close(_)) {
                self.send(c, 1 - to, Item::Close(None));
            }
            return;
        }
        if !alive {
            return;
        }
        let hello = |w: &Self, n: usize| Hello {
            address: address(n),
            boot: w.nodes[n].boot.to_be_bytes().to_vec(),
            version: "0".into(),
            skew: 0,
        };
        let from = address(other.node);
        let who = self.nodes[other.node].host.clone();
        let input = match item {
            Item::Arrive => Input::Arrived {
                conn: end.conn,
                host: who,
                hello: hello(self, other.node),
                from,
            },
            Item::Welcome => {
                self.conns[c].up = true;
                Input::Reached {
                    conn: end.conn,
                    host: who,
                    hello: hello(self, other.node),
                    from,
                }
            }
            Item::Message(Message::Revocations(l)) if to == 0 && !self.conns[c].up => Input::Revoke(l),
            Item::Message(message) => Input::Heard {
                conn: end.conn,
                message,
            },
            Item::Close(bye) => {
                self.conns[c].open[to] = false;
                if to == 0 && !self.conns[c].up {
                    self.conns[c].up = true;
                    let refused = bye.is_some();
                    Input::DialFailed {
                        name: who.name,
                        text: bye.unwrap_or_default(),
                        refused,
                    }
                } else if let Some(text) = bye {
                    Input::Heard {
                        conn: end.conn,
                        message: Message::Bye(text),
                    }
                } else {
                    Input::Lost {
                        conn: end.conn,
                        text: "closed".into(),
                    }
                }
            }
        };
        self.input(end.node, input);
    }

    fn chaos(&mut self) {
        let n = self.nodes.len();
        let i = self.rng.below(n);
        let j = (i + 1 + self.rng.below(n - 1)) % n;
        match self.rng.below(10) {
            0 | 1 if self.nodes[i].dead.is_none() => {
                let power = self.rng.below(2) == 0;
                self.kill(i, power);
            }
            2..=4 if self.nodes[i].dead.is_some() => self.start(i),
            5 | 6 => {
                self.cuts.insert((i.min(j), i.max(j)));
            }
            7 | 8 => {
                let first = self.cuts.first().copied();
                first.map(|c| self.cuts.remove(&c));
            }
            9 if i != 0 && self.nodes[0].dead.is_none() && self.rng.below(6) == 0 => {
                self.nodes[i].removed = true;
                let mut serials = self.list.serials.clone();
                serials.push(self.nodes[i].host.serial);
                let version = self.list.version + 1;
                self.list = Revoked {
                    version,
                    serials,
                    bytes: vec![version as u8],
                };
                self.input(0, Input::Revoke(self.list.clone()));
            }
            _ => {}
        }
    }

    /// What must hold after each step.
    fn check(&self, i: usize) {
        let Some(e) = &self.nodes[i].engine else { return };
        let linked: BTreeMap<ConnId, String> = e
            .peers
            .iter()
            .filter_map(|(n, p)| p.link.as_ref().map(|l| (l.conn, n.clone())))
            .collect();
        assert_eq!(
            linked, e.conns,
            "seed {}: connections of h{i} at {:?}",
            self.seed, self.now
        );
        for p in e.peers.values() {
            assert!(
                e.expelled || !e.revoked.serials.contains(&p.host.serial),
                "seed {}: h{i} kept {} after its removal",
                self.seed,
                p.host.name
            );
        }
        assert!(
            !e.expelled || e.conns.is_empty(),
            "seed {}: h{i} is out, but connected",
            self.seed
        );
    }

    /// After healing: everybody who belongs is connected with everybody else, by one connection.
    fn converged(&self) {
        let inside: Vec<usize> = (0..self.nodes.len())
            .filter(|i| !self.nodes[*i].removed)
            .collect();
        let link = |i: usize, j: usize| {
            let p = self.nodes[i]
                .engine
                .as_ref()?
                .peers
                .get(&self.nodes[j].host.name)?;
            self.ids.get(&(i, p.link.as_ref()?.conn)).copied()
        };
        for &i in &inside {
            let e = self.nodes[i].engine.as_ref().expect("all run");
            assert_eq!(
                e.peers.len(),
                inside.len() - 1,
                "seed {}: members of h{i}",
                self.seed
            );
            for &j in inside.iter().filter(|j| **j != i) {
                let (there, back) = (link(i, j), link(j, i));
                assert!(
                    there.is_some(),
                    "seed {}: h{i} and h{j} are not connected",
                    self.seed
                );
                assert_eq!(
                    there, back,
                    "seed {}: h{i} and h{j} kept two connections",
                    self.seed
                );
            }
            assert!(
                e.peers.values().all(|p| p.state == wire::HostState::Up),
                "seed {}: h{i}",
                self.seed
            );
        }
    }

    fn run(&mut self, until: Now) {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > until {
                break;
            }
            self.now = at;
            match event {
                Event::Wake { node, boot } if self.nodes[node].boot == boot => {
                    let due = self.nodes[node].engine.as_ref().and_then(Engine::wake);
                    if due.is_some_and(|t| t <= at) {
                        self.input(node, Input::Tick);
                    }
                }
                Event::Report { node, boot } if self.nodes[node].boot == boot => {
                    let load1 = self.rng.below(4) as f64;
                    self.input(
                        node,
                        Input::OwnLoad(wire::Load {
                            load1,
                            cores: 2,
                            ..Default::default()
                        }),
                    );
                    if self.nodes[node].engine.is_some() {
                        self.at(REPORT, Event::Report { node, boot });
                    }
                }
                Event::Deliver { conn, to } => self.deliver(conn, to),
                Event::DialOver {
                    node,
                    boot,
                    name,
                    conn,
                    text,
                } if self.nodes[node].boot == boot => {
                    if let Some(c) = conn {
                        if self.conns[c].up || !self.conns[c].open[0] {
                            continue;
                        }
                        self.conns[c].open[0] = false;
                        self.conns[c].up = true;
                        self.send(c, 1, Item::Close(None));
                    }
                    self.input(
                        node,
                        Input::DialFailed {
                            name,
                            text: text.into(),
                            refused: false,
                        },
                    );
                }
                Event::Chaos if !self.calm => {
                    self.chaos();
                    let wait = self.rng.between(ms(50), ms(3000));
                    self.at(wait, Event::Chaos);
                }
                Event::Ask => {
                    let i = self.rng.below(self.nodes.len());
                    self.asks += 1;
                    self.input(
                        i,
                        Input::Place {
                            ask: self.asks,
                            place: wire::Place::default(),
                        },
                    );
                    self.at(ms(300), Event::Ask);
                }
                _ => {}
            }
        }
    }
}

fn play(seed: u64) {
    let n = 2 + (seed % 5) as usize;
    let mut w = World::new(seed, n);
    w.run(Duration::from_secs(60));
    w.calm = true;
    w.cuts.clear();
    for i in 0..n {
        if w.nodes[i].dead.is_some() {
            w.start(i);
        }
    }
    w.run(Duration::from_secs(60 + 45));
    w.converged();
}

#[test]
fn the_mesh_heals_whatever_happens() {
    for seed in 0..400 {
        play(seed);
    }
}
