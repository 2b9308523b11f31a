//! A small world for the placing half of engines: hosts that share their cores among what runs there, load
//! averages as the kernel makes them, reports that are seconds old, datagrams that take their time or get lost.
//! Membership is given. The figures are in `figures.rs`, what must always hold in `hold.rs`.

mod figures;
mod hold;

use super::choose::Look;
use super::types::{AskId, Effect, Effects, Entry, Host, Now, Revoked, SessionId};
use super::{Engine, Setup, rng::Rng, wire};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::{ErrorCode, Facts, HostState, Load, Place, gossip, reply};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);
const GIB: u64 = 1 << 30;

/// What a host is.
#[derive(Debug, Clone, Copy)]
struct Kind {
    cores: u32,
    power: f64,
    /// Tasks that run there anyway.
    base: f64,
}

/// What a command does.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// It needs so many seconds of a core of power 1.
    Cpu(f64),
    /// It sits there for so long.
    Sleep(Duration),
}

/// A launch from beginning to end.
#[derive(Debug, Clone)]
struct Launch {
    launcher: usize,
    work: Work,
    place: Place,
    begun: Now,
    placed: Option<Now>,
    host: Option<usize>,
    ended: Option<Now>,
    refused: u32,
    failed: Option<ErrorCode>,
}

/// One machine.
struct Machine {
    engine: Engine,
    kind: Kind,
    /// Service that each of the commands has had since the start, and when that was so.
    served: f64,
    at: Now,
    /// Commands that compute, by the service at which they are done.
    jobs: BTreeMap<(u64, AskId), ()>,
    running: f64,
    load1: f64,
    version: u64,
    wake: Option<Now>,
}

enum Event {
    Launch(AskId),
    Arrive(AskId, usize),
    Datagram {
        to: usize,
        from: u64,
        message: gossip::Kind,
    },
    Finish {
        host: usize,
        version: u64,
    },
    Sleeper(AskId),
    Measure(usize),
    Report(usize),
    Wake(usize),
}

/// Who chooses a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chooser {
    Ours,
    /// By chance, in proportion to cores and power.
    Random,
    /// In turn, in proportion to cores.
    RoundRobin,
    /// The least 1-minute load average for each core, as reported.
    LoadAverage,
}

struct World {
    now: Now,
    rng: Rng,
    machines: Vec<Machine>,
    launchers: usize,
    queue: BTreeMap<(Now, u64), Event>,
    seq: u64,
    launches: BTreeMap<AskId, Launch>,
    next: AskId,
    /// How often a host is heard.
    report: Duration,
    /// Whether hosts are asked for a fresh word.
    words: bool,
    /// Per cent of datagrams that are lost.
    loss: usize,
    chooser: Chooser,
    turn: Vec<usize>,
    told: Vec<(AskId, wire::Waiting)>,
}

fn host(i: usize) -> Host {
    Host {
        name: format!("h{i:04}"),
        serial: i as u64 + 1,
        tls_key: {
            let mut key = [0; 32];
            key[4..6].copy_from_slice(&(i as u16 + 1).to_be_bytes());
            key
        },
        cert: vec![1],
    }
}

fn session(id: AskId) -> SessionId {
    let mut s = [0; 16];
    s[..8].copy_from_slice(&id.to_be_bytes());
    s
}

impl World {
    /// The first `launchers` hosts know all hosts; the others know the launchers.
    fn new(seed: u64, kinds: &[Kind], launchers: usize) -> Self {
        let mut rng = Rng::new(seed);
        let machines = (0..kinds.len())
            .map(|i| machine(&mut rng, kinds, launchers, i))
            .collect();
        let mut w = Self {
            now: Duration::ZERO,
            rng,
            machines,
            launchers,
            queue: BTreeMap::new(),
            seq: 0,
            launches: BTreeMap::new(),
            next: 1,
            report: 5 * SEC,
            words: true,
            loss: 0,
            chooser: Chooser::Ours,
            turn: Vec::new(),
            told: Vec::new(),
        };
        for i in 0..kinds.len() {
            w.measure(i);
            w.report(i);
            let (a, b) = (
                w.rng.between(Duration::ZERO, SEC),
                w.rng.between(Duration::ZERO, 5 * SEC),
            );
            w.at(a, Event::Measure(i));
            w.at(b, Event::Report(i));
        }
        w
    }

