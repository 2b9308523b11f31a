//! `queued upgrade`: other programs take the places of those that run, and nobody notices: no session, no job, and no
//! command that is started meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue_harness::{Cluster, HostCommand, LIMIT, Output, Status, Tmux, wait_until};
use serde_json::Value;

use crate::batch::{dir, say, state, submit, submit_at, until};
use crate::world::{World, all_up, bash, hosts, named, queue, runs};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.alone("upgrade::sessions_notice_nothing", sessions_notice_nothing),
        w.alone("upgrade::launches_succeed_meanwhile", launches_succeed_meanwhile),
        w.alone("upgrade::jobs_notice_nothing", jobs_notice_nothing),
        w.alone("upgrade::who_waits_goes_on_waiting", who_waits_goes_on_waiting),
        w.alone(
            "upgrade::broken_programs_change_nothing",
            broken_programs_change_nothing,
        ),
        w.alone("upgrade::only_for_root", only_for_root),
        w.alone("upgrade::of_ones_own", of_ones_own),
        w.alone(
            "upgrade::crashes_after_it_are_survived",
            crashes_after_it_are_survived,
        ),
    ]
}

const LONG: Duration = Duration::from_secs(90);
/// The programs, below the prefix.
const PROGRAMS: [&str; 4] = [
    "bin/queued",
    "lib/queue/queue-exec",
    "lib/queue/queue-session",
    "bin/queue",
];

/// Puts a copy at each program's path, as an installation does: the files that run are not those any more.
fn install(c: &Cluster) -> Result<()> {
    // By another process: what others start meanwhile must not have the new file open for writing.
    let one = |name: &&str| {
        let at = c.prefix().join(name).display().to_string();
        format!("cp -p {at} {at}.new && mv {at}.new {at}")
    };
    let all: Vec<String> = PROGRAMS.iter().map(one).collect();
    c.host(1).sh(&all.join(" && ")).ok()?;
    Ok(())
}

fn upgrade_at<'a>(c: &'a Cluster, k: usize, more: &[&str]) -> HostCommand<'a> {
    c.host(k)
        .command(["queued", "upgrade"].iter().chain(more))
        .timeout(LONG)
}

/// The processes of both daemons of host `k`.
fn daemons(c: &Cluster, k: usize) -> Result<[i32; 2]> {
    let one = |name: &str| -> Result<i32> {
        let all = named(c, k, name);
        ensure!(all.len() == 1, "{name} on h{k}: {all:?}");
        Ok(all[0])
    };
    Ok([one("queued")?, one("queue-exec")?])
}

/// Whether both execute the files that are at their paths now.
fn are_current(c: &Cluster, k: usize) -> Result<bool> {
    let mut all = true;
    for (pid, name) in daemons(c, k)?.into_iter().zip(PROGRAMS) {
        let runs = fs::metadata(format!("/proc/{pid}/exe"))?;
        let is = fs::metadata(c.prefix().join(name))?;
        all &= (runs.dev(), runs.ino()) == (is.dev(), is.ino());
    }
    Ok(all)
}

/// Installs and upgrades on host `k`: other programs run in the same processes; what was said of it.
fn upgrade(c: &Cluster, k: usize) -> Result<Value> {
    install(c)?;
    let before = daemons(c, k)?;
    ensure!(!are_current(c, k)?, "h{k} runs them already");
    let out = upgrade_at(c, k, &["--json"]).ok()?;
    let said: Value = serde_json::from_slice(&out.stdout).with_context(|| format!("{out:?}"))?;
    ensure!(are_current(c, k)?, "h{k} runs the old ones: {said}");
    ensure!(daemons(c, k)? == before, "not the same processes: {before:?}");
    ensure!(said["host"] == format!("h{k}"), "{said}");
    Ok(said)
}

