//! Which datagrams were seen: for each sender a window over its counters, for a bounded number of senders. What
//! was seen, or is too old to tell, is refused. Knows counters; no keys of its own, no time.

use libqueue::seal::{Head, SenderKey, SharedKey};
use std::collections::HashMap;

/// Counters that a window remembers. A host numbers its datagrams to all receivers in one row, so between two
/// for the same receiver there may be as many as there are hosts.
const WIDTH: u64 = 2048;
const WORDS: usize = (WIDTH / 64) as usize;
/// Runs of one sender remembered. A copy of a host may run for a while beside it, with the same keys, and must not
/// silence it for good; what is older than these, or unknown and older than the latest, is refused.
const RUNS: usize = 2;
/// Senders remembered.
const SENDERS: usize = 4096;

/// The last counters of one run of one sender.
#[derive(Debug)]
struct Window {
    /// The highest one seen.
    top: u64,
    /// Which of the last [`WIDTH`] were seen: bit `counter % WIDTH`.
    seen: [u64; WORDS],
}

impl Window {
    fn new() -> Self {
        Self {
            top: 0,
            seen: [0; WORDS],
        }
    }

    fn at(counter: u64) -> (usize, u64) {
        let bit = counter % WIDTH;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Whether it may be new.
    fn is_new(&self, counter: u64) -> bool {
        if counter > self.top {
            return true;
        }
        let (word, bit) = Self::at(counter);
        self.top - counter < WIDTH && self.seen[word] & bit == 0
    }

    /// Takes one that is new.
    fn take(&mut self, counter: u64) {
        if counter > self.top {
            if counter - self.top >= WIDTH {
                self.seen = [0; WORDS];
            } else {
                for passed in self.top + 1..counter {
                    let (word, bit) = Self::at(passed);
                    self.seen[word] &= !bit;
                }
            }
            self.top = counter;
        }
        let (word, bit) = Self::at(counter);
        self.seen[word] |= bit;
    }
}

/// One run of a sender.
#[derive(Debug)]
struct Run {
    boot: u64,
    key: SenderKey,
    window: Window,
}

/// One sender.
#[derive(Debug)]
struct Sender {
    /// The latest first.
    runs: Vec<Run>,
    /// When it was heard last, in datagrams.
    used: u64,
}

/// All senders under one shared key.
#[derive(Debug, Default)]
pub(super) struct Senders {
    all: HashMap<u64, Sender>,
    heard: u64,
}

impl Senders {
    /// Opens a datagram that is not a replay, in place. Nothing is remembered of one that does not open.
    pub(super) fn open<'a>(
        &mut self,
        shared: &SharedKey,
        head: &Head,
        datagram: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        self.heard += 1;
        if let Some(s) = self.all.get_mut(&head.host) {
            if let Some(run) = s.runs.iter_mut().find(|r| r.boot == head.boot) {
                if !run.window.is_new(head.counter) {
                    return None;
                }
                let payload = run.key.open(head, datagram)?;
                run.window.take(head.counter);
                s.used = self.heard;
                return Some(payload);
            }
            if s.runs.first().is_some_and(|r| head.boot < r.boot) {
                return None;
            }
        }
        // A later run, or somebody new.
        let key = shared.sender(head.host, head.boot);
        let payload = key.open(head, datagram)?;
        if self.all.len() >= SENDERS && !self.all.contains_key(&head.host) {
            self.forget_one();
        }
        let mut window = Window::new();
        window.take(head.counter);
        let run = Run {
            boot: head.boot,
            key,
            window,
        };
        let sender = self.all.entry(head.host).or_insert_with(|| Sender {
            runs: Vec::with_capacity(1),
            used: 0,
        });
        sender.runs.insert(0, run);
        sender.runs.truncate(RUNS);
        sender.used = self.heard;
        Some(payload)
    }

    /// Forgets what was heard of a host.
    pub(super) fn forget(&mut self, host: u64) {
        self.all.remove(&host);
    }

