//! What running sessions use: one walk through `/proc` for all of them, and a second one a moment later for what
//! they use now. Knows processes; not whose they are, and no command lines.
//!
//! The tree below a session process is whole while the session lives, because its init process is where orphans
//! go. Where `/proc` hides processes of others (`hidepid`), nothing is found, and all is 0.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Between the two walks.
const BETWEEN: Duration = Duration::from_millis(100);
/// What was measured is good for so long: whoever asks often costs no more.
const FRESH: Duration = Duration::from_secs(1);

/// What one session uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// CPU time of its processes, and of those that they waited for, in milliseconds.
    pub cpu_ms: u64,
    /// Cores in use at the moment.
    pub cpu_now: f64,
    /// Resident memory in bytes.
    pub mem: u64,
    /// Its processes, without those that carry it.
    pub processes: u32,
}

/// Measures, not more often than need be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Mutex<Option<Measured>>>);

#[derive(Debug)]
struct Measured {
    at: Instant,
    by_pid: BTreeMap<u32, Usage>,
}

impl Meter {
    /// What the sessions with these session processes use.
    pub(crate) async fn measure(&self, pids: Vec<u32>) -> BTreeMap<u32, Usage> {
        if pids.is_empty() {
            return BTreeMap::new();
        }
        // Held while measuring: who comes meanwhile gets what comes out.
        let mut last = self.0.lock().await;
        let good = |m: &Measured| m.at.elapsed() < FRESH && pids.iter().all(|p| m.by_pid.contains_key(p));
        if let Some(m) = last.as_ref().filter(|m| good(m)) {
            return m.by_pid.clone();
        }
        let by_pid = tokio::task::spawn_blocking(move || sample(&pids))
            .await
            .unwrap_or_default();
        *last = Some(Measured {
            at: Instant::now(),
            by_pid: by_pid.clone(),
        });
        by_pid
    }
}

/// Of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    ppid: u32,
    /// Whether its name is that of a process that carries sessions.
    carrier: bool,
    /// CPU time of it and of what it waited for, in clock ticks.
    ticks: u64,
    /// Resident, in pages.
    pages: u64,
}

fn parse(text: &[u8]) -> Option<Process> {
    // The name is in parentheses and may contain anything, parentheses too.
    let open = text.iter().position(|b| *b == b'(')?;
    let close = text.iter().rposition(|b| *b == b')')?;
    let name = text.get(open + 1..close)?;
    let rest = std::str::from_utf8(&text[close + 1..]).ok()?;
    let f: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |i: usize| f.get(i)?.parse::<i64>().ok().map(|n| n.max(0) as u64);
    Some(Process {
        ppid: f.get(1)?.parse().ok()?,
        carrier: matches!(name, b"queue-session" | b"queue-init"),
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        pages: number(21)?,
    })
}

type Processes = BTreeMap<u32, Process>;

/// All processes that can be seen, and their children.
fn walk() -> (Processes, BTreeMap<u32, Vec<u32>>) {
    let mut all = Processes::new();
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
        if let Some(pid) = pid
            && let Some(p) = fs::read(entry.path().join("stat")).ok().and_then(|t| parse(&t))
        {
            children.entry(p.ppid).or_default().push(pid);
            all.insert(pid, p);
        }
    }
    (all, children)
}

/// What is below a session process, in ticks and pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    ticks: u64,
    pages: u64,
    processes: u32,
}

fn sum(session: u32, all: &Processes, children: &BTreeMap<u32, Vec<u32>>) -> Sum {
    let below = |pid: u32| children.get(&pid).into_iter().flatten().copied();
    let mut sum = Sum::default();
    // The session's own children carry it; what the user runs is below them, whatever its name.
    let carriers: Vec<u32> = below(session)
        .filter(|p| all.get(p).is_some_and(|p| p.carrier))
        .collect();
    let mut todo: Vec<u32> = carriers
        .iter()
        .flat_map(|c| below(*c))
        .chain(below(session).filter(|p| !carriers.contains(p)))
        .collect();
    while let Some(pid) = todo.pop() {
        if let Some(p) = all.get(&pid) {
            sum.ticks += p.ticks;
            sum.pages += p.pages;
            sum.processes += 1;
        }
        todo.extend(below(pid));
    }
    sum
}