fn sessions_notice_nothing(c: &Cluster) -> Result<()> {
    let (sent, got, stop) = ("/tmp/sent", "/tmp/got", "/srv/shared/upgrade-stop");
    c.host(1).sh(&format!("rm -f {stop} {sent} {got}")).ok()?;
    // Bytes all the time, in both directions, each one known.
    let line = format!(
        "i=0; while [ ! -e {stop} ]; do printf '%015d\\n' $i; i=$((i+1)); done | tee {sent} | \
         queue -h h2 -- sh -c 'cat; exit 7' >{got}; echo ${{PIPESTATUS[2]}}; cmp {sent} {got} && stat -c %s {got}"
    );
    let mut stream = bash(c, &line).timeout(LONG).spawn()?;
    let size = || anyhow::Ok(fs::metadata(c.host(1).path(got)?)?.len());
    let grows = |than: u64| wait_until(LIMIT, "bytes to come back", || size().is_ok_and(|n| n > than));
    grows(0)?;
    let t = Tmux::start(c.host(1), "alice", 80, 24, "queue -h h2 -- bash --norc")?;
    t.line("PS1='there> '; echo here=$((40+2))")?;
    t.wait_text("here=42")?;
    let shell = named(c, 2, "bash");
    for round in 1..=5 {
        // The last ones on the side that only launched them.
        let k = if round <= 3 { 2 } else { 1 };
        let said = upgrade(c, k)?;
        if k == 2 {
            ensure!(said["sessions"] == 2 && said["jobs"] == 0, "{said}");
        }
        grows(size()?)?;
        t.line(&format!("echo round-$(({round}*100))"))?;
        t.wait_text(&format!("round-{round}00"))?;
    }
    ensure!(named(c, 2, "bash") == shell, "another shell: {shell:?}");
    // Both are known as they were.
    let known = || -> Result<usize> {
        let out = queue(c, &["jobs", "--json"]).ok()?;
        let all: Value = serde_json::from_slice(&out.stdout)?;
        Ok(all["sessions"].as_array().map_or(0, Vec::len))
    };
    wait_until(LIMIT, "both sessions to be known", || {
        known().is_ok_and(|n| n == 2)
    })
    .with_context(|| format!("{:?}", queue(c, &["jobs", "--json"]).run()))?;
    t.line("exit 9")?;
    c.host(1).sh(&format!("touch {stop}")).ok()?;
    let status = stream.wait_exit(LONG)?;
    let out = String::from_utf8_lossy(&stream.stdout()).into_owned();
    let lines: Vec<&str> = out.lines().collect();
    ensure!(
        status == Status::Exit(0) && lines.len() == 2 && lines[0] == "7",
        "{status:?} {out:?} {}",
        String::from_utf8_lossy(&stream.stderr())
    );
    ensure!(lines[1].parse::<u64>()? > 100_000, "{out}");
    wait_until(LIMIT, "no session to be left", || known().is_ok_and(|n| n == 0))?;
    all_up(c, LIMIT)
}

