//! The leader in the simulated world, with its store: effects wait for the commit before them, a commit that fails
//! ends the engine.

use super::net::Side;
use super::store::Disk;
use super::world::{Broken, Event, World, after};
use crate::engine::jobs::leader::Leader;
use crate::engine::jobs::types::{Asker, Clock, HostView, LeaderEffect, LeaderInput};
use crate::store::Op;
use libqueue::wire::job::{Deliver, JobRun, down, query};
use libqueue::wire::{Facts, Load};
use std::collections::VecDeque;

/// The engine and what it wants done.
#[derive(Debug)]
struct Proc {
    engine: Leader,
    effects: VecDeque<LeaderEffect>,
    writing: usize,
    written: usize,
    tick: u64,
}

/// The leader.
#[derive(Debug)]
pub(super) struct Lead {
    proc: Option<Proc>,
    life: u64,
    conns: u64,
    pub(super) disk: Disk,
}

impl Lead {
    pub(super) fn new() -> Self {
        Self {
            proc: None,
            life: 0,
            conns: 0,
            disk: Disk::new(),
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.proc.is_some()
    }

    pub(super) fn new_conn(&mut self) -> u64 {
        self.conns += 1;
        self.conns
    }
}

impl Proc {
    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.effects.iter().filter_map(|e| match e {
            LeaderEffect::Store(op) => Some(op),
            _ => None,
        })
    }
}

impl World {
    fn lead_clock(&self) -> Clock {
        let mut clock = self.clock(0);
        if self.broken == Broken::Margin {
            clock.boot = clock.boot * 3 / 2;
        }
        clock
    }

    pub(super) fn start_lead(&mut self) {
        if self.lead.proc.is_some() || !self.hosts[0].power {
            return;
        }
        let (clock, seed) = (self.lead_clock(), self.rng.next());
        let mut out = Vec::new();
        let engine = Leader::new(clock, "h0", self.lead.disk.load(), seed, &mut out);
        self.tell(|| "the leader starts".to_owned());
        self.lead.life += 1;
        self.lead.proc = Some(Proc {
            engine,
            effects: out.into(),
            writing: 0,
            written: 0,
            tick: 0,
        });
        self.leader(LeaderInput::Classes(Vec::new()));
        let views = (0..self.hosts.len()).map(|h| self.view(h)).collect();
        self.leader(LeaderInput::Hosts(views));
    }

    /// It is killed. A write that is under way is done, or not.
    pub(super) fn stop_lead(&mut self) {
        let lucky = self.chance(50) && !self.hosts[0].disk_full;
        let Some(proc) = self.lead.proc.take() else { return };
        self.lead.life += 1;
        self.tell(|| format!("the leader is killed; what it was writing is there: {lucky}"));
        if lucky {
            let ops: Vec<Op> = proc.ops().take(proc.writing).cloned().collect();
            self.lead.disk.commit(&ops);
        }
        let open: Vec<u64> = self
            .conns
            .iter()
            .filter(|(_, c)| c.leader)
            .map(|(id, _)| *id)
            .collect();
        for id in open {
            self.close(id, Side::Leader, true);
        }
    }

    /// Something happens to the leader.
    pub(super) fn leader(&mut self, input: LeaderInput) {
        let clock = self.lead_clock();
        if self.story.is_some() && input != LeaderInput::Tick {
            let text = format!("leader <- {input:?}");
            self.tell(|| text);
        }
        let Some(proc) = &mut self.lead.proc else { return };
        let mut out = Vec::new();
        proc.engine.handle(clock, input, &mut out);
        proc.engine.check();
        proc.effects.extend(out);
        self.lead_carries_out();
        self.lead_set_tick();
    }

    fn lead_set_tick(&mut self) {
        let (now, life) = (self.now, self.lead.life);
        let (booted, mut rate) = (self.hosts[0].booted, self.hosts[0].rate);
        let Some(proc) = &mut self.lead.proc else { return };
        let Some(mut wake) = proc.engine.wake() else {
            return;
        };
        if self.broken == Broken::Margin {
            wake = (wake * 2).div_ceil(3);
            rate = rate.max(1);
        }
        let due = after(wake, booted, rate, now);
        if proc.tick <= now || now + due < proc.tick {
            proc.tick = now + due;
            self.at(due, Event::LeadTick(life));
        }
    }

