//! Looks at this host: what it is (cores, memory, disk, GPUs, names) and what is going on in it (load, pressure,
//! what is free), always the smaller of what the machine has and what the own cgroup allows. Reads `/proc`, `/sys` and
//! `queued.toml`'s word; knows nothing of other hosts, of sessions and of what the figures are for.
//!
//! It has a thread of its own: a dead file system under `disk-path`, or a driver that hangs, costs fresh figures and
//! not the daemon.

mod cgroup;
mod gpu;
mod proc;

use cgroup::Limits;
use libqueue::config::Config;
use libqueue::wire::{Facts, Gpu, Load};
use prost::Message as _;
use std::hash::Hasher as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Facts are looked at again so often: limits and memory may change while the daemon runs.
const FACTS: Duration = Duration::from_secs(60);
/// How long `running` remembers.
const TAU: f64 = 5.0;
/// Measures closer to each other than this would show chance, not use.
const SPAN: Duration = Duration::from_millis(200);
/// Facts go in one datagram; this is left for its head.
const FACTS_MAX: usize = 1300;

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// What this host is.
    Facts(Facts),
    /// What is going on.
    Load(Load),
}

enum Order {
    Measure,
    Configure(Box<Config>),
}

/// The way to the thread.
#[derive(Debug, Clone)]
pub(crate) struct Prober(SyncSender<Order>);

impl Prober {
    /// Starts the thread. It says facts and load at once and after each change of configuration, and load when it is
    /// asked, to `tell`, which says whether anybody still listens.
    ///
    /// # Errors
    /// If there can be no thread.
    pub(crate) fn start(
        config: &Config,
        tell: impl Fn(Found) -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        let (tx, rx) = sync_channel(8);
        let config = config.clone();
        std::thread::Builder::new().name("probe".into()).spawn(move || {
            let _ = serve(config, &rx, tell);
        })?;
        Ok(Self(tx))
    }

    /// Asks for a fresh load.
    pub(crate) fn measure(&self) {
        // Full: it hangs, and has enough to do when it hangs no longer.
        let _ = self.0.try_send(Order::Measure);
    }

    /// Goes by this configuration from now on.
    pub(crate) fn configure(&self, config: &Config) {
        let _ = self.0.try_send(Order::Configure(Box::new(config.clone())));
    }
}

fn serve(
    mut config: Config,
    orders: &Receiver<Order>,
    tell: impl Fn(Found) -> bool,
) -> Result<(), RecvError> {
    loop {
        let mut probe = Probe::new(&config);
        let mut known = facts(&config);
        let mut looked = Instant::now();
        let load = probe.measure();
        if !tell(Found::Facts(known.clone())) || !tell(Found::Load(load)) {
            return Ok(());
        }
        loop {
            if let Order::Configure(new) = orders.recv()? {
                config = *new;
                break;
            }
            if looked.elapsed() >= FACTS {
                looked = Instant::now();
                probe.limits = Limits::find(Path::new("/"));
                let now = facts(&config);
                if now.version != known.version {
                    known = now;
                    if !tell(Found::Facts(known.clone())) {
                        return Ok(());
                    }
                }
            }
            if !tell(Found::Load(probe.measure())) {
                return Ok(());
            }
        }
    }
}

/// What this host is.
pub(crate) fn facts(config: &Config) -> Facts {
    let root = Path::new("/");
    let limits = Limits::find(root);
    let memory = proc::meminfo(&proc::text(&root.join("proc/meminfo")));
    let word = |file: &str| {
        proc::text(&root.join("proc/sys/kernel").join(file))
            .trim()
            .to_owned()
    };
    // The kernel tells its architecture since Linux 6.1.
    let arch = Some(word("arch")).filter(|a| !a.is_empty());
    let gpus = match config.gpus {
        Some(n) => {
            let mut gpus = gpu::find(root);
            gpus.resize(n as usize, Gpu::default());
            gpus
        }
        None => gpu::find(root),
    };
    let facts = Facts {
        version: 0,
        cores: cores(config, &limits),
        mem: limits.memory(memory).0,
        disk: disk(&config.disk_path).0,
        gpus,
        arch: arch.unwrap_or_else(|| std::env::consts::ARCH.into()),
        kernel: word("osrelease"),
        os: os(root),
        resources: config
            .resources
            .iter()
            .map(|(k, v)| (k.clone(), v.to_string()))
            .collect(),
        power: config.power,
        max_sessions: config.max_sessions,
        version_text: env!("CARGO_PKG_VERSION").into(),
        unwilling: !config.willing,
    };
    named(facts)
}

/// Gives facts their version, and makes them fit into a datagram: the models of the last GPUs go first.
fn named(mut facts: Facts) -> Facts {
    for i in (0..facts.gpus.len()).rev() {
        if facts.encoded_len() <= FACTS_MAX {
            break;
        }
        facts.gpus[i].name.clear();
    }
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(&facts.encode_to_vec());
    facts.version = hasher.finish().max(1);
    facts
}