fn launches_succeed_meanwhile(c: &Cluster) -> Result<()> {
    let over = AtomicBool::new(false);
    let (done, slowest) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let launch = |k: usize, args: &[&str]| -> Result<()> {
        while !over.load(Ordering::Relaxed) {
            let began = Instant::now();
            let out = say(c, k, "alice", "/", args)?;
            ensure!(out.status == Status::Exit(3), "h{k} {args:?}: {out:?}");
            slowest.fetch_max(began.elapsed().as_millis() as usize, Ordering::Relaxed);
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let all: [(usize, &[&str]); 4] = [
        (1, &["-h", "h2", "--", "sh", "-c", "exit 3"]),
        (2, &["-h", "h1", "--", "sh", "-c", "exit 3"]),
        (2, &["--", "sh", "-c", "exit 3"]),
        (3, &["-h", "h2", "--", "sh", "-c", "exit 3"]),
    ];
    std::thread::scope(|s| {
        let threads: Vec<_> = all.iter().map(|(k, a)| s.spawn(|| launch(*k, a))).collect();
        let upgrades = || -> Result<()> {
            for k in [2, 1, 2, 2, 1, 3] {
                let before = done.load(Ordering::Relaxed);
                upgrade(c, k)?;
                wait_until(LIMIT, "more to be launched", || {
                    done.load(Ordering::Relaxed) > before + 8 || threads.iter().any(|t| t.is_finished())
                })?;
            }
            Ok(())
        };
        let result = upgrades();
        over.store(true, Ordering::Relaxed);
        for t in threads {
            t.join().map_err(|_| anyhow::anyhow!("a launcher panicked"))??;
        }
        result
    })?;
    let (done, slowest) = (done.into_inner(), slowest.into_inner());
    let text = format!("upgrade: 6 upgrades, {done} launches meanwhile, the slowest took {slowest} ms\n");
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes())?;
    // Nobody ran into a limit of time and was lucky the second time.
    ensure!(slowest < 10_000, "one took {slowest} ms");
    all_up(c, LIMIT)
}

fn jobs_notice_nothing(c: &Cluster) -> Result<()> {
    let d = dir(c, "upgrade")?;
    let witness = "/srv/shared/upgrade-jobs";
    c.host(1)
        .sh(&format!("rm -rf {witness}; install -d -m 1777 {witness}"))
        .ok()?;
    let line = |wait: &str| {
        format!(
            "n={witness}/$QUEUE_JOB_ID.${{QUEUE_TASK_ID:-0}}; exec 9>>$n.lock; flock -n 9 || \
             echo $n >>{witness}/doubled; {wait}; echo end >>$n.log"
        )
    };
    let held = line(&format!("until [ -e {witness}/go ]; do sleep 0.1; done"));
    let on = |host: &str| submit(c, &d, &["-h", host, "--", "sh", "-c", &held]);
    let long = [on("h1")?, on("h2")?, on("h3")?];
    for id in &long {
        until(c, id, "running")?;
    }
    let array = submit(c, &d, &["--array", "1-60", "--", "sh", "-c", &line("sleep 0.2")])?;
    let mut more = Vec::new();
    for (round, k) in [1, 2, 1, 3, 1].into_iter().enumerate() {
        let said = upgrade(c, k)?;
        ensure!(said["jobs"].as_u64() >= Some(1), "{said}");
        // Jobs are taken right after it, on the host itself and on others.
        for at in [k, 1 + round % 3] {
            more.push(submit_at(c, at, &d, &["--", "sh", "-c", &line("true")])?);
        }
        for id in &long {
            ensure!(state(c, id) == "running", "{id}: {}", state(c, id));
        }
    }
    c.host(1).sh(&format!("touch {witness}/go")).ok()?;
    let all: BTreeSet<&String> = long.iter().chain([&array]).chain(&more).collect();
    for id in &all {
        until(c, id, "done")?;
    }
    let ends = c.host(1).sh(&format!("cat {witness}/*.log | wc -l")).ok()?.text();
    ensure!(ends == (3 + 60 + more.len()).to_string(), "{ends} ends");
    ensure!(!c.host(1).exists(format!("{witness}/doubled")));
    // None was tried twice.
    for id in &long {
        ensure!(crate::batch::show(c, id)?["attempts"] == 1, "{id}");
    }
    all_up(c, LIMIT)
}

fn who_waits_goes_on_waiting(c: &Cluster) -> Result<()> {
    let d = dir(c, "upgrade-wait")?;
    let go = "/srv/shared/upgrade-go";
    c.host(1).sh(&format!("rm -f {go}")).ok()?;
    let line = format!("echo first; until [ -e {go} ]; do sleep 0.1; done; echo last; exit 5");
    let id = submit(c, &d, &["-h", "h3", "--", "sh", "-c", &line])?;
    until(c, &id, "running")?;
    let as_alice = |k: usize, args: &[&str]| {
        let argv = ["queue"].iter().chain(args).copied().collect::<Vec<_>>();
        c.host(k)
            .command(argv)
            .user("alice")
            .dir(&d)
            .timeout(LONG)
            .spawn()
    };
    let mut wait = as_alice(3, &["wait", &id])?;
    let mut log = as_alice(1, &["log", "-f", &id])?;
    wait_until(LIMIT, "the first line", || log.stdout() == b"first\n")?;
    // All cores of h2 are somebody's; the next one waits for them.
    let cores = hosts(c, 1)?
        .iter()
        .find(|h| h["name"] == "h2")
        .and_then(|h| h["facts"]["cores"].as_u64())
        .context("no cores")?
        .to_string();
    let mut first = as_alice(1, &["-h", "h2", "--cores", &cores, "--", "sleep", "79011"])?;
    wait_until(LIMIT, "the first one", || runs(c, 2, "sleep 79011"))?;
    let mut second = as_alice(1, &["-q", "-h", "h2", "--cores", "1", "--", "echo", "at last"])?;
    let stay = format!("until [ -e {go} ]; do sleep 0.1; done; echo stayed; exit 6");
    let mut stays = as_alice(3, &["-w", "-h", "h1", "--", "sh", "-c", &stay])?;
    wait_until(LIMIT, "it to run", || runs(c, 1, "echo stayed"))?;
    for k in [1, 2, 1] {
        upgrade(c, k)?;
        ensure!(
            second.status()?.is_none(),
            "it did not wait: {:?}",
            second.stderr()
        );
        ensure!(wait.status()?.is_none() && log.status()?.is_none() && stays.status()?.is_none());
    }
    first.signal(Signal::SIGTERM)?;
    first.wait_exit(LONG)?;
    let status = second.wait_exit(LONG)?;
    ensure!(
        status == Status::Exit(0) && second.stdout() == b"at last\n",
        "{status:?} {}",
        String::from_utf8_lossy(&second.stderr())
    );
    c.host(1).sh(&format!("touch {go}")).ok()?;
    let status = wait.wait_exit(LONG)?;
    ensure!(
        status == Status::Exit(5),
        "{status:?} {}",
        String::from_utf8_lossy(&wait.stderr())
    );
    let status = stays.wait_exit(LONG)?;
    ensure!(
        status == Status::Exit(6) && stays.stdout() == b"stayed\n",
        "{status:?} {}",
        String::from_utf8_lossy(&stays.stderr())
    );
    log.wait_exit(LONG)?;
    ensure!(
        log.stdout() == b"first\nlast\n",
        "{}",
        String::from_utf8_lossy(&log.stdout())
    );
    all_up(c, LIMIT)
}

/// Puts something else at a program's path for a while.
fn with(c: &Cluster, name: &str, content: &[u8], test: impl FnOnce() -> Result<()>) -> Result<()> {
    let at: PathBuf = c.prefix().join(name);
    let kept = at.with_extension("kept");
    fs::rename(&at, &kept)?;
    fs::write(&at, content)?;
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755))?;
    let result = test();
    fs::rename(kept, at)?;
    result.with_context(|| format!("with another {name}"))
}

