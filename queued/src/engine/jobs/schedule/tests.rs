use super::*;
use libqueue::wire::{Facts, Gpu, Load};

const G: u64 = 1 << 30;

fn facts(cores: u32) -> Facts {
    Facts {
        cores,
        mem: 8 * G,
        disk: 100 * G,
        power: 1.0,
        ..Facts::default()
    }
}

fn view(name: &str, facts: Facts) -> HostView {
    HostView {
        name: name.into(),
        dead: false,
        facts: Some(facts),
        load: None,
    }
}

fn cores(n: u32) -> Need {
    Need {
        cores: n,
        ..Need::default()
    }
}

fn entry(job: u64, need: Need) -> Entry {
    Entry {
        job,
        shape: Shape {
            need,
            ..Shape::default()
        },
        priority: 0,
        order: job,
        ready: 1,
    }
}

fn key(job: u64) -> Key {
    Key {
        job,
        task: 0,
        attempt: 1,
    }
}

/// Picks once and sends it.
fn send(s: &mut Scheduler, now: u64) -> Option<(u64, String)> {
    let p = s.pick(now)?;
    let need = s.lines[s.jobs[&p.job].line as usize].shape.need.clone();
    s.sent(now, &p.host, key(p.job), &need);
    s.take_out(p.job);
    Some((p.job, p.host))
}

fn sends(s: &mut Scheduler, now: u64) -> Vec<(u64, String)> {
    std::iter::from_fn(|| send(s, now)).collect()
}

fn start_all(s: &mut Scheduler, sent: &[(u64, String)], now: u64) {
    for (j, _) in sent {
        s.started(now, key(*j));
    }
}

#[test]
fn by_priority_and_then_order() {
    let mut s = Scheduler::new(1);
    s.host(&view("h1", facts(4)), true);
    for (job, priority, n) in [(1, 0, 1), (2, 5, 2), (3, 0, 2), (4, 5, 1)] {
        s.put(Entry {
            priority,
            ..entry(job, cores(n))
        });
    }
    let jobs: Vec<u64> = sends(&mut s, 0).iter().map(|p| p.0).collect();
    // Job 3 has no room, and takes too much of the host to wait there.
    assert_eq!(jobs, [2, 4, 1]);
    s.gone(0, key(1), Some(50));
    assert_eq!(s.pick(0), None);
    s.gone(0, key(4), Some(50));
    assert_eq!(send(&mut s, 0), Some((3, "h1".into())));
}

#[test]
fn an_array_is_served_task_by_task() {
    let mut s = Scheduler::new(1);
    s.host(&view("h1", facts(2)), true);
    s.host(&view("h2", facts(2)), true);
    for h in ["h1", "h2"] {
        s.hosts[s.names[h] as usize].ran(10_000);
    }
    let mut at = Vec::new();
    for ready in (1..=5).rev() {
        s.put(Entry {
            ready,
            ..entry(9, cores(1))
        });
        let Some(p) = s.pick(0) else { break };
        let key = Key {
            job: 9,
            task: ready,
            attempt: 1,
        };
        s.sent(0, &p.host, key, &cores(1));
        at.push(p.host);
    }
    at.sort();
    assert_eq!(at, ["h1", "h1", "h2", "h2"]);
}

#[test]
fn who_takes_nothing() {
    let mut s = Scheduler::new(1);
    let load = |draining| {
        Some(Load {
            cores: 4,
            mem_available: 8 * G,
            draining,
            ..Load::default()
        })
    };
    s.put(entry(1, cores(1)));
    let unknown = HostView {
        facts: None,
        ..view("h1", facts(4))
    };
    s.host(&unknown, true);
    assert_eq!(s.pick(0), None);
    s.host(&view("h1", facts(4)), false);
    assert_eq!(s.pick(0), None);
    let mut v = view("h1", facts(4));
    v.load = load(true);
    s.host(&v, true);
    assert_eq!(s.pick(0), None);
    v.load = load(false);
    v.dead = true;
    s.host(&v, true);
    assert_eq!(s.pick(0), None);
    let unwilling = Facts {
        unwilling: true,
        ..facts(4)
    };
    s.host(&view("h1", unwilling), true);
    assert_eq!(s.pick(0), None);
    v.dead = false;
    s.host(&v, true);
    assert!(s.pick(0).is_some());
    s.host_gone("h1");
    assert_eq!(s.pick(0), None);
    assert!(s.names.is_empty());
}