/// Ticks in a second and bytes in a page, from what the kernel told this process at its start (getauxval(3)).
fn units(auxv: &[u8]) -> (u64, u64) {
    const AT_PAGESZ: usize = 6;
    const AT_CLKTCK: usize = 17;
    let (words, _) = auxv.as_chunks::<{ size_of::<usize>() }>();
    let (mut hz, mut page) = (100, 4096);
    for pair in words.chunks_exact(2) {
        let value = usize::from_ne_bytes(pair[1]).max(1) as u64;
        match usize::from_ne_bytes(pair[0]) {
            AT_PAGESZ => page = value,
            AT_CLKTCK => hz = value,
            _ => {}
        }
    }
    (hz, page)
}

fn sample(pids: &[u32]) -> BTreeMap<u32, Usage> {
    let (hz, page) = units(&fs::read("/proc/self/auxv").unwrap_or_default());
    let (all, children) = walk();
    let begin = Instant::now();
    let before: Vec<Sum> = pids.iter().map(|p| sum(*p, &all, &children)).collect();
    std::thread::sleep(BETWEEN);
    let (all, children) = walk();
    let seconds = begin.elapsed().as_secs_f64();
    pids.iter()
        .zip(before)
        .map(|(pid, before)| {
            let now = sum(*pid, &all, &children);
            let usage = Usage {
                cpu_ms: now.ticks * 1000 / hz,
                // Less than before: a process ended, and nobody waited for it.
                cpu_now: now.ticks.saturating_sub(before.ticks) as f64 / hz as f64 / seconds,
                mem: now.pages * page,
                processes: now.processes,
            };
            (*pid, usage)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn reads_a_stat_whatever_the_name() {
        let line = b"12 (a) b (c) S 34 1 1 0 -1 4194560 1 2 3 4 50 60 7 8 20 0 1 0 98765 1 20 3";
        let p = Process {
            ppid: 34,
            carrier: false,
            ticks: 125,
            pages: 20,
        };
        assert_eq!(parse(line), Some(p));
        assert!(
            parse(b"12 (queue-init) S 34 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 9 1 20")
                .unwrap()
                .carrier
        );
        for cut in 0..line.len() - 4 {
            assert_eq!(parse(&line[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn adds_up_what_the_user_runs() {
        let p = |ppid, carrier, ticks| Process {
            ppid,
            carrier,
            ticks,
            pages: 1,
        };
        let all = Processes::from([
            (10, p(1, true, 1000)),
            (11, p(10, true, 1000)),
            (12, p(10, true, 1000)),
            (20, p(12, false, 1)),
            (21, p(20, false, 2)),
            // Somebody runs a queue-session of his own.
            (22, p(21, true, 4)),
            (30, p(1, false, 1000)),
        ]);
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (pid, p) in &all {
            children.entry(p.ppid).or_default().push(*pid);
        }
        let want = Sum {
            ticks: 7,
            pages: 3,
            processes: 3,
        };
        assert_eq!(sum(10, &all, &children), want);
        assert_eq!(sum(99, &all, &children), Sum::default());
    }

    #[test]
    fn the_kernel_says_in_which_units() {
        assert_eq!(units(b""), (100, 4096));
        let words = [6usize, 16384, 17, 250, 0, 0].map(usize::to_ne_bytes).concat();
        assert_eq!(units(&words), (250, 16384));
        assert_eq!(units(&words[..20]), (100, 16384));
        let own = units(&fs::read("/proc/self/auxv").unwrap());
        assert!(
            own.0 >= 100 && own.1 >= 4096 && own.1.is_power_of_two(),
            "{own:?}"
        );
    }

    #[tokio::test]
    async fn sees_our_own_children_work() {
        let mut busy = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let own = std::process::id();
        let meter = Meter::default();
        let until = Instant::now() + Duration::from_secs(10);
        let mut seen = Usage::default();
        while seen.cpu_now < 0.05 && Instant::now() < until {
            seen = sample(&[own])[&own];
        }
        assert!(
            seen.cpu_now > 0.0 && seen.processes >= 1 && seen.mem > 0,
            "{seen:?}"
        );
        assert_eq!(meter.measure(vec![]).await, BTreeMap::new());
        let first = meter.measure(vec![own]).await;
        let at = meter.0.lock().await.as_ref().unwrap().at;
        let again = meter.measure(vec![own]).await;
        // Measured again only if that took long.
        assert!(first == again || at.elapsed() >= FRESH);
        let other = meter.measure(vec![own, busy.id()]).await;
        assert!(other.contains_key(&busy.id()), "one that is new is measured");
        busy.kill().unwrap();
        busy.wait().unwrap();
    }
}
