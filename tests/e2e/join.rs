//! Becoming a member, and all the ways in which that must fail: with a clear error and nothing half done.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::{Failed, Trial};
use queue_exec::token::Token;
use queue_harness::{Cluster, Host, LIMIT, Output, Status, queue as install, wait_until};

use crate::world::{World, bare, named};

/// Hosts of these tests alone: h1 is the authority, h2 a member, h3 never becomes one, h4 does, h5 is the
/// authority of another cluster, h6 has no Queue but what a user starts.
const HOSTS: usize = 6;

type Test = fn(&Cluster) -> Result<()>;
type Hosts = Arc<OnceLock<Result<Mutex<Cluster>, String>>>;

pub(crate) fn trials(_: &Arc<World>) -> Vec<Trial> {
    let hosts = Hosts::default();
    let tests: [(&str, Test); 15] = [
        ("join::second_host_in_ten_seconds", second_host_in_ten_seconds),
        ("join::not_a_token", not_a_token),
        ("join::mistyped_token", mistyped_token),
        ("join::truncated_token", truncated_token),
        ("join::unknown_token", unknown_token),
        ("join::expired_token", expired_token),
        ("join::reused_token", reused_token),
        ("join::wrong_authority", wrong_authority),
        ("join::unreachable_address", unreachable_address),
        ("join::found_on_the_lan", found_on_the_lan),
        ("join::clock_off_by_an_hour", clock_off_by_an_hour),
        ("join::name_is_a_verb", name_is_a_verb),
        ("join::name_is_taken", name_is_taken),
        ("join::cloned_host_key", cloned_host_key),
        ("join::single_user_install", single_user_install),
    ];
    let trial = |(name, test): (&str, Test)| {
        let hosts = hosts.clone();
        Trial::test(name, move || {
            with(&hosts, test).map_err(|e| Failed::from(format!("{e:?}")))
        })
    };
    tests.into_iter().map(trial).collect()
}

fn with(hosts: &Hosts, test: Test) -> Result<()> {
    let made = hosts.get_or_init(|| make().map(Mutex::new).map_err(|e| format!("{e:?}")));
    let cluster = made.as_ref().map_err(|e| anyhow!("the hosts do not run: {e}"))?;
    test(&cluster.lock().unwrap_or_else(PoisonError::into_inner))
}

fn make() -> Result<Cluster> {
    let c = bare(HOSTS)?;
    for k in [1, 5] {
        let h = c.host(k);
        h.command([
            "queued",
            "init",
            "--name",
            &format!("c{k}"),
            "--advertise",
            &h.address(),
        ])
        .ok()?;
        install::run_queued(h)?;
    }
    install::join(c.host(1), c.host(2))?;
    install::run_queued(c.host(2))?;
    Ok(c)
}

fn join(host: Host<'_>, token: &str) -> Result<Output> {
    host.command(["queued", "join", "-", "--advertise", &host.address()])
        .stdin(format!("{token}\n"))
        .run()
}

/// It failed, said one thing about it that has all these words (in any case), and left nothing.
fn refused(c: &Cluster, host: Host<'_>, out: &Output, words: &[&str]) -> Result<()> {
    ensure!(matches!(out.status, Status::Exit(1..=125)), "{out:?}");
    let text = out.error().to_lowercase();
    for word in words {
        ensure!(text.contains(word), "{word:?} is missing: {out:?}");
    }
    ensure!(!text.contains("panicked"), "{out:?}");
    not_a_member(c, host)
}

fn not_a_member(c: &Cluster, host: Host<'_>) -> Result<()> {
    for file in [
        "exec/host.cert",
        "queued/cluster",
        "queued/host.cert",
        "queued/members",
    ] {
        ensure!(
            !host.exists(format!("/var/lib/queue/{file}")),
            "{file} was left behind"
        );
    }
    ensure!(
        named(c, host.number(), "queue-exec").is_empty(),
        "queue-exec was left running"
    );
    let known = c.host(1).command(["queue", "hosts"]).ok()?.text();
    let is_it = |l: &str| l.split_whitespace().next().map(|w| w.trim_end_matches('*')) == Some(&host.name());
    ensure!(!known.lines().any(is_it), "h1 knows it: {known}");
    Ok(())
}

fn token(c: &Cluster, options: &[&str]) -> Result<String> {
    install::token(c.host(1), options)
}

fn second_host_in_ten_seconds(c: &Cluster) -> Result<()> {
    let (first, new) = (c.host(1), c.host(4));
    let start = Instant::now();
    install::join(first, new)?;
    install::run_queued(new)?;
    wait_until(LIMIT, "a command on the new host", || {
        let out = first
            .command(["queue", "-h", "h4", "--", "hostname"])
            .user("alice")
            .run();
        out.is_ok_and(|o| o.text() == "h4")
    })?;
    ensure!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    // And from the new host, and between members that the authority only told of each other.
    for (from, to) in [(4, "h1"), (4, "h2"), (2, "h4")] {
        let mut last = None;
        wait_until(LIMIT, &format!("a command from h{from} on {to}"), || {
            last = c
                .host(from)
                .command(["queue", "-h", to, "--", "hostname"])
                .user("bob")
                .run()
                .ok();
            last.as_ref().is_some_and(|o| o.text() == to)
        })
        .with_context(|| format!("{last:?}"))?;
    }
    // A member does not leave its cluster for another one by accident.
    let out = join(new, &install::token(c.host(5), &[])?)?;
    ensure!(
        out.status == Status::Exit(1) && out.error().contains("h4 of cluster c1"),
        "{out:?}"
    );
    assert_eq!(
        first
            .command(["queue", "-h", "h4", "--", "hostname"])
            .user("alice")
            .ok()?
            .text(),
        "h4"
    );
    Ok(())
}

