//! The leader, driven by hand: a store in memory, hosts that say what the test says.

use super::*;
use crate::engine::jobs::types::{Asker, HostView};
use crate::store::memory::MemoryStore;
use crate::store::{JobStore as _, TaskRow};
use libqueue::wire::job::{
    Act, Acted, After, AfterHow, Array, Attempt, Cause, Dedupe, Deed, EndedAttempt, Held, IdRange, LimitUse,
    Outcome, Plan, Renew, Restart, Running, Selection, StartedAttempt, StoppedAttempt, Submit, TaskRange,
    WorkHello, down, job_reply,
};
use libqueue::wire::{Empty, Facts, Need};

mod acts;
mod deps;
mod home;
mod life;
mod limits;
mod lost;
mod size;

const DAYS: u64 = 20_000 * 86_400_000;

/// A leader, its store and the time.
struct World {
    store: MemoryStore,
    leader: Leader,
    clock: Clock,
    out: Vec<LeaderEffect>,
    conns: u64,
    links: BTreeMap<String, (u64, u64)>,
    lives: BTreeMap<String, u8>,
    next: u64,
}

impl World {
    fn new() -> Self {
        let clock = Clock {
            boot: 1_000_000,
            wall: DAYS,
        };
        let mut store = MemoryStore::default();
        let mut out = Vec::new();
        let leader = Leader::new(clock, "h0", store.load().unwrap(), 7, &mut out);
        let mut w = Self {
            store,
            leader,
            clock,
            out: Vec::new(),
            conns: 0,
            links: BTreeMap::new(),
            lives: BTreeMap::new(),
            next: 1,
        };
        w.keep(out);
        w
    }

    /// With hosts of so many cores, linked; the first has a block of numbers.
    fn with(hosts: &[(&str, u32)]) -> Self {
        let mut w = Self::new();
        for (h, cores) in hosts {
            w.host(h, *cores);
            w.link(h, Vec::new());
        }
        w.block(hosts[0].0);
        w
    }

    fn block(&mut self, host: &str) {
        self.hear(host, up::Kind::WantBlock(Empty {}));
    }

    fn keep(&mut self, out: Vec<LeaderEffect>) {
        for e in &out {
            if let LeaderEffect::Store(op) = e {
                self.store.commit(std::slice::from_ref(op)).unwrap();
            }
        }
        self.leader.check();
        self.out = out;
    }

    fn input(&mut self, input: LeaderInput) {
        let mut out = Vec::new();
        self.leader.handle(self.clock, input, &mut out);
        self.keep(out);
    }

    fn hear(&mut self, host: &str, message: up::Kind) {
        let conn = self.links[host].0;
        self.input(LeaderInput::Heard {
            host: host.into(),
            conn,
            message,
        });
    }

    fn host(&mut self, name: &str, cores: u32) {
        self.view(name, cores, false);
    }

    fn view(&mut self, name: &str, cores: u32, dead: bool) {
        self.input(LeaderInput::Hosts(vec![HostView {
            name: name.into(),
            dead,
            facts: Some(Facts {
                cores,
                mem: 64 << 30,
                disk: 1 << 40,
                power: 1.0,
                ..Facts::default()
            }),
            load: None,
        }]));
    }

    /// A host connects with what it has.
    fn link(&mut self, host: &str, held: Vec<Held>) {
        self.conns += 1;
        let link = 100 + self.conns;
        self.links.insert(host.into(), (self.conns, link));
        self.hello(host, held, true);
    }

    fn hello(&mut self, host: &str, held: Vec<Held>, complete: bool) {
        let hello = WorkHello {
            life: vec![self.lives.get(host).copied().unwrap_or(1); 16],
            link: self.links[host].1,
            epoch: 0,
            held,
            complete,
            mailer: false,
            block_used: 0,
        };
        self.hear(host, up::Kind::Hello(hello));
    }

    fn unlink(&mut self, host: &str) {
        let (conn, _) = self.links[host];
        self.input(LeaderInput::Unlinked {
            host: host.into(),
            conn,
        });
    }

    /// Time passes; everything that is due on the way happens.
    fn pass(&mut self, ms: u64) {
        let end = self.clock.boot + ms;
        let mut all = Vec::new();
        while let Some(at) = self.leader.wake().filter(|at| *at <= end) {
            let step = at.saturating_sub(self.clock.boot).max(1);
            self.clock.boot += step;
            self.clock.wall += step;
            self.input(LeaderInput::Tick);
            all.append(&mut self.out);
        }
        let rest = end.saturating_sub(self.clock.boot);
        self.clock.boot += rest;
        self.clock.wall += rest;
        self.input(LeaderInput::Tick);
        all.append(&mut self.out);
        self.out = all;
    }

    /// Another leader takes over from what is on disk.
    fn restart(&mut self) {
        let mut out = Vec::new();
        let loaded = self.store.load().unwrap();
        self.leader = Leader::new(self.clock, "h0", loaded, 8, &mut out);
        self.keep(out);
    }

    fn submit_as(&mut self, host: &str, owner: &str, plan: Plan) -> u64 {
        let id = self.next;
        self.next += 1;
        self.submit_id(host, owner, plan, id);
        id
    }

    fn submit_id(&mut self, host: &str, owner: &str, plan: Plan, id: u64) {
        let submit = Submit {
            plan: Some(plan),
            id,
            at_ms: DAYS + id,
            owner: owner.into(),
            ..Submit::default()
        };
        self.hear(host, up::Kind::Submit(submit));
    }

