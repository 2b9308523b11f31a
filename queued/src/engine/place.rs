//! Which host is the best one for this command: one documented function of what is known about a host. Pure;
//! knows no names, no connections, no time but what it is handed.
//!
//! The score is the slowdown that the newcomer has to expect, GNU Queue's idea; the lowest is the best:
//!
//! ```text
//!          running + starting + reserved + idle + this
//! score = --------------------------------------------- x pressure
//!                         cores x power
//! ```
//!
//! - `running`: tasks that run or want to, the host's own average over about five seconds, less the part of it
//!   that belongs to sessions that have ended since; and a tenth of what the 1-minute load average is above that:
//!   what was busy just now is likely to be again.
//! - `starting`: what that average cannot show yet. The sessions that began since; launches that the host was
//!   asked about and that have not arrived, each as a half; commands that ended soon after their start, which fade
//!   with `e^(-t / 3 s)`, so that what ends at once spreads, too; and what the asker himself sent there and the
//!   host may not have seen.
//! - `reserved`: cores that somebody asked for (`--cores`) beyond those in use: they are promised.
//! - `idle`: sessions that only sit there (a shell) count a tenth: they may wake up.
//! - `this`: the cores that this command asks for, at least 1: an idle host with 8 cores is better than an idle
//!   one with 2.
//! - `pressure`: 1 where all is well. Memory that tasks wait for (PSI) counts most, then input and output, then
//!   memory that is nearly used up.
//!
//! Two hosts are drawn, each with a chance in proportion to `score^-2`; they are asked for a fresh word and the
//! better one is taken, so many launchers that know the same do not all choose the same. Scores within 5 % are
//! equal: then the one that was drawn first is taken.

use super::rng::Rng;
use libqueue::wire::{Load, Term};
use std::time::Duration;

/// Time constant with which a command that ended at once fades out of `starts`.
pub(crate) const FADE: Duration = Duration::from_secs(3);
/// Of the part of the 1-minute load average that is above the present one, so much counts.
const PAST: f64 = 0.1;
/// A session that does nothing counts so much of a task.
const IDLE: f64 = 0.1;
/// How sharply the draw prefers low scores.
const SHARP: i32 = 2;
/// Scores this close are equal.
const EQUAL: f64 = 1.05;
/// No host is believed to have more cores, tasks, or power, and none less power.
const CORES_MAX: u32 = 4096;
const TASKS_MAX: f64 = 1e6;
const POWER: (f64, f64) = (0.01, 100.0);

/// The formula, for people.
pub(crate) const FORMULA: &str = "score = (running + starting + reserved + idle + this) / (cores x power) x pressure; the lowest is the best";

/// What is known of one host that could be taken.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct View {
    /// What it said last.
    pub load: Load,
    /// Its power factor; 0: not known.
    pub power: f64,
    /// Launches that the asker handed to it and that `load` cannot show yet.
    pub flights: f64,
    /// Cores that those asked for.
    pub flight_cores: u32,
}

/// A score and what it is made of, in the order of the formula.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Score {
    /// Tasks that run.
    pub running: f64,
    /// Newcomers that do not show yet.
    pub starting: f64,
    /// Promised cores that are not used.
    pub reserved: f64,
    /// Sessions that do nothing.
    pub idle: f64,
    /// The command itself.
    pub this: f64,
    /// Cores there.
    pub cores: f64,
    /// Speed of a core.
    pub power: f64,
    /// Factor for what else is scarce.
    pub pressure: f64,
    /// The result: lower is better.
    pub value: f64,
}

/// Expected slowdown there of a command that asks for so many cores.
pub(crate) fn score(v: &View, cores: u32) -> Score {
    let l = &v.load;
    let now = tasks(l.running);
    let running = now + PAST * (tasks(l.load1) - now).max(0.0);
    let starting = tasks(l.starts) + tasks(v.flights);
    let promised = f64::from(l.cores_reserved.min(CORES_MAX)) + f64::from(v.flight_cores.min(CORES_MAX));
    let reserved = (promised - running - starting).max(0.0);
    let idle = IDLE * (tasks(f64::from(l.sessions)) - running - starting).max(0.0);
    let this = f64::from(cores.clamp(1, CORES_MAX));
    let room = f64::from(l.cores.clamp(1, CORES_MAX));
    let power = match v.power {
        p if p > 0.0 => p.clamp(POWER.0, POWER.1),
        _ => 1.0,
    };
    let free = if l.mem_total == 0 {
        1.0
    } else {
        l.mem_available as f64 / l.mem_total as f64
    };
    let scarce = 1.0 + 10.0 * (0.1 - free).clamp(0.0, 0.1);
    let pressure = (1.0 + percent(l.psi_mem) / 50.0) * (1.0 + percent(l.psi_io) / 200.0) * scarce;
    Score {
        running,
        starting,
        reserved,
        idle,
        this,
        cores: room,
        power,
        pressure,
        value: (running + starting + reserved + idle + this) / (room * power) * pressure,
    }
}

