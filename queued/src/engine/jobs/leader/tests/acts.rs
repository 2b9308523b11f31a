//! What people do with jobs.

use super::*;
use libqueue::wire::job::Change as Wanted;

#[test]
fn kill_in_each_state() {
    let mut w = World::with(&[("h1", 1)]);
    let runs = w.submit(Plan::default());
    w.start(key(runs, 0, 1));
    let ready = w.submit(Plan {
        host: "h7".into(),
        ..Plan::default()
    });
    let waits = w.submit(Plan {
        hold: true,
        ..Plan::default()
    });
    let delayed = w.submit(Plan {
        at_ms: DAYS * 2,
        ..Plan::default()
    });
    for id in [ready, waits, delayed] {
        assert_eq!(w.does(Deed::Kill, id), format!("{id}: killed"));
        assert_eq!(w.leader.over.state(id), Some(State::Killed));
        assert_eq!(w.does(Deed::Kill, id), format!("{id}: it has ended"));
    }
    assert_eq!(w.does(Deed::Kill, runs), format!("{runs}: being killed"));
    assert_eq!(w.kills("h1"), [(key(runs, 0, 1), 0, Cause::Killed as i32)]);
    assert_eq!(w.state(runs), State::Running);
    // Even a new leader knows that it is to end.
    let disk = w.store.load().unwrap();
    assert!(
        disk.tasks
            .iter()
            .any(|t: &TaskRow| t.job == runs && t.state == State::Killed as i32)
    );
    w.end(
        key(runs, 0, 1),
        Outcome {
            signal: Some(15),
            ..caused(Cause::Signal)
        },
    );
    assert_eq!(w.leader.over.state(runs), Some(State::Killed));
    // With retries left it is not tried again.
    let id = w.submit(Plan {
        retries: Some(5),
        ..Plan::default()
    });
    w.does(Deed::Kill, id);
    w.end(key(id, 0, 1), exited(1));
    assert_eq!(w.leader.over.state(id), Some(State::Killed));
    // One that ended well before it could be killed did so.
    let id = w.submit(Plan::default());
    w.does(Deed::Kill, id);
    w.end(key(id, 0, 1), exited(0));
    assert_eq!(w.leader.over.state(id), Some(State::Done));
    // A pause between two tries.
    let id = w.submit(Plan {
        retries: Some(5),
        ..Plan::default()
    });
    w.end(key(id, 0, 1), exited(1));
    w.does(Deed::Kill, id);
    w.pass(100_000);
    assert_eq!((w.leader.over.state(id), w.keys()), (Some(State::Killed), vec![]));
    // A signal only.
    let id = w.submit(Plan::default());
    w.start(key(id, 0, 1));
    let act = Act {
        deed: Deed::Kill as i32,
        which: Some(ids(&[id])),
        signal: 10,
        ..Act::default()
    };
    assert_eq!(w.act_as("alice", act).lines, [format!("{id}: sent signal 10")]);
    w.end(key(id, 0, 1), exited(1));
    assert_eq!(w.leader.over.state(id), Some(State::Failed));
}

#[test]
fn a_kill_survives_a_new_leader() {
    let mut w = World::with(&[("h1", 1)]);
    let id = w.submit(Plan {
        retries: Some(2),
        ..Plan::default()
    });
    w.start(key(id, 0, 1));
    w.unlink("h1");
    w.does(Deed::Kill, id);
    w.restart();
    w.host("h1", 1);
    w.link("h1", vec![running(key(id, 0, 1))]);
    assert_eq!(w.kills("h1").len(), 1);
    w.end_on("h1", key(id, 0, 1), caused(Cause::Superseded));
    assert_eq!(w.leader.over.state(id), Some(State::Killed));
}

#[test]
fn hold_and_release() {
    let mut w = World::with(&[("h1", 1)]);
    let id = w.submit(Plan::default());
    assert_eq!(w.does(Deed::Hold, id), format!("{id}: held"));
    assert_eq!(w.told("h1"), [down::Kind::Revoke(key(id, 0, 1))]);
    assert!(w.does(Deed::Hold, id).contains("holds it already"));
    w.end(key(id, 0, 1), caused(Cause::NotStarted));
    assert_eq!((w.state(id), w.keys()), (State::Waiting, vec![]));
    w.restart();
    w.host("h1", 1);
    w.link("h1", Vec::new());
    assert_eq!((w.state(id), w.keys()), (State::Waiting, vec![]));
    assert_eq!(w.does(Deed::Release, id), format!("{id}: released"));
    assert_eq!(w.keys(), [(id, 0, 2)]);
    assert!(w.does(Deed::Release, id).contains("not held"));
}

