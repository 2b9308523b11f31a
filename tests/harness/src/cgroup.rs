//! One cgroup (version 2) per host, where the machine has a writable hierarchy; without one, hosts do without.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::wait::wait_until;

/// The directory of all hosts' cgroups in the machine's hierarchy, if there is a hierarchy.
fn top() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let point = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut f = left.split(' ');
        let (root, point) = (f.nth(3)?, f.next()?);
        (right.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(point))
    })?;
    Some(point.join("queue-hosts"))
}

/// The name of a host's cgroup: unique as long as the host's directory is there.
fn path(host_dir: &Path) -> Option<PathBuf> {
    let inode = fs::metadata(host_dir).ok()?.ino();
    Some(top()?.join(format!("{inode:x}-{}", host_dir.file_name()?.to_str()?)))
}

/// The cgroup of the host with this directory, if it has one.
pub(crate) fn of(host_dir: &Path) -> Option<PathBuf> {
    path(host_dir).filter(|dir| dir.exists())
}

/// The same, made if it is not there. `None`: this machine has none to give.
pub(crate) fn make(host_dir: &Path) -> Option<PathBuf> {
    let dir = path(host_dir)?;
    // A cgroup that was once killed as a whole kills what is forked into its children (Linux 6.14 and later
    // compare the two's counters of kills): a host that boots again gets a new one.
    if dir.exists() {
        remove_tree(&dir).ok()?;
    }
    fs::create_dir_all(&dir).ok()?;
    // So that hosts can be given limits, where the machine hands the controllers on; nothing else needs them.
    let _ = fs::write(dir.parent()?.join("cgroup.subtree_control"), "+cpu +memory");
    dir.join("cgroup.kill").exists().then_some(dir)
}

/// The file through which a process enters the cgroup.
pub(crate) fn door(dir: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .open(dir.join("cgroup.procs"))
        .with_context(|| format!("entering {}", dir.display()))
}

/// Freezes or thaws everything in the cgroup and below, and waits until it is so.
pub(crate) fn freeze(dir: &Path, frozen: bool) -> Result<()> {
    fs::write(dir.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
    let wanted = format!("frozen {}", u8::from(frozen));
    wait_until(Duration::from_secs(10), "the cgroup to freeze or thaw", || {
        fs::read_to_string(dir.join("cgroup.events")).is_ok_and(|t| t.lines().any(|l| l == wanted))
    })
}

/// Thaws the cgroup without waiting for it.
pub(crate) fn thaw(dir: &Path) -> Result<()> {
    Ok(fs::write(dir.join("cgroup.freeze"), "0")?)
}

/// Ends all processes of a host's cgroup and below, and waits until it is empty.
pub(crate) fn empty(dir: &Path) -> Result<()> {
    fs::write(dir.join("cgroup.kill"), "1")?;
    wait_until(
        Duration::from_secs(20),
        &format!("the cgroup {} to empty", dir.display()),
        || fs::read_to_string(dir.join("cgroup.events")).is_ok_and(|t| t.contains("populated 0")),
    )
}

/// Removes the cgroup of the host with this directory; its processes are gone.
pub(crate) fn remove(host_dir: &Path) -> Result<()> {
    let Some(dir) = of(host_dir) else { return Ok(()) };
    remove_tree(&dir)?;
    // Fails while other hosts have theirs in it, which is right.
    let _ = dir.parent().map(fs::remove_dir);
    Ok(())
}

fn remove_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    wait_until(
        Duration::from_secs(20),
        &format!("the cgroup {} to empty", dir.display()),
        || fs::remove_dir(dir).is_ok() || !dir.exists(),
    )
}