    fn submit(&mut self, plan: Plan) -> u64 {
        let host = self.links.keys().next().unwrap().clone();
        self.submit_as(&host, "alice", plan)
    }

    /// Attempts that went out with the last input, and where.
    fn sent(&self) -> Vec<(String, Attempt)> {
        let mut all = Vec::new();
        for e in &self.out {
            if let LeaderEffect::Dispatch { conn, dispatch, .. } = e {
                let host = self
                    .links
                    .iter()
                    .find(|(_, l)| l.0 == *conn)
                    .map(|(h, _)| h.clone());
                let host = host.expect("a dispatch goes over a connection that is there");
                assert_eq!(dispatch.link, self.links[&host].1);
                all.extend(dispatch.attempts.iter().map(|a| (host.clone(), a.clone())));
            }
        }
        all
    }

    fn keys(&self) -> Vec<(u64, u32, u32)> {
        let keys = self.sent().into_iter().filter_map(|(_, a)| a.key);
        keys.map(|k| (k.job, k.task, k.attempt)).collect()
    }

    /// What went down to a host.
    fn told(&self, host: &str) -> Vec<down::Kind> {
        let conn = self.links[host].0;
        let mine = self.out.iter().filter_map(|e| match e {
            LeaderEffect::Send { conn: c, message } if *c == conn => Some(message.clone()),
            _ => None,
        });
        mine.collect()
    }

    fn start(&mut self, key: Key) {
        let host = self.leader.live[&key].row.host.clone();
        self.hear(
            &host,
            up::Kind::Started(StartedAttempt {
                key: Some(key),
                running: Some(Running {
                    pid: 5,
                    ..Running::default()
                }),
            }),
        );
    }

    fn end(&mut self, key: Key, outcome: Outcome) {
        let host = self.leader.live[&key].row.host.clone();
        self.end_on(&host, key, outcome);
    }

    fn end_on(&mut self, host: &str, key: Key, outcome: Outcome) {
        self.hear(
            host,
            up::Kind::Ended(EndedAttempt {
                key: Some(key),
                outcome: Some(outcome),
            }),
        );
    }

    fn act_as(&mut self, user: &str, act: Act) -> Acted {
        let operator = user == "root";
        self.input(LeaderInput::Ask {
            ask: 1,
            who: Asker {
                user: user.into(),
                host: "h1".into(),
                operator,
            },
            query: query::Kind::Act(act),
        });
        let replies = self.out.iter().filter_map(|e| match e {
            LeaderEffect::Reply {
                reply: job_reply::Kind::Acted(a),
                last: true,
                ..
            } => Some(a.clone()),
            _ => None,
        });
        let replies: Vec<Acted> = replies.collect();
        assert_eq!(replies.len(), 1);
        replies[0].clone()
    }

    fn act(&mut self, deed: Deed, which: Selection) -> Acted {
        self.act_as(
            "alice",
            Act {
                deed: deed as i32,
                which: Some(which),
                ..Act::default()
            },
        )
    }

    /// Does it with one job; what was said.
    fn does(&mut self, deed: Deed, id: u64) -> String {
        let acted = self.act(deed, ids(&[id]));
        let all = [acted.lines, acted.failed].concat();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }

    fn state(&self, id: u64) -> State {
        self.leader
            .job(id)
            .expect("the job is in memory")
            .state(self.clock.wall)
    }

    fn task_state(&self, id: u64, task: u32) -> State {
        let job = self.leader.job(id).expect("the job is in memory");
        job.task_state(job.tasks.index(task).unwrap(), self.clock.wall)
    }

    fn kills(&self, host: &str) -> Vec<(Key, u32, i32)> {
        let kills = self.told(host).into_iter().filter_map(|m| match m {
            down::Kind::Kill(k) => Some((k.key.unwrap(), k.signal, k.cause)),
            _ => None,
        });
        kills.collect()
    }
}

fn key(job: u64, task: u32, attempt: u32) -> Key {
    Key { job, task, attempt }
}

fn ids(ids: &[u64]) -> Selection {
    Selection {
        ids: ids
            .iter()
            .map(|id| IdRange {
                from: *id,
                to: *id,
                tasks: None,
            })
            .collect(),
        ..Selection::default()
    }
}

fn tasks_of(id: u64, from: u32, to: u32) -> Selection {
    Selection {
        ids: vec![IdRange {
            from: id,
            to: id,
            tasks: Some(TaskRange { from, to, step: 1 }),
        }],
        ..Selection::default()
    }
}

fn exited(code: u32) -> Outcome {
    Outcome {
        cause: Cause::Exited as i32,
        code: Some(code),
        started_ms: 1,
        wall_ms: 10,
        ..Outcome::default()
    }
}

fn caused(cause: Cause) -> Outcome {
    Outcome {
        cause: cause as i32,
        ..Outcome::default()
    }
}

fn array(from: u32, to: u32, at_once: u32) -> Plan {
    Plan {
        array: Some(Array {
            ranges: vec![TaskRange { from, to, step: 1 }],
            at_once,
        }),
        ..Plan::default()
    }
}

fn held(k: Key) -> Held {
    Held {
        key: Some(k),
        ..Held::default()
    }
}

fn running(k: Key) -> Held {
    Held {
        running: Some(Running::default()),
        ..held(k)
    }
}

fn ended(k: Key, outcome: Outcome) -> Held {
    Held {
        ended: Some(outcome),
        ..held(k)
    }
}

fn restart(policy: Restart) -> Plan {
    Plan {
        restart: policy as i32,
        lease_ms: 60_000,
        ..Plan::default()
    }
}
