//! Submissions, attempts and results.

use super::*;

#[test]
fn a_job_from_submission_to_end() {
    let mut w = World::with(&[("h1", 2)]);
    let id = w.submit(Plan::default());
    // On disk first, then told, then sent.
    let at = |f: &dyn Fn(&LeaderEffect) -> bool| w.out.iter().position(f).unwrap();
    let job = at(&|e| matches!(e, LeaderEffect::Store(Op::Job { .. })));
    let accepted = at(&|e| {
        matches!(
            e,
            LeaderEffect::Send {
                message: down::Kind::Accepted(_),
                ..
            }
        )
    });
    let attempt = at(&|e| matches!(e, LeaderEffect::Store(Op::Attempt(_))));
    let dispatch = at(&|e| matches!(e, LeaderEffect::Dispatch { runs, .. } if *runs == [id]));
    assert!(job < accepted && attempt < dispatch);
    assert_eq!(w.keys(), [(id, 0, 1)]);
    assert_eq!(w.sent()[0].1.need.as_ref().unwrap().cores, 1);
    assert_eq!(w.state(id), State::Ready);
    let k = key(id, 0, 1);
    w.start(k);
    assert_eq!(w.state(id), State::Running);
    w.end(k, exited(0));
    let ended = w
        .out
        .iter()
        .position(|e| matches!(e, LeaderEffect::Store(Op::Ended { .. })));
    let forget = w
        .out
        .iter()
        .position(|e| matches!(e, LeaderEffect::Send { message: down::Kind::Forget(f), .. } if *f == k));
    assert!(ended.unwrap() < forget.unwrap());
    assert!(w.told("h1").contains(&down::Kind::JobOver(id)));
    assert_eq!(
        (w.state(id), w.leader.over.state(id)),
        (State::Done, Some(State::Done))
    );
    assert!(w.leader.jobs.is_empty() && w.leader.live.is_empty());
    // Said twice: only to be forgotten again.
    w.end_on("h1", k, exited(1));
    assert_eq!(w.told("h1"), [down::Kind::Forget(k)]);
    assert!(!w.out.iter().any(|e| matches!(e, LeaderEffect::Store(_))));
    w.restart();
    assert_eq!(w.leader.over.state(id), Some(State::Done));
}

#[test]
fn submissions_are_idempotent_and_numbers_checked() {
    let mut w = World::with(&[("h1", 1)]);
    let id = w.submit(Plan::default());
    for _ in 0..2 {
        w.submit_id("h1", "alice", Plan::default(), id);
        let told = w.told("h1");
        assert!(matches!(&told[..], [down::Kind::Accepted(s)] if s.id == id && !s.existed));
        assert!(!w.out.iter().any(|e| matches!(e, LeaderEffect::Store(_))));
    }
    w.end(key(id, 0, 1), exited(0));
    w.submit_id("h1", "alice", Plan::default(), id);
    assert!(matches!(&w.told("h1")[..], [down::Kind::Accepted(s)] if s.id == id));
    w.restart();
    w.link("h1", Vec::new());
    w.submit_id("h1", "alice", Plan::default(), id);
    assert!(matches!(&w.told("h1")[..], [down::Kind::Accepted(s)] if s.id == id));
    w.submit_id("h1", "alice", Plan::default(), 5000);
    assert!(matches!(&w.told("h1")[..], [down::Kind::Rejected(r)] if r.text.contains("never given")));
    assert!(w.leader.jobs.is_empty());
}

