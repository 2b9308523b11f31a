//! The limits of the cgroup that the daemon is in: what a container or a slice leaves of the machine. Reads both
//! versions of cgroups; changes nothing.

use super::proc::{pressure, text};
use std::path::{Path, PathBuf};

/// A limit of some cgroup on the way from ours to the root.
#[derive(Debug, Clone, PartialEq)]
struct Limit<T> {
    most: T,
    dir: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The limits that hold for this process.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Limits {
    /// The tightest quota, in cores.
    cpu: Option<Limit<f64>>,
    /// All limits of memory, in bytes: any of them may be reached first.
    mem: Vec<Limit<u64>>,
}

impl Limits {
    /// Looks for them. `root` is `/`, but for tests.
    pub(super) fn find(root: &Path) -> Self {
        let own = text(&root.join("proc/self/cgroup"));
        let mounts = text(&root.join("proc/self/mountinfo"));
        let mut limits = Self::default();
        let found = |(version, controller)| {
            let dirs = dirs(root, &own, &mounts, version, controller);
            dirs.into_iter().map(move |dir| (version, dir))
        };
        let both = |controller| [(Version::Two, controller), (Version::One, controller)];
        for (version, dir) in both("cpu").into_iter().flat_map(found) {
            let most = match version {
                Version::Two => quota(&text(&dir.join("cpu.max"))),
                Version::One => quota(&format!(
                    "{} {}",
                    text(&dir.join("cpu.cfs_quota_us")).trim(),
                    text(&dir.join("cpu.cfs_period_us"))
                )),
            };
            if let Some(most) = most
                && limits.cpu.as_ref().is_none_or(|l| most < l.most)
            {
                limits.cpu = Some(Limit { most, dir, version });
            }
        }
        for (version, dir) in both("memory").into_iter().flat_map(found) {
            let file = match version {
                Version::Two => "memory.max",
                Version::One => "memory.limit_in_bytes",
            };
            // Version 1 says "none" with a number near the largest one.
            let most = text(&dir.join(file)).trim().parse::<u64>().ok();
            if let Some(most) = most.filter(|m| *m < 1 << 60) {
                limits.mem.push(Limit { most, dir, version });
            }
        }
        limits
    }

    /// Cores that may be used at most; `None`: as many as there are.
    pub(super) fn cores(&self) -> Option<f64> {
        self.cpu.as_ref().map(|l| l.most)
    }

    /// CPU time in seconds that was used by what shares our quota; `None` without a quota.
    pub(super) fn used(&self) -> Option<f64> {
        let l = self.cpu.as_ref()?;
        match l.version {
            Version::Two => {
                let t = text(&l.dir.join("cpu.stat"));
                let us = t.lines().find_map(|l| l.strip_prefix("usage_usec "))?;
                Some(us.trim().parse::<u64>().ok()? as f64 / 1e6)
            }
            Version::One => {
                let ns = text(&l.dir.join("cpuacct.usage"));
                Some(ns.trim().parse::<u64>().ok()? as f64 / 1e9)
            }
        }
    }

    /// Total and available memory within the limits. What only caches files counts as available.
    pub(super) fn memory(&self, (total, available): (u64, u64)) -> (u64, u64) {
        let mut within = (total, available);
        for l in &self.mem {
            let (file, key) = match l.version {
                Version::Two => ("memory.current", "inactive_file "),
                Version::One => ("memory.usage_in_bytes", "total_inactive_file "),
            };
            let number = |t: &str| t.trim().parse::<u64>().unwrap_or(0);
            let used = number(&text(&l.dir.join(file)));
            let stat = text(&l.dir.join("memory.stat"));
            let cache = stat.lines().find_map(|l| l.strip_prefix(key)).map_or(0, number);
            within.0 = within.0.min(l.most);
            within.1 = within.1.min(l.most.saturating_sub(used.saturating_sub(cache)));
        }
        within
    }

    /// Pressure of `cpu`, `memory` and `io`: of the limited cgroup where there is a limit, else the machine's.
    pub(super) fn pressures(&self, root: &Path) -> [f64; 3] {
        let two = |v: Version| v == Version::Two;
        let cpu = self.cpu.as_ref().filter(|l| two(l.version)).map(|l| &l.dir);
        let mem = self.mem.iter().filter(|l| two(l.version)).min_by_key(|l| l.most);
        let mem = mem.map(|l| &l.dir);
        [("cpu", cpu), ("memory", mem), ("io", cpu.or(mem))].map(|(name, dir)| {
            let own = dir.map(|d| text(&d.join(name).with_extension("pressure")));
            let own = own.filter(|t| !t.is_empty());
            pressure(&own.unwrap_or_else(|| text(&root.join("proc/pressure").join(name))))
        })
    }
}

/// Cores of a quota as `cpu.max` writes it; `None` without one.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (period > 0.0 && quota > 0.0).then(|| quota / period)
}

