//! Leaving a session and coming back to it, from another host; taking it over, and looking on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue_harness::{Cluster, LIMIT, Status, Tmux, queue as install, wait_until};
use serde_json::Value;

use crate::world::{World, all_up, bash, named, queue, runs};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.alone(
            "attach::an_editor_moves_to_another_host",
            an_editor_moves_to_another_host,
        ),
        w.alone("attach::watchers_look_on", watchers_look_on),
        w.alone("attach::who_may", who_may),
        w.alone("attach::a_job_is_followed", a_job_is_followed),
    ]
}

/// Longer than a session waits for its `queue`.
const GRACE: Duration = Duration::from_secs(75);

/// An interactive bash of a user's on a host.
fn shell<'a>(c: &'a Cluster, k: usize, user: &str) -> Result<Tmux<'a>> {
    let line = format!("cd && PS1='@{k}> ' HISTFILE=/dev/null exec bash --norc --noprofile -i");
    let t = Tmux::start(c.host(k), user, 80, 24, &line)?;
    t.wait_text(&format!("@{k}>"))?;
    Ok(t)
}

/// What the last line of a screen begins with.
fn asks(s: &str, prompt: &str) -> bool {
    s.trim_end()
        .lines()
        .last()
        .is_some_and(|l| l.trim_end() == prompt)
}

/// The sessions that `queue jobs` lists on host `k`.
fn sessions(c: &Cluster, k: usize) -> Result<Vec<Value>> {
    let out = c
        .host(k)
        .command(["queue", "jobs", "--json"])
        .user("alice")
        .ok()?;
    let all: Value = serde_json::from_slice(&out.stdout)?;
    all["sessions"].as_array().cloned().context("no sessions")
}

/// The id of the only session that runs this program. The others here run at the same time.
fn id(c: &Cluster, program: &str) -> Result<String> {
    let mut all = sessions(c, 1)?;
    all.retain(|s| s["command"][0] == program);
    ensure!(all.len() == 1, "{all:?}");
    Ok(all[0]["id"].as_str().context("id")?.to_owned())
}

/// Whether host `k` knows the session, and that of it.
fn known(c: &Cluster, k: usize, id: &str, what: impl Fn(&Value) -> bool) -> bool {
    sessions(c, k).is_ok_and(|s| s.iter().any(|s| s["id"] == id && what(s)))
}

fn an_editor_moves_to_another_host(c: &Cluster) -> Result<()> {
    let (desk, home) = (shell(c, 1, "alice")?, shell(c, 3, "alice")?);
    desk.line("queue -h h2 -- vim -u NONE -c 'set ruler showmode noreadonly' /etc/services")?;
    desk.wait_for(LIMIT, |s| s.contains("Top"))?;
    desk.keys("20Gonot written yet")?;
    let before = desk.wait_for(LIMIT, |s| {
        s.contains("not written yet") && s.contains("-- INSERT --")
    })?;
    // Not at the start of a line as far as keys tell: Enter first, which vim takes for a line.
    desk.press("Enter")?;
    desk.keys("~d")?;
    desk.wait_text("detached from s")?;
    desk.line("echo code $?")?;
    desk.wait_text("code 0")?;
    let id = id(c, "vim")?;
    let detached = |s: &Value| s["detached"] == true;
    wait_until(LIMIT, "it to be detached", || known(c, 3, &id, detached))?;
    // Both daemons there are killed; their successors know it.
    for name in ["queue-exec", "queued"] {
        for pid in named(c, 2, name) {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        }
        wait_until(LIMIT, "the end of it", || named(c, 2, name).is_empty())?;
    }
    install::run_queued(c.host(2))?;
    ensure!(runs(c, 2, "vim -u NONE"), "vim is gone");
    wait_until(LIMIT, "it to be known again", || known(c, 3, &id, detached))?;
    home.line("queue attach")?;
    let after = home.wait_for(LIMIT, |s| {
        s.contains("not written yet") && s.contains("-- INSERT --")
    })?;
    let line = |s: &str| s.lines().find(|l| l.contains("not written")).map(str::to_owned);
    ensure!(line(&after) == line(&before), "{after}\n{before}");
    // Taken over from the desk, with another window.
    desk.resize(100, 30)?;
    desk.line(&format!("queue attach {}", &id[..5]))?;
    desk.wait_for(LIMIT, |s| s.contains("not written yet") && s.lines().count() > 25)?;
    home.wait_text(&format!("took {id} on h2 over"))?;
    home.line("echo code $?")?;
    home.wait_text("code 0")?;
    // Detached from elsewhere; it is not told which, so it has to be the only one. A session that an earlier test left
    // in its grace ends within a minute.
    wait_until(GRACE, "other sessions to end", || {
        sessions(c, 3).is_ok_and(|s| s.iter().filter(|s| s["detached"] == false).count() == 1)
    })?;
    home.line("queue detach")?;
    desk.wait_text("alice@h3 detached")
        .with_context(|| format!("at home: {}", home.screen().unwrap_or_default()))?;
    home.line(&format!("clear; echo st\"\"ays; queue attach {id}"))?;
    home.wait_text("not written yet")?;
    home.press("Escape")?;
    home.line(":q!")?;
    // What was here before is here again.
    home.wait_for(LIMIT, |s| s.contains("stays") && asks(s, "@3>"))?;
    home.line("echo code $?")?;
    home.wait_text("code 0")?;
    let out = queue(c, &["attach", &id]).run()?;
    ensure!(
        out.status == Status::Exit(125) && out.error().contains("no such session"),
        "{out:?}"
    );
    all_up(c, LIMIT)
}

