//! What runs, and where: everybody sees that something does, only its owner (and operators) what it is; and who may
//! end it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use queue_harness::{Cluster, LIMIT, Output, Running, Status, Tmux, wait_for, wait_until};
use serde_json::Value;

use crate::world::{World, host, queue, runs};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.shared("seeing::jobs_of_all_hosts", jobs_of_all_hosts),
        w.shared("seeing::ones_own_and_others", ones_own_and_others),
        w.shared("seeing::who_may_end_it", who_may_end_it),
        w.shared("seeing::one_signal", one_signal),
        w.alone("seeing::silent_host", silent_host),
        w.shared("seeing::hosts_have_figures", hosts_have_figures),
        w.shared("seeing::hosts_are_filtered", hosts_are_filtered),
        w.alone("seeing::hosts_are_watched", hosts_are_watched),
    ]
}

/// `queue ARGS` on host `k` as this user.
fn say(c: &Cluster, k: usize, user: &str, args: &[&str]) -> Result<Output> {
    c.host(k).command(["queue"].iter().chain(args)).user(user).run()
}

/// A session of this user's, from host `k` on that one: sleeps so many seconds, which nothing else does.
fn session(c: &Cluster, k: usize, user: &str, there: &str, seconds: &str) -> Result<Running> {
    let running = c
        .host(k)
        .command(["queue", "-h", there, "--", "sleep", seconds])
        .user(user)
        .spawn()?;
    let number = there.trim_start_matches('h').parse()?;
    wait_until(LIMIT, "the session", || {
        runs(c, number, &format!("sleep {seconds}"))
    })
    .with_context(|| String::from_utf8_lossy(&running.stderr()).into_owned())?;
    Ok(running)
}

/// The one session of this user on that host, out of `queue jobs --json` on host `k`.
fn id(c: &Cluster, k: usize, user: &str, there: &str) -> Result<String> {
    let mut all = Value::Null;
    let found = wait_for(LIMIT, &format!("{user}'s session on {there}"), || {
        let out = say(c, k, user, &["jobs", "--json"]).ok()?;
        all = serde_json::from_slice(&out.stdout).ok()?;
        let mut list = all["sessions"].as_array()?.iter().filter(|s| {
            let is = |field: &str, value: &str| s[field] == value;
            is("user", user) && is("host", there)
        });
        let one = list.next()?;
        list.next()
            .is_none()
            .then(|| one["id"].as_str().map(str::to_owned))?
    });
    found.with_context(|| all.to_string())
}

fn refused(out: &Output, words: &[&str]) -> Result<()> {
    ensure!(out.status == Status::Exit(125), "{out:?}");
    for word in words {
        ensure!(out.error().contains(word), "{word:?} is missing: {out:?}");
    }
    Ok(())
}

fn jobs_of_all_hosts(c: &Cluster) -> Result<()> {
    let _bob = session(c, 2, "bob", "h1", "76001")?;
    let _carol = session(c, 3, "carol", "h2", "76002")?;
    id(c, 1, "bob", "h1")?;
    id(c, 1, "carol", "h2")?;
    // Carol is an operator, Bob is not.
    for (k, user, sees, not) in [
        (1, "alice", &[][..], &["76001", "76002"][..]),
        (1, "bob", &["sleep 76001"], &["76002"]),
        (3, "bob", &["sleep 76001"], &["76002"]),
        (2, "carol", &["sleep 76002"], &[]),
    ] {
        let out = say(c, k, user, &["jobs"])?;
        let text = out.text();
        ensure!(out.status == Status::Exit(0) && out.stderr.is_empty(), "{out:?}");
        let has = |words: &[&str]| text.lines().any(|l| words.iter().all(|w| l.contains(w)));
        ensure!(
            has(&["bob", "h1", "h2"]) && has(&["carol", "h2", "h3"]),
            "{user}: {text}"
        );
        ensure!(sees.iter().all(|t| text.contains(t)), "{user} on h{k}: {text}");
        ensure!(!not.iter().any(|t| text.contains(t)), "{user} on h{k}: {text}");
    }
    // Asked for one user's, an operator is shown them; nobody else is.
    for (user, sees) in [("carol", true), ("alice", false)] {
        let out = say(c, 1, user, &["jobs", "--user", "bob"])?;
        let text = out.text();
        ensure!(text.contains("bob") && !text.contains("carol"), "{user}: {out:?}");
        ensure!(text.contains("76001") == sees, "{user}: {out:?}");
    }
    Ok(())
}

fn ones_own_and_others(c: &Cluster) -> Result<()> {
    let _alice = session(c, 1, "alice", "h3", "76003")?;
    let id = id(c, 2, "alice", "h3")?;
    let out = say(c, 1, "alice", &["show", &id])?;
    ensure!(
        out.status == Status::Exit(0) && out.text().contains("sleep 76003"),
        "{out:?}"
    );
    // Her own word is as good from anywhere.
    let out = say(c, 2, "alice", &["show", &id[..5]])?;
    ensure!(
        out.status == Status::Exit(0) && out.text().contains("76003"),
        "{out:?}"
    );
    let out = say(c, 1, "bob", &["show", &id])?;
    ensure!(!format!("{out:?}").contains("76003"), "{out:?}");
    refused(&out, &[])?;
    let out = say(c, 1, "alice", &["show", "s00000000"])?;
    refused(&out, &["s00000000"])
}

