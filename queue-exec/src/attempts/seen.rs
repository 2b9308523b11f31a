//! Which attempts were ever seen here: what makes each run once at most. Knows numbers only.
//!
//! Small, because an array has a million tasks: for most tasks there is one attempt, the first, and that is a bit.

use crate::protocol::JobKey;
use std::collections::HashMap;

/// What was not seen for so many hours is forgotten.
const HOURS: u32 = 25;

/// 64 neighbours: of an array's tasks, or of jobs that are none.
pub type Chunk = (u64, u32);

/// Highest attempt by job and task.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// First attempts, a bit each, and the hour of the last one.
    first: HashMap<Chunk, (u64, u32)>,
    /// Those that had further attempts: the highest, and its hour.
    later: HashMap<(u64, u32), (u32, u32)>,
}

fn place(job: u64, task: u32) -> (Chunk, u64) {
    match task {
        0 => ((job / 64, 0), 1 << (job % 64)),
        n => ((job, n / 64 + 1), 1 << (n % 64)),
    }
}

/// What is written down of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// First attempts.
    First {
        /// Of which tasks or jobs.
        chunk: Chunk,
        /// One for each that was seen.
        bits: u64,
        /// Hours since the epoch.
        hour: u32,
    },
    /// A later attempt.
    Later {
        /// Which.
        key: JobKey,
        /// Hours since the epoch.
        hour: u32,
    },
}

impl Seen {
    /// The highest attempt; 0: none.
    pub fn highest(&self, job: u64, task: u32) -> u32 {
        if let Some((attempt, _)) = self.later.get(&(job, task)) {
            return *attempt;
        }
        let (chunk, bit) = place(job, task);
        u32::from(self.first.get(&chunk).is_some_and(|(bits, _)| bits & bit != 0))
    }

    /// Takes note of an attempt.
    pub fn note(&mut self, key: JobKey, hour: u32) {
        if key.attempt > 1 {
            let e = self.later.entry((key.job, key.task)).or_default();
            *e = (e.0.max(key.attempt), e.1.max(hour));
        } else {
            let (chunk, bit) = place(key.job, key.task);
            let e = self.first.entry(chunk).or_default();
            *e = (e.0 | bit, e.1.max(hour));
        }
    }

    /// An attempt that no session got: it may come again, older ones may not.
    pub fn retract(&mut self, key: JobKey) {
        if key.attempt > 1 {
            if let Some(e) = self.later.get_mut(&(key.job, key.task))
                && e.0 == key.attempt
            {
                e.0 -= 1;
            }
        } else {
            let (chunk, bit) = place(key.job, key.task);
            if let Some(e) = self.first.get_mut(&chunk) {
                e.0 &= !bit;
            }
        }
    }

    /// Forgets what is old.
    pub fn expire(&mut self, hour: u32) {
        self.first.retain(|_, (_, at)| at.saturating_add(HOURS) >= hour);
        self.later.retain(|_, (_, at)| at.saturating_add(HOURS) >= hour);
    }

    /// Everything.
    pub fn lines(&self) -> impl Iterator<Item = Line> {
        let first = self
            .first
            .iter()
            .map(|(&chunk, &(bits, hour))| Line::First { chunk, bits, hour });
        let later = self.later.iter().map(|(&(job, task), &(attempt, hour))| {
            let key = JobKey { job, task, attempt };
            Line::Later { key, hour }
        });
        first.chain(later)
    }

    /// What was written down.
    pub fn restore(&mut self, line: Line) {
        match line {
            Line::First { chunk, bits, hour } => {
                let e = self.first.entry(chunk).or_default();
                *e = (e.0 | bits, e.1.max(hour));
            }
            Line::Later { key, hour } => {
                self.later.insert((key.job, key.task), (key.attempt, hour));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(job: u64, task: u32, attempt: u32) -> JobKey {
        JobKey { job, task, attempt }
    }

    #[test]
    fn the_highest_counts() {
        let mut s = Seen::default();
        let keys = [
            key(5, 0, 1),
            key(5, 1, 1),
            key(5, 64, 3),
            key(69, 0, 1),
            key(u64::MAX, u32::MAX, u32::MAX),
        ];
        for k in keys {
            assert_eq!(s.highest(k.job, k.task), 0);
            s.note(k, 100);
            assert_eq!(s.highest(k.job, k.task), k.attempt);
        }
        for other in [(5, 2), (5, 63), (5, 65), (4, 0), (6, 0), (69, 1), (1, 5), (0, 0)] {
            assert_eq!(s.highest(other.0, other.1), 0, "{other:?}");
        }
        s.note(key(5, 0, 2), 100);
        s.note(key(5, 0, 1), 100);
        assert_eq!(s.highest(5, 0), 2);
        let mut again = Seen::default();
        s.lines().for_each(|l| again.restore(l));
        assert_eq!(again, s);
    }

    #[test]
    fn one_that_nobody_got_may_come_again() {
        let mut s = Seen::default();
        s.note(key(5, 0, 1), 1);
        s.retract(key(5, 0, 1));
        assert_eq!(s.highest(5, 0), 0);
        s.note(key(5, 7, 1), 1);
        s.note(key(5, 7, 3), 1);
        s.retract(key(5, 7, 3));
        assert_eq!(s.highest(5, 7), 2);
        s.retract(key(5, 7, 3));
        s.retract(key(9, 9, 9));
        assert_eq!(s.highest(5, 7), 2);
    }

    #[test]
    fn old_ones_are_forgotten() {
        let mut s = Seen::default();
        s.note(key(5, 0, 1), 100);
        s.note(key(6, 0, 2), 101);
        s.expire(100 + HOURS);
        assert_eq!((s.highest(5, 0), s.highest(6, 0)), (1, 2));
        s.expire(101 + HOURS);
        assert_eq!((s.highest(5, 0), s.highest(6, 0)), (0, 2));
        s.note(key(6, 0, 2), 200);
        s.expire(102 + HOURS);
        assert_eq!(s.highest(6, 0), 2);
    }
}