    /// Forgets whoever was silent for longest. Only members get here, so it is rare.
    fn forget_one(&mut self) {
        let oldest = self.all.iter().min_by_key(|(_, s)| s.used).map(|(n, _)| *n);
        if let Some(host) = oldest {
            self.all.remove(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_counts_once_in_any_order() {
        let mut w = Window::new();
        for c in [5, 3, 4, 1, 100, 6, 99] {
            assert!(w.is_new(c), "{c}");
            w.take(c);
            assert!(!w.is_new(c), "{c}");
        }
        assert!(w.is_new(2) && w.is_new(98) && !w.is_new(100));
        // Far ahead: what is too old to tell is refused, the rest is new.
        w.take(10_000);
        assert!(!w.is_new(10_000 - WIDTH) && w.is_new(10_001 - WIDTH) && !w.is_new(100));
        // Bits of the last turn mean nothing in the next one.
        w.take(10_003);
        assert!(w.is_new(10_001) && w.is_new(10_002) && !w.is_new(10_003));
        w.take(10_003 + WIDTH);
        assert!(w.is_new(10_004) && !w.is_new(10_003));
        w.take(u64::MAX);
        assert!(!w.is_new(u64::MAX) && w.is_new(u64::MAX - 1));
    }

    #[test]
    fn a_window_is_as_a_list_of_all_that_was_seen() {
        let mut w = Window::new();
        let mut seen = std::collections::BTreeSet::new();
        let (mut x, mut base) = (88_172_645_463_325_252u64, 1u64);
        for _ in 0..20_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            base += x % 9;
            let c = base.saturating_sub((x >> 20) % 3000).max(1);
            let top = seen.last().copied().unwrap_or(0);
            let new = !seen.contains(&c) && (c > top || top - c < WIDTH);
            assert_eq!(w.is_new(c), new, "{c} of {top}");
            if new {
                w.take(c);
                seen.insert(c);
            }
        }
    }

    struct From {
        host: u64,
        boot: u64,
    }

    impl From {
        fn datagram(&self, shared: &SharedKey, counter: u64) -> Vec<u8> {
            let head = Head {
                key: shared.id(),
                host: self.host,
                boot: self.boot,
                counter,
            };
            let mut out = Vec::new();
            assert!(shared.sender(self.host, self.boot).seal(&head, b"x", &mut out));
            out
        }
    }

    fn open(s: &mut Senders, shared: &SharedKey, datagram: &[u8]) -> bool {
        let mut d = datagram.to_vec();
        let head = Head::parse(&d).unwrap();
        s.open(shared, &head, &mut d).is_some()
    }

    #[test]
    fn replays_and_forgotten_runs_are_refused_and_forgeries_leave_no_trace() {
        let shared = SharedKey::new(&[3; 32]);
        let mut s = Senders::default();
        let (old, new) = (From { host: 1, boot: 10 }, From { host: 1, boot: 11 });
        let (a, b) = (old.datagram(&shared, 1), old.datagram(&shared, 2));
        assert!(open(&mut s, &shared, &b) && open(&mut s, &shared, &a));
        assert!(!open(&mut s, &shared, &a) && !open(&mut s, &shared, &b));
        // Somebody without the key claims a later run, and a counter far ahead.
        let mut forged = From { host: 1, boot: 99 }.datagram(&SharedKey::new(&[4; 32]), 1);
        forged[1..5].copy_from_slice(&shared.id());
        assert!(!open(&mut s, &shared, &forged));
        let mut forged = old.datagram(&SharedKey::new(&[4; 32]), u64::MAX);
        forged[1..5].copy_from_slice(&shared.id());
        assert!(!open(&mut s, &shared, &forged));
        assert!(open(&mut s, &shared, &old.datagram(&shared, 3)));
        assert!(open(&mut s, &shared, &new.datagram(&shared, 1)));
        // The earlier run: what was seen of it stays seen, what is new is new.
        assert!(!open(&mut s, &shared, &b) && open(&mut s, &shared, &old.datagram(&shared, 4)));
        let other = |boot| From { host: 1, boot }.datagram(&shared, 1);
        assert!(!open(&mut s, &shared, &other(9)), "before all that is known");
        assert!(open(&mut s, &shared, &other(13)));
        assert!(!open(&mut s, &shared, &other(12)), "unknown, and not the latest");
        assert!(!open(&mut s, &shared, &old.datagram(&shared, 5)), "two runs ago");
        assert!(open(&mut s, &shared, &new.datagram(&shared, 2)));
    }

    #[test]
    fn the_number_of_senders_is_bounded() {
        let shared = SharedKey::new(&[3; 32]);
        let mut s = Senders::default();
        let from = |host| From { host, boot: 1 };
        for host in 0..SENDERS as u64 {
            assert!(open(&mut s, &shared, &from(host).datagram(&shared, 1)));
        }
        assert!(open(&mut s, &shared, &from(0).datagram(&shared, 2)));
        assert!(open(&mut s, &shared, &from(9_999_999).datagram(&shared, 1)));
        assert_eq!(s.all.len(), SENDERS);
        assert!(s.all.contains_key(&0) && !s.all.contains_key(&1));
    }
}
