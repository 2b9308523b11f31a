//! The same for many things at once, with a few threads. Knows nothing of what it is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many at once.
const THREADS: usize = 16;

/// Does it for each, and gives the results in the same order.
pub fn each<'a, T: Sync, R: Send>(items: &'a [T], work: impl Fn(&'a T) -> R + Sync) -> Vec<R> {
    if let [one] = items {
        return vec![work(one)];
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..items.len().min(THREADS) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(i) else { break };
                    let result = work(item);
                    done.lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push((i, result));
                }
            });
        }
    });
    let mut all = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, r)| r).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_are_in_order() {
        let n: Vec<u32> = (0..100).collect();
        assert_eq!(
            super::each(&n, |i| i * 2),
            (0..200).step_by(2).collect::<Vec<_>>()
        );
        assert!(super::each(&[] as &[u32], |i| *i).is_empty());
    }
}
