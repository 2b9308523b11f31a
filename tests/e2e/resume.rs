//! Sessions outlive their connections: a cut cable, connections that are reset, daemons that are killed, a `queue`
//! that is stopped, an address that changes. Meanwhile bytes flow both ways through pipes, and a command writes to a
//! terminal: everything arrives, once and in order.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue_harness::{Cluster, LIMIT, Running, Status, Tmux, queue as install, wait_for, wait_until};

use crate::world::{World, all_up, bash, named, pids, runs};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.alone("resume::link_is_cut", link_is_cut),
        w.alone("resume::connections_are_reset", connections_are_reset),
        w.alone("resume::daemons_are_killed", daemons_are_killed),
        w.alone("resume::queue_is_stopped", queue_is_stopped),
        w.alone("resume::address_changes", address_changes),
        w.alone("resume::the_user_is_told", the_user_is_told),
        w.alone("resume::frozen_session_is_named", frozen_session_is_named),
        w.alone("resume::grace_is_over", grace_is_over),
        w.alone("resume::queue_is_killed", queue_is_killed),
        w.alone("resume::escapes", escapes),
    ]
}

const LONG: Duration = Duration::from_secs(120);
/// Bytes that go there and come back.
const BYTES: usize = 100_000_000;
/// Where the tests have their files: alice can write there, and all hosts see it.
const DIR: &str = "/srv/shared/resume";
/// A program that writes as many bytes as it is told, no faster than so many a second, and all different.
const WRITER: &str = r#"
import hashlib, sys, time
total, rate = int(sys.argv[1]), int(sys.argv[2])
begun, done, h = time.monotonic(), 0, hashlib.md5()
while done < total:
    block = b"".join(b"%15d\n" % i for i in range(done // 16, min(total, done + 1600000) // 16))
    h.update(block)
    sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()
    done += len(block)
    time.sleep(max(0, begun + done / rate - time.monotonic()))
sys.stderr.write("sum " + h.hexdigest() + "\n")
"#;
/// A program that counts lines on its terminal, so many a second.
const COUNTER: &str = r#"
import sys, time
lines, rate = int(sys.argv[1]), int(sys.argv[2])
begun = time.monotonic()
for i in range(lines):
    sys.stdout.write("line %d of what a busy program says\n" % i)
    if i % 100 == 0:
        sys.stdout.flush()
        time.sleep(max(0, begun + i / rate - time.monotonic()))
"#;

fn prepare(c: &Cluster) -> Result<PathBuf> {
    let h = c.host(1);
    h.sh(&format!("rm -rf {DIR}; install -d -m 1777 {DIR}")).ok()?;
    let dir = c.shared().join("resume");
    std::fs::write(dir.join("writer.py"), WRITER)?;
    std::fs::write(dir.join("counter.py"), COUNTER)?;
    Ok(dir)
}

/// Says a figure.
macro_rules! say {
    ($($what:tt)*) => {
        let _ = writeln!(std::io::stderr(), $($what)*);
    };
}

/// Both ways through pipes, and a busy terminal, for `seconds`.
struct Load {
    pipes: Running,
    terminal: Running,
    lines: usize,
}

impl Load {
    fn start(c: &Cluster, seconds: usize) -> Result<Self> {
        prepare(c)?;
        let rate = BYTES / seconds;
        let pipes = bash(
            c,
            &format!(
                "python3 {DIR}/writer.py {BYTES} {rate} 2>{DIR}/sum | queue -h h2 -- cat | md5sum; \
                 echo ${{PIPESTATUS[*]}}"
            ),
        )
        .dir("/home/alice")
        .timeout(LONG)
        .spawn()?;
        let lines = 2000 * seconds;
        // `script` gives it a terminal, and keeps what it shows.
        let terminal = bash(
            c,
            &format!(
                "script -qefc 'queue -h h2 -- python3 {DIR}/counter.py {lines} 2000' {DIR}/screen </dev/null >/dev/null; \
                 echo $?"
            ),
        )
        .dir("/home/alice")
        .timeout(LONG)
        .spawn()?;
        wait_until(LIMIT, "both to run", || {
            runs(c, 2, "counter.py") && named(c, 2, "cat").len() == 1
        })?;
        Ok(Self {
            pipes,
            terminal,
            lines,
        })
    }

    /// Everything has come, once.
    fn finish(self, c: &Cluster) -> Result<()> {
        let out = self.pipes.wait(LONG)?;
        let sum = String::from_utf8(c.host(1).read(format!("{DIR}/sum"))?)?;
        let sum = sum.trim().strip_prefix("sum ").with_context(|| sum.clone())?;
        let text = out.text();
        ensure!(
            text.contains(sum) && text.trim_end().ends_with("0 0 0"),
            "{out:?}, not {sum}"
        );
        let out = self.terminal.wait(LONG)?;
        ensure!(out.text().trim() == "0", "{out:?}");
        let screen = String::from_utf8(c.host(1).read(format!("{DIR}/screen"))?)?;
        // What is told in between may stand in the middle of a line.
        let mut seen = screen.replace(['\r', '\n'], "");
        for told in [
            "queue: h2 does not answer; waiting, ~. to give up",
            "queue: h2 answers again",
        ] {
            seen = seen.replace(told, "");
        }
        let want: String = (0..self.lines)
            .map(|i| format!("line {i} of what a busy program says"))
            .collect();
        let begin = seen.find("line 0 ").context("no first line")?;
        let seen = seen[begin..].split("Script done").next().unwrap_or_default();
        let same = seen.bytes().zip(want.bytes()).take_while(|(a, b)| a == b).count();
        ensure!(
            seen == want,
            "{} bytes of {}, different from {same} on: {:?}",
            seen.len(),
            want.len(),
            seen.get(same..).map(|s| s.chars().take(200).collect::<String>())
        );
        Ok(())
    }
}

fn link_is_cut(c: &Cluster) -> Result<()> {
    let load = Load::start(c, 8)?;
    c.cut(1, 2)?;
    let gone = Instant::now();
    wait_until(Duration::from_secs(21), "20 s without a link", || {
        gone.elapsed() >= Duration::from_secs(20)
    })?;
    c.heal()?;
    load.finish(c)?;
    all_up(c, LIMIT)
}

fn connections_are_reset(c: &Cluster) -> Result<()> {
    let load = Load::start(c, 10)?;
    let begun = Instant::now();
    let mut resets = 0;
    for n in 1..=8 {
        wait_until(LIMIT, "a second", || begun.elapsed() >= Duration::from_secs(n))?;
        let k = 1 + n as usize % 2;
        let port = if k == 1 { "dport" } else { "sport" };
        let out = c
            .host(k)
            .sh(&format!("ss -HtK state established {port} = 7838"))
            .run()?;
        resets += out.text().lines().count();
    }
    ensure!(resets >= 8, "only {resets} connections were reset");
    load.finish(c)
}

fn daemons_are_killed(c: &Cluster) -> Result<()> {
    let load = Load::start(c, 10)?;
    for name in ["queued", "queue-exec"] {
        for k in [1, 2] {
            for pid in named(c, k, name) {
                kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            }
        }
    }
    for k in [1, 2] {
        wait_until(LIMIT, "the end of queued", || named(c, k, "queued").is_empty())?;
    }
    // The daemon is only in the way of new connections: this one is not disturbed. Now it is, and nobody can come back for
    // longer than a queue that was killed is waited for.
    c.host(1).sh("ss -HtK state established dport = 7838").run()?;
    let broken = Instant::now();
    wait_until(LIMIT, "3 s", || broken.elapsed() >= Duration::from_secs(3))?;
    for k in [1, 2] {
        install::run_queued(c.host(k))?;
    }
    load.finish(c)?;
    all_up(c, LIMIT)
}

/// Longer than the host would wait for a client that it does not hear of.
fn queue_is_stopped(c: &Cluster) -> Result<()> {
    with_grace(c, 3, |c| {
        let load = Load::start(c, 4)?;
        let queues = named(c, 1, "queue");
        ensure!(queues.len() == 2, "{queues:?}");
        for pid in &queues {
            kill(Pid::from_raw(*pid), Signal::SIGSTOP)?;
        }
        let stopped = Instant::now();
        wait_until(LIMIT, "8 s", || stopped.elapsed() >= Duration::from_secs(8))?;
        // `script` stops with what it runs.
        for pid in queues.into_iter().chain(named(c, 1, "script")) {
            kill(Pid::from_raw(pid), Signal::SIGCONT)?;
        }
        load.finish(c)
    })
}

fn address_changes(c: &Cluster) -> Result<()> {
    let load = Load::start(c, 8)?;
    let h = c.host(1);
    let old = h.address();
    let (net, _) = old.rsplit_once('.').context("an address")?;
    let change = |from: &str, to: &str| {
        h.sh(&format!(
            "d=$(ip -o -4 addr show | awk '/{net}[.]/ {{print $2; exit}}'); \
             ip addr del {from}/24 dev $d && ip addr add {to}/24 dev $d && ip addr show dev $d | grep -q {to}"
        ))
        .ok()
    };
    let new = format!("{net}.101");
    change(&old, &new)?;
    let result = load.finish(c);
    change(&new, &old)?;
    result?;
    all_up(c, Duration::from_secs(60))
}

/// With other lines in exec.conf of h2.
fn with_grace(c: &Cluster, seconds: u32, test: impl Fn(&Cluster) -> Result<()>) -> Result<()> {
    let h = c.host(2);
    h.sh(&format!(
        "install -d /etc/queue; touch /etc/queue/exec.conf; cp -a /etc/queue/exec.conf /etc/queue/exec.conf.before; \
         echo 'grace {seconds}' >>/etc/queue/exec.conf"
    ))
    .ok()?;
    let again = || {
        for pid in named(c, 2, "queue-exec") {
            kill(Pid::from_raw(pid), Signal::SIGHUP)?;
        }
        anyhow::Ok(())
    };
    again()?;
    // Sessions that wait for a command were made before.
    let result = test(c);
    h.sh("mv /etc/queue/exec.conf.before /etc/queue/exec.conf").ok()?;
    again()?;
    result
}

/// A program on a terminal on h1 that runs on h2.
fn on_terminal<'a>(c: &'a Cluster, line: &str) -> Result<Tmux<'a>> {
    let shell = "cd /home/alice && PS1='@> ' HISTFILE=/dev/null exec bash --norc --noprofile -i";
    let t = Tmux::start(c.host(1), "alice", 80, 24, shell)?;
    t.wait_text("@>")?;
    t.line(line)?;
    Ok(t)
}

