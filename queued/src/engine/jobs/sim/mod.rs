//! Leader and agents in a world where everything goes wrong: daemons and monitors are killed, hosts lose power or
//! freeze, clocks jump, disks are full, connections are cut, half open, slow or doubled. What must hold is checked
//! after each step, and at the end everything has to be over. A failure names its seed.
//!
//! `SEED=7 cargo test -p queued sim::one_history` plays one history and tells it; `SEEDS=1000000` plays more.

mod check;
mod exec;
mod faults;
mod lead;
mod net;
mod store;
mod world;

use faults::STORM;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use world::{Broken, Event, World};

/// Histories that are played each time.
const SEEDS: u64 = 10_000;
/// After the last fault everything is over in this time: the longest pauses between tries are half an hour.
const LIMIT: u64 = 4 * 3_600_000;

/// What a history was like.
#[derive(Debug, Default, Clone, Copy)]
struct Figures {
    steps: u64,
    jobs: u64,
    commands: u64,
    commits: u64,
}

impl World {
    /// Plays the history to its end.
    fn play(&mut self) {
        while self.next_at().is_some_and(|at| at < STORM) {
            self.step();
        }
        self.now = STORM;
        self.at(0, Event::Quieter);
        let mut look = STORM;
        loop {
            self.step();
            if self.now < look {
                continue;
            }
            look = self.now + 1000;
            let left = self.left();
            if left.is_empty() {
                break;
            }
            assert!(self.now < STORM + LIMIT, "no end in sight:\n{}", left.join("\n"));
        }
        self.check_stores();
    }

    fn figures(&self) -> Figures {
        Figures {
            steps: self.steps,
            jobs: self.acked.len() as u64,
            commands: self.commands,
            commits: self.lead.disk.commits,
        }
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_default()
}

/// Plays one history; what was wrong, if something was.
fn history(seed: u64, broken: Broken, tell: bool) -> Result<Figures, String> {
    let mut world = World::new(seed, broken, tell);
    match catch_unwind(AssertUnwindSafe(|| world.play())) {
        Ok(()) => Ok(world.figures()),
        Err(panic) => {
            let story: Vec<String> = world.story.take().into_iter().flatten().collect();
            Err(format!(
                "seed {seed}, at {} ms: {}\n{}",
                world.now,
                text_of(&*panic),
                story.join("\n")
            ))
        }
    }
}

/// Plays many; the first that fails is played again and told.
fn histories(from: u64, to: u64, broken: Broken) -> Figures {
    let next = AtomicU64::new(from);
    let play = || {
        let mut sum = Figures::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= to {
                return Ok(sum);
            }
            let f = history(seed, broken, false).map_err(|e| (seed, e))?;
            sum.steps += f.steps;
            sum.jobs += f.jobs;
            sum.commands += f.commands;
            sum.commits += f.commits;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let results: Vec<Result<Figures, (u64, String)>> = std::thread::scope(|s| {
        let all: Vec<_> = (0..threads).map(|_| s.spawn(play)).collect();
        all.into_iter()
            .map(|t| t.join().expect("a thread of histories"))
            .collect()
    });
    let mut sum = Figures::default();
    for result in results {
        match result {
            Ok(f) => {
                sum.steps += f.steps;
                sum.jobs += f.jobs;
                sum.commands += f.commands;
                sum.commits += f.commits;
            }
            Err((seed, short)) => {
                let told = history(seed, broken, true).err().unwrap_or(short);
                panic!("{told}\nSEED={seed} plays this one again");
            }
        }
    }
    sum
}

#[expect(
    clippy::disallowed_methods,
    reason = "which histories to play is said from outside"
)]
fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_job_is_lost_or_doubled_whatever_goes_wrong() {
    let n = env("SEEDS").unwrap_or(SEEDS);
    let first = env("FIRST").unwrap_or(0);
    let f = histories(first, first + n, Broken::Nothing);
    // The histories are worth something: jobs are submitted, and their commands run.
    assert!(
        f.jobs > 4 * n && f.commands > 4 * n && f.commits > 10 * n,
        "{f:?}"
    );
}

#[test]
fn one_history_is_told() {
    let seed = env("SEED").unwrap_or(1);
    let broken = Broken::Nothing;
    if let Err(told) = history(seed, broken, true) {
        panic!("{told}");
    }
}

/// Plays histories of a world in which a rule does not hold, until the checks find what must follow from that.
fn finds(broken: Broken, what: &str) {
    let found = (0..4000).any(|seed| history(seed, broken, false).is_err_and(|e| e.contains(what)));
    assert!(found, "{broken:?} is not found out");
}

#[test]
fn dispatches_of_an_old_connection_would_double_jobs() {
    finds(Broken::Links, "lives on");
}

#[test]
fn a_leader_without_a_margin_would_double_jobs() {
    finds(Broken::Margin, "lives on");
}

#[test]
fn a_journal_that_forgets_would_double_jobs() {
    finds(Broken::Journal, "lives on");
}

#[test]
fn answers_before_the_commit_would_lose_jobs() {
    finds(Broken::Commit, "was acknowledged and is lost");
}

#[test]
fn a_spool_that_is_lost_would_lose_jobs() {
    finds(Broken::Spool, "was acknowledged and is lost");
}

#[test]
fn hosts_that_grant_everything_are_found_out() {
    finds(Broken::Grants, "cores");
}
