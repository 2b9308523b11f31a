//! Hosts that run different versions of Queue: h2 has programs that were built from an earlier commit (see
//! `step_skew` of `tests/scripts/check`), the others have ours. What both know works as ever; what only one knows is
//! left out, or refused with a word.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use queue_harness::{
    Cluster, HostCommand, LIMIT, Output, Running, Status, queue as install, wait_for, wait_until,
};
use serde_json::Value;

use crate::world::{World, all_up, bare, built, runs};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    let mut trials = vec![
        w.shared("skew::launches_both_ways", launches_both_ways),
        w.shared("skew::bytes_both_ways", bytes_both_ways),
        w.shared("skew::terminals_both_ways", terminals_both_ways),
        w.shared("skew::jobs_both_ways", jobs_both_ways),
        w.shared("skew::seen_and_ended_from_anywhere", seen_and_ended_from_anywhere),
        w.shared("skew::what_is_new_is_left_out", what_is_new_is_left_out),
        w.alone("skew::no_resume_with_the_old_one", no_resume_with_the_old_one),
        w.alone("skew::drained_from_both_sides", drained_from_both_sides),
    ];
    trials.push(Trial::test("skew::new_host_in_an_old_cluster", || {
        new_host_in_an_old_cluster().map_err(|e| format!("{e:?}").into())
    }));
    let ignored = old_programs().is_err();
    trials
        .into_iter()
        .map(|t| if ignored { t.with_ignored_flag(true) } else { t })
        .collect()
}

/// Where the older programs are: below cargo's directory, unless `QUEUE_OLD` says otherwise.
fn old_programs() -> Result<PathBuf> {
    let dir = match std::env::var_os("QUEUE_OLD") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let built = built()?;
            let target = built.parent().context("no directory")?;
            target.join("skew/ci")
        }
    };
    let there = dir.join("queued").exists();
    ensure!(there, "no older programs in {}", dir.display());
    Ok(dir)
}

/// The prefix of the older programs, inside of that of ours, so that all hosts see it.
fn prefix(c: &Cluster) -> PathBuf {
    c.prefix().join("old")
}

/// A program of the older ones on host `k`.
fn older<'a>(c: &'a Cluster, k: usize, argv: &[&str]) -> HostCommand<'a> {
    let bin = prefix(c).join("bin");
    let program = bin.join(argv[0]).into_os_string();
    let rest = argv[1..].iter().map(|a| (*a).into());
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", bin.display());
    c.host(k)
        .command(std::iter::once(program).chain(rest))
        .env("PATH", path)
}

/// `queue ARGS` as alice on host `k`, in the version of that host.
fn queue<'a>(c: &'a Cluster, k: usize, args: &[&str]) -> HostCommand<'a> {
    let argv: Vec<&str> = ["queue"].iter().chain(args).copied().collect();
    let command = if k == 2 {
        older(c, k, &argv)
    } else {
        c.host(k).command(argv)
    };
    command.user("alice").dir("/srv/shared")
}

fn install_old(c: &Cluster) -> Result<()> {
    let (from, to) = (old_programs()?, prefix(c));
    let mode = |p: &Path| fs::set_permissions(p, fs::Permissions::from_mode(0o755));
    for (dir, names) in [
        ("bin", ["queue", "queued"]),
        ("lib/queue", ["queue-exec", "queue-session"]),
    ] {
        let at = to.join(dir);
        fs::create_dir_all(&at)?;
        for name in names {
            fs::copy(from.join(name), at.join(name))
                .with_context(|| format!("copying {name} of {}", from.display()))?;
            mode(&at.join(name))?;
        }
    }
    for dir in ["", "bin", "lib", "lib/queue"] {
        mode(&to.join(dir))?;
    }
    symlink("queue", to.join("bin/qsh"))?;
    Ok(())
}

fn run_old(c: &Cluster, k: usize) -> Result<()> {
    let log = install::log(c.host(k));
    older(c, k, &["queued", "run"]).detach(&log)?;
    let ready = || older(c, k, &["queue", "hosts"]).run();
    wait_until(LIMIT, "the older queued", || {
        ready().is_ok_and(|o| o.status == Status::Exit(0))
    })
    .with_context(|| fs::read_to_string(&log).unwrap_or_default())
}

