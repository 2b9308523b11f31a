//! Measures this host: load averages, cores that may be used, memory. Reads `/proc` and the own cgroup; knows
//! nothing of other hosts.

use libqueue::wire::Load;
use std::fs;
use std::path::Path;

/// Measures now. What cannot be read is 0; cores are at least 1.
pub(crate) fn measure() -> Load {
    let mut load = Load {
        cores: cores(),
        ..Load::default()
    };
    if let Some([a, b, c]) = fs::read_to_string("/proc/loadavg")
        .ok()
        .as_deref()
        .and_then(averages)
    {
        (load.load1, load.load5, load.load15) = (a, b, c);
    }
    if let Ok(text) = fs::read_to_string("/proc/meminfo") {
        load.mem_total = kib(&text, "MemTotal:");
        load.mem_available = kib(&text, "MemAvailable:");
    }
    load
}

fn averages(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || words.next()?.ok().filter(|v| v.is_finite() && *v >= 0.0);
    Some([next()?, next()?, next()?])
}

fn kib(meminfo: &str, key: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix(key));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        .saturating_mul(1024)
}

/// Cores that this process may use: its affinity mask, tightened by the quota of its cgroup.
fn cores() -> u32 {
    let mask = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).map_or(1, |set| {
        (0..nix::sched::CpuSet::count())
            .filter(|i| set.is_set(*i).unwrap_or(false))
            .count()
    });
    let quota = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|t| quota(&t, Path::new("/sys/fs/cgroup")));
    let mask = u32::try_from(mask.max(1)).unwrap_or(1);
    quota.map_or(mask, |q| mask.min(q.ceil().max(1.0) as u32))
}

/// The tightest `cpu.max` on the way from our cgroup to the root, in cores (cgroup v2).
fn quota(cgroup: &str, root: &Path) -> Option<f64> {
    let own = cgroup.lines().find_map(|l| l.strip_prefix("0::/"))?;
    let dir = root.join(own);
    let limits = dir
        .ancestors()
        .take_while(|d| d.starts_with(root))
        .filter_map(|d| {
            let text = fs::read_to_string(d.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
            (period > 0.0).then(|| quota / period)
        });
    limits.min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(averages("0.52 1.25 0.04 2/345 6789\n"), Some([0.52, 1.25, 0.04]));
        assert_eq!(averages("x y z"), None);
        assert_eq!(averages("1.0 2.0"), None);
        let mem = "MemTotal:        2048 kB\nMemFree: 1 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(
            (
                kib(mem, "MemTotal:"),
                kib(mem, "MemAvailable:"),
                kib(mem, "Swap:")
            ),
            (2 << 20, 1 << 20, 0)
        );
        let l = measure();
        assert!(l.cores >= 1 && l.mem_total > 0 && l.mem_available <= l.mem_total);
    }

    #[test]
    fn the_tightest_quota_counts() {
        let root = std::env::temp_dir().join(format!("queued-cgroup-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/cpu.max"), "150000 100000\n").unwrap();
        fs::write(root.join("a/b/cpu.max"), "max 100000\n").unwrap();
        assert_eq!(quota("0::/a/b\n", &root), Some(1.5));
        assert_eq!(quota("1:cpu:/x\n", &root), None);
        fs::write(root.join("a/b/cpu.max"), "50000 100000\n").unwrap();
        assert_eq!(quota("0::/a/b\n", &root), Some(0.5));
        fs::remove_dir_all(&root).unwrap();
    }
}
