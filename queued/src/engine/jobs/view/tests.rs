//! What people are told, of a leader with a store in memory and hosts that say what the test says.

use super::*;
use crate::engine::jobs::leader::table::Stage;
use crate::engine::jobs::types::{HostView, LeaderInput};
use crate::store::JobStore as _;
use crate::store::memory::MemoryStore;
use libqueue::job::state_name;
use libqueue::wire::job::*;
use libqueue::wire::{Empty, Facts, Need};

struct World {
    store: MemoryStore,
    leader: Leader,
    clock: Clock,
    told: Vec<(AskId, job_reply::Kind, bool)>,
    next: u64,
    asks: AskId,
    operator: bool,
}

fn clock() -> Clock {
    Clock {
        boot: 1_000_000,
        wall: 1_700_000_000_000,
    }
}

impl World {
    fn new(hosts: &[(&str, u32)]) -> Self {
        let mut store = MemoryStore::default();
        let mut out = Vec::new();
        let leader = Leader::new(clock(), "h0", store.load().unwrap(), 7, &mut out);
        let mut w = Self {
            store,
            leader,
            clock: clock(),
            told: Vec::new(),
            next: 1,
            asks: 0,
            operator: false,
        };
        w.keep(out);
        for (n, (name, cores)) in (1..).zip(hosts) {
            w.input(LeaderInput::Hosts(vec![HostView {
                name: (*name).into(),
                dead: false,
                facts: Some(Facts {
                    cores: *cores,
                    mem: 64 << 30,
                    power: 1.0,
                    ..Facts::default()
                }),
                load: None,
            }]));
            let hello = WorkHello {
                life: vec![1; 16],
                link: n,
                complete: true,
                ..WorkHello::default()
            };
            w.hear_on(name, n, up::Kind::Hello(hello));
        }
        w.hear("h1", up::Kind::WantBlock(Empty {}));
        w
    }

    fn keep(&mut self, out: Vec<LeaderEffect>) {
        for e in out {
            match e {
                LeaderEffect::Store(op) => self.store.commit(&[op]).unwrap(),
                LeaderEffect::Reply { ask, reply, last } => self.told.push((ask, reply, last)),
                LeaderEffect::Read { ask, who, read } => {
                    let mut answer = Vec::new();
                    self.store.read(&who, read, &mut |k| answer.push(k)).unwrap();
                    self.told.extend(answer.into_iter().map(|k| (ask, k, true)));
                }
                _ => {}
            }
        }
    }

    fn input(&mut self, input: LeaderInput) {
        let mut out = Vec::new();
        self.leader.handle(self.clock, input, &mut out);
        self.keep(out);
    }

    fn hear_on(&mut self, host: &str, conn: u64, message: up::Kind) {
        self.input(LeaderInput::Heard {
            host: host.into(),
            conn,
            message,
        });
    }

    fn hear(&mut self, host: &str, message: up::Kind) {
        let conn = self.leader.hosts[host].link.as_ref().unwrap().conn;
        self.hear_on(host, conn, message);
    }

    fn pass(&mut self, ms: u64) {
        self.clock.boot += ms;
        self.clock.wall += ms;
        self.input(LeaderInput::Tick);
    }

    fn submit_as(&mut self, owner: &str, plan: Plan) -> u64 {
        let id = self.next;
        self.next += 1;
        let submit = Submit {
            plan: Some(plan),
            id,
            at_ms: self.clock.wall,
            owner: owner.into(),
            ..Submit::default()
        };
        self.hear("h1", up::Kind::Submit(submit));
        id
    }

    fn submit(&mut self, plan: Plan) -> u64 {
        self.submit_as("alice", plan)
    }

    fn start(&mut self, key: Key) {
        let host = self.leader.live[&key].row.host.clone();
        let running = Running {
            pid: 5,
            started_ms: self.clock.wall,
            output: b"/home/alice/queue-1.out".to_vec(),
            ..Running::default()
        };
        let message = StartedAttempt {
            key: Some(key),
            running: Some(running),
        };
        self.hear(&host, up::Kind::Started(message));
    }

