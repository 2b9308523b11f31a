//! Lost hosts, leases, and hosts that come back.

use super::*;

fn world(policy: Restart) -> (World, u64, Key) {
    let mut w = World::with(&[("h1", 4), ("h2", 4)]);
    let id = w.submit(Plan {
        prefer: "h2".into(),
        ..restart(policy)
    });
    assert_eq!(w.sent()[0].0, "h2");
    let k = key(id, 0, 1);
    w.start(k);
    (w, id, k)
}

#[test]
fn ask_waits_for_its_owner_and_springs_back() {
    let (mut w, id, k) = world(Restart::Ask);
    w.unlink("h2");
    w.pass(59_000);
    assert_eq!(w.state(id), State::Running);
    w.pass(2000);
    assert_eq!(w.state(id), State::Lost);
    w.pass(10_000_000);
    assert_eq!((w.state(id), w.leader.live.len()), (State::Lost, 1));
    w.link("h2", vec![running(k)]);
    assert_eq!((w.state(id), w.kills("h2")), (State::Running, vec![]));
    w.end(k, exited(0));
    assert_eq!(w.leader.over.state(id), Some(State::Done));
}

#[test]
fn ask_and_the_host_was_restarted() {
    let (mut w, id, _) = world(Restart::Ask);
    w.unlink("h2");
    w.pass(70_000);
    w.lives.insert("h2".into(), 2);
    w.link("h2", Vec::new());
    assert_eq!(w.state(id), State::Buried);
    let fate = w.leader.jobs[&id].tasks.extra(0).unwrap().fate.as_ref().unwrap();
    assert_eq!(fate.outcome.text, "h2 was restarted while it ran");
    assert_eq!(fate.outcome.cause, Cause::SessionLost as i32);
    assert_eq!(w.does(Deed::Retry, id), format!("{id}: to be run again"));
}

#[test]
fn retry_of_a_lost_job_needs_a_word() {
    for (confirm_dead, may_double) in [(true, false), (false, true)] {
        let (mut w, id, k) = world(Restart::Ask);
        w.unlink("h2");
        w.pass(70_000);
        assert!(w.does(Deed::Retry, id).contains("--confirm-dead"));
        let acted = w.act_as(
            "alice",
            Act {
                deed: Deed::Retry as i32,
                which: Some(ids(&[id])),
                confirm_dead,
                may_double,
                ..Act::default()
            },
        );
        assert_eq!(acted.number, 1, "{acted:?}");
        let sent = w.keys();
        assert_eq!(sent.len(), 1);
        let (_, _, n) = sent[0];
        assert_eq!(w.leader.live.contains_key(&k), may_double);
        w.restart();
        w.host("h1", 4);
        w.link("h1", vec![running(key(id, 0, n))]);
        // The old one comes back: it is ended, and what comes of it is recorded with it alone.
        w.host("h2", 4);
        w.link("h2", vec![running(k)]);
        assert_eq!(w.kills("h2"), [(k, 0, Cause::Superseded as i32)]);
        assert_eq!(w.state(id), State::Running);
        w.end_on("h2", k, exited(0));
        assert!(w.told("h2").contains(&down::Kind::Forget(k)));
        assert_eq!(w.state(id), State::Running);
        w.end(key(id, 0, n), exited(0));
        assert_eq!(w.leader.over.state(id), Some(State::Done));
    }
}

#[test]
fn a_double_that_is_not_sent_yet_survives_a_new_leader() {
    let (mut w, id, k) = world(Restart::Ask);
    w.unlink("h2");
    w.unlink("h1");
    w.pass(70_000);
    let act = Act {
        deed: Deed::Retry as i32,
        which: Some(ids(&[id])),
        may_double: true,
        ..Act::default()
    };
    w.act_as("alice", act);
    assert_eq!((w.keys(), w.state(id)), (vec![], State::Ready));
    w.restart();
    assert!(w.leader.live[&k].old);
    w.host("h1", 4);
    w.link("h1", Vec::new());
    assert_eq!(w.keys(), [(id, 0, 3)]);
}

#[test]
fn fail_has_failed_at_once_but_holds_its_place() {
    let (mut w, id, k) = world(Restart::Fail);
    w.view("h2", 4, true);
    w.unlink("h2");
    w.pass(6000);
    assert_eq!(w.state(id), State::Failed);
    assert!(w.leader.jobs.contains_key(&id) && w.leader.live[&k].old);
    w.restart();
    assert_eq!(w.state(id), State::Failed);
    w.view("h2", 4, false);
    w.link("h2", vec![running(k)]);
    assert_eq!(w.kills("h2"), [(k, 0, Cause::Superseded as i32)]);
    w.end_on("h2", k, caused(Cause::Superseded));
    assert_eq!(w.leader.over.state(id), Some(State::Failed));
}

#[test]
fn restart_waits_for_the_lease_and_its_margin() {
    let (mut w, id, k) = world(Restart::Restart);
    w.pass(30_000);
    w.hear(
        "h2",
        up::Kind::Renew(Renew {
            number: 4,
            keys: vec![k, key(id, 0, 9)],
        }),
    );
    let renewed = w.told("h2");
    assert!(matches!(&renewed[..], [down::Kind::Renewed(r)] if r.number == 4 && r.keys == [k]));
    w.pass(10_000);
    w.view("h2", 4, true);
    w.unlink("h2");
    w.pass(6000);
    // 60 s from the renewal, and 2 s more.
    assert_eq!(w.state(id), State::Lost);
    w.pass(62_000 - 16_000 - 1);
    assert_eq!(w.keys(), []);
    w.pass(1);
    assert_eq!(w.keys(), [(id, 0, 2)]);
    assert_eq!(w.leader.jobs[&id].tasks.extra(0).unwrap().failures, 0);
    // The first one comes back and has ended well: too late.
    w.view("h2", 4, false);
    w.link("h2", vec![ended(k, exited(0))]);
    assert!(w.told("h2").contains(&down::Kind::Forget(k)));
    w.start(key(id, 0, 2));
    assert_eq!(w.state(id), State::Running);
}