/// A count of tasks as a host says it. It cannot make itself attractive with nonsense.
fn tasks(n: f64) -> f64 {
    if n.is_finite() {
        n.clamp(0.0, TASKS_MAX)
    } else {
        TASKS_MAX
    }
}

fn percent(n: f64) -> f64 {
    if n.is_finite() { n.clamp(0.0, 100.0) } else { 100.0 }
}

impl Score {
    /// The terms by name, in the formula's order.
    pub(crate) fn terms(&self, v: &View) -> Vec<Term> {
        let l = &v.load;
        let term = |name: &str, value: f64, text: String| Term {
            name: name.into(),
            value,
            text,
        };
        let starting = match v.flights {
            f if f > 0.0 => format!("{:.1} began there of late, {f:.1} on the way from here", l.starts),
            _ => format!("{:.1} began there of late", l.starts),
        };
        vec![
            term(
                "running",
                self.running,
                format!(
                    "{:.2} tasks in the last seconds, load average {:.2}",
                    l.running, l.load1
                ),
            ),
            term("starting", self.starting, starting),
            term(
                "reserved",
                self.reserved,
                format!("{} cores promised", l.cores_reserved),
            ),
            term(
                "idle",
                self.idle,
                format!("a tenth of the idle ones of {} sessions", l.sessions),
            ),
            term("this", self.this, "this command".into()),
            term("cores", self.cores, "cores there".into()),
            term("power", self.power, "speed of a core".into()),
            term(
                "pressure",
                self.pressure,
                format!(
                    "waiting for memory {:.0} %, for input and output {:.0} %",
                    l.psi_mem, l.psi_io
                ),
            ),
        ]
    }
}

/// How much a score weighs in the draw.
pub(crate) fn weight(score: f64) -> f64 {
    score.clamp(1e-6, 1e9).powi(-SHARP)
}

/// Draws an index in proportion to the weights; `None` if there is nothing to draw.
pub(crate) fn draw(weights: &[f64], rng: &mut Rng) -> Option<usize> {
    let total: f64 = weights.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let mut at = unit(rng) * total;
    for (i, w) in weights.iter().enumerate() {
        at -= w;
        if at < 0.0 && *w > 0.0 {
            return Some(i);
        }
    }
    weights.iter().rposition(|w| *w > 0.0)
}

/// Draws two different indexes in proportion to the weights, the first one first; fewer if there are fewer.
pub(crate) fn draw_two(mut weights: Vec<f64>, rng: &mut Rng) -> Vec<usize> {
    let mut drawn = Vec::with_capacity(2);
    while drawn.len() < 2
        && let Some(i) = draw(&weights, rng)
    {
        drawn.push(i);
        weights[i] = 0.0;
    }
    drawn
}

/// Whether the first drawn is to be taken rather than the second.
pub(crate) fn keeps_first(first: f64, second: f64) -> bool {
    first <= second * EQUAL
}

/// The chance of each to be taken, if the fresh words say what is known: drawn first and good enough, or drawn
/// second and better.
pub(crate) fn chances(scores: &[f64]) -> Vec<f64> {
    let n = scores.len();
    if n < 2 {
        return vec![1.0; n];
    }
    let w: Vec<f64> = scores.iter().map(|s| weight(*s)).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    // By rank: the weight of the better ones, of the worse ones, and of both.
    let mut better = vec![0.0; n + 1];
    for k in 0..n {
        better[k + 1] = better[k] + w[order[k]];
    }
    let mut others = vec![0.0; n];
    let mut worse = 0.0;
    for k in (0..n).rev() {
        others[order[k]] = better[k] + worse;
        worse += w[order[k]];
    }
    let total = worse;
    // Chance of the k-th best and all after it to be first, each in proportion to what is left for a second one.
    let mut shares = vec![0.0; n + 1];
    for k in (0..n).rev() {
        shares[k] = shares[k + 1] + w[order[k]] / others[order[k]];
    }
    let mut chance = vec![0.0; n];
    for i in 0..n {
        // As first it is kept beside these, as second it is taken before those.
        let kept = order.partition_point(|j| !keeps_first(scores[i], scores[*j]));
        let before = order.partition_point(|j| keeps_first(scores[*j], scores[i]));
        let as_first = w[i] / total * (1.0 - better[kept] / others[i]);
        let as_second = w[i] / total * shares[before];
        chance[i] = (as_first + as_second).clamp(0.0, 1.0);
    }
    chance
}

