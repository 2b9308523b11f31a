//! The simulated world: real engines, virtual time, and everything that can go wrong between them. Time is in
//! milliseconds; each host has clocks of its own, a little fast or slow. What happens next is in one list, so that a
//! history is repeated by its seed.

use super::exec::{Exec, Phase};
use super::lead::Lead;
use super::net::{Conn, Side};
use super::store::Spool;
use crate::engine::jobs::agent::Agent;
use crate::engine::jobs::types::{AgentEffect, AgentInput, Clock};
use crate::engine::rng::Rng;
use crate::store::SpoolOp;
use libqueue::wire::job::Key;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The wall clock's time at the beginning.
const WALL: u64 = 1_800_000_000_000;

/// A rule that does not hold in this world: the checks must see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// All hold.
    Nothing,
    /// Hosts take dispatches of connections that are gone.
    Links,
    /// The leader's clock runs so fast that there is no margin left.
    Margin,
    /// queue-exec forgets at its restart what it had, and not that it is the same.
    Journal,
    /// Effects do not wait for the commit.
    Commit,
    /// The spool is lost when the daemon ends.
    Spool,
    /// Hosts grant whatever is asked.
    Grants,
}

/// What can happen.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A timer of the leader, and of an agent.
    LeadTick(u64),
    AgentTick(usize, u64),
    /// The first message of a connection arrives.
    Arrives(u64, Side),
    /// One end of a connection gives it up, if nothing comes through.
    GiveUp(u64, Side),
    LeadCommit(u64),
    SpoolCommit(usize, u64),
    /// A daemon tries to connect.
    Connect(usize, u64),
    /// The first request to queue-exec, and the first thing that it says.
    ExecTakes(usize, u64),
    ExecSays(usize, u64),
    Grant(usize, u64, Key),
    Session(usize, Key, Phase),
    /// Something is told to an agent later.
    Later(usize, u64, AgentInput),
    Fault,
    Load,
    /// Membership looks at a host.
    Member(usize),
    StartLead,
    StartQueued(usize),
    StartExec(usize),
    PowerOn(usize),
    DiskBack(usize),
    Quieter,
}

/// A daemon's agent.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) engine: Agent,
    effects: VecDeque<AgentEffect>,
    /// So many spool operations of `effects` are being written, or are written.
    writing: usize,
    written: usize,
    tick: u64,
}

/// A host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) cores: u32,
    /// Speed of its clock in thousandths, what it showed, and when.
    pub(super) rate: u64,
    pub(super) booted: (u64, u64),
    pub(super) wall: i64,
    pub(super) power: bool,
    /// Nothing of it moves until then; nothing reaches the leader until then.
    pub(super) frozen: u64,
    pub(super) cut: u64,
    pub(super) disk_full: bool,
    pub(super) draining: bool,
    pub(super) daemon: Option<Daemon>,
    /// Number of the daemon's life.
    pub(super) life: u64,
    pub(super) spool: Spool,
    pub(super) exec: Exec,
    /// Its connection with the leader.
    pub(super) conn: Option<u64>,
    pub(super) last_link: u64,
    /// What was granted: cores, and in whose slot.
    pub(super) grants: BTreeMap<Key, (u32, Option<Key>)>,
    /// Cores that interactive sessions use.
    pub(super) busy: u32,
    pub(super) dead: bool,
}

/// All of it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: u64,
    events: BTreeMap<(u64, u64), Event>,
    number: u64,
    pub(super) steps: u64,
    pub(super) hosts: Vec<Host>,
    pub(super) conns: BTreeMap<u64, Conn>,
    pub(super) lead: Lead,
    pub(super) broken: Broken,
    /// No more faults, no more load.
    pub(super) calm: bool,
    /// Questions: number of the last one, and submissions that wait.
    pub(super) asked: u64,
    pub(super) submitting: BTreeSet<u64>,
    /// Jobs whose submission was answered, and those that may run twice.
    pub(super) acked: BTreeSet<u64>,
    pub(super) acked_seen: usize,
    /// Those of them that were other jobs.
    others: BTreeSet<u64>,
    pub(super) doubled: BTreeSet<u64>,
    /// Jobs that somebody started again: they no longer wait for anything.
    pub(super) retried: BTreeSet<u64>,
    /// Commands that ended well.
    pub(super) well: BTreeSet<Key>,
    pub(super) commands: u64,
    /// What happened, if somebody wants to read it.
    pub(super) story: Option<VecDeque<String>>,
}

