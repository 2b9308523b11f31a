//! What the tests share: three hosts that run Queue, and who may use them when.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Failed, Trial};
use queue_harness::{Cluster, HostCommand, queue};

/// The hosts, made when the first test needs them.
#[derive(Default)]
pub(crate) struct World {
    hosts: RwLock<Option<Cluster>>,
    /// Why they could not be made: told by every test instead of tried by every test.
    broken: Mutex<Option<String>>,
}

impl World {
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
            match make() {
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
fn make() -> Result<Cluster> {
    let cluster = bare(3)?;
    queue::start(&cluster)?;
    Ok(cluster)
}

/// Hosts with Queue's programs, nothing started.
pub(crate) fn bare(hosts: usize) -> Result<Cluster> {
    let cluster = Cluster::up(hosts)?;
    queue::install(&cluster, &built()?)?;
    Ok(cluster)
}

/// Where cargo put the programs: beside this one's directory, unless `QUEUE_BUILT` says otherwise.
fn built() -> Result<PathBuf> {
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