    fn at(&mut self, after: Duration, e: Event) {
        self.seq += 1;
        self.queue.insert((self.now + after, self.seq), e);
    }

    /// A launch at a later time.
    fn launch(&mut self, after: Duration, launcher: usize, work: Work, place: Place) -> AskId {
        let id = self.next;
        self.next += 1;
        let begun = self.now + after;
        let l = Launch {
            launcher,
            work,
            place,
            begun,
            placed: None,
            host: None,
            ended: None,
            refused: 0,
            failed: None,
        };
        self.launches.insert(id, l);
        self.at(after, Event::Launch(id));
        id
    }

    /// Runs until `end`.
    fn run(&mut self, end: Now) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.event(event);
        }
        self.now = end;
    }

    /// Runs until nothing is left to do but to report.
    fn finish(&mut self, limit: Duration) {
        let end = self.now + limit;
        while self
            .launches
            .values()
            .any(|l| l.ended.is_none() && l.failed.is_none())
        {
            assert!(self.now < end, "after {limit:?} there is still something to do");
            self.run(self.now + SEC);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Launch(id) => self.begin(id),
            Event::Arrive(id, host) => self.arrive(id, host),
            Event::Datagram { to, from, message } => {
                self.engine(to, |e, now, out| match message {
                    gossip::Kind::Ask(a) => e.asked(now, &host(from as usize - 1).name, a, out),
                    gossip::Kind::Word(w) => e.said(now, from, w, out),
                    _ => {}
                });
            }
            Event::Finish { host, version } if self.machines[host].version == version => {
                self.advance(host);
                let m = &mut self.machines[host];
                if let Some(((_, id), ())) = m.jobs.pop_first() {
                    self.end(id, host);
                }
                self.plan(host);
            }
            Event::Finish { .. } => {}
            Event::Sleeper(id) => {
                if let Some(h) = self.launches[&id].host {
                    self.end(id, h);
                }
            }
            Event::Measure(i) => {
                self.measure(i);
                self.at(SEC, Event::Measure(i));
            }
            Event::Report(i) => {
                self.report(i);
                self.at(self.report, Event::Report(i));
            }
            Event::Wake(i) => {
                if self.machines[i].wake == Some(self.now) {
                    self.machines[i].wake = None;
                    self.engine(i, |_, _, _| {});
                }
            }
        }
    }

    /// Does something with an engine, and what it wants done.
    fn engine(&mut self, i: usize, f: impl FnOnce(&mut Engine, Now, &mut Effects)) {
        let mut out = Effects::default();
        let e = &mut self.machines[i].engine;
        f(e, self.now, &mut out);
        e.placing_turn(self.now, true, &mut out);
        if let Some(at) = e.placing.wake() {
            let at = at.max(self.now + Duration::from_micros(1));
            if self.machines[i].wake.is_none_or(|w| w > at) {
                self.machines[i].wake = Some(at);
                self.at(at - self.now, Event::Wake(i));
            }
        }
        for e in out.0 {
            self.effect(i, e);
        }
    }

    fn effect(&mut self, i: usize, e: Effect) {
        match e {
            Effect::Datagram { address, message } => {
                let to: usize = address.parse().expect("an address of this world");
                let lost = self.rng.below(100) < self.loss;
                if !lost {
                    let way = self.rng.between(100 * MS / 1000, 400 * MS / 1000);
                    let from = i as u64 + 1;
                    self.at(way, Event::Datagram { to, from, message });
                }
            }
            Effect::Answer { ask, reply } => self.answered(ask, reply),
            Effect::Progress {
                ask,
                reply: reply::Kind::Waiting(w),
            } => self.told.push((ask, w)),
            Effect::KeepDrain(_) | Effect::Log(..) => {}
            other => panic!("{other:?}"),
        }
    }

    fn begin(&mut self, id: AskId) {
        let l = self.launches[&id].clone();
        match self.chooser {
            Chooser::Ours if self.words => {
                self.engine(l.launcher, |e, now, out| e.place(now, id, l.place, out))
            }
            Chooser::Ours => self.engine(l.launcher, |e, now, out| {
                let wanted = e.understand(l.place).expect("understood");
                e.look(now, Look::blind(id, wanted), out);
            }),
            other => {
                let host = self.choose(other, l.launcher);
                self.go(id, host);
            }
        }
    }

    /// The others, for comparison.
    fn choose(&mut self, chooser: Chooser, launcher: usize) -> usize {
        let all = 0..self.machines.len();
        match chooser {
            Chooser::Random => {
                let weights: Vec<f64> = self
                    .machines
                    .iter()
                    .map(|m| f64::from(m.kind.cores) * m.kind.power)
                    .collect();
                super::place::draw(&weights, &mut self.rng).expect("there are hosts")
            }
            Chooser::RoundRobin => {
                if self.turn.is_empty() {
                    // Each host as often as it has cores, well mixed.
                    let mut turn: Vec<usize> = all
                        .flat_map(|i| std::iter::repeat_n(i, self.machines[i].kind.cores as usize))
                        .collect();
                    for k in (1..turn.len()).rev() {
                        turn.swap(k, self.rng.below(k + 1));
                    }
                    self.turn = turn;
                }
                self.turn.rotate_left(1);
                self.turn[0]
            }
            Chooser::LoadAverage | Chooser::Ours => {
                let e = &self.machines[launcher].engine;
                let load = |i: &usize| {
                    let l = e
                        .known(self.now, &host(*i).name)
                        .and_then(|h| h.load)
                        .unwrap_or_default()
                        .1;
                    let k = self.machines[*i].kind;
                    l.load1 / (f64::from(k.cores) * k.power)
                };
                all.min_by(|a, b| load(a).total_cmp(&load(b)))
                    .expect("there are hosts")
            }
        }
    }

    /// The launch goes to a host; that takes a few milliseconds.
    fn go(&mut self, id: AskId, host: usize) {
        let l = self.launches.get_mut(&id).expect("a launch");
        l.placed = Some(self.now);
        let way = self.rng.between(2 * MS, 6 * MS);
        self.at(way, Event::Arrive(id, host));
    }

    fn answered(&mut self, ask: AskId, reply: reply::Kind) {
        match reply {
            reply::Kind::Placed(p) => {
                let host = p.host[1..].parse().expect("a host of this world");
                self.go(ask, host);
            }
            reply::Kind::Error(e) => {
                self.launches.get_mut(&ask).expect("a launch").failed = Some(e.code());
            }
            other => panic!("{other:?}"),
        }
    }

    fn arrive(&mut self, id: AskId, host: usize) {
        let l = self.launches[&id].clone();
        let need = l.place.need.clone().unwrap_or_default();
        let mut out = Effects::default();
        let from_here = l.launcher == host;
        let grant = (1 << 40) + id;
        self.machines[host]
            .engine
            .grant(self.now, grant, need.clone(), from_here, &mut out);
        let granted = out.0.into_iter().find_map(|e| match e {
            Effect::Answer { reply, .. } => Some(reply),
            _ => None,
        });
        let e = &self.machines[host].engine;
        let load = e.current_load(self.now);
        let beyond = load.cores_reserved > e.facts.cores || load.mem_reserved > e.facts.mem;
        assert!(!beyond, "granted beyond what there is: {load:?}");
        let refused = matches!(granted, Some(reply::Kind::Error(_)));
        assert!(
            refused || e.drain.is_none() || need.by_name,
            "a drained host granted"
        );
        if refused {
            let l = self.launches.get_mut(&id).expect("a launch");
            l.refused += 1;
            l.place.avoid.push(super::herd::host(host).name);
            return self.at(2 * MS, Event::Launch(id));
        }
        self.launches.get_mut(&id).expect("a launch").host = Some(host);
        self.engine(host, |e, now, _| e.started(now, Some(grant), session(id), need));
        match l.work {
            Work::Sleep(d) => self.at(d, Event::Sleeper(id)),
            Work::Cpu(size) => {
                self.advance(host);
                let m = &mut self.machines[host];
                m.jobs.insert(((m.served + size).to_bits(), id), ());
                self.plan(host);
            }
        }
    }

    fn end(&mut self, id: AskId, host: usize) {
        self.launches.get_mut(&id).expect("a launch").ended = Some(self.now);
        self.engine(host, |e, now, _| e.ended(now, &session(id)));
    }

    /// Brings a machine's figures up to now.
    fn advance(&mut self, i: usize) {
        let m = &mut self.machines[i];
        let dt = (self.now - m.at).as_secs_f64();
        let n = m.jobs.len() as f64 + m.kind.base;
        m.served += dt * m.speed();
        m.running = n + (m.running - n) * (-dt / 5.0).exp();
        m.load1 = n + (m.load1 - n) * (-dt / 60.0).exp();
        m.at = self.now;
    }

    /// When the next command there is done.
    fn plan(&mut self, i: usize) {
        let m = &mut self.machines[i];
        m.version += 1;
        let version = m.version;
        if let Some(((done, _), ())) = m.jobs.first_key_value() {
            let left = (f64::from_bits(*done) - m.served).max(0.0) / m.speed();
            self.at(Duration::from_secs_f64(left), Event::Finish { host: i, version });
        }
    }

    fn measure(&mut self, i: usize) {
        self.advance(i);
        let m = &mut self.machines[i];
        let load = Load {
            load1: m.load1,
            running: m.running,
            cores: m.kind.cores,
            mem_total: 8 * GIB,
            mem_available: 8 * GIB,
            disk_free: 100 * GIB,
            ..Load::default()
        };
        let now = self.now;
        m.engine.load = Some((now, load));
    }

    /// A host tells the launchers how it is.
    fn report(&mut self, i: usize) {
        let load = self.machines[i].engine.current_load(self.now);
        let now = self.now;
        for j in (0..self.launchers).filter(|j| *j != i) {
            let e = &mut self.machines[j].engine;
            e.peers.get_mut(&host(i).name).expect("known").load = Some((now, load));
        }
    }

    /// How many launches each host got.
    fn counts(&self) -> Vec<usize> {
        let mut n = vec![0; self.machines.len()];
        for h in self.launches.values().filter_map(|l| l.host) {
            n[h] += 1;
        }
        n
    }

    /// Mean slowdown of commands that began from `from` on.
    fn slowdown(&self, from: Now) -> f64 {
        let late = self.launches.values().filter(|l| l.begun >= from);
        let all: Vec<f64> = late
            .filter_map(|l| match (l.work, l.ended) {
                (Work::Cpu(size), Some(end)) => Some((end - l.begun).as_secs_f64() / size),
                _ => None,
            })
            .collect();
        all.iter().sum::<f64>() / all.len() as f64
    }
}

