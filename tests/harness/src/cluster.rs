//! Clusters: made, found again, taken down; and what can be done to their network.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::boot::Machine;
use crate::host::Host;
use crate::net;
use crate::process::Process;
use crate::registry::{
    base, base_path, claim, destroy, end_host, end_wires, lock, numbers, read_record, stale, sweep,
    write_record,
};
use crate::wire::Wire;

/// How many hosts a cluster may have: the last number of an address.
const MOST: usize = 250;

/// How a cluster is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Home directories are the same on all hosts, as with NFS; else each host has its own.
    pub shared_home: bool,
    /// The cluster outlives the process that makes it, until [`Cluster::down`].
    pub lasting: bool,
}

/// Hosts `h1`..`hN` and the network between them. Dropping a cluster that is not lasting takes it down.
pub struct Cluster {
    dir: PathBuf,
    number: u8,
    hosts: usize,
    options: Options,
    switch: Process,
    owned: bool,
    wires: Mutex<BTreeMap<(usize, usize), Wire>>,
}

/// A disturbance of the network; what is written down is restored when a host is revived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Cut(usize, usize),
    Isolated(usize),
    Late(usize, usize),
}

impl Cluster {
    /// Boots `hosts` hosts, owned by this process.
    pub fn up(hosts: usize) -> Result<Self> {
        Self::with(hosts, Options::default())
    }

    /// Boots `hosts` hosts.
    pub fn with(hosts: usize, options: Options) -> Result<Self> {
        ensure!((1..=MOST).contains(&hosts), "a cluster has 1 to {MOST} hosts");
        check_machine()?;
        let (number, dir) = {
            let base = base()?;
            let _lock = lock(&base)?;
            sweep(&base)?;
            claim(&base, hosts, options)?
        };
        let made = Self::raise(&dir, number, hosts, options);
        if made.is_err() {
            // The error that matters is the first one.
            let _ = base_path()
                .and_then(|base| lock(&base))
                .and_then(|_lock| destroy(&dir));
        }
        made
    }

