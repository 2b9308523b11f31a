//! Hosts by what they have free: sets that are changed, and drawn from, in constant time.

/// More free cores than this are as many.
const TOP: u32 = 1024;

/// Hosts in buckets.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    buckets: Vec<Vec<u32>>,
    /// Where each host is: bucket and index.
    at: Vec<Option<(u32, u32)>>,
}

impl Rooms {
    /// Puts a host into the bucket of so many; `None`: it is in none.
    pub(super) fn set(&mut self, host: u32, to: Option<u32>) {
        let to = to.map(|n| n.min(TOP));
        if self.at.len() <= host as usize {
            self.at.resize(host as usize + 1, None);
        }
        let from = self.at[host as usize];
        if from.map(|f| f.0) == to {
            return;
        }
        if let Some((bucket, index)) = from {
            let b = &mut self.buckets[bucket as usize];
            b.swap_remove(index as usize);
            if let Some(moved) = b.get(index as usize) {
                self.at[*moved as usize] = Some((bucket, index));
            }
        }
        self.at[host as usize] = to.map(|n| {
            if self.buckets.len() <= n as usize {
                self.buckets.resize_with(n as usize + 1, Vec::new);
            }
            let b = &mut self.buckets[n as usize];
            b.push(host);
            (n, (b.len() - 1) as u32)
        });
    }

    /// Whether there is a host with so many.
    pub(super) fn any(&self, least: u32) -> bool {
        self.from(least).iter().any(|b| !b.is_empty())
    }

    /// How many hosts have so many.
    pub(super) fn count(&self, least: u32) -> usize {
        self.from(least).iter().map(Vec::len).sum()
    }

    /// The one of that index among those that have so many.
    pub(super) fn nth(&self, least: u32, mut index: usize) -> Option<u32> {
        for b in self.from(least) {
            match b.get(index) {
                Some(h) => return Some(*h),
                None => index -= b.len(),
            }
        }
        None
    }

    /// All that have so many.
    pub(super) fn all(&self, least: u32) -> impl Iterator<Item = u32> {
        self.from(least).iter().flatten().copied()
    }

    fn from(&self, least: u32) -> &[Vec<u32>] {
        self.buckets.get(least.min(TOP) as usize..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_move_between_buckets() {
        let mut r = Rooms::default();
        for h in 0..10 {
            r.set(h, Some(h % 3));
        }
        assert_eq!((r.count(0), r.count(1), r.count(2), r.count(3)), (10, 6, 3, 0));
        r.set(4, None);
        r.set(1, Some(5000));
        assert_eq!((r.count(0), r.count(1), r.count(9)), (9, 5, 1));
        let mut all: Vec<u32> = r.all(1).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 5, 7, 8]);
        let mut nth: Vec<u32> = (0..5).filter_map(|i| r.nth(1, i)).collect();
        nth.sort_unstable();
        assert_eq!(nth, all);
        assert!(r.any(6) && r.nth(1, 5).is_none());
        r.set(1, None);
        assert!(!r.any(3));
    }
}