#[test]
fn what_cannot_be_is_rejected_and_recorded() {
    let mut w = World::with(&[("h1", 1)]);
    let range = |from, to| Array {
        ranges: vec![TaskRange { from, to, step: 1 }],
        at_once: 0,
    };
    let after = |id| After {
        jobs: Some(ids(&[id])),
        how: 0,
    };
    let bad = [
        (
            "class",
            Plan {
                class: "x".into(),
                ..Plan::default()
            },
        ),
        (
            "tasks",
            Plan {
                array: Some(range(0, 3)),
                ..Plan::default()
            },
        ),
        (
            "tasks",
            Plan {
                array: Some(range(5, 3)),
                ..Plan::default()
            },
        ),
        (
            "tasks",
            Plan {
                array: Some(range(1, u32::MAX)),
                ..Plan::default()
            },
        ),
        (
            "tasks",
            Plan {
                array: Some(Array::default()),
                ..Plan::default()
            },
        ),
        (
            "no job 77",
            Plan {
                after: vec![after(77)],
                ..Plan::default()
            },
        ),
        (
            "understood",
            Plan {
                need: Some(Need {
                    expr: "((".into(),
                    ..Need::default()
                }),
                ..Plan::default()
            },
        ),
    ];
    for (why, plan) in bad {
        let id = w.submit(plan.clone());
        let told = w.told("h1");
        assert!(
            matches!(&told[..], [down::Kind::Rejected(r)] if r.id == id && r.text.contains(why)),
            "{why}: {told:?}"
        );
        assert_eq!(w.leader.over.state(id), Some(State::Failed));
        assert!(w.leader.job(id).unwrap().row.reason.starts_with("rejected: "));
        w.submit_id("h1", "alice", plan, id);
        assert!(
            matches!(&w.told("h1")[..], [down::Kind::Rejected(_)]),
            "again: {why}"
        );
        assert!(w.does(Deed::Retry, id).contains("submit it again"));
    }
}

#[test]
fn numbers_come_in_blocks_that_grow() {
    let mut w = World::new();
    w.host("h1", 1);
    w.link("h1", Vec::new());
    let mut sizes = Vec::new();
    let mut last = 1;
    for pause in [0, 1000, 1000, 1000, 20_000] {
        w.pass(pause);
        w.block("h1");
        let told = w.told("h1");
        let [down::Kind::Block(b)] = &told[..] else {
            panic!("{told:?}")
        };
        assert_eq!(b.from, last);
        last = b.to;
        sizes.push(b.to - b.from);
        let stored = w
            .out
            .iter()
            .any(|e| matches!(e, LeaderEffect::Store(Op::NextId(n)) if *n == last));
        assert!(stored);
    }
    assert_eq!(sizes, [100, 200, 400, 800, 800]);
    w.restart();
    assert_eq!(w.leader.next_id, last);
}

#[test]
fn retries_wait_longer_each_time_and_then_it_is_buried() {
    let mut w = World::with(&[("h1", 1)]);
    let id = w.submit(Plan {
        retries: Some(3),
        ..Plan::default()
    });
    for n in 1..=4 {
        let k = key(id, 0, n);
        w.start(k);
        w.end(k, exited(3));
        if n == 4 {
            break;
        }
        assert_eq!(w.state(id), State::Waiting);
        let base = 30_000 << (n - 1);
        w.pass(base - 1);
        assert_eq!(w.keys(), []);
        if n == 2 {
            // A new leader knows when.
            w.restart();
            w.link("h1", Vec::new());
            w.host("h1", 1);
        }
        w.pass(31_000);
        assert_eq!(w.keys(), [(id, 0, n + 1)]);
    }
    assert_eq!(w.state(id), State::Buried);
    assert!(w.leader.jobs.contains_key(&id));
    w.pass(10_000_000);
    assert_eq!(w.state(id), State::Buried);
    assert_eq!(w.does(Deed::Retry, id), format!("{id}: to be run again"));
    assert_eq!(w.keys(), [(id, 0, 5)]);
    w.end(key(id, 0, 5), exited(1));
    assert_eq!(w.state(id), State::Waiting);
}

#[test]
fn without_retries_it_has_failed_and_can_be_run_again() {
    let mut w = World::with(&[("h1", 1)]);
    let id = w.submit(Plan::default());
    w.end(key(id, 0, 1), exited(1));
    assert_eq!(w.leader.over.state(id), Some(State::Failed));
    assert_eq!(w.does(Deed::Retry, id), format!("{id}: to be run again"));
    assert_eq!((w.keys(), w.leader.over.get(id)), (vec![(id, 0, 2)], None));
    w.restart();
    assert!(w.leader.jobs.contains_key(&id));
    w.link("h1", vec![ended(key(id, 0, 2), exited(0))]);
    assert_eq!(w.leader.over.state(id), Some(State::Done));
    assert!(w.does(Deed::Retry, id).contains("ended well"));
}

#[test]
fn a_host_that_sends_everything_back_is_not_asked_all_the_time() {
    let mut w = World::with(&[("h1", 1)]);
    let id = w.submit(Plan::default());
    let mut n = 0;
    let end = w.clock.boot + 60_000;
    while w.clock.boot < end {
        if let Some(k) = w.leader.live.keys().next().copied() {
            w.end(k, caused(Cause::NotStarted));
            n += 1;
        }
        w.pass(100);
    }
    assert!((5..=15).contains(&n), "{n} attempts in a minute");
    assert_ne!(w.state(id), State::Buried);
}