/// Distribution and its version: `debian-13`.
fn os(root: &Path) -> String {
    let said = proc::text(&root.join("etc/os-release"));
    let text = match said.is_empty() {
        true => proc::text(&root.join("usr/lib/os-release")),
        false => said,
    };
    let value = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        let word = line.unwrap_or_default().trim().trim_matches(['"', '\'']);
        let fit = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
        word.chars().filter(fit).take(40).collect::<String>()
    };
    match (value("ID"), value("VERSION_ID")) {
        (id, _) if id.is_empty() => "linux".into(),
        (id, version) if version.is_empty() => id,
        (id, version) => format!("{id}-{version}"),
    }
}

/// Size and free space for ordinary users of a file system, in bytes; 0 if it cannot be asked.
fn disk(path: &Path) -> (u64, u64) {
    nix::sys::statvfs::statvfs(path).map_or((0, 0), |s| {
        let (all, free, usable) = (s.blocks(), s.blocks_free(), s.blocks_available());
        let bytes = |blocks: u64| blocks.saturating_mul(s.fragment_size());
        // What is kept back for root is nobody's.
        (bytes(all.saturating_sub(free) + usable), bytes(usable))
    })
}

/// Cores that this process may use.
fn mask() -> Option<nix::sched::CpuSet> {
    nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).ok()
}

/// Cores to give: what was configured, else the affinity mask, tightened by the quota of the cgroup. At least 1.
fn cores(config: &Config, limits: &Limits) -> u32 {
    let free = mask().map_or(1, |set| {
        (0..nix::sched::CpuSet::count())
            .filter(|i| set.is_set(*i).unwrap_or(false))
            .count()
    });
    let free = u32::try_from(free.max(1)).unwrap_or(1);
    let found = limits
        .cores()
        .map_or(free, |q| free.min(q.ceil().max(1.0) as u32));
    config.cores.unwrap_or(found)
}

/// CPU use at a moment.
#[derive(Debug, Clone, Copy)]
struct Used {
    at: Instant,
    ticks: proc::Ticks,
    /// CPU seconds of the limited cgroup.
    limited: Option<f64>,
}

/// Measures, and remembers what the next measure is compared with.
#[derive(Debug)]
pub(crate) struct Probe {
    config: Config,
    limits: Limits,
    used: Option<Used>,
    busy: f64,
    running: Option<(Instant, f64)>,
}

impl Probe {
    /// One that has not measured yet.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            limits: Limits::find(Path::new("/")),
            used: None,
            busy: 0.0,
            running: None,
        }
    }

    /// Measures now. What cannot be read is 0; cores are at least 1.
    pub(crate) fn measure(&mut self) -> Load {
        let root = Path::new("/");
        let now = Instant::now();
        let file = |name: &str| proc::text(&root.join("proc").join(name));
        let (averages, tasks) = proc::loadavg(&file("loadavg")).unwrap_or_default();
        let [psi_cpu, psi_mem, psi_io] = self.limits.pressures(root);
        let (mem_total, mem_available) = self.limits.memory(proc::meminfo(&file("meminfo")));
        let cores = cores(&self.config, &self.limits);
        self.use_of_cores(now, &file("stat"));
        // We run as well while we read it.
        let mut running = (tasks - 1.0).max(0.0);
        if self.limits.cores().is_some() {
            // The machine's tasks are not ours alone. Who may run does run, or waits for the quota.
            let waiting = (psi_cpu / 100.0).min(0.9);
            running = running.min(self.busy / (1.0 - waiting));
        }
        Load {
            load1: averages[0],
            load5: averages[1],
            load15: averages[2],
            cores,
            mem_total,
            mem_available,
            running: self.fade(now, running),
            busy: self.busy.min(cores.into()),
            psi_cpu,
            psi_mem,
            psi_io,
            disk_free: disk(&self.config.disk_path).1,
            ..Load::default()
        }
    }

    /// Cores in use since the last measure.
    fn use_of_cores(&mut self, now: Instant, stat: &str) {
        let set = mask();
        let mine = |i| set.is_none_or(|s| s.is_set(i).unwrap_or(false));
        let used = Used {
            at: now,
            ticks: proc::stat(stat, mine),
            limited: self.limits.used(),
        };
        if let Some(then) = self.used {
            let span = now.duration_since(then.at);
            if span < SPAN {
                return;
            }
            let limited = || Some((used.limited? - then.limited?).max(0.0) / span.as_secs_f64());
            let machine = || used.ticks.since(&then.ticks);
            self.busy = limited().or_else(machine).unwrap_or(self.busy);
        }
        self.used = Some(used);
    }

    /// Lets a figure follow slowly, so that it is not chance what was seen at a moment.
    fn fade(&mut self, now: Instant, value: f64) -> f64 {
        let faded = self.running.map_or(value, |(then, old)| {
            let weight = 1.0 - (-now.duration_since(then).as_secs_f64() / TAU).exp();
            old + (value - old) * weight
        });
        self.running = Some((now, faded));
        faded
    }
}

#[cfg(test)]
mod tests;
