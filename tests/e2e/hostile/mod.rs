//! Hostile input: strangers at the port, a member that lies, forged tickets, a daemon in somebody else's hands, tricks
//! with links, and text that would drive a terminal. One room per attacker.
//!
//! The attackers are this very program, started inside a host (`e2e --play ROLE ...`) as whom they are to be there;
//! what they print is looked at here. They speak the wire's languages with the product's own libraries, and hold
//! nothing that their role would not have.

mod escapes;
mod files;
mod liar;
mod play;
mod possessed;
mod strangers;
mod tickets;

pub(crate) use play::main as play;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use queue_harness::{Cluster, HostCommand, Output, Status, queue as install};

use crate::world::{World, all_up, bare, named, queue};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    let rooms = [
        strangers::trials,
        liar::trials,
        tickets::trials,
        possessed::trials,
        escapes::trials,
        files::trials,
    ];
    rooms.into_iter().flat_map(|room| room(w)).collect()
}

/// Three members, and h4, which is none. On all of them the attackers are installed.
pub(crate) fn with_a_stranger() -> Result<Cluster> {
    let c = bare(4)?;
    let player = c.prefix().join("lib/player");
    fs::copy(std::env::current_exe()?, &player)?;
    fs::set_permissions(&player, fs::Permissions::from_mode(0o755))?;
    let first = c.host(1);
    let address = first.address();
    first
        .command(["queued", "init", "--name", "test", "--advertise", &address])
        .ok()?;
    install::run_queued(first)?;
    for k in [2, 3] {
        install::join(first, c.host(k))?;
        install::run_queued(c.host(k))?;
    }
    all_up(&c, queue_harness::LIMIT)?;
    Ok(c)
}

/// An attacker on host `k`.
fn attacker<'a>(c: &'a Cluster, k: usize, user: &str, role: &str, args: &[&str]) -> HostCommand<'a> {
    let player = c.prefix().join("lib/player");
    let player = player.to_string_lossy().into_owned();
    let line = [&player, "--play", role];
    c.host(k).command(line.iter().chain(args)).user(user).dir("/")
}

/// Where queued of host `k` listens.
fn port(c: &Cluster, k: usize) -> String {
    format!("{}:7838", c.host(k).address())
}

/// One `true` on h2 from h1 as alice; how long it took.
fn launch(c: &Cluster) -> Result<Duration> {
    let begun = Instant::now();
    let out = queue(c, &["-h", "h2", "--", "true"]).run()?;
    ensure!(out.status == Status::Exit(0), "a launch failed: {out:?}");
    Ok(begun.elapsed())
}

/// That the daemon of host `k` is this very process, and nothing in it went wrong.
fn unharmed(c: &Cluster, k: usize, daemon: i32) -> Result<()> {
    let now = named(c, k, "queued");
    let log = fs::read_to_string(install::log(c.host(k))).unwrap_or_default();
    let tail: String = log.lines().rev().take(20).collect::<Vec<_>>().join("\n");
    ensure!(now == [daemon], "queued was {daemon}, is {now:?}: {tail}");
    ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}

/// The daemon of host `k`.
fn daemon(c: &Cluster, k: usize) -> Result<i32> {
    let all = named(c, k, "queued");
    ensure!(all.len() == 1, "not one queued on h{k}: {all:?}");
    Ok(all[0])
}

/// Resident memory of a process in bytes.
fn memory(pid: i32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

/// Open descriptors of a process.
fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// What an attacker reports, `word: rest` a line.
fn reported(out: &Output, word: &str) -> Vec<String> {
    let text = out.text();
    let lines = text
        .lines()
        .filter_map(|l| l.strip_prefix(word)?.strip_prefix(": "));
    lines.map(str::to_owned).collect()
}

/// A figure for people, on standard error where `QUEUE_FIGURES` is set.
fn figure(what: &str, value: impl std::fmt::Display) {
    if std::env::var_os("QUEUE_FIGURES").is_some() {
        let _ = writeln!(std::io::stderr(), "{what}: {value}");
    }
}
