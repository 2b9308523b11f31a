//! Cgroups (version 2) as a way to hold a session's processes together and to end all of them at once. Knows
//! the cgroup file system; nothing of sessions. No controller is switched on: that is the administrator's.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Directories looked at in one session's cgroup: programs in it may make their own where that is delegated.
const DIRS_MAX: usize = 256;

/// The directory that holds the cgroups of our sessions.
#[derive(Debug)]
pub(crate) struct Parent {
    dir: PathBuf,
    /// Says to other monitors that there is one for this directory.
    _lock: Option<Flock<File>>,
}

/// One session's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Parent {
    /// Makes `<own cgroup>/queue.sessions/<instance>`. Its cgroups survive the monitor; those that are empty
    /// and left over from an earlier one are removed.
    pub(crate) fn create(instance: &str) -> io::Result<Self> {
        let own = own_cgroup(
            &fs::read_to_string("/proc/self/cgroup")?,
            &fs::read_to_string("/proc/self/mountinfo")?,
        )
        .ok_or_else(|| io::Error::other("no cgroup version 2 here"))?;
        Self::at(&own.join("queue.sessions"), instance)
    }

    fn at(top: &Path, instance: &str) -> io::Result<Self> {
        let dir = top.join(instance);
        fs::create_dir_all(&dir)?;
        if !dir.join("cgroup.procs").exists() {
            return Err(io::Error::other("not a cgroup file system"));
        }
        let held = lock(&dir);
        sweep(&dir);
        // What monitors left that will not come back: those of a container that was taken down, of a test.
        for e in fs::read_dir(top)?.flatten().filter(|e| e.path() != dir) {
            if e.file_type().is_ok_and(|t| t.is_dir())
                && let Some(_lock) = lock(&e.path())
            {
                sweep(&e.path());
                let _ = fs::remove_dir(e.path());
            }
        }
        Ok(Self { dir, _lock: held })
    }

    /// Leaves nothing behind where there is nothing in it.
    pub(crate) fn remove_if_empty(&self) {
        let _ = fs::remove_dir(&self.dir).and_then(|()| self.dir.parent().map_or(Ok(()), fs::remove_dir));
    }

    /// Makes one, and opens it for the fork.
    pub(crate) fn make(&self, name: &str) -> io::Result<(Cgroup, OwnedFd)> {
        let path = self.dir.join(name);
        match fs::create_dir(&path) {
            // Somebody tidied up while there was no session.
            Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir_all(&path)?,
            r => r?,
        }
        match File::open(&path) {
            Ok(f) => Ok((Cgroup { path }, f.into())),
            Err(e) => {
                let _ = fs::remove_dir(&path);
                Err(e)
            }
        }
    }
}

/// Takes a directory of sessions for a monitor, if no other one has it.
fn lock(dir: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(dir).ok()?, FlockArg::LockExclusiveNonblock).ok()
}

/// Removes the cgroups in there that are empty.
fn sweep(dir: &Path) {
    for e in fs::read_dir(dir).into_iter().flatten().flatten() {
        // Fails, as it should, where there are processes.
        let _ = fs::remove_dir(e.path());
    }
}

impl Cgroup {
    /// One that an earlier monitor made.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Kills every process in it, those included that are being forked.
    pub(crate) fn kill(&self) {
        if fs::write(self.path.join("cgroup.kill"), "1").is_err() {
            // Before Linux 5.14. The caller repeats it until the cgroup is empty.
            for pid in self.procs() {
                super::tree::kill(pid, None);
            }
        }
    }

    /// The processes in it and below it.
    pub(crate) fn procs(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for dir in self.dirs() {
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(
                text.lines()
                    .filter_map(|l| l.parse::<i32>().ok())
                    .filter(|p| *p > 0),
            );
        }
        pids
    }