#[test]
fn the_same_is_not_submitted_twice() {
    let mut w = World::with(&[("h1", 1)]);
    let plan = |window_ms| Plan {
        dedupe: Some(Dedupe {
            identity: vec![7; 32],
            window_ms,
        }),
        ..Plan::default()
    };
    let first = w.submit(plan(0));
    let says = |w: &World| match &w.told("h1")[..] {
        [down::Kind::Accepted(s), ..] => (s.id, s.existed),
        other => panic!("{other:?}"),
    };
    w.submit(plan(0));
    assert_eq!(says(&w), (first, true));
    w.end(key(first, 0, 1), exited(0));
    w.submit(plan(60_000));
    assert_eq!(says(&w), (first, true));
    w.restart();
    w.link("h1", Vec::new());
    w.pass(59_000);
    w.submit(plan(60_000));
    assert_eq!(says(&w), (first, true));
    w.pass(2000);
    let second = w.submit(plan(60_000));
    assert_eq!(says(&w), (second, false));
}

#[test]
fn not_before_its_time_whatever_the_clock_does() {
    let mut w = World::with(&[("h1", 1)]);
    let at_ms = w.clock.wall + 3_600_000;
    let id = w.submit(Plan {
        at_ms,
        ..Plan::default()
    });
    assert_eq!((w.state(id), w.keys()), (State::Waiting, vec![]));
    w.pass(1_800_000);
    assert_eq!(w.keys(), []);
    w.clock.wall += 1_700_000;
    w.pass(60_000);
    assert_eq!(w.keys(), []);
    w.pass(100_000);
    assert_eq!(w.keys(), [(id, 0, 1)]);
}

#[test]
fn order_is_priority_and_then_as_they_came() {
    let mut w = World::with(&[("h1", 1)]);
    // One at a time, so that nothing is sent in advance.
    let plan = |priority| Plan {
        priority: Some(priority),
        limits: vec![LimitUse {
            name: "one".into(),
            total: Some(1),
        }],
        ..Plan::default()
    };
    for p in [0, 0, 5, -3, 5, 0] {
        w.submit(plan(p));
    }
    let mut order = Vec::new();
    while let Some(k) = w.leader.live.keys().next().copied() {
        w.end(k, exited(0));
        order.push(k.job);
    }
    assert_eq!(order, [1, 3, 5, 2, 6, 4]);
}

#[test]
fn a_store_that_is_an_old_copy_gives_no_number_twice() {
    let mut w = World::with(&[("h1", 1)]);
    let hello = WorkHello {
        life: vec![1; 16],
        link: 9_000,
        epoch: 50,
        held: vec![running(key(7000, 0, 1))],
        complete: true,
        mailer: false,
        block_used: 6000,
    };
    w.links.insert("h1".into(), (900, 9_000));
    w.hear("h1", up::Kind::Hello(hello));
    assert_eq!(w.leader.epoch, 51);
    assert!(w.leader.next_id > 7000);
    assert_eq!(w.kills("h1"), [(key(7000, 0, 1), 0, Cause::Superseded as i32)]);
    let welcome = w.told("h1").into_iter().find_map(|m| match m {
        down::Kind::Welcome(w) => Some(w.epoch),
        _ => None,
    });
    assert_eq!(welcome, Some(51));
}

#[test]
fn a_job_that_waits_for_its_own_is_not_in_its_way() {
    let mut w = World::with(&[("h1", 1)]);
    let id = w.submit(Plan::default());
    let k = key(id, 0, 1);
    w.start(k);
    // Others fill the host and what is sent in advance.
    for _ in 0..20 {
        w.submit(Plan::default());
    }
    let child = |w: &mut World| {
        w.submit(Plan {
            parent: Some(k),
            ..Plan::default()
        })
    };
    let first = child(&mut w);
    let sent = w.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].0.as_str(), sent[0].1.parent), ("h1", Some(k)));
    let second = child(&mut w);
    assert!(!w.keys().contains(&(second, 0, 1)));
    w.end(key(first, 0, 1), exited(0));
    assert!(w.keys().contains(&(second, 0, 1)), "the next one follows it");
    w.end(key(second, 0, 1), exited(0));
    w.end(k, exited(0));
    assert!(w.leader.children.is_empty());
}
