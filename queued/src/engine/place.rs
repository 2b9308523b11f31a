//! Which host is the best one: one documented function of what is known about the hosts. Pure; knows no
//! names' meaning, no connections, no time but what it is handed.
//!
//! The score is GNU Queue's idea, the slowdown that the newcomer has to expect:
//!
//! ```text
//!          load1 + newcomers + sessions / 10 + 1
//! score = ---------------------------------------      the lowest one wins
//!                        cores
//! ```
//!
//! - `load1` is the host's own 1-minute load average out of its last report.
//! - `newcomers` are the launches that we handed to the host ourselves and that `load1` cannot show yet. A
//!   launch of age `t` is in a 1-minute average with weight `1 - e^(-t/60 s)`, so it counts here with the
//!   rest, `e^(-t/60 s)`: simultaneous launches spread. There cannot be more of them than the host reported
//!   sessions, plus what we handed out since that report: short commands do not linger here.
//! - A session that only sits there (a shell) counts a tenth of a running process: it may wake up.
//! - The `1` is the newcomer itself: an idle host with 8 cores is better than an idle one with 2.
//!
//! Hosts within 5 % of the best one are as good as it; chance (the engine's seeded source) decides among them.

use super::rng::Rng;
use std::time::Duration;

/// Time constant of the 1-minute load average.
const DECAY: Duration = Duration::from_secs(60);
/// Scores this close are equal.
const EQUAL: f64 = 1.05;
/// Launches older than this no longer count (their weight is under 2 %).
pub(crate) const REMEMBER: Duration = Duration::from_secs(240);

/// What is known of one host that could be taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// Its 1-minute load average.
    pub load1: f64,
    /// Cores that may be used there.
    pub cores: u32,
    /// Sessions that it reported.
    pub sessions: u32,
    /// Ages of the launches that we handed to it.
    pub handed: Vec<Duration>,
    /// Age of its report: launches younger than this are not in `sessions`.
    pub report_age: Duration,
}

/// Expected slowdown of one more process there; lower is better.
pub(crate) fn score(v: &View) -> f64 {
    let unseen = v.handed.iter().filter(|a| **a <= v.report_age).count() as f64;
    let weight: f64 = v
        .handed
        .iter()
        .map(|a| (-a.as_secs_f64() / DECAY.as_secs_f64()).exp())
        .sum();
    let newcomers = weight.min(f64::from(v.sessions) + unseen);
    // A host cannot make itself attractive with nonsense.
    let load = if v.load1.is_finite() {
        v.load1.max(0.0)
    } else {
        f64::MAX
    };
    (load + newcomers + f64::from(v.sessions) / 10.0 + 1.0) / f64::from(v.cores.max(1))
}

/// Index of the view to take; `None` if there is none.
pub(crate) fn best(views: &[View], rng: &mut Rng) -> Option<usize> {
    let scores: Vec<f64> = views.iter().map(score).collect();
    let least = scores.iter().copied().min_by(f64::total_cmp)?;
    let good: Vec<usize> = (0..scores.len())
        .filter(|i| scores[*i] <= least * EQUAL)
        .collect();
    good.get(rng.below(good.len())).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(load1: f64, cores: u32) -> View {
        View {
            load1,
            cores,
            report_age: Duration::from_secs(1),
            ..View::default()
        }
    }

    #[test]
    fn the_least_loaded_wins_and_cores_count() {
        let mut rng = Rng::new(1);
        for _ in 0..100 {
            assert_eq!(
                best(&[view(3.0, 2), view(0.1, 2), view(8.0, 2)], &mut rng),
                Some(1)
            );
            assert_eq!(best(&[view(0.5, 2), view(1.5, 16)], &mut rng), Some(1));
            assert_eq!(best(&[view(f64::NAN, 64), view(90.0, 1)], &mut rng), Some(1));
        }
        assert_eq!(best(&[], &mut rng), None);
        assert_eq!(best(&[view(1.0, 0)], &mut rng), Some(0));
    }

    #[test]
    fn simultaneous_launches_spread() {
        let mut rng = Rng::new(5);
        let mut views = vec![view(0.0, 2), view(0.0, 2), view(0.0, 4)];
        let mut count = [0; 3];
        for _ in 0..32 {
            let i = best(&views, &mut rng).unwrap();
            count[i] += 1;
            views[i].handed.push(Duration::ZERO);
        }
        assert_eq!(count.iter().sum::<usize>(), 32);
        assert!(
            (7..=9).contains(&count[0]) && (7..=9).contains(&count[1]),
            "{count:?}"
        );
        assert!((15..=17).contains(&count[2]), "{count:?}");
    }

    #[test]
    fn what_has_ended_no_longer_counts() {
        let busy = View {
            handed: vec![Duration::from_secs(3); 20],
            ..view(0.0, 2)
        };
        assert_eq!(score(&busy), score(&view(0.0, 2)));
        let running = View { sessions: 20, ..busy };
        assert!(score(&running) > score(&view(15.0, 2)));
    }

    #[test]
    fn equals_are_drawn_by_lot() {
        let mut rng = Rng::new(9);
        let views = [view(0.0, 2), view(0.0, 2), view(0.05, 2), view(4.0, 2)];
        let mut count = [0; 4];
        for _ in 0..300 {
            count[best(&views, &mut rng).unwrap()] += 1;
        }
        assert!(count[0] > 60 && count[1] > 60 && count[2] > 60, "{count:?}");
        assert_eq!(count[3], 0);
    }
}
