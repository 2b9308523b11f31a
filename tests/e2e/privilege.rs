//! Who is who: a session's processes are the user's, and need no daemon to go on.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue_harness::{Cluster, LIMIT, Running, Status, accounts, queue as install, wait_until};

use crate::world::{World, named, pids, queue};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.shared("privilege::a_session_is_the_users", a_session_is_the_users),
        w.shared("privilege::daemon_is_nobody_special", daemon_is_nobody_special),
        w.shared("privilege::files_are_closed", files_are_closed),
        w.shared(
            "privilege::foreign_namespaces_are_refused",
            foreign_namespaces_are_refused,
        ),
        w.alone(
            "privilege::killed_daemons_do_not_matter",
            killed_daemons_do_not_matter,
        ),
        w.alone(
            "privilege::killed_monitors_do_not_matter",
            killed_monitors_do_not_matter,
        ),
        w.alone("privilege::pam_account_and_session", pam_account_and_session),
    ]
}

/// A line of `/proc/PID/status`, its values.
fn status(pid: i32, key: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    Ok(line
        .context("no such line")?
        .split_whitespace()
        .map(str::to_owned)
        .collect())
}

fn a_session_is_the_users(c: &Cluster) -> Result<()> {
    let running = queue(c, &["-h", "h2", "--", "sleep", "73001"]).spawn()?;
    wait_until(LIMIT, "the command", || !pids(c, 2, "sleep 73001").is_empty())?;
    let uid = accounts::uid("alice", 2, false).to_string();
    let groups = [uid.clone(), accounts::host_gid(2).to_string()];
    // The command, init, the session process: all up to the monitor.
    let mut pid = pids(c, 2, "sleep 73001")[0];
    let mut chain = Vec::new();
    loop {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"))?.trim().to_owned();
        if name == "queue-exec" {
            break;
        }
        assert_eq!(status(pid, "Uid")?, [uid.as_str(); 4], "{name}");
        assert_eq!(status(pid, "Gid")?, [uid.as_str(); 4], "{name}");
        assert_eq!(status(pid, "Groups")?, groups, "{name}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(pid, set)?, ["0000000000000000"], "{name} {set}");
        }
        chain.push(name);
        pid = status(pid, "PPid")?[0].parse()?;
        ensure!(pid > 1 && chain.len() < 10, "no monitor above: {chain:?}");
    }
    ensure!(
        chain.len() >= 3 && chain.iter().any(|n| n == "queue-session"),
        "{chain:?}"
    );
    // No descriptor of others, nothing but the three streams in the command.
    let command = pids(c, 2, "sleep 73001")[0];
    let open: Vec<_> = fs::read_dir(format!("/proc/{command}/fd"))?
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(open.len(), 3, "{open:?}");
    drop(running);
    Ok(())
}

fn daemon_is_nobody_special(c: &Cluster) -> Result<()> {
    for k in 1..=3 {
        let uid = c.host(k).uid("queue")?.to_string();
        let daemons = named(c, k, "queued");
        ensure!(!daemons.is_empty(), "no queued on h{k}");
        for pid in daemons {
            assert_eq!(status(pid, "Uid")?, [uid.as_str(); 4], "queued on h{k}");
            assert_eq!(status(pid, "CapEff")?, ["0000000000000000"], "queued on h{k}");
        }
    }
    Ok(())
}

fn files_are_closed(c: &Cluster) -> Result<()> {
    for k in 1..=3 {
        for user in ["alice", "queue"] {
            let line = "for f in /var/lib/queue/exec /run/queue/sessions; do ls $f >/dev/null 2>&1 && echo $f; done; true";
            let out = c.host(k).sh(line).user(user).dir("/").ok()?;
            assert!(out.text().is_empty(), "{user} reads {}", out.text());
        }
        let out = c
            .host(k)
            .sh("ls /var/lib/queue/queued && exit 1; true")
            .user("alice")
            .ok()?;
        assert!(out.text().is_empty(), "{out:?}");
    }
    let line = "rm -f /run/queue/exec.sock && mv /run/queue/exec.sock /tmp/x && echo gone; test -S /run/queue/exec.sock";
    let out = c.host(1).sh(line).user("queue").dir("/").run()?;
    assert_eq!(
        (out.status, out.text().as_str()),
        (Status::Exit(0), ""),
        "user queue replaces the socket: {out:?}"
    );
    Ok(())
}

fn foreign_namespaces_are_refused(c: &Cluster) -> Result<()> {
    // Who calls himself root in a user namespace of his own is not taken for root, nor for anybody.
    let line = [
        "unshare",
        "--user",
        "--map-root-user",
        "queue",
        "-h",
        "h2",
        "--",
        "id",
        "-u",
    ];
    let out = c.host(1).command(line).user("alice").run()?;
    if out.error().contains("unshare:") {
        // This kernel allows users no namespaces: nothing to refuse.
        return Ok(());
    }
    ensure!(out.text() != "0", "{out:?}");
    ensure!(out.status == Status::Exit(125) || out.text() == "2001", "{out:?}");
    Ok(())
}

/// A command on h2 that waits for a line and exits 37.
fn waiting(c: &Cluster) -> Result<Running> {
    let running = queue(
        c,
        &["-h", "h2", "--", "sh", "-c", "echo up; read x; echo $x; exit 37"],
    )
    .spawn_piped()?;
    wait_until(LIMIT, "the command", || running.stdout() == b"up\n")?;
    Ok(running)
}

