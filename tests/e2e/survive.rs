//! Batch jobs survive what happens to daemons, hosts and the network: none that was acknowledged is lost, none runs
//! twice at once. Each job holds an exclusive lock while it runs, and says when somebody else holds it.
//!
//! `QUEUE_CHAOS=SECONDS` makes the last test as long as that; `QUEUE_CHAOS_SEED` repeats one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue_harness::{Cluster, LIMIT, Status, queue as install, wait_until};
use serde_json::Value;

use crate::batch::{dir, say, show, state, submit, submit_at, until};
use crate::world::{World, all_up, named, runs};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.alone("survive::daemons_are_killed", daemons_are_killed),
        w.alone("survive::leader_is_away", leader_is_away),
        w.alone("survive::session_is_killed", session_is_killed),
        w.alone("survive::queue_exec_is_killed", queue_exec_is_killed),
        w.alone("survive::host_returns_with_its_job", host_returns_with_its_job),
        w.alone("survive::host_is_lost", host_is_lost),
        w.alone("survive::wait_goes_on", wait_goes_on),
        w.alone(
            "survive::store_that_cannot_be_opened",
            store_that_cannot_be_opened,
        ),
        w.alone("survive::disk_is_slow", disk_is_slow),
        w.alone("survive::chaos", chaos),
    ]
}

const LONG: Duration = Duration::from_secs(90);
/// Where witnesses are: all hosts see the same directory.
const WITNESS: &str = "/srv/shared/witness";

/// A line for sh that runs `work` under a lock of its own, and writes down that it began and that it ended.
fn witnessed(work: &str) -> String {
    format!(
        "n={WITNESS}/$QUEUE_JOB_ID.${{QUEUE_TASK_ID:-0}}; exec 9>>$n.lock; \
         flock -n 9 || {{ echo $n $QUEUE_HOST >>{WITNESS}/doubled; exit 99; }}; \
         echo begin >>$n.log; {work}; echo end >>$n.log"
    )
}

fn fresh(c: &Cluster) -> Result<()> {
    c.host(1)
        .sh(&format!("rm -rf {WITNESS}; install -d -m 1777 {WITNESS}"))
        .ok()?;
    Ok(())
}

/// How often tasks of a job have ended, and that none ran twice at once.
fn ended(c: &Cluster, id: &str) -> Result<Vec<usize>> {
    let doubled = c.host(1).read(format!("{WITNESS}/doubled")).unwrap_or_default();
    ensure!(doubled.is_empty(), "{}", String::from_utf8_lossy(&doubled));
    let script = format!("for f in {WITNESS}/{id}.*.log; do grep -c end $f; done; true");
    let out = c.host(1).sh(&script).ok()?;
    Ok(out.text().lines().filter_map(|l| l.parse().ok()).collect())
}

