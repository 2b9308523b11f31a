//! Figures of attempts that ended: by user, by host, by cause.

use super::StoreError;
use super::source::Source;
use libqueue::wire::job::{Cause, CauseCount, Stats, UserStats};
use std::collections::BTreeMap;

/// The window, if nothing is said: a day, in milliseconds.
const WINDOW: u64 = 86_400_000;

/// A sum that grows.
#[derive(Debug, Default)]
struct Sum {
    stats: UserStats,
    cpu_us: u64,
    waits: u64,
    waited_ms: u64,
}

impl Sum {
    fn finish(mut self, name: String) -> UserStats {
        self.stats.name = name;
        self.stats.cpu_ms = self.cpu_us / 1000;
        self.stats.wait_ms = self.waited_ms.checked_div(self.waits).unwrap_or(0);
        self.stats
    }
}

/// Fills in what the store knows. Attempts that were taken back before they started, or superseded, do not count.
pub(super) fn stats(source: &dyn Source, mut known: Stats) -> Result<Stats, StoreError> {
    if known.window_ms == 0 {
        known.window_ms = WINDOW;
    }
    let since = source.now_ms().saturating_sub(known.window_ms);
    let mut all = Sum::default();
    let mut users: BTreeMap<String, Sum> = BTreeMap::new();
    let mut hosts: BTreeMap<String, Sum> = BTreeMap::new();
    let mut causes: BTreeMap<i32, BTreeMap<String, u64>> = BTreeMap::new();
    source.figures(since, &mut |f| {
        let cause = Cause::try_from(f.cause).unwrap_or(Cause::Internal);
        if matches!(cause, Cause::NotStarted | Cause::Superseded) {
            return Ok(true);
        }
        let well = cause == Cause::Exited && f.code == Some(0);
        if !well {
            let by_host = causes.entry(f.cause).or_default();
            *by_host.entry(f.host.clone()).or_default() += 1;
        }
        let user = users.entry(f.owner).or_default();
        let host = hosts.entry(f.host).or_default();
        for sum in [&mut all, user, host] {
            sum.stats.done += u64::from(well);
            sum.stats.failed += u64::from(!well);
            sum.stats.wall_ms += f.wall_ms;
            sum.cpu_us += f.cpu_us;
            sum.waits += u64::from(f.waited_ms.is_some());
            sum.waited_ms += f.waited_ms.unwrap_or(0);
        }
        Ok(true)
    })?;
    let named = |sums: BTreeMap<String, Sum>| -> Vec<UserStats> {
        sums.into_iter().map(|(name, s)| s.finish(name)).collect()
    };
    known.users = named(users);
    known.users.push(all.finish(String::new()));
    known.hosts = named(hosts);
    known.causes = causes
        .into_iter()
        .map(|(cause, by)| CauseCount {
            cause,
            number: by.values().sum(),
            host: by
                .into_iter()
                .max_by_key(|(_, n)| *n)
                .map(|(h, _)| h)
                .unwrap_or_default(),
        })
        .collect();
    known.causes.sort_by_key(|c| std::cmp::Reverse(c.number));
    known.letters = source.letters()?;
    known.store_bytes = source.bytes();
    Ok(known)
}