fn finish(mut running: Running) -> Result<()> {
    running.stdin()?.write_all(b"still here\n")?;
    let out = running.wait(LIMIT)?;
    ensure!(
        (out.status, out.text().as_str()) == (Status::Exit(37), "up\nstill here"),
        "{out:?}"
    );
    ensure!(out.stderr.is_empty(), "{out:?}");
    Ok(())
}

pub(crate) fn kill_all(c: &Cluster, k: usize, name: &str) -> Result<()> {
    let list = named(c, k, name);
    ensure!(!list.is_empty(), "no {name} on h{k}");
    for pid in list {
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    }
    wait_until(LIMIT, &format!("the end of {name}"), || {
        named(c, k, name).is_empty()
    })
}

/// Starts the daemons again and waits until commands run.
pub(crate) fn restore(c: &Cluster) -> Result<()> {
    for host in c.hosts() {
        if named(c, host.number(), "queued").is_empty() {
            install::run_queued(host)?;
        }
    }
    for k in 1..=3 {
        let name = format!("h{k}");
        let run = || queue(c, &["-h", &name, "--", "true"]).run();
        let mut last = run();
        wait_until(LIMIT, &format!("commands to run on {name}"), || {
            last = run();
            last.as_ref().is_ok_and(|o| o.status == Status::Exit(0))
        })
        .with_context(|| format!("{last:?}"))?;
    }
    Ok(())
}

fn killed_daemons_do_not_matter(c: &Cluster) -> Result<()> {
    // One of them, the other one, both.
    for hosts in [&[1][..], &[2], &[1, 2]] {
        let running = waiting(c)?;
        for k in hosts {
            kill_all(c, *k, "queued")?;
        }
        finish(running)?;
        restore(c)?;
    }
    // And when they came back in the meantime.
    let running = waiting(c)?;
    kill_all(c, 1, "queued")?;
    kill_all(c, 2, "queued")?;
    restore(c)?;
    finish(running)
}

fn killed_monitors_do_not_matter(c: &Cluster) -> Result<()> {
    let kill_both = || -> Result<()> {
        for k in [1, 2] {
            kill_all(c, k, "queue-exec")?;
        }
        Ok(())
    };
    let running = waiting(c)?;
    kill_both()?;
    finish(running)?;
    for k in [1, 2] {
        // Where `queued` does not start it again, whoever started both does.
        if !named(c, k, "queued").is_empty() {
            kill_all(c, k, "queued")?;
        }
    }
    restore(c)?;
    // A monitor that comes back takes its sessions back.
    let running = waiting(c)?;
    for k in [1, 2] {
        kill_all(c, k, "queue-exec")?;
        if !named(c, k, "queued").is_empty() {
            kill_all(c, k, "queued")?;
        }
    }
    restore(c)?;
    finish(running)
}

/// Has the monitor of h3 read its files again.
fn reload(c: &Cluster) -> Result<()> {
    for pid in named(c, 3, "queue-exec") {
        kill(Pid::from_raw(pid), Signal::SIGHUP)?;
    }
    Ok(())
}

fn pam_account_and_session(c: &Cluster) -> Result<()> {
    let h = c.host(3);
    let note = c.shared().join("pam-notes");
    let module = "session optional pam_exec.so /etc/queue-test-pam\n\
        session required pam_env.so conffile=/etc/queue-test-env readenv=0\n";
    h.write("/etc/queue-test-env", "FROM_PAM DEFAULT=yes\nBOTH DEFAULT=pam\n")?;
    let script = format!(
        "#!/bin/sh\necho $PAM_TYPE $PAM_USER $PAM_RUSER $PAM_RHOST >>{}\n",
        note.display()
    );
    h.write("/etc/queue-test-pam", script)?;
    h.sh("chmod 755 /etc/queue-test-pam; mkdir -p /etc/queue").ok()?;
    h.write(
        "/etc/pam.d/queue",
        format!("account required pam_permit.so\n{module}"),
    )?;
    h.write("/etc/queue/exec.conf", "pam yes\n")?;
    reload(c)?;
    let line = ["-h", "h3", "--", "sh", "-c", "echo $FROM_PAM $BOTH; ulimit -n"];
    let run = || queue(c, &line).env("BOTH", "user").run();
    let mut out = run()?;
    wait_until(LIMIT, "the new policy", || {
        run().is_ok_and(|o| {
            out = o;
            out.status != Status::Exit(0) || out.text().starts_with("yes")
        })
    })?;
    if out.error().contains("without PAM") {
        // A build without it lets nobody in where it is asked for.
        ensure!(out.status == Status::Exit(125), "{out:?}");
    } else {
        // The user's own environment wins.
        ensure!(
            out.status == Status::Exit(0) && out.text().starts_with("yes user\n"),
            "{out:?}"
        );
        let notes = || fs::read_to_string(&note).unwrap_or_default();
        wait_until(LIMIT, "the end of the PAM session", || {
            notes().contains("close_session")
        })?;
        let text = notes();
        ensure!(text.starts_with("open_session alice alice h1\n"), "{text}");
        ensure!(text.contains("close_session alice"), "{text}");
        h.write(
            "/etc/pam.d/queue",
            format!("account required pam_deny.so\n{module}"),
        )?;
        let out = run()?;
        ensure!(
            out.status == Status::Exit(125) && out.error().contains("h3"),
            "{out:?}"
        );
    }
    h.sh("rm -f /etc/queue/exec.conf /etc/pam.d/queue").ok()?;
    reload(c)?;
    wait_until(LIMIT, "the old policy", || {
        run().is_ok_and(|o| o.status == Status::Exit(0))
    })
}
