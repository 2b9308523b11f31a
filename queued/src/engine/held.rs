//! What is granted, each with what it needs, and the sum of all that: a host with a thousand sessions counts no
//! longer than one with none. Knows needs; not what they mean.

use super::fit::Claim;
use super::types::Now;
use libqueue::wire::Need;
use std::collections::BTreeMap;

/// A sum wide enough for any number of needs, so that what was added can be taken away again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    cores: u64,
    mem: u128,
    gpus: u64,
    disk: u128,
}

impl Sum {
    fn add(&mut self, n: &Need) {
        self.cores += u64::from(n.cores);
        self.mem += u128::from(n.mem);
        self.gpus += u64::from(n.gpus);
        self.disk += u128::from(n.disk);
    }

    fn remove(&mut self, n: &Need) {
        self.cores -= u64::from(n.cores);
        self.mem -= u128::from(n.mem);
        self.gpus -= u64::from(n.gpus);
        self.disk -= u128::from(n.disk);
    }
}

/// Needs by what they are for, and since when.
#[derive(Debug)]
pub(super) struct Held<K> {
    all: BTreeMap<K, (Now, Need)>,
    sum: Sum,
}

impl<K> Default for Held<K> {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            sum: Sum::default(),
        }
    }
}

impl<K: Ord> Held<K> {
    pub(super) fn insert(&mut self, key: K, held: (Now, Need)) {
        self.sum.add(&held.1);
        if let Some((_, before)) = self.all.insert(key, held) {
            self.sum.remove(&before);
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<(Now, Need)> {
        let held = self.all.remove(key)?;
        self.sum.remove(&held.1);
        Some(held)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets those that began too long ago.
    pub(super) fn retain(&mut self, keep: impl Fn(Now) -> bool) {
        let sum = &mut self.sum;
        self.all.retain(|_, (at, need)| {
            let keeps = keep(*at);
            if !keeps {
                sum.remove(need);
            }
            keeps
        });
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// When the first of them began.
    pub(super) fn oldest(&self) -> Option<Now> {
        self.all.values().map(|(at, _)| *at).min()
    }

    /// All together.
    pub(super) fn claim(&self) -> Claim {
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Claim {
            sessions: narrow(self.all.len() as u64),
            cores: narrow(self.sum.cores),
            mem: u64::try_from(self.sum.mem).unwrap_or(u64::MAX),
            gpus: narrow(self.sum.gpus),
            disk: u64::try_from(self.sum.disk).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Whatever is done to them, the sum is that of those that are there.
    #[test]
    fn the_sum_is_that_of_all() {
        let mut seed = 3u64;
        let mut random = move |n: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let mut held: Held<u64> = Held::default();
        for i in 0..5000 {
            match random(20) {
                0 if random(40) == 0 => held.clear(),
                0 => held.retain(|at| at.as_secs() + 200 > i),
                1..8 => drop(held.remove(&random(50))),
                _ => {
                    let need = Need {
                        cores: [1, 7, u32::MAX][random(3) as usize],
                        mem: [0, 5 << 30, u64::MAX][random(3) as usize],
                        gpus: random(3) as u32,
                        disk: random(1 << 40),
                        ..Need::default()
                    };
                    held.insert(random(50), (Duration::from_secs(i), need));
                }
            }
            let each = held.all.values().map(|(_, n)| Claim::of(n));
            assert_eq!(held.claim(), each.fold(Claim::default(), Claim::and));
            assert_eq!(held.oldest(), held.all.values().map(|(at, _)| *at).min());
        }
    }
}