/// A line for Python that asks queued to be replaced, and then does something with the socket `s`.
fn ask_queued(then: &str) -> String {
    format!(
        "import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect('/run/queue/queued.sock')
s.sendall(bytes([0, 0, 0, 3, 0xa2, 0x01, 0]))
{then}
"
    )
}

fn refused(c: &Cluster, k: usize, texts: &[&str]) -> Result<()> {
    let before = daemons(c, k)?;
    // Where the command itself is broken there is nobody to refuse.
    let kept = c.prefix().join("bin/queued.kept");
    let whole = if kept.exists() { kept } else { "queued".into() };
    let argv = [whole.as_os_str(), "upgrade".as_ref()];
    let out = c.host(k).command(argv).timeout(LONG).run()?;
    ensure!(out.status == Status::Exit(1), "{out:?}");
    for t in texts {
        ensure!(out.error().contains(t), "{t}: {out:?}");
    }
    ensure!(daemons(c, k)? == before, "{before:?}");
    let out = queue(c, &["-h", &format!("h{k}"), "--", "echo", "on"]).run()?;
    ensure!(out.status == Status::Exit(0) && out.text() == "on", "{out:?}");
    Ok(())
}

fn broken_programs_change_nothing(c: &Cluster) -> Result<()> {
    install(c)?;
    let image = |k: usize| -> Result<Vec<u64>> {
        let inode = |pid: i32| fs::metadata(format!("/proc/{pid}/exe")).map(|m| m.ino());
        Ok(daemons(c, k)?
            .into_iter()
            .map(inode)
            .collect::<std::io::Result<_>>()?)
    };
    let before = image(2)?;
    for name in ["bin/queued", "lib/queue/queue-exec"] {
        let whole = fs::read(c.prefix().join(name))?;
        let fails = b"#!/bin/sh\necho it is not for this machine >&2\nexit 1\n";
        with(c, name, fails, || {
            refused(c, 2, &[name, "not for this machine", "nothing was changed"])
        })?;
        with(c, name, &whole[..whole.len() / 3], || {
            refused(c, 2, &[name, "nothing was changed"])
        })?;
        with(c, name, b"", || refused(c, 2, &[name, "nothing was changed"]))?;
        // Another program, which starts.
        let other = fs::read(c.prefix().join("bin/queue"))?;
        with(c, name, &other, || {
            refused(c, 2, &[name, "version", "nothing was changed"])
        })?;
        // One that is too old to take over.
        let older = b"#!/bin/sh\n[ \"$1\" = --version ] && echo ${0##*/} 0.0.1 && exit\necho unknown option >&2\nexit 2\n";
        with(c, name, older, || {
            refused(c, 2, &[name, "unknown option", "nothing was changed"])
        })?;
    }
    with(c, "lib/queue/queue-session", b"#!/bin/sh\nexit 1\n", || {
        // One that is ready runs what is launched in between.
        refused(c, 2, &["queue-session", "nothing was changed"])
    })?;
    c.host(2)
        .sh("install -d /etc/queue; echo 'lissten = 3' >/etc/queue/queued.toml")
        .ok()?;
    let wrong = refused(c, 2, &["queued.toml", "lissten", "nothing was changed"]);
    c.host(2).sh("rm /etc/queue/queued.toml").ok()?;
    wrong?;
    ensure!(image(2)? == before, "other programs run");
    upgrade(c, 2)?;
    all_up(c, LIMIT)
}

