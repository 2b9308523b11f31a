//! Processes by `/proc`: start times (so that a reused process id is not taken for the old process), and the
//! tree below a process, for killing where there are no cgroups.
//!
//! Limits of the latter: a process that its parent did not wait for belongs to the nearest subreaper, so the
//! tree is whole only while the session's init process lives; who escapes while init is being killed is not
//! found. With cgroups none of this matters.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// A process: its id, and its start time in clock ticks since boot.
pub(crate) type Id = (i32, u64);

/// Of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) ppid: i32,
    pub(crate) start: u64,
    /// Ended, but not waited for yet.
    pub(crate) zombie: bool,
}

/// Looks a process up.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(text: &[u8]) -> Option<Stat> {
    // The name is in parentheses and may contain anything, parentheses too.
    let rest = &text[text.iter().rposition(|b| *b == b')')? + 1..];
    let mut f = std::str::from_utf8(rest).ok()?.split_ascii_whitespace();
    let state = f.next()?;
    let ppid = f.next()?.parse().ok()?;
    let start = f.nth(17)?.parse().ok()?;
    Some(Stat {
        ppid,
        start,
        zombie: state == "Z" || state == "X",
    })
}

/// The user that a process runs as, if it is still that process.
pub(crate) fn uid(id: Id) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", id.0)).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("Uid:"))?;
    let uid = line.split_ascii_whitespace().next()?.parse().ok()?;
    alive(id).then_some(uid)
}

/// Whether this very process still runs.
pub(crate) fn alive(id: Id) -> bool {
    stat(id.0).is_some_and(|s| s.start == id.1 && !s.zombie)
}

/// Opens a process by id; checks the start time, if known, after opening.
pub(crate) fn open(pid: i32, start: Option<u64>) -> Option<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return None;
    }
    // SAFETY: just made for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    match start {
        Some(t) if stat(pid).is_none_or(|s| s.start != t) => None,
        _ => Some(fd),
    }
}

/// Kills a process: the one with this start time, if that is known.
pub(crate) fn kill(pid: i32, start: Option<u64>) {
    if let Some(fd) = open(pid, start) {
        kill_fd(&fd);
    }
}

/// Kills the process behind a pidfd.
pub(crate) fn kill_fd(fd: &OwnedFd) {
    // SAFETY: no pointers but null.
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<u8>(),
            0,
        );
    }
}

/// The children of a process, by the kernel's list (empty where it has none).
pub(crate) fn children(pid: i32) -> Vec<Id> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for pid in text.split_ascii_whitespace().filter_map(|w| w.parse().ok()) {
            found.extend(stat(pid).map(|s| (pid, s.start)));
        }
    }
    found
}

/// All processes below the given ones, by one walk through `/proc`; they themselves are not among them.
pub(crate) fn descendants(roots: &[i32]) -> Vec<Id> {
    let mut by_parent: HashMap<i32, Vec<Id>> = HashMap::new();
    for e in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(pid) = e.file_name().to_str().and_then(|n| n.parse().ok())
            && let Some(s) = stat(pid)
            && !s.zombie
        {
            by_parent.entry(s.ppid).or_default().push((pid, s.start));
        }
    }
    let (mut found, mut todo) = (Vec::new(), roots.to_vec());
    while let Some(pid) = todo.pop() {
        for id in by_parent.remove(&pid).unwrap_or_default() {
            todo.push(id.0);
            found.push(id);
        }
    }
    found
}

/// Of `pids`, those that carry the session itself: the session process and the children that it forked from
/// itself (its init, and the keeper of its PAM session). What the user runs are children of init, whatever
/// program it is.
pub(crate) fn bearers(session: i32, pids: &[i32]) -> Vec<i32> {
    let ours = |pid: &i32| {
        stat(*pid).is_some_and(|s| s.ppid == session) && program(*pid).is_some_and(|p| p == "queue-session")
    };
    [session]
        .into_iter()
        .chain(pids.iter().copied().filter(ours))
        .collect()
}

/// The file name of the program that a process runs, also after it was replaced on disk.
fn program(pid: i32) -> Option<String> {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = exe.file_name()?.to_str()?;
    Some(name.strip_suffix(" (deleted)").unwrap_or(name).to_owned())
}

/// Names this boot of the machine: process ids mean nothing after another.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn reads_a_stat_whatever_the_name() {
        let line = b"12 (a) b (c) S 34 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        assert_eq!(
            parse(line),
            Some(Stat {
                ppid: 34,
                start: 98765,
                zombie: false
            })
        );
        for cut in 0..line.len() - 9 {
            assert_eq!(parse(&line[..cut]).map(|s| s.start), None, "{cut}");
        }
    }

    #[test]
    fn finds_and_kills_what_is_below_us() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 1000 & wait"])
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        let id = (pid, stat(pid).unwrap().start);
        assert!(alive(id));
        let us = std::process::id() as i32;
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while descendants(&[pid]).is_empty() && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        let below = descendants(&[us]);
        assert!(below.contains(&id));
        let sleep = descendants(&[pid])[0];
        kill(sleep.0, Some(sleep.1 + 1));
        assert!(alive(sleep), "another start time is another process");
        kill(sleep.0, Some(sleep.1));
        kill(id.0, Some(id.1));
        child.wait().unwrap();
        assert!(!alive(id));
        assert!(open(pid, None).is_none());
        assert!(!boot_id().is_empty());
    }
}
