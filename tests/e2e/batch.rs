//! Batch jobs, as people use them: submit, watch, wait, log, retry, kill. What survives what is in `survive`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use queue_harness::{Cluster, LIMIT, Output, Status, wait_for, wait_until};
use serde_json::Value;

use crate::world::{World, pids, runs};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.shared("batch::submit_wait_log", submit_wait_log),
        w.shared("batch::how_it_ended", how_it_ended),
        w.shared("batch::output_comes_home", output_comes_home),
        w.shared("batch::output_where_it_is_wanted", output_where_it_is_wanted),
        w.shared("batch::directory_of_one_host", directory_of_one_host),
        w.shared("batch::same_directory_on_two_hosts", same_directory_on_two_hosts),
        w.shared("batch::attached", attached),
        w.shared("batch::interrupt_kills_the_job", interrupt_kills_the_job),
        w.shared("batch::array", array),
        w.shared("batch::entries", entries),
        w.shared("batch::after_others", after_others),
        w.shared("batch::held_and_released", held_and_released),
        w.shared("batch::suspended_and_resumed", suspended_and_resumed),
        w.shared("batch::killed_waiting_and_running", killed_waiting_and_running),
        w.shared("batch::limit_of_the_cluster", limit_of_the_cluster),
        w.shared(
            "batch::same_job_is_not_submitted_twice",
            same_job_is_not_submitted_twice,
        ),
        w.shared("batch::delayed", delayed),
        w.shared("batch::script_with_directives", script_with_directives),
        w.shared("batch::environment_of_a_job", environment_of_a_job),
        w.shared("batch::buried_and_retried", buried_and_retried),
        w.shared("batch::log_is_followed", log_is_followed),
        w.shared(
            "batch::others_may_look_and_not_touch",
            others_may_look_and_not_touch,
        ),
        w.shared("batch::what_was_typed_wrong", what_was_typed_wrong),
        w.shared(
            "batch::explain_says_what_is_in_the_way",
            explain_says_what_is_in_the_way,
        ),
        w.shared("batch::history_and_figures", history_and_figures),
        w.shared("batch::drunken_sailors", drunken_sailors),
        w.shared("batch::job_waits_for_its_own_job", job_waits_for_its_own_job),
    ]
}

/// How long jobs may take that have to wait for others' tests.
const LONG: Duration = Duration::from_secs(60);

/// `queue ARGS` as this user on host `k`, in a fresh directory of the test.
pub(crate) fn say(c: &Cluster, k: usize, user: &str, dir: &str, args: &[&str]) -> Result<Output> {
    let args = ["queue"].iter().chain(args);
    c.host(k).command(args).user(user).dir(dir).timeout(LONG).run()
}

/// A directory for one test, on all hosts by the same name, and not the same directory.
pub(crate) fn dir(c: &Cluster, name: &str) -> Result<String> {
    let dir = format!("/home/alice/{name}");
    for h in c.hosts() {
        h.sh(&format!("rm -rf {dir}; install -d -o alice -g alice {dir}"))
            .ok()?;
    }
    Ok(dir)
}

/// Submits as alice on h1; its id.
pub(crate) fn submit(c: &Cluster, dir: &str, args: &[&str]) -> Result<String> {
    submit_at(c, 1, dir, args)
}

/// Submits as alice on host `k`; its id.
pub(crate) fn submit_at(c: &Cluster, k: usize, dir: &str, args: &[&str]) -> Result<String> {
    let all: Vec<&str> = ["-b"].iter().chain(args).copied().collect();
    let out = say(c, k, "alice", dir, &all)?;
    ensure!(out.status == Status::Exit(0), "{args:?}: {out:?}");
    let id = out.text();
    ensure!(id.parse::<u64>().is_ok(), "{out:?}");
    Ok(id)
}

/// The job as JSON.
pub(crate) fn show(c: &Cluster, id: &str) -> Result<Value> {
    let out = say(c, 1, "alice", "/", &["show", id, "--json"])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    let all: Value = serde_json::from_slice(&out.stdout).with_context(|| format!("{out:?}"))?;
    Ok(all[0].clone())
}

pub(crate) fn state(c: &Cluster, id: &str) -> String {
    show(c, id).map_or_else(
        |e| format!("{e:#}"),
        |j| j["state"].as_str().unwrap_or_default().to_owned(),
    )
}

pub(crate) fn until(c: &Cluster, id: &str, wanted: &str) -> Result<Value> {
    wait_until(LONG, &format!("{id} to be {wanted}"), || state(c, id) == wanted)
        .with_context(|| format!("{:?}", show(c, id)))?;
    show(c, id)
}

fn wait(c: &Cluster, id: &str) -> Result<Output> {
    say(c, 1, "alice", "/", &["wait", id])
}