    fn end(&mut self, key: Key, outcome: Outcome) {
        let host = self.leader.live[&key].row.host.clone();
        let message = EndedAttempt {
            key: Some(key),
            outcome: Some(outcome),
        };
        self.hear(&host, up::Kind::Ended(message));
    }

    /// Asks, without reading the answer.
    fn ask_as(&mut self, user: &str, query: query::Kind) -> AskId {
        self.asks += 1;
        let who = Asker {
            user: user.into(),
            host: "h1".into(),
            operator: self.operator,
        };
        self.input(LeaderInput::Ask {
            ask: self.asks,
            who,
            query,
        });
        self.asks
    }

    /// What was told of a question since, and whether it was the end.
    fn heard(&mut self, ask: AskId) -> (Vec<job_reply::Kind>, bool) {
        let (mine, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.told)
            .into_iter()
            .partition(|t| t.0 == ask);
        self.told = rest;
        let last = mine.last().is_some_and(|t| t.2);
        (mine.into_iter().map(|t| t.1).collect(), last)
    }

    /// Asks, and reads the one answer.
    fn answer_as(&mut self, user: &str, query: query::Kind) -> job_reply::Kind {
        let ask = self.ask_as(user, query);
        let (mut all, last) = self.heard(ask);
        assert!(last && all.len() == 1, "{all:?}");
        all.remove(0)
    }

    fn page(&mut self, list: List) -> Page {
        match self.answer_as("alice", query::Kind::List(list)) {
            job_reply::Kind::Page(p) => p,
            other => panic!("{other:?}"),
        }
    }

    fn why(&mut self, which: Selection) -> Why {
        match self.answer_as("alice", query::Kind::Explain(which)) {
            job_reply::Kind::Why(w) => w,
            other => panic!("{other:?}"),
        }
    }

    fn wait(&mut self, which: Selection, any: bool, follow: bool) -> AskId {
        self.ask_as(
            "alice",
            query::Kind::Wait(Wait {
                which: Some(which),
                any,
                follow,
            }),
        )
    }

    /// The end of a wait that was told.
    fn over(&mut self, ask: AskId) -> Over {
        let (all, last) = self.heard(ask);
        match all.last() {
            Some(job_reply::Kind::Over(o)) if last => o.clone(),
            other => panic!("{other:?}"),
        }
    }
}

fn key(job: u64, task: u32) -> Key {
    Key {
        job,
        task,
        attempt: 1,
    }
}

fn ids(from: u64, to: u64) -> Selection {
    Selection {
        ids: vec![IdRange {
            from,
            to,
            tasks: None,
        }],
        ..Selection::default()
    }
}

fn tasks(id: u64, from: u32, to: u32) -> Selection {
    let mut s = ids(id, id);
    s.ids[0].tasks = Some(TaskRange { from, to, step: 1 });
    s
}

fn exited(code: u32) -> Outcome {
    Outcome {
        cause: Cause::Exited as i32,
        code: Some(code),
        started_ms: 1,
        wall_ms: 10,
        output: b"/home/alice/queue-1.out".to_vec(),
        ..Outcome::default()
    }
}

fn killed_by(signal: u32) -> Outcome {
    Outcome {
        cause: Cause::Signal as i32,
        signal: Some(signal),
        ..Outcome::default()
    }
}

fn array(to: u32, at_once: u32) -> Plan {
    Plan {
        array: Some(Array {
            ranges: vec![TaskRange { from: 1, to, step: 1 }],
            at_once,
        }),
        ..Plan::default()
    }
}

fn cores(n: u32) -> Plan {
    Plan {
        need: Some(Need {
            cores: n,
            ..Need::default()
        }),
        ..Plan::default()
    }
}

