//! What local programs are told: why not, why not yet, and how hosts are judged.

use super::*;

#[test]
fn what_no_host_can_ever_do_is_said_at_once_with_the_nearest_host() {
    let mut a = Around::new(&[(1, 0.0), (3, 0.0)]);
    peer(&mut a.e, 3, |_, f, _| f.cores = 16);
    let never = |a: &mut Around, n: Need, wait: bool| {
        let (code, text) = a.place(Place { wait, ..need(n) }).unwrap_err();
        assert_eq!(code, ErrorCode::Unfit, "{text}");
        text
    };
    let text = never(&mut a, cores(64), true);
    assert_eq!(
        text,
        "no host has 64 cores: h3 comes nearest, it has 16 cores of 64"
    );
    let expr = Need {
        expr: "arch==aarch64".into(),
        ..Need::default()
    };
    let text = never(&mut a, expr.clone(), false);
    assert!(text.starts_with("no host has 'arch==aarch64': h"), "{text}");
    let named = Place {
        host: "h1".into(),
        ..need(cores(8))
    };
    let (code, text) = a.place(named).unwrap_err();
    assert!(
        code == ErrorCode::Unfit && text == "h1 cannot do that: it has 4 cores of 8",
        "{text}"
    );
    let bad = Need {
        expr: "a b".into(),
        ..Need::default()
    };
    assert_eq!(a.place(need(bad)).unwrap_err().0, ErrorCode::BadRequest);
    // One whose facts are not known yet may do it.
    a.e.peers.get_mut("h1").unwrap().facts = None;
    assert_eq!(a.place(need(expr)).unwrap_err().0, ErrorCode::Full);
}

#[test]
fn who_waits_is_told_why_and_served_when_there_is_room() {
    let mut a = Around::new(&[(1, 0.0)]);
    a.e.drain = Some(Drain::default());
    peer(&mut a.e, 1, |l, _, _| l.cores_reserved = 4);
    let waits = |n| Place {
        wait: true,
        ..need(cores(n))
    };
    let (first, second) = (a.start(waits(2)), a.start(waits(2)));
    a.later(11 * MS);
    assert!(a.answers.is_empty());
    let told: Vec<(bool, u32)> = a
        .waiting
        .iter()
        .map(|w| (w.reason.contains("no core free, 2 asked"), w.ahead))
        .collect();
    assert_eq!(told, [(true, 0), (true, 1)]);
    // The first one goes; the second one has nobody ahead now, and is told within a second or so.
    a.input(Input::Gone { ask: first });
    a.later(2 * S);
    assert_eq!(a.waiting.last().unwrap().ahead, 0);
    peer(&mut a.e, 1, |l, _, _| l.cores_reserved = 2);
    a.later(S);
    assert_eq!(a.answers.remove(&second), Some(Ok("h1".into())));
    // What becomes impossible is said.
    let third = a.start(waits(4));
    a.later(S);
    peer(&mut a.e, 1, |_, f, _| f.cores = 2);
    a.e.facts.cores = 2;
    a.later(S);
    assert_eq!(a.answers[&third].as_ref().unwrap_err().0, ErrorCode::Unfit);
    assert_eq!(a.e.placing.queue.len(), 0);
}

#[test]
fn the_chances_that_are_explained_are_the_real_ones() {
    let mut a = Around::new(&[(1, 0.5), (3, 2.0), (4, 0.52), (5, 9.0)]);
    peer(&mut a.e, 5, |_, f, _| f.power = 3.0);
    peer(&mut a.e, 4, |l, _, _| l.psi_mem = 30.0);
    let reply::Kind::Explained(x) = a.e.explain(a.now, Place::default()) else {
        panic!()
    };
    assert!((x.hosts.iter().map(|h| h.chance).sum::<f64>() - 1.0).abs() < 1e-9);
    let n = 4000;
    let mut count: BTreeMap<String, f64> = BTreeMap::new();
    for _ in 0..n {
        // Long after the last one, and all is as it was.
        a.now += 60 * S;
        for p in a.e.peers.values_mut() {
            p.load = p.load.map(|(_, l)| (a.now, l));
        }
        a.e.load = a.e.load.map(|(_, l)| (a.now, l));
        *count.entry(a.place(Place::default()).unwrap()).or_default() += 1.0;
    }
    let square: f64 = x
        .hosts
        .iter()
        .map(|h| {
            let (real, expected) = (
                count.get(&h.host).copied().unwrap_or_default(),
                h.chance * f64::from(n),
            );
            (real - expected).powi(2) / expected.max(0.5)
        })
        .sum();
    // With four degrees of freedom above this in one of ten thousand.
    assert!(square < 23.5, "{square}: {count:?} {:?}", x.hosts);
}

#[test]
fn explains_every_host_and_what_would_happen() {
    let mut a = Around::new(&[(1, 0.5), (3, 0.0), (4, 1.0)]);
    peer(&mut a.e, 3, |l, _, _| l.draining = true);
    let explain = |a: &Around, p: Place| match a.e.explain(a.now, p) {
        reply::Kind::Explained(x) => x,
        other => panic!("{other:?}"),
    };
    let x = explain(&a, Place::default());
    let hosts: Vec<(&str, bool)> = x
        .hosts
        .iter()
        .map(|h| (h.host.as_str(), h.no.is_empty()))
        .collect();
    assert_eq!(hosts, [("h2", true), ("h1", true), ("h4", true), ("h3", false)]);
    assert!(x.hosts[3].no.contains("drained") && x.hosts[3].chance == 0.0);
    for h in &x.hosts {
        let t = |name: &str| h.terms.iter().find(|t| t.name == name).unwrap().value;
        let sum = t("running") + t("starting") + t("reserved") + t("idle") + t("this");
        assert!((h.score - sum / (t("cores") * t("power")) * t("pressure")).abs() < 1e-9);
    }
    assert!(x.verdict.contains("two of 3 hosts"), "{}", x.verdict);
    assert!(explain(&a, named("h1")).verdict.contains("goes to h1"));
    let text = explain(&a, named("h3")).verdict;
    assert!(text.contains("h3 is being drained"), "{text}");
    let x = explain(&a, need(cores(64)));
    assert!(
        x.verdict.contains("comes nearest") && x.hosts.iter().all(|h| !h.no.is_empty()),
        "{}",
        x.verdict
    );
    for i in [1, 4] {
        peer(&mut a.e, i, |l, _, _| l.cores_reserved = 4);
    }
    a.e.monitor = false;
    let wait = Place {
        wait: true,
        ..need(cores(1))
    };
    let text = explain(&a, wait).verdict;
    assert!(text.starts_with("it waits: "), "{text}");
}
