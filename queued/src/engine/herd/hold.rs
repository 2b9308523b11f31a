//! What must always hold, for a few hundred histories: nothing is granted beyond what a host has, who waits is
//! served, nothing is left counted when all has ended.

use super::*;
use crate::engine::types::Drain;
use wire::{Need, Word};

/// What is asked for, by chance; of a cluster whose hosts have 1 to 8 cores.
fn wish(rng: &mut Rng, hosts: usize) -> Place {
    let need = Need {
        cores: [0, 1, 1, 2, 4, 8][rng.below(6)],
        mem: GIB * [0, 0, 1, 4][rng.below(4)],
        by_name: rng.below(10) == 0,
        expr: ["", "", "", "cores>=2", "mem_free>=2G"][rng.below(5)].into(),
        ..Need::default()
    };
    let name = host(rng.below(hosts)).name;
    let (name, prefer) = match rng.below(8) {
        0 => (name, false),
        1 => (name, true),
        _ => (String::new(), false),
    };
    Place {
        host: name,
        prefer,
        need: Some(need),
        wait: rng.below(3) > 0,
        ..Place::default()
    }
}

impl World {
    fn drain(&mut self, i: usize, on: bool) {
        let drain = on.then(Drain::default);
        self.engine(i, |e, now, out| e.set_drain(now, drain, out));
    }

    /// queue-exec ends and is back: it tells what runs.
    fn flap(&mut self, i: usize) {
        let running: Vec<(AskId, Need)> = self
            .launches
            .iter()
            .filter(|(_, l)| l.host == Some(i) && l.ended.is_none())
            .map(|(id, l)| (*id, l.place.need.clone().unwrap_or_default()))
            .collect();
        self.engine(i, |e, now, _| {
            e.set_monitor(now, false);
            e.set_monitor(now, true);
            for (id, need) in running {
                e.started(now, None, session(id), need);
            }
        });
    }

    /// A word that nobody asked for, from somebody who is a member.
    fn forge(&mut self, i: usize) {
        let word = Word {
            id: self.rng.next(),
            load: Some(Load {
                running: f64::NAN,
                cores: u32::MAX,
                ..Load::default()
            }),
            ..Word::default()
        };
        let from = self.rng.below(self.machines.len()) as u64 + 1;
        self.engine(i, |e, now, out| e.said(now, from, word, out));
    }
}

fn history(seed: u64) {
    let mut rng = Rng::new(seed);
    let hosts = 1 + rng.below(5);
    let launchers = 1 + rng.below(hosts.min(3));
    let mut kinds: Vec<Kind> = (0..hosts)
        .map(|_| Kind {
            cores: [1, 2, 4, 8][rng.below(4)],
            power: 1.0,
            base: 0.0,
        })
        .collect();
    kinds[0].cores = 8;
    let mut w = World::new(seed, &kinds, launchers);
    w.loss = [0, 0, 10, 40][rng.below(4)];
    w.report = 500 * MS;
    w.run(SEC);
    let mut drained = vec![false; hosts];
    for _ in 0..60 {
        let step = rng.between(Duration::ZERO, 300 * MS);
        w.run(w.now + step);
        let i = rng.below(hosts);
        match rng.below(12) {
            0 => {
                drained[i] = !drained[i];
                w.drain(i, drained[i]);
            }
            1 => w.flap(i),
            2 => w.forge(rng.below(launchers)),
            3 => w.report(i),
            _ => {
                for _ in 0..1 + rng.below(6) {
                    let work = match rng.below(3) {
                        0 => Work::Cpu(0.2),
                        1 => Work::Sleep(3 * SEC),
                        _ => Work::Sleep(5 * MS),
                    };
                    let place = wish(&mut rng, hosts);
                    w.launch(Duration::ZERO, rng.below(launchers), work, place);
                }
            }
        }
    }
    for i in 0..hosts {
        w.drain(i, false);
    }
    w.finish(900 * SEC);
    for l in w.launches.values() {
        let never = [ErrorCode::Unfit, ErrorCode::BadRequest];
        let served = l.ended.is_some() || l.failed.is_some_and(|c| !l.place.wait || never.contains(&c));
        assert!(served, "seed {seed}: {l:?}");
    }
    // What came to nothing runs out, and nothing else is left.
    w.run(w.now + 30 * SEC);
    for m in &w.machines {
        let l = m.engine.current_load(w.now);
        assert_eq!(
            (
                l.sessions,
                l.cores_reserved,
                l.mem_reserved,
                m.engine.placing.queue.len()
            ),
            (0, 0, 0, 0),
            "seed {seed}"
        );
        assert!(m.engine.placing.is_idle(), "seed {seed}: {:?}", m.engine.placing);
    }
}

#[test]
fn whatever_happens_nothing_is_granted_twice_and_all_are_served() {
    for seed in 0..300 {
        history(seed);
    }
}

#[test]
#[ignore = "takes a minute: bench/placement.sh"]
fn thousands_of_histories() {
    for seed in 300..6000 {
        history(seed);
    }
}

#[test]
fn those_who_wait_here_never_take_the_same_room() {
    let kinds = [2, 2, 4].map(|cores| Kind {
        cores,
        power: 1.0,
        base: 0.0,
    });
    for seed in 0..20 {
        let mut w = World::new(seed, &kinds, 1);
        w.report = 250 * MS;
        w.run(SEC);
        for i in 0..60 {
            let place = Place {
                need: Some(Need {
                    cores: [1, 2][i % 2],
                    ..Need::default()
                }),
                wait: true,
                ..Place::default()
            };
            w.launch(MS * i as u32, 0, Work::Sleep(700 * MS), place);
        }
        w.finish(120 * SEC);
        let refused: u32 = w.launches.values().map(|l| l.refused).sum();
        assert_eq!(refused, 0, "seed {seed}");
        // 90 cores' worth of 0.7 s on 8 cores.
        let last = w.launches.values().filter_map(|l| l.ended).max().unwrap();
        assert!(last < 20 * SEC, "seed {seed}: {last:?}");
    }
}

#[test]
fn a_large_request_is_not_starved_and_stops_nobody() {
    let kinds = [4, 4, 4].map(|cores| Kind {
        cores,
        power: 1.0,
        base: 0.0,
    });
    let mut w = World::new(5, &kinds, 1);
    w.report = 250 * MS;
    w.run(SEC);
    let place = |cores| Place {
        need: Some(Need {
            cores,
            ..Need::default()
        }),
        wait: true,
        ..Place::default()
    };
    // Small ones keep coming, more than there is room for.
    for i in 0..600 {
        w.launch(50 * MS * i, 0, Work::Sleep(SEC), place(1));
    }
    let large = w.launch(2 * SEC, 0, Work::Sleep(SEC), place(4));
    w.run(6 * SEC);
    let placed = w.launches[&large].placed.expect("served");
    assert!(placed < 5 * SEC, "{placed:?}");
    // Meanwhile the other hosts worked on.
    let meanwhile = w
        .launches
        .values()
        .filter(|l| l.placed.is_some_and(|p| p > 3 * SEC && p < placed));
    assert!(meanwhile.count() > 2 || placed < 4 * SEC);
    w.finish(300 * SEC);
}