    /// Whether this process is in it (or below), by its own word in `/proc`: our names are random, so the last
    /// part of the path is enough.
    pub(crate) fn holds(&self, pid: i32) -> bool {
        let Some(name) = self.path.file_name().and_then(|n| n.to_str()) else {
            return false;
        };
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines()
            .filter_map(|l| l.strip_prefix("0::"))
            .any(|p| p.split('/').any(|c| c == name))
    }

    /// Removes it if it is empty; `true` when it is gone.
    pub(crate) fn remove(&self) -> bool {
        for dir in self.dirs().iter().rev() {
            match fs::remove_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return false,
                _ => {}
            }
        }
        true
    }

    /// It and the directories below it, parents first.
    fn dirs(&self) -> Vec<PathBuf> {
        let mut dirs = vec![self.path.clone()];
        let mut i = 0;
        while i < dirs.len() && dirs.len() < DIRS_MAX {
            if let Ok(entries) = fs::read_dir(&dirs[i]) {
                dirs.extend(
                    entries
                        .flatten()
                        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                        .map(|e| e.path()),
                );
            }
            i += 1;
        }
        dirs
    }
}

/// Where our own version 2 cgroup is mounted, if it is.
fn own_cgroup(cgroup: &str, mountinfo: &str) -> Option<PathBuf> {
    let own = cgroup.lines().find_map(|l| l.strip_prefix("0::"))?;
    mountinfo.lines().find_map(|l| {
        let (front, back) = l.split_once(" - ")?;
        if back.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut f = front.split(' ').skip(3);
        let (root, point) = (f.next()?, f.next()?);
        // Spaces and such are escaped as in \040; nobody mounts cgroups there.
        let below = Path::new(own).strip_prefix(root).ok()?;
        (!point.contains('\\')).then(|| Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On any file system: what makes a cgroup of a directory is not looked at here.
    #[test]
    fn sweeps_what_no_monitor_has() {
        let top = std::env::temp_dir().join(format!("queue-cgroups-{}", std::process::id()));
        for dir in [
            "ours/s-old",
            "gone/s-old",
            "gone-2",
            "busy/s-1/full",
            "theirs/s-new",
        ] {
            fs::create_dir_all(top.join(dir)).unwrap();
        }
        fs::write(top.join("ours/cgroup.procs"), "").unwrap();
        let theirs = lock(&top.join("theirs")).unwrap();
        let p = Parent::at(&top, "ours").unwrap();
        let there = |d: &str| top.join(d).exists();
        assert!(!there("ours/s-old") && !there("gone") && !there("gone-2"));
        assert!(there("busy/s-1/full"), "not empty");
        assert!(there("theirs/s-new"), "its monitor makes it at this moment");
        assert!(lock(&top.join("ours")).is_none(), "it is ours");
        drop(theirs);
        // Somebody tidied up.
        fs::remove_dir_all(top.join("ours")).unwrap();
        p.make("s-1").unwrap();
        assert!(there("ours/s-1"));
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn finds_the_own_cgroup() {
        let m = "24 1 0:22 / /proc rw - proc proc rw\n41 31 0:38 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let of = |c: &str, m: &str| own_cgroup(c, m).map(|p| p.display().to_string());
        assert_eq!(
            of("1:cpu:/x\n0::/system.slice/q.service\n", m).as_deref(),
            Some("/sys/fs/cgroup/system.slice/q.service")
        );
        assert_eq!(of("0::/\n", m).as_deref(), Some("/sys/fs/cgroup/"));
        assert_eq!(of("1:cpu:/x\n", m), None);
        let sub = "41 31 0:38 /docker/1 /sys/fs/cgroup rw shared:1 - cgroup2 cgroup rw\n";
        assert_eq!(of("0::/docker/1/q\n", sub).as_deref(), Some("/sys/fs/cgroup/q"));
        assert_eq!(of("0::/other\n", sub), None);
        assert_eq!(of("0::/\n", ""), None);
    }
}