fn not_a_token(c: &Cluster) -> Result<()> {
    for word in ["", "nonsense", "QJOIN", "QJOIN9-x", "QJOIN1-"] {
        refused(c, c.host(3), &join(c.host(3), word)?, &["token"])?;
    }
    let out = c.host(3).command(["queued", "join"]).run()?;
    ensure!(out.status != Status::Exit(0), "{out:?}");
    not_a_member(c, c.host(3))
}

fn mistyped_token(c: &Cluster) -> Result<()> {
    let good = token(c, &[])?;
    let at = good.len() - 12;
    let other = if good.as_bytes()[at] == b'a' { "b" } else { "a" };
    let bad = format!("{}{other}{}", &good[..at], &good[at + 1..]);
    refused(c, c.host(3), &join(c.host(3), &bad)?, &["mistyped"])
}

fn truncated_token(c: &Cluster) -> Result<()> {
    let good = token(c, &[])?;
    for cut in [1, 10, 40] {
        refused(
            c,
            c.host(3),
            &join(c.host(3), &good[..good.len() - cut])?,
            &["short"],
        )?;
    }
    Ok(())
}

fn unknown_token(c: &Cluster) -> Result<()> {
    // Well formed, but never given out.
    let mut t: Token = token(c, &[])?.parse()?;
    t.secret = t.secret.chars().rev().collect();
    refused(c, c.host(3), &join(c.host(3), &t.to_string())?, &["token"])
}

fn expired_token(c: &Cluster) -> Result<()> {
    let old = token(c, &["--ttl", "1s"])?;
    let start = Instant::now();
    wait_until(LIMIT, "a second and a bit", || {
        start.elapsed() > Duration::from_millis(2100)
    })?;
    refused(c, c.host(3), &join(c.host(3), &old)?, &["expired"])
}

fn reused_token(c: &Cluster) -> Result<()> {
    // Used up by a host that then is made to forget everything: the token is spent all the same.
    let once = token(c, &[])?;
    let h = c.host(3);
    let line = format!("hostname spare && queued join - --advertise {}", h.address());
    let out = h
        .command(["unshare", "--uts", "sh", "-c", &line])
        .stdin(format!("{once}\n"))
        .ok()?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    h.sh("rm -rf /var/lib/queue /etc/queue").ok()?;
    refused(c, h, &join(h, &once)?, &["used"])?;
    // It is known under the name of its first use; an administrator takes it away.
    c.host(1).command(["queue", "hosts", "remove", "spare"]).ok()?;
    Ok(())
}

fn wrong_authority(c: &Cluster) -> Result<()> {
    // The secret must not go to whoever answers at the address.
    let mut t: Token = token(c, &[])?.parse()?;
    t.address = format!("{}:7838", c.host(5).address());
    refused(c, c.host(3), &join(c.host(3), &t.to_string())?, &["authority"])
}

fn unreachable_address(c: &Cluster) -> Result<()> {
    let h = c.host(3);
    let mut t: Token = token(c, &[])?.parse()?;
    let good = t.address.clone();
    // Nobody listens; nobody is there; packets vanish.
    t.address = format!("{}:9", c.host(1).address());
    refused(c, h, &join(h, &t.to_string())?, &[&t.address])?;
    t.address = format!("10.78.{}.249:7838", c.number());
    refused(c, h, &join(h, &t.to_string())?, &[&t.address])?;
    t.address = good;
    c.cut(1, 3)?;
    let start = Instant::now();
    let out = join(h, &t.to_string());
    c.heal()?;
    refused(c, h, &out?, &[&t.address])?;
    ensure!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    Ok(())
}

fn found_on_the_lan(c: &Cluster) -> Result<()> {
    let h = c.host(3);
    let word = token(c, &["--lan"])?;
    ensure!(word.starts_with("QJOIN1-lan-"), "{word}");
    // Another cluster is announced here, too; it does not do.
    c.isolate(1)?;
    let out = join(h, &word);
    c.heal()?;
    refused(c, h, &out?, &["5 s", "5353", "other clusters: c5"])?;
    let out = h
        .command(["unshare", "--uts", "sh", "-c", "hostname spare && queued join -"])
        .stdin(format!("{word}\n"))
        .ok();
    h.sh("rm -rf /var/lib/queue /etc/queue").ok()?;
    let out = out?;
    ensure!(out.text().contains("member of cluster c1"), "{out:?}");
    ensure!(out.elapsed < Duration::from_secs(5), "{:?}", out.elapsed);
    c.host(1).command(["queue", "hosts", "remove", "spare"]).ok()?;
    // One that announces nothing makes no such token.
    h.sh("install -d /etc/queue && echo 'mdns = false' >/etc/queue/queued.toml && queued init --name c3")
        .ok()?;
    let out = h.command(["queued", "token", "--lan"]).run();
    h.sh("rm -rf /var/lib/queue /etc/queue").ok()?;
    let out = out?;
    ensure!(
        out.status == Status::Exit(1) && out.error().contains("mdns = false"),
        "{out:?}"
    );
    not_a_member(c, h)
}