#[test]
fn single_tasks() {
    let mut w = World::with(&[("h1", 2)]);
    let id = w.submit(array(1, 10, 2));
    let acted = w.act(Deed::Hold, tasks_of(id, 4, 6));
    assert_eq!(
        (acted.number, &acted.lines[..]),
        (3, &[format!("{id}: 3 tasks held")][..])
    );
    w.act(Deed::Kill, tasks_of(id, 7, 7));
    assert_eq!(
        (w.task_state(id, 5), w.task_state(id, 7)),
        (State::Waiting, State::Killed)
    );
    w.restart();
    w.host("h1", 2);
    w.link("h1", vec![running(key(id, 1, 1)), running(key(id, 2, 1))]);
    assert_eq!(
        (w.task_state(id, 5), w.task_state(id, 7)),
        (State::Waiting, State::Killed)
    );
    let mut seen = Vec::new();
    while let Some(k) = w.leader.live.keys().next().copied() {
        seen.push(k.task);
        w.end(k, exited(0));
    }
    assert_eq!(seen, [1, 2, 3, 8, 9, 10]);
    assert_eq!(w.state(id), State::Waiting);
    w.act(Deed::Release, tasks_of(id, 5, 5));
    assert_eq!(w.keys(), [(id, 5, 1)]);
    w.does(Deed::Release, id);
    while let Some(k) = w.leader.live.keys().next().copied() {
        w.end(k, exited(0));
    }
    assert_eq!(w.leader.over.state(id), Some(State::Killed));
}

#[test]
fn by_range_filter_group_and_only_ones_own() {
    let mut w = World::with(&[("h1", 1)]);
    let plan = |name: &str, group: &str| Plan {
        name: name.into(),
        group: group.into(),
        host: "h9".into(),
        hold: true,
        ..Plan::default()
    };
    let a = w.submit(plan("build-1", "x"));
    let b = w.submit(plan("build-2", "y"));
    let c = w.submit_as("h1", "bob", plan("build-3", "x"));
    let which = |f: &dyn Fn(&mut Selection)| {
        let mut s = Selection::default();
        f(&mut s);
        s
    };
    let number = |w: &mut World, s: Selection| w.act(Deed::Release, s).number;
    assert_eq!(number(&mut w, Selection::default()), 0);
    assert_eq!(number(&mut w, which(&|s| s.name = "build-?".into())), 2);
    assert_eq!(
        w.act(Deed::Hold, which(&|s| s.group = "x".into())).lines,
        [format!("{a}: held")]
    );
    let range = which(&|s| {
        s.ids = vec![IdRange {
            from: a,
            to: c + 5,
            tasks: None,
        }]
    });
    let acted = w.act(Deed::Hold, range);
    assert_eq!(acted.lines, [format!("{b}: held")]);
    assert_eq!(acted.failed.len(), 2, "{acted:?}");
    assert!(acted.failed[1].contains("a job of bob"));
    let all = Act {
        deed: Deed::Kill as i32,
        which: Some(which(&|s| s.all = true)),
        ..Act::default()
    };
    assert_eq!(w.act_as("alice", all.clone()).number, 2);
    assert_eq!(w.act_as("root", all).number, 1);
    assert!(w.does(Deed::Kill, 99).contains("there is no job 99: "));
    let task = which(&|s| {
        s.ids = vec![IdRange {
            from: b,
            to: b,
            tasks: Some(TaskRange {
                from: 5,
                to: 5,
                step: 1,
            }),
        }]
    });
    let acted = w.act(Deed::Kill, task);
    assert_eq!(
        acted.failed,
        [format!("there is no job {b}.5: `queue jobs` lists them")]
    );
    assert_eq!(
        w.act(Deed::Retry, which(&|s| s.states = vec![State::Killed as i32]))
            .number,
        2
    );
}

