//! Large arrays and many jobs: memory and time.

use super::*;
use crate::engine::rng::Rng;
use std::io::Write as _;

#[test]
fn a_million_tasks_of_which_half_ended_in_random_order() {
    const N: u32 = 1_000_000;
    let mut job = Job::new(
        crate::store::JobRow {
            plan: array(1, N, 0),
            ..Default::default()
        },
        1,
    );
    let mut rng = Rng::new(5);
    // Up to a thousand at once, which end in any order; one in a hundred fails.
    let mut out: Vec<u32> = Vec::new();
    let mut failed = 0;
    for _ in 0..N / 2 {
        while out.len() < 1000 {
            let i = job.tasks.next().unwrap();
            job.tasks.extra_mut(i).attempt += 1;
            job.tasks.set(i, Stage::Sent);
            out.push(i);
        }
        let i = out.swap_remove(rng.below(out.len()));
        if rng.below(100) == 0 {
            failed += 1;
            job.tasks.extra_mut(i).fate = Some(Box::new(super::super::table::Fate {
                outcome: exited(1),
                host: "h1".into(),
                ended_ms: 1,
            }));
            job.tasks.set(i, Stage::Failed);
        } else {
            job.tasks.set(i, Stage::Done);
            job.tasks.forget(i);
        }
    }
    job.tasks.check();
    assert_eq!(job.tasks.count(Stage::Failed), failed);
    assert_eq!(job.tasks.idle() + 1000, N / 2 + 1);
    let bytes = job.tasks.bytes();
    assert!(bytes < 10 << 20, "{bytes} bytes");
}

#[test]
fn an_array_is_submitted_and_killed_in_one_go() {
    let mut w = World::with(&[("h1", 4)]);
    let id = w.submit(array(1, 1_000_000, 0));
    assert!(w.keys().len() >= 4);
    let n = w.leader.live.len();
    for k in w.leader.live.keys().copied().collect::<Vec<_>>() {
        w.start(k);
    }
    w.does(Deed::Kill, id);
    assert!(w.kills("h1").len() >= n);
    while let Some(k) = w.leader.live.keys().next().copied() {
        w.end(k, caused(Cause::Killed));
    }
    assert_eq!(w.leader.over.state(id), Some(State::Killed));
}

#[test]
fn a_hundred_thousand_jobs_are_killed_in_one_pass() {
    let mut w = World::with(&[("h1", 4)]);
    w.leader.next_id = 1_000_000;
    let mut out = Vec::new();
    for id in 1..=100_000 {
        let submit = Submit {
            plan: Some(Plan {
                group: "g".into(),
                limits: vec![LimitUse {
                    name: "l".into(),
                    total: Some(1),
                }],
                ..Plan::default()
            }),
            id,
            owner: "alice".into(),
            ..Submit::default()
        };
        let input = LeaderInput::Heard {
            host: "h1".into(),
            conn: 1,
            message: up::Kind::Submit(submit),
        };
        w.leader.handle(w.clock, input, &mut out);
        out.clear();
    }
    assert_eq!(w.leader.live.len(), 1);
    let acted = w.act(
        Deed::Kill,
        Selection {
            group: "g".into(),
            ..Selection::default()
        },
    );
    assert_eq!((acted.number, acted.lines.len()), (100_000, 100));
    assert_eq!(w.leader.jobs.len(), 1);
    assert!(w.leader.ended.len() <= 20_001);
    assert_eq!(w.leader.over.len(), 99_999);
}

/// Time of the whole life of short jobs, and of taking over many: `cargo test --profile ci -- --ignored --nocapture
/// leader_speed`.
#[test]
#[ignore = "a measurement: run it with optimisation"]
#[allow(clippy::disallowed_methods, reason = "a measurement")]
fn leader_speed() {
    const JOBS: u64 = 100_000;
    let mut w = World::with(&[("h1", 2)]);
    w.leader.next_id = 1_000_000;
    let conn = w.links["h1"].0;
    let mut out = Vec::new();
    let clock = w.clock;
    let hear = |leader: &mut Leader, out: &mut Vec<LeaderEffect>, message| {
        let host = "h1".into();
        leader.handle(clock, LeaderInput::Heard { host, conn, message }, out);
    };
    let mut ops_all = Vec::new();
    let begin = std::time::Instant::now();
    for id in 1..=JOBS {
        let submit = Submit {
            plan: Some(Plan::default()),
            id,
            owner: "alice".into(),
            ..Submit::default()
        };
        hear(&mut w.leader, &mut out, up::Kind::Submit(submit));
        let ops = out.drain(..).filter_map(|e| match e {
            LeaderEffect::Store(op) => Some(op),
            _ => None,
        });
        ops_all.extend(ops);
    }
    let submitted = begin.elapsed();
    w.store.commit(&ops_all).unwrap();
    let mut loads = w.store.clone();
    let begin = std::time::Instant::now();
    let mut n = 0;
    while let Some(k) = w.leader.live.keys().next().copied() {
        let key = Some(k);
        let running = Some(Running::default());
        hear(
            &mut w.leader,
            &mut out,
            up::Kind::Started(StartedAttempt { key, running }),
        );
        let outcome = Some(exited(0));
        hear(
            &mut w.leader,
            &mut out,
            up::Kind::Ended(EndedAttempt { key, outcome }),
        );
        out.clear();
        n += 1;
    }
    assert_eq!(n, JOBS);
    let ran = begin.elapsed();
    let begin = std::time::Instant::now();
    let loaded = loads.load().unwrap();
    let read = begin.elapsed();
    let begin = std::time::Instant::now();
    w.leader = Leader::new(clock, "h0", loaded, 8, &mut out);
    let taken = begin.elapsed();
    assert_eq!(w.leader.jobs.len() as u64, JOBS);
    let each = |d: std::time::Duration| d.as_micros() as f64 / JOBS as f64;
    let _ = writeln!(
        std::io::stderr(),
        "submit {:.1} us, start and end {:.1} us each; {JOBS} jobs read in {read:?}, taken over in {taken:?}",
        each(submitted),
        each(ran)
    );
}