fn rows(p: &Page) -> Vec<(u64, u32, &'static str)> {
    p.jobs
        .iter()
        .map(|j| (j.id, j.task, state_name(j.state())))
        .collect()
}

fn count(all: &[Count]) -> Vec<(&'static str, u64)> {
    all.iter().map(|c| (state_name(c.state()), c.number)).collect()
}

#[test]
fn a_page_of_jobs() {
    let mut w = World::new(&[("h1", 2)]);
    for (owner, name, priority) in [("alice", "b", 0), ("bob", "a", 5), ("alice", "c", -3)] {
        w.submit_as(
            owner,
            Plan {
                name: name.into(),
                priority: Some(priority),
                ..cores(2)
            },
        );
    }
    w.start(key(1, 0));
    let list = |sort: &str| List {
        sort: sort.into(),
        ..List::default()
    };
    let p = w.page(list(""));
    assert_eq!(p.total, 3);
    assert_eq!(rows(&p), [(1, 0, "running"), (2, 0, "ready"), (3, 0, "ready")]);
    assert_eq!((p.jobs[0].host.as_str(), p.jobs[0].attempts), ("h1", 1));
    assert_eq!(p.jobs[1].reason, "no room yet");
    let order = |p: Page| p.jobs.iter().map(|j| j.id).collect::<Vec<_>>();
    for (sort, want) in [
        ("-id", [3, 2, 1]),
        ("priority", [3, 1, 2]),
        ("-priority", [2, 1, 3]),
        ("name", [2, 1, 3]),
        ("user", [1, 3, 2]),
        ("-state", [1, 2, 3]),
        ("-started", [1, 2, 3]),
        ("-host", [1, 2, 3]),
    ] {
        assert_eq!(order(w.page(list(sort))), want, "{sort}");
    }
    let mut one = list("-id");
    (one.limit, one.offset) = (1, 1);
    let p = w.page(one);
    assert_eq!((p.total, order(p)), (3, vec![2]));
    let bobs = List {
        which: Some(Selection {
            user: "bob".into(),
            ..Selection::default()
        }),
        ..List::default()
    };
    assert_eq!(order(w.page(bobs)), [2]);
    let bad = w.answer_as("alice", query::Kind::List(list("colour")));
    assert!(matches!(bad, job_reply::Kind::Error(_)));
    // Ended ones are shown if they are asked for.
    w.end(key(1, 0), exited(3));
    assert_eq!(order(w.page(list(""))), [2, 3]);
    let ended = List {
        ended: true,
        ..List::default()
    };
    let p = w.page(ended);
    assert_eq!(rows(&p)[0], (1, 0, "failed"));
    assert_eq!(p.jobs[0].outcome.as_ref().unwrap().code, Some(3));
}

