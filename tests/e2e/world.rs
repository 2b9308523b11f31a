//! What the tests share: hosts that run Queue, and who may use them when; and what many of them look at.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue_harness::{Cluster, HostCommand, LIMIT, queue, wait_until};
use serde_json::Value;
use std::time::Duration;

/// The hosts, made when the first test needs them.
pub(crate) struct World {
    make: fn() -> Result<Cluster>,
    hosts: RwLock<Option<Cluster>>,
    /// Why they could not be made: told by every test instead of tried by every test.
    broken: Mutex<Option<String>>,
}

impl World {
    /// Hosts that are made like this.
    pub(crate) fn of(make: fn() -> Result<Cluster>) -> Arc<Self> {
        Arc::new(Self {
            make,
            hosts: RwLock::default(),
            broken: Mutex::default(),
        })
    }

    /// A test that disturbs nobody; others run at the same time.
    pub(crate) fn shared(self: &Arc<Self>, name: &str, test: fn(&Cluster) -> Result<()>) -> Trial {
        let world = self.clone();
        Trial::test(name, move || {
            world.share(test).map_err(|e| Failed::from(format!("{e:?}")))
        })
    }

    /// A test that disturbs others: kills daemons, cuts links. It leaves the hosts as it found them, or else
    /// they are made again for the next test.
    pub(crate) fn alone(self: &Arc<Self>, name: &str, test: fn(&Cluster) -> Result<()>) -> Trial {
        let world = self.clone();
        Trial::test(name, move || {
            world.have_alone(test).map_err(|e| Failed::from(format!("{e:?}")))
        })
    }

    fn share(&self, test: fn(&Cluster) -> Result<()>) -> Result<()> {
        loop {
            if let Some(cluster) = &*self.hosts.read().unwrap_or_else(PoisonError::into_inner) {
                return test(cluster);
            }
            self.make(&mut self.hosts.write().unwrap_or_else(PoisonError::into_inner))?;
        }
    }

