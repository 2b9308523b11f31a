//! Who is there: hosts die, stop, come back, are cut off, move, are removed. Everybody soon knows, goes on with who
//! is left, and takes back who returns; nobody is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue_harness::{Cluster, LIMIT, Output, Running, Status, queue as install, wait_until};

use crate::world::{World, all_up, host, hosts, named, queue, state, until_state};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.alone("members::power_cut", power_cut),
        w.alone("members::stopped_and_drained", stopped_and_drained),
        w.alone("members::partition_under_load", partition_under_load),
        w.alone("members::address_is_followed", address_is_followed),
        w.alone("members::keys_rotate_under_load", keys_rotate_under_load),
        w.alone("members::all_restart", all_restart),
        w.alone("members::removed_and_joined_again", removed_and_joined_again),
    ]
}

/// A death without a word is known everywhere after this time.
const DEATH: Duration = Duration::from_secs(10);
/// What is said is known everywhere at once: a second, and one for this machine.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Most that a launch may take while a host is silent, and as much for this machine.
const LAUNCH: Duration = Duration::from_secs(2);

/// Ends the daemon of host `k` and waits until it is gone.
fn stop(c: &Cluster, k: usize) -> Result<()> {
    for pid in named(c, k, "queued") {
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    }
    wait_until(LIMIT, "the end of queued", || named(c, k, "queued").is_empty())
}

/// Waits until a launch on any host is carried out by this one.
fn used_again(c: &Cluster, name: &str) -> Result<()> {
    let mut last = None;
    wait_until(LIMIT, &format!("{name} to be used"), || {
        last = queue(c, &["--", "hostname"]).run().ok();
        last.as_ref().is_some_and(|o| o.text() == name)
    })
    .with_context(|| format!("{last:?}"))
}

/// Launches one after the other on any host, until it is stopped; see [`load_of`].
fn load(c: &Cluster, k: usize) -> Result<Running> {
    let line = "trap 'e=1' TERM; until [ \"$e\" ]; do s=${EPOCHREALTIME/./}; h=$(queue -- hostname); r=$?; \
        echo \"$(( (${EPOCHREALTIME/./} - s) / 1000 )) $r $h\"; done";
    c.host(k).command(["bash", "-c", line]).user("alice").spawn()
}

/// What such launches came to: how long the slowest took, and where they ran. None may have failed.
fn load_of(running: Running) -> Result<(Duration, Vec<String>)> {
    running.signal(Signal::SIGTERM)?;
    let out = running.wait(LIMIT)?;
    ensure!(out.status == Status::Exit(0) && out.stderr.is_empty(), "{out:?}");
    let (mut slowest, mut ran) = (0, Vec::new());
    for line in out.text().lines() {
        let [ms, code, at] = line.split(' ').collect::<Vec<_>>()[..] else {
            anyhow::bail!("{line:?} in {out:?}");
        };
        ensure!(code == "0", "{line:?} in {out:?}");
        slowest = slowest.max(ms.parse()?);
        ran.push(at.to_owned());
    }
    ensure!(!ran.is_empty(), "nothing was launched");
    Ok((Duration::from_millis(slowest), ran))
}

/// Queue's own refusal, with these words.
fn fails(out: &Output, words: &[&str]) -> Result<()> {
    ensure!(out.status == Status::Exit(125), "{out:?}");
    for word in words {
        ensure!(out.error().contains(word), "{word:?} is missing: {out:?}");
    }
    Ok(())
}

fn power_cut(c: &Cluster) -> Result<()> {
    let busy = load(c, 1)?;
    c.host(3).kill()?;
    let cut = Instant::now();
    until_state(c, DEATH, &[1, 2], "h3", "down")?;
    let known = cut.elapsed();
    // A launch that was on its way into the dead host may have been lost with it; no later one.
    drop(busy);
    let busy = load(c, 1)?;
    let out = queue(c, &["-h", "h3", "--", "true"]).run()?;
    fails(&out, &["h3"])?;
    wait_until(LIMIT, "some launches", || {
        busy.stdout().split(|b| *b == b'\n').count() > 20
    })?;
    let (slowest, ran) = load_of(busy)?;
    ensure!(!ran.iter().any(|h| h == "h3"), "{ran:?}");
    ensure!(slowest < LAUNCH, "{slowest:?}");
    c.host(3).revive()?;
    install::run_queued(c.host(3))?;
    all_up(c, LIMIT).with_context(|| format!("its death was known after {known:?}"))?;
    used_again(c, "h3")
}