fn only_for_root(c: &Cluster) -> Result<()> {
    install(c)?;
    for user in ["alice", "queue"] {
        let out: Output = upgrade_at(c, 2, &[]).user(user).run()?;
        ensure!(
            out.status == Status::Exit(1) && out.error().contains("only root"),
            "{user}: {out:?}"
        );
    }
    ensure!(!are_current(c, 2)?);
    // Nor by asking the sockets.
    let ask = ask_queued(
        "sys.stdout.buffer.write(s.recv(4096))
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect('/run/queue/exec.sock')
s.send(b'QX1' + bytes([0, 0, 0, 1, 21])); sys.stdout.buffer.write(s.recv(4096))",
    );
    for user in ["alice", "queue"] {
        let out = c.host(2).command(["python3", "-c", &ask]).user(user).ok()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        ensure!(text.contains("only root"), "{user}: {text:?}");
        ensure!(text.contains("not for you"), "{user}: {text:?}");
    }
    ensure!(!are_current(c, 2)?);
    let out = upgrade_at(c, 2, &[]).ok()?;
    ensure!(
        out.text().starts_with("h2: queued ") && out.text().contains(" went on"),
        "{out:?}"
    );
    ensure!(are_current(c, 2)?);
    // Where nothing runs there is nothing to replace.
    let own = c
        .host(3)
        .command(["queued", "upgrade"])
        .env("QUEUE_SOCKET", "/tmp/none/queued.sock");
    let out = own.run()?;
    ensure!(
        out.status == Status::Exit(1) && out.error().contains("does not run"),
        "{out:?}"
    );
    Ok(())
}

/// An installation of alice's own.
fn of_ones_own(c: &Cluster) -> Result<()> {
    let d = dir(c, "own")?;
    c.host(1)
        .write(format!("{d}/queued.toml"), "listen = [\"127.0.0.1\"]\n")?;
    let mine = |argv: &[&str]| {
        c.host(1)
            .command(argv)
            .user("alice")
            .env("QUEUE_CONFIG", format!("{d}/queued.toml"))
            .env("QUEUE_SOCKET", format!("{d}/run/queued.sock"))
            .dir(&d)
            .timeout(LONG)
    };
    let mut daemon = mine(&["queued", "run", "--port", "7950"]).spawn()?;
    let said = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    wait_until(LIMIT, "it", || said(&daemon.stderr()).contains("READY"))
        .with_context(|| said(&daemon.stderr()))?;
    let mut session = mine(&["queue", "--", "sh", "-c", "echo up; sleep 79021; echo no"]).spawn()?;
    wait_until(LIMIT, "a session", || session.stdout() == b"up\n")
        .with_context(|| said(&session.stderr()))?;
    for round in 1..=3 {
        install(c)?;
        let out = mine(&["queued", "upgrade"]).run()?;
        ensure!(
            out.status == Status::Exit(0) && out.text().contains("1 session and 0 jobs went on"),
            "{round}: {out:?} {}",
            said(&daemon.stderr())
        );
        let out = mine(&["queue", "--", "echo", "fine"]).run()?;
        ensure!(out.text() == "fine", "{out:?}");
        ensure!(session.status()?.is_none() && daemon.status()?.is_none());
    }
    // Others may not even see that it is there.
    let out = mine(&["queued", "upgrade"]).user("bob").dir("/").run()?;
    ensure!(out.status == Status::Exit(1), "{out:?}");
    session.signal(Signal::SIGTERM)?;
    session.wait_exit(LONG)?;
    // The end of the daemon is that of its queue-exec, though another program started that.
    let pid = daemon.pid()?;
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    daemon.wait_exit(LONG)?;
    wait_until(LIMIT, "its queue-exec to end", || {
        !runs(c, 1, &format!("{d}/run"))
    })
}

fn crashes_after_it_are_survived(c: &Cluster) -> Result<()> {
    upgrade(c, 2)?;
    let mut there = queue(c, &["-h", "h2", "--", "sh", "-c", "echo up; sleep 79031"])
        .timeout(LONG)
        .spawn()?;
    wait_until(LIMIT, "a session", || there.stdout() == b"up\n")?;
    for name in ["queue-exec", "queued"] {
        crate::privilege::kill_all(c, 2, name)?;
    }
    crate::privilege::restore(c)?;
    ensure!(there.status()?.is_none() && runs(c, 2, "sleep 79031"));
    upgrade(c, 2)?;
    ensure!(there.status()?.is_none() && runs(c, 2, "sleep 79031"));
    there.signal(Signal::SIGTERM)?;
    there.wait_exit(LONG)?;
    wait_until(LIMIT, "its end", || !runs(c, 2, "sleep 79031"))?;
    all_up(c, LIMIT)
}