    fn have_alone(&self, test: fn(&Cluster) -> Result<()>) -> Result<()> {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        self.make(&mut hosts)?;
        let cluster = hosts.as_ref().context("no hosts")?;
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(cluster)));
        let result = match caught {
            Ok(result) => result,
            Err(panic) => {
                // The hosts are in an unknown state.
                *hosts = None;
                std::panic::resume_unwind(panic)
            }
        };
        if result.is_err() {
            *hosts = None;
        }
        result
    }

    fn make(&self, hosts: &mut Option<Cluster>) -> Result<()> {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &*broken {
            return Err(anyhow!("the hosts do not run: {why}"));
        }
        if hosts.is_none() {
            match (self.make)() {
                Ok(cluster) => *hosts = Some(cluster),
                Err(e) => {
                    *broken = Some(format!("{e:#}"));
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    /// Takes the hosts down.
    pub(crate) fn down(&self) -> Result<()> {
        let cluster = self.hosts.write().unwrap_or_else(PoisonError::into_inner).take();
        cluster.map_or(Ok(()), Cluster::down)
    }
}

/// Three hosts with Queue running.
pub(crate) fn three() -> Result<Cluster> {
    let cluster = bare(3)?;
    queue::start(&cluster)?;
    Ok(cluster)
}

/// Three more, for what would get in the others' way: hosts that come and go, and are filled. On all of them carol
/// is an operator; h3 has its address from elsewhere, as with DHCP.
pub(crate) fn three_more() -> Result<Cluster> {
    let c = bare(3)?;
    let first = c.host(1);
    for h in c.hosts() {
        h.sh("install -d /etc/queue").ok()?;
        h.write(CONFIG, BASE)?;
    }
    first
        .command([
            "queued",
            "init",
            "--name",
            "more",
            "--advertise",
            &first.address(),
        ])
        .ok()?;
    queue::run_queued(first)?;
    queue::join(first, c.host(2))?;
    let token = queue::token(first, &[])?;
    c.host(3)
        .command(["queued", "join", "-"])
        .stdin(token + "\n")
        .ok()?;
    for k in [2, 3] {
        queue::run_queued(c.host(k))?;
    }
    all_up(&c, LIMIT)?;
    Ok(c)
}

const CONFIG: &str = "/etc/queue/queued.toml";
/// What all of [`three_more`] have in it.
const BASE: &str = "operators = [\"carol\"]\n";

/// Gives the daemon of host `k` other lines of configuration, and waits until all hosts know what follows.
pub(crate) fn configure(c: &Cluster, k: usize, lines: &str) -> Result<()> {
    let h = c.host(k);
    // A table (`[resources]`) ends what is before it.
    h.write(CONFIG, format!("{BASE}{lines}\n"))?;
    let read = || {
        let text = std::fs::read_to_string(queue::log(h)).unwrap_or_default();
        ensure!(
            !text.contains("not read again"),
            "h{k} does not like {lines:?}: {text}"
        );
        anyhow::Ok(text.matches("members read again").count())
    };
    let before = read()?;
    for pid in named(c, k, "queued") {
        kill(Pid::from_raw(pid), Signal::SIGHUP)?;
    }
    wait_until(LIMIT, "the configuration to be read", || {
        read().map_or(true, |n| n > before)
    })?;
    read()?;
    let name = format!("h{k}");
    wait_until(LIMIT, "the others to know it", || {
        let facts = |at: usize| host(c, at, &name).map(|h| h["facts"].clone());
        let own = facts(k).ok();
        (1..=3).all(|at| facts(at).ok() == own)
    })
}

/// What host `k` says of all hosts.
pub(crate) fn hosts(c: &Cluster, k: usize) -> Result<Vec<Value>> {
    let out = c.host(k).command(["queue", "hosts", "--json"]).ok()?;
    let all: Value = serde_json::from_slice(&out.stdout).with_context(|| format!("{out:?}"))?;
    let list = all["hosts"].as_array().cloned();
    list.with_context(|| format!("no hosts in {out:?}"))
}

/// What host `k` says of one host.
pub(crate) fn host(c: &Cluster, k: usize, name: &str) -> Result<Value> {
    let found = hosts(c, k)?.into_iter().find(|h| h["name"] == name);
    found.with_context(|| format!("h{k} knows no {name}"))
}

/// How host `k` finds one host: `up`, `down`, `left`, `drained`, ...
pub(crate) fn state(c: &Cluster, k: usize, name: &str) -> String {
    let known = host(c, k, name);
    known.map_or_else(
        |e| format!("{e:#}"),
        |h| h["state"].as_str().unwrap_or_default().to_owned(),
    )
}

/// Waits until all of these hosts find that one so.
pub(crate) fn until_state(
    c: &Cluster,
    limit: Duration,
    at: &[usize],
    name: &str,
    wanted: &str,
) -> Result<()> {
    let mut seen = Vec::new();
    wait_until(limit, &format!("{name} to be {wanted} on {at:?}"), || {
        seen = at.iter().map(|k| state(c, *k, name)).collect();
        seen.iter().all(|s| s == wanted)
    })
    .with_context(|| format!("it is {seen:?}"))
}

/// Waits until every host finds every one up.
pub(crate) fn all_up(c: &Cluster, limit: Duration) -> Result<()> {
    for name in ["h1", "h2", "h3"] {
        until_state(c, limit, &[1, 2, 3], name, "up")?;
    }
    Ok(())
}

/// Hosts with Queue's programs, nothing started.
pub(crate) fn bare(hosts: usize) -> Result<Cluster> {
    let cluster = Cluster::up(hosts)?;
    queue::install(&cluster, &built()?)?;
    Ok(cluster)
}

/// Where cargo put the programs: beside this one's directory, unless `QUEUE_BUILT` says otherwise.
pub(crate) fn built() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("QUEUE_BUILT") {
        return Ok(dir.into());
    }
    let own = std::env::current_exe()?;
    Ok(own
        .parent()
        .and_then(|deps| deps.parent())
        .context("no directory")?
        .to_owned())
}

/// `queue ARGS` as alice on h1.
pub(crate) fn queue<'a>(cluster: &'a Cluster, args: &[&str]) -> HostCommand<'a> {
    cluster
        .host(1)
        .command(["queue"].iter().chain(args))
        .user("alice")
}

/// A line for bash as alice on h1.
pub(crate) fn bash<'a>(cluster: &'a Cluster, line: &str) -> HostCommand<'a> {
    cluster.host(1).command(["bash", "-c", line]).user("alice")
}

/// Whether a process with this in its command line runs on host `k`. Choose a text that nothing else has.
pub(crate) fn runs(cluster: &Cluster, k: usize, text: &str) -> bool {
    !pids(cluster, k, text).is_empty()
}

/// The processes of host `k` with this in their command line, numbered as the machine does.
pub(crate) fn pids(cluster: &Cluster, k: usize, text: &str) -> Vec<i32> {
    let list = cluster.host(k).processes().unwrap_or_default();
    let line = |pid: &i32| {
        let raw = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&raw).replace('\0', " ")
    };
    list.into_iter().filter(|p| line(p).contains(text)).collect()
}

/// The processes of host `k` whose program has this name.
pub(crate) fn named(cluster: &Cluster, k: usize, name: &str) -> Vec<i32> {
    let list = cluster.host(k).processes().unwrap_or_default();
    let comm = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    list.into_iter().filter(|p| comm(p).trim() == name).collect()
}