fn watchers_look_on(c: &Cluster) -> Result<()> {
    let (desk, one, two) = (
        shell(c, 1, "alice")?,
        shell(c, 3, "alice")?,
        shell(c, 2, "alice")?,
    );
    desk.line("queue -h h2 -- less /etc/services")?;
    let top = desk.wait_text("tcpmux")?;
    let id = id(c, "less")?;
    for t in [&one, &two] {
        t.line(&format!("queue attach --watch {id}"))?;
        t.wait_text("tcpmux")?;
    }
    wait_until(LIMIT, "two watchers", || known(c, 1, &id, |s| s["watchers"] == 2))?;
    // What they type does not get there; what is shown does.
    one.keys("G")?;
    desk.keys("/domain-s")?;
    desk.press("Enter")?;
    let found = desk.wait_for(LIMIT, |s| s.contains("domain-s") && s != top)?;
    for t in [&one, &two] {
        t.wait_for(LIMIT, |s| s.lines().next() == found.lines().next())?;
    }
    one.keys("q")?;
    one.wait_text(&format!("no longer watching {id}"))?;
    one.line(&format!("clear; queue attach --watch {id}"))?;
    one.wait_text(&format!("watching {id} on h2 (q leaves)"))?;
    one.keys("q")?;
    one.wait_text("no longer watching")?;
    // Nothing comes that nobody reads: its end is noticed all the same.
    let line = format!("queue attach --watch {id} </dev/null | head -c 1 | wc -c; echo ${{PIPESTATUS[0]}}");
    let out = bash(c, &line).timeout(LIMIT).run()?;
    ensure!(out.text() == "1\n141", "{out:?}");
    // One who loses his connection attaches anew.
    c.host(2).sh("ss -HtK state established sport = 7838").run()?;
    desk.keys("g")?;
    desk.wait_text("tcpmux")?;
    two.wait_text("tcpmux")?;
    // So does one who hears nothing: what he sees is old.
    one.line(&format!("clear; queue attach --watch {id}"))?;
    one.wait_text("tcpmux")?;
    c.cut(2, 3)?;
    one.wait_text("connection to h2 lost")?;
    desk.keys("G")?;
    let end = desk.wait_for(LIMIT, |s| s.contains("(END)"))?;
    c.heal()?;
    one.wait_for(LIMIT, |s| s.lines().next() == end.lines().next())?;
    one.keys("q")?;
    one.wait_text("no longer watching")?;
    desk.keys("q")?;
    desk.wait_for(LIMIT, |s| asks(s, "@1>"))?;
    two.wait_for(LIMIT, |s| asks(s, "@2>"))?;
    two.line("echo code $?")?;
    two.wait_text("code 0")?;
    Ok(())
}

