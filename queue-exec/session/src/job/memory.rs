//! How much memory a job's tree has resident, and whether the kernel killed somebody for want of it. Knows `/proc`
//! and cgroup files; not what is done about it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The first sample of a job with a limit, the distance of the others, and that without a limit.
const FIRST: Duration = Duration::from_millis(100);
const OFTEN: Duration = Duration::from_millis(500);
const SELDOM: Duration = Duration::from_secs(5);
/// Processes looked at, at most.
const MANY: usize = 100_000;

/// The samples of one run.
#[derive(Debug)]
pub(crate) struct Samples {
    /// In bytes; 0: none.
    pub(crate) limit: u64,
    /// Largest so far, in bytes.
    pub(crate) peak: u64,
    /// When the next one is due.
    pub(crate) next: Instant,
}

impl Samples {
    /// Counts from now.
    pub(crate) fn start(now: Instant, limit: u64) -> Self {
        Self {
            limit,
            peak: 0,
            next: now + if limit > 0 { FIRST } else { SELDOM },
        }
    }

    /// Takes one if it is due; gives it if it is above the limit.
    pub(crate) fn take(&mut self, now: Instant, tree: &Tree) -> Option<u64> {
        if now < self.next {
            return None;
        }
        self.next = now + if self.limit > 0 { OFTEN } else { SELDOM };
        let pids = tree.pids();
        let mut sum = pids.iter().map(|p| resident(*p)).sum();
        if self.limit > 0 && sum > self.limit && pids.len() > 1 {
            // They may share much of it: look again, more slowly, at the share of each.
            sum = pids
                .iter()
                .map(|p| share(*p).unwrap_or_else(|| resident(*p)))
                .sum();
        }
        self.peak = self.peak.max(sum);
        (self.limit > 0 && sum > self.limit).then_some(sum)
    }
}

/// How the processes of a tree are found.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Its top, which is not counted.
    pub(crate) top: i32,
    /// Or all of a cgroup but us and the top.
    pub(crate) procs: Option<PathBuf>,
}

impl Tree {
    fn pids(&self) -> Vec<i32> {
        match self.procs.as_ref().and_then(|p| fs::read_to_string(p).ok()) {
            Some(text) => {
                let own = std::process::id() as i32;
                let other = |p: &i32| *p != own && *p != self.top && *p > 0;
                text.lines()
                    .filter_map(|l| l.parse().ok())
                    .filter(other)
                    .take(MANY)
                    .collect()
            }
            None => self.below(),
        }
    }

    /// By the kernel's lists of children: orphans come back to the top, so all are there.
    fn below(&self) -> Vec<i32> {
        let mut found = Vec::new();
        let mut todo = vec![self.top];
        while let Some(pid) = todo.pop() {
            for task in fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten()
                .flatten()
            {
                let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                for child in text.split_ascii_whitespace().filter_map(|w| w.parse().ok()) {
                    found.push(child);
                    todo.push(child);
                }
            }
            if found.len() > MANY {
                break;
            }
        }
        found
    }
}

fn resident(pid: i32) -> u64 {
    // SAFETY: no pointers.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as u64;
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split(' ')
        .nth(1)
        .and_then(|n| n.parse::<u64>().ok())
        .unwrap_or(0)
        * page
}

/// Its part of the pages that it has with others.
fn share(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Our own cgroups: where the processes of a version 2 one are listed, and what counts the kernel's kills.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    /// `cgroup.procs`, if there is a version 2 one.
    pub(crate) procs: Option<PathBuf>,
    /// A file with a line `oom_kill N`.
    kills: Option<File>,
    seen: u64,
    looked: Option<Instant>,
}