impl World {
    pub(super) fn new(seed: u64, broken: Broken, tell: bool) -> Self {
        let mut rng = Rng::new(seed);
        let n = 2 + rng.below(5);
        let hosts = (0..n).map(|i| Host::new(i, &mut rng)).collect();
        let mut w = Self {
            rng,
            now: 0,
            events: BTreeMap::new(),
            number: 0,
            steps: 0,
            hosts,
            conns: BTreeMap::new(),
            lead: Lead::new(),
            broken,
            calm: false,
            asked: 0,
            submitting: BTreeSet::new(),
            acked: BTreeSet::new(),
            acked_seen: 0,
            others: BTreeSet::new(),
            doubled: BTreeSet::new(),
            retried: BTreeSet::new(),
            well: BTreeSet::new(),
            commands: 0,
            story: tell.then(VecDeque::new),
        };
        w.start_lead();
        for h in 0..n {
            w.start_daemon(h);
        }
        w.at(0, Event::Load);
        w.at(0, Event::Fault);
        w
    }

    pub(super) fn tell(&mut self, text: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push_back(format!("{:>9} {}", self.now, text()));
            if story.len() > 20_000 {
                story.pop_front();
            }
        }
    }

    /// Something happens after so long.
    pub(super) fn at(&mut self, after: u64, event: Event) {
        self.number += 1;
        self.events.insert((self.now + after, self.number), event);
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.rng.below(100) < percent
    }

    /// A number from `low` to `high`.
    pub(super) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.rng.next() % (high - low + 1)
    }

    pub(super) fn clock(&self, h: usize) -> Clock {
        let host = &self.hosts[h];
        Clock {
            boot: host.boot(self.now),
            wall: (WALL + self.now).saturating_add_signed(host.wall),
        }
    }

    /// The host on which something happens: it waits while that one is frozen.
    fn place(&self, event: &Event) -> Option<usize> {
        match event {
            Event::LeadTick(_)
            | Event::LeadCommit(_)
            | Event::StartLead
            | Event::Arrives(_, Side::Leader) => Some(0),
            Event::Arrives(c, Side::Agent) => self.conns.get(c).map(|c| c.host),
            Event::AgentTick(h, _)
            | Event::SpoolCommit(h, _)
            | Event::Connect(h, _)
            | Event::ExecTakes(h, _)
            | Event::ExecSays(h, _)
            | Event::Grant(h, ..)
            | Event::Session(h, ..)
            | Event::Later(h, ..)
            | Event::StartQueued(h)
            | Event::StartExec(h) => Some(*h),
            _ => None,
        }
    }

    /// The next thing happens. `false`: nothing is left.
    pub(super) fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.events.pop_first() else {
            return false;
        };
        self.now = at;
        let frozen = self.place(&event).map_or(0, |h| self.hosts[h].frozen);
        if frozen > self.now {
            // Sessions are ended by their own timers first.
            let later = if matches!(event, Event::Session(..)) { 0 } else { 1 };
            self.at(frozen - self.now + later, event);
            return true;
        }
        self.steps += 1;
        self.happen(event);
        self.check();
        true
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::LeadTick(life) => self.lead_tick(life),
            Event::AgentTick(h, life) => self.agent_tick(h, life),
            Event::Arrives(conn, side) => self.arrives(conn, side),
            Event::GiveUp(conn, side) => self.gives_up(conn, side),
            Event::LeadCommit(life) => self.lead_committed(life),
            Event::SpoolCommit(h, life) => self.spool_committed(h, life),
            Event::Connect(h, life) => self.connect(h, life),
            Event::ExecTakes(h, life) => self.exec_takes(h, life),
            Event::ExecSays(h, life) => self.exec_says(h, life),
            Event::Grant(h, life, key) => self.grant(h, life, key),
            Event::Session(h, key, phase) => self.session(h, key, phase),
            Event::Later(h, life, input) => {
                if self.hosts[h].life == life {
                    self.agent(h, input);
                }
            }
            Event::Fault => self.fault(),
            Event::Load => self.load(),
            Event::Member(h) => self.member(h),
            Event::StartLead => self.start_lead(),
            Event::StartQueued(h) => {
                if self.hosts[h].power && self.hosts[h].daemon.is_none() {
                    self.start_daemon(h);
                }
                if h == 0 {
                    self.start_lead();
                }
            }
            Event::StartExec(h) => self.start_exec(h),
            Event::PowerOn(h) => self.power_on(h),
            Event::DiskBack(h) => self.hosts[h].disk_full = false,
            Event::Quieter => self.quieter(),
        }
    }

    /// A host's daemon starts, from its spool.
    pub(super) fn start_daemon(&mut self, h: usize) {
        let clock = self.clock(h);
        let host = &mut self.hosts[h];
        if self.broken == Broken::Spool {
            host.spool = Spool::default();
        }
        host.life += 1;
        host.daemon = Some(Daemon {
            engine: Agent::new(clock, &host.name, host.spool.load()),
            effects: VecDeque::new(),
            writing: 0,
            written: 0,
            tick: 0,
        });
        let life = host.life;
        self.grants_anew(h);
        self.tell(|| format!("h{h} queued starts"));
        self.agent(h, AgentInput::Mailer(h == 1));
        if self.hosts[h].exec.up {
            self.exec_tells(h);
        }
        let after = self.range(1, 300);
        self.at(after, Event::Connect(h, life));
        self.at(1000, Event::Member(h));
    }

    /// It is killed. A write that is under way is done, or not.
    pub(super) fn stop_daemon(&mut self, h: usize) {
        let lucky = self.chance(50);
        let host = &mut self.hosts[h];
        let Some(daemon) = host.daemon.take() else { return };
        host.life += 1;
        let writing: Vec<_> = daemon.spool_ops().take(daemon.writing).collect();
        if lucky && !host.disk_full {
            host.spool.commit(&writing);
        }
        self.submitting.retain(|ask| *ask % 8 != h as u64);
        if let Some(conn) = self.hosts[h].conn.take() {
            self.close(conn, Side::Agent, true);
        }
        self.exec_unwatched(h);
        self.tell(|| format!("h{h} queued is killed"));
        self.at(5000, Event::Member(h));
    }

    /// Something happens to an agent.
    pub(super) fn agent(&mut self, h: usize, input: AgentInput) {
        let clock = self.clock(h);
        if self.story.is_some() && input != AgentInput::Tick {
            let text = format!("h{h} <- {input:?}");
            self.tell(|| text);
        }
        let Some(daemon) = &mut self.hosts[h].daemon else {
            return;
        };
        let mut out = Vec::new();
        daemon.engine.handle(clock, input, &mut out);
        daemon.effects.extend(out);
        self.carry_out(h);
        self.set_tick(h);
    }

    fn set_tick(&mut self, h: usize) {
        let now = self.now;
        let host = &mut self.hosts[h];
        let Some(daemon) = &mut host.daemon else { return };
        let Some(wake) = daemon.engine.wake() else { return };
        let due = after(wake, host.booted, host.rate, now);
        if daemon.tick <= now || now + due < daemon.tick {
            daemon.tick = now + due;
            let life = host.life;
            self.at(due, Event::AgentTick(h, life));
        }
    }

    fn agent_tick(&mut self, h: usize, life: u64) {
        let now = self.now;
        let boot = self.clock(h).boot;
        let host = &mut self.hosts[h];
        let Some(daemon) = host.daemon.as_mut().filter(|_| host.life == life) else {
            return;
        };
        if daemon.tick <= now {
            daemon.tick = 0;
        }
        match daemon.engine.wake() {
            Some(wake) if wake <= boot => self.agent(h, AgentInput::Tick),
            _ => self.set_tick(h),
        }
    }

    /// Effects, in order; behind a write only when it is done.
    fn carry_out(&mut self, h: usize) {
        loop {
            let broken = self.broken == Broken::Commit;
            let Some(daemon) = &mut self.hosts[h].daemon else {
                return;
            };
            let Some(effect) = daemon.effects.front() else {
                return;
            };
            if matches!(effect, AgentEffect::Spool(_)) {
                if daemon.written > 0 {
                    daemon.written -= 1;
                } else if broken {
                    // The write comes some time.
                    let AgentEffect::Spool(op) = effect.clone() else {
                        return;
                    };
                    self.hosts[h].spool.commit(&[op]);
                } else {
                    if daemon.writing == 0 {
                        daemon.writing = daemon.spool_ops().count();
                        let (life, time) = (self.hosts[h].life, self.range(1, 20));
                        self.at(time, Event::SpoolCommit(h, life));
                    }
                    return;
                }
                if let Some(daemon) = &mut self.hosts[h].daemon {
                    daemon.effects.pop_front();
                }
                continue;
            }
            let effect = daemon.effects.pop_front();
            if let Some(effect) = effect {
                self.effect(h, effect);
            }
        }
    }

    fn spool_committed(&mut self, h: usize, life: u64) {
        let host = &mut self.hosts[h];
        let Some(daemon) = host.daemon.as_mut().filter(|_| host.life == life) else {
            return;
        };
        if host.disk_full {
            // The engine is dropped and loaded anew; nobody gets an answer.
            daemon.writing = 0;
            self.tell(|| format!("h{h} cannot write its spool"));
            self.stop_daemon(h);
            self.at(500, Event::StartQueued(h));
            return;
        }
        let n = std::mem::take(&mut daemon.writing);
        let ops: Vec<SpoolOp> = daemon.spool_ops().take(n).collect();
        daemon.written = n;
        for op in &ops {
            // It turned out to be a job that was there already.
            let put = |op: &SpoolOp, id: u64| match op {
                SpoolOp::Put(s) => s.id == id && s.plan.as_ref().is_some_and(|p| p.dedupe.is_some()),
                _ => false,
            };
            if let SpoolOp::Gone(id) = op
                && !self.lead.disk.has(*id)
                && (host.spool.is_deduped(*id) || ops.iter().any(|op| put(op, *id)))
            {
                self.acked.remove(id);
                self.others.insert(*id);
            }
        }
        host.spool.commit(&ops);
        self.check_stores();
        self.carry_out(h);
    }

    /// An agent's effect is carried out.
    fn effect(&mut self, h: usize, effect: AgentEffect) {
        if self.story.is_some() {
            let text = format!("h{h} -> {effect:?}");
            self.tell(|| text);
        }
        let life = self.hosts[h].life;
        match effect {
            AgentEffect::Spool(_) | AgentEffect::Log(..) => {}
            AgentEffect::Send(link, message) => self.send_up(h, link, message),
            AgentEffect::Unlink(link) => self.unlink(h, link),
            AgentEffect::Answer(ask, answer) => {
                self.submitting.remove(&ask);
                if let Ok(submitted) = answer
                    && !self.others.contains(&submitted.id)
                {
                    self.acked.insert(submitted.id);
                }
            }
            AgentEffect::Grant { key, need, lent } => {
                self.hosts[h].exec.wanted = Some((key, need, lent));
                let after = self.range(0, 2);
                self.at(after, Event::Grant(h, life, key));
            }
            AgentEffect::Ungrant(key) => {
                self.hosts[h].grants.remove(&key);
            }
            AgentEffect::Run { .. }
            | AgentEffect::End(_)
            | AgentEffect::Lease(..)
            | AgentEffect::Forget(_) => {
                self.exec_asked(h, effect);
            }
            AgentEffect::Deliver(d) => {
                let delivered = libqueue::wire::job::Delivered {
                    number: d.number,
                    failed: if self.chance(30) {
                        "not reached".to_owned()
                    } else {
                        String::new()
                    },
                    hopeless: false,
                };
                let after = self.range(5, 500);
                self.at(after, Event::Later(h, life, AgentInput::Delivered(delivered)));
            }
            AgentEffect::Mail(l) => {
                let mailed = libqueue::wire::job::Mailed {
                    number: l.number,
                    failed: if self.chance(30) {
                        "not reached".to_owned()
                    } else {
                        String::new()
                    },
                    hopeless: false,
                };
                let after = self.range(5, 500);
                self.at(after, Event::Later(h, life, AgentInput::Mailed(mailed)));
            }
        }
    }
}

