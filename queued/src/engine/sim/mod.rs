//! Whole engines in a world with a virtual clock and network, see `world.rs`: hosts start, are killed, lose power,
//! freeze, move, are cut off and removed, while datagrams get lost. What must hold is checked after each step and
//! at the end, for many seeds; a failure names its seed. Very large clusters are `swarm.rs`'s.

mod net;
mod swarm;
mod world;

use super::wire::HostState;
use std::time::Duration;
use world::{World, ms};

const S: Duration = Duration::from_secs(1);

impl World {
    /// How one node sees another; `None`: not at all.
    fn sees(&self, i: usize, j: usize) -> Option<HostState> {
        let e = self.nodes[i].engine.as_ref()?;
        e.peers.get(&self.nodes[j].host.name).map(|p| p.state)
    }

    /// Nodes that run and belong.
    fn inside(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|i| !self.nodes[*i].removed && self.nodes[*i].dead.is_none())
            .collect()
    }

    /// Whether everybody inside sees this one in this state.
    fn all_see(&self, j: usize, state: HostState) -> bool {
        self.inside()
            .into_iter()
            .filter(|i| *i != j)
            .all(|i| self.sees(i, j) == Some(state))
    }

    /// Whether everybody inside sees everybody else up.
    fn whole(&self) -> bool {
        self.inside().into_iter().all(|j| self.all_see(j, HostState::Up))
    }

    /// Waits until something holds; says how long that took.
    fn until(&mut self, limit: Duration, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !holds(self) {
            assert!(
                self.now - start < limit,
                "seed {}: not {what} within {limit:?} (loss {}, at {:?}):\n{}\n{}",
                self.seed,
                self.loss,
                self.now,
                self.view(),
                self.story()
            );
            self.run(ms(50));
        }
        self.now - start
    }

    /// Who sees whom how, for messages.
    fn view(&self) -> String {
        let n = self.nodes.len();
        let line = |i: usize| -> String {
            let all = (0..n).map(|j| match self.sees(i, j) {
                _ if i == j => '-',
                None => '.',
                Some(HostState::Up) => 'u',
                Some(HostState::Suspect) => 's',
                Some(HostState::Down) => 'D',
                Some(HostState::Left) => 'L',
                Some(HostState::Unknown) => '?',
            });
            format!("h{i}: {}\n", all.collect::<String>())
        };
        (0..n).map(line).collect()
    }

    /// What was logged last, for messages.
    fn story(&self) -> String {
        let from = self.said.len().saturating_sub(40);
        self.said[from..]
            .iter()
            .map(|(at, i, level, text)| format!("{at:?} h{i} {level:?} {text}\n"))
            .collect()
    }

    /// Lets time pass, and sees that nobody alive is taken for dead for longer than that.
    fn nobody_is_slandered(&mut self, time: Duration, longest: Duration) {
        let end = self.now + time;
        let mut since = std::collections::BTreeMap::new();
        while self.now < end {
            self.run(ms(100));
            let all = self.inside();
            for &i in &all {
                for &j in all.iter().filter(|j| **j != i) {
                    if self.sees(i, j) == Some(HostState::Down) {
                        let t = *since.entry((i, j)).or_insert(self.now);
                        assert!(
                            self.now - t < longest,
                            "seed {}: h{j} lives, but is down for h{i}\n{}",
                            self.seed,
                            self.view()
                        );
                    } else {
                        since.remove(&(i, j));
                    }
                }
            }
        }
    }

    /// After healing: everybody who belongs is up for and connected with everybody else, by one connection.
    fn converged(&self) {
        let inside = self.inside();
        for &i in &inside {
            let e = self.nodes[i].engine.as_ref().expect("all run");
            assert_eq!(
                e.peers.len(),
                inside.len() - 1,
                "seed {}: members of h{i}",
                self.seed
            );
            for &j in inside.iter().filter(|j| **j != i) {
                let (there, back) = (self.link(i, j), self.link(j, i));
                assert!(
                    there.is_some(),
                    "seed {}: h{i} and h{j} are not connected",
                    self.seed
                );
                assert_eq!(
                    there, back,
                    "seed {}: h{i} and h{j} kept two connections",
                    self.seed
                );
            }
        }
        assert!(self.whole(), "seed {}:\n{}", self.seed, self.view());
    }
}

/// A cluster of some size, all up.
fn cluster(seed: u64) -> World {
    let n = [2, 3, 3, 5, 8][seed as usize % 5];
    let mut w = World::new(seed, n);
    w.until(10 * S, "whole at the start", World::whole);
    w.run(3 * S);
    w
}

fn seeds(n: u64, play: impl Fn(&mut World)) {
    for seed in 0..n {
        let mut w = cluster(seed);
        play(&mut w);
    }
}

#[test]
fn it_heals_whatever_happens() {
    for seed in 0..600 {
        let n = 2 + (seed % 5) as usize;
        let mut w = World::new(seed, n);
        w.storm();
        w.run(60 * S);
        w.calm = true;
        w.loss = w.loss.min(50);
        w.cuts.clear();
        for i in 0..n {
            if w.nodes[i].dead.is_some() {
                w.start(i);
            }
        }
        w.run(45 * S);
        w.until(5 * S, "whole again", World::whole);
        w.converged();
    }
}

#[test]
fn the_dead_are_down_everywhere_soon_and_the_living_are_not() {
    seeds(1000, |w| {
        let victim = w.rng.below(w.nodes.len());
        let power = w.rng.below(2) == 0;
        w.kill(victim, power);
        let took = w.until(10 * S, "known to be dead", |w| w.all_see(victim, HostState::Down));
        assert!(took < 10 * S);
        w.run(2 * S);
        assert!(w.whole() || w.loss > 0, "seed {}\n{}", w.seed, w.view());
        w.start(victim);
        w.until(10 * S, "back", World::whole);
    });
}