fn end(c: &Cluster, k: usize, name: &str, signal: Signal) {
    for pid in named(c, k, name) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Ends the daemon of host `k` as a crash does, and starts it again.
fn crash(c: &Cluster, k: usize) -> Result<()> {
    end(c, k, "queued", Signal::SIGKILL);
    wait_until(LIMIT, "the end of queued", || named(c, k, "queued").is_empty())?;
    install::run_queued(c.host(k))?;
    Ok(())
}

fn daemons_are_killed(c: &Cluster) -> Result<()> {
    fresh(c)?;
    let d = dir(c, "daemons")?;
    let id = submit(
        c,
        &d,
        &["--array", "1-40", "--", "sh", "-c", &witnessed("sleep 0.2")],
    )?;
    for k in [1, 2, 1, 3, 1] {
        crash(c, k)?;
    }
    let out = say(c, 2, "alice", "/", &["wait", &id])?;
    ensure!(out.status == Status::Exit(0), "{out:?} {:?}", show(c, &id));
    let all = ended(c, &id)?;
    ensure!(all.len() == 40 && all.iter().all(|n| *n == 1), "{all:?}");
    all_up(c, LIMIT)
}

fn leader_is_away(c: &Cluster) -> Result<()> {
    fresh(c)?;
    let d = dir(c, "away")?;
    // The host needs numbers to give away.
    let before = submit_at(c, 2, &d, &["--", "true"])?;
    until(c, &before, "done")?;
    let line = witnessed("sleep 1");
    let running = submit_at(c, 2, &d, &["-h", "h2", "--", "sh", "-c", &line])?;
    until(c, &running, "running")?;
    end(c, 1, "queued", Signal::SIGKILL);
    wait_until(LIMIT, "the end of queued", || named(c, 1, "queued").is_empty())?;
    let out = say(c, 2, "alice", &d, &["-b", "--", "sh", "-c", &line])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    ensure!(
        out.error().contains("leader") || out.error().contains("h1"),
        "{out:?}"
    );
    let spooled = out.text();
    let out = say(c, 2, "alice", "/", &["jobs", &spooled])?;
    ensure!(
        out.status == Status::Exit(125) && out.error().contains("h1"),
        "{out:?}"
    );
    // It survives a crash of the host that has it, too.
    crash(c, 2)?;
    install::run_queued(c.host(1))?;
    for id in [&running, &spooled] {
        until(c, id, "done")?;
        ensure!(ended(c, id)? == [1], "{id}");
    }
    all_up(c, LIMIT)
}

fn session_is_killed(c: &Cluster) -> Result<()> {
    fresh(c)?;
    let d = dir(c, "session")?;
    let id = submit(c, &d, &["-h", "h3", "--", "sh", "-c", &witnessed("sleep 78501")])?;
    wait_until(LONG, "the job", || runs(c, 3, "sleep 78501"))?;
    end(c, 3, "queue-session", Signal::SIGKILL);
    let job = until(c, &id, "buried")?;
    ensure!(job.to_string().contains("session"), "{job}");
    // Also by a leader that has just been started.
    crash(c, 1)?;
    let job = until(c, &id, "buried")?;
    let why = job["result"]["text"].as_str().unwrap_or_default();
    ensure!(why.contains("session") && job["host"] == "h3", "{job}");
    wait_until(LIMIT, "its tree to be gone", || !runs(c, 3, "sleep 78501"))?;
    // One that may be run again is.
    let line = witnessed("[ $QUEUE_ATTEMPT = 2 ] || sleep 78502");
    let id = submit(
        c,
        &d,
        &["-h", "h3", "--restart", "restart", "--", "sh", "-c", &line],
    )?;
    wait_until(LONG, "the job", || runs(c, 3, "sleep 78502"))?;
    end(c, 3, "queue-session", Signal::SIGKILL);
    until(c, &id, "done")?;
    ensure!(ended(c, &id)? == [1]);
    Ok(())
}

fn queue_exec_is_killed(c: &Cluster) -> Result<()> {
    fresh(c)?;
    let d = dir(c, "exec")?;
    let id = submit(c, &d, &["-h", "h2", "--", "sh", "-c", &witnessed("sleep 2")])?;
    until(c, &id, "running")?;
    for name in ["queue-exec", "queued"] {
        end(c, 2, name, Signal::SIGKILL);
        wait_until(LIMIT, "the end of it", || named(c, 2, name).is_empty())?;
    }
    install::run_queued(c.host(2))?;
    // The session goes on meanwhile, and is taken back.
    until(c, &id, "done")?;
    ensure!(ended(c, &id)? == [1]);
    all_up(c, LIMIT)
}

fn host_returns_with_its_job(c: &Cluster) -> Result<()> {
    fresh(c)?;
    let d = dir(c, "returns")?;
    let line = witnessed("until [ -e go ]; do sleep 0.1; done");
    let shared = "/srv/shared/returns";
    c.host(1)
        .sh(&format!("rm -rf {shared}; install -d -m 1777 {shared}"))
        .ok()?;
    let id = submit(c, shared, &["-h", "h3", "--", "sh", "-c", &line])?;
    until(c, &id, "running")?;
    c.isolate(3)?;
    let job = until(c, &id, "lost")?;
    ensure!(job["reason"].as_str().unwrap_or_default().contains("h3"), "{job}");
    // It may still run there: nobody starts it a second time unasked.
    let out = say(c, 1, "alice", "/", &["retry", &id])?;
    ensure!(
        out.status == Status::Exit(125) && out.error().contains("confirm-dead"),
        "{out:?}"
    );
    c.heal()?;
    until(c, &id, "running")?;
    c.host(1).sh(&format!("touch {shared}/go")).ok()?;
    until(c, &id, "done")?;
    ensure!(ended(c, &id)? == [1], "{d}");
    all_up(c, LIMIT)
}

fn host_is_lost(c: &Cluster) -> Result<()> {
    fresh(c)?;
    let d = dir(c, "lost")?;
    let line = witnessed("[ $QUEUE_HOST != h3 ] || sleep 78601");
    let start = |policy: &[&str]| {
        let all = [&["-H", "h3"][..], policy, &["--", "sh", "-c", &line]].concat();
        submit(c, &d, &all)
    };
    // The leader knows the host that is preferred.
    let first = submit(c, &d, &["-h", "h3", "--", "true"])?;
    until(c, &first, "done")?;
    let again = start(&["--restart", "restart", "--lease", "10s"])?;
    let fails = start(&["--restart", "fail"])?;
    wait_until(LONG, "both jobs", || {
        state(c, &again) == "running" && state(c, &fails) == "running"
    })?;
    let there = show(c, &again)?["host"] == "h3" && show(c, &fails)?["host"] == "h3";
    ensure!(there, "{:?} {:?}", show(c, &again), show(c, &fails));
    // Cut off: the session itself ends the tree when its lease is over, and only then it runs elsewhere.
    c.isolate(3)?;
    let job = until(c, &fails, "failed")?;
    ensure!(job.to_string().contains("host lost"), "{job}");
    let job = until(c, &again, "done")?;
    ensure!(job["host"] != "h3" && job["attempts"] == 2, "{job}");
    c.heal()?;
    all_up(c, LIMIT)?;
    // What failed is ended when its host is back, and is not done after all.
    wait_until(LONG, "the superseded one to be ended", || {
        !runs(c, 3, "sleep 78601")
    })?;
    ensure!(state(c, &fails) == "failed");
    ended(c, &again)?;
    Ok(())
}

fn wait_goes_on(c: &Cluster) -> Result<()> {
    let d = dir(c, "waiting")?;
    let id = submit(c, &d, &["--", "sh", "-c", "sleep 3; exit 9"])?;
    let mut waiting = c.host(2).command(["queue", "wait", &id]).user("alice").spawn()?;
    until(c, &id, "running")?;
    crash(c, 1)?;
    let status = waiting.wait_exit(LONG)?;
    ensure!(
        status == Status::Exit(9),
        "{status:?} {}",
        String::from_utf8_lossy(&waiting.stderr())
    );
    all_up(c, LIMIT)
}

/// Ends the log of a store, keeps a copy of it, and writes over its first page.
const BREAK: &str = "import os, shutil, sqlite3, sys
s = sys.argv[1]
c = sqlite3.connect(s)
c.execute('pragma wal_checkpoint(truncate)')
c.close()
shutil.copy2(s, '/tmp/jobs.db.kept')
with open(s, 'r+b') as f: f.write(os.urandom(4096))
";

fn store_that_cannot_be_opened(c: &Cluster) -> Result<()> {
    let d = dir(c, "store")?;
    let id = submit(c, &d, &["--hold", "--", "true"])?;
    end(c, 1, "queued", Signal::SIGKILL);
    wait_until(LIMIT, "the end of queued", || named(c, 1, "queued").is_empty())?;
    let store = c.host(1).sh("find /var/lib/queue -name jobs.db").ok()?.text();
    ensure!(!store.is_empty());
    // Somebody broke it, with nothing in the log that would mend it: it stays as it is, and is told.
    c.host(1).command(["python3", "-c", BREAK, &store]).ok()?;
    let broken = c.host(1).sh(&format!("sha256sum <{store}")).ok()?.text();
    install::run_queued(c.host(1))?;
    let out = say(c, 2, "alice", "/", &["jobs", &id])?;
    ensure!(
        out.status == Status::Exit(125) && out.error().contains("jobs.db"),
        "{out:?}"
    );
    // Commands are run all the same.
    let out = say(c, 1, "alice", "/", &["--", "echo", "fine"])?;
    ensure!(out.text() == "fine", "{out:?}");
    ensure!(c.host(1).sh(&format!("sha256sum <{store}")).ok()?.text() == broken);
    end(c, 1, "queued", Signal::SIGKILL);
    wait_until(LIMIT, "the end of queued", || named(c, 1, "queued").is_empty())?;
    c.host(1).sh(&format!("cat /tmp/jobs.db.kept >{store}")).ok()?;
    install::run_queued(c.host(1))?;
    wait_until(LIMIT, "the job to be there", || state(c, &id) == "waiting")?;
    say(c, 1, "alice", "/", &["release", &id])?;
    until(c, &id, "done")?;
    all_up(c, LIMIT)
}

/// A source of chance that is the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A disk that takes its time while the leader is started: whoever comes meanwhile is served, a little later.
fn disk_is_slow(c: &Cluster) -> Result<()> {
    let d = dir(c, "slow")?;
    end(c, 1, "queued", Signal::SIGKILL);
    wait_until(LIMIT, "the end of queued", || named(c, 1, "queued").is_empty())?;
    let slow = [
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        "inject=fsync,fdatasync:delay_exit=1500000",
        "queued",
        "run",
    ];
    c.host(1).command(slow).detach(&install::log(c.host(1)))?;
    wait_until(LIMIT, "queued", || {
        let out = c.host(1).command(["queue", "hosts"]).run();
        out.is_ok_and(|o| o.status == Status::Exit(0))
    })?;
    let out = say(c, 1, "alice", "/", &["jobs"])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    let id = submit(c, &d, &["--", "true"])?;
    until(c, &id, "done")?;
    crash(c, 1)?;
    all_up(c, LIMIT)
}

/// Everything at once, by chance, under load.
fn chaos(c: &Cluster) -> Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let length = Duration::from_secs(number("QUEUE_CHAOS").unwrap_or(20));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let seed = number("QUEUE_CHAOS_SEED").unwrap_or(now.as_secs());
    let result = chaos_of(c, length, seed);
    result.with_context(|| format!("QUEUE_CHAOS_SEED={seed} QUEUE_CHAOS={}", length.as_secs()))
}

