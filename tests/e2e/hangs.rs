//! What hangs hangs alone: a dead file server, a name service that does not answer, a daemon or a link that is
//! there and silent. Others go on at their usual speed; whoever waits is told for what, and can leave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue_harness::{Cluster, LIMIT, Output, Running, Status, wait_until};

use crate::privilege::{kill_all, restore};
use crate::world::{World, bash, named, pids, queue};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.alone("hangs::home_directory", home_directory),
        w.alone("hangs::name_service", name_service),
        w.alone("hangs::frozen_daemon", frozen_daemon),
        w.alone("hangs::link_that_is_cut", link_that_is_cut),
        w.alone("hangs::monitor_that_is_gone", monitor_that_is_gone),
    ]
}

/// Most that a launch of somebody else may take on this machine, busy as it may be.
const SOON: Duration = Duration::from_secs(2);

/// Launches of alice and bob on h2: all of them succeed, and none has to wait for anything.
fn others_go_on(c: &Cluster, users: &[&str]) -> Result<()> {
    for _ in 0..10 {
        for user in users {
            let out = queue(c, &["-h", "h2", "--", "id", "-un"]).user(user).ok()?;
            ensure!(out.text() == *user, "{out:?}");
            ensure!(out.elapsed < SOON, "{user} waited {:?}", out.elapsed);
        }
    }
    Ok(())
}

/// Queue's own failure: its exit code, one line, these words in it.
fn fails(out: &Output, words: &[&str]) -> Result<()> {
    let text = out.error();
    let last = text.lines().last().unwrap_or_default();
    ensure!(
        out.status == Status::Exit(125) && last.starts_with("queue: "),
        "{out:?}"
    );
    for word in words {
        ensure!(last.contains(word), "{word:?} is missing: {out:?}");
    }
    Ok(())
}

/// Processes of host `k` that are this user's.
fn of_user(c: &Cluster, k: usize, user: &str) -> Result<Vec<i32>> {
    let uid = c.host(k).uid(user)?.to_string();
    let list = c.host(k).processes()?;
    Ok(list
        .into_iter()
        .filter(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|l| l.strip_prefix("Uid:"));
            line.and_then(|l| l.split_whitespace().next()) == Some(uid.as_str())
        })
        .collect())
}

/// A file system whose server never answers, over a directory of h2, as long as it is held.
fn dead_file_system<'a>(c: &'a Cluster, dir: &str) -> Result<(Running, impl Fn() -> Result<()> + use<'a>)> {
    let line = format!(
        "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0,allow_other none {dir} \
         && echo mounted && exec sleep 75000"
    );
    let server = c.host(2).sh(&line).dir("/").spawn()?;
    let mounted = wait_until(LIMIT, "the file system", || server.stdout() == b"mounted\n");
    mounted.with_context(|| String::from_utf8_lossy(&server.stderr()).into_owned())?;
    let line = format!("umount -l {dir}");
    Ok((server, move || c.host(2).sh(&line).dir("/").ok().map(drop)))
}

fn home_directory(c: &Cluster) -> Result<()> {
    let (server, unmount) = dead_file_system(c, "/home/carol")?;
    // More of them than there are session processes in stock.
    let launch = |line: &str| {
        c.host(1)
            .command(["bash", "-c", &format!("exec {line}")])
            .user("carol")
            .spawn()
    };
    let mut waiting = Vec::new();
    for line in ["queue -h h2 -- true", "qsh h2 true", "queue h2 true"] {
        waiting.push(launch(line)?);
        waiting.push(launch(line)?);
    }
    for w in &waiting {
        wait_until(LIMIT, "to be told what we wait for", || {
            let text = String::from_utf8_lossy(&w.stderr()).into_owned();
            text.starts_with("queue: ") && text.contains("h2") && text.contains("/home/carol")
        })
        .with_context(|| String::from_utf8_lossy(&w.stderr()).into_owned())?;
    }
    others_go_on(c, &["alice", "bob"])?;
    // Whoever has waited enough leaves, and leaves nothing behind.
    for (w, signal) in waiting.drain(..5).zip([
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGTERM,
    ]) {
        w.signal(signal)?;
        let out = w.wait(LIMIT)?;
        ensure!(out.status == Status::Signal(signal as i32), "{signal}: {out:?}");
    }
    // The last one is killed without a chance to say anything.
    let last = waiting.pop().context("one more")?;
    last.signal(Signal::SIGKILL)?;
    last.wait(LIMIT)?;
    wait_until(LIMIT, "the end of carol's processes", || {
        of_user(c, 2, "carol").is_ok_and(|l| l.is_empty())
    })?;
    // One waits until the server is given up: then there is an error instead of a directory.
    let w = launch("queue -h h2 -- true")?;
    wait_until(LIMIT, "the notice", || !w.stderr().is_empty())?;
    drop(server);
    let out = w.wait(LIMIT)?;
    fails(&out, &["/home/carol", "h2"])?;
    unmount()?;
    let out = queue(c, &["-h", "h2", "--", "pwd"]).user("carol").ok()?;
    ensure!(out.text() == "/home/carol", "{out:?}");
    others_go_on(c, &["carol"])
}