impl Machine {
    /// Service that each command gets in a second.
    fn speed(&self) -> f64 {
        let n = self.jobs.len() as f64 + self.kind.base;
        self.kind.power * (f64::from(self.kind.cores) / n.max(1e-9)).min(1.0)
    }
}

fn machine(rng: &mut Rng, kinds: &[Kind], launchers: usize, i: usize) -> Machine {
    let others = 0..if i < launchers { kinds.len() } else { launchers };
    let entry = |j| Entry {
        host: host(j),
        address: j.to_string(),
        authority: false,
    };
    let mut engine = Engine::new(
        Duration::ZERO,
        Setup {
            own: host(i),
            cluster: "sim".into(),
            authority: false,
            boot: vec![1],
            epoch: 1,
            dial_self: i.to_string(),
            advertised: i.to_string(),
            version: "0".into(),
            members: others.filter(|j| *j != i).map(entry).collect(),
            revoked: Revoked::default(),
            drain: None,
            seed: rng.next(),
        },
    );
    let facts = |k: Kind| Facts {
        version: 1,
        cores: k.cores,
        mem: 8 * GIB,
        disk: 100 * GIB,
        power: k.power,
        ..Facts::default()
    };
    for p in engine.peers.values_mut() {
        p.state = HostState::Up;
        p.facts = Some(facts(kinds[p.host.serial as usize - 1]));
    }
    engine.facts = facts(kinds[i]);
    engine.monitor = true;
    Machine {
        engine,
        kind: kinds[i],
        served: 0.0,
        at: Duration::ZERO,
        jobs: BTreeMap::new(),
        running: kinds[i].base,
        load1: kinds[i].base,
        version: 0,
        wake: None,
    }
}