/// Jobs that wait or run.
fn not_ended(c: &Cluster) -> Result<Vec<String>> {
    let out = say(c, 1, "alice", "/", &["jobs", "--json"])?;
    let all: Value = serde_json::from_slice(&out.stdout).with_context(|| format!("{out:?}"))?;
    let jobs = all["jobs"].as_array().with_context(|| format!("{out:?}"))?;
    let over = |j: &&Value| ["buried", "lost"].iter().any(|s| j["state"] == *s);
    let ids = jobs.iter().filter(|j| !over(j)).filter_map(|j| j["id"].as_str());
    Ok(ids.map(str::to_owned).collect())
}

/// What is known of jobs that should be over by now.
fn not_over(c: &Cluster, left: &[String]) -> anyhow::Error {
    let mut text = format!("not over: {left:?}\n");
    for id in left.iter().take(3) {
        let why = say(c, 1, "alice", "/", &["explain", id]);
        text += &why.map_or_else(|e| format!("{e:#}\n"), |o| o.text());
    }
    text += &say(c, 1, "alice", "/", &["hosts"]).map_or_else(|e| format!("{e:#}"), |o| o.text());
    for h in c.hosts() {
        let log = std::fs::read_to_string(install::log(h)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(40)..].join("\n");
        text += &format!("\nthe end of the log of {}:\n{last}\n", h.name());
    }
    anyhow::Error::msg(text)
}

