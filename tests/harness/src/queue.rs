//! Queue in the hosts: where its programs are put, and how its daemons are started.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::host::Host;
use crate::wait::{LIMIT, wait_until};

/// Programs for users, in `PREFIX/bin`.
const BIN: [&str; 2] = ["queue", "queued"];
/// Programs for programs, in `PREFIX/lib/queue`.
const LIB: [&str; 2] = ["queue-exec", "queue-session"];
/// Other names of `queue`.
const LINKS: [&str; 2] = ["qsh", "queue-sh"];

/// Copies the built programs from the directory that cargo put them in to where all hosts find them.
pub fn install(cluster: &Cluster, built: &Path) -> Result<()> {
    let prefix = cluster.prefix();
    for (dir, names) in [("bin", &BIN[..]), ("lib/queue", &LIB[..])] {
        let to = prefix.join(dir);
        fs::create_dir_all(&to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        for name in names {
            let (from, at) = (built.join(name), to.join(name));
            // A new file, since the old one may be running.
            let _ = fs::remove_file(&at);
            fs::copy(&from, &at).with_context(|| format!("copying {} (is it built?)", from.display()))?;
            fs::set_permissions(&at, fs::Permissions::from_mode(0o755))?;
        }
    }
    fs::set_permissions(prefix.join("lib"), fs::Permissions::from_mode(0o755))?;
    for name in LINKS {
        let at = prefix.join("bin").join(name);
        let _ = fs::remove_file(&at);
        symlink("queue", at)?;
    }
    Ok(())
}

/// Makes a Queue cluster of all hosts: `queued init` on the first, `queued join` on the others, and runs it.
pub fn start(cluster: &Cluster) -> Result<()> {
    let first = cluster.host(1);
    first
        .command([
            "queued",
            "init",
            "--name",
            "test",
            "--advertise",
            &first.address(),
        ])
        .ok()?;
    run_queued(first)?;
    for host in cluster.hosts().skip(1) {
        join(first, host)?;
        run_queued(host)?;
    }
    let names: Vec<String> = cluster.hosts().map(|h| h.name()).collect();
    for host in cluster.hosts() {
        let mut last = String::new();
        let seen = wait_until(LIMIT, &format!("{} to know all hosts", host.name()), || {
            let Ok(out) = host.command(["queue", "hosts"]).run() else {
                return false;
            };
            last = format!("{out:?}");
            let text = out.text();
            let up = |l: &str, name: &str| {
                let mut words = l.split_whitespace();
                // A star marks the host that is asked.
                words.next().map(|w| w.trim_end_matches('*')) == Some(name) && words.next() == Some("up")
            };
            names.iter().all(|n| text.lines().any(|l| up(l, n)))
        });
        seen.with_context(|| format!("`queue hosts` says: {last}"))?;
    }
    Ok(())
}

/// A join token from this host.
pub fn token(host: Host<'_>, options: &[&str]) -> Result<String> {
    let out = host.command(["queued", "token"].iter().chain(options)).ok()?;
    // The token is the word that looks like one; whatever else is said is for people.
    let word = out
        .text()
        .split_whitespace()
        .find(|w| w.starts_with("QJOIN1-"))
        .map(str::to_owned);
    word.with_context(|| format!("no token in: {out:?}"))
}

/// Makes `host` a member of the cluster of `first`.
pub fn join(first: Host<'_>, host: Host<'_>) -> Result<()> {
    let token = token(first, &[])?;
    host.command(["queued", "join", "-", "--advertise", &host.address()])
        .stdin(token + "\n")
        .ok()?;
    Ok(())
}

/// The file that `queued run` of this host writes its output to.
pub fn log(host: Host<'_>) -> PathBuf {
    host.dir().join("queued.log")
}

/// Runs `queued run` as root, detached, and waits until it answers.
pub fn run_queued(host: Host<'_>) -> Result<i32> {
    let log = log(host);
    let pid = host.command(["queued", "run"]).detach(&log)?;
    let mut gone = false;
    let ready = wait_until(LIMIT, &format!("queued on {}", host.name()), || {
        gone = !Path::new(&format!("/proc/{pid}")).exists();
        gone || host
            .command(["queue", "hosts"])
            .run()
            .is_ok_and(|o| o.status == crate::Status::Exit(0))
    });
    if gone {
        bail!(
            "queued on {} ended: {}",
            host.name(),
            fs::read_to_string(&log).unwrap_or_default().trim()
        );
    }
    ready.with_context(|| format!("its log: {}", fs::read_to_string(&log).unwrap_or_default().trim()))?;
    Ok(pid)
}
