//! The simulated world: machines with engines and a virtual clock; what is between them is `net.rs`. Knows how
//! things break, not what must hold.

use super::net::{Conn, Item};
use crate::engine::rng::Rng;
use crate::engine::types::{
    AskId, ConnId, Effect, Effects, Entry, Host, Input, Level, Message, Now, Revoked,
};
use crate::engine::{Engine, Setup, wire};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire::{gossip, member, reply};

const MEASURE: Duration = Duration::from_secs(1);
pub(super) const LATENCY: Duration = Duration::from_micros(300);
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// One machine.
pub(super) struct Node {
    pub host: Host,
    pub engine: Option<Engine>,
    pub address: String,
    /// Which start of it this is.
    pub boot: u64,
    /// Since when it does not run.
    pub dead: Option<Now>,
    /// Until when it is frozen.
    paused: Now,
    pub disk: BTreeMap<String, Entry>,
    pub revoked: Revoked,
    pub removed: bool,
}

pub(super) enum Event {
    Wake {
        node: usize,
        boot: u64,
    },
    Measure {
        node: usize,
        boot: u64,
    },
    Deliver {
        conn: usize,
        to: usize,
    },
    Packet {
        to: String,
        from: usize,
        message: gossip::Kind,
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

/// The world.
pub(super) struct World {
    pub seed: u64,
    pub now: Now,
    pub rng: Rng,
    pub nodes: Vec<Node>,
    /// Of 1,000 datagrams so many are lost.
    pub loss: usize,
    /// Whether datagrams pass at all.
    pub datagrams: bool,
    pub cuts: BTreeSet<(usize, usize)>,
    pub calm: bool,
    /// What was logged, by whom.
    pub said: Vec<(Now, usize, Level, String)>,
    pub conns: Vec<Conn>,
    /// Who has which address.
    pub places: BTreeMap<String, usize>,
    pub ids: BTreeMap<(usize, ConnId), usize>,
    queue: BTreeMap<(Now, u64), Event>,
    pub seq: u64,
    asks: AskId,
    list: Revoked,
}

pub(super) fn host(i: usize) -> Host {
    let mut tls_key = [0; 32];
    tls_key[4..6].copy_from_slice(&(i as u16 + 1).to_be_bytes());
    Host {
        name: format!("h{i:03}"),
        serial: i as u64 + 1,
        tls_key,
        cert: (i as u16).to_be_bytes().to_vec(),
    }
}

fn address(i: usize) -> String {
    format!("10.0.{}.{}:7838", i / 250, i % 250 + 1)
}

impl World {
    /// Everybody knows the first node only, as after joining it; it knows everybody.
    pub(super) fn new(seed: u64, n: usize) -> Self {
        let entry = |i| Entry {
            host: host(i),
            address: address(i),
            authority: i == 0,
        };
        let nodes = (0..n)
            .map(|i| Node {
                host: host(i),
                engine: None,
                address: address(i),
                boot: 0,
                dead: Some(Duration::ZERO),
                paused: Duration::ZERO,
                disk: (0..n)
                    .filter(|j| *j != i && (i == 0 || *j == 0))
                    .map(|j| (host(j).name, entry(j)))
                    .collect(),
                revoked: Revoked::default(),
                removed: false,
            })
            .collect();
        let mut rng = Rng::new(seed);
        let mut w = Self {
            seed,
            now: Duration::ZERO,
            loss: rng.below(51),
            rng,
            nodes,
            datagrams: true,
            conns: Vec::new(),
            places: (0..n).map(|i| (address(i), i)).collect(),
            ids: BTreeMap::new(),
            cuts: BTreeSet::new(),
            queue: BTreeMap::new(),
            seq: 0,
            asks: 0,
            calm: true,
            list: Revoked::default(),
            said: Vec::new(),
        };
        for i in 0..n {
            w.start(i);
        }
        w.at(ms(100), Event::Ask);
        w
    }

    /// Lets bad things happen.
    pub(super) fn storm(&mut self) {
        self.calm = false;
        self.at(ms(500), Event::Chaos);
    }

    pub(super) fn at(&mut self, after: Duration, e: Event) {
        self.seq += 1;
        self.queue.insert((self.now + after, self.seq), e);
    }

    pub(super) fn start(&mut self, i: usize) {
        let seed = self.rng.next();
        // Now and then a clock is wrong after a start.
        let back = if self.rng.below(10) == 0 { 100_000 } else { 0 };
        let clock = 1_000_000 + self.now.as_millis() as u64 - back;
        let node = &mut self.nodes[i];
        node.boot += 1;
        node.dead = None;
        node.paused = Duration::ZERO;
        let setup = Setup {
            own: node.host.clone(),
            cluster: "sim".into(),
            authority: i == 0,
            boot: node.boot.to_be_bytes().to_vec(),
            epoch: clock,
            dial_self: node.address.clone(),
            advertised: node.address.clone(),
            version: "0".into(),
            members: node.disk.values().cloned().collect(),
            revoked: node.revoked.clone(),
            drain: None,
            seed,
        };
        node.engine = Some(Engine::new(self.now, setup));
        let boot = node.boot;
        self.input(i, Input::Monitor(true));
        let wait = self.rng.between(Duration::ZERO, MEASURE);
        self.at(wait, Event::Measure { node: i, boot });
    }

    /// `power`: nothing more comes from it; else its kernel closes its connections.
    pub(super) fn kill(&mut self, i: usize, power: bool) {
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

    /// An orderly end.
    pub(super) fn stop(&mut self, i: usize) {
        self.input(i, Input::Stop);
        self.kill(i, false);
    }

    /// It does nothing until then; what comes in waits.
    pub(super) fn pause(&mut self, i: usize, time: Duration) {
        self.nodes[i].paused = self.now + time;
    }

    /// It has another address from now on; its connections hang.
    pub(super) fn moves(&mut self, i: usize) {
        let to = format!("10.9.{}.{}:7838", self.rng.below(250), i + 1);
        let was = std::mem::replace(&mut self.nodes[i].address, to.clone());
        self.places.remove(&was);
        self.places.insert(to.clone(), i);
        for c in self
            .conns
            .iter_mut()
            .filter(|c| c.ends.iter().any(|e| e.node == i))
        {
            c.dark = true;
        }
        self.input(i, Input::OwnAddress(to));
    }

    /// The authority's host removes it.
    pub(super) fn remove(&mut self, i: usize) {
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

    pub(super) fn input(&mut self, i: usize, input: Input) {
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
        match e {
            Effect::Dial { name, address, key } => self.dial(i, name, &address, key),
            Effect::Welcome { conn } => self.forward(i, conn, Item::Welcome),
            Effect::Send { conn, message } => {
                let message = match message {
                    member::Kind::Load(l) => Message::Load(l),
                    member::Kind::Bye(t) => Message::Bye(t),
                    member::Kind::Revocations(_) => Message::Revocations(self.list.clone()),
                    member::Kind::Roster(r) if r.wanted => Message::RosterWanted,
                    member::Kind::Roster(r) => Message::Roster(r.members.into_iter().map(entry).collect()),
                    member::Kind::Keys(k) => Message::Keys(k),
                    other => unreachable!("the engine does not send {other:?}"),
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
            Effect::Datagram { address, message } => self.datagram(i, address, message),
            Effect::Answer {
                reply: reply::Kind::Placed(p),
                ..
            } => {
                let j = (0..self.nodes.len())
                    .find(|j| self.nodes[*j].host.name == p.host)
                    .expect("a known host");
                let dead = self.nodes[j].dead.map_or(Duration::ZERO, |d| self.now - d);
                assert!(
                    dead < ms(10_000) || !self.calm,
                    "seed {}: {} was handed a launch {dead:?} after its death",
                    self.seed,
                    p.host
                );
                assert!(!self.nodes[j].removed || self.nodes[i].revoked.version == 0 || i == j);
            }
            Effect::Keep(entry) => {
                self.nodes[i].disk.insert(entry.host.name.clone(), entry);
            }
            Effect::Forget(name) => {
                self.nodes[i].disk.remove(&name);
            }
            Effect::Revoked(_) => self.nodes[i].revoked = self.list.clone(),
            Effect::Log(level, text) => self.said.push((self.now, i, level, text)),
            Effect::Answer { .. }
            | Effect::Progress { .. }
            | Effect::Keys(_)
            | Effect::KeepDrain(_)
            | Effect::Unheard(_) => {}
        }
    }

    fn chaos(&mut self) {
        let n = self.nodes.len();
        let i = self.rng.below(n);
        let j = (i + 1 + self.rng.below(n - 1)) % n;
        if self.frozen(i).is_some() || self.frozen(0).is_some() {
            return;
        }
        match self.rng.below(14) {
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
            9 if i != 0 && self.nodes[0].dead.is_none() && self.rng.below(6) == 0 => self.remove(i),
            10 if self.nodes[i].dead.is_none() => self.stop(i),
            11 if self.nodes[i].dead.is_none() => {
                let time = self.rng.between(ms(100), ms(9000));
                self.pause(i, time);
            }
            // Two that both moved while they did not hear each other need a third that did not.
            12 if i != 0 && self.nodes[i].dead.is_none() => self.moves(i),
            13 => self.loss = self.rng.below(101),
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
        let numbers: BTreeMap<u64, String> = e
            .peers
            .iter()
            .map(|(n, p)| (p.host.number(), n.clone()))
            .collect();
        assert_eq!(numbers, e.numbers, "seed {}: numbers of h{i}", self.seed);
        assert!(
            !e.expelled || e.conns.is_empty(),
            "seed {}: h{i} is out, but connected",
            self.seed
        );
    }

    /// When a frozen node goes on, if it is frozen.
    fn frozen(&self, i: usize) -> Option<Duration> {
        let until = self.nodes[i].paused;
        (until > self.now && self.nodes[i].engine.is_some()).then(|| until - self.now)
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            let node = match &event {
                Event::Wake { node, .. } | Event::Measure { node, .. } => Some(*node),
                Event::Deliver { conn, to } => Some(self.conns[*conn].ends[*to].node),
                Event::Packet { to, .. } => self.places.get(to).copied(),
                _ => None,
            };
            if let Some(wait) = node.and_then(|i| self.frozen(i)) {
                self.at(wait, event);
                continue;
            }
            self.happens(event);
        }
        self.now = until;
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Wake { node, boot } if self.nodes[node].boot == boot => {
                let due = self.nodes[node].engine.as_ref().and_then(Engine::wake);
                if due.is_some_and(|t| t <= self.now) {
                    self.input(node, Input::Tick);
                }
            }
            Event::Measure { node, boot } if self.nodes[node].boot == boot => {
                let load = wire::Load {
                    load1: self.rng.below(4) as f64,
                    running: self.rng.below(4) as f64,
                    cores: 2,
                    ..Default::default()
                };
                self.input(node, Input::OwnLoad(load));
                if self.nodes[node].engine.is_some() {
                    self.at(MEASURE, Event::Measure { node, boot });
                }
            }
            Event::Deliver { conn, to } => self.deliver(conn, to),
            Event::Packet { to, from, message } => {
                let Some(j) = self.places.get(&to).copied() else {
                    return;
                };
                if !self.cut(from, j) {
                    let input = Input::Datagram {
                        from: self.nodes[from].host.number(),
                        address: self.nodes[from].address.clone(),
                        message,
                    };
                    self.input(j, input);
                }
            }
            Event::DialOver {
                node,
                boot,
                name,
                conn,
                text,
            } if self.nodes[node].boot == boot => {
                if let Some(c) = conn {
                    if self.conns[c].up || !self.conns[c].open[0] {
                        return;
                    }
                    self.conns[c].open[0] = false;
                    self.conns[c].up = true;
                    self.send(c, 1, Item::Close(None));
                }
                let input = Input::DialFailed {
                    name,
                    text: text.into(),
                    refused: false,
                };
                self.input(node, input);
            }
            Event::Chaos if !self.calm => {
                self.chaos();
                let wait = self.rng.between(ms(50), ms(3000));
                self.at(wait, Event::Chaos);
            }
            Event::Ask => {
                let i = self.rng.below(self.nodes.len());
                self.asks += 1;
                let ask = self.asks;
                let place = wire::Place::default();
                if self.frozen(i).is_none() {
                    self.input(i, Input::Place { ask, place });
                }
                self.at(ms(300), Event::Ask);
            }
            _ => {}
        }
    }
}

fn entry(m: wire::RosterEntry) -> Entry {
    Entry {
        host: host(usize::from(u16::from_be_bytes([m.cert[0], m.cert[1]]))),
        address: m.address,
        authority: m.authority,
    }
}