/// h1 and h3 with our programs, h2 with the older ones: it joins a cluster of ours.
pub(crate) fn mixed() -> Result<Cluster> {
    let c = bare(3)?;
    install_old(&c)?;
    let first = c.host(1);
    first
        .command([
            "queued",
            "init",
            "--name",
            "skew",
            "--advertise",
            &first.address(),
        ])
        .ok()?;
    install::run_queued(first)?;
    let token = install::token(first, &[])?;
    older(
        &c,
        2,
        &["queued", "join", "-", "--advertise", &c.host(2).address()],
    )
    .stdin(token + "\n")
    .ok()?;
    run_old(&c, 2)?;
    install::join(first, c.host(3))?;
    install::run_queued(c.host(3))?;
    all_up(&c, LIMIT)?;
    Ok(c)
}

/// From our host to the older one, and the other way round.
const WAYS: [(usize, &str); 2] = [(1, "h2"), (2, "h1")];

fn quiet(out: &Output, text: &str) -> Result<()> {
    ensure!(
        out.status == Status::Exit(0) && out.text() == text && out.error().is_empty(),
        "{out:?}"
    );
    Ok(())
}

fn launches_both_ways(c: &Cluster) -> Result<()> {
    for (k, there) in WAYS {
        let out = queue(
            c,
            k,
            &[
                "-h",
                there,
                "--",
                "sh",
                "-c",
                "echo $QUEUE_HOST $QUEUE_SUBMIT_HOST",
            ],
        )
        .run()?;
        quiet(&out, &format!("{there} h{k}"))?;
        let out = queue(c, k, &["-h", there, "--", "sh", "-c", "echo oops >&2; exit 7"]).run()?;
        ensure!(out.status == Status::Exit(7) && out.error() == "oops", "{out:?}");
        let out = queue(c, k, &["-h", there, "--", "sh", "-c", "kill -9 $$"]).run()?;
        ensure!(out.status == Status::Signal(9), "{out:?}");
        let out = queue(c, k, &["-h", there, "--", "no-such-command"]).run()?;
        ensure!(out.status == Status::Exit(127), "{out:?}");
        quiet(&queue(c, k, &[there, "cd / && pwd"]).run()?, "/")?;
        // Ended with its caller.
        let text = format!("7700{k}");
        let running = queue(c, k, &["-h", there, "--", "sleep", &text]).spawn()?;
        let there: usize = there.trim_start_matches('h').parse()?;
        wait_until(LIMIT, "the command", || runs(c, there, &format!("sleep {text}")))?;
        running.signal(nix::sys::signal::Signal::SIGTERM)?;
        ensure!(running.wait(LIMIT)?.status == Status::Signal(15));
        wait_until(LIMIT, "its end", || !runs(c, there, &format!("sleep {text}")))?;
    }
    // Of our choice, everywhere.
    for _ in 0..10 {
        for k in 1..=3 {
            quiet(&queue(c, k, &["--", "id", "-un"]).run()?, "alice")?;
        }
    }
    Ok(())
}

fn bytes_both_ways(c: &Cluster) -> Result<()> {
    for (k, there) in WAYS {
        let line = format!(
            "set -o pipefail; head -c 30000000 /dev/urandom >~/skew-in\n\
             queue -h {there} -- cat <~/skew-in >~/skew-out && cmp ~/skew-in ~/skew-out\n\
             queue -h {there} -- sh -c 'head -c 5000000 >/dev/null; echo enough' <~/skew-in\n\
             queue -h {there} -- sh -c 'yes | head -c 20000000' | head -c 10 | wc -c"
        );
        let out = if k == 2 {
            older(c, k, &["queue", "-h", "h2", "--", "bash", "-c", &line])
        } else {
            c.host(k).command(["bash", "-c", &line])
        };
        let out = out.user("alice").run()?;
        ensure!(out.text() == "enough\n10", "{out:?}");
    }
    Ok(())
}

