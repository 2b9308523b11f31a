//! What goes wrong in the simulated world, and what people do in it.

use super::net::Side;
use super::world::{Event, World};
use crate::engine::jobs::types::AgentInput;
use libqueue::wire::Need;
use libqueue::wire::job::{
    Act, After, AfterHow, Array, Change, Dedupe, Deed, IdRange, Key, LimitUse, Plan, Restart, Run, Selection,
    State, Submit, TaskRange, query,
};
use prost::Message as _;

/// Units of the one limit.
pub(super) const UNITS: u32 = 2;
/// Faults and load go on for so long.
pub(super) const STORM: u64 = 60_000;

impl World {
    /// Something goes wrong.
    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let after = self.range(200, 6000);
        self.at(after, Event::Fault);
        let h = self.rng.below(self.hosts.len());
        let time = self.range(100, 30_000);
        match self.rng.below(14) {
            0 => self.restart_queued(0),
            1 => self.restart_queued(h),
            2 => self.stop_exec(h),
            3 if self.hosts[h].power => self.power_off(h),
            4 | 5 if self.hosts[h].power => self.freeze(h, time),
            6 => self.hosts[h].wall = self.rng.next() as i64 % 100_000_000,
            7 => {
                self.hosts[h].disk_full = true;
                self.at(time, Event::DiskBack(h));
            }
            8 | 9 => self.cut(h, time * 2),
            10 => self.flap(h, Side::Agent),
            11 => self.flap(h, Side::Leader),
            12 => {
                if let Some(conn) = self.hosts[h].conn {
                    self.fall_silent(conn);
                }
            }
            _ => {
                self.hosts[h].busy = self.rng.below(self.hosts[h].cores as usize + 1) as u32;
                self.hosts[h].draining = self.chance(20);
                self.tell_view(h);
            }
        }
    }

    fn restart_queued(&mut self, h: usize) {
        if self.hosts[h].daemon.is_some() {
            self.stop_daemon(h);
            if h == 0 {
                self.stop_lead();
            }
            let after = self.range(50, 8000);
            self.at(after, Event::StartQueued(h));
        }
    }

    fn freeze(&mut self, h: usize, time: u64) {
        self.tell(|| format!("h{h} is frozen for {time}"));
        self.hosts[h].frozen = self.hosts[h].frozen.max(self.now + time);
        self.at(5000, Event::Member(h));
        self.at(time + 1000, Event::Member(h));
    }

    fn flap(&mut self, h: usize, side: Side) {
        if let Some(conn) = self.hosts[h].conn {
            self.ends(conn, side);
        }
    }

    /// People submit jobs and do things with them.
    pub(super) fn load(&mut self) {
        if self.calm {
            return;
        }
        let after = self.range(100, 5000);
        self.at(after, Event::Load);
        if self.chance(65) {
            for _ in 0..=self.rng.below(3) {
                self.submit();
            }
        } else {
            self.act();
        }
    }

    fn submit(&mut self) {
        let h = self.rng.below(self.hosts.len());
        if self.hosts[h].daemon.is_none() || self.hosts[h].frozen > self.now {
            return;
        }
        let plan = self.plan(h);
        let run = Run {
            argv: vec![b"true".to_vec()],
            submit_host: self.hosts[h].name.clone(),
            cwd: b"/".to_vec(),
            nonce: self.rng.next().to_be_bytes().to_vec(),
            array: plan.array.is_some(),
            ..Run::default()
        };
        self.asked += 1;
        let ask = self.asked * 8 + h as u64;
        self.submitting.insert(ask);
        let submit = Box::new(Submit {
            run: run.encode_to_vec(),
            plan: Some(plan),
            owner: "alice".to_owned(),
            ..Submit::default()
        });
        self.agent(h, AgentInput::Submit { ask, submit });
    }

    fn plan(&mut self, h: usize) -> Plan {
        let mut plan = Plan {
            name: format!("j{}", self.asked),
            need: Some(Need {
                cores: self.range(0, 1) as u32 + u32::from(self.chance(20)),
                ..Need::default()
            }),
            retries: self.chance(60).then(|| self.rng.below(4) as u32),
            mail: Some(0),
            hold: self.chance(5),
            priority: self.chance(30).then(|| self.rng.below(5) as i32 - 2),
            ..Plan::default()
        };
        match self.rng.below(5) {
            0 | 1 => {
                plan.restart = Restart::Restart as i32;
                plan.lease_ms = self.range(3000, 40_000);
            }
            2 => plan.restart = Restart::Fail as i32,
            3 => plan.restart = Restart::Ask as i32,
            _ => {}
        }
        if self.chance(25) {
            plan.array = Some(Array {
                ranges: vec![TaskRange {
                    from: 1,
                    to: self.range(1, 6) as u32,
                    step: 1,
                }],
                at_once: self.rng.below(4) as u32,
            });
        }
        if self.chance(25) {
            plan.limits.push(LimitUse {
                name: "license".to_owned(),
                total: Some(UNITS),
            });
        }
        if self.chance(20)
            && let Some(job) = self.some_job()
        {
            let how = [AfterHow::Ok, AfterHow::Any, AfterHow::Fail][self.rng.below(3)];
            plan.after.push(After {
                jobs: Some(Self::only(job)),
                how: how as i32,
            });
        }
        if self.chance(10) {
            plan.dedupe = Some(Dedupe {
                identity: vec![self.rng.below(3) as u8; 32],
                window_ms: if self.chance(50) { 20_000 } else { 0 },
            });
        }
        if self.chance(15) {
            plan.parent = self.some_running(h);
        }
        if self.chance(10) {
            plan.at_ms = self.clock(0).wall + self.range(0, 20_000);
        }
        plan
    }

    fn only(job: u64) -> Selection {
        Selection {
            ids: vec![IdRange {
                from: job,
                to: job,
                tasks: None,
            }],
            ..Selection::default()
        }
    }

    fn some_job(&mut self) -> Option<u64> {
        let n = self.rng.below(self.acked.len());
        self.acked.iter().nth(n).copied()
    }

    fn some_running(&mut self, h: usize) -> Option<Key> {
        let live = self.hosts[h].exec.sessions.iter().filter(|(_, s)| s.live);
        let live: Vec<Key> = live.map(|(k, _)| *k).collect();
        live.get(self.rng.below(live.len())).copied()
    }

    fn act(&mut self) {
        let Some(job) = self.some_job() else { return };
        let mut act = Act {
            which: Some(Self::only(job)),
            ..Act::default()
        };
        let deed = match self.rng.below(12) {
            0..=2 => Deed::Kill,
            3 => Deed::Hold,
            4 => Deed::Release,
            5 => Deed::Suspend,
            6 => Deed::Resume,
            7..=9 => Deed::Retry,
            10 => Deed::Delete,
            _ => Deed::Modify,
        };
        if deed == Deed::Retry {
            self.retried.insert(job);
        }
        if deed == Deed::Retry && self.chance(30) {
            act.may_double = true;
            self.doubled.insert(job);
        }
        if deed == Deed::Modify {
            act.change = Some(Change {
                priority: Some(self.rng.below(7) as i32),
                retries: Some(self.rng.below(4) as u32),
                ..Change::default()
            });
        }
        act.deed = deed as i32;
        self.ask(query::Kind::Act(act));
    }

    /// Nothing goes wrong any more, and nothing is held or stopped.
    pub(super) fn quieter(&mut self) {
        if !std::mem::replace(&mut self.calm, true) {
            self.tell(|| "all faults are over".to_owned());
            for h in 0..self.hosts.len() {
                let host = &mut self.hosts[h];
                host.busy = 0;
                // No job waits for a time of the day that a clock was sent away from.
                host.wall = 100_000_000;
                host.draining = false;
                host.disk_full = false;
                host.cut = host.cut.min(self.now + 1000);
                self.tell_view(h);
                self.at(2000, Event::Member(h));
            }
        }
        let story = self.story.take();
        // Who waits for a buried job waits until somebody decides.
        let states = [State::Buried as i32];
        for (deed, states) in [
            (Deed::Release, &[][..]),
            (Deed::Resume, &[][..]),
            (Deed::Kill, &states[..]),
        ] {
            let act = Act {
                deed: deed as i32,
                which: Some(Selection {
                    all: true,
                    states: states.to_vec(),
                    ..Selection::default()
                }),
                ..Act::default()
            };
            self.ask(query::Kind::Act(act));
        }
        self.story = story;
        self.at(30_000, Event::Quieter);
    }
}