fn ends_well(c: &Cluster, id: &str) -> Result<()> {
    let out = wait(c, id)?;
    ensure!(out.status == Status::Exit(0), "{id}: {out:?} {:?}", show(c, id));
    Ok(())
}

fn submit_wait_log(c: &Cluster) -> Result<()> {
    let d = dir(c, "first")?;
    let id = submit(c, &d, &["--", "sh", "-c", "echo out; echo err >&2; hostname"])?;
    ends_well(c, &id)?;
    let out = say(c, 3, "alice", "/", &["log", &id])?;
    let text = out.text();
    ensure!(text.starts_with("out\nerr\nh"), "{out:?}");
    // The file is where the job was submitted.
    let file = wait_for(LIMIT, "the output at home", || {
        c.host(1).read(format!("{d}/queue-{id}.out")).ok()
    })?;
    ensure!(String::from_utf8_lossy(&file).trim_end() == text, "{file:?}");
    // What writes nothing leaves nothing.
    let id = submit(c, &d, &["--", "true"])?;
    ends_well(c, &id)?;
    let out = say(c, 1, "alice", "/", &["log", &id])?;
    ensure!(out.status == Status::Exit(0) && out.stdout.is_empty(), "{out:?}");
    let left = c.host(1).sh(&format!("ls -A {d}")).ok()?.text();
    ensure!(
        left == format!("queue-{}.out", id.parse::<u64>()? - 1) || !left.contains(&format!("queue-{id}")),
        "{left}"
    );
    Ok(())
}

fn how_it_ended(c: &Cluster) -> Result<()> {
    let d = dir(c, "ends")?;
    for (argv, code, state, result) in [
        (&["true"][..], 0, "done", "exit 0"),
        (&["sh", "-c", "exit 3"], 3, "failed", "exit 3"),
        (&["sh", "-c", "kill -SEGV $$"], 139, "failed", "SIGSEGV"),
        (&["no-such-command"], 127, "buried", "not found"),
        (&["/etc/passwd"], 126, "buried", "not executable"),
    ] {
        let args: Vec<&str> = ["--"].iter().chain(argv).copied().collect();
        let id = submit(c, &d, &args)?;
        let out = wait(c, &id)?;
        ensure!(out.status == Status::Exit(code), "{argv:?}: {out:?}");
        let job = show(c, &id)?;
        ensure!(job["state"] == state, "{argv:?}: {job}");
        let text = job["result"]["text"].as_str().unwrap_or_default();
        ensure!(text.contains(result), "{argv:?}: {job}");
    }
    // A directory that is not there.
    let id = submit_at(c, 2, &d, &["-h", "h2", "--", "sh", "-c", "exit 0"])?;
    ends_well(c, &id)?;
    let gone = dir(c, "gone")?;
    for k in [1, 2] {
        c.host(k)
            .sh(&format!("rm -rf {gone}-3; mv {gone} {gone}-3"))
            .ok()?;
    }
    c.host(3)
        .sh(&format!("rmdir {gone}; install -d -o alice {gone}"))
        .ok()?;
    let id = submit_at(c, 3, &gone, &["-h", "h2", "--", "true"])?;
    let out = wait(c, &id)?;
    ensure!(out.status != Status::Exit(0), "{out:?}");
    let job = show(c, &id)?;
    let text = job["result"]["text"].as_str().unwrap_or_default();
    ensure!(text.contains("directory"), "{job}");
    Ok(())
}

fn output_comes_home(c: &Cluster) -> Result<()> {
    let d = dir(c, "home")?;
    let id = submit_at(
        c,
        2,
        &d,
        &[
            "-h",
            "h3",
            "--",
            "sh",
            "-c",
            "echo from $(hostname); head -c 200000 /dev/zero",
        ],
    )?;
    ends_well(c, &id)?;
    let path = format!("{d}/queue-{id}.out");
    let file = wait_for(LONG, "the output on h2", || {
        c.host(2).read(&path).ok().filter(|f| f.len() == 200_008)
    })?;
    ensure!(file.starts_with(b"from h3\n"));
    ensure!(!c.host(3).exists(&path) && !c.host(1).exists(&path));
    wait_until(LIMIT, "the spool of h3 to be empty", || {
        let left = c
            .host(3)
            .sh("find /var/lib/queue -path '*spool/alice*' -type f")
            .run();
        left.is_ok_and(|o| !o.text().contains(&format!("/{id}")))
    })?;
    // The nonce file is gone as well.
    wait_until(LIMIT, "the directory to be tidy", || {
        let left = c.host(2).sh(&format!("ls -A {d}")).run();
        left.is_ok_and(|o| o.text() == format!("queue-{id}.out"))
    })?;
    let out = say(c, 1, "alice", "/", &["log", &id, "--tail", "1"])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    Ok(())
}