fn who_may_end_it(c: &Cluster) -> Result<()> {
    let ends = |running: Running, by: &str, seconds: &str| {
        let out = running.wait(LIMIT)?;
        ensure!(matches!(out.status, Status::Signal(_)), "{out:?}");
        ensure!(out.error().contains(by), "by {by}: {out:?}");
        wait_until(LIMIT, "the end of the tree", || {
            !runs(c, 3, &format!("sleep {seconds}"))
        })
    };
    let mut bobs = session(c, 1, "bob", "h3", "76004")?;
    let bob = id(c, 1, "bob", "h3")?;
    let out = say(c, 1, "alice", &["kill", &bob])?;
    refused(&out, &["bob"])?;
    ensure!(bobs.status()?.is_none() && runs(c, 3, "sleep 76004"));
    let out = say(c, 2, "bob", &["kill", &bob])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    ends(bobs, "bob@h2", "76004")?;
    // An operator, and root of another host.
    for (user, seconds) in [("carol", "76005"), ("root", "76006")] {
        let bobs = session(c, 1, "bob", "h3", seconds)?;
        let bob = id(c, 1, "bob", "h3")?;
        let out = say(c, 2, user, &["kill", &bob])?;
        ensure!(out.status == Status::Exit(0), "{user}: {out:?}");
        ends(bobs, &format!("{user}@h2"), seconds)?;
    }
    let out = say(c, 2, "bob", &["kill", &bob])?;
    refused(&out, &[&bob])
}

fn one_signal(c: &Cluster) -> Result<()> {
    let line = "trap 'echo usr1; exit 7' USR1; echo up; while :; do sleep 0.05; done";
    let running = queue(c, &["-h", "h2", "--", "sh", "-c", line])
        .user("alice")
        .spawn()?;
    wait_until(LIMIT, "the command", || running.stdout() == b"up\n")?;
    let id = id(c, 1, "alice", "h2")?;
    let out = say(c, 1, "alice", &["kill", "-s", "USR1", &id])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    let out = running.wait(LIMIT)?;
    ensure!(
        out.status == Status::Exit(7) && out.text() == "up\nusr1",
        "{out:?}"
    );
    Ok(())
}

fn silent_host(c: &Cluster) -> Result<()> {
    // What a host runs that cannot be asked is missing, and that is said; the rest comes without it.
    let _there = session(c, 1, "alice", "h3", "76007")?;
    let _here = session(c, 2, "alice", "h2", "76008")?;
    id(c, 1, "alice", "h3")?;
    c.cut(1, 3)?;
    let out = say(c, 1, "alice", &["jobs"]);
    c.heal()?;
    let out = out?;
    ensure!(out.text().contains("76008"), "{out:?}");
    ensure!(out.error().contains("h3"), "{out:?}");
    ensure!(out.elapsed < Duration::from_secs(10), "{:?}", out.elapsed);
    crate::world::all_up(c, LIMIT)
}

fn hosts_have_figures(c: &Cluster) -> Result<()> {
    let all = host(c, 1, "h2")?;
    for field in [
        "name",
        "state",
        "address",
        "version",
        "load",
        "cores",
        "cores_busy",
        "running",
        "memory_bytes",
        "memory_available_bytes",
        "disk_free_bytes",
        "pressure",
        "sessions",
        "jobs",
        "reserved",
        "facts",
    ] {
        ensure!(!all[field].is_null(), "no {field}: {all}");
    }
    ensure!(all["cores"].as_u64().is_some_and(|n| n > 0), "{all}");
    ensure!(
        all["memory_bytes"].as_u64() > all["memory_available_bytes"].as_u64(),
        "{all}"
    );
    Ok(())
}

fn hosts_are_filtered(c: &Cluster) -> Result<()> {
    let names = |expr: &str| {
        let out = c.host(1).command(["queue", "hosts", "-R", expr, "--json"]).ok()?;
        let all: Value = serde_json::from_slice(&out.stdout)?;
        let list = all["hosts"].as_array().context("no hosts")?;
        anyhow::Ok(
            list.iter()
                .filter_map(|h| h["name"].as_str().map(str::to_owned))
                .collect::<Vec<_>>(),
        )
    };
    ensure!(names("cores >= 1")? == ["h1", "h2", "h3"]);
    ensure!(names("cores >= 9999")?.is_empty());
    ensure!(names("host == h2")? == ["h2"]);
    let out = say(c, 1, "alice", &["hosts", "-R", "cores >="])?;
    refused(&out, &["-R"])
}

fn hosts_are_watched(c: &Cluster) -> Result<()> {
    let t = Tmux::start(c.host(1), "alice", 100, 20, "queue hosts --watch 0.2")?;
    t.wait_for(LIMIT, |s| {
        let up = |name: &str| s.lines().any(|l| l.starts_with(name) && l.contains(" up"));
        up("h1") && up("h2") && up("h3")
    })?;
    c.host(3).command(["queue", "drain", "h3"]).ok()?;
    let seen = t.wait_for(LIMIT, |s| {
        s.lines().any(|l| l.starts_with("h3") && l.contains("drained"))
    });
    c.host(3).command(["queue", "undrain", "h3"]).ok()?;
    seen?;
    // One screen, not one below the other.
    let screen = t.wait_for(LIMIT, |s| {
        s.lines().any(|l| l.starts_with("h3") && l.contains(" up"))
    })?;
    ensure!(screen.matches("h2 ").count() == 1, "{screen}");
    t.press("C-c")?;
    wait_until(LIMIT, "the end", || t.status().is_ok_and(|s| s.is_some()))
}