fn stopped_and_drained(c: &Cluster) -> Result<()> {
    stop(c, 3)?;
    until_state(c, AT_ONCE, &[1, 2], "h3", "left")?;
    install::run_queued(c.host(3))?;
    all_up(c, LIMIT)?;
    used_again(c, "h3")?;
    let out = c.host(2).command(["queue", "drain", "h2"]).ok();
    let known = until_state(c, AT_ONCE, &[1, 2, 3], "h2", "drained");
    // It stays so over a restart.
    let kept = known.and_then(|()| {
        stop(c, 2)?;
        install::run_queued(c.host(2))?;
        until_state(c, LIMIT, &[1, 2, 3], "h2", "drained")
    });
    let undone = c.host(2).command(["queue", "undrain", "h2"]).ok();
    out.and(kept)?;
    undone?;
    until_state(c, AT_ONCE, &[1, 2, 3], "h2", "up")?;
    used_again(c, "h2")
}

fn partition_under_load(c: &Cluster) -> Result<()> {
    let whole = Duration::from_secs(30);
    c.isolate(1)?;
    let start = Instant::now();
    let apart = (|| {
        let (one, two) = (load(c, 1)?, load(c, 2)?);
        until_state(c, DEATH, &[1], "h2", "down")?;
        until_state(c, DEATH, &[1], "h3", "down")?;
        until_state(c, DEATH, &[2, 3], "h1", "down")?;
        wait_until(whole * 2, "the time to pass", || start.elapsed() > whole)?;
        ensure!(state(c, 2, "h3") == "up" && state(c, 3, "h2") == "up");
        anyhow::Ok((load_of(one)?, load_of(two)?))
    })();
    c.heal()?;
    let ((slow_one, one), (slow_two, two)) = apart?;
    ensure!(one.iter().all(|h| h == "h1"), "{one:?}");
    ensure!(two.iter().all(|h| h == "h2" || h == "h3"), "{two:?}");
    ensure!(two.iter().any(|h| h == "h3"), "{two:?}");
    ensure!(
        slow_one < LAUNCH && slow_two < LAUNCH,
        "{slow_one:?} {slow_two:?}"
    );
    all_up(c, LIMIT)?;
    for k in [1, 2, 3] {
        ensure!(hosts(c, k)?.len() == 3, "h{k} lost somebody");
        for there in ["h1", "h2", "h3"] {
            let out = c
                .host(k)
                .command(["queue", "-h", there, "--", "hostname"])
                .user("alice")
                .ok()?;
            ensure!(out.text() == there, "{out:?}");
        }
    }
    Ok(())
}

fn address_is_followed(c: &Cluster) -> Result<()> {
    let h = c.host(3);
    let (old, new) = (h.address(), format!("10.78.{}.203", c.number()));
    let change = |from: &str, to: &str| {
        let line = format!("ip addr del {from}/24 dev eth0 && ip addr add {to}/24 brd + dev eth0");
        h.sh(&line).ok().map(drop)
    };
    let follow = |to: &str| {
        let known = |k: usize| {
            let known = host(c, k, "h3").map(|h| h["address"].as_str().unwrap_or_default().to_owned());
            known.is_ok_and(|a| a == format!("{to}:7838"))
        };
        wait_until(LIMIT, &format!("{to} to be known"), || known(1) && known(2))?;
        all_up(c, LIMIT)?;
        for k in [1, 2] {
            let there = ["queue", "-h", "h3", "--", "hostname"];
            ensure!(c.host(k).command(there).user("alice").ok()?.text() == "h3");
        }
        used_again(c, "h3")
    };
    change(&old, &new)?;
    let followed = follow(&new);
    change(&new, &old)?;
    followed?;
    follow(&old)
}