/// A directory that only the host of the submission has: the job finds its way there, and its output is there at the
/// end of the wait.
fn directory_of_one_host(c: &Cluster) -> Result<()> {
    let d = dir(c, "one")?;
    for k in [1, 2] {
        c.host(k).sh(&format!("rmdir {d}")).ok()?;
    }
    for _ in 0..4 {
        let id = submit_at(c, 3, &d, &["--", "sh", "-c", "echo $QUEUE_HOST"])?;
        ends_well(c, &id)?;
        ensure!(c.host(3).read(format!("{d}/queue-{id}.out"))? == b"h3\n");
    }
    let id = submit_at(c, 3, "/home/alice", &["-h", "h2", "--", "echo", "there"])?;
    ends_well(c, &id)?;
    let file = c.host(3).read(format!("/home/alice/queue-{id}.out"))?;
    ensure!(file == b"there\n", "{file:?}");
    Ok(())
}

fn output_where_it_is_wanted(c: &Cluster) -> Result<()> {
    let d = dir(c, "wanted")?;
    let id = submit(
        c,
        &d,
        &[
            "-h",
            "h1",
            "--name",
            "n",
            "--output",
            "o-%j-%x-%h",
            "--error",
            "e-%j",
            "--",
            "sh",
            "-c",
            "echo one; echo two >&2",
        ],
    )?;
    ends_well(c, &id)?;
    let read = |name: &str| c.host(1).read(format!("{d}/{name}"));
    ensure!(read(&format!("o-{id}-n-h1"))? == b"one\n");
    ensure!(read(&format!("e-{id}"))? == b"two\n");
    let out = say(c, 2, "alice", "/", &["log", "--error", &id])?;
    ensure!(out.text() == "two", "{out:?}");
    // QMAIL=FALSE throws the output away.
    let out = c
        .host(1)
        .command(["queue", "-b", "--", "echo", "nobody"])
        .env("QMAIL", "FALSE")
        .user("alice")
        .dir(&d)
        .ok()?;
    let id = out.text();
    ends_well(c, &id)?;
    ensure!(!c.host(1).exists(format!("{d}/queue-{id}.out")));
    Ok(())
}

fn same_directory_on_two_hosts(c: &Cluster) -> Result<()> {
    // The directory that all hosts share.
    let shared = "/srv/shared/batch";
    c.host(1)
        .sh(&format!("rm -rf {shared}; install -d -m 1777 {shared}"))
        .ok()?;
    ensure!(c.host(2).exists(shared), "the hosts share no directory");
    let id = submit_at(c, 2, shared, &["-h", "h3", "--", "hostname"])?;
    ends_well(c, &id)?;
    ensure!(c.host(1).read(format!("{shared}/queue-{id}.out"))? == b"h3\n");
    let job = show(c, &id)?;
    let path = job["result"]["output_file"].as_str().unwrap_or_default();
    ensure!(path.starts_with(shared), "{job}");
    Ok(())
}

fn attached(c: &Cluster) -> Result<()> {
    let d = dir(c, "attached")?;
    let line = "echo one; sleep 0.3; echo two; exit 7";
    let out = say(
        c,
        2,
        "alice",
        &d,
        &["-b", "-w", "-h", "h3", "--", "sh", "-c", line],
    )?;
    ensure!(
        out.status == Status::Exit(7) && out.text() == "one\ntwo",
        "{out:?}"
    );
    let out = say(
        c,
        1,
        "alice",
        &d,
        &["-b", "-w", "--", "sh", "-c", "kill -TERM $$"],
    )?;
    ensure!(
        out.status == Status::Signal(Signal::SIGTERM as i32) || out.status == Status::Exit(143),
        "{out:?}"
    );
    Ok(())
}

fn interrupt_kills_the_job(c: &Cluster) -> Result<()> {
    let d = dir(c, "interrupt")?;
    let mut running = c
        .host(2)
        .command([
            "queue",
            "-b",
            "-w",
            "-h",
            "h3",
            "--",
            "sh",
            "-c",
            "echo here; exec sleep 78101",
        ])
        .user("alice")
        .dir(&d)
        .spawn()?;
    wait_until(LONG, "the job", || runs(c, 3, "sleep 78101"))?;
    wait_until(LIMIT, "its output", || running.stdout() == b"here\n")?;
    running.signal(Signal::SIGINT)?;
    let status = running.wait_exit(LIMIT)?;
    ensure!(status == Status::Signal(Signal::SIGINT as i32), "{status:?}");
    wait_until(LIMIT, "its end", || !runs(c, 3, "sleep 78101"))?;
    Ok(())
}