#[test]
fn restart_springs_back_before_the_lease_is_over() {
    let (mut w, id, k) = world(Restart::Restart);
    w.view("h2", 4, true);
    w.unlink("h2");
    w.pass(20_000);
    assert_eq!(w.state(id), State::Lost);
    w.view("h2", 4, false);
    w.link("h2", vec![running(k)]);
    assert_eq!(w.state(id), State::Running);
    w.pass(50_000);
    assert_eq!((w.state(id), w.leader.live.len()), (State::Running, 1));
}

#[test]
fn a_new_leader_waits_for_leases_that_it_does_not_know() {
    let (mut w, id, _) = world(Restart::Restart);
    w.pass(50_000);
    w.restart();
    w.host("h1", 4);
    w.link("h1", Vec::new());
    w.pass(61_900);
    assert_eq!((w.state(id), w.keys()), (State::Lost, vec![]));
    w.pass(200);
    assert_eq!(w.keys(), [(id, 0, 2)]);
}

#[test]
fn restart_and_the_host_was_restarted() {
    let (mut w, id, _) = world(Restart::Restart);
    w.unlink("h2");
    w.lives.insert("h2".into(), 2);
    w.link("h2", Vec::new());
    assert_eq!(w.state(id), State::Waiting);
    w.pass(1100);
    assert_eq!(w.keys(), [(id, 0, 2)]);
    assert_eq!(w.leader.jobs[&id].tasks.extra(0).unwrap().failures, 0);
}

#[test]
fn what_never_started_is_sent_again() {
    let mut w = World::with(&[("h1", 4)]);
    let id = w.submit(Plan::default());
    w.unlink("h1");
    w.link("h1", Vec::new());
    assert_eq!(w.keys(), [(id, 0, 2)]);
    // A hello on the same connection judges nothing that went out on it.
    w.hello("h1", Vec::new(), true);
    assert_eq!(w.leader.live.len(), 1);
    // One that is not complete judges nothing at all.
    w.unlink("h1");
    w.conns += 1;
    w.links.insert("h1".into(), (w.conns, 100 + w.conns));
    w.hello("h1", Vec::new(), false);
    assert_eq!((w.leader.live.len(), w.keys()), (1, vec![]));
    w.hello("h1", vec![running(key(id, 0, 2))], true);
    assert_eq!(w.state(id), State::Running);
    // Known to have started and not there any more.
    w.unlink("h1");
    w.link("h1", Vec::new());
    assert_eq!(w.state(id), State::Buried);
}

#[test]
fn earlier_connections_count_for_nothing() {
    let mut w = World::with(&[("h1", 4)]);
    let id = w.submit(Plan::default());
    let k = key(id, 0, 1);
    let old = w.links["h1"];
    w.link("h1", vec![running(k)]);
    assert!(
        w.out
            .iter()
            .any(|e| matches!(e, LeaderEffect::Close { conn, .. } if *conn == old.0))
    );
    let new = w.links.insert("h1".into(), old).unwrap();
    w.end_on("h1", k, exited(1));
    assert_eq!(w.state(id), State::Running);
    // Its hello comes late.
    w.hello("h1", Vec::new(), true);
    assert_eq!(w.state(id), State::Running);
    assert!(
        w.out
            .iter()
            .any(|e| matches!(e, LeaderEffect::Close { conn, .. } if *conn == old.0))
    );
    w.links.insert("h1".into(), new);
    w.end_on("h1", k, exited(0));
    assert_eq!(w.leader.over.state(id), Some(State::Done));
}

#[test]
fn a_removed_host_needs_no_confirmation() {
    let (mut w, id, _) = world(Restart::Ask);
    w.input(LeaderInput::HostsGone(vec!["h2".into()]));
    assert_eq!(w.state(id), State::Lost);
    assert_eq!(w.does(Deed::Retry, id), format!("{id}: to be run again"));
    assert_eq!(w.keys(), [(id, 0, 2)]);
}

#[test]
fn suspended_and_lost_and_back() {
    let (mut w, id, k) = world(Restart::Ask);
    let stopped = |stopped| {
        up::Kind::Stopped(StoppedAttempt {
            key: Some(k),
            stopped,
        })
    };
    w.does(Deed::Suspend, id);
    assert_eq!(w.kills("h2"), [(k, 19, Cause::Signal as i32)]);
    w.hear("h2", stopped(true));
    assert_eq!(w.state(id), State::Suspended);
    assert!(w.does(Deed::Suspend, id).contains("does not run"));
    w.unlink("h2");
    w.pass(70_000);
    assert_eq!(w.state(id), State::Lost);
    assert!(w.does(Deed::Resume, id).contains("cannot be reached"));
    w.link(
        "h2",
        vec![Held {
            stopped: true,
            ..running(k)
        }],
    );
    assert_eq!(w.state(id), State::Suspended);
    w.does(Deed::Resume, id);
    w.hear("h2", stopped(false));
    assert_eq!(w.state(id), State::Running);
}