fn the_user_is_told(c: &Cluster) -> Result<()> {
    prepare(c)?;
    let t = on_terminal(c, "queue -h h2 -- vim -u NONE -c 'set ruler' /etc/services")?;
    let before = t.wait_for(LIMIT, |s| s.contains("Top"))?;
    let idle = on_terminal(c, "queue -h h2 -- sh -c 'echo re\"\"ady; cat'")?;
    idle.wait_text("ready")?;
    let late = on_terminal(c, "clear")?;
    c.cut(1, 2)?;
    let cut = Instant::now();
    // At once, before it is known that the host is silent.
    late.line("clear; queue -h h2 -- echo la\"\"te")?;
    idle.line("typed meanwhile")?;
    t.keys("G")?;
    let told = t.wait_text("h2 does not answer; waiting, ~. to give up")?;
    let noticed = cut.elapsed();
    // In the last line; above it all is as vim has left it.
    let lines = |s: &str| s.lines().map(str::to_owned).collect::<Vec<_>>();
    let (was, is) = (lines(&before), lines(&told));
    ensure!(is.len() == 24 && is[23].contains("does not answer"), "{told}");
    ensure!(is[..23] == was[..23], "{told}\n{before}");
    idle.wait_text("does not answer")?;
    // Who came meanwhile is told as well, and sees no more of it when there is an answer.
    late.wait_text("h2 does not answer; waiting, Ctrl-C to give up")?;
    ensure!(
        (Duration::from_millis(1500)..Duration::from_secs(6)).contains(&noticed),
        "told after {noticed:?}"
    );
    c.heal()?;
    let healed = Instant::now();
    idle.wait_for(LIMIT, |s| s.matches("typed meanwhile").count() == 2)?;
    let back = healed.elapsed();
    say!("told after {noticed:?}, output {back:?} after the link was healed");
    ensure!(
        back < Duration::from_secs(3),
        "output only {back:?} after the link was healed"
    );
    idle.wait_text("h2 answers again")?;
    let text = late.wait_text("late")?;
    ensure!(!text.contains("answer"), "{text}");
    // What vim shows is whole again, and what was typed has come.
    let after = t.wait_for(LIMIT, |s| s.contains("Bot") && !s.contains("answer"))?;
    ensure!(after != before, "{after}");
    t.keys("gg")?;
    t.wait_for(LIMIT, |s| {
        s.contains("Top") && s.lines().next() == before.lines().next()
    })?;
    t.line(":q")?;
    t.wait_text("@>")?;
    // What is said at the end begins a line, also where a prompt stands.
    for (line, keys, said) in [
        (
            "queue -h h2 -- sh -c 'printf wh\"\"at; exec cat'",
            "~d",
            "queue: detached from",
        ),
        ("queue attach", "~.", "queue: given up:"),
    ] {
        t.line(&format!("clear; {line}"))?;
        t.wait_text("what")?;
        t.keys(keys)?;
        let text = t.wait_for(LIMIT, |s| s.contains(said))?;
        ensure!(text.lines().any(|l| l.starts_with(said)), "{text}");
    }
    idle.press("C-d")?;
    idle.wait_for(LIMIT, |s| s.trim_end().ends_with("@>"))?;
    all_up(c, LIMIT)
}