impl Daemon {
    /// Operations that wait to be written.
    fn spool_ops(&self) -> impl Iterator<Item = SpoolOp> {
        self.effects.iter().filter_map(|e| match e {
            AgentEffect::Spool(op) => Some(op.clone()),
            _ => None,
        })
    }
}

impl Host {
    fn new(i: usize, rng: &mut Rng) -> Self {
        Self {
            name: format!("h{i}"),
            // One host at least has room for every job.
            cores: 1 + u32::from(i == 0) + rng.below(4) as u32,
            rate: 995 + rng.below(11) as u64,
            booted: (0, 1000 + rng.next() % 1_000_000),
            wall: 0,
            power: true,
            frozen: 0,
            cut: 0,
            disk_full: false,
            draining: false,
            daemon: None,
            life: 0,
            spool: Spool::default(),
            exec: Exec::new(rng),
            conn: None,
            last_link: 0,
            grants: BTreeMap::new(),
            busy: 0,
            dead: false,
        }
    }

    /// Its clock since it was switched on.
    pub(super) fn boot(&self, now: u64) -> u64 {
        let (at, showed) = self.booted;
        showed + (now - at) * self.rate / 1000
    }
}

/// How long it takes until a clock shows this.
pub(super) fn after(wake: u64, booted: (u64, u64), rate: u64, now: u64) -> u64 {
    let (at, showed) = booted;
    let due = at + (wake.saturating_sub(showed) * 1000).div_ceil(rate);
    due.saturating_sub(now).max(1)
}
