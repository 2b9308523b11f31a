//! Jobs that wait for others.

use super::*;

fn after(how: AfterHow, all: &[u64]) -> Plan {
    Plan {
        after: vec![After {
            jobs: Some(ids(all)),
            how: how as i32,
        }],
        ..Plan::default()
    }
}

#[test]
fn each_kind_with_each_end() {
    use AfterHow::{Any, Fail, Ok};
    for (code, how, runs) in [
        (0, Ok, true),
        (1, Ok, false),
        (0, Any, true),
        (1, Any, true),
        (0, Fail, false),
        (1, Fail, true),
    ] {
        for (restart, late) in [(false, false), (true, false), (false, true)] {
            let mut w = World::with(&[("h1", 4)]);
            let first = w.submit(Plan::default());
            let mut id = 0;
            if !late {
                id = w.submit(after(how, &[first]));
                assert_eq!((w.state(id), w.keys()), (State::Waiting, vec![]));
            }
            if restart {
                w.restart();
                w.host("h1", 4);
                w.link("h1", vec![running(key(first, 0, 1))]);
            }
            w.end(key(first, 0, 1), exited(code));
            if late {
                id = w.submit(after(how, &[first]));
            }
            if runs {
                assert_eq!(w.keys(), [(id, 0, 1)], "{code} {how:?}");
            } else {
                assert_eq!(w.state(id), State::Failed, "{code} {how:?}");
                let reason = &w.leader.job(id).unwrap().row.reason;
                let text = if code == 0 { "ended well" } else { "failed" };
                assert_eq!(*reason, format!("{first} {text}"));
            }
        }
    }
}

#[test]
fn a_buried_job_has_not_ended() {
    let mut w = World::with(&[("h1", 1)]);
    let first = w.submit(Plan::default());
    let id = w.submit(after(AfterHow::Ok, &[first]));
    w.end(key(first, 0, 1), caused(Cause::NotFound));
    assert_eq!((w.state(first), w.state(id)), (State::Buried, State::Waiting));
    w.does(Deed::Retry, first);
    w.end(key(first, 0, 2), exited(0));
    assert_eq!(w.keys(), [(id, 0, 1)]);
}

#[test]
fn killed_and_deleted_ones() {
    for deed in [Deed::Kill, Deed::Delete] {
        let mut w = World::with(&[("h1", 1)]);
        let first = w.submit(Plan {
            hold: true,
            ..Plan::default()
        });
        let ok = w.submit(after(AfterHow::Ok, &[first]));
        let any = w.submit(after(AfterHow::Any, &[first]));
        w.does(deed, first);
        assert_eq!(w.state(ok), State::Failed);
        assert_eq!(w.keys(), [(any, 0, 1)]);
    }
}

#[test]
fn names_and_groups_mean_those_that_are_there() {
    let mut w = World::with(&[("h1", 4)]);
    let named = |name: &str, group: &str| Plan {
        name: name.into(),
        group: group.into(),
        ..Plan::default()
    };
    let a = w.submit(named("build", "g"));
    let b = w.submit(named("test", "g"));
    w.submit_as("h1", "bob", named("build", "g"));
    let word = |word: &str| Plan {
        after: vec![After {
            jobs: Some(Selection {
                words: vec![word.into()],
                ..Selection::default()
            }),
            how: 0,
        }],
        ..Plan::default()
    };
    let id = w.submit(word("g"));
    assert_eq!(w.leader.jobs[&id].row.after, [(a, 0), (b, 0)]);
    let id = w.submit(word("build"));
    assert_eq!(w.leader.jobs[&id].row.after, [(a, 0)]);
    w.submit(word("nothing"));
    assert!(matches!(&w.told("h1")[..], [down::Kind::Rejected(_)]));
}

#[test]
fn a_chain_of_many_falls_without_recursion() {
    let mut w = World::with(&[("h1", 1)]);
    w.leader.next_id = 1_000_000;
    let first = w.submit(Plan {
        hold: true,
        ..Plan::default()
    });
    let mut last = first;
    let mut out = Vec::new();
    for _ in 0..20_000 {
        let id = w.next;
        w.next += 1;
        let submit = Submit {
            plan: Some(after(AfterHow::Ok, &[last])),
            id,
            owner: "alice".into(),
            ..Submit::default()
        };
        let input = LeaderInput::Heard {
            host: "h1".into(),
            conn: w.links["h1"].0,
            message: up::Kind::Submit(submit),
        };
        w.leader.handle(w.clock, input, &mut out);
        out.clear();
        last = id;
    }
    w.does(Deed::Kill, first);
    assert_eq!(w.leader.over.state(last), Some(State::Failed));
    assert!(w.leader.jobs.is_empty());
}