fn who_may(c: &Cluster) -> Result<()> {
    let (desk, bob) = (shell(c, 1, "alice")?, shell(c, 3, "bob")?);
    desk.line("queue -h h2 -- cat")?;
    wait_until(LIMIT, "cat", || named(c, 2, "cat").len() == 1)?;
    let id = id(c, "cat")?;
    for line in [format!("queue attach {id}"), format!("queue attach --watch {id}")] {
        bob.line(&format!("clear; {line}; echo code $?"))?;
        let text = bob.wait_text("code 125")?;
        ensure!(text.contains("only alice may attach"), "{text}");
    }
    // Whose it is is said before what else is wrong: here, no terminal.
    for args in [&["queue", "attach", &id][..], &["queue", "attach", "--json", &id]] {
        let out = c.host(3).command(args).user("bob").run()?;
        ensure!(
            out.status == Status::Exit(125)
                && out.error().contains("only alice may")
                && out.text().is_empty(),
            "{out:?}"
        );
    }
    let out = c.host(3).command(["queue", "detach", &id]).user("bob").run()?;
    ensure!(out.status == Status::Exit(125), "{out:?}");
    // Without a terminal one can only look.
    let out = queue(c, &["attach", &id]).run()?;
    ensure!(
        out.status == Status::Exit(125) && out.error().contains("--watch"),
        "{out:?}"
    );
    ensure!(named(c, 2, "cat").len() == 1, "cat is gone");
    desk.press("C-d")?;
    desk.wait_for(LIMIT, |s| asks(s, "@1>"))?;
    // What has no terminal cannot be left.
    let mut run = bash(c, "queue -h h2 -- sleep 78621 | cat").spawn()?;
    wait_until(LIMIT, "the command", || runs(c, 2, "sleep 78621"))?;
    let session = self::id(c, "sleep")?;
    queue(c, &["detach", &session]).run()?;
    wait_until(LIMIT, "to be told", || {
        String::from_utf8_lossy(&run.stderr()).contains("nothing to come back to")
    })?;
    ensure!(run.status()?.is_none(), "it ended");
    queue(c, &["kill", &session]).ok()?;
    run.wait_exit(LIMIT)?;
    Ok(())
}

fn a_job_is_followed(c: &Cluster) -> Result<()> {
    let submit = |line: &str| -> Result<String> {
        let out = queue(
            c,
            &[
                "-b",
                "-h",
                "h2",
                "--output",
                "/dev/shm/attach-%j",
                "--",
                "sh",
                "-c",
                line,
            ],
        )
        .ok()?;
        Ok(out.text().trim().to_owned())
    };
    let id = submit("echo first; until [ -e /srv/shared/attach-go ]; do sleep 0.1; done; echo last; exit 3")?;
    let t = shell(c, 3, "alice")?;
    t.line(&format!("queue attach {id}"))?;
    t.wait_text("first")?;
    t.line("~d")?;
    t.wait_text(&format!("job {id} goes on: `queue attach {id}` comes back"))?;
    t.line("echo code $?")?;
    t.wait_text("code 0")?;
    t.line(&format!("clear; queue attach {id}; echo code $?"))?;
    t.wait_text("first")?;
    t.press("C-c")?;
    t.wait_text("goes on")?;
    t.line(&format!("clear; queue attach {id}; echo code $?"))?;
    t.wait_text("first")?;
    c.host(1).sh("touch /srv/shared/attach-go").ok()?;
    let text = t.wait_text("code 3")?;
    ensure!(text.contains("last"), "{text}");
    // It has ended: its output, and how.
    let out = c.host(3).command(["queue", "attach", &id]).user("alice").run()?;
    ensure!(
        out.status == Status::Exit(3)
            && out.text() == "first\nlast"
            && out.error() == format!("queue: {id} (sh) failed: exit 3"),
        "{out:?}"
    );
    c.host(1).sh("rm /srv/shared/attach-go").ok()?;
    for verb in ["attach", "jobs", "show"] {
        let out = queue(c, &[verb, "999999"]).run()?;
        ensure!(
            out.status == Status::Exit(125) && out.error().contains("no job 999999") && out.text().is_empty(),
            "{verb}: {out:?}"
        );
    }
    for verb in ["jobs", "show"] {
        let out = queue(c, &[verb, &id, "999999"]).run()?;
        ensure!(
            out.status == Status::Exit(1)
                && out.error().contains("no job 999999")
                && out.text().contains(&id),
            "{verb}: {out:?}"
        );
    }
    // Why one waits is said.
    let waits = queue(c, &["-b", "--hold", "--", "true"])
        .ok()?
        .text()
        .trim()
        .to_owned();
    let mut run = queue(c, &["attach", &waits]).spawn()?;
    wait_until(LIMIT, "the reason", || {
        String::from_utf8_lossy(&run.stderr()).contains("is waiting: held")
    })?;
    queue(c, &["release", &waits]).ok()?;
    ensure!(run.wait_exit(LIMIT)? == Status::Exit(0), "it ended otherwise");
    Ok(())
}