#[test]
fn others_do_not_see_commands_and_paths() {
    let mut w = World::new(&[("h1", 2)]);
    let id = w.submit(cores(1));
    w.start(key(id, 0));
    w.leader.jobs.get_mut(&id).unwrap().row.command = "make secret".into();
    let list = || {
        query::Kind::List(List {
            ended: true,
            ..List::default()
        })
    };
    let command = |k: job_reply::Kind| match k {
        job_reply::Kind::Page(p) => p.jobs[0].command.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(command(w.answer_as("alice", list())), "make secret");
    assert_eq!(command(w.answer_as("bob", list())), "");
    let show = |k: job_reply::Kind| match k {
        job_reply::Kind::Details(d) => d.jobs[0].attempts[0].running.clone().unwrap().output,
        other => panic!("{other:?}"),
    };
    assert!(!show(w.answer_as("alice", query::Kind::Show(ids(id, id)))).is_empty());
    assert!(show(w.answer_as("bob", query::Kind::Show(ids(id, id)))).is_empty());
    let denied = w.answer_as("bob", query::Kind::Outputs(ids(id, id)));
    assert!(matches!(denied, job_reply::Kind::Error(e) if e.text.contains("for alice")));
    let out = w.answer_as("alice", query::Kind::Outputs(ids(id, id)));
    assert!(matches!(out, job_reply::Kind::Outputs(o) if o.outputs[0].host == "h1" && o.outputs.len() == 1));
    assert!(matches!(
        w.answer_as("bob", query::Kind::Export(Empty {})),
        job_reply::Kind::Error(_)
    ));
    w.operator = true;
    assert_eq!(command(w.answer_as("root", list())), "make secret");
}

#[test]
fn tasks_of_an_array() {
    let mut w = World::new(&[("h1", 4)]);
    let id = w.submit(array(6, 2));
    w.start(key(id, 1));
    w.end(key(id, 1), exited(0));
    w.start(key(id, 2));
    w.end(key(id, 2), exited(1));
    w.start(key(id, 3));
    let p = w.page(List::default());
    assert_eq!(
        count(&p.jobs[0].counts),
        [("ready", 3), ("running", 1), ("done", 1), ("failed", 1)]
    );
    let all = List {
        tasks: true,
        ..List::default()
    };
    let p = w.page(all.clone());
    assert_eq!(p.total, 6);
    let states: Vec<&str> = p.jobs.iter().map(|j| state_name(j.state())).collect();
    assert_eq!(states, ["done", "failed", "running", "ready", "ready", "ready"]);
    assert_eq!(p.jobs[4].reason, "2 tasks at once");
    let failed = List {
        which: Some(Selection {
            states: vec![State::Failed as i32],
            ..Selection::default()
        }),
        ..all.clone()
    };
    assert_eq!(rows(&w.page(failed)), [(id, 2, "failed")]);
    let named = List {
        which: Some(tasks(id, 3, 4)),
        ..List::default()
    };
    assert_eq!(rows(&w.page(named)), [(id, 3, "running"), (id, 4, "ready")]);
    let sorted = List {
        sort: "-state".into(),
        limit: 2,
        ..all
    };
    assert_eq!(rows(&w.page(sorted)), [(id, 2, "failed"), (id, 1, "done")]);
    // What is no array has none.
    let single = w.submit(cores(1));
    let none = List {
        which: Some(tasks(single, 1, 9)),
        ..List::default()
    };
    assert_eq!(rows(&w.page(none)), []);
}

#[test]
fn a_page_is_watched() {
    let mut w = World::new(&[("h1", 2)]);
    let list = List {
        watch: true,
        ..List::default()
    };
    let ask = w.ask_as("alice", query::Kind::List(list));
    assert_eq!(w.heard(ask).0.len(), 1);
    let id = w.submit(cores(1));
    assert!(w.heard(ask).0.is_empty(), "not at once: twice a second");
    assert!(w.leader.view_wake().is_some());
    w.pass(500);
    let (all, last) = w.heard(ask);
    assert!(!last && matches!(&all[..], [job_reply::Kind::Page(p)] if p.total == 1));
    w.pass(500);
    assert!(w.heard(ask).0.is_empty(), "nothing changed");
    w.start(key(id, 0));
    w.pass(0);
    let (all, _) = w.heard(ask);
    assert!(matches!(&all[..], [job_reply::Kind::Page(p)] if p.jobs[0].state() == State::Running));
    w.input(LeaderInput::Gone(ask));
    assert!(w.leader.watchers.lists.is_empty() && w.leader.view_wake().is_none());
}

#[test]
fn waiting_tells_the_truth() {
    let mut w = World::new(&[("h1", 4)]);
    for _ in 0..4 {
        w.submit(cores(1));
    }
    let all = w.wait(ids(1, 3), false, false);
    let any = w.wait(ids(1, 3), true, false);
    let one = w.wait(ids(2, 2), false, true);
    assert_eq!(w.heard(all).0.len(), 1, "how far it is");
    w.start(key(2, 0));
    w.end(key(2, 0), killed_by(11));
    let over = w.over(any);
    assert_eq!((over.code, over.signal), (139, None));
    let (told, last) = w.heard(one);
    assert!(last);
    let Some(job_reply::Kind::Over(over)) = told.last() else {
        panic!("{told:?}")
    };
    assert_eq!((over.code, over.signal, over.bad.len()), (139, Some(11), 1));
    let changed: Vec<State> = told
        .iter()
        .filter_map(|k| match k {
            job_reply::Kind::Progress(p) => Some(p.states.iter().filter_map(|s| State::try_from(*s).ok())),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(changed, [State::Ready, State::Running, State::Failed]);
    assert!(!w.heard(all).1);
    for j in [1, 3] {
        w.start(key(j, 0));
        w.end(key(j, 0), exited(0));
    }
    let over = w.over(all);
    assert_eq!((over.code, over.signal), (139, None));
    assert_eq!(count(&over.counts), [("done", 2), ("failed", 1)]);
    assert!(w.leader.watchers.by_job.is_empty() && w.leader.watchers.waits.is_empty());
    // What is over already is told at once, and what never was is nothing.
    let ask = w.wait(ids(2, 2), false, false);
    assert_eq!(w.over(ask).code, 139);
    let ask = w.wait(ids(77, 80), false, false);
    assert!(w.over(ask).nothing);
    let ask = w.wait(Selection::default(), false, false);
    assert!(w.over(ask).nothing);
}

#[test]
fn what_memory_has_forgotten_the_store_knows() {
    let mut w = World::new(&[("h1", 4)]);
    for n in [0, 4] {
        let id = w.submit(cores(1));
        w.start(key(id, 0));
        w.end(key(id, 0), exited(n));
    }
    let id = w.submit(cores(1));
    w.leader.ended.clear();
    let ask = w.wait(ids(1, 2), false, false);
    let over = w.over(ask);
    assert_eq!(
        (over.code, count(&over.counts)),
        (4, vec![("done", 1), ("failed", 1)])
    );
    let ask = w.wait(ids(1, 3), false, false);
    assert!(!w.heard(ask).1);
    w.start(key(id, 0));
    w.end(key(id, 0), exited(0));
    let over = w.over(ask);
    assert_eq!(
        (over.code, count(&over.counts)),
        (4, vec![("done", 2), ("failed", 1)])
    );
    let show = w.answer_as("alice", query::Kind::Show(ids(1, 3)));
    assert!(matches!(show, job_reply::Kind::Details(d) if d.jobs.len() == 3));
}

#[test]
fn waiting_for_tasks_and_deleted_jobs() {
    let mut w = World::new(&[("h1", 4)]);
    let id = w.submit(array(4, 0));
    let some = w.wait(tasks(id, 2, 3), false, false);
    let whole = w.wait(ids(id, id), false, false);
    for t in [1, 2, 3] {
        w.start(key(id, t));
    }
    w.end(key(id, 1), exited(9));
    w.end(key(id, 2), exited(0));
    assert!(!w.heard(some).1);
    w.end(key(id, 3), exited(5));
    let over = w.over(some);
    assert_eq!(
        (over.code, count(&over.counts)),
        (5, vec![("done", 1), ("failed", 1)])
    );
    assert!(!w.heard(whole).1);
    w.start(key(id, 4));
    w.end(key(id, 4), exited(0));
    let over = w.over(whole);
    assert_eq!((over.code, over.bad.len()), (9, 2));
    let held = w.submit(Plan {
        hold: true,
        ..cores(1)
    });
    let ask = w.wait(ids(held, held), false, false);
    let act = Act {
        deed: Deed::Delete as i32,
        which: Some(ids(held, held)),
        ..Act::default()
    };
    w.ask_as("alice", query::Kind::Act(act));
    assert!(w.heard(ask).1, "there is nothing to wait for");
}

#[test]
fn a_buried_job_ends_the_wait() {
    let mut w = World::new(&[("h1", 4)]);
    let id = w.submit(cores(1));
    let ask = w.wait(ids(id, id), false, false);
    w.start(key(id, 0));
    let not_found = Outcome {
        cause: Cause::NotFound as i32,
        code: Some(127),
        ..Outcome::default()
    };
    w.end(key(id, 0), not_found);
    assert_eq!(w.leader.job(id).unwrap().tasks.stage(0), Stage::Buried);
    assert_eq!(w.over(ask).code, 127);
    let why = w.why(ids(id, id));
    assert_eq!(why.blockers, ["it is buried: command not found"]);
    assert!(why.remedies[0].starts_with(&format!("queue retry {id} ")));
}

#[test]
fn every_blocker_is_named() {
    let mut w = World::new(&[("h1", 4), ("h2", 8)]);
    let limited = |hold| Plan {
        limits: vec![LimitUse {
            name: "license".into(),
            total: Some(1),
        }],
        hold,
        ..cores(1)
    };
    let first = w.submit(limited(false));
    w.start(key(first, 0));
    let second = w.submit(limited(true));
    let why = w.why(ids(second, second));
    assert_eq!(
        why.blockers,
        ["held by alice", "limit license: 1 of 1 in use, by 1"]
    );
    assert_eq!(
        why.remedies,
        [
            "queue release 2",
            "kill or wait for 1",
            "queue limits license:2 (operators)"
        ]
    );
    assert!(
        why.hosts.iter().all(|h| h.blockers.is_empty() && !h.never),
        "{why:?}"
    );
    let big = w.submit(cores(64));
    let why = w.why(ids(big, big));
    assert!(why.hosts.iter().all(|h| h.never));
    assert_eq!(
        why.remedies,
        ["no host of the cluster can ever run it: the largest has 8 cores; queue modify 3 --cores 8"]
    );
    let after = Plan {
        after: vec![After {
            jobs: Some(ids(second, second)),
            how: AfterHow::Ok as i32,
        }],
        at_ms: w.clock.wall + 3_600_000,
        ..cores(1)
    };
    let later = w.submit(after);
    let why = w.why(ids(later, later));
    assert_eq!(
        why.blockers,
        [
            "it is to start in 1 h",
            "it waits for 2 to end well, which is waiting"
        ]
    );
    assert!(why.remedies.contains(&"queue release 2".to_owned()), "{why:?}");
    let text = w.answer_as("alice", query::Kind::Explain(ids(99, 99)));
    assert!(matches!(text, job_reply::Kind::Error(e) if e.text.starts_with("there is no job ")));
    w.end(key(first, 0), exited(0));
    let why = w.why(ids(first, first));
    assert_eq!(why.blockers, ["it is over, done: exit 0"]);
}

#[test]
fn no_room_and_who_has_it() {
    let mut w = World::new(&[("h1", 4), ("h2", 2)]);
    for n in [4, 2] {
        let id = w.submit(cores(n));
        w.start(key(id, 0));
    }
    let id = w.submit(cores(3));
    let behind = w.submit(cores(4));
    let why = w.why(ids(id, id));
    assert_eq!(why.blockers, Vec::<String>::new());
    let hosts: Vec<String> = why
        .hosts
        .iter()
        .map(|h| format!("{} {:?}", h.host, h.blockers))
        .collect();
    assert_eq!(
        hosts,
        [
            r#"h1 ["4 of 4 cores taken by jobs"]"#,
            r#"h2 ["has 2 cores of 3"]"#
        ]
    );
    assert_eq!(
        why.remedies,
        [
            "h1 would do with 3 more cores",
            "wait for, or kill, what runs on h1: 1"
        ]
    );
    assert_eq!((why.ahead, w.why(ids(behind, behind)).ahead), (0, 1));
}

#[test]
fn limits_are_shown_to_all_and_set_by_operators() {
    let mut w = World::new(&[("h1", 4)]);
    let ask = |set: &str, total| {
        query::Kind::Limits(LimitsAsk {
            set: set.into(),
            total,
        })
    };
    assert!(matches!(
        w.answer_as("alice", ask("license", Some(1))),
        job_reply::Kind::Error(_)
    ));
    w.operator = true;
    assert!(matches!(
        w.answer_as("root", ask("a b", Some(1))),
        job_reply::Kind::Error(_)
    ));
    w.answer_as("root", ask("license", Some(1)));
    w.operator = false;
    for _ in 0..3 {
        w.submit(Plan {
            limits: vec![LimitUse {
                name: "license".into(),
                total: None,
            }],
            ..cores(1)
        });
    }
    let job_reply::Kind::Limits(l) = w.answer_as("alice", ask("", None)) else {
        panic!("limits")
    };
    assert_eq!(
        l.limits,
        [Limit {
            name: "license".into(),
            total: Some(1),
            used: 1,
            waiting: 2
        }]
    );
    assert_eq!(w.store.load().unwrap().limits, [("license".to_owned(), 1)]);
    let stats = w.answer_as("alice", query::Kind::Stats(StatsAsk::default()));
    assert!(matches!(stats, job_reply::Kind::Stats(s) if count(&s.counts) == [("ready", 3)]));
}

/// A million tasks, half of them done in any order, one in a hundred not well.
#[test]
#[ignore = "a measurement: run it alone, with optimisation"]
#[allow(clippy::print_stdout, reason = "its result")]
fn a_page_of_a_million_tasks() {
    let mut w = World::new(&[("h1", 4)]);
    let id = w.submit(array(1_000_000, 1));
    let job = w.leader.jobs.get_mut(&id).unwrap();
    let mut rng = crate::engine::rng::Rng::new(1);
    let mut left = 500_000;
    while left > 0 {
        let i = rng.below(1_000_000) as u32;
        if !job.tasks.stage(i).is_idle() {
            continue;
        }
        let bad = left % 100 == 0;
        if bad {
            job.tasks.extra_mut(i).attempt = 1;
        }
        job.tasks.set(i, if bad { Stage::Failed } else { Stage::Done });
        left -= 1;
    }
    for (tasks, sort, offset) in [
        (false, "", 0),
        (true, "", 0),
        (true, "-id", 700_000),
        (true, "-state", 300_000),
        (true, "started", 0),
        (true, "-time", 0),
        (true, "host", 500_000),
        (true, "name", 500_000),
    ] {
        for states in [vec![], vec![State::Failed as i32]] {
            let list = List {
                tasks,
                sort: sort.into(),
                offset,
                which: Some(Selection {
                    states: states.clone(),
                    ..Selection::default()
                }),
                ..List::default()
            };
            #[allow(clippy::disallowed_methods, reason = "a measurement")]
            let start = std::time::Instant::now();
            let p = w.page(list);
            let took = start.elapsed();
            println!(
                "tasks {tasks}, sort {sort:?}, {states:?}: {} of {} in {took:?}",
                p.jobs.len(),
                p.total
            );
            assert!(took.as_millis() < 100, "{took:?}");
        }
    }
}

/// 10,000 wait for one job each, and that job's end costs nobody else anything.
#[test]
fn ten_thousand_wait() {
    let mut w = World::new(&[("h1", 64)]);
    for _ in 0..100 {
        w.submit(cores(1));
    }
    let asks: Vec<AskId> = (0..10_000)
        .map(|n| w.wait(ids(1 + n % 100, 1 + n % 100), false, false))
        .collect();
    w.told.clear();
    w.start(key(7, 0));
    w.end(key(7, 0), exited(0));
    let told: Vec<AskId> = w.told.iter().map(|t| t.0).collect();
    assert!(told.iter().all(|a| (a - asks[0]) % 100 == 6));
    assert_eq!(w.told.iter().filter(|t| t.2).count(), 100);
    assert_eq!(w.leader.watchers.waits.len(), 9900);
}