fn array(c: &Cluster) -> Result<()> {
    let d = dir(c, "array")?;
    let line = "echo task $QUEUE_TASK_ID; [ $QUEUE_TASK_ID != 13 ] || exit 4";
    let id = submit(c, &d, &["--array", "1-20%4", "--", "sh", "-c", line])?;
    let out = wait(c, &id)?;
    ensure!(out.status == Status::Exit(4), "{out:?}");
    ensure!(out.error().contains(&format!("{id}.13")), "{out:?}");
    let job = show(c, &id)?;
    ensure!(job["tasks"]["done"] == 19 && job["tasks"]["failed"] == 1, "{job}");
    let out = say(c, 2, "alice", "/", &["log", &format!("{id}.7")])?;
    ensure!(out.text() == "task 7", "{out:?}");
    let out = say(c, 2, "alice", "/", &["log", &id])?;
    ensure!(
        (1..=20).all(|n| out.text().contains(&format!("task {n}"))),
        "{out:?}"
    );
    let out = say(
        c,
        1,
        "alice",
        "/",
        &["jobs", &id, "--ended", "--tasks", "--state", "failed", "--json"],
    )?;
    let v: Value = serde_json::from_slice(&out.stdout)?;
    ensure!(
        v["total"] == 1 && v["jobs"][0]["id"] == format!("{id}.13"),
        "{out:?}"
    );
    Ok(())
}

fn entries(c: &Cluster) -> Result<()> {
    let d = dir(c, "entries")?;
    let out = c
        .host(1)
        .command([
            "queue",
            "-b",
            "--each-line",
            "-",
            "--",
            "sh",
            "-c",
            "echo \"$QUEUE_TASK_ID=$QUEUE_ENTRY\"",
        ])
        .user("alice")
        .dir(&d)
        .stdin("red\ngreen and blue\n\nlast")
        .ok()?;
    let id = out.text();
    ends_well(c, &id)?;
    let out = say(c, 1, "alice", "/", &["log", &id])?;
    for line in ["1=red", "2=green and blue", "=last"] {
        ensure!(out.text().contains(line), "{line}: {out:?}");
    }
    let json = r#"[{"a": 1}, "two"]"#;
    c.host(1).write(format!("{d}/values.json"), json)?;
    let id = submit(
        c,
        &d,
        &[
            "--from-json",
            "values.json",
            "--",
            "sh",
            "-c",
            "echo \"$QUEUE_ENTRY\"",
        ],
    )?;
    ends_well(c, &id)?;
    let out = say(c, 1, "alice", "/", &["log", &id])?;
    ensure!(
        out.text().contains(r#"{"a":1}"#) && out.text().contains(r#""two""#),
        "{out:?}"
    );
    Ok(())
}

fn after_others(c: &Cluster) -> Result<()> {
    let d = dir(c, "after")?;
    let first = submit(c, &d, &["--name", "gate", "--hold", "--", "true"])?;
    let second = submit(c, &d, &["--after", &first, "--", "true"])?;
    let third = submit(c, &d, &["--after", "gate", "--", "true"])?;
    let job = until(c, &second, "waiting")?;
    ensure!(
        job["reason"].as_str().unwrap_or_default().contains(&first),
        "{job}"
    );
    say(c, 1, "alice", "/", &["release", &first])?;
    for id in [&first, &second, &third] {
        ends_well(c, id)?;
    }
    // What waits for the good end of a bad one never runs; what waits for a bad end does.
    let bad = submit(c, &d, &["--hold", "--", "false"])?;
    let ok = submit(c, &d, &["--after", &bad, "--", "true"])?;
    let any = submit(c, &d, &["--after-any", &bad, "--", "true"])?;
    let fail = submit(c, &d, &["--after-fail", &bad, "--", "true"])?;
    say(c, 1, "alice", "/", &["release", &bad])?;
    for id in [&any, &fail] {
        ends_well(c, id)?;
    }
    let job = until(c, &ok, "failed")?;
    ensure!(job.to_string().contains(&bad), "{job}");
    Ok(())
}

fn held_and_released(c: &Cluster) -> Result<()> {
    let d = dir(c, "held")?;
    let id = submit(c, &d, &["--hold", "--", "true"])?;
    let job = until(c, &id, "waiting")?;
    ensure!(
        job["reason"].as_str().unwrap_or_default().contains("held"),
        "{job}"
    );
    let out = say(c, 1, "alice", "/", &["explain", &id])?;
    ensure!(out.text().contains(&format!("queue release {id}")), "{out:?}");
    let out = say(c, 2, "alice", "/", &["release", &id])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    ends_well(c, &id)
}

fn suspended_and_resumed(c: &Cluster) -> Result<()> {
    let d = dir(c, "suspended")?;
    let id = submit(c, &d, &["--", "sh", "-c", "sleep 78201 & wait"])?;
    let there = || {
        (1..=3)
            .flat_map(|k| pids(c, k, "sleep 78201"))
            .collect::<Vec<_>>()
    };
    wait_until(LONG, "the job", || !there().is_empty())?;
    let out = say(c, 1, "alice", "/", &["suspend", &id])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    until(c, &id, "suspended")?;
    let kernel = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", there()[0])).unwrap_or_default();
        stat.rsplit_once(')').map(|(_, s)| s.trim().chars().next())
    };
    ensure!(kernel() == Some(Some('T')), "{:?}", kernel());
    say(c, 1, "alice", "/", &["resume", &id])?;
    until(c, &id, "running")?;
    say(c, 1, "alice", "/", &["kill", &id])?;
    until(c, &id, "killed")?;
    wait_until(LIMIT, "its end", || there().is_empty())
}

