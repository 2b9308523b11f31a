//! One host: its verbs, and its files seen from outside.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::accounts::Account;
use crate::cluster::Cluster;
use crate::command::HostCommand;
use crate::process::Process;
use crate::{cgroup, net};

/// A host of a cluster.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    cluster: &'a Cluster,
    k: usize,
}

impl<'a> Host<'a> {
    pub(crate) fn new(cluster: &'a Cluster, k: usize) -> Self {
        Self { cluster, k }
    }

    /// Its number, from 1.
    pub fn number(&self) -> usize {
        self.k
    }

    /// Its name: `hK`.
    pub fn name(&self) -> String {
        format!("h{}", self.k)
    }

    /// Its address.
    pub fn address(&self) -> String {
        net::address(self.cluster.number(), self.k)
    }

    /// The cluster it is in.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// Whether its power is on.
    pub fn is_up(&self) -> bool {
        self.process().is_ok()
    }

    /// PID 1 of the host, as the machine numbers it.
    pub fn pid(&self) -> Result<i32> {
        Ok(self.process()?.pid)
    }

    pub(crate) fn process(&self) -> Result<Process> {
        let process = Process::read(&self.dir().join("pid")).filter(|p| p.alive());
        process.with_context(|| format!("{} is not up", self.name()))
    }

    /// The host's directory on the machine.
    pub fn dir(&self) -> PathBuf {
        self.cluster.dir().join(self.name())
    }

    pub(crate) fn cgroup(&self) -> Option<PathBuf> {
        cgroup::of(&self.dir())
    }

    /// A path of the running host as seen from the machine. An absolute symbolic link on the way leads astray.
    pub fn path(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let inside = path.strip_prefix("/").unwrap_or(path);
        Ok(PathBuf::from(format!("/proc/{}/root", self.pid()?)).join(inside))
    }

    /// Writes a file, as root.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
        let at = self.path(&path)?;
        fs::write(at, content)
            .with_context(|| format!("writing {} on {}", path.as_ref().display(), self.name()))
    }

    /// Reads a file, as root.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let at = self.path(&path)?;
        fs::read(at).with_context(|| format!("reading {} on {}", path.as_ref().display(), self.name()))
    }

    /// Whether a path exists.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).is_ok_and(|p| p.exists())
    }

    pub(crate) fn account(&self, user: &str) -> Result<Account> {
        Account::find(&self.path("/")?, user)
    }

    /// The uid of a user on this host.
    pub fn uid(&self, user: &str) -> Result<u32> {
        Ok(self.account(user)?.uid)
    }

    /// A program to run in the host, by its arguments.
    pub fn command<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> HostCommand<'a> {
        HostCommand::new(*self, argv.into_iter().map(|a| a.as_ref().to_owned()).collect())
    }

    /// A line for `/bin/sh` to run in the host.
    pub fn sh(&self, script: &str) -> HostCommand<'a> {
        self.command(["/bin/sh", "-c", script])
    }

    /// Makes the host believe in this load average (all three of them), and in as many tasks that run, rounded.
    pub fn load(&self, value: f64) -> Result<()> {
        // Written in place: the host has this very file mounted over `/proc/loadavg`.
        Ok(fs::write(self.dir().join("loadavg"), loadavg(value))?)
    }

    /// Stops everything on the host, as if the machine hung: the network drops nothing, nobody answers.
    pub fn freeze(&self) -> Result<()> {
        match self.cgroup() {
            Some(dir) => cgroup::freeze(&dir, true),
            None => self.signal_all(Signal::SIGSTOP),
        }
    }

    /// Undoes `freeze`.
    pub fn thaw(&self) -> Result<()> {
        match self.cgroup() {
            Some(dir) => cgroup::freeze(&dir, false),
            None => self.signal_all(Signal::SIGCONT),
        }
    }

    /// Cuts the power. Processes are gone, `/etc /var /root /home /srv` stay as they are.
    pub fn kill(&self) -> Result<()> {
        self.cluster.power_off(self.k)
    }

    /// Boots again after `kill`. Nothing is started but PID 1.
    pub fn revive(&self) -> Result<()> {
        ensure!(!self.is_up(), "{} is up", self.name());
        self.cluster.boot(self.k)
    }

    /// The processes of the host, as the machine numbers them.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let space = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid"));
        let own = space(self.pid()?)?;
        let entries = fs::read_dir("/proc")?.flatten();
        let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        Ok(pids.filter(|p| space(*p).is_ok_and(|s| s == own)).collect())
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        for pid in self.processes()? {
            // One that ended meanwhile needs no signal.
            let _ = kill(Pid::from_raw(pid), signal);
        }
        Ok(())
    }
}

/// The text of `/proc/loadavg`: so many tasks run, rounded, beside the one that reads it.
pub(crate) fn loadavg(value: f64) -> String {
    format!(
        "{value:.2} {value:.2} {value:.2} {:.0}/100 100\n",
        value.round() + 1.0
    )
}