fn terminals_both_ways(c: &Cluster) -> Result<()> {
    for (k, there) in WAYS {
        let inner =
            format!("queue -h {there} -- sh -c 'test -t 0 -a -t 1 -a -t 2 && stty size && echo $TERM'");
        let line = format!("stty rows 33 cols 77; {inner}");
        let script = c.host(k).command(["script", "-qec", &line, "/dev/null"]);
        let bin = if k == 2 { prefix(c) } else { c.prefix() }.join("bin");
        let out = script
            .user("alice")
            .dir("/srv/shared")
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env("TERM", "vt220")
            .run()?;
        ensure!(
            out.text().contains("33 77") && out.text().contains("vt220"),
            "{k}: {out:?}"
        );
    }
    Ok(())
}

fn jobs_both_ways(c: &Cluster) -> Result<()> {
    let dir = "/srv/shared/skew-jobs";
    c.host(1).sh(&format!("install -d -m 1777 {dir}")).ok()?;
    for (k, there) in [(1, "h2"), (2, "h1"), (2, "h2"), (3, "h2")] {
        let here = |args: &[&str]| queue(c, k, args).dir(dir);
        let out = here(&["-b", "-h", there, "--", "sh", "-c", "hostname; exit 3"]).ok()?;
        let id = out.text();
        let out = here(&["wait", &id]).run()?;
        ensure!(out.status == Status::Exit(3), "h{k} to {there}: {out:?}");
        let out = here(&["log", &id]).ok()?;
        ensure!(out.text() == there, "h{k} to {there}: {out:?}");
        // From another host, in the other version.
        let other = if k == 2 { 1 } else { 2 };
        let out = queue(c, other, &["show", &id]).ok()?;
        ensure!(out.text().contains(&id), "{out:?}");
        // Held and deleted across versions.
        let out = here(&["-b", "--hold", "-h", there, "--", "true"]).ok()?;
        let id = out.text();
        queue(c, other, &["release", &id]).ok()?;
        let out = queue(c, other, &["wait", &id]).run()?;
        ensure!(out.status == Status::Exit(0), "{out:?}");
    }
    let out = queue(c, 2, &["-w", "-h", "h3", "--", "echo", "stays"])
        .dir(dir)
        .run()?;
    ensure!(out.status == Status::Exit(0) && out.text() == "stays", "{out:?}");
    Ok(())
}

/// A session of alice's from host `k`.
fn session(c: &Cluster, k: usize, there: usize, seconds: &str) -> Result<(Running, String)> {
    let host = format!("h{there}");
    let running = queue(c, k, &["-h", &host, "--", "sleep", seconds]).spawn()?;
    wait_until(LIMIT, "the session", || {
        runs(c, there, &format!("sleep {seconds}"))
    })?;
    let id = wait_for(LIMIT, "the session's number", || {
        let out = queue(c, 3, &["jobs", "--json"]).ok().ok()?;
        let all: Value = serde_json::from_slice(&out.stdout).ok()?;
        let one = all["sessions"].as_array()?.iter().find(|s| {
            let command = s["command"].to_string();
            s["host"] == host.as_str() && command.contains(seconds)
        })?;
        one["id"].as_str().map(str::to_owned)
    })
    .with_context(|| format!("{:?}", queue(c, 3, &["jobs", "--json"]).run()))?;
    Ok((running, id))
}

fn seen_and_ended_from_anywhere(c: &Cluster) -> Result<()> {
    for k in 1..=3 {
        let out = queue(c, k, &["hosts"]).ok()?;
        ensure!(
            out.text().lines().filter(|l| l.contains(" up ")).count() == 3,
            "{out:?}"
        );
    }
    for (from, there, by, seconds) in [
        (1, 2, 2, "77011"),
        (1, 2, 3, "77012"),
        (2, 1, 2, "77013"),
        (2, 3, 1, "77014"),
        (3, 2, 1, "77015"),
    ] {
        let (running, id) = session(c, from, there, seconds)?;
        for k in 1..=3 {
            let out = queue(c, k, &["show", &id]).ok()?;
            ensure!(out.text().contains(seconds), "h{k}: {out:?}");
        }
        queue(c, by, &["kill", &id]).ok()?;
        let out = running.wait(LIMIT)?;
        ensure!(matches!(out.status, Status::Signal(_)), "{out:?}");
        wait_until(LIMIT, "its end", || !runs(c, there, &format!("sleep {seconds}")))?;
    }
    Ok(())
}