/// The host's kernel answers, what runs there does not: as in a frozen container, or a machine out of memory.
fn frozen_session_is_named(c: &Cluster) -> Result<()> {
    prepare(c)?;
    let t = on_terminal(c, "queue -h h2 -- vim -u NONE -c 'set ruler' /etc/services")?;
    let before = t.wait_for(LIMIT, |s| s.contains("Top"))?;
    let cat = on_terminal(c, "queue -h h2 -- sh -c 'echo re\"\"ady; cat'")?;
    cat.wait_text("ready")?;
    // After two seconds they have found out that the session answers such questions; nobody can see that.
    std::thread::sleep(Duration::from_secs(3));
    let all = named(c, 2, "queue-session");
    let each = |signal| -> Result<()> {
        for pid in &all {
            kill(Pid::from_raw(*pid), signal)?;
        }
        Ok(())
    };
    each(Signal::SIGSTOP)?;
    let frozen = Instant::now();
    t.keys("G")?;
    cat.line("typed meanwhile")?;
    let told = t.wait_text("h2 does not answer; waiting, ~. to give up");
    let noticed = frozen.elapsed();
    let other = cat.wait_text("h2 does not answer; waiting, ~. to give up");
    each(Signal::SIGCONT)?;
    other?;
    let told = told?;
    ensure!(
        told.lines()
            .nth(23)
            .is_some_and(|l| l.contains("does not answer")),
        "{told}"
    );
    say!("told {noticed:?} after what runs on h2 was stopped");
    ensure!(noticed < Duration::from_secs(6), "told after {noticed:?}");
    cat.wait_text("h2 answers again")?;
    cat.wait_for(LIMIT, |s| s.matches("typed meanwhile").count() == 2)?;
    let after = t.wait_for(LIMIT, |s| s.contains("Bot") && !s.contains("answer"))?;
    ensure!(after != before, "{after}");
    t.line(":q")?;
    t.wait_text("@>")?;
    cat.press("C-d")?;
    cat.wait_for(LIMIT, |s| s.trim_end().ends_with("@>"))?;
    Ok(())
}