fn killed_waiting_and_running(c: &Cluster) -> Result<()> {
    let d = dir(c, "killed")?;
    let waiting = submit(c, &d, &["--hold", "--group", "doomed", "--", "true"])?;
    let running = submit(
        c,
        &d,
        &[
            "--group",
            "doomed",
            "--",
            "sh",
            "-c",
            "trap '' TERM; sleep 78301; sleep 78302",
        ],
    )?;
    wait_until(LONG, "the job", || (1..=3).any(|k| runs(c, k, "sleep 78301")))?;
    let out = say(c, 2, "alice", "/", &["kill", "--group", "doomed"])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    until(c, &waiting, "killed")?;
    // It ignores TERM.
    let job = until(c, &running, "killed")?;
    ensure!(job.to_string().contains("killed by alice"), "{job}");
    wait_until(LIMIT, "its end", || !(1..=3).any(|k| runs(c, k, "sleep 7830")))?;
    let out = wait(c, &running)?;
    ensure!(!matches!(out.status, Status::Exit(0)), "{out:?}");
    Ok(())
}

fn limit_of_the_cluster(c: &Cluster) -> Result<()> {
    let d = dir(c, "limit")?;
    // One at a time: whoever finds another one there says so.
    let shared = "/srv/shared/limit";
    c.host(1)
        .sh(&format!("rm -rf {shared}; install -d -m 1777 {shared}"))
        .ok()?;
    let line = format!("mkdir {shared}/lock || exit 9; sleep 0.1; rmdir {shared}/lock");
    let id = submit(
        c,
        &d,
        &["--array", "1-8", "--limit", "licence:1", "--", "sh", "-c", &line],
    )?;
    ends_well(c, &id)?;
    let out = say(c, 1, "alice", "/", &["limits", "--json"])?;
    ensure!(out.text().contains("licence"), "{out:?}");
    Ok(())
}

fn same_job_is_not_submitted_twice(c: &Cluster) -> Result<()> {
    let d = dir(c, "twice")?;
    let first = submit(c, &d, &["--hold", "--dedupe", "--", "echo", "once"])?;
    let out = say(c, 1, "alice", &d, &["-b", "--dedupe", "--", "echo", "once"])?;
    ensure!(out.text() == first && !out.stderr.is_empty(), "{out:?}");
    let other = submit(c, &d, &["--dedupe", "--", "echo", "another"])?;
    ensure!(other != first);
    say(c, 1, "alice", "/", &["kill", &first])?;
    ends_well(c, &other)
}

fn delayed(c: &Cluster) -> Result<()> {
    let d = dir(c, "delayed")?;
    let at = Instant::now();
    let id = submit(c, &d, &["--delay", "2s", "--", "true"])?;
    ensure!(state(c, &id) == "waiting");
    ends_well(c, &id)?;
    ensure!(at.elapsed() >= Duration::from_millis(1900), "{:?}", at.elapsed());
    Ok(())
}

fn script_with_directives(c: &Cluster) -> Result<()> {
    let d = dir(c, "script")?;
    let script =
        "#!/bin/sh\n#QUEUE --name from-script --group g\n#QUEUE --time 10m\necho \"$QUEUE_CLASS $1 $2\"\n";
    c.host(1).write(format!("{d}/job.sh"), script)?;
    let id = submit(c, &d, &["job.sh", "a", "b c"])?;
    // What is changed afterwards is not what runs.
    c.host(1)
        .write(format!("{d}/job.sh"), "#!/bin/sh\necho changed\n")?;
    ends_well(c, &id)?;
    let out = say(c, 1, "alice", "/", &["log", &id])?;
    ensure!(out.text() == "wait a b c", "{out:?}");
    let job = show(c, &id)?;
    ensure!(job["name"] == "from-script" && job["group"] == "g", "{job}");
    ensure!(job["plan"]["time_ms"] == 600_000, "{job}");
    c.host(1)
        .write(format!("{d}/bad.sh"), "#!/bin/sh\n#QUEUE --frob\n")?;
    let out = say(c, 1, "alice", &d, &["-b", "bad.sh"])?;
    ensure!(
        out.status == Status::Exit(125) && out.error().contains("bad.sh:2"),
        "{out:?}"
    );
    Ok(())
}