fn what_is_new_is_left_out(c: &Cluster) -> Result<()> {
    // Forwarding: said, and the command runs without.
    let agent = "rm -f ~/skew-agent; eval $(ssh-agent -a ~/skew-agent) >/dev/null; \
        queue -A -h h2 -- echo ran; kill $SSH_AGENT_PID";
    let out = c.host(1).command(["bash", "-c", agent]).user("alice").run()?;
    ensure!(
        out.text() == "ran" && out.error().contains("h2 runs an older version"),
        "{out:?}"
    );
    Ok(())
}

/// Breaks all connections of Queue between two hosts, as a router that restarts does.
fn reset(c: &Cluster, k: usize, other: usize) -> Result<()> {
    let peer = c.host(other).address();
    c.host(k)
        .sh(&format!("ss -K state established dst {peer}"))
        .ok()?;
    Ok(())
}

fn no_resume_with_the_old_one(c: &Cluster) -> Result<()> {
    for (from, there, seconds) in [(1, 2, "77021"), (2, 1, "77022")] {
        let (running, _) = session(c, from, there, seconds)?;
        reset(c, from, there)?;
        let out = running.wait(Duration::from_secs(20))?;
        ensure!(
            out.status == Status::Exit(125) && out.error().contains("lost"),
            "h{from}: {out:?}"
        );
        wait_until(LIMIT, "its end", || !runs(c, there, &format!("sleep {seconds}")))?;
    }
    all_up(c, LIMIT)
}

fn drained_from_both_sides(c: &Cluster) -> Result<()> {
    let root = |k: usize, args: &[&str]| {
        let argv: Vec<&str> = ["queue"].iter().chain(args).copied().collect();
        if k == 2 {
            older(c, k, &argv)
        } else {
            c.host(k).command(argv)
        }
    };
    for (k, host) in [(1, "h2"), (2, "h2"), (2, "h3")] {
        root(k, &["drain", host]).ok()?;
        for at in 1..=3 {
            wait_until(LIMIT, &format!("h{at} to know"), || {
                let out = root(at, &["hosts"]).ok();
                out.is_ok_and(|o| {
                    let text = o.text();
                    text.lines().any(|l| l.starts_with(host) && l.contains("drained"))
                })
            })?;
        }
        root(k, &["undrain", host]).ok()?;
        all_up(c, LIMIT)?;
    }
    Ok(())
}

/// The cluster is the older ones', with their leader; a host of ours joins.
fn new_host_in_an_old_cluster() -> Result<()> {
    let c = bare(2)?;
    install_old(&c)?;
    // Here it is h2 that is older, as everywhere in this file; so it is the first.
    let first = c.host(2);
    older(
        &c,
        2,
        &[
            "queued",
            "init",
            "--name",
            "older",
            "--advertise",
            &first.address(),
        ],
    )
    .ok()?;
    run_old(&c, 2)?;
    let out = older(&c, 2, &["queued", "token"]).ok()?;
    let text = out.text();
    let token = text.split_whitespace().find(|w| w.starts_with("QJOIN1-"));
    let token = token.with_context(|| format!("{out:?}"))?;
    // A newer program proves that it knows the secret and does not say it, which an older authority takes for a
    // wrong one: that is refused, and uses the token up for nobody.
    let address = c.host(1).address();
    let join = ["queued", "join", "-", "--advertise", &address];
    let refused = c.host(1).command(join).stdin(format!("{token}\n")).run()?;
    ensure!(
        refused.status == Status::Exit(1) && refused.error().contains("secret"),
        "{refused:?}"
    );
    // A host that joined while it was as old, and was upgraded before the authority's, is a member like others.
    older(&c, 1, &join).stdin(format!("{token}\n")).ok()?;
    install::run_queued(c.host(1))?;
    for k in [1, 2] {
        wait_until(LIMIT, &format!("h{k} to know both"), || {
            let out = queue(&c, k, &["hosts"]).ok();
            out.is_ok_and(|o| o.text().lines().filter(|l| l.contains(" up ")).count() == 2)
        })?;
    }
    for (k, there) in WAYS {
        quiet(&queue(&c, k, &["-h", there, "--", "hostname"]).run()?, there)?;
        let out = queue(&c, k, &["-w", "-h", there, "--", "hostname"]).run()?;
        ensure!(out.status == Status::Exit(0) && out.text() == there, "{out:?}");
    }
    c.down()
}
