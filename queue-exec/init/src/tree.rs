//! The processes below this one, found by their parents in `/proc`. Orphans of the tree come back to us
//! (subreaper), so nothing that was started here can leave it, whatever session or group it is in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Parent of every process.
fn parents() -> BTreeMap<i32, i32> {
    let Ok(dir) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    dir.flatten()
        .filter_map(|e| {
            let pid: i32 = e.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(e.path().join("stat")).ok()?;
            // The name may contain anything; what follows it does not.
            let mut rest = stat.rsplit_once(')')?.1.split_ascii_whitespace();
            let state = rest.next()?;
            let ppid = rest.next()?.parse().ok()?;
            (state != "Z").then_some((pid, ppid))
        })
        .collect()
}

fn descendants() -> Vec<i32> {
    let own = std::process::id() as i32;
    let parents = parents();
    let below = |pid: &i32| {
        let mut p = *pid;
        // Bounded: a chain cannot be longer than there are processes.
        for _ in 0..parents.len() {
            match parents.get(&p) {
                Some(parent) if *parent == own => return true,
                Some(parent) => p = *parent,
                None => return false,
            }
        }
        false
    };
    parents
        .keys()
        .filter(|p| **p != own && below(p))
        .copied()
        .collect()
}

/// Whether anything is left. Every orphan comes to us, so without children there are no descendants.
pub(crate) fn any() -> bool {
    has_children() && !descendants().is_empty()
}

fn has_children() -> bool {
    // SAFETY: looks without taking: a null status and WNOWAIT leave everything as it is.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
        libc::waitid(libc::P_ALL, 0, &raw mut info, flags) == 0
    }
}

/// Sends a signal to all, once each. Two rounds, for what was forked during the first; to kill, as many as find
/// somebody new, but not for ever.
pub(crate) fn signal(signal: i32) {
    if !has_children() {
        return;
    }
    let mut told = BTreeSet::new();
    let rounds = if signal == libc::SIGKILL { 16 } else { 2 };
    for round in 0..rounds {
        let before = told.len();
        for pid in descendants() {
            if told.insert(pid) {
                // SAFETY: no memory is involved.
                unsafe { libc::kill(pid, signal) };
            }
        }
        if round > 0 && told.len() == before {
            break;
        }
    }
}