#[test]
fn labels_pins_and_preferences() {
    let mut s = Scheduler::new(1);
    for n in 1..=4 {
        let mut f = facts(4);
        f.resources.insert("raid".into(), format!("{n}00G"));
        s.host(&view(&format!("h{n}"), f), true);
    }
    let with = |job, expr: &str, host: &str, prefer: &str| Entry {
        shape: Shape {
            need: Need {
                expr: expr.into(),
                ..cores(1)
            },
            host: host.into(),
            prefer: prefer.into(),
        },
        ..entry(job, cores(1))
    };
    s.put(with(1, "raid>=400G", "", ""));
    s.put(with(2, "", "h2", ""));
    s.put(with(3, "", "", "h3"));
    s.put(with(4, "raid>=900G", "", ""));
    s.put(with(5, "", "h9", ""));
    s.put(with(6, "host==h1", "", ""));
    s.put(with(7, "raid<", "", ""));
    let mut sent = sends(&mut s, 0);
    sent.sort();
    let want = [(1, "h4"), (2, "h2"), (3, "h3"), (6, "h1")].map(|(j, h)| (j, h.to_owned()));
    assert_eq!(sent, want);
    let mut f = facts(4);
    f.resources.insert("raid".into(), "1T".into());
    s.host(&view("h9", f), true);
    let mut sent = sends(&mut s, 0);
    sent.sort();
    assert_eq!(sent, [(4, "h9".to_owned()), (5, "h9".to_owned())]);
}

#[test]
fn work_spreads_by_power_and_load() {
    let mut s = Scheduler::new(3);
    for n in 0..100 {
        s.host(&view(&format!("h{n}"), facts(4)), true);
    }
    for j in 1..=100 {
        s.put(entry(j, cores(1)));
    }
    let mut on = BTreeMap::new();
    for (_, h) in sends(&mut s, 0) {
        *on.entry(h).or_insert(0) += 1;
    }
    assert!(on.values().all(|n| *n <= 2), "{on:?}");
    assert!(on.len() > 70, "{}", on.len());
}

#[test]
fn a_few_wait_on_a_full_host_and_move_to_a_free_one() {
    let mut s = Scheduler::new(1);
    s.host(&view("h1", facts(8)), true);
    for j in 1..=20 {
        s.put(entry(j, cores(1)));
    }
    let sent = sends(&mut s, 0);
    // Eight run, two (a quarter of the cores) wait there.
    assert_eq!(sent.len(), 10);
    start_all(&mut s, &sent[..8], 1);
    // Short jobs: 100 ms of work.
    for j in 1..=8 {
        s.gone(10, key(j), Some(20));
    }
    let more = sends(&mut s, 10);
    assert_eq!(more.len(), 10);
    assert_eq!(s.wake(), Some(2010), "nobody else has room");
    s.host(&view("h2", facts(4)), true);
    assert_eq!(s.pick(20), None);
    assert_eq!(s.misplaced(20), []);
    let due = s.wake().unwrap();
    assert_eq!(due, 510);
    let moved = s.misplaced(due);
    assert_eq!(moved.len(), 4, "four have room on h2");
    assert!(s.wake().is_none_or(|w| w > due));
    assert_eq!(s.misplaced(due + 1), []);
    for k in &moved {
        s.gone(due, *k, None);
        s.put(entry(k.job, cores(1)));
    }
    assert!(sends(&mut s, due).iter().all(|(_, h)| h == "h2"));
}

#[test]
fn what_was_held_for_too_long_comes_back() {
    let mut s = Scheduler::new(1);
    s.host(&view("h1", facts(2)), true);
    for j in 1..=30 {
        s.put(entry(j, cores(1)));
    }
    let sent = sends(&mut s, 0);
    start_all(&mut s, &sent[..2], 0);
    s.gone(1, key(1), Some(1));
    // Short jobs, it seems: all go there. But the second one does not end.
    let sent = sends(&mut s, 1);
    assert_eq!(sent.len(), 27);
    s.started(1, key(3));
    assert_eq!(s.misplaced(600), []);
    s.put(Entry {
        priority: 9,
        ..entry(100, cores(2))
    });
    assert_eq!(s.pick(600), None);
    let due = s.wake().unwrap();
    assert_eq!(due, 2001);
    let back = s.misplaced(due);
    assert_eq!(back.len(), 27);
    for k in back {
        s.gone(due, k, None);
        s.put(entry(k.job, cores(1)));
    }
    assert_eq!(s.pick(due), None);
    s.gone(due, key(2), Some(9000));
    s.gone(due, key(3), Some(9000));
    assert_eq!(
        send(&mut s, due),
        Some((100, "h1".into())),
        "the urgent one is first"
    );
}