    pub(super) fn lead_tick(&mut self, life: u64) {
        let (now, boot) = (self.now, self.lead_clock().boot);
        let Some(proc) = self.lead.proc.as_mut().filter(|_| self.lead.life == life) else {
            return;
        };
        if proc.tick <= now {
            proc.tick = 0;
        }
        match proc.engine.wake() {
            Some(wake) if wake <= boot => self.leader(LeaderInput::Tick),
            _ => self.lead_set_tick(),
        }
    }

    fn lead_carries_out(&mut self) {
        loop {
            let broken = self.broken == Broken::Commit;
            let Some(proc) = &mut self.lead.proc else { return };
            let Some(effect) = proc.effects.front() else {
                return;
            };
            if !matches!(effect, LeaderEffect::Store(_)) {
                if let Some(effect) = proc.effects.pop_front() {
                    self.lead_effect(effect);
                }
                continue;
            }
            if proc.written > 0 {
                proc.written -= 1;
                proc.effects.pop_front();
                continue;
            }
            if proc.writing == 0 {
                proc.writing = proc.ops().count();
                let (life, time) = (self.lead.life, self.range(1, 20));
                self.at(time, Event::LeadCommit(life));
            }
            if broken {
                self.lead_runs_ahead();
            }
            return;
        }
    }

    /// What waits for the commit is done before it.
    fn lead_runs_ahead(&mut self) {
        let Some(proc) = &mut self.lead.proc else { return };
        let all = std::mem::take(&mut proc.effects);
        let (ops, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|e| matches!(e, LeaderEffect::Store(_)));
        proc.effects = ops.into();
        for effect in others {
            self.lead_effect(effect);
        }
    }

    pub(super) fn lead_committed(&mut self, life: u64) {
        let full = self.hosts[0].disk_full;
        let Some(proc) = self.lead.proc.as_mut().filter(|_| self.lead.life == life) else {
            return;
        };
        if full {
            proc.writing = 0;
            self.tell(|| "the leader cannot write".to_owned());
            self.stop_lead();
            self.at(500, Event::StartLead);
            return;
        }
        let n = std::mem::take(&mut proc.writing);
        proc.written = n;
        let ops: Vec<Op> = proc.ops().take(n).cloned().collect();
        if self.story.is_some() {
            let text = format!("on disk: {ops:?}");
            self.tell(|| text);
        }
        self.lead.disk.commit(&ops);
        self.check_stores();
        self.lead_carries_out();
    }

    fn lead_effect(&mut self, effect: LeaderEffect) {
        if self.story.is_some() {
            let text = format!("leader -> {effect:?}");
            self.tell(|| text);
        }
        let run = |job: u64| JobRun {
            job,
            ..JobRun::default()
        };
        match effect {
            LeaderEffect::Send { conn, message } => self.send_down(conn, message),
            LeaderEffect::Dispatch {
                conn,
                mut dispatch,
                runs,
                ..
            } => {
                dispatch.runs = runs.into_iter().map(run).collect();
                self.send_down(conn, down::Kind::Dispatch(dispatch));
            }
            LeaderEffect::Deliver {
                conn,
                job,
                from,
                number,
            } => {
                let deliver = Deliver {
                    run: Some(run(job)),
                    from,
                    number,
                };
                self.send_down(conn, down::Kind::Deliver(deliver));
            }
            LeaderEffect::Close { conn, .. } => self.close(conn, Side::Leader, false),
            _ => {}
        }
    }

    fn view(&self, h: usize) -> HostView {
        let host = &self.hosts[h];
        HostView {
            name: host.name.clone(),
            dead: host.dead,
            facts: Some(Facts {
                version: 1,
                cores: host.cores,
                mem: 8 << 30,
                disk: 8 << 30,
                ..Facts::default()
            }),
            load: Some(Load {
                cores: host.cores,
                draining: host.draining,
                ..Load::default()
            }),
        }
    }

    /// Membership looks at a host.
    pub(super) fn member(&mut self, h: usize) {
        let host = &self.hosts[h];
        let dead = !host.power || host.daemon.is_none() || host.cut > self.now || host.frozen > self.now;
        if dead != host.dead {
            self.hosts[h].dead = dead;
            self.tell_view(h);
        }
    }

    pub(super) fn tell_view(&mut self, h: usize) {
        let view = self.view(h);
        self.leader(LeaderInput::Hosts(vec![view]));
    }

    /// Somebody wants something done.
    pub(super) fn ask(&mut self, query: query::Kind) {
        self.asked += 1;
        let who = Asker {
            user: "alice".to_owned(),
            host: "h1".to_owned(),
            operator: false,
        };
        let ask = self.asked * 8 + 7;
        self.leader(LeaderInput::Ask { ask, who, query });
    }
}