/// Our cgroup and those above it, as far as they can be seen from here.
fn dirs(root: &Path, own: &str, mounts: &str, version: Version, controller: &str) -> Vec<PathBuf> {
    let path = own.lines().find_map(|l| {
        let mut parts = l.splitn(3, ':');
        let (id, controllers) = (parts.next()?, parts.next()?);
        let fits = match version {
            Version::Two => id == "0" && controllers.is_empty(),
            Version::One => controllers.split(',').any(|c| c == controller),
        };
        parts.next().filter(|_| fits)
    });
    let Some(path) = path else { return Vec::new() };
    let found = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ');
        let (top, point) = (left.nth(3)?, left.next()?);
        let mut right = right.split(' ');
        let kind = right.next()?;
        let fits = match version {
            Version::Two => kind == "cgroup2",
            Version::One => kind == "cgroup" && right.next_back()?.split(',').any(|o| o == controller),
        };
        let point = root.join(unescape(point).trim_start_matches('/'));
        // Where another mount hides it, or it shows another part of the tree, only its top is known to be above us.
        let below = Path::new(path)
            .strip_prefix(unescape(top))
            .unwrap_or(Path::new(""));
        let dir = point.join(below);
        (fits && dir.join("cgroup.procs").exists()).then_some((point, dir))
    });
    let Some((point, dir)) = found else {
        return Vec::new();
    };
    let within = dir.ancestors().take_while(|d| d.starts_with(&point));
    within.map(Path::to_owned).collect()
}

/// Undoes how the kernel writes a space in a path (`\040`).
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A machine in a directory, made of these files.
    fn machine(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("queued-cgroup-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for (file, content) in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_quota_counts() {
        let root = machine(
            "two",
            &[
                ("proc/self/cgroup", "0::/a/b\n"),
                (
                    "proc/self/mountinfo",
                    "30 20 0:5 / /cg\\0401/hidden rw - cgroup2 cgroup2 rw\n\
                     31 20 0:5 / /cg\\0401 rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
                ),
                ("cg 1/cpu.max", "10 100\n"),
                ("cg 1/a/cpu.max", "150000 100000\n"),
                ("cg 1/a/cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
                ("cg 1/a/cpu.pressure", "some avg10=7.00 avg60=0\n"),
                ("cg 1/a/memory.max", "1000000\n"),
                ("cg 1/a/memory.current", "700000\n"),
                ("cg 1/a/memory.stat", "anon 1\ninactive_file 200000\n"),
                ("cg 1/a/b/cgroup.procs", ""),
                ("cg 1/a/b/cpu.max", "max 100000\n"),
                ("cg 1/a/b/memory.max", "max\n"),
                ("proc/pressure/cpu", "some avg10=1.00 avg60=0\n"),
                ("proc/pressure/memory", "some avg10=2.00 avg60=0\n"),
                ("proc/pressure/io", "some avg10=3.00 avg60=0\n"),
            ],
        );
        let l = Limits::find(&root);
        assert_eq!(l.cores(), Some(0.1));
        fs::write(root.join("cg 1/cpu.max"), "max 100\n").unwrap();
        let l = Limits::find(&root);
        assert_eq!((l.cores(), l.used()), (Some(1.5), Some(2.5)));
        assert_eq!(l.memory((4_000_000, 3_000_000)), (1_000_000, 500_000));
        assert_eq!(l.memory((4_000_000, 400_000)), (1_000_000, 400_000));
        assert_eq!(l.pressures(&root), [7.0, 2.0, 3.0]);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn version_one_too() {
        let mount =
            |n, name: &str| format!("{n} 20 0:{n} /docker/x /cg/{name} rw - cgroup cgroup rw,{name}\n");
        let root = machine(
            "one",
            &[
                (
                    "proc/self/cgroup",
                    "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x/y\n0::/\n",
                ),
                (
                    "proc/self/mountinfo",
                    &format!("{}{}", mount(1, "cpu,cpuacct"), mount(2, "memory")),
                ),
                ("cg/cpu,cpuacct/cpu.cfs_quota_us", "200000\n"),
                ("cg/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("cg/cpu,cpuacct/cpuacct.usage", "1500000000\n"),
                ("cg/cpu,cpuacct/y/cgroup.procs", ""),
                ("cg/cpu,cpuacct/y/cpu.cfs_quota_us", "-1\n"),
                ("cg/cpu,cpuacct/y/cpu.cfs_period_us", "100000\n"),
                ("cg/memory/cgroup.procs", ""),
                ("cg/memory/memory.limit_in_bytes", "1000000\n"),
                ("cg/memory/memory.usage_in_bytes", "300000\n"),
                (
                    "cg/memory/memory.stat",
                    "inactive_file 1\ntotal_inactive_file 100000\n",
                ),
            ],
        );
        let l = Limits::find(&root);
        assert_eq!((l.cores(), l.used()), (Some(2.0), Some(1.5)));
        assert_eq!(l.memory((4_000_000, 3_000_000)), (1_000_000, 800_000));
        fs::write(
            root.join("cg/memory/memory.limit_in_bytes"),
            "9223372036854771712\n",
        )
        .unwrap();
        assert_eq!(Limits::find(&root).memory((4, 3)), (4, 3));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_machine_without_limits() {
        let root = machine("none", &[("proc/self/cgroup", "0::/\n")]);
        let l = Limits::find(&root);
        assert_eq!(l, Limits::default());
        assert_eq!((l.cores(), l.used(), l.memory((4, 3))), (None, None, (4, 3)));
        assert_eq!(l.pressures(&root), [0.0; 3]);
        fs::remove_dir_all(&root).unwrap();
    }
}
