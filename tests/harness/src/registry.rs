//! The clusters of a machine on its disk: who owns which, and how their remains are removed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::cgroup;
use crate::cluster::Options;
use crate::process::Process;

/// The directory of all clusters.
pub(crate) fn base_path() -> Result<PathBuf> {
    let base = std::env::var_os("QUEUE_HOSTS_DIR").map_or_else(|| "/opt/queue-hosts".into(), PathBuf::from);
    let hidden = [
        "/etc", "/var", "/root", "/home", "/srv", "/run", "/tmp", "/proc", "/dev/shm",
    ];
    ensure!(
        base.is_absolute() && !hidden.iter().any(|h| base.starts_with(h)),
        "QUEUE_HOSTS_DIR={}: must be absolute and not below {}, which hosts do not share with the machine",
        base.display(),
        hidden.join(" ")
    );
    Ok(base)
}

/// The same, made if it is not there.
pub(crate) fn base() -> Result<PathBuf> {
    let base = base_path()?;
    fs::create_dir_all(&base).with_context(|| format!("making {}", base.display()))?;
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755))?;
    Ok(base)
}

/// Locks the directory of clusters against others who make or sweep some.
pub(crate) fn lock(base: &Path) -> Result<Flock<File>> {
    loop {
        let file = File::open(base).with_context(|| format!("opening {}", base.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, e)| e)
            .with_context(|| format!("locking {}", base.display()))?;
        // Whoever held it may have removed it, and somebody else made it again.
        if fs::metadata(base).is_ok_and(|now| lock.metadata().is_ok_and(|was| was.ino() == now.ino())) {
            return Ok(lock);
        }
        fs::create_dir_all(base)?;
    }
}

/// All clusters: number and directory.
pub(crate) fn numbers(base: &Path) -> Vec<(u8, PathBuf)> {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    entries
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path())))
        .collect()
}

/// Takes the first free number.
pub(crate) fn claim(base: &Path, hosts: usize, options: Options) -> Result<(u8, PathBuf)> {
    for number in 1..=250u8 {
        let dir = base.join(number.to_string());
        match fs::create_dir(&dir) {
            Ok(()) => {
                fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
                write_record(&dir, hosts, options, Some(Process::own()?))?;
                return Ok((number, dir));
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("making {}", dir.display())),
        }
    }
    bail!("all 250 numbers for clusters are taken in {}", base.display())
}

/// What is written down about a cluster.
pub(crate) struct Record {
    pub(crate) hosts: usize,
    pub(crate) options: Options,
    owner: Option<Process>,
}

/// Writes down who has a cluster; `owner`: the process that it ends with.
pub(crate) fn write_record(dir: &Path, hosts: usize, options: Options, owner: Option<Process>) -> Result<()> {
    let owner = owner.map_or_else(|| "none".into(), |p| p.to_string());
    let Options { shared_home, lasting } = options;
    let text = format!("hosts={hosts}\nshared-home={shared_home}\nlasting={lasting}\nowner={owner}\n");
    let new = dir.join("cluster.new");
    fs::write(&new, text)?;
    Ok(fs::rename(new, dir.join("cluster"))?)
}

/// What is written down about a cluster.
pub(crate) fn read_record(dir: &Path) -> Option<Record> {
    let text = fs::read_to_string(dir.join("cluster")).ok()?;
    let get = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    Some(Record {
        hosts: get("hosts")?.parse().ok()?,
        options: Options {
            shared_home: get("shared-home")?.parse().ok()?,
            lasting: get("lasting")?.parse().ok()?,
        },
        owner: get("owner")?.parse().ok(),
    })
}

/// Whether nobody can want this cluster any more.
pub(crate) fn stale(dir: &Path) -> bool {
    match read_record(dir) {
        None => true,
        Some(Record {
            owner: Some(owner), ..
        }) => !owner.alive(),
        Some(_) => !Process::read(&dir.join("switch.pid")).is_some_and(Process::alive),
    }
}

/// Removes what dead processes left. The lock is held.
pub(crate) fn sweep(base: &Path) -> Result<()> {
    for (_, dir) in numbers(base) {
        if stale(&dir) {
            destroy(&dir)?;
        }
    }
    Ok(())
}

fn host_dirs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_host = |n: &str| n.strip_prefix('h').is_some_and(|k| k.parse::<usize>().is_ok());
    entries
        .filter(|e| e.file_name().to_str().is_some_and(is_host))
        .map(|e| e.path())
        .collect()
}

/// Cuts the power of the host with this directory.
pub(crate) fn end_host(host_dir: &Path) -> Result<()> {
    let cgroup = cgroup::of(host_dir);
    if let Some(process) = Process::read(&host_dir.join("pid")) {
        process.kill()?;
        // PID 1 cannot end before its processes' parents outside collect them, and these may be frozen too.
        cgroup.as_deref().map_or(Ok(()), cgroup::thaw)?;
        process.end()?;
    }
    // Those who were on their way in.
    cgroup.map_or(Ok(()), |c| cgroup::empty(&c))
}

/// Ends the processes that are wires.
pub(crate) fn end_wires(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("wire-") {
            Process::read(&entry.path()).map_or(Ok(()), Process::end)?;
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Ends a cluster's processes and removes its cgroups and files; goes on after errors, tells the first.
pub(crate) fn destroy(dir: &Path) -> Result<()> {
    let mut first = Ok(());
    let mut also = |r: Result<()>| {
        if first.is_ok() {
            first = r;
        }
    };
    also(end_wires(dir));
    for host in host_dirs(dir) {
        also(end_host(&host));
    }
    if let Some(switch) = Process::read(&dir.join("switch.pid")) {
        also(switch.end());
    }
    for host in host_dirs(dir) {
        also(cgroup::remove(&host));
    }
    // The mounts were in namespaces that ended; if one is here for any reason, nothing below it is removed.
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let below = format!(" {}/", dir.display());
    if mounts.contains(&below) {
        also(Err(anyhow::anyhow!(
            "something is mounted below {}",
            dir.display()
        )));
    } else {
        also(fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display())));
    }
    first
}