impl Cgroups {
    /// Looks where we are.
    pub(crate) fn find() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let v2 = directory(&own, &mounts, None);
        let v1 = directory(&own, &mounts, Some("memory"));
        let candidates = [
            v2.as_ref().map(|d| d.join("memory.events")),
            v1.map(|d| d.join("memory.oom_control")),
            // Of the whole machine: better than nothing.
            Some(PathBuf::from("/proc/vmstat")),
        ];
        let kills = candidates.into_iter().flatten().find_map(|p| {
            let file = File::open(p).ok()?;
            count(&file).map(|n| (file, n))
        });
        let seen = kills.as_ref().map_or(0, |k| k.1);
        Self {
            procs: v2.map(|d| d.join("cgroup.procs")).filter(|p| p.exists()),
            kills: kills.map(|k| k.0),
            seen,
            looked: None,
        }
    }

    /// A run starts, or goes on: what was counted before is not its.
    pub(crate) fn look(&mut self, now: Instant) {
        let fresh = |t: Instant| now.saturating_duration_since(t) < Duration::from_secs(1);
        if !self.looked.is_some_and(fresh) {
            self.looked = Some(now);
            self.has_killed();
        }
    }

    /// Whether the kernel killed somebody here since the last look.
    pub(crate) fn has_killed(&mut self) -> bool {
        let now = self.kills.as_ref().and_then(count).unwrap_or(self.seen);
        std::mem::replace(&mut self.seen, now) < now
    }
}

fn count(file: &File) -> Option<u64> {
    // `/proc/vmstat` has some kilobytes.
    let mut buf = vec![0; 16 * 1024];
    let n = file.read_at(&mut buf, 0).ok()?;
    let text = std::str::from_utf8(&buf[..n]).ok()?;
    text.lines()
        .find_map(|l| l.strip_prefix("oom_kill "))?
        .trim()
        .parse()
        .ok()
}

/// Where our cgroup is mounted: of version 2, or of a controller of version 1.
fn directory(own: &str, mounts: &str, controller: Option<&str>) -> Option<PathBuf> {
    let path = own.lines().find_map(|l| {
        let mut f = l.splitn(3, ':').skip(1);
        let (controllers, path) = (f.next()?, f.next()?);
        let ours = match controller {
            None => controllers.is_empty(),
            Some(c) => controllers.split(',').any(|x| x == c),
        };
        ours.then_some(path)
    })?;
    mounts.lines().find_map(|l| {
        let (front, back) = l.split_once(" - ")?;
        let mut back = back.split(' ');
        let kind = back.next()?;
        let ours = match controller {
            None => kind == "cgroup2",
            Some(c) => kind == "cgroup" && back.nth(1)?.split(',').any(|x| x == c),
        };
        if !ours {
            return None;
        }
        let mut f = front.split(' ').skip(3);
        let (root, point) = (f.next()?, f.next()?);
        let below = path.strip_prefix(root.trim_end_matches('/'))?;
        Some(PathBuf::from(format!("{point}{below}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_are_found() {
        let own = "4:memory:/a/b\n3:cpu,cpuacct:/\n0::/s/x\n";
        let mounts = "1 0 0:1 / /m rw - cgroup cgroup rw,memory\n2 0 0:2 /s /u rw - cgroup2 cgroup2 rw\n";
        assert_eq!(directory(own, mounts, None), Some("/u/x".into()));
        assert_eq!(directory(own, mounts, Some("memory")), Some("/m/a/b".into()));
        assert_eq!(directory(own, mounts, Some("cpu")), None);
        assert_eq!(directory("", mounts, None), None);
    }

    #[test]
    fn a_tree_is_weighed() {
        // Not for ever, should the test fail.
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 30 & wait"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let tree = Tree {
            top: child.id() as i32,
            procs: None,
        };
        let until = Instant::now() + Duration::from_secs(10);
        while tree.pids().is_empty() && Instant::now() < until {
            std::thread::yield_now();
        }
        let pids = tree.pids();
        assert_eq!(pids.len(), 1);
        // Before its `exec` it is another shell, and in the middle of that it has nearly nothing.
        let comm = format!("/proc/{}/comm", pids[0]);
        let is_sleep = || std::fs::read(&comm).is_ok_and(|c| c == b"sleep\n");
        while !(is_sleep() && share(pids[0]).is_some_and(|n| n > 10_000)) && Instant::now() < until {
            std::thread::yield_now();
        }
        let now = Instant::now();
        let mut s = Samples::start(now, 1);
        assert_eq!(s.take(now, &tree), None, "not yet");
        let over = s.take(now + FIRST, &tree);
        assert!(over.is_some_and(|n| n > 10_000) && s.peak > 10_000, "{over:?}");
        assert!(share(std::process::id() as i32).is_some_and(|n| n > 10_000));
        // SAFETY: no memory is involved; it is a process that this test started.
        unsafe { libc::kill(pids[0], libc::SIGKILL) };
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