/// A name service that knows nothing, and says so of bob only after somebody has written to a FIFO.
const SERVICE: &str = "\
#include <nss.h>
#include <grp.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
enum nss_status _nss_stuck_initgroups_dyn(const char *user, gid_t group, long *start, long *size,
		gid_t **groups, long limit, int *error) {
	if (!strcmp(user, \"bob\")) close(open(\"/srv/stuck/fifo\", O_RDONLY));
	*error = ENOENT;
	return NSS_STATUS_NOTFOUND;
}
";

fn name_service(c: &Cluster) -> Result<()> {
    let h = c.host(2);
    h.sh("mkdir -p /srv/stuck && mkfifo /srv/stuck/fifo")
        .dir("/")
        .ok()?;
    h.write("/srv/stuck/nss.c", SERVICE)?;
    let nsswitch = h.read("/etc/nsswitch.conf")?;
    h.sh(
        "cd /srv/stuck && cc -shared -fPIC -o libnss_stuck.so.2 -Wl,-soname,libnss_stuck.so.2 nss.c && \
        mkdir -p /etc/ld.so.conf.d && echo /srv/stuck >/etc/ld.so.conf.d/stuck.conf && ldconfig -X && \
        grep -v -e '^group:' -e '^initgroups:' /etc/nsswitch.conf >new && echo 'group: files stuck' >>new && \
        cp new /etc/nsswitch.conf",
    )
    .dir("/")
    .ok()?;
    let launch = || queue(c, &["-h", "h2", "--", "id", "-un"]).user("bob").spawn();
    let mut waiting = (0..5).map(|_| launch()).collect::<Result<Vec<_>>>()?;
    others_go_on(c, &["alice", "carol"])?;
    for w in &mut waiting {
        ensure!(
            w.status()?.is_none(),
            "bob's launch did not wait: {:?}",
            String::from_utf8_lossy(&w.stderr())
        );
    }
    // One leaves on his own.
    let w = waiting.pop().context("one more")?;
    w.signal(Signal::SIGINT)?;
    let out = w.wait(SOON)?;
    ensure!(out.status == Status::Signal(Signal::SIGINT as i32), "{out:?}");
    // The others are told, within a limit.
    for w in waiting {
        let out = w.wait(LIMIT)?;
        fails(&out, &["h2", "bob", "name service"])?;
    }
    // One that is only slow is waited for.
    let w = launch()?;
    h.sh(": >/srv/stuck/fifo").dir("/").ok()?;
    // Whoever else looked bob up had to be let go as well.
    let out = w.wait(LIMIT)?;
    ensure!(out.status == Status::Exit(0) && out.text() == "bob", "{out:?}");
    h.write("/etc/nsswitch.conf", nsswitch)?;
    h.sh("rm -r /etc/ld.so.conf.d/stuck.conf /srv/stuck; ldconfig -X")
        .dir("/")
        .ok()?;
    others_go_on(c, &["bob"])
}

/// Commands go where they can while h2 is of no use, each within this time.
fn elsewhere(c: &Cluster, limit: Duration) -> Result<()> {
    for _ in 0..6 {
        let out = queue(c, &["--", "hostname"]).ok()?;
        ensure!(["h1", "h3"].contains(&out.text().as_str()), "{out:?}");
        ensure!(out.elapsed < limit, "it took {:?}", out.elapsed);
    }
    Ok(())
}

fn works_again(c: &Cluster) -> Result<()> {
    wait_until(LIMIT, "h2 to be back", || {
        queue(c, &["-h", "h2", "--", "true"]).ok().is_ok()
    })
}

fn frozen_daemon(c: &Cluster) -> Result<()> {
    let daemons = named(c, 2, "queued");
    ensure!(!daemons.is_empty(), "no queued on h2");
    let signal = |s: Signal| -> Result<()> {
        for pid in &daemons {
            kill(Pid::from_raw(*pid), s)?;
        }
        Ok(())
    };
    let mut running = queue(c, &["-h", "h2", "--", "cat"]).spawn_piped()?;
    std::io::Write::write_all(running.stdin()?, b"one\n")?;
    wait_until(LIMIT, "cat", || running.stdout() == b"one\n")?;
    signal(Signal::SIGSTOP)?;
    let test = || -> Result<()> {
        // Before anybody knows, and afterwards.
        elsewhere(c, Duration::from_secs(20))?;
        let out = queue(c, &["-h", "h2", "--", "true"]).run()?;
        fails(&out, &["h2"])?;
        ensure!(out.elapsed < Duration::from_secs(45), "{:?}", out.elapsed);
        elsewhere(c, SOON)
    };
    let result = test();
    // A session that runs does not notice.
    std::io::Write::write_all(running.stdin()?, b"two\n")?;
    let out = running.wait(LIMIT);
    signal(Signal::SIGCONT)?;
    result?;
    let out = out?;
    ensure!(
        out.status == Status::Exit(0) && out.text() == "one\ntwo",
        "{out:?}"
    );
    works_again(c)
}

fn link_that_is_cut(c: &Cluster) -> Result<()> {
    c.cut(1, 2)?;
    let test = || -> Result<()> {
        elsewhere(c, Duration::from_secs(20))?;
        let out = queue(c, &["-h", "h2", "--", "true"]).run()?;
        fails(&out, &["h2"])?;
        ensure!(out.elapsed < Duration::from_secs(30), "{:?}", out.elapsed);
        // h3 reaches both.
        for host in ["h1", "h2"] {
            let out = c
                .host(3)
                .command(["queue", "-h", host, "--", "hostname"])
                .user("alice")
                .ok()?;
            ensure!(out.text() == host, "{out:?}");
        }
        elsewhere(c, SOON)
    };
    let result = test();
    c.heal()?;
    result?;
    works_again(c)
}

fn monitor_that_is_gone(c: &Cluster) -> Result<()> {
    kill_all(c, 2, "queue-exec")?;
    // Told at once, with what to do; nothing goes there by choice.
    let start = Instant::now();
    let out = queue(c, &["-h", "h2", "--", "true"]).run()?;
    fails(&out, &["h2", "queue-exec", "start"])?;
    ensure!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    elsewhere(c, SOON)?;
    // From there nothing goes anywhere: nobody can say who asks.
    let out = c
        .host(2)
        .command(["queue", "-h", "h1", "--", "true"])
        .user("alice")
        .run()?;
    fails(&out, &["queue-exec", "queued run"])?;
    // What that says, done: `queued run` starts it again.
    let again = || {
        c.host(2)
            .command(["queue", "-h", "h1", "--", "true"])
            .user("alice")
            .run()
    };
    if named(c, 2, "queue-exec").is_empty() {
        kill_all(c, 2, "queued")?;
    }
    restore(c)?;
    let out = again()?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    ensure!(
        !pids(c, 2, "queue-exec").is_empty(),
        "queue-exec does not run on h2"
    );
    let out = bash(
        c,
        "for i in $(seq 20); do queue -h h2 -- true || exit; done; echo all",
    )
    .ok()?;
    ensure!(out.text() == "all", "{out:?}");
    Ok(())
}
