//! Limits, classes and tasks at once.

use super::*;
use crate::engine::jobs::leader::table::Gate;
use libqueue::wire::job::Class;

fn licensed(total: Option<u32>) -> Plan {
    Plan {
        limits: vec![LimitUse {
            name: "license".into(),
            total,
        }],
        ..Plan::default()
    }
}

fn gate(w: &World) -> (u32, usize) {
    let g = &w.leader.limits.gates[&Gate::Limit("license".into())];
    (g.used, g.waiting())
}

#[test]
fn never_more_than_there_are_units() {
    let mut w = World::with(&[("h1", 8), ("h2", 8)]);
    let jobs: Vec<u64> = (0..10).map(|_| w.submit(licensed(Some(3)))).collect();
    assert_eq!(w.leader.live.len(), 3);
    assert_eq!(gate(&w), (3, 7));
    assert_eq!(w.state(jobs[9]), State::Ready);
    // One that needs none goes by.
    let free = w.submit(Plan::default());
    assert_eq!(w.keys(), [(free, 0, 1)]);
    w.end(key(free, 0, 1), exited(0));
    let mut order = Vec::new();
    while let Some(k) = w.leader.live.keys().next().copied() {
        assert!(w.leader.live.len() <= 3);
        w.end(k, exited(0));
        order.push(k.job);
    }
    assert_eq!(order, jobs);
}

#[test]
fn higher_priority_takes_the_next_unit() {
    let mut w = World::with(&[("h1", 8)]);
    let first = w.submit(licensed(Some(1)));
    let low = w.submit(licensed(None));
    let high = w.submit(Plan {
        priority: Some(9),
        ..licensed(None)
    });
    w.end(key(first, 0, 1), exited(0));
    assert_eq!(w.keys(), [(high, 0, 1)]);
    assert_eq!(w.act(Deed::Hold, ids(&[high])).number, 1);
    w.end(key(high, 0, 1), caused(Cause::NotStarted));
    assert_eq!(w.keys(), [(low, 0, 1)]);
}

#[test]
fn one_that_fits_nowhere_does_not_keep_units_from_others() {
    let mut w = World::with(&[("h1", 4)]);
    let stuck = w.submit(Plan {
        host: "h9".into(),
        priority: Some(5),
        ..licensed(Some(1))
    });
    let id = w.submit(licensed(None));
    assert_eq!(w.keys(), [(id, 0, 1)]);
    assert_eq!(w.state(stuck), State::Ready);
    let big = |n| Plan {
        need: Some(Need {
            cores: n,
            ..Need::default()
        }),
        ..licensed(None)
    };
    let large = w.submit(Plan {
        priority: Some(7),
        ..big(64)
    });
    let small = w.submit(big(2));
    w.end(key(id, 0, 1), exited(0));
    assert_eq!(w.keys(), [(small, 0, 1)]);
    assert_eq!(w.state(large), State::Ready);
    w.does(Deed::Kill, large);
    w.does(Deed::Kill, stuck);
    w.end(key(small, 0, 1), exited(0));
    assert_eq!(w.leader.limits.gates[&Gate::Limit("license".into())].used, 0);
}

#[test]
fn two_limits_at_once() {
    let mut w = World::with(&[("h1", 8)]);
    let both = |a: Option<u32>, b: Option<u32>| Plan {
        limits: vec![
            LimitUse {
                name: "a".into(),
                total: a,
            },
            LimitUse {
                name: "b".into(),
                total: b,
            },
        ],
        ..Plan::default()
    };
    let only = |name: &str| Plan {
        limits: vec![LimitUse {
            name: name.into(),
            total: None,
        }],
        ..Plan::default()
    };
    let first = w.submit(both(Some(1), Some(1)));
    let (x, y, z) = (
        w.submit(both(None, None)),
        w.submit(only("a")),
        w.submit(only("b")),
    );
    assert_eq!(w.leader.live.len(), 1);
    w.end(key(first, 0, 1), exited(0));
    assert_eq!(w.keys(), [(x, 0, 1)]);
    w.does(Deed::Kill, x);
    w.end(key(x, 0, 1), caused(Cause::Killed));
    let mut keys = w.keys();
    keys.sort_unstable();
    assert_eq!(keys, [(y, 0, 1), (z, 0, 1)]);
}

