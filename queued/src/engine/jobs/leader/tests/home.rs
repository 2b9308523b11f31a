//! Output that is brought home.

use super::*;
use libqueue::wire::job::{Delivered, Run};
use prost::Message as _;

fn deliveries(w: &World) -> Vec<(String, u64, String, u64)> {
    let all = w.out.iter().filter_map(|e| match e {
        LeaderEffect::Deliver {
            conn,
            job,
            from,
            number,
        } => {
            let to = w.links.iter().find(|(_, l)| l.0 == *conn).map(|(h, _)| h.clone());
            Some((to.unwrap(), *job, from.clone(), *number))
        }
        _ => None,
    });
    all.collect()
}

fn delivered(w: &mut World, number: u64, failed: &str, hopeless: bool) {
    w.hear(
        "h1",
        up::Kind::Delivered(Delivered {
            number,
            failed: failed.into(),
            hopeless,
        }),
    );
}

fn spooled() -> Outcome {
    Outcome {
        output: b"/spool/12/queue-12.out".to_vec(),
        spooled: true,
        ..exited(0)
    }
}

/// Submitted on h1, with a file that shows who sees the directory.
fn submit(w: &mut World, plan: Plan) -> u64 {
    let id = w.next;
    w.next += 1;
    let run = Run {
        nonce_file: ".queue-1".into(),
        argv: vec![b"true".to_vec(), b"a\nb".to_vec()],
        ..Run::default()
    };
    let submit = Submit {
        run: run.encode_to_vec(),
        plan: Some(plan),
        id,
        owner: "alice".into(),
        ..Submit::default()
    };
    w.hear("h1", up::Kind::Submit(submit));
    id
}

fn on(host: &str) -> Plan {
    Plan {
        host: host.into(),
        ..Plan::default()
    }
}

#[test]
fn it_is_tried_until_it_is_there() {
    let mut w = World::with(&[("h1", 2), ("h2", 2)]);
    let id = submit(&mut w, on("h2"));
    assert_eq!(w.leader.jobs[&id].row.command, "true a b");
    w.end(key(id, 0, 1), spooled());
    let first = deliveries(&w);
    assert_eq!(first.len(), 1);
    let (to, job, from, n) = first[0].clone();
    assert_eq!((to.as_str(), job, from.as_str()), ("h1", id, "h2"));
    // 5 s, then 10 s, then 20 s.
    for pause in [5000, 10_000, 20_000] {
        delivered(&mut w, n, "h2 cannot be reached", false);
        w.pass(pause - 1);
        assert_eq!(deliveries(&w), []);
        w.pass(1);
        assert_eq!(deliveries(&w), first);
    }
    // The connection breaks, and a new leader comes: it is sent again.
    w.unlink("h1");
    w.link("h1", Vec::new());
    assert_eq!(deliveries(&w).len(), 1);
    w.restart();
    w.link("h1", Vec::new());
    assert_eq!(deliveries(&w)[0].3, n);
    delivered(&mut w, n, "", false);
    assert!(
        w.out
            .iter()
            .any(|e| matches!(e, LeaderEffect::Store(Op::DeliveryGone(g, t)) if *g == n && t.is_empty()))
    );
    w.restart();
    w.link("h1", Vec::new());
    assert_eq!(deliveries(&w), []);
}

#[test]
fn hopeless_ones_are_given_up_and_a_host_that_returns_is_asked_at_once() {
    let mut w = World::with(&[("h1", 2), ("h2", 2)]);
    let id = submit(&mut w, on("h2"));
    w.end(key(id, 0, 1), spooled());
    let n = deliveries(&w)[0].3;
    for _ in 0..9 {
        delivered(&mut w, n, "no", false);
        w.pass(600_000);
    }
    delivered(&mut w, n, "no", false);
    w.unlink("h2");
    w.link("h2", Vec::new());
    assert_eq!(deliveries(&w).len(), 1);
    delivered(&mut w, n, "the directory is gone", true);
    assert!(w.leader.home.deliveries.is_empty());
}

#[test]
fn an_array_is_fetched_now_and_then_and_at_its_end() {
    let mut w = World::with(&[("h1", 1), ("h2", 4)]);
    let id = submit(
        &mut w,
        Plan {
            host: "h2".into(),
            ..array(1, 4, 4)
        },
    );
    w.end(key(id, 1, 1), spooled());
    assert_eq!(deliveries(&w), []);
    w.pass(10_000);
    let n = deliveries(&w)[0].3;
    w.end(key(id, 2, 1), spooled());
    w.end(key(id, 3, 1), spooled());
    assert_eq!(deliveries(&w), []);
    delivered(&mut w, n, "", false);
    assert_eq!(deliveries(&w), []);
    w.end(key(id, 4, 1), exited(0));
    let last = deliveries(&w);
    assert_eq!(last.len(), 1);
    delivered(&mut w, last[0].3, "", false);
    assert!(w.leader.home.deliveries.is_empty());
}

#[test]
fn who_sees_the_directory_is_remembered_and_the_file_goes() {
    let mut w = World::with(&[("h1", 4), ("h2", 4)]);
    let here = |w: &World| {
        w.sent()[0]
            .1
            .params
            .as_ref()
            .map(|p| (p.home_here, p.last))
            .unwrap()
    };
    // On the host of the submission: its session removes the file.
    let id = submit(&mut w, on("h1"));
    assert_eq!(here(&w), (true, true));
    w.end(key(id, 0, 1), exited(0));
    assert_eq!(deliveries(&w), []);
    // Elsewhere, without output: nobody knows whether it was seen.
    let id = submit(&mut w, on("h2"));
    assert_eq!(here(&w), (false, true));
    w.end(key(id, 0, 1), exited(0));
    let d = deliveries(&w);
    assert_eq!((d.len(), d[0].0.as_str(), d[0].2.as_str()), (1, "h1", ""));
    // Elsewhere, and it is the same directory.
    let id = submit(
        &mut w,
        Plan {
            retries: Some(1),
            ..on("h2")
        },
    );
    let wrote = Outcome {
        output: b"/home/alice/queue-12.out".to_vec(),
        ..exited(1)
    };
    assert_eq!(here(&w), (false, false));
    w.end(key(id, 0, 1), wrote);
    w.pass(61_000);
    assert_eq!(here(&w), (true, true));
    w.end(key(id, 0, 2), exited(0));
    assert_eq!(deliveries(&w), []);
}