    fn raise(dir: &Path, number: u8, hosts: usize, options: Options) -> Result<Self> {
        for name in ["shared", "home", "prefix"] {
            fs::create_dir(dir.join(name))?;
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755))?;
        }
        fs::set_permissions(dir.join("shared"), fs::Permissions::from_mode(0o1777))?;
        let switch = net::make_switch(!options.lasting)?;
        fs::write(dir.join("switch.pid"), switch.to_string())?;
        let wires = Mutex::default();
        let mut cluster = Self {
            dir: dir.to_owned(),
            number,
            hosts,
            options,
            switch,
            owned: false,
            wires,
        };
        for k in 1..=hosts {
            cluster.machine(k).make_disk()?;
            cluster.boot(k)?;
        }
        if options.lasting {
            write_record(dir, hosts, options, None)?;
        }
        cluster.owned = !options.lasting;
        Ok(cluster)
    }

    /// Finds a running cluster by its number, or the only lasting one.
    pub fn find(number: Option<u8>) -> Result<Self> {
        let base = base_path()?;
        let dir = match number {
            Some(n) => base.join(n.to_string()),
            None => {
                let lasting = |(_, dir): &(u8, PathBuf)| {
                    read_record(dir).is_some_and(|r| r.options.lasting && !stale(dir))
                };
                let found: Vec<_> = numbers(&base).into_iter().filter(lasting).collect();
                match &found[..] {
                    [(_, dir)] => dir.clone(),
                    [] => bail!("no hosts are up (queue-hosts up N)"),
                    many => {
                        let list: Vec<_> = many.iter().map(|(n, _)| n.to_string()).collect();
                        bail!("several clusters are up: {}; choose one with -c", list.join(", "))
                    }
                }
            }
        };
        let number = dir
            .file_name()
            .and_then(|n| n.to_str()?.parse().ok())
            .context("bad number")?;
        let r = read_record(&dir).with_context(|| format!("no cluster {number} (in {})", base.display()))?;
        let switch = Process::read(&dir.join("switch.pid")).context("the cluster is incomplete")?;
        ensure!(
            switch.alive(),
            "cluster {number} is dead; the next `up` removes it"
        );
        let wires = Mutex::default();
        Ok(Self {
            dir,
            number,
            hosts: r.hosts,
            options: r.options,
            switch,
            owned: false,
            wires,
        })
    }

    /// Ends all hosts and removes every trace of them.
    pub fn down(mut self) -> Result<()> {
        self.owned = false;
        self.take_down()
    }

    fn take_down(&self) -> Result<()> {
        self.lock_wires().clear();
        // Under the lock: half removed it looks stale to others, and they would give its number to a new one.
        let base = base_path()?;
        let _lock = lock(&base)?;
        destroy(&self.dir)?;
        // Only the last cluster's end leaves it empty.
        let _ = fs::remove_dir(&base);
        Ok(())
    }

    /// Host `k`, counted from 1.
    pub fn host(&self, k: usize) -> Host<'_> {
        assert!(
            (1..=self.hosts).contains(&k),
            "there is no host {k}, the cluster has {}",
            self.hosts
        );
        Host::new(self, k)
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = Host<'_>> {
        (1..=self.hosts).map(|k| Host::new(self, k))
    }

    /// The number that tells this cluster from others on the machine.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The cluster's directory, which hosts and machine see at the same path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory that all hosts and users share, everybody may write to; also `/srv/shared` in the hosts.
    pub fn shared(&self) -> PathBuf {
        self.dir.join("shared")
    }

    /// Where programs are installed for the hosts; its `bin` is first in `PATH` there.
    pub fn prefix(&self) -> PathBuf {
        self.dir.join("prefix")
    }

    /// Whether all hosts have the same home directories.
    pub fn shared_home(&self) -> bool {
        self.options.shared_home
    }

    /// Cuts the link between two hosts: packets vanish, in both directions, without an error.
    pub fn cut(&self, a: usize, b: usize) -> Result<()> {
        self.end_wire(a, b)?;
        self.note(|f| {
            f.remove(&Fault::Late(pair(a, b).0, pair(a, b).1));
            f.insert(Fault::Cut(pair(a, b).0, pair(a, b).1));
        })?;
        self.divert(a, b)
    }

    /// Takes one host off the network: the cable is out at the switch.
    pub fn isolate(&self, k: usize) -> Result<()> {
        self.note(|f| {
            f.insert(Fault::Isolated(k));
        })?;
        net::attach(self.switch, k, false)
    }

    /// Makes packets between two hosts arrive `delay` later (one way; a round trip takes twice that).
    pub fn delay(&self, a: usize, b: usize, delay: Duration) -> Result<()> {
        self.end_wire(a, b)?;
        self.announce_delay(a, b)?;
        let wire = Wire::start(self.switch, self.number, a, b, delay)?;
        self.lock_wires().insert(pair(a, b), wire);
        Ok(())
    }

    /// What `delay` does, in a process that does nothing else until it is killed.
    #[doc(hidden)]
    pub fn be_wire(&self, a: usize, b: usize, delay: Duration) -> Result<()> {
        self.end_wire(a, b)?;
        self.announce_delay(a, b)?;
        let wire = Wire::start(self.switch, self.number, a, b, delay)?;
        fs::write(self.wire_file(a, b), Process::own()?.to_string())?;
        wire.keep();
        Ok(())
    }

    fn wire_file(&self, a: usize, b: usize) -> PathBuf {
        self.dir.join(format!("wire-{}-{}", pair(a, b).0, pair(a, b).1))
    }

    /// Ends the wire between two hosts, whether a thread or a process keeps it.
    fn end_wire(&self, a: usize, b: usize) -> Result<()> {
        self.lock_wires().remove(&pair(a, b));
        let file = self.wire_file(a, b);
        if let Some(process) = Process::read(&file) {
            process.end()?;
            fs::remove_file(file)?;
        }
        Ok(())
    }

    fn announce_delay(&self, a: usize, b: usize) -> Result<()> {
        net::make_wire_port(self.switch)?;
        self.note(|f| {
            f.remove(&Fault::Cut(pair(a, b).0, pair(a, b).1));
            f.insert(Fault::Late(pair(a, b).0, pair(a, b).1));
        })?;
        self.divert(a, b)
    }

    /// Undoes all cuts, isolations and delays.
    pub fn heal(&self) -> Result<()> {
        let mut faults = BTreeSet::new();
        self.note(|f| faults = std::mem::take(f))?;
        for fault in faults {
            match fault {
                Fault::Isolated(k) if self.host(k).is_up() => net::attach(self.switch, k, true)?,
                Fault::Isolated(_) => {}
                Fault::Cut(a, b) | Fault::Late(a, b) => {
                    for (from, to) in [(a, b), (b, a)] {
                        if let Ok(host) = self.host(from).process() {
                            net::restore(host, self.number, to)?;
                        }
                    }
                }
            }
        }
        self.lock_wires().clear();
        end_wires(&self.dir)
    }

    fn divert(&self, a: usize, b: usize) -> Result<()> {
        ensure!(
            a != b && a.max(b) <= self.hosts && a.min(b) > 0,
            "no pair of hosts: {a} and {b}"
        );
        for (from, to) in [(a, b), (b, a)] {
            if let Ok(host) = self.host(from).process() {
                net::divert(host, self.number, from, to)?;
            }
        }
        Ok(())
    }

    /// Boots host `k` and plugs it in as the network is now.
    pub(crate) fn boot(&self, k: usize) -> Result<()> {
        let host = self.machine(k).boot()?;
        fs::write(self.dir.join(format!("h{k}/pid")), host.to_string())?;
        net::unplug(self.switch, k);
        net::plug(self.switch, host, self.number, k)?;
        let mut faults = BTreeSet::new();
        self.note(|f| faults = f.clone())?;
        for fault in faults {
            match fault {
                Fault::Isolated(i) if i == k => net::attach(self.switch, k, false)?,
                Fault::Cut(a, b) | Fault::Late(a, b) if a == k || b == k => self.divert(a, b)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Cuts the power of host `k`.
    pub(crate) fn power_off(&self, k: usize) -> Result<()> {
        let dir = self.dir.join(format!("h{k}"));
        end_host(&dir)?;
        net::unplug(self.switch, k);
        Ok(())
    }

    fn machine(&self, k: usize) -> Machine<'_> {
        Machine {
            cluster: &self.dir,
            number: self.number,
            k,
            hosts: self.hosts,
            shared_home: self.options.shared_home,
            ephemeral: !self.options.lasting,
        }
    }

    /// Changes the list of faults, which is kept in a file so that other processes know it.
    fn note(&self, change: impl FnOnce(&mut BTreeSet<Fault>)) -> Result<()> {
        let file = self.dir.join("faults");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut faults: BTreeSet<Fault> = text.lines().filter_map(parse_fault).collect();
        change(&mut faults);
        let mut text = String::new();
        for f in &faults {
            match f {
                Fault::Cut(a, b) => writeln!(text, "cut {a} {b}")?,
                Fault::Late(a, b) => writeln!(text, "late {a} {b}")?,
                Fault::Isolated(k) => writeln!(text, "isolated {k} 0")?,
            }
        }
        fs::write(file, text)?;
        Ok(())
    }

    fn lock_wires(&self) -> std::sync::MutexGuard<'_, BTreeMap<(usize, usize), Wire>> {
        self.wires
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.owned {
            // What could not be removed is removed by the next `up`.
            let _ = self.take_down();
        }
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn parse_fault(line: &str) -> Option<Fault> {
    let f: Vec<&str> = line.split(' ').collect();
    let (a, b) = (f.get(1)?.parse().ok()?, f.get(2)?.parse().ok()?);
    match f[0] {
        "cut" => Some(Fault::Cut(a, b)),
        "late" => Some(Fault::Late(a, b)),
        "isolated" => Some(Fault::Isolated(a)),
        _ => None,
    }
}

/// Says clearly what this machine lacks.
fn check_machine() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "making hosts needs root");
    for (tool, package) in [
        ("ip", "iproute2"),
        ("mount", "mount"),
        ("env", "coreutils"),
        ("sleep", "coreutils"),
    ] {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).exists()))
            || ["/sbin", "/usr/sbin"]
                .iter()
                .any(|dir| Path::new(dir).join(tool).exists());
        ensure!(
            found,
            "making hosts needs the program `{tool}` (package {package})"
        );
    }
    Ok(())
}