#[test]
fn a_large_job_gets_a_host_in_the_end() {
    let mut s = Scheduler::new(1);
    for h in ["h1", "h2"] {
        s.host(&view(h, facts(4)), true);
        s.hosts[s.names[h] as usize].ran(60_000);
    }
    // Small ones come before it and after it, again and again.
    for j in 1..=8 {
        s.put(entry(j, cores(1)));
    }
    let mut on: Vec<(u64, String)> = sends(&mut s, 0);
    assert_eq!(on.len(), 8);
    s.put(entry(100, cores(4)));
    s.put(entry(101, cores(64)));
    let mut at = None;
    for (next, t) in (200..).zip(1..200_u64) {
        let now = t * 1000;
        s.put(entry(next, cores(1)));
        let (j, _) = on.remove(0);
        s.gone(now, key(j), Some(8000));
        let sent = sends(&mut s, now);
        if sent.iter().any(|(j, _)| *j == 100) {
            at = Some(now);
            break;
        }
        on.extend(sent);
        if on.is_empty() {
            break;
        }
    }
    let at = at.expect("the large job ran");
    assert!((30_000..60_000).contains(&at), "{at}");
    assert!(s.starving.host.is_none(), "nothing is reserved any more");
}

#[test]
fn a_reserved_host_is_given_back() {
    let mut s = Scheduler::new(1);
    s.host(&view("h1", facts(4)), true);
    s.put(entry(1, cores(1)));
    let sent = sends(&mut s, 0);
    start_all(&mut s, &sent, 0);
    s.put(entry(2, cores(4)));
    assert_eq!(s.pick(0), None);
    assert_eq!(s.wake(), Some(30_000));
    assert_eq!(s.pick(30_000), None);
    s.put(entry(3, cores(1)));
    assert_eq!(s.pick(30_100), None);
    let why = s.why(&entry(3, cores(1)).shape, 0);
    assert_eq!(why[0].blockers, ["reserved for 2, which has waited longest"]);
    s.put(entry(4, cores(0)));
    assert_eq!(send(&mut s, 30_200), Some((4, "h1".into())));
    s.take_out(2);
    assert_eq!(send(&mut s, 30_300), Some((3, "h1".into())));
}

