//! Processes named so that a number used again by the kernel is not taken for the old process.

use std::fmt;
use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_until;

/// A process: its number, and its start time in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    start: u64,
}

impl Process {
    /// The process that has this number now.
    pub(crate) fn of(pid: i32) -> Result<Self> {
        let start = stat(pid).with_context(|| format!("no process {pid}"))?.1;
        Ok(Self { pid, start })
    }

    /// This very process.
    pub(crate) fn own() -> Result<Self> {
        Self::of(std::process::id() as i32)
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn alive(self) -> bool {
        stat(self.pid).is_some_and(|(state, start)| start == self.start && state != b'Z' && state != b'X')
    }

    /// Kills it.
    pub(crate) fn kill(self) -> Result<()> {
        if !self.alive() {
            return Ok(());
        }
        // The gap between look and kill is closed by nothing, but a number comes round only after many others.
        match kill(Pid::from_raw(self.pid), Signal::SIGKILL) {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(e) => bail!("cannot kill process {}: {e}", self.pid),
        }
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn end(self) -> Result<()> {
        self.kill()?;
        wait_until(
            Duration::from_secs(30),
            &format!("the end of process {}", self.pid),
            || !self.alive(),
        )
    }

    /// A descriptor of the process.
    pub(crate) fn open(self) -> Result<OwnedFd> {
        let fd = pidfd(self.pid)?;
        if !self.alive() {
            bail!("process {} is gone", self.pid);
        }
        Ok(fd)
    }

    /// Reads one back from a file that [`fmt::Display`] wrote.
    pub(crate) fn read(file: &Path) -> Option<Self> {
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.start)
    }
}

impl FromStr for Process {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> Result<Self> {
        let (pid, start) = s.split_once(' ').context("not a process")?;
        Ok(Self {
            pid: pid.parse()?,
            start: start.parse()?,
        })
    }
}

/// Opens a descriptor of a process by its number.
pub(crate) fn pidfd(pid: i32) -> Result<OwnedFd> {
    // SAFETY: a system call without pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        bail!("pidfd_open({pid}): {}", std::io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The only child of a process.
pub(crate) fn child_of(pid: i32) -> Option<i32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    list.split_whitespace().next()?.parse().ok()
}

/// State letter and start time, of `/proc/PID/stat`.
fn stat(pid: i32) -> Option<(u8, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, parentheses too.
    let rest: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split(' ').collect();
    Some((*rest.first()?.as_bytes().first()?, rest.get(19)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_processes_apart() -> Result<()> {
        let own = Process::own()?;
        assert!(own.alive());
        assert_eq!(own.to_string().parse::<Process>()?, own);
        assert!(
            !Process {
                start: own.start + 1,
                ..own
            }
            .alive()
        );
        let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
        let other = Process::of(child.id() as i32)?;
        other.end()?;
        assert!(!other.alive(), "a zombie counts as gone");
        child.wait()?;
        Ok(())
    }
}