#[test]
fn who_says_goodbye_has_left_at_once_and_may_come_back() {
    seeds(400, |w| {
        let i = w.rng.below(w.nodes.len());
        w.stop(i);
        w.until(S, "gone", |w| w.all_see(i, HostState::Left));
        w.run(8 * S);
        assert!(w.all_see(i, HostState::Left), "seed {}\n{}", w.seed, w.view());
        w.start(i);
        w.until(10 * S, "back", World::whole);
    });
}

#[test]
fn two_halves_find_each_other() {
    seeds(400, |w| {
        let n = w.nodes.len();
        let half = 1 + w.rng.below(n - 1);
        for a in 0..half {
            for b in half..n {
                w.cuts.insert((a, b));
            }
        }
        w.run(30 * S);
        assert_eq!(w.sees(0, n - 1), Some(HostState::Down), "seed {}", w.seed);
        w.cuts.clear();
        w.until(15 * S, "whole again", World::whole);
    });
}

#[test]
fn loss_and_load_kill_nobody() {
    seeds(300, |w| {
        w.nobody_is_slandered(20 * S, 3 * S);
        // Busy for some seconds.
        let i = w.rng.below(w.nodes.len());
        w.pause(i, ms(2500));
        w.nobody_is_slandered(10 * S, 3 * S);
        // Frozen for long, then back.
        w.pause(i, 20 * S);
        w.until(10 * S, "down while frozen", |w| {
            let others: Vec<usize> = w.inside().into_iter().filter(|j| *j != i).collect();
            others.into_iter().all(|j| w.sees(j, i) == Some(HostState::Down))
        });
        w.run(11 * S);
        w.until(10 * S, "back after the frost", World::whole);
    });
}

#[test]
fn a_new_address_is_followed() {
    seeds(400, |w| {
        let i = w.rng.below(w.nodes.len());
        w.moves(i);
        let (name, address) = (w.nodes[i].host.name.clone(), w.nodes[i].address.clone());
        w.until(10 * S, "followed", |w| {
            w.whole()
                && w.inside().into_iter().filter(|j| *j != i).all(|j| {
                    let e = w.nodes[j].engine.as_ref().expect("it runs");
                    e.peers[&name].address == address && w.nodes[j].disk[&name].address == address
                })
        });
        w.until(20 * S, "linked again", |w| {
            let others: Vec<usize> = w.inside().into_iter().filter(|j| *j != i).collect();
            others
                .into_iter()
                .all(|j| w.link(i, j).is_some() && w.link(i, j) == w.link(j, i))
        });
    });
}

#[test]
fn who_was_removed_stays_out() {
    seeds(400, |w| {
        let i = 1 + w.rng.below(w.nodes.len() - 1);
        // Sometimes it is away just then.
        let away = w.rng.below(2) == 0;
        if away {
            w.kill(i, true);
        }
        w.remove(i);
        w.run(S);
        if away {
            w.start(i);
        }
        for _ in 0..20 {
            w.run(S);
            for j in w.inside() {
                assert_eq!(w.sees(j, i), None, "seed {}: h{j} still has h{i}", w.seed);
            }
        }
        w.until(10 * S, "whole without it", World::whole);
    });
}

#[test]
fn without_datagrams_links_are_enough() {
    for seed in 0..30 {
        let mut w = World::new(seed, 3);
        w.datagrams = false;
        w.until(10 * S, "whole by links", World::whole);
        w.nobody_is_slandered(20 * S, ms(100));
        let load = |w: &World| {
            let e = w.nodes[0].engine.as_ref().expect("it runs");
            e.peers
                .values()
                .all(|p| p.load.is_some_and(|(at, _)| w.now - at < 5 * S))
        };
        assert!(load(&w), "seed {seed}: no load");
        let warned = |(.., text): &(_, usize, _, String)| text.contains("UDP");
        assert!(
            !w.said.iter().any(warned),
            "an old version need not have datagrams"
        );
        w.kill(2, true);
        w.until(10 * S, "down", |w| w.all_see(2, HostState::Down));
        w.start(2);
        w.until(10 * S, "back", World::whole);
        w.datagrams = true;
        w.run(10 * S);
        w.datagrams = false;
        w.nobody_is_slandered(30 * S, ms(100));
        assert!(
            w.said.iter().any(warned),
            "seed {seed}: nobody said that UDP is blocked"
        );
    }
}

#[test]
fn above_the_mesh_each_has_few_links_and_all_know_all() {
    for seed in 0..2 {
        let n = 40 + seed as usize * 10;
        let mut w = World::new(seed, n);
        w.until(20 * S, "whole at the start", World::whole);
        w.run(40 * S);
        for i in 0..n {
            let links = w.nodes[i].engine.as_ref().expect("it runs").conns.len();
            assert!((6..=14).contains(&links), "h{i} has {links} links");
        }
        w.kill(7, true);
        w.until(10 * S, "down", |w| w.all_see(7, HostState::Down));
        w.stop(11);
        w.until(2 * S, "gone", |w| w.all_see(11, HostState::Left));
        w.start(7);
        w.start(11);
        w.until(10 * S, "back", World::whole);
        w.remove(20);
        w.until(S, "out", |w| {
            w.inside().into_iter().all(|j| w.sees(j, 20).is_none())
        });
        for a in 0..n / 2 {
            for b in n / 2..n {
                w.cuts.insert((a, b));
            }
        }
        w.run(20 * S);
        w.cuts.clear();
        w.until(15 * S, "whole again", World::whole);
    }
}