#[test]
fn why_in_words() {
    let mut s = Scheduler::new(1);
    for (n, cores) in [(1, 4), (2, 4), (3, 4), (4, 1)] {
        s.host(&view(&format!("h{n}"), facts(cores)), true);
    }
    let mut v = view("h2", facts(4));
    v.load = Some(Load {
        cores: 4,
        mem_available: G,
        draining: true,
        ..Load::default()
    });
    s.host(&v, true);
    s.host(&view("h3", facts(4)), false);
    for j in 1..=2 {
        s.sent(0, "h1", key(j), &cores(2));
    }
    let why = |s: &Scheduler, need: Need, host: &str| {
        let shape = Shape {
            need,
            host: host.into(),
            ..Shape::default()
        };
        let all = s.why(&shape, 0);
        all.into_iter()
            .map(|w| {
                format!(
                    "{} {}{}",
                    w.host,
                    w.blockers.join("; "),
                    if w.never { " never" } else { "" }
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        why(&s, cores(2), ""),
        [
            "h1 4 of 4 cores taken by jobs",
            "h2 draining",
            "h3 its queued has no connection with the leader",
            "h4 has 1 core of 2 never",
        ]
    );
    let mem = Need {
        mem: 16 * G,
        ..cores(1)
    };
    assert_eq!(why(&s, mem, "h4"), ["h4 has 8.0G of memory, 16G asked never"]);
    assert_eq!(
        why(&s, cores(1), "h9"),
        ["h9 no host of the cluster has this name never"]
    );
    assert_eq!(why(&s, cores(1), "h4"), ["h4 "]);
}

/// A host, in the simplest terms.
#[derive(Debug, Clone)]
struct Plain {
    facts: Facts,
    usable: bool,
    /// Job, need, whether it has its place.
    on: Vec<(u64, Need, bool)>,
}

impl Plain {
    fn fits(&self, n: &Need) -> bool {
        let on = || self.on.iter().filter(|o| o.2).map(|o| &o.1);
        let cores: u32 = on().map(|n| n.cores).sum();
        let mem: u64 = on().map(|n| n.mem).sum();
        let gpus: u32 = on().map(|n| n.gpus).sum();
        let zero = on().filter(|n| n.cores == 0).count() as u32;
        (n.cores == 0 || cores + n.cores <= self.facts.cores)
            && (n.cores > 0 || zero < 2 * self.facts.cores)
            && (n.mem == 0 || mem + n.mem <= self.facts.mem)
            && (n.gpus == 0 || gpus + n.gpus <= self.facts.gpus.len() as u32)
    }

    fn never(&self, name: &str, s: &Shape) -> bool {
        !self.usable
            || !(s.host.is_empty() || s.host == name)
            || libqueue::resources::lacking(&s.need, name, &self.facts, None).is_some()
    }

    fn waits(&self) -> usize {
        self.on.iter().filter(|o| !o.2).count()
    }

    fn room(&self, name: &str, s: &Shape) -> bool {
        !self.never(name, s) && (self.waits() == 0 || s.need.cores == 0) && self.fits(&s.need)
    }

    /// Run times are not told in this test: a quarter of the cores.
    fn hold(&self, name: &str, s: &Shape) -> bool {
        let q = (self.facts.cores / 4).max(1);
        !self.never(name, s)
            && s.need.cores > 0
            && s.need.cores <= q
            && s.need.mem <= self.facts.mem / 4
            && s.need.gpus <= self.facts.gpus.len() as u32 / 4
            && self.waits() < q as usize
    }

    fn up(&mut self) {
        while let Some(i) = self.on.iter().position(|o| !o.2) {
            if !self.fits(&self.on[i].1.clone()) {
                return;
            }
            self.on[i].2 = true;
        }
    }
}

#[test]
fn the_same_as_a_naive_one() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut s = Scheduler::new(seed);
        let mut hosts: BTreeMap<String, Plain> = BTreeMap::new();
        let mut jobs: BTreeMap<(Reverse<i32>, u64, u64), Shape> = BTreeMap::new();
        let mut next = 1;
        for _ in 0..200 {
            match rng.below(10) {
                0 => {
                    let name = format!("h{}", rng.below(5));
                    let mut f = facts([1, 2, 4, 8][rng.below(4)]);
                    f.gpus = vec![Gpu::default(); rng.below(5)];
                    f.resources
                        .insert("raid".into(), ["1G", "2G"][rng.below(2)].into());
                    let old = hosts.get(&name);
                    if let Some(o) = old {
                        f = o.facts.clone();
                    }
                    let usable = rng.below(4) > 0;
                    s.host(&view(&name, f.clone()), usable);
                    let on = old.map(|o| o.on.clone()).unwrap_or_default();
                    hosts.insert(name, Plain { facts: f, usable, on });
                }
                1 if rng.below(4) == 0 => {
                    let name = format!("h{}", rng.below(5));
                    if hosts.get(&name).is_some_and(|h| h.on.is_empty()) {
                        s.host_gone(&name);
                        hosts.remove(&name);
                    }
                }
                1..=5 => {
                    let shape = Shape {
                        need: Need {
                            cores: [0, 1, 1, 1, 2, 5][rng.below(6)],
                            mem: [0, 0, G, 5 * G][rng.below(4)],
                            gpus: [0, 0, 0, 1][rng.below(4)],
                            expr: ["", "", "raid>=2G", "host!=h1", "raid>=9G"][rng.below(5)].into(),
                            ..Need::default()
                        },
                        host: ["", "", "", "h1"][rng.below(4)].into(),
                        prefer: ["", "", "h2"][rng.below(3)].into(),
                    };
                    let priority = rng.below(3) as i32;
                    s.put(Entry {
                        job: next,
                        shape: shape.clone(),
                        priority,
                        order: next,
                        ready: 1,
                    });
                    jobs.insert((Reverse(priority), next, next), shape);
                    next += 1;
                }
                6 => {
                    let n = rng.below(jobs.len().max(1));
                    if let Some((k, _)) = jobs.iter().nth(n).map(|(k, s)| (*k, s.clone())) {
                        jobs.remove(&k);
                        s.take_out(k.2);
                    }
                }
                _ => {
                    let all: Vec<(String, u64)> = hosts
                        .iter()
                        .flat_map(|(h, p)| p.on.iter().map(|o| (h.clone(), o.0)))
                        .collect();
                    if let Some((h, j)) = all.get(rng.below(all.len())) {
                        let p = hosts.get_mut(h).unwrap();
                        if rng.below(3) == 0 {
                            s.started(0, key(*j));
                            p.on.iter_mut().find(|o| o.0 == *j).unwrap().2 = true;
                        } else {
                            s.gone(0, key(*j), None);
                            p.on.retain(|o| o.0 != *j);
                        }
                        p.up();
                    }
                }
            }
            for _ in 0..rng.below(4) {
                let first = jobs
                    .iter()
                    .find(|(_, sh)| hosts.iter().any(|(n, h)| h.room(n, sh) || h.hold(n, sh)))
                    .map(|(k, sh)| (*k, sh.clone()));
                let got = s.pick(0);
                assert_eq!(
                    got.as_ref().map(|p| p.job),
                    first.as_ref().map(|f| f.0.2),
                    "seed {seed}: {jobs:?} {hosts:?}"
                );
                let (Some(p), Some((k, shape))) = (got, first) else {
                    break;
                };
                let any = hosts.iter().any(|(n, h)| h.room(n, &shape));
                let h = hosts.get_mut(&p.host).unwrap();
                let room = h.room(&p.host, &shape);
                assert!(
                    room || (!any && h.hold(&p.host, &shape)),
                    "seed {seed}: {p:?} {shape:?}"
                );
                s.sent(0, &p.host, key(p.job), &shape.need);
                h.on.push((p.job, shape.need, room));
                s.take_out(k.2);
                jobs.remove(&k);
            }
        }
    }
}
