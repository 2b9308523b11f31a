//! `queue-hosts`: the harness by hand, for demonstrations and for looking at a problem.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use queue_harness::{Cluster, Host, LIMIT, Options, wait_until};

const HELP: &str = "\
usage: queue-hosts [-c CLUSTER] VERB ...

Hosts h1..hN on this machine, made of namespaces, each with its own address, processes, users (alice, bob,
carol) and /etc /var /root /home /srv /run /tmp. Needs root. A host K is written 1 or h1.

  up [--shared-home] N      boot N hosts; they stay until `down`. Prints the cluster's number
  down                      end them and remove every trace
  list                      clusters and hosts
  install BIN_DIR           put the built programs of Queue where all hosts find them
  start                     start Queue on all hosts, joined to one cluster
  on [-u USER] [-d LOG] [-C DIR] [-e NAME=VALUE] K CMD [ARG...]
                            run a program in a host, with its exit status; -d: detached, output to LOG
  cut A [B]                 drop everything between two hosts, or unplug one
  delay A B MS              let packets between two hosts take MS milliseconds more each way
  heal                      undo all cuts and delays
  freeze K, thaw K          stop and continue everything on a host
  kill K, revive K          power off; boot again from the same disk
  load K VALUE              load average that the host believes in
  dir, shared               print the cluster's directory; the one that all hosts share

-c CLUSTER is needed only if several clusters are up.
State is kept in /opt/queue-hosts (QUEUE_HOSTS_DIR).
";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(io::stderr(), "queue-hosts: {e:#}");
            ExitCode::from(125)
        }
    }
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

fn run(mut args: Vec<String>) -> Result<()> {
    let mut number = None;
    if args.first().is_some_and(|a| a == "-c") {
        ensure!(args.len() > 1, "-c needs the number of a cluster");
        number = Some(args[1].parse().context("bad number of a cluster")?);
        args.drain(..2);
    }
    if args.is_empty() {
        bail!("no verb given\n{HELP}");
    }
    let verb = args.remove(0);
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match (verb.as_str(), &words[..]) {
        ("--help" | "help", _) => return say(HELP.trim_end()),
        ("up", [n]) => return up(n, false),
        ("up", ["--shared-home", n]) => return up(n, true),
        ("list", []) => return list(),
        _ => {}
    }
    let cluster = Cluster::find(number)?;
    let host = |word: &str| host(&cluster, word);
    match (verb.as_str(), &words[..]) {
        ("down", []) => cluster.down(),
        ("install", [bin]) => queue_harness::queue::install(&cluster, &PathBuf::from(bin)),
        ("start", []) => queue_harness::queue::start(&cluster),
        ("on", _) => on(&cluster, args),
        ("cut", [k]) => cluster.isolate(host(k)?.number()),
        ("cut", [a, b]) => cluster.cut(host(a)?.number(), host(b)?.number()),
        ("heal", []) => cluster.heal(),
        ("delay", [a, b, ms]) => delay(&cluster, host(a)?, host(b)?, ms),
        ("be-wire", [a, b, ms]) => {
            let delay = Duration::from_millis(ms.parse()?);
            cluster.be_wire(host(a)?.number(), host(b)?.number(), delay)
        }
        ("freeze", [k]) => host(k)?.freeze(),
        ("thaw", [k]) => host(k)?.thaw(),
        ("kill", [k]) => host(k)?.kill(),
        ("revive", [k]) => host(k)?.revive(),
        ("load", [k, value]) => host(k)?.load(value.parse().context("bad load")?),
        ("dir", []) => say(&cluster.dir().display().to_string()),
        ("shared", []) => say(&cluster.shared().display().to_string()),
        _ => bail!("wrong use of `{verb}`\n{HELP}"),
    }
}

fn host<'a>(cluster: &'a Cluster, word: &str) -> Result<Host<'a>> {
    let k: usize = word
        .strip_prefix('h')
        .unwrap_or(word)
        .parse()
        .with_context(|| format!("no host {word}"))?;
    cluster
        .hosts()
        .find(|h| h.number() == k)
        .with_context(|| format!("no host {word}"))
}

fn up(n: &str, shared_home: bool) -> Result<()> {
    let options = Options {
        shared_home,
        lasting: true,
    };
    let cluster = Cluster::with(n.parse().context("bad number of hosts")?, options)?;
    say(&format!(
        "cluster {}: h1..h{n}, in {}",
        cluster.number(),
        cluster.dir().display()
    ))
}

fn list() -> Result<()> {
    for number in 1..=250 {
        let Ok(cluster) = Cluster::find(Some(number)) else {
            continue;
        };
        for h in cluster.hosts() {
            let state = if h.is_up() { "up" } else { "down" };
            say(&format!("cluster {number}: {} {} {state}", h.name(), h.address()))?;
        }
    }
    Ok(())
}

fn on(cluster: &Cluster, args: Vec<String>) -> Result<()> {
    let mut args = args.into_iter().peekable();
    let (mut user, mut log, mut dir, mut env) = ("root".to_owned(), None, None, Vec::new());
    while let Some(option) = args.next_if(|a| a.starts_with('-')) {
        let value = args.next().with_context(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "-u" => user = value,
            "-d" => log = Some(PathBuf::from(value)),
            "-C" => dir = Some(value),
            "-e" => env.push(value),
            _ => bail!("no option {option} of `on`"),
        }
    }
    let host = host(cluster, &args.next().context("`on` needs a host")?)?;
    let mut command = host.command(args).user(&user);
    if let Some(term) = std::env::var_os("TERM") {
        command = command.env("TERM", term);
    }
    for pair in env {
        let (name, value) = pair.split_once('=').context("-e needs NAME=VALUE")?;
        command = command.env(name, value);
    }
    command = match dir {
        Some(dir) => command.dir(dir),
        // Where the caller is, if the host has that too and the user may be there.
        None => command
            .dir(std::env::current_dir()?)
            .dir(format!("/home/{user}"))
            .dir("/"),
    };
    match log {
        Some(log) => command.detach(&log).map(drop),
        None => Err(command.on_terminal().exec()),
    }
}

/// The wire is a process of its own, since this one ends.
fn delay(cluster: &Cluster, a: Host<'_>, b: Host<'_>, ms: &str) -> Result<()> {
    let _: u64 = ms.parse().context("bad number of milliseconds")?;
    let (low, high) = (a.number().min(b.number()), a.number().max(b.number()));
    let file = cluster.dir().join(format!("wire-{low}-{high}"));
    let before = std::fs::read(&file).ok();
    let mut command = Command::new(std::env::current_exe()?);
    command.args([
        "-c",
        &cluster.number().to_string(),
        "be-wire",
        &a.name(),
        &b.name(),
        ms,
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // A group of its own: Ctrl-C at the terminal is not for it.
    command.process_group(0).spawn()?;
    wait_until(LIMIT, "the wire", || {
        std::fs::read(&file).ok().is_some_and(|now| Some(now) != before)
    })
}