fn chaos_of(c: &Cluster, length: Duration, seed: u64) -> Result<()> {
    fresh(c)?;
    let d = dir(c, "chaos")?;
    let mut dice = Dice(seed);
    // Of earlier tests.
    let before = not_ended(c)?;
    // A host has numbers to give away once it was asked for one.
    for k in 1..=3 {
        submit_at(c, k, &d, &["--", "true"])?;
    }
    let until_then = Instant::now() + length;
    let mut acknowledged = BTreeSet::new();
    let mut kills = 0;
    while Instant::now() < until_then {
        // Some submissions fail while their host is down: those are not acknowledged.
        for _ in 0..3 {
            let k = 1 + dice.roll(3) as usize;
            let line = witnessed(&format!("sleep 0.{}", dice.roll(8)));
            let policy = ["restart", "ask", "fail"][dice.roll(3) as usize];
            let mut args = vec!["-b", "--restart", policy];
            if policy == "restart" {
                args.extend(["--lease", "10s"]);
            }
            if dice.roll(4) == 0 {
                args.extend(["--array", "1-5"]);
            }
            args.extend(["--", "sh", "-c", &line]);
            if let Ok(out) = say(c, k, "alice", &d, &args)
                && out.status == Status::Exit(0)
            {
                acknowledged.insert(out.text());
            }
        }
        let k = 1 + dice.roll(3) as usize;
        kills += 1;
        match dice.roll(6) {
            0 | 1 => crash(c, k)?,
            2 => {
                end(c, k, "queue-exec", Signal::SIGKILL);
                end(c, k, "queued", Signal::SIGKILL);
                wait_until(LIMIT, "their end", || {
                    named(c, k, "queued").is_empty() && named(c, k, "queue-exec").is_empty()
                })?;
                install::run_queued(c.host(k))?;
            }
            3 => {
                let all = named(c, k, "queue-session");
                if !all.is_empty() {
                    let one = all[dice.roll(all.len() as u64) as usize];
                    let _ = kill(Pid::from_raw(one), Signal::SIGKILL);
                }
            }
            4 => {
                c.isolate(k)?;
                std::thread::sleep(Duration::from_millis(500 * dice.roll(8)));
                c.heal()?;
            }
            _ => {
                for pid in named(c, k, "queued") {
                    kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
                    std::thread::sleep(Duration::from_millis(300 * dice.roll(6)));
                    kill(Pid::from_raw(pid), Signal::SIGCONT)?;
                }
            }
        }
    }
    all_up(c, LONG)?;
    // Each that was acknowledged comes to an end: those that were cut short are run again.
    let limit = Instant::now() + LONG + length;
    let mut left: Vec<String> = acknowledged.iter().cloned().collect();
    while !left.is_empty() {
        if Instant::now() > limit {
            return Err(not_over(c, &left));
        }
        // Not those of earlier tests, some of which would run for ever.
        for id in &left {
            say(c, 1, "alice", "/", &["retry", id, "--confirm-dead"])?;
        }
        left.retain(|id| {
            let job = show(c, id).unwrap_or_default();
            let tasks = &job["tasks"];
            let done = match tasks["done"].as_u64() {
                Some(n) => n == 5,
                None => job["state"] == "done",
            };
            !done
        });
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut runs = 0;
    for id in &acknowledged {
        let all = ended(c, id)?;
        ensure!(
            !all.is_empty() && all.iter().all(|n| *n >= 1),
            "{id} has not run: {all:?}"
        );
        runs += all.len();
    }
    // Some were taken although nobody could be told so: they are not to run in the tests that follow.
    let mut left = Vec::new();
    let over = wait_until(LONG, "nothing to run any more", || {
        left = not_ended(c).unwrap_or_else(|e| vec![format!("{e:#}")]);
        left.retain(|id| !before.contains(id));
        left.is_empty()
    });
    if over.is_err() {
        return Err(not_over(c, &left));
    }
    let text = format!(
        "chaos: seed {seed}: {kills} faults, {} jobs acknowledged, {runs} tasks, none lost, none doubled\n",
        acknowledged.len()
    );
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes())?;
    Ok(())
}