fn grace_is_over(c: &Cluster) -> Result<()> {
    with_grace(c, 3, |c| {
        let run = bash(c, "echo | queue --no-stdin -h h2 -- sleep 78611").spawn()?;
        wait_until(LIMIT, "the command", || runs(c, 2, "sleep 78611"))?;
        c.cut(1, 2)?;
        let cut = Instant::now();
        wait_until(Duration::from_secs(25), "the end of the command", || {
            !runs(c, 2, "sleep 78611")
        })?;
        let ended = cut.elapsed();
        ensure!(ended > Duration::from_secs(2), "ended after {ended:?}");
        let out = run.wait(Duration::from_secs(40))?;
        say!(
            "grace of 3 s: the command ended after {ended:?}, queue after {:?}",
            cut.elapsed()
        );
        ensure!(
            out.status == Status::Exit(125) && out.error().contains("connection to h2 lost"),
            "{out:?}"
        );
        c.heal()?;
        all_up(c, LIMIT)
    })
}

fn queue_is_killed(c: &Cluster) -> Result<()> {
    let run = bash(c, "echo | queue --no-stdin -h h2 -- sleep 78612").spawn()?;
    wait_until(LIMIT, "the command", || runs(c, 2, "sleep 78612"))?;
    for pid in named(c, 1, "queue") {
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    }
    let killed = Instant::now();
    wait_until(Duration::from_secs(7), "the end of the command", || {
        !runs(c, 2, "sleep 78612")
    })?;
    say!("the command ended {:?} after queue was killed", killed.elapsed());
    drop(run);
    Ok(())
}

fn escapes(c: &Cluster) -> Result<()> {
    let t = on_terminal(c, "queue -h h2 -- sh -c 'echo re\"\"ady; exec cat'")?;
    t.wait_text("ready")?;
    t.line("~~ and ~. inside")?;
    t.wait_for(LIMIT, |s| s.matches("~ and ~. inside").count() == 2)?;
    t.keys("~?")?;
    t.wait_text("suspend queue here")?;
    // Stops here alone.
    t.keys("~")?;
    t.press("C-z")?;
    t.wait_text("Stopped")?;
    ensure!(named(c, 2, "cat").len() == 1, "cat is gone");
    t.line("fg")?;
    t.line("back")?;
    t.wait_for(LIMIT, |s| s.matches("back").count() >= 2)?;
    t.keys("~.")?;
    t.wait_text("given up")?;
    t.line("echo code $?")?;
    t.wait_text("code 125")?;
    wait_until(Duration::from_secs(7), "the end of cat", || {
        named(c, 2, "cat").is_empty()
    })?;
    // Also while nobody answers.
    t.line("clear; qsh -t h2 'echo re\"\"ady; exec cat'")?;
    t.wait_text("ready")?;
    c.cut(1, 2)?;
    t.line("x")?;
    t.wait_text("does not answer")?;
    t.press("Enter")?;
    t.keys("~.")?;
    t.wait_text("given up")?;
    c.heal()?;
    t.line("echo code $?")?;
    t.wait_text("code 255")?;
    wait_for(LIMIT, "the end of cat", || {
        pids(c, 2, "exec cat").is_empty().then_some(())
    })?;
    all_up(c, LIMIT)
}