fn environment_of_a_job(c: &Cluster) -> Result<()> {
    let d = dir(c, "environment")?;
    let line = "echo \"$QUEUE_JOB_ID $QUEUE_ATTEMPT $QUEUE_HOST $QUEUE_SUBMIT_HOST $WORD $(umask) $PWD\"; ls -l /proc/$$/fd/0";
    let out = c
        .host(2)
        .command(["sh", "-c", "umask 027; exec queue -b -h h2 -- sh -c \"$0\"", line])
        .env("WORD", "kept")
        .user("alice")
        .dir(&d)
        .ok()?;
    let id = out.text();
    ends_well(c, &id)?;
    let out = say(c, 2, "alice", "/", &["log", &id])?;
    ensure!(
        out.text().starts_with(&format!("{id} 1 h2 h2 kept 0027 {d}\n")),
        "{out:?}"
    );
    ensure!(out.text().contains("/dev/null"), "{out:?}");
    let out = c
        .host(2)
        .sh(&format!("stat -c '%U %a' {d}/queue-{id}.out"))
        .ok()?;
    ensure!(out.text() == "alice 640", "{out:?}");
    Ok(())
}

fn buried_and_retried(c: &Cluster) -> Result<()> {
    let d = dir(c, "buried")?;
    let id = submit(c, &d, &["-h", "h1", "--", "./later"])?;
    until(c, &id, "buried")?;
    c.host(1)
        .write(format!("{d}/later"), "#!/bin/sh\necho $QUEUE_ATTEMPT\n")?;
    c.host(1).sh(&format!("chmod 755 {d}/later")).ok()?;
    let out = say(c, 1, "alice", "/", &["retry", &id])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    ends_well(c, &id)?;
    let out = say(c, 1, "alice", "/", &["log", &id])?;
    ensure!(out.text().ends_with('2'), "{out:?}");
    let job = show(c, &id)?;
    ensure!(job["tried"].as_array().is_some_and(|t| t.len() == 2), "{job}");
    // A failure of its own is tried again after a while, and says when.
    let id = submit(c, &d, &["--retries", "1", "--", "false"])?;
    let job = until(c, &id, "waiting")?;
    let reason = job["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("try") && reason.contains('s'), "{job}");
    say(c, 1, "alice", "/", &["kill", &id])?;
    Ok(())
}

fn log_is_followed(c: &Cluster) -> Result<()> {
    let d = dir(c, "follow")?;
    let line =
        "for i in 1 2 3; do echo line $i; sleep 0.2; done; until [ -e go ]; do sleep 0.05; done; echo end";
    let id = submit_at(c, 2, &d, &["-h", "h2", "--", "sh", "-c", line])?;
    let mut log = c
        .host(3)
        .command(["queue", "log", "-f", &id])
        .user("alice")
        .spawn()?;
    wait_until(LONG, "what there is", || {
        log.stdout() == b"line 1\nline 2\nline 3\n"
    })?;
    c.host(2).sh(&format!("touch {d}/go")).ok()?;
    let status = log.wait_exit(LIMIT)?;
    ensure!(
        status == Status::Exit(0),
        "{status:?} {:?}",
        String::from_utf8_lossy(&log.stderr())
    );
    ensure!(log.stdout().ends_with(b"line 3\nend\n"), "{:?}", log.stdout());
    Ok(())
}

fn others_may_look_and_not_touch(c: &Cluster) -> Result<()> {
    let d = dir(c, "others")?;
    let id = submit(c, &d, &["--hold", "--name", "visible", "--", "echo", "s3cret"])?;
    let out = say(c, 2, "bob", "/", &["jobs"])?;
    ensure!(
        out.text().contains("visible") && !out.text().contains("s3cret"),
        "{out:?}"
    );
    let out = say(c, 2, "bob", "/", &["show", &id, "--env", "--json"])?;
    ensure!(
        !out.text().contains("s3cret") && !out.text().contains("PATH="),
        "{out:?}"
    );
    for verb in ["kill", "release", "delete"] {
        let out = say(c, 2, "bob", "/", &[verb, &id])?;
        ensure!(
            out.status == Status::Exit(125) && out.error().contains("alice"),
            "{verb}: {out:?}"
        );
    }
    let out = say(c, 2, "bob", "/", &["log", &id])?;
    ensure!(!out.text().contains("s3cret"), "{out:?}");
    ensure!(state(c, &id) == "waiting");
    let out = say(c, 3, "alice", "/", &["delete", &id])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    let out = say(c, 1, "alice", "/", &["show", &id])?;
    ensure!(
        out.status == Status::Exit(125) && out.error().contains(&id),
        "{out:?}"
    );
    Ok(())
}

fn what_was_typed_wrong(c: &Cluster) -> Result<()> {
    let d = dir(c, "wrong")?;
    for (args, word) in [
        (&["-b"][..], "nothing"),
        (&["-b", "--array", "5-1", "--", "true"], "array"),
        (&["-b", "--time", "x", "--", "true"], "time"),
        (&["-b", "--after", "999999", "--", "true"], "999999"),
        (&["-b", "-d", "no-such-class", "--", "true"], "no-such-class"),
        (&["-b", "-h", "h9", "--", "true"], "h9"),
        (&["-b", "--mail", "often", "--", "true"], "often"),
        (&["wait", "999999"], "there is no job 999999"),
        (&["log", "999999"], "there is no job 999999"),
        (&["show", "999999"], "999999"),
        (&["kill", "999999"], "999999"),
        (&["kill", "--name", "no-such-name"], "no such jobs"),
    ] {
        let out = say(c, 1, "alice", &d, args)?;
        ensure!(!matches!(out.status, Status::Exit(0)), "{args:?}: {out:?}");
        ensure!(
            out.error().contains(word) && out.error().starts_with("queue: "),
            "{args:?}: {out:?}"
        );
    }
    let left = c.host(1).sh(&format!("ls -A {d}")).ok()?.text();
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

fn explain_says_what_is_in_the_way(c: &Cluster) -> Result<()> {
    let d = dir(c, "explain")?;
    let id = submit(c, &d, &["--cores", "1000", "--", "true"])?;
    // A leader that has just been started does not know the hosts yet.
    let mut text = String::new();
    let known = wait_until(LONG, "the leader to know what the hosts have", || {
        text = say(c, 1, "alice", "/", &["explain", &id]).map_or_else(|e| format!("{e:#}"), |o| o.text());
        text.contains("can ever run it")
    });
    known.with_context(|| text.clone())?;
    ensure!(
        ["h1", "h2", "h3"].iter().all(|h| text.contains(h)) && text.contains("cores"),
        "{text}"
    );
    ensure!(text.contains("modify"), "{text}");
    let out = say(c, 1, "alice", "/", &["modify", &id, "--cores", "1"])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    ends_well(c, &id)?;
    // Whoever would wait for ever is told at once.
    let line = "exec timeout -s INT 3 queue -w --cores 1000 -- true";
    let out = c
        .host(1)
        .command(["sh", "-c", line])
        .user("alice")
        .dir(&d)
        .run()?;
    ensure!(out.error().contains("can ever run it"), "{out:?}");
    // Nobody is told of a job that waits for a while.
    let out = say(c, 1, "alice", &d, &["-w", "--cores", "1", "--", "true"])?;
    ensure!(out.status == Status::Exit(0) && out.error().is_empty(), "{out:?}");
    Ok(())
}

fn history_and_figures(c: &Cluster) -> Result<()> {
    let d = dir(c, "history")?;
    let id = submit(
        c,
        &d,
        &["--name", "needle", "--", "sh", "-c", "echo haystack; exit 5"],
    )?;
    ensure!(wait(c, &id)?.status == Status::Exit(5));
    for args in [
        &["history", "needle", "--json"][..],
        &["history", "haystack", "--json"],
        &["history", &id, "--json"],
    ] {
        let out = say(c, 2, "alice", "/", args)?;
        let v: Value = serde_json::from_slice(&out.stdout).with_context(|| format!("{out:?}"))?;
        ensure!(
            v["jobs"]
                .as_array()
                .is_some_and(|l| l.iter().any(|j| j["id"] == *id)),
            "{args:?}: {v}"
        );
    }
    let out = say(c, 1, "alice", "/", &["stats", "--json"])?;
    let v: Value = serde_json::from_slice(&out.stdout)?;
    ensure!(
        v["users"]
            .as_array()
            .is_some_and(|l| l.iter().any(|u| u["name"] == "alice")),
        "{v}"
    );
    // A copy for scripts is for operators.
    let out = say(c, 1, "alice", &d, &["history", "--export", "copy.db"])?;
    ensure!(
        out.status == Status::Exit(125) && !c.host(1).exists(format!("{d}/copy.db")),
        "{out:?}"
    );
    c.host(1)
        .sh("rm -f /tmp/copy.db; queue history --export /tmp/copy.db")
        .ok()?;
    let query = "import sqlite3; c = sqlite3.connect('/tmp/copy.db'); print(c.execute('select state from jobs_v where id = ?', (ID,)).fetchone()[0])";
    let out = c
        .host(1)
        .command(["python3", "-c", &query.replace("ID", &id)])
        .run()?;
    ensure!(out.text() == "failed", "{out:?}");
    Ok(())
}

/// Programs that misbehave: each comes to its end, says how, and leaves nothing behind.
fn drunken_sailors(c: &Cluster) -> Result<()> {
    let d = dir(c, "sailors")?;
    let escape = "import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\nopen('/dev/null')\nos.execvp('sleep', ['sleep', '78401'])";
    let closes = "import os,time\nos.closerange(0, 256)\ntime.sleep(0.2)\nos._exit(6)";
    let eats = "a=[]\nwhile True: a.append(bytearray(1<<22))";
    let sailors: &[(&str, &[&str], &str, &str)] = &[
        (
            "loops",
            &["--time", "1s", "--", "sh", "-c", "while :; do :; done"],
            "failed",
            "time",
        ),
        ("escapes", &["--", "python3", "-c", escape], "done", "exit 0"),
        (
            "deaf",
            &[
                "--time",
                "1s",
                "--",
                "sh",
                "-c",
                "trap '' TERM INT HUP; while :; do sleep 0.1; done",
            ],
            "failed",
            "time",
        ),
        (
            "warned",
            &[
                "--time",
                "2s",
                "--signal",
                "USR1@1s",
                "--",
                "sh",
                "-c",
                "trap 'exit 11' USR1; while :; do sleep 0.05; done",
            ],
            "failed",
            "exit 11",
        ),
        ("ten", &["--", "sh", "-c", "exit 10"], "failed", "exit 10"),
        (
            "segv",
            &[
                "--",
                "python3",
                "-c",
                "import os,signal; os.kill(os.getpid(), signal.SIGSEGV)",
            ],
            "failed",
            "SIGSEGV",
        ),
        ("closes", &["--", "python3", "-c", closes], "failed", "exit 6"),
        (
            "eats",
            &["--mem", "64M", "--", "python3", "-c", eats],
            "failed",
            "memory",
        ),
        (
            "session",
            &["--", "setsid", "-w", "sh", "-c", "sleep 0.1; exit 12"],
            "failed",
            "exit 12",
        ),
        (
            "prints",
            &[
                "--output",
                "big",
                "--output-cap",
                "1M",
                "--",
                "sh",
                "-c",
                "head -c 200000000 /dev/zero; echo; echo last",
            ],
            "done",
            "exit 0",
        ),
    ];
    let mut ids = Vec::new();
    for (name, args, ..) in sailors {
        let all: Vec<&str> = ["--name", name].iter().chain(*args).copied().collect();
        ids.push(submit(c, &d, &all)?);
    }
    for ((name, _, state, result), id) in sailors.iter().zip(&ids) {
        wait_until(LONG, &format!("the end of {name}"), || {
            !["waiting", "ready", "running"].contains(&self::state(c, id).as_str())
        })?;
        let job = show(c, id)?;
        let text = job["result"]["text"].as_str().unwrap_or_default();
        ensure!(job["state"] == *state && text.contains(result), "{name}: {job}");
    }
    let big = show(c, ids.last().context("no sailor")?)?;
    ensure!(
        big["result"]["output_bytes"].as_u64() >= Some(200_000_000),
        "{big}"
    );
    let last = big["tried"]
        .as_array()
        .and_then(|t| t.last())
        .context("no attempt")?;
    let tail = last["result"]["tail"].as_str().unwrap_or_default();
    ensure!(tail.ends_with("last\n"), "{tail:?}");
    wait_until(LIMIT, "nothing to be left", || {
        !(1..=3).any(|k| runs(c, k, "sleep 78401"))
    })
}

/// A job that starts another one and waits for it, when there is no other slot.
fn job_waits_for_its_own_job(c: &Cluster) -> Result<()> {
    let d = dir(c, "nested")?;
    let cores = c.host(2).sh("nproc").ok()?.text();
    let line = "queue -b -w -h h2 -- echo inner; queue -q -h h2 -- echo attached";
    let id = submit_at(c, 2, &d, &["-h", "h2", "--cores", &cores, "--", "sh", "-c", line])?;
    let out = wait(c, &id)?;
    if out.status != Status::Exit(0) {
        bail!("{out:?} {:?}", show(c, &id));
    }
    let out = say(c, 2, "alice", "/", &["log", &id])?;
    ensure!(
        out.text().contains("inner") && out.text().contains("attached"),
        "{out:?}"
    );
    Ok(())
}