#[test]
fn delete_and_modify() {
    let mut w = World::with(&[("h1", 1)]);
    let id = w.submit(Plan::default());
    assert!(w.does(Deed::Delete, id).contains("kill it first"));
    let other = w.submit(Plan {
        host: "h9".into(),
        ..Plan::default()
    });
    let change = |f: &dyn Fn(&mut Wanted)| {
        let mut c = Wanted::default();
        f(&mut c);
        c
    };
    let modify = |w: &mut World, id: u64, c: Wanted| {
        let acted = w.act_as(
            "alice",
            Act {
                deed: Deed::Modify as i32,
                which: Some(ids(&[id])),
                change: Some(c),
                ..Act::default()
            },
        );
        [acted.lines, acted.failed].concat().remove(0)
    };
    assert!(modify(&mut w, other, Wanted::default()).contains("what to change"));
    assert!(modify(&mut w, other, change(&|c| c.at_once = Some(4))).contains("no array"));
    assert!(modify(&mut w, other, change(&|c| c.class = Some("x".into()))).contains("no class"));
    w.end(key(id, 0, 1), exited(0));
    assert!(modify(&mut w, id, change(&|c| c.priority = Some(4))).contains("has ended"));
    let said = modify(
        &mut w,
        other,
        change(&|c| {
            c.host = Some("+".into());
            c.priority = Some(3);
            c.group = Some("g".into());
            c.restart = Some(Restart::Restart as i32);
        }),
    );
    assert!(said.contains("changed"), "{said}");
    assert_eq!(w.keys(), [(other, 0, 1)]);
    assert_eq!(w.sent()[0].1.lease_ms, 15 * 60_000);
    assert_eq!(w.does(Deed::Delete, id), format!("{id}: deleted"));
    assert!(w.leader.job(id).is_none());
    assert!(w.does(Deed::Delete, id).contains("there is no job "));
    let third = w.submit(Plan {
        hold: true,
        ..Plan::default()
    });
    w.does(Deed::Delete, third);
    w.restart();
    assert_eq!(w.leader.jobs.keys().copied().collect::<Vec<_>>(), [other]);
}

#[test]
fn what_needs_something_else_now_is_asked_back() {
    let mut w = World::with(&[("h1", 4)]);
    let id = w.submit(Plan::default());
    let change = Wanted {
        need: Some(Need {
            cores: 3,
            ..Need::default()
        }),
        ..Wanted::default()
    };
    w.act_as(
        "alice",
        Act {
            deed: Deed::Modify as i32,
            which: Some(ids(&[id])),
            change: Some(change),
            ..Act::default()
        },
    );
    assert_eq!(w.told("h1"), [down::Kind::Revoke(key(id, 0, 1))]);
    w.end(key(id, 0, 1), caused(Cause::NotStarted));
    assert_eq!(w.sent()[0].1.need.as_ref().unwrap().cores, 3);
    // What nobody spoke of stays as it is.
    let change = Wanted {
        need: Some(Need {
            mem: 1 << 20,
            expr: "mem > 0".into(),
            ..Need::default()
        }),
        ..Wanted::default()
    };
    w.act_as(
        "alice",
        Act {
            deed: Deed::Modify as i32,
            which: Some(ids(&[id])),
            change: Some(change),
            ..Act::default()
        },
    );
    let need = w.leader.job(id).unwrap().need();
    assert_eq!((need.cores, need.mem, &need.expr[..]), (3, 1 << 20, "mem > 0"));
}

#[test]
fn who_begins_knows_what_ended_lately() {
    let mut w = World::with(&[("h1", 1)]);
    let failed = w.submit(Plan::default());
    w.end(key(failed, 0, 1), exited(4));
    let never = w.submit(Plan {
        host: "h9".into(),
        ..Plan::default()
    });
    assert!(w.does(Deed::Kill, never).contains("killed"));
    w.restart();
    w.host("h1", 1);
    w.link("h1", Vec::new());
    let job = w.leader.job(failed).unwrap();
    let fate = job.tasks.extra(0).and_then(|e| e.fate.as_ref()).unwrap();
    assert_eq!((fate.outcome.code, &fate.host[..]), (Some(4), "h1"));
    assert_eq!(
        (job.tasks.stage(0), job.ended),
        (Stage::Failed, Some(State::Failed))
    );
    assert_eq!(w.leader.job(never).unwrap().tasks.stage(0), Stage::Killed);
    assert!(w.does(Deed::Retry, failed).contains("to be run again"));
    assert!(w.sent().iter().any(|(_, a)| a.key == Some(key(failed, 0, 2))));
    w.end(key(failed, 0, 2), exited(0));
    w.clock.wall += 2 * 3_600_000;
    let late = w.submit(Plan::default());
    w.end(key(late, 0, 1), exited(0));
    w.restart();
    assert!(w.leader.job(failed).is_none() && w.leader.job(never).is_none());
    assert_eq!(w.leader.job(late).unwrap().ended, Some(State::Done));
    assert!(w.does(Deed::Retry, failed).contains("ended long ago"));
}