#[test]
fn units_survive_a_new_leader_and_a_lost_host() {
    let mut w = World::with(&[("h1", 4), ("h2", 4)]);
    let a = w.submit(Plan {
        host: "h1".into(),
        ..licensed(Some(1))
    });
    w.start(key(a, 0, 1));
    let b = w.submit(Plan {
        host: "h2".into(),
        ..licensed(None)
    });
    w.restart();
    w.host("h2", 4);
    w.link("h2", Vec::new());
    assert_eq!((w.keys(), gate(&w)), (vec![], (1, 1)));
    w.pass(61_000);
    assert_eq!((w.state(a), w.keys()), (State::Lost, vec![]));
    // Killed, it still may run: its unit is not free.
    w.does(Deed::Kill, a);
    assert_eq!((w.state(a), w.keys(), gate(&w)), (State::Killed, vec![], (1, 1)));
    w.host("h1", 4);
    w.link("h1", vec![running(key(a, 0, 1))]);
    assert_eq!(w.kills("h1"), [(key(a, 0, 1), 0, Cause::Killed as i32)]);
    w.end_on("h1", key(a, 0, 1), caused(Cause::Killed));
    assert_eq!(w.keys(), [(b, 0, 1)]);
}

#[test]
fn a_limit_may_change() {
    let mut w = World::with(&[("h1", 8)]);
    for _ in 0..5 {
        w.submit(licensed(Some(1)));
    }
    w.leader.set_total(&Gate::Limit("license".into()), Some(3));
    w.input(LeaderInput::Tick);
    assert_eq!((w.leader.live.len(), w.keys().len()), (3, 2));
    w.leader.set_total(&Gate::Limit("license".into()), Some(0));
    w.input(LeaderInput::Tick);
    let k = *w.leader.live.keys().next().unwrap();
    w.end(k, exited(0));
    assert_eq!(w.keys(), []);
    w.leader.set_total(&Gate::Limit("license".into()), None);
    w.input(LeaderInput::Tick);
    assert_eq!(w.leader.live.len(), 4);
}

#[test]
fn a_class_may_be_limited() {
    let mut w = World::with(&[("h1", 8)]);
    w.input(LeaderInput::Classes(vec![Class {
        name: "slow".into(),
        max_running: 2,
        priority: 4,
        retries: 1,
        ..Class::default()
    }]));
    for _ in 0..4 {
        w.submit(Plan {
            class: "slow".into(),
            ..Plan::default()
        });
    }
    assert_eq!(w.leader.live.len(), 2);
    let plan = &w.leader.jobs[&1].row.plan;
    assert_eq!((plan.priority, plan.retries), (Some(4), Some(1)));
    w.input(LeaderInput::Classes(Vec::new()));
    assert_eq!(w.leader.live.len(), 4);
}

#[test]
fn at_most_so_many_tasks_at_once() {
    let mut w = World::with(&[("h1", 8)]);
    let id = w.submit(array(1, 10, 3));
    assert_eq!(w.keys(), [(id, 1, 1), (id, 2, 1), (id, 3, 1)]);
    w.end(key(id, 2, 1), exited(0));
    assert_eq!(w.keys(), [(id, 4, 1)]);
    w.end(key(id, 1, 1), exited(9));
    assert_eq!(w.keys(), [(id, 5, 1)]);
    while let Some(k) = w.leader.live.keys().next().copied() {
        w.end(k, exited(0));
    }
    assert_eq!(w.state(id), State::Failed);
    assert!(w.does(Deed::Retry, id).contains("1 task to be run again"));
    assert_eq!(w.keys(), [(id, 1, 2)]);
}