fn keys_rotate_under_load(c: &Cluster) -> Result<()> {
    let keys = |k: usize| c.host(k).read("/var/lib/queue/queued/gossip.keys");
    let old = keys(2)?;
    let rotate = || {
        c.host(1)
            .command(["queue", "admin", "rotate-keys"])
            .ok()
            .map(drop)
    };
    let (one, two) = (load(c, 1)?, load(c, 2)?);
    for _ in 0..3 {
        let before = keys(3)?;
        rotate()?;
        wait_until(LIMIT, "the new keys on h3", || keys(3).is_ok_and(|k| k != before))?;
        for k in [1, 2, 3] {
            for name in ["h1", "h2", "h3"] {
                ensure!(
                    state(c, k, name) == "up",
                    "{name} is {} on h{k}",
                    state(c, k, name)
                );
            }
        }
    }
    ensure!(keys(2)? != old, "h2 has its old keys");
    let (slow_one, _) = load_of(one)?;
    let (slow_two, _) = load_of(two)?;
    ensure!(
        slow_one < LAUNCH && slow_two < LAUNCH,
        "{slow_one:?} {slow_two:?}"
    );
    // Who is away meanwhile has neither the current nor the previous key when he returns.
    c.isolate(3)?;
    let missed = until_state(c, DEATH, &[1, 2], "h3", "down").and_then(|()| {
        rotate()?;
        rotate()?;
        rotate()
    });
    c.heal()?;
    missed?;
    all_up(c, LIMIT)?;
    used_again(c, "h3")
}

fn all_restart(c: &Cluster) -> Result<()> {
    let line = ["-h", "h2", "--", "sh", "-c", "echo up; read x; echo $x"];
    let mut running = queue(c, &line).spawn_piped()?;
    wait_until(LIMIT, "the session", || running.stdout() == b"up\n")?;
    for k in [1, 2, 3] {
        stop(c, k)?;
    }
    for k in [1, 2, 3] {
        install::run_queued(c.host(k))?;
    }
    all_up(c, LIMIT)?;
    // The session is still there, and h2 knows that it is.
    wait_until(LIMIT, "the session to be counted", || {
        host(c, 1, "h2").is_ok_and(|h| h["sessions"] == 1)
    })?;
    std::io::Write::write_all(running.stdin()?, b"on\n")?;
    let out = running.wait(LIMIT)?;
    ensure!(out.text() == "up\non" && out.stderr.is_empty(), "{out:?}");
    used_again(c, "h3")
}

fn removed_and_joined_again(c: &Cluster) -> Result<()> {
    let keys = |k: usize| c.host(k).read("/var/lib/queue/queued/gossip.keys");
    let old = keys(2)?;
    c.host(1).command(["queue", "hosts", "remove", "h3"]).ok()?;
    // At once where that was said.
    let from_there = |there: &str| {
        let argv = ["queue", "-h", there, "--", "true"];
        c.host(3).command(argv).user("alice").run()
    };
    fails(&from_there("h1")?, &[])?;
    wait_until(LIMIT, "h3 to be forgotten", || {
        [1, 2].iter().all(|k| hosts(c, *k).is_ok_and(|l| l.len() == 2))
    })?;
    wait_until(LIMIT, "other keys", || keys(2).is_ok_and(|k| k != old))?;
    ensure!(keys(3)? != keys(2)?, "h3 has the new keys");
    // Refused everywhere, in both directions; among the others all goes on.
    wait_until(LIMIT, "h2 to refuse it", || {
        from_there("h2").is_ok_and(|o| o.status == Status::Exit(125))
    })?;
    for there in ["h1", "h2"] {
        fails(&from_there(there)?, &[])?;
    }
    fails(&queue(c, &["-h", "h3", "--", "true"]).run()?, &["h3"])?;
    let out = queue(c, &["-h", "h2", "--", "hostname"]).ok()?;
    ensure!(out.text() == "h2", "{out:?}");
    // Its daemon runs all the same; it takes the new membership up.
    let token = install::token(c.host(1), &[])?;
    c.host(3)
        .command(["queued", "join", "-"])
        .stdin(token + "\n")
        .ok()?;
    all_up(c, LIMIT)?;
    used_again(c, "h3")
}