/// The library that moves the clock of one program.
fn faketime() -> Result<String> {
    let dirs = [
        "/usr/lib/x86_64-linux-gnu/faketime",
        "/usr/lib/aarch64-linux-gnu/faketime",
        "/usr/lib/faketime",
    ];
    let found = dirs
        .iter()
        .map(|d| format!("{d}/libfaketime.so.1"))
        .find(|f| std::path::Path::new(f).exists());
    found.context("this test needs libfaketime (package libfaketime)")
}

fn clock_off_by_an_hour(c: &Cluster) -> Result<()> {
    let (h, library) = (c.host(3), faketime()?);
    for offset in ["-1h", "+1h"] {
        let out = h
            .command(["queued", "join", "-", "--advertise", &h.address()])
            .env("LD_PRELOAD", &library)
            .env("FAKETIME", offset)
            .stdin(token(c, &[])? + "\n")
            .run()?;
        refused(c, h, &out, &["clock"])?;
    }
    Ok(())
}

/// Joins h3 under another host name, which lasts as long as the program.
fn join_as(c: &Cluster, name: &str, more: &str) -> Result<Output> {
    let h = c.host(3);
    let line = format!(
        "hostname {name} && exec queued join - --advertise {} {more}",
        h.address()
    );
    h.command(["unshare", "--uts", "sh", "-c", &line])
        .stdin(token(c, &[])? + "\n")
        .run()
}

fn name_is_a_verb(c: &Cluster) -> Result<()> {
    for verb in ["jobs", "hosts", "kill", "web"] {
        refused(c, c.host(3), &join_as(c, verb, "")?, &[verb, "verb"])?;
    }
    Ok(())
}

fn name_is_taken(c: &Cluster) -> Result<()> {
    for name in ["h1", "h2"] {
        let before = c.host(1).command(["queue", "hosts", "--json"]).ok()?.text();
        refused(c, c.host(3), &join_as(c, name, "")?, &[name, "already"]).with_context(|| before)?;
    }
    Ok(())
}

fn cloned_host_key(c: &Cluster) -> Result<()> {
    let h = c.host(3);
    let key = c.host(2).read("/var/lib/queue/exec/host.key")?;
    h.sh("install -d -m 755 /var/lib/queue; install -d -m 700 /var/lib/queue/exec")
        .ok()?;
    h.write("/var/lib/queue/exec/host.key", key)?;
    h.sh("chmod 600 /var/lib/queue/exec/host.key").ok()?;
    let result = join(h, &token(c, &[])?).and_then(|out| refused(c, h, &out, &["key", "h2"]));
    h.sh("rm -rf /var/lib/queue /etc/queue").ok()?;
    result
}

fn single_user_install(c: &Cluster) -> Result<()> {
    let h = c.host(6);
    h.sh("install -d -m 700 -o alice -g alice /run/user/2001").ok()?;
    let log = h.dir().join("alice.log");
    let runtime = "/run/user/2001";
    h.command(["queued", "run"])
        .user("alice")
        .env("XDG_RUNTIME_DIR", runtime)
        .detach(&log)?;
    let queue = |args: &[&str]| {
        h.command(["queue"].iter().chain(args))
            .user("alice")
            .env("XDG_RUNTIME_DIR", runtime)
            .run()
    };
    let mut last = None;
    wait_until(LIMIT, "a command through one's own daemon", || {
        last = queue(&["--", "id", "-un"]).ok();
        last.as_ref()
            .is_some_and(|o| o.text() == "alice" && o.status == Status::Exit(0))
    })
    .with_context(|| format!("{last:?}; {}", std::fs::read_to_string(&log).unwrap_or_default()))?;
    // Everything runs as her; nobody else is served, and she is nobody else.
    for name in ["queued", "queue-exec"] {
        for pid in named(c, 6, name) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            ensure!(
                status.contains("Uid:\t2001\t2001\t2001\t2001"),
                "{name}: {status}"
            );
        }
    }
    let socket = format!("{runtime}/queue/queued.sock");
    let out = h
        .command(["queue", "--", "id"])
        .user("bob")
        .env("QUEUE_SOCKET", &socket)
        .run()?;
    ensure!(out.status == Status::Exit(125), "{out:?}");
    let out = queue(&["-l", "bob", "--", "id"])?;
    ensure!(out.status == Status::Exit(125), "{out:?}");
    Ok(())
}