/// A number from 0 to below 1.
fn unit(rng: &mut Rng) -> f64 {
    (rng.next() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(running: f64, cores: u32) -> View {
        View {
            load: Load {
                running,
                load1: running,
                cores,
                ..Load::default()
            },
            ..View::default()
        }
    }

    fn value(v: &View) -> f64 {
        score(v, 0).value
    }

    #[test]
    fn the_formula_is_what_is_computed() {
        let v = View {
            load: Load {
                running: 2.0,
                load1: 7.0,
                cores: 4,
                sessions: 9,
                starts: 0.5,
                cores_reserved: 6,
                psi_mem: 25.0,
                psi_io: 40.0,
                ..Load::default()
            },
            power: 2.0,
            flights: 1.0,
            flight_cores: 1,
        };
        let s = score(&v, 3);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(s.running, 2.5);
        near(s.starting, 1.5);
        near(s.reserved, 3.0);
        near(s.idle, 0.5);
        near(s.this, 3.0);
        near(s.pressure, 1.5 * 1.2);
        near(s.value, 10.5 / 8.0 * 1.8);
        let names: Vec<String> = s.terms(&v).into_iter().map(|t| t.name).collect();
        let mut at = 0;
        for n in names {
            at += FORMULA[at..]
                .find(&n)
                .expect("named in the formula, in its order");
        }
    }

    #[test]
    fn less_load_more_cores_more_power_and_less_pressure_are_better() {
        assert!(value(&view(0.1, 2)) < value(&view(0.2, 2)));
        assert!(value(&view(1.5, 16)) < value(&view(0.5, 2)));
        let strong = View {
            power: 1.5,
            ..view(0.5, 2)
        };
        assert!(value(&strong) < value(&view(0.5, 2)));
        for change in [
            (|l| l.psi_mem = 10.0) as fn(&mut Load),
            |l| l.psi_io = 50.0,
            |l| (l.mem_total, l.mem_available) = (100, 3),
            |l| l.sessions = 10,
            |l| l.starts = 0.3,
            |l| l.cores_reserved = 2,
        ] {
            let mut v = view(0.5, 2);
            change(&mut v.load);
            assert!(value(&v) > value(&view(0.5, 2)), "{v:?}");
        }
        let busy = View {
            flights: 1.0,
            ..view(0.5, 2)
        };
        assert!(value(&busy) > value(&view(0.5, 2)));
    }

    #[test]
    fn nonsense_attracts_nobody() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut v = view(bad, 64);
            assert!(value(&v) > value(&view(90.0, 1)) && value(&v).is_finite());
            v = view(0.0, 2);
            (v.load.starts, v.load.psi_mem, v.load.psi_io) = (bad, bad, bad);
            (v.flights, v.power) = (bad, bad);
            assert!(value(&v) >= value(&view(0.0, 2)) && value(&v).is_finite());
        }
        assert_eq!(value(&view(-9.0, 2)), value(&view(0.0, 2)));
        assert_eq!(value(&view(1.0, 0)), value(&view(1.0, 1)));
        assert_eq!(value(&view(1.0, u32::MAX)), value(&view(1.0, 4096)));
        let liar = View {
            power: 1e300,
            ..view(0.0, 2)
        };
        assert!(value(&liar) > 1e-3);
        let liar = View {
            power: -1.0,
            ..view(0.0, 2)
        };
        assert_eq!(value(&liar), value(&view(0.0, 2)));
    }

    #[test]
    fn draws_in_proportion_and_never_what_weighs_nothing() {
        let mut rng = Rng::new(3);
        let mut count = [0.0f64; 4];
        for _ in 0..70_000 {
            count[draw(&[1.0, 2.0, 0.0, 4.0], &mut rng).unwrap()] += 1.0;
        }
        assert_eq!(count[2], 0.0);
        for (i, share) in [(0, 1.0), (1, 2.0), (3, 4.0)] {
            assert!((count[i] / 10_000.0 - share).abs() < 0.1, "{count:?}");
        }
        assert_eq!(draw(&[], &mut rng), None);
        assert_eq!(draw(&[0.0], &mut rng), None);
        let two = draw_two(vec![1.0, 1.0], &mut rng);
        assert!(two == [0, 1] || two == [1, 0]);
        assert_eq!(draw_two(vec![0.0, 5.0], &mut rng), [1]);
    }

    #[test]
    fn chances_are_those_of_the_draw() {
        for scores in [
            vec![0.5],
            vec![0.5, 0.5],
            vec![0.55, 0.6, 0.65],
            vec![1.0, 0.5, 0.25, 1.02, 0.26, 7.0],
            (1..40).map(|i| 0.5 + f64::from(i) / 50.0).collect(),
        ] {
            let chance = chances(&scores);
            assert!((chance.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{chance:?}");
            let mut rng = Rng::new(11);
            let n = 200_000;
            let mut count = vec![0u32; scores.len()];
            for _ in 0..n {
                let drawn = draw_two(scores.iter().map(|s| weight(*s)).collect(), &mut rng);
                let taken = match drawn[..] {
                    [a, b] if !keeps_first(scores[a], scores[b]) => b,
                    [a, ..] => a,
                    [] => unreachable!("there are hosts"),
                };
                count[taken] += 1;
            }
            for (c, p) in count.iter().zip(&chance) {
                let (real, n) = (f64::from(*c), f64::from(n));
                let sigma = (n * p * (1.0 - p)).sqrt().max(1.0);
                assert!((real - n * p).abs() < 5.0 * sigma, "{real} of {n}, expected {p}");
            }
        }
    }
}
