//! What the kernel writes into `/proc`: load, cores in use, memory, pressure. Texts in, figures out; knows nothing of
//! limits and of what the figures are for.
//!
//! Read by hand: a measure is a few small files, and a library for them (`procfs`, `sysinfo`) costs several times
//! as much and still leaves the cgroups to be read by hand.

use std::fs;
use std::path::Path;

/// A file as text; empty if it cannot be read.
pub(super) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Load averages of 1, 5 and 15 minutes, and tasks that run or want to, as `/proc/loadavg` says them.
pub(super) fn loadavg(text: &str) -> Option<([f64; 3], f64)> {
    let mut words = text.split_whitespace();
    let mut next = || {
        let v = words.next()?.parse::<f64>().ok()?;
        (v.is_finite() && v >= 0.0).then_some(v)
    };
    let averages = [next()?, next()?, next()?];
    let running = words.next()?.split('/').next()?.parse::<u32>().ok()?;
    Some((averages, running.into()))
}

/// Total and available memory in bytes, as `/proc/meminfo` says them.
pub(super) fn meminfo(text: &str) -> (u64, u64) {
    let bytes = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0)
            .saturating_mul(1024)
    };
    (bytes("MemTotal:"), bytes("MemAvailable:"))
}

/// Ticks of some cores since the machine's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ticks {
    /// In which a core was in use, or taken away by the machine below this one.
    pub busy: u64,
    /// All of them.
    pub all: u64,
    /// Of how many cores.
    pub cores: u64,
}

/// Ticks of the cores that `mine` names, as `/proc/stat` says them.
pub(super) fn stat(text: &str, mine: impl Fn(usize) -> bool) -> Ticks {
    let mut ticks = Ticks::default();
    for line in text.lines().take_while(|l| l.starts_with("cpu")) {
        let mut words = line.split_whitespace();
        let core = words.next().and_then(|w| w.strip_prefix("cpu")?.parse().ok());
        if !core.is_some_and(&mine) {
            continue;
        }
        // user, nice, system, idle, waiting for disks, irq, softirq, stolen; guests are counted as user already.
        for (i, n) in words.take(8).enumerate() {
            let n = n.parse::<u64>().unwrap_or(0);
            ticks.all += n;
            if i != 3 && i != 4 {
                ticks.busy += n;
            }
        }
        ticks.cores += 1;
    }
    ticks
}

impl Ticks {
    /// Cores in use since then; `None` if no time has passed.
    pub(super) fn since(&self, then: &Self) -> Option<f64> {
        let all = self.all.checked_sub(then.all).filter(|n| *n > 0)?;
        let busy = self.busy.saturating_sub(then.busy);
        // A core that came or went since then makes one odd figure.
        Some((busy as f64 / all as f64).min(1.0) * self.cores as f64)
    }
}

/// Per cent of the last 10 s in which some task waited, as a pressure file says it; 0 without one.
pub(super) fn pressure(text: &str) -> f64 {
    let some = text.lines().find_map(|l| l.strip_prefix("some avg10="));
    some.and_then(|l| l.split(' ').next()?.parse::<f64>().ok())
        .filter(|v| (0.0..=100.0).contains(v))
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_and_memory() {
        assert_eq!(
            loadavg("0.52 1.25 0.04 2/345 6789\n"),
            Some(([0.52, 1.25, 0.04], 2.0))
        );
        for text in [
            "",
            "x y z",
            "1.0 2.0",
            "1 2 3",
            "1 2 3 x/4 5",
            "-1 2 3 1/4 5",
            "inf 2 3 1/4 5",
        ] {
            assert_eq!(loadavg(text), None, "{text}");
        }
        let mem = "MemTotal:        2048 kB\nMemFree: 1 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(meminfo(mem), (2 << 20, 1 << 20));
        assert_eq!(meminfo("MemTotal: x"), (0, 0));
    }

    #[test]
    fn cores_in_use() {
        let then = "cpu  9 9 9 9\ncpu0 10 0 10 70 10 0 0 0 5 0\ncpu1 0 0 0 100 0 0 0 0 0 0\nintr 5\ncpu0 1\n";
        let now = "cpu  9 9 9 9\ncpu0 60 0 10 120 10 0 0 0 5 0\ncpu1 10 10 10 130 10 10 10 10 0 0\nintr 5\n";
        let both = stat(now, |_| true);
        assert_eq!((both.cores, stat(then, |_| true).all), (2, 200));
        assert_eq!(both.since(&stat(then, |_| true)), Some(110.0 / 200.0 * 2.0));
        assert_eq!(stat(now, |i| i == 0).since(&stat(then, |i| i == 0)), Some(0.5));
        assert_eq!(both.since(&both), None);
        assert_eq!(stat(then, |_| true).since(&both), None);
        assert_eq!(stat("", |_| true), Ticks::default());
    }

    #[test]
    fn waiting() {
        let text = "some avg10=12.50 avg60=0.28 avg300=0.52 total=267865\nfull avg10=1.00 avg60=0.00\n";
        assert_eq!(pressure(text), 12.5);
        for text in ["", "full avg10=3.00", "some avg10=x", "some avg10=nan "] {
            assert_eq!(pressure(text), 0.0, "{text}");
        }
    }
}
